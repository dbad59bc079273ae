"""
Which live notifications need another look: the rule of the resync.

Watches, wake-ups and timers bring a look soon. Each of them may be lost, so none of them is what "nothing
stays stuck" rests on. That rests on this rule, which is asked of every live entry again and again and
looks at its state alone, never at what has happened:

- what is gone, or not claimed, or holds records that were not taken up, needs a look;
- so does what was looked at without a decision (a server did not answer, the lease was in doubt);
- a decision names the second by which it wants the next look, and the channels that it left in the hands of
  others: an attempt under way, a per-receiver queue. Once that second has passed, or a channel is in no
  hands any more, a look is due;
- an object or a log that has changed since is looked at: a change may have been learnt by another way than
  the watch, such as the answer to a write, or a log that was read again before a final phase was written;
- and whatever the reason was, nothing goes without a look for longer than a long while.

Some wait for something that is known and said elsewhere: a log or an object that cannot be read, a log that
belongs to a later epoch, a status that names one. They are looked at less often, and only so many in one
round: after a disaster it may be all of them, and every look reads a whole log.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why an entry needs a look."""

    DELETED = "its object is gone and its log not let go"
    UNCLAIMED = "its log is not claimed"
    UNREAD = "its log holds what is not taken up"
    UNDECIDED = "the last look came to no decision"
    DUE = "it is due and in nobody's hands"
    CHANGED = "its object or its log has changed since the last look"
    BLOCKED = "what holds it up may be over"
    STALE = "nobody has looked for long"

    @property
    def leisurely(self) -> bool:
        """Whether a round may put it off: nothing is known to be due."""
        return self in (Reason.BLOCKED, Reason.STALE)


@dataclass(frozen=True, slots=True)
class Look:
    """
    A look that came to a decision.

    Attributes:
        at: Boot-clock second of it.
        by: Boot-clock second by which the next one is wanted, infinite if only an event can ask for it.
        version: resourceVersion of the object that it saw.
        position: Of the log that it saw.
        channels: What it left in the hands of an attempt or of a per-receiver queue.
    """

    at: float
    by: float
    version: str
    position: int
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    How often, in seconds.

    Attributes:
        period: Between two rounds; so long may a lost wake-up delay what is due.
        blocked: Between two looks at what waits for a known reason.
        stale: Longest time without a look.
        leisurely: Most leisurely looks of one round.
    """

    period: float = 10.0
    blocked: float = 30.0
    stale: float = 600.0
    leisurely: int = 500


def reason_of(  # noqa: PLR0913 (a decision sees all at once)
    look: Look | None,
    *,
    deleted: bool,
    blocked: bool,
    claimed: bool,
    unread: bool,
    version: str,
    position: int,
    idle: bool,
    now: float,
    bounds: Bounds,
) -> Reason | None:
    """
    Say why an entry of ours needs a look; None if it does not.

    Args:
        look: The last one, None if it came to no decision or was asked for and is yet to come.
        deleted: The object is gone.
        blocked: What keeps the log from being claimed is known, and said elsewhere.
        claimed: The log is claimed, and the claim is current.
        unread: The log is known to hold what was not taken up, such as an attempt that nobody carries out.
        version: resourceVersion of the object as it is known now.
        position: Of the log as it is known now.
        idle: A channel of `look.channels` is in nobody's hands any more.
        now: Boot-clock second.
        bounds: How often.
    """
    if deleted:
        return Reason.DELETED
    if blocked:
        waited = look is None or now - look.at >= bounds.blocked
        return Reason.BLOCKED if waited else None
    if not claimed:
        return Reason.UNCLAIMED
    if unread:
        return Reason.UNREAD
    if look is None:
        return Reason.UNDECIDED
    if idle or look.by <= now:
        return Reason.DUE
    if look.version != version or look.position != position:
        return Reason.CHANGED
    return Reason.STALE if now - look.at >= bounds.stale else None
