"""
When to write a status: the flush policy.

A write costs the API server far more than anything else here, so attempts that come close together
share one. Two things do not wait: a final state, because a success that is only in Redis is the one thing
that a loss of Redis could repeat; and a change that no other will join, because nothing is on the wire and
the next attempt is further away than the window. After a failed write the entry waits,
longer each time, and never for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from syncer.rules.backoff import exponential

#: Seconds to wait after a failed write, at first and at most.
_RETRY_FIRST: Final = 0.25
_RETRY_MOST: Final = 30.0


class Flush(StrEnum):
    """The reason why an entry is written now, or is not."""

    TERMINAL = "terminal state goes at once"
    QUIET = "nothing else is coming within the window"
    WINDOW = "window has passed"
    WAIT_RETRY = "backing off after a failed write"


@dataclass(frozen=True, slots=True)
class Decision:
    """`at` is the second of the monotonic clock at which the entry is to be written; past: at once."""

    at: float
    reason: Flush


def decide(
    *,
    dirty_since: float,
    urgent: bool,
    failures: int,
    last_failure: float,
    window: float,
    quiet: bool = False,
    jitter: float = 1.0,
) -> Decision:
    """
    Decide when a dirty entry is written; all times are seconds of the monotonic clock.

    Args:
        dirty_since: When the first unwritten change came.
        urgent: The fold is terminal or holds a new success.
        failures: Writes of this entry that failed in a row.
        last_failure: When the last of them did.
        window: Seconds for which changes are collected.
        quiet: No attempt is on the wire, and none is due within the window.
        jitter: Share of the back-off to wait, in [0.5, 1]; a new draw for each failure, so that
            writers that collided once do not meet again.
    """
    if failures:
        pause = exponential(_RETRY_FIRST, _RETRY_MOST, failures)
        return Decision(last_failure + pause * jitter, Flush.WAIT_RETRY)
    if urgent:
        return Decision(dirty_since, Flush.TERMINAL)
    if quiet:
        return Decision(dirty_since, Flush.QUIET)
    return Decision(dirty_since + window, Flush.WINDOW)
