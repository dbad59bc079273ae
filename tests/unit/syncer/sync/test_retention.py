"""When a finished notification may be deleted."""

from __future__ import annotations

from typing import Final

import pytest

from syncer.model.attempt import Epoch
from syncer.model.record import Header
from syncer.sync.retention import due, settled

DAY: Final = 86_400_000
ENDED: Final = 1_800_000_000_000


@pytest.mark.parametrize(
    ("ended", "days", "now", "expected"),
    [
        pytest.param(ENDED, 7, ENDED + 7 * DAY - 1, False, id="a moment before its days are over"),
        pytest.param(ENDED, 7, ENDED + 7 * DAY, True, id="when its days are over"),
        pytest.param(ENDED, 1, ENDED + DAY, True, id="after the shortest time"),
        pytest.param(ENDED, 0, ENDED + DAY - 1, False, id="never within a day"),
        pytest.param(0, 7, ENDED, False, id="never if its end is not known"),
        pytest.param(ENDED, 7, ENDED - DAY, False, id="not by a clock that fell back"),
    ],
)
def test_due(ended: int, days: int, now: int, expected: bool) -> None:
    """The days count from the end, and are at least one."""
    assert due(ended, days, now) is expected


def header(acked: int, audited: int) -> Header:
    """A log's first element."""
    return Header("ns/n", Epoch("0.7"), acked=acked, audited=audited)


@pytest.mark.parametrize(
    ("first", "ttl", "expected"),
    [
        pytest.param(header(3, 3), 60, True, id="published, audited and about to expire"),
        pytest.param(header(2, 3), 60, False, id="a record is not published"),
        pytest.param(header(3, 2), 60, False, id="a record is not audited"),
        pytest.param(header(3, 3), -1, False, id="it does not expire"),
        pytest.param(header(3, 3), 0, True, id="in its last second"),
        pytest.param(None, 60, False, id="its first element cannot be read"),
    ],
)
def test_settled(first: Header | None, ttl: int, expected: bool) -> None:
    """A log of three records lets its object go only if nothing is left to be done with it."""
    assert settled(first, 4, ttl) is expected
