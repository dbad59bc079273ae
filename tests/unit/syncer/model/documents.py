"""Documents of notifications, whole and odd."""

from __future__ import annotations

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.conditions import Condition
from syncer.model.resource import (
    ChannelRollup,
    ChannelStatus,
    LogMark,
    Rollup,
    Status,
)

SECOND = 1_700_000_000_000


FULL = Status(
    phase="Retrying",
    reason="PartialFailureRetrying",
    message="m",
    conditions=(Condition("RoutingResolved", "True", "RoutingRuleMatched", "m", SECOND, 3),),
    attempts=(
        Attempt(
            AttemptId("0.7-1"), "a", AttemptState.SUCCESS, SECOND + 1, SECOND + 2, 0, 250, None,
            "", 200, 1,
        ),
        Attempt(
            AttemptId("0.7-2"), "b", AttemptState.FAILED, SECOND + 3, SECOND + 4, SECOND + 9, 1,
            FailureClass.TRANSIENT, "503", 503, 1,
        ),
        Attempt(
            AttemptId("0.7-3"), "c", AttemptState.UNKNOWN, SECOND + 3, SECOND + 4, 0, 1,
            FailureClass.UNCERTAIN, "reset", 0, 4,
        ),
    ),
    total_attempts=6,
    successful=1,
    failed=2,
    uncertain=1,
    queued_at=SECOND,
    started_at=SECOND + 1,
    completed_at=SECOND + 2,
    observed_generation=3,
    channels=(ChannelStatus("a", "Delivered", 1), ChannelStatus("b", "Retrying", 1, SECOND + 9)),
    rollup=Rollup(3, (ChannelRollup("c", 3, AttemptId("0.6-9"), 3, 1),)),
    log=LogMark(9, "0.7", "ff"),
)  # fmt: skip


#: Each is a date-time to a real API server.
ODD_TIMES = {
    "2023-11-14t22:13:20z": SECOND,
    "0001-01-01T00:00:00Z": -62_135_596_800_000,
    "0001-01-01T00:00:00+14:00": -62_135_596_800_000,
    "9999-12-31T23:59:59-23:00": 253_402_300_799_999,
    "0000-01-01T00:00:00Z": 0,
    "2023-11-14T22:13:20x5Z": 0,
    "1970-01-01T00:00:00Z": 0,
}
