"""
Where each channel of a notification stands: the one rule that both the sender and the status use.

A channel is finished when it has a success, a permanent failure, or as many attempts as its policy
allows; an operator's order opens it again for one more attempt. Everything is decided on the identity
of channels, never on counts of them, so a change of the routing cannot turn one channel's success
into another's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from syncer.api.attempt import Attempt, AttemptId, AttemptState, FailureClass


class State(StrEnum):
    """State of a channel, as `status.channels[].state` spells it."""

    PENDING = "Pending"
    SENDING = "Sending"
    RETRYING = "Retrying"
    DELIVERED = "Delivered"
    FAILED = "Failed"
    EXHAUSTED = "Exhausted"
    #: `atMostOnce` only: the result of an attempt is unknown, so nothing more is sent.
    UNCERTAIN = "Uncertain"

    @property
    def finished(self) -> bool:
        """Whether no further attempt follows."""
        return self in _FINISHED


_FINISHED = frozenset({State.DELIVERED, State.FAILED, State.EXHAUSTED, State.UNCERTAIN})


@dataclass(frozen=True, slots=True)
class Standing:
    """
    One channel's state and what led to it.

    Attributes:
        channel: Its name.
        state: Where it stands.
        attempts: How many attempts it has, open and rolled-up ones included.
        last: Its newest attempt, None before the first.
        reason: Machine word for explanations and logs.
    """

    channel: str
    state: State
    attempts: int = 0
    last: Attempt | None = None
    reason: str = ""


def stand(
    channel: str,
    attempts: Iterable[Attempt],
    *,
    max_attempts: int,
    at_most_once: bool = False,
    before_order: frozenset[AttemptId] | None = None,
    folded: int = 0,
) -> Standing:
    """
    Decide where a channel stands.

    Args:
        channel: Its name.
        attempts: Its attempts, oldest first.
        max_attempts: Of the retry policy.
        at_most_once: Stop at an attempt whose result is unknown.
        before_order: Attempts that an operator's latest order set aside; None without an order.
        folded: Failed attempts that the status holds only as a number.
    """
    known = list(attempts)
    count = len(known) + folded
    last = known[-1] if known else None

    def answer(state: State, reason: str) -> Standing:
        return Standing(channel, state, count, last, reason)

    if any(a.state is AttemptState.SUCCESS for a in known):
        return answer(State.DELIVERED, "success recorded")
    if any(a.open for a in known):
        return answer(State.SENDING, "attempt open")
    ordered = before_order is not None
    counted = [a for a in known if before_order is None or a.id not in before_order]
    if any(a.failure is FailureClass.PERMANENT for a in counted):
        return answer(State.FAILED, "permanent failure recorded")
    if at_most_once and any(a.state is AttemptState.UNKNOWN for a in counted):
        return answer(State.UNCERTAIN, "result unknown and delivery is at most once")
    spent = len(counted) if ordered else count
    if spent >= (1 if ordered else max_attempts):
        return answer(State.EXHAUSTED, "attempts used up")
    if count == 0:
        return answer(State.PENDING, "no attempt yet")
    return answer(State.RETRYING, "attempts left")


def budget(
    *, max_attempts: int, before_order: frozenset[AttemptId] | None = None, folded: int = 0
) -> int:
    """
    Largest number of attempts that the log may hold for a channel (argument of INTENT).

    Rolled-up attempts are gone from no log, so `folded` only matters where the log was restored from
    a status that had folded them.
    """
    if before_order is not None:
        return len(before_order) + 1
    return max(0, max_attempts - folded)
