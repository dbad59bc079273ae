"""Waits after failures: exact whatever the factor, bounded whatever the count, jittered within bounds."""

from __future__ import annotations

import pytest

from syncer.rules.backoff import (
    as_requested,
    equal_jitter,
    exponential,
    late_jitter,
    near_jitter,
)

WAITS = {
    "no failure counts as one": (exponential(3, 100, 0), 3),
    "the first": (exponential(3, 100, 1), 3),
    "each is twice as long": (exponential(3, 100, 4), 24),
    "or longer by another factor": (exponential(3, 100, 3, factor=5), 75),
    "a factor of one never grows": (exponential(3, 100, 9, factor=1), 3),
    "never more than the most": (exponential(3, 100, 7), 100),
    "the exponent grows up to 64": (exponential(1, 10**30, 65), 2**64),
    "and no further": (exponential(1, 10**30, 10**9), 2**64),
    "fractions stay fractions": (exponential(0.2, 30.0, 3), 0.8),
}


@pytest.mark.parametrize("case", WAITS)
def test_exponential(case: str) -> None:
    """The wait grows with each failure in a row, up to a bound."""
    found, wanted = WAITS[case]
    assert found == wanted


def test_jitter() -> None:
    """Each kind has its range, and near jitter stays within the bounds."""
    assert (equal_jitter(10.0, 0.0), equal_jitter(10.0, 1.0)) == (5.0, 10.0)
    assert (late_jitter(10.0, 0.0), late_jitter(10.0, 1.0)) == (10.0, 12.5)
    assert near_jitter(10.0, -1.0, first=1.0, most=99.0) == pytest.approx(9.0)
    assert near_jitter(10.0, 1.0, first=1.0, most=99.0) == pytest.approx(11.0)
    assert near_jitter(10.0, -1.0, first=10.0, most=99.0) == 10.0
    assert near_jitter(10.0, 1.0, first=1.0, most=10.0) == 10.0


def test_a_server_that_names_a_time_is_asked_soon_after_it() -> None:
    """It is not asked before that, and not long after it, however often it has refused."""
    assert as_requested(15.0, 1.0) == 4.0
    assert as_requested(2.5, 1.0) == 2.5
    assert as_requested(0.2, 1.0) == 1.0
    assert as_requested(15.0, 0.0) == 15.0
