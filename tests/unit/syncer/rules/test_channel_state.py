"""Where a channel stands: every state with its reason, and the order of the rules."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.rules.channel_state import State, state_of

INTENT, UNKNOWN, FAILED, SUCCESS = AttemptState
TRANSIENT, PERMANENT, NOT_SENT = (
    FailureClass.TRANSIENT, FailureClass.PERMANENT, FailureClass.NOT_SENT,
)  # fmt: skip
SUPERSEDED, NEWER = FailureClass.SUPERSEDED, "a newer notification of its incident goes instead"
CLASS_OF = {UNKNOWN: FailureClass.UNCERTAIN, FAILED: TRANSIENT}


@dataclass(frozen=True)
class Case:
    """States (with a class where it matters) of a channel's attempts, and what is to follow."""

    attempts: list[AttemptState | FailureClass]
    state: State
    reason: str
    at_most_once: bool = False
    ordered_after: int | None = None
    folded: int = 0
    folded_unsent: int = 0
    count: int = field(default=-1)


CASES = {
    "no attempt yet": Case([], State.PENDING, "no attempt yet"),
    "an attempt is on the wire": Case([INTENT], State.SENDING, "attempt open"),
    "a failure leaves attempts": Case([FAILED], State.RETRYING, "attempts left"),
    "an unknown result leaves attempts": Case([UNKNOWN], State.RETRYING, "attempts left"),
    "attempts that were not sent use up nothing": Case(
        [NOT_SENT, NOT_SENT, NOT_SENT], State.RETRYING, "attempts left"
    ),
    "one that was not sent beside those that were": Case(
        [FAILED, NOT_SENT, UNKNOWN], State.RETRYING, "attempts left"
    ),
    "folded attempts that were not sent use up nothing either": Case(
        [FAILED], State.RETRYING, "attempts left", folded=2, folded_unsent=1
    ),
    "an order is not carried out by an attempt that was not sent": Case(
        [FAILED, FAILED, FAILED, NOT_SENT], State.RETRYING, "attempts left", ordered_after=3
    ),
    "one success is enough": Case([FAILED, SUCCESS], State.DELIVERED, "success recorded"),
    "a success wins over an open attempt": Case(
        [SUCCESS, INTENT], State.DELIVERED, "success recorded"
    ),
    "a success wins over a permanent failure": Case(
        [PERMANENT, SUCCESS], State.DELIVERED, "success recorded"
    ),
    "an open attempt wins over a permanent failure": Case(
        [PERMANENT, INTENT], State.SENDING, "attempt open"
    ),
    "a permanent failure ends the channel": Case(
        [PERMANENT], State.FAILED, "permanent failure recorded"
    ),
    "a permanent failure wins over used-up attempts": Case(
        [FAILED, FAILED, PERMANENT], State.FAILED, "permanent failure recorded"
    ),
    "all attempts used": Case([FAILED, UNKNOWN, FAILED], State.EXHAUSTED, "attempts used up"),
    "more attempts than allowed": Case([FAILED] * 5, State.EXHAUSTED, "attempts used up"),
    "folded attempts count": Case([FAILED], State.EXHAUSTED, "attempts used up", folded=2),
    "only folded attempts, some left": Case([], State.RETRYING, "attempts left", folded=2),
    "at most once stops at an unknown result": Case(
        [UNKNOWN], State.UNCERTAIN, "result unknown and delivery is at most once",
        at_most_once=True,
    ),
    "at most once goes on after a failure": Case(
        [FAILED], State.RETRYING, "attempts left", at_most_once=True
    ),
    "at most once is content with a success": Case(
        [UNKNOWN, SUCCESS], State.DELIVERED, "success recorded", at_most_once=True
    ),
    "an order reopens a permanent failure": Case(
        [PERMANENT], State.RETRYING, "attempts left", ordered_after=1
    ),
    "an order reopens used-up attempts": Case(
        [FAILED] * 3, State.RETRYING, "attempts left", ordered_after=3
    ),
    "an order allows one attempt, not more": Case(
        [FAILED] * 4, State.EXHAUSTED, "attempts used up", ordered_after=3
    ),
    "an order before any attempt allows one": Case(
        [], State.PENDING, "no attempt yet", ordered_after=0
    ),
    "an order sets an unknown result aside": Case(
        [UNKNOWN], State.RETRYING, "attempts left", at_most_once=True, ordered_after=1
    ),
    "what something newer supersedes ends": Case(
        [FAILED, SUPERSEDED], State.SUPERSEDED, NEWER, at_most_once=True
    ),
    "a superseded channel may still turn out delivered": Case(
        [UNKNOWN, SUCCESS, SUPERSEDED], State.DELIVERED, "success recorded"
    ),
    "an order reopens what is superseded": Case(
        [SUPERSEDED], State.RETRYING, "attempts left", ordered_after=1
    ),
    "an order that its owner did not know yet is carried out too": Case(
        [FAILED, SUPERSEDED], State.RETRYING, "attempts left", ordered_after=1
    ),
    "an order does not reopen a delivered channel": Case(
        [SUCCESS], State.DELIVERED, "success recorded", ordered_after=1
    ),
}  # fmt: skip


def attempts_of(case: Case) -> list[Attempt]:
    """The attempts of a case."""
    out = []
    for n, what in enumerate(case.attempts, 1):
        state = what if isinstance(what, AttemptState) else FAILED
        failure = what if isinstance(what, FailureClass) else CLASS_OF.get(state)
        out.append(Attempt(AttemptId(f"0.7-{n}"), "slack:ops", state, failure=failure))
    return out


@pytest.mark.parametrize("case", CASES)
def test_channel_state(case: str) -> None:
    """The state of a channel follows from its attempts alone, with a reason."""
    wanted = CASES[case]
    attempts = attempts_of(wanted)
    before = (
        None if wanted.ordered_after is None
        else frozenset(a.id for a in attempts[: wanted.ordered_after])
    )  # fmt: skip
    found = state_of(
        "slack:ops",
        attempts,
        max_attempts=3,
        at_most_once=wanted.at_most_once,
        before_order=before,
        folded=wanted.folded,
        folded_unsent=wanted.folded_unsent,
    )
    assert (found.state, found.reason) == (wanted.state, wanted.reason)
    assert found.channel == "slack:ops"
    assert found.attempts == len(attempts) + wanted.folded
    assert found.last == (attempts[-1] if attempts else None)
