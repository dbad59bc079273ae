"""
The state of each channel of a notification; the sender and the status use the same rule.

A channel is finished when it has a success, a permanent failure, or as many attempts as its policy
allows; a resend request reopens it for one more attempt. Decisions depend on the identity of channels,
never on their number, so a change of the routing cannot turn one channel's success into another's.

Only an attempt that the receiver could have accepted counts against a limit (`counts`). An attempt that was
certainly not sent (class `notSent` or `superseded`), or that the receiver refused because of an operator's
mistake (class `operator`), is on record and has a number, but counts against no limit, including that of a
resend request. So attempts that could not succeed never use up a channel. They have their own back-off,
which grows with their number in a row (`unsent`).

A channel that was superseded by a newer notification of the incident is neither delivered nor failed, and
neither is a fallback that was not needed. The other channels decide how the notification ends (`deciding`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import Final

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass, newest


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
    #: A newer notification of the incident is sent instead; the last attempt has its name.
    SUPERSEDED = "Superseded"
    #: A fallback (`syncer.rules.fallback`) whose channels may still deliver, or have all delivered.
    STANDBY = "Standby"
    NOT_NEEDED = "NotNeeded"

    @property
    def finished(self) -> bool:
        """Whether no further attempt follows."""
        return self in _FINISHED


_FINISHED = frozenset(State) - {State.PENDING, State.SENDING, State.RETRYING, State.STANDBY}
#: States, as spelled in a status, in which nothing on a channel is due.
NOTHING_DUE: Final = frozenset(s.value for s in State if s.finished or s is State.STANDBY)
#: States of a fallback that was not used.
IDLE: Final = frozenset({State.STANDBY, State.NOT_NEEDED})
_DECIDES_NOTHING = IDLE | {State.SUPERSEDED}


@dataclass(frozen=True, slots=True)
class ChannelState:
    """
    One channel's state and what led to it.

    Attributes:
        attempts: How many attempts it has, open and rolled-up ones included.
        last: Its newest attempt, None before the first. Not always the one with the highest number, because
            an attempt of a former owner may be published late.
        reason: Machine word for explanations and logs.
        left: How many more attempts that may reach the receiver are allowed.
        unsent: How many attempts in a row, up to the newest, count against no limit.
    """

    channel: str
    state: State
    attempts: int = 0
    last: Attempt | None = None
    reason: str = ""
    left: int = 0
    unsent: int = 0


#: Attempts in a row that were not sent after which a condition shows it; their waits add up to a minute.
UNSENT_NOTICE: Final = 6
_UNCOUNTED: Final = frozenset(
    {FailureClass.NOT_SENT, FailureClass.OPERATOR, FailureClass.SUPERSEDED}
)


def deciding(channel_states: Iterable[ChannelState]) -> list[ChannelState]:
    """Return the channels that decide how a notification ends: all but superseded and unused ones."""
    return [s for s in channel_states if s.state not in _DECIDES_NOTHING]


def superseded(channel_states: Sequence[ChannelState]) -> bool:
    """Whether a notification ends as superseded: all its channels are, apart from unused ones."""
    return bool(channel_states) and not deciding(channel_states)


def counts(attempt: Attempt) -> bool:
    """Whether an attempt counts against the limit, because the receiver could have accepted it."""
    return attempt.failure not in _UNCOUNTED


def uncounted_run(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
    """Return the newest attempts in a row that count against no limit; `attempts` has the oldest first."""
    run = sum(1 for _ in takewhile(lambda a: not counts(a), reversed(attempts)))
    return attempts[len(attempts) - run :]


def state_of(
    channel: str,
    attempts: Iterable[Attempt],
    *,
    max_attempts: int,
    at_most_once: bool = False,
    before_order: frozenset[AttemptId] | None = None,
    folded: int = 0,
    folded_unsent: int = 0,
    ended_by: Collection[AttemptId] = (),
) -> ChannelState:
    """
    Determine the state of a channel.

    Args:
        channel: Its name.
        attempts: Its attempts, oldest first.
        max_attempts: Limit of the retry policy.
        at_most_once: Stop at an attempt whose result is unknown.
        before_order: Attempts that the latest resend request sets aside; None without a request.
        folded: Failed attempts that the status holds only as a number.
        folded_unsent: How many of the folded attempts count against no limit.
        ended_by: Attempts that were unknown when the phase became final; they still count as unknown.
    """
    known = list(attempts)
    count = len(known) + folded
    last = newest(known)
    ordered = before_order is not None
    counted = [a for a in known if before_order is None or a.id not in before_order]
    spent = sum(counts(a) or a.id in ended_by for a in counted) + (
        0 if ordered else max(0, folded - folded_unsent)
    )
    left = max(0, (1 if ordered else max_attempts) - spent)
    unsent = len(uncounted_run(known))

    def answer(state: State, reason: str) -> ChannelState:
        return ChannelState(channel, state, count, last, reason, left, unsent)

    if any(a.state is AttemptState.SUCCESS for a in known):
        return answer(State.DELIVERED, "success recorded")
    if any(a.open for a in known):
        return answer(State.SENDING, "attempt open")
    if any(a.failure is FailureClass.PERMANENT for a in counted):
        return answer(State.FAILED, "permanent failure recorded")
    if not ordered and any(a.failure is FailureClass.SUPERSEDED for a in known):
        return answer(State.SUPERSEDED, "a newer notification of its incident goes instead")
    if at_most_once and any(a.state is AttemptState.UNKNOWN or a.id in ended_by for a in counted):
        return answer(State.UNCERTAIN, "result unknown and delivery is at most once")
    if not left:
        return answer(State.EXHAUSTED, "attempts used up")
    return (
        answer(State.RETRYING, "attempts left")
        if count
        else answer(State.PENDING, "no attempt yet")
    )
