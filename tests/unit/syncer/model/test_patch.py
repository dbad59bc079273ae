"""The merge patch between two statuses: only what differs, and nothing for the log's mark alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.rendering import difference, render_status
from syncer.model.resource import LogMark, Status

ONE = Attempt(AttemptId("0.7-1"), "a", AttemptState.FAILED, ended=1_000, number=1)
TWO = replace(ONE, id=AttemptId("0.7-2"), number=2)
SHOWN = Status(phase="Sending", reason="r", attempts=(ONE,), total_attempts=1, failed=1)
MARK = LogMark(4, "0.7", "ff")

CASES: dict[str, tuple[Status, Status, dict[str, Any]]] = {
    "equal": (SHOWN, SHOWN, {}),
    "only the mark of the log differs": (SHOWN, replace(SHOWN, log=MARK), {}),
    "only the mark of the log would go": (replace(SHOWN, log=MARK), SHOWN, {}),
    "one member differs": (SHOWN, replace(SHOWN, reason="s"), {"reason": "s"}),
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
    """The patch holds exactly the members that differ."""
    shown, wanted, patch = CASES[case]
    assert difference(shown, wanted) == patch


@pytest.mark.parametrize("case", CASES)
def test_the_patch_leads_to_the_wanted_status(case: str) -> None:
    """Applied as RFC 7386 says, the patch gives the wanted status, the mark aside."""
    shown, wanted, patch = CASES[case]
    after = render_status(shown) | patch
    after = {k: v for k, v in after.items() if v is not None and k != "log"}
    assert after == {k: v for k, v in render_status(wanted).items() if k != "log"}
