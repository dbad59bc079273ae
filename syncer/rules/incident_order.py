"""
In which order the notifications of an incident reach a receiver that keeps its state; pure.

Only the newest is sent, and one at a time. What is older and unsent is superseded, so nobody waits for a
back-off; what is on the wire is waited for, and what may still be on it, because its result is unknown, for
as long as a send may take. A receiver may be told something twice, but never an older state after a newer.

Each notification may be with another replica. So whoever sends records its intent first and looks then:
of two that overlap, the later look finds the other one, since the object of what is newer exists before its
intent. A look before the intent spares the record an attempt that must wait; it is never enough by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from syncer.model.attempt import Attempt, AttemptState

#: Milliseconds after its intent for which an attempt may be on the wire. What is open for longer belongs to
#: a notification that waits for a person.
ABANDONED: Final = 120_000


@dataclass(frozen=True, slots=True)
class Mate:
    """
    Another notification of an incident.

    Attributes:
        name: Of the object.
        order: Its place; the larger, the newer.
        state: `firing` or `resolved`.
        attempts: On the channel in question, as far as they matter.
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
    Say what a notification in a state has to wait for, empty if for nothing.

    Args:
        state: Its own.
        mates: The others, none of which is newer.
        now: Redis time in milliseconds.
        timeout: Milliseconds that a send may take. What became unknown longer ago, or is still to come by a
            clock that has jumped, is not waited for.
        born: When it was created, if attempts of the others are journaled: without Redis these have their
            host's time. Who sends one looked before that, so it is on the wire for a send's time at most.
            Long ago if they are not.
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
