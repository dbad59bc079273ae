"""Which namespaces a command looks at."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from syncer.cli.access import Access
from syncer.cli.installation import namespaces_of
from syncer.configfile import build
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
def test_namespaces_that_are_looked_at(
    named: list[str] | None, config: str | None, said: tuple[str, ...] | str, home: str,
    wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In a pod of the controller a command looks where its account may look."""
    monkeypatch.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", home)
    document = {"redis": {"url": "redis://h/0"}, "controller": {"namespaces": said}}
    settings = build(SyncerSettings, document)
    at = cast("Access", SimpleNamespace(settings=settings, configured=config is not None))
    options = argparse.Namespace(namespace=named, all_namespaces=False)
    assert namespaces_of(at, options) == wanted
    if named is None:
        options.all_namespaces = True
        assert namespaces_of(at, options) == ()


def test_a_namespace_that_is_not_known_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Outside of a pod there is no file that names it; within one it does, with a line's end."""
    monkeypatch.delenv("KUBERNAUT_CONTROLLER_NAMESPACE", raising=False)
    settings = build(SyncerSettings, {"redis": {"url": "redis://h/0"}})
    at = cast("Access", SimpleNamespace(settings=settings, configured=True))
    options = argparse.Namespace(namespace=None)
    home = tmp_path / "namespace"
    monkeypatch.setattr("syncer.settings.NAMESPACE_FILE", home)
    assert namespaces_of(at, options) == ()
    home.write_bytes(b"\xff")
    assert namespaces_of(at, options) == ()
    home.write_text("mine\n")
    assert namespaces_of(at, options) == ("mine",)
