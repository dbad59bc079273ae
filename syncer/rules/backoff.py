"""
Exponential back-off and jitter, for everything that is tried again.

Each caller has its own first and longest wait and counts its own failures in a row; the arithmetic is
here. A draw is a random number that the caller brings, so a wait is a function of its arguments.

Two kinds of jitter follow a failure. `equal_jitter` spreads callers that failed together over half of
the wait. `near_jitter` stays within a tenth of the wait and within its bounds, where a person has
configured them. `late_jitter` is for periods: never sooner, at most a quarter later.

The wait before the next attempt is upstream's back-off, drawn once per attempt:
delay(n) = min(initial * multiplier^(n-1), maximum), then jittered by up to 10 % either way and clamped
to [initial, maximum]: the first delay is never below the initial one, the capped one never above the
maximum. A receiver's Retry-After can only lengthen the wait, and by no more than an hour. The result
becomes part of the outcome's record, so a restart neither shortens nor redraws it.

An attempt that was opened and was not sent says nothing about the receiver, so it has a back-off of
its own (`unsent_delay`): from one second, doubling with each in a row, to an hour at most. So a delivery is
late by no longer than its cause has lasted, and a log gains at most twelve such attempts in the first
hour and one an hour after that.

An attempt that failed by an operator's mistake, where that is waited for, has a third (`mistake_delay`):
from five seconds to five minutes, so that a mended secret is noticed soon, and for a day at most.
"""

from __future__ import annotations

from typing import Final, TypeVar

from syncer.model.resource import RetryPolicy

#: Share of the wait by which `near_jitter` differs from it at most.
NEAR: Final = 0.10
#: Bounds the exponent: the factor may come from a user, and the count of failures has no limit.
_STEPS: Final = 64

_Number = TypeVar("_Number", int, float)


def exponential(first: _Number, most: _Number, n: int, *, factor: int = 2) -> _Number:
    """
    Return the wait after the n-th failure in a row: `first * factor^(n-1)`, and never more than `most`.

    Args:
        first: Wait after the first failure, in any unit; the result has the same unit.
        most: Longest wait.
        n: Failures in a row, from 1; a smaller number counts as 1.
        factor: By which each wait is longer than the one before, from 1.
    """
    # Not a power of floats: with integers the result is exact, whatever the factor.
    scale: int = factor ** min(max(n, 1) - 1, _STEPS)
    return min(first * scale, most)


def equal_jitter(wait: float, draw: float) -> float:
    """Return between half of a wait and all of it; `draw` is uniform in [0, 1)."""
    return wait * (0.5 + draw / 2)


def near_jitter(wait: float, draw: float, *, first: float, most: float) -> float:
    """
    Return a wait that is up to a tenth shorter or longer, within `first` and `most`.

    Args:
        wait: As `exponential` gives it.
        draw: Uniform in [-1, 1).
        first: Shortest result, in the unit of the wait.
        most: Longest result; at least `first`.
    """
    return min(max(wait * (1 + NEAR * draw), first), most)


def late_jitter(period: float, draw: float) -> float:
    """Return between a period and a quarter more of it; `draw` is uniform in [0, 1)."""
    return period * (1 + draw / 4)


def as_requested(wait: float, requested: float) -> float:
    """
    Return a wait that a server's request bounds: not less than it, and at most four times as long.

    Both are in seconds; `requested` is 0 if the server requests nothing.
    """
    return max(requested, min(wait, 4 * requested)) if requested > 0 else wait


RETRY_AFTER_MOST: Final = 3600.0
#: Milliseconds after the first attempt in a row that was not sent, and at most.
UNSENT_FIRST: Final = 1_000
UNSENT_MOST: Final = 3_600_000
#: Milliseconds after the first attempt in a row that failed by an operator's mistake, and at most; and for
#: how long such attempts go on.
MISTAKE_FIRST: Final = 5_000
MISTAKE_MOST: Final = 300_000
MISTAKE_PATIENCE: Final = 86_400_000


def delay(policy: RetryPolicy, n: int, jitter: float, retry_after: float | None = None) -> int:
    """
    Milliseconds from the end of the n-th attempt to the start of the next.

    Args:
        policy: Seconds and factor of the notification.
        n: Attempts on the channel that may have left.
        jitter: Uniform in [-1, 1).
        retry_after: Seconds that the receiver asked for, or None; at most 3,600 of them count.
    """
    initial = policy.initial_backoff * 1000
    most = max(initial, policy.max_backoff * 1000)
    wait = _delay(initial, most, n, jitter, policy.multiplier)
    return max(wait, round(min(retry_after or 0.0, RETRY_AFTER_MOST) * 1000))


def _delay(first: int, most: int, n: int, jitter: float, factor: int = 2) -> int:
    wait = exponential(first, most, n, factor=factor)
    return round(near_jitter(wait, jitter, first=first, most=most))


def unsent_delay(n: int, jitter: float) -> int:
    """
    Milliseconds to wait after the n-th attempt (from 1) in a row that was not sent.

    `jitter` is uniform in [-1, 1).
    """
    return _delay(UNSENT_FIRST, UNSENT_MOST, n, jitter)


def mistake_delay(n: int, jitter: float) -> int:
    """
    Milliseconds to wait after the n-th attempt (from 1) in a row that waits for an operator.

    `jitter` is uniform in [-1, 1).
    """
    return _delay(MISTAKE_FIRST, MISTAKE_MOST, n, jitter)
