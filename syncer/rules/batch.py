"""
When to write a status: the flush policy.

A status write costs the API server far more than any other request of the controller, so attempts that come
close together share one. Two changes do not wait: a final state or a success, because a success that is
recorded only in Redis would be sent again after a loss of Redis; and a change that no other will join,
because nothing is on the wire and the next attempt is further away than the window. After a failed write
the next one waits, longer each time, up to a limit.
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
    Return the monotonic second at which a changed status is to be written; at once if it has passed.

    Args:
        dirty_since: When the first unwritten change came.
        urgent: The fold is terminal or holds a new success.
        failures: Failed writes of this status in a row.
        last_failure: When the last write failed.
        window: Seconds for which changes are collected.
        quiet: No attempt is on the wire, and none is due within the window.
        jitter: Share of the back-off to wait, in [0.5, 1]; drawn for each failure, so that writers that
            collided once do not collide again.
    """
    if failures:
        pause = exponential(_RETRY_FIRST, _RETRY_MOST, failures)
        return last_failure + pause * jitter
    return dirty_since if urgent or quiet else dirty_since + window
