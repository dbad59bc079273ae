"""
When to write a status: the flush policy.

A write costs the API server far more than anything else here, so attempts that come close together
share one. Two things do not wait: a final state, because a success that is only in Redis is the one thing
that a loss of Redis could repeat; and a change that no other will join, because nothing is on the wire and
the next attempt is further away than the window. After a failed write the entry waits,
longer each time, and never for ever.
"""

from __future__ import annotations

from typing import Final

from syncer.rules.backoff import exponential

#: Seconds to wait after a failed write, at first and at most.
_RETRY_FIRST: Final = 0.25
_RETRY_MOST: Final = 30.0


def write_at(
    *,
    dirty_since: float,
    urgent: bool,
    failures: int,
    last_failure: float,
    window: float,
    quiet: bool = False,
    jitter: float = 1.0,
) -> float:
    """
    Return when a dirty entry is to be written, at once if that is past; in seconds of the monotonic clock.

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
        return last_failure + pause * jitter
    return dirty_since if urgent or quiet else dirty_since + window
