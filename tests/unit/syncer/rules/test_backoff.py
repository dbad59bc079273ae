"""Waits after failures: exact whatever the factor, bounded whatever the count, jittered within bounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncer.model.resource import RetryPolicy
from syncer.rules.backoff import (
    as_requested,
    delay,
    equal_jitter,
    exponential,
    late_jitter,
    near_jitter,
    unsent_delay,
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
    """Each kind has its range."""
    assert (equal_jitter(10.0, 0.0), equal_jitter(10.0, 1.0)) == (5.0, 10.0)
    assert (late_jitter(10.0, 0.0), late_jitter(10.0, 1.0)) == (10.0, 12.5)


@pytest.mark.parametrize(
    ("drawn", "first", "most", "wait"),
    [
        (-1.0, 1.0, 99.0, 9.0),
        (1.0, 1.0, 99.0, 11.0),
        (-1.0, 10.0, 99.0, 10.0),
        (1.0, 1.0, 10.0, 10.0),
    ],
)
def test_near_jitter_stays_within_the_bounds(
    drawn: float, first: float, most: float, wait: float
) -> None:
    """It is a tenth of the wait, either way."""
    assert near_jitter(10.0, drawn, first=first, most=most) == pytest.approx(wait)


@pytest.mark.parametrize(
    ("own", "requested", "wait"),
    [(15.0, 1.0, 4.0), (2.5, 1.0, 2.5), (0.2, 1.0, 1.0), (15.0, 0.0, 15.0)],
)
def test_a_server_that_names_a_time_is_asked_soon_after_it(
    own: float, requested: float, wait: float
) -> None:
    """It is not asked before that, and not long after it, however often it has refused."""
    assert as_requested(own, requested) == wait


# -- between attempts: upstream's curve, its bounds, and a receiver's wish ---------------------------

POLICY = RetryPolicy()

#: A rule, what it is given, and milliseconds.
DELAYS: dict[str, tuple[Callable[..., int], tuple[object, ...], int]] = {
    "the first wait is the initial one": (delay, (POLICY, 1, 0.0), 30_000),
    "each wait doubles": (delay, (POLICY, 2, 0.0), 60_000),
    "and again": (delay, (POLICY, 4, 0.0), 240_000),
    "up to the maximum": (delay, (POLICY, 5, 0.0), 480_000),
    "and stays there": (delay, (POLICY, 10_000, 0.0), 480_000),
    "before any attempt it is the initial one": (delay, (POLICY, 0, 0.0), 30_000),
    "a factor of one never grows": (delay, (RetryPolicy(5, 30, 1, 480), 9, 0.0), 30_000),
    "a maximum below the initial wait is raised": (delay, (RetryPolicy(5, 60, 2, 10), 7, 0.0), 60_000),
    "huge factors do not overflow": (
        delay, (RetryPolicy(10, 300, 10, 3_600), 10**9, 0.0), 3_600_000,
    ),
    # Jitter moves a wait within a tenth, and never out of the policy's bounds.
    "a wait is stretched by up to a tenth": (delay, (POLICY, 2, 1.0), 66_000),
    "or shortened by one": (delay, (POLICY, 2, -1.0), 54_000),
    "the first wait is never below the initial one": (delay, (POLICY, 1, -1.0), 30_000),
    "but may be above it": (delay, (POLICY, 1, 1.0), 33_000),
    "the longest is never above the maximum": (delay, (POLICY, 9, 1.0), 480_000),
    "but may be below it": (delay, (POLICY, 9, -1.0), 432_000),
    # What a receiver asks for can only lengthen the wait, and by no more than an hour.
    "no wish": (delay, (POLICY, 1, 0.0, None), 30_000),
    "a longer wait is granted": (delay, (POLICY, 1, 0.0, 45.5), 45_500),
    "a shorter one is not": (delay, (POLICY, 1, 0.0, 1.0), 30_000),
    "an hour at most is granted": (delay, (POLICY, 1, 0.0, 10.0**9), 3_600_000),
    "for ever is an hour": (delay, (POLICY, 1, 0.0, float("inf")), 3_600_000),
    "a negative wish is none": (delay, (POLICY, 1, 0.0, -5.0), 30_000),
    "nought is none": (delay, (POLICY, 1, 0.0, 0.0), 30_000),
    # What did not leave is tried again by a back-off that no notification's policy shortens.
    "unsent: the first in a row": (unsent_delay, (1, 0.0), 1_000),
    "unsent: twice as long each time": (unsent_delay, (4, 0.0), 8_000),
    "unsent: the eleventh takes a quarter of an hour and more": (unsent_delay, (11, 0.0), 1_024_000),
    "unsent: an hour at most": (unsent_delay, (13, 0.0), 3_600_000),
    "unsent: an hour at most, whatever the jitter": (unsent_delay, (99, 1.0), 3_600_000),
    "unsent: a second at least, whatever the jitter": (unsent_delay, (1, -1.0), 1_000),
    "unsent: jitter within a tenth": (unsent_delay, (2, 1.0), 2_200),
}  # fmt: skip


@pytest.mark.parametrize("case", DELAYS)
def test_delays(case: str) -> None:
    """The waits are upstream's, within the policy's bounds; a receiver may ask for a longer one."""
    rule, given, wanted = DELAYS[case]
    assert rule(*given) == wanted
