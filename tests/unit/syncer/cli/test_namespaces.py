"""Which namespaces a command looks at."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.parse import unquote

import pytest

from syncer.cli.access import Access
from syncer.cli.installation import namespaces_of, report_missing
from syncer.configfile import build
from syncer.model.errors import Gone, Unauthorised
from syncer.settings import SyncerSettings


@pytest.mark.parametrize(
    ("named", "config", "said", "home", "wanted"),
    [
        pytest.param(["x"], "f", ("a",), "h", ("x",), id="what is named wins"),
        pytest.param(None, None, ("a",), "h", (), id="without a settings file all"),
        pytest.param(None, "f", ("a", "b"), "h", ("a", "b"), id="what the controller watches"),
        pytest.param(None, "f", "*", "h", (), id="which may be all"),
        pytest.param(None, "f", (), "h", ("h",), id="and is its own by default"),
        pytest.param(None, "f", (), "", (), id="if that is known"),
    ],
)
async def test_namespaces_that_are_looked_at(
    named: list[str] | None, config: str | None, said: tuple[str, ...] | str, home: str,
    wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In a pod of the controller a command looks where its account may look."""
    monkeypatch.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", home)
    document = {"redis": {"url": "redis://h/0"}, "controller": {"namespaces": said}}
    settings = build(SyncerSettings, document)
    at = cast("Access", SimpleNamespace(settings=settings))
    options = argparse.Namespace(namespace=named, config=config, all_namespaces=False)
    assert await namespaces_of(at, options) == wanted
    if named is None:
        options.all_namespaces = True
        assert await namespaces_of(at, options) == ()


async def test_namespaces_that_do_not_exist_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is named once all are asked for; one that may not be read may be there."""
    asked: list[str] = []
    answers = {"gone": Gone("no"), "secret": Unauthorised("no"), "a/b": Gone("no")}

    async def request(method: str, path: str, *, timeout: float) -> dict[str, str]:
        asked.append(f"{method} {path}")
        name = unquote(path.rpartition("/")[2])
        if name in answers:
            raise answers[name]
        return {}

    def at(kube: object) -> Access:
        return cast("Access", SimpleNamespace(kube=kube))

    kube = SimpleNamespace(request=request)
    named = argparse.Namespace(namespace=["secret", "gone", "there", "a/b"])
    assert await report_missing(at(kube), named)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [line for line in printed.err.splitlines() if "no namespace" in line] == [
        line for name in ("gone", "a/b") for line in printed.err.splitlines() if f"{name!r}" in line
    ]
    assert "there is no namespace 'gone'" in printed.err
    assert asked == [
        f"GET /api/v1/namespaces/{name}" for name in ("secret", "gone", "there", "a%2Fb")
    ]
    for kube_or_none, names in ((kube, ["there", "secret"]), (kube, None), (None, ["gone"])):
        assert not await report_missing(at(kube_or_none), argparse.Namespace(namespace=names))
    assert capsys.readouterr().err == ""


async def test_a_namespace_that_is_not_known_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Outside of a pod there is no file that names it; within one it does, with a line's end."""
    monkeypatch.delenv("KUBERNAUT_CONTROLLER_NAMESPACE", raising=False)
    settings = build(SyncerSettings, {"redis": {"url": "redis://h/0"}})
    at = cast("Access", SimpleNamespace(settings=settings))
    options = argparse.Namespace(namespace=None, config="f")
    home = tmp_path / "namespace"
    monkeypatch.setattr("syncer.settings.NAMESPACE_FILE", home)
    assert await namespaces_of(at, options) == ()
    home.write_bytes(b"\xff")
    assert await namespaces_of(at, options) == ()
    home.write_text("mine\n")
    assert await namespaces_of(at, options) == ("mine",)
