"""The merge patch between two statuses: what differs, and nothing for the log's mark alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.conditions import Condition
from syncer.model.rendering import difference, render_status
from syncer.model.resource import LogMark, Status, parse_status

ONE = Attempt(AttemptId("0.7-1"), "a", AttemptState.FAILED, ended=1_000, number=1)
TWO = replace(ONE, id=AttemptId("0.7-2"), number=2)
SHOWN = Status(phase="Sending", reason="r", attempts=(ONE,), total_attempts=1, failed=1)
QUARANTINE = Condition("Quarantined", "True", "LogUndecodable", "m", 1_000)
MARK = LogMark(4, "0.7", "ff")

CASES: dict[str, tuple[Status, Status, dict[str, Any]]] = {
    "equal": (SHOWN, SHOWN, {}),
    "only the mark of the log differs": (SHOWN, replace(SHOWN, log=MARK), {}),
    "only the mark of the log would go": (replace(SHOWN, log=MARK), SHOWN, {}),
    "one member differs": (SHOWN, replace(SHOWN, reason="s"), {"reason": "s"}),
    "a condition of others differs": (
        replace(SHOWN, conditions=(QUARANTINE,)), SHOWN, {},
    ),
    "the mark goes along": (
        SHOWN, replace(SHOWN, reason="s", log=MARK),
        {"reason": "s", "log": {"position": 4, "epoch": "0.7", "store": "ff"}},
    ),
    "a member falls away": (
        SHOWN, replace(SHOWN, failed=0, successful=1),
        {"failedDeliveries": None, "successfulDeliveries": 1},
    ),
    "a list is replaced whole": (
        SHOWN, replace(SHOWN, attempts=(ONE, TWO), total_attempts=2),
        {
            "deliveryAttempts": render_status(Status(attempts=(ONE, TWO)))["deliveryAttempts"],
            "totalAttempts": 2,
        },
    ),
    "from nothing": (Status(), Status(phase="Pending"), {"phase": "Pending"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_difference(case: str) -> None:
    """The patch holds exactly the members that differ, and the conditions with the record."""
    shown, wanted, patch = CASES[case]
    if (patch or shown.conditions) and "conditions" in (written := render_status(wanted)):
        patch = patch | {"conditions": written["conditions"]}
    assert difference(shown, wanted) == patch


@pytest.mark.parametrize("case", CASES)
def test_the_patch_leads_to_the_wanted_status(case: str) -> None:
    """Applied as RFC 7386 says, the patch gives the wanted status, the mark aside."""
    shown, wanted, _ = CASES[case]
    merged = render_status(shown) | difference(shown, wanted)
    after = parse_status({k: v for k, v in merged.items() if v is not None})
    assert replace(after, log=None) == replace(parse_status(render_status(wanted)), log=None)
