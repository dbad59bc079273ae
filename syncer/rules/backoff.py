"""
Exponential back-off and jitter, for everything that is retried.

Each caller has its own first and longest wait and counts its own consecutive failures; the arithmetic is
here. The caller passes in the random number, so a wait is a function of its arguments.

There are two kinds of jitter after a failure. `equal_jitter` spreads callers that failed together over
half of the wait. `near_jitter` changes the wait by at most a tenth and keeps it within its bounds, for
waits that a person has configured. `late_jitter` is for periods: never early, at most a quarter late.

The wait before the next attempt is upstream's back-off, drawn once per attempt:
delay(n) = min(initial * multiplier^(n-1), maximum), then jittered by up to 10 % either way and clamped
to [initial, maximum]: the first delay is never below the initial one, the capped one never above the
maximum. A receiver's Retry-After can only lengthen the wait, and at most an hour of it counts. The result
is part of the outcome's record, so a restart neither shortens nor redraws it.

An attempt that was opened and not sent shows nothing about the receiver, so it has its own back-off
(`unsent_delay`): it starts at one second and doubles with each such attempt in a row, up to an hour. So the
delivery is delayed by no longer than its cause has lasted, and a log gains at most twelve such attempts in
the first hour and one an hour after that.

An attempt that failed because of an operator's mistake has a third back-off (`mistake_delay`), where the
controller waits for a correction: from five seconds to five minutes, so that a corrected secret is noticed
soon, and for a day at most.
"""

from __future__ import annotations

from typing import Final, TypeVar

from syncer.model.resource import RetryPolicy

#: Largest share of the wait by which `near_jitter` changes it.
NEAR: Final = 0.10
#: Bounds the exponent: the factor may come from a user, and the count of failures has no limit.
_STEPS: Final = 64

_Number = TypeVar("_Number", int, float)


def exponential(first: _Number, most: _Number, n: int, *, factor: int = 2) -> _Number:
    """
    Return the wait after the n-th failure in a row: `first * factor^(n-1)`, at most `most`.

    Args:
        first: Wait after the first failure, in any unit; the result has the same unit.
        most: Longest wait.
        n: Failures in a row, from 1; a smaller number counts as 1.
        factor: Ratio of each wait to the one before, from 1.
    """
    # Integers, not floats, so that the power is exact for any factor.
    scale: int = factor ** min(max(n, 1) - 1, _STEPS)
    return min(first * scale, most)


def equal_jitter(wait: float, draw: float) -> float:
    """Return a wait between half of `wait` and all of it; `draw` is uniform in [0, 1)."""
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
    """Return a period lengthened by up to a quarter; `draw` is uniform in [0, 1)."""
    return period * (1 + draw / 4)


def as_requested(wait: float, requested: float) -> float:
    """
    Return a wait limited by a server's request: at least as long, and at most four times as long.

    Both are in seconds; `requested` is 0 if the server requests nothing.
    """
    return max(requested, min(wait, 4 * requested)) if requested > 0 else wait


RETRY_AFTER_MOST: Final = 3600.0
#: Milliseconds to wait after the first attempt in a row that was not sent, and the longest wait.
UNSENT_FIRST: Final = 1_000
UNSENT_MOST: Final = 3_600_000
#: Milliseconds to wait after the first attempt in a row that failed because of an operator's mistake, the
#: longest wait, and how long such attempts go on.
MISTAKE_FIRST: Final = 5_000
MISTAKE_MOST: Final = 300_000
MISTAKE_PATIENCE: Final = 86_400_000


def delay(policy: RetryPolicy, n: int, jitter: float, retry_after: float | None = None) -> int:
    """
    Milliseconds from the end of the n-th attempt to the start of the next.

    Args:
        policy: Seconds and factor of the notification.
        n: Attempts on the channel that may have reached the receiver.
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
