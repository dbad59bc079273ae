"""When a status is written: every rule once, and bounds that always hold."""

from __future__ import annotations

import pytest

from syncer.rules.batch import write_at

CASES = {
    "a change waits for the window": (
        {"dirty_since": 10.0, "urgent": False, "failures": 0, "last_failure": 0.0},
        10.25,
    ),
    "a final state goes at once": (
        {"dirty_since": 10.0, "urgent": True, "failures": 0, "last_failure": 0.0},
        10.0,
    ),
    "what stays alone goes at once": (
        {"dirty_since": 10.0, "urgent": False, "failures": 0, "last_failure": 0.0, "quiet": True},
        10.0,
    ),
    "a failed write waits": (
        {"dirty_since": 10.0, "urgent": False, "failures": 1, "last_failure": 11.0},
        11.25,
    ),
    "a final state that was refused waits too": (
        {"dirty_since": 10.0, "urgent": True, "failures": 2, "last_failure": 11.0},
        11.5,
    ),
    "and so does what stays alone": (
        {"dirty_since": 10.0, "urgent": False, "failures": 3, "last_failure": 11.0, "quiet": True},
        12.0,
    ),
    "the wait is bounded": (
        {"dirty_since": 10.0, "urgent": True, "failures": 10**6, "last_failure": 11.0},
        41.0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_time(case: str) -> None:
    """A dirty entry has a time at which it is written."""
    arguments, wanted = CASES[case]
    assert write_at(window=0.25, **arguments) == wanted  # type: ignore[arg-type]  # a table's mix


def test_waits_grow() -> None:
    """Each failure in a row makes the wait longer, up to the bound."""
    waits = [
        write_at(dirty_since=0, urgent=True, failures=n, last_failure=0, window=1)
        for n in range(1, 20)
    ]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.25, 30.0)


def test_writers_that_collided_spread_out() -> None:
    """The share drawn for a failure shortens its wait, and touches nothing else."""

    def at(failures: int, jitter: float) -> float:
        return write_at(
            dirty_since=7.0, urgent=True, failures=failures, last_failure=10.0, window=1,
            jitter=jitter,
        )  # fmt: skip

    assert (at(3, 0.5), at(3, 1.0)) == (10.5, 11.0)
    assert at(0, 0.5) == at(0, 1.0) == 7.0
