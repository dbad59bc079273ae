"""
The order in which the notifications of an incident reach a receiver that keeps state; pure.

Only the newest notification is sent, and one at a time. An older one that has not been sent is superseded,
so nothing waits for its back-off. The newest waits for attempts of the others that are on the wire, and for
those that may still be because their result is unknown, for as long as a send may take. A receiver may get
the same state twice, but never an older state after a newer one.

Each notification may belong to another replica. So the sender records its intent first and looks up the
others afterwards: if two senders overlap, the later look-up finds the other attempt, since the object of
the newer notification exists before its intent. A look-up before the intent avoids recording an attempt
that must wait; it is never enough by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from syncer.model.attempt import Attempt, AttemptState

#: Milliseconds after its intent for which an attempt may be on the wire. An attempt that is open for longer
#: belongs to a notification that waits for a person.
ABANDONED: Final = 120_000


@dataclass(frozen=True, slots=True)
class Mate:
    """
    Another notification of an incident.

    Attributes:
        name: Name of the object.
        order: Its place in the incident; the larger, the newer.
        state: `firing` or `resolved`.
        attempts: Its attempts on the channel in question, as far as they matter.
    """

    name: str
    order: tuple[int, int]
    state: str
    attempts: Sequence[Attempt] = ()


def superseded_by(order: tuple[int, int], mates: Iterable[Mate]) -> str:
    """Return the name of the newest mate if that is newer than `order`, else an empty text."""
    newest = max(mates, key=lambda mate: mate.order, default=None)
    return newest.name if newest is not None and newest.order > order else ""


def waits_for(state: str, mates: Iterable[Mate], now: int, timeout: int, born: int) -> str:
    """
    Return what a notification has to wait for, empty if for nothing.

    Args:
        state: The notification's own state.
        mates: The other notifications, none of which is newer.
        now: Redis time in milliseconds.
        timeout: Milliseconds that a send may take. An attempt that became unknown longer ago, or in the
            future because a clock has jumped, is not waited for.
        born: When the notification was created, if attempts of the others are journaled; otherwise a time
            long ago. Without Redis, attempts have the time of their host. The sender of such an attempt
            looked for newer notifications before this one was created, so the attempt is on the wire for at
            most `timeout` from then.
    """
    young = abs(now - born) < timeout
    for mate in mates:
        for attempt in mate.attempts:
            if attempt.open and (young or abs(now - attempt.started) < ABANDONED):
                return f"an attempt of {mate.name} is under way"
            unknown = attempt.state is AttemptState.UNKNOWN
            if unknown and (young or abs(attempt.ended - now) < timeout) and mate.state != state:
                return f"an attempt of {mate.name} may still arrive"
    return ""
