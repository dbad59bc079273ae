"""Records: what each kind states, and that it is read back as it was meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncer.model.attempt import (
    Attempt,
    AttemptId,
    AttemptState,
    FailureClass,
    join,
    wait_of,
)
from syncer.model.record import (
    read_attempt,
    resolution_record,
    skip_record,
)

FAILED = Attempt(
    AttemptId("0.7-2"), "slack:ops", AttemptState.FAILED, started=1_000, ended=2_000, due=32_000,
    duration=250, failure=FailureClass.TRANSIENT, error="slack webhook returned 503", code=503,
    number=2,
)  # fmt: skip


def test_skip() -> None:
    """A skip says why nothing was sent, and speaks of no attempt."""
    record = skip_record("skip:3:17", "slack:ops", at=17, why="circuit open")
    assert record.body == {"at": 17, "why": "circuit open"}
    with pytest.raises(ValueError, match="a skip record speaks of no attempt"):
        read_attempt(record)


VERDICTS = {
    "at once": (2_000, 30_000),
    "in the midst of the wait": (12_000, 20_000),
    "after the wait": (32_000, 0),
    "by a clock that has fallen back": (2_000 - 3_600_000, 30_000),
    "by a clock that has leapt ahead": (2_000 + 3_600_000, 0),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_verdict_keeps_the_rest_of_the_wait(case: str) -> None:
    """What did not arrive is due when it was, but no later than the wait that was meant."""
    at, wait = VERDICTS[case]
    unknown = replace(FAILED, state=AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN)
    record = resolution_record(unknown, delivered=False, at=at, by="me", why="looked")
    assert wait_of(join(unknown, read_attempt(record)), at) == wait
