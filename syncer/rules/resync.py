"""
Which live notifications must be checked again: the rule of the resync.

Watches, wake-ups and timers trigger a check soon. Each of them may be lost, so liveness does not depend on
them. It depends on this rule, which is applied periodically to every live notification and uses only its
state, not the history of events:

- a notification needs a check if it is gone, is not claimed, or has records in its log that were not read;
- so does one whose last check ended without a decision (a server did not answer, the Lease was in doubt);
- a decision names the second by which the next check is needed, and the channels that it passed on: to an
  attempt under way or a per-receiver queue. Once that second has passed, or a channel is in neither any
  more, a check is due;
- a notification whose object or log has changed since the last check needs another: the change may not have
  come from the watch, but from the answer to a write, or from a log that was read again before a final
  phase was written;
- in any case every notification is checked after a long time.

Some notifications wait for a cause that is known and reported elsewhere: a log or an object that cannot be
read, a log that belongs to a later epoch, a status that names one. They are checked less often, and only a
limited number in one round: after a disaster it may be all of them, and every check reads a log.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Seconds between two checks of a notification that waits for a known reason.
_BLOCKED: Final = 30.0
#: Longest time without a check, in seconds.
_STALE: Final = 600.0


class Reason(StrEnum):
    """The reason why a notification must be checked."""

    DELETED = "its object is gone and its log not retired"
    UNCLAIMED = "its log is not claimed"
    UNREAD = "its log holds records that were not read"
    UNDECIDED = "the last check ended without a decision"
    DUE = "it is due, and no attempt or queue holds it"
    CHANGED = "its object or its log has changed since the last check"
    BLOCKED = "the reason why it waits may be gone"
    STALE = "it was not checked for long"

    @property
    def deferrable(self) -> bool:
        """Whether a round may leave the check to a later one, because nothing is known to be due."""
        return self in (Reason.BLOCKED, Reason.STALE)


@dataclass(frozen=True, slots=True)
class Check:
    """
    A check that ended with a decision.

    Attributes:
        at: Second of the monotonic clock at which it was made.
        by: Second by which the next one is needed, infinite if only an event can make it necessary.
        version: resourceVersion of the object at that time.
        position: Position of the log at that time.
        channels: Channels that it passed to an attempt or to a per-receiver queue.
    """

    at: float
    by: float
    version: str
    position: int
    channels: tuple[str, ...] = ()


def reason_of(  # noqa: PLR0913 (a decision sees all at once)
    last_check: Check | None,
    *,
    deleted: bool,
    blocked: bool,
    claimed: bool,
    unread: bool,
    version: str,
    position: int,
    idle: bool,
    now: float,
) -> Reason | None:
    """
    Return the reason why one of our notifications must be checked, None if it need not be.

    Args:
        last_check: The last check, None if it ended without a decision or another is already requested.
        deleted: The object is gone.
        blocked: The reason why the log is not claimed is known and reported elsewhere.
        claimed: The log is claimed, and the claim is current.
        unread: The log holds records that were not read, or an attempt that no process carries out.
        version: resourceVersion of the object as it is known now.
        position: Position of the log as it is known now.
        idle: A channel of `last_check.channels` is neither in an attempt nor in a queue any more.
        now: Second of the monotonic clock.
    """
    if deleted:
        return Reason.DELETED
    if blocked:
        waited = last_check is None or now - last_check.at >= _BLOCKED
        return Reason.BLOCKED if waited else None
    if not claimed:
        return Reason.UNCLAIMED
    if unread:
        return Reason.UNREAD
    if last_check is None:
        return Reason.UNDECIDED
    if idle or last_check.by <= now:
        return Reason.DUE
    if last_check.version != version or last_check.position != position:
        return Reason.CHANGED
    return Reason.STALE if now - last_check.at >= _STALE else None
