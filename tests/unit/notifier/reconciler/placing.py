"""Holds that are placed."""

from __future__ import annotations

from typing import Final

from syncer.model.hold import Hold
from tests.unit.notifier.reconciler.holding import START

OPS: Final = Hold(
    "00000001", "1", START, START + 600_000, "alice", "they mend it", receivers=("slack:ops",)
)
