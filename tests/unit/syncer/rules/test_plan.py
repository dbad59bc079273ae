"""The plan: each decision with its reason, whatever woke us."""

from __future__ import annotations

import pytest

from syncer.rules.plan import (
    PAUSED,
    hold_of,
)

HOLDS: dict[str, tuple[str | None, bool, str]] = {
    "nothing is said": (None, False, ""),
    "paused for all": (None, True, PAUSED),
    "the annotation says true": ("true", False, "held: the annotation notification-ledger/hold is set"),
    "an empty annotation holds as well": (
        "", False, "held: the annotation notification-ledger/hold is set",
    ),
    "the annotation says no": (" False ", False, ""),
    "the annotation says no, but all are paused": ("false", True, PAUSED),
    "the annotation says why, on one line, bounded, and without what a terminal obeys": (
        "change\n42\x1b[2J " + "x" * 200, True,
        "held: the annotation notification-ledger/hold says: change 42 [2J " + "x" * 86,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOLDS)
def test_hold(case: str) -> None:
    """The annotation holds one object back, the switch all; the annotation's reason is told first."""
    annotation, paused, wanted = HOLDS[case]
    assert hold_of(annotation, paused=paused) == wanted
