"""
Exponential back-off and jitter, for everything that is tried again.

Each caller has its own first and longest wait and counts its own failures in a row; the arithmetic is
here. A draw is a random number that the caller brings, so a wait is a function of its arguments.

Two kinds of jitter follow a failure. `equal_jitter` spreads callers that failed together over half of
the wait. `near_jitter` stays within a tenth of the wait and within its bounds, where a person has
configured them. `late_jitter` is for periods: never sooner, at most a quarter later.
"""

from __future__ import annotations

from typing import Final, TypeVar

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
