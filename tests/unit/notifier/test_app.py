"""The composition root: what is built, and that building touches nothing."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from notifier.app import build
from notifier.process.parts import Parts
from notifier.settings import Environment, Loaded, Settings
from syncer.configfile import build as build_settings
from tests.fakes.outside import unreachable


def built(**members: Any) -> Parts:
    """The product of a settings file that holds only what it must, and these members."""
    settings = build_settings(Settings, {"redis": {"url": "redis://127.0.0.1:1"}, **members})
    return build(Loaded(settings, (), Environment("ns", Path("/routing.yaml"))), unreachable())


def test_no_part_is_set_afterwards() -> None:
    """What a part works with, it was given when it was made."""
    parts = built()
    for field in fields(parts):
        with pytest.raises(FrozenInstanceError):
            setattr(parts, field.name, None)


def test_parts_share_what_they_know() -> None:
    """There is one cache, one log and one queue, whoever asks."""
    parts = built()
    assert parts.controller.cache is parts.cache
    assert parts.controller.queue is parts.queue
    assert parts.sync.recorder.cache is parts.cache
    assert parts.sync.recorder.log is parts.log


def test_another_server_has_everything_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of Redis calls what was made after it."""
    parts = built()
    asked: list[str] = []
    parts.cache.entries.update({"uid-a": None, "uid-b": None})  # type: ignore[dict-item]  # only the keys count
    monkeypatch.setattr(parts.queue, "add", asked.append)
    parts.client.on_change()
    assert asked == ["uid-a", "uid-b"]


@pytest.mark.parametrize(("rate", "there"), [(0, False), (5.0, True)])
def test_the_self_audit_can_be_switched_off(rate: float, there: bool) -> None:
    """A rate of nothing is no rate: there is no scrubber."""
    assert (built(sync={"scrubRate": rate}).scrubber is not None) is there


def test_deliveries_can_be_paused_from_the_start() -> None:
    """The switch in the file holds before anything runs."""
    assert built(delivery={"paused": True}).controller.holds.paused
    assert not built().controller.holds.paused
