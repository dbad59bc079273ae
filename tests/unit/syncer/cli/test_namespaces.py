"""Which namespaces a command looks at."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import cast

import pytest

from syncer.cli.access import Access
from syncer.cli.namespaces import namespaces_of
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
async def test_namespaces_that_are_looked_at(
    named: list[str] | None, config: str | None, said: tuple[str, ...] | str, home: str,
    wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In a pod of the controller a command looks where its account may look."""
    monkeypatch.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", home)
    document = {"redis": {"url": "redis://h/0"}, "controller": {"namespaces": said}}
    settings = build(SyncerSettings, document)
    at = cast("Access", SimpleNamespace(settings=settings))
    options = argparse.Namespace(namespace=named, config=config)
    assert await namespaces_of(at, options) == wanted
