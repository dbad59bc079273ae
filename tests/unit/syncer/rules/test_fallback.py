"""When a fallback is used, when it stands by, and what holds it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.record import Fallback, Plan, plan_record, read_plan
from syncer.model.resource import RetryPolicy, Status
from syncer.rules.channel_state import ChannelState, State
from syncer.rules.fallback import held_along, opening
from syncer.rules.fold import LogView
from syncer.rules.holds import Held
from syncer.rules.merge import Facts, channel_states_of
from syncer.rules.plan import Await, Deliver, Finish, WaitUntil, decide

_, UNKNOWN, FAILED, SUCCESS = AttemptState
PERMANENT, SUPERSEDED = FailureClass.PERMANENT, FailureClass.SUPERSEDED
AT = 1_000_000
#: b stands by for a, and may be used a minute later in any case.
PLAN = Plan(("a", "b"), at=AT, fallbacks=(Fallback("b", ("a",), 60_000),))
#: b stands by for a, and longer for c.
BOTH = Plan(
    ("a", "c", "b"), at=AT, fallbacks=(Fallback("b", ("a",), 60_000), Fallback("b", ("c",)))
)
FACTS = Facts(1, RetryPolicy(max_attempts=2))


def made(text: str) -> list[Attempt]:
    """Attempts such as `a! a. b+`: refused for good, failed, arrived; `~` superseded, `?` unknown."""
    found = []
    for n, word in enumerate(text.split()):
        channel, mark = word[0], word[1]
        state = {"+": SUCCESS, "?": UNKNOWN}.get(mark, FAILED)
        classes = {"!": PERMANENT, "~": SUPERSEDED, ".": FailureClass.TRANSIENT}
        name = AttemptId(f"0.1-{n}")
        found.append(Attempt(name, channel, state, AT, AT + 1, failure=classes.get(mark)))
    return found


def seen(
    text: str, plan: Plan = PLAN, ordered: str = "", before: str = "", in_hand: str = ""
) -> list[ChannelState]:
    """The states of a plan's channels; `before` are the attempts before a request to send again."""
    view = LogView(plan=plan, attempts={a.id: a for a in made(text)})
    for channel in ordered:
        known = made(before)
        view.orders[channel] = frozenset(a.id for a in known if a.channel == channel)
    facts = replace(FACTS, in_hand={AttemptId(f"0.2-{c}"): c for c in in_hand})
    return list(channel_states_of(view, Status(), facts))


@dataclass(frozen=True)
class Case:
    """Attempts, and the states that follow; what was there before an order, and what is on its way."""

    attempts: str
    states: str
    plan: Plan = PLAN
    ordered: str = ""
    before: str = ""
    in_hand: str = ""


CASES = {
    "nothing was sent yet": Case("", "Pending Standby"),
    "what it is for may still arrive": Case("a.", "Retrying Standby"),
    "it has arrived": Case("a+", "Delivered NotNeeded"),
    "it is refused for good": Case("a!", "Failed Pending"),
    "its attempts are used up": Case("a. a.", "Exhausted Pending"),
    "it is superseded": Case("a~", "Superseded NotNeeded"),
    "the fallback, used for the time, goes on": Case("a. b.", "Retrying Retrying"),
    "the fallback, used for the time, gives way": Case("a. b. a+", "Delivered NotNeeded"),
    "the fallback, used for the time, is being sent to again": Case(
        "a. b. a+", "Delivered Retrying", in_hand="b"
    ),
    "the fallback has arrived, which ends nothing else": Case("a. b+", "Retrying Delivered"),
    "both have arrived": Case("b+ a+", "Delivered Delivered"),
    "neither has": Case("a! b!", "Failed Failed"),
    "the fallback is superseded": Case("a! b~", "Failed Superseded"),
    "of two one has arrived": Case("a+", "Delivered Pending Standby", BOTH),
    "of two one has failed": Case("a+ c!", "Delivered Failed Pending", BOTH),
    "of two both have arrived": Case("a+ c+", "Delivered Delivered NotNeeded", BOTH),
    "what is sent again in vain needs no fallback": Case(
        "a~ a.", "Exhausted NotNeeded", ordered="a", before="a~"
    ),
    "what is sent again needs it for what was before": Case(
        "a. a.", "Retrying Pending", ordered="a", before="a. a."
    ),
    "what is sent again before it has ended, in vain, needs it": Case(
        "a. a.", "Exhausted Pending", ordered="a", before="a."
    ),
    "what is sent again before it has ended may still arrive": Case(
        "a.", "Retrying Standby", ordered="a", before="a."
    ),
    "the fallback is asked for": Case("a+", "Delivered Pending", ordered="b"),
    "the fallback was asked for, in vain": Case("a+ b.", "Delivered NotNeeded", ordered="b"),
}


@pytest.mark.parametrize("case", CASES)
def test_states(case: str) -> None:
    """A fallback is needed once something has ended in vain, and not once all has arrived."""
    wanted = CASES[case]
    found = seen(wanted.attempts, wanted.plan, wanted.ordered, wanted.before, wanted.in_hand)
    assert [s.state.value for s in found] == wanted.states.split()


OPENINGS: dict[str, tuple[str, Plan, int, dict[str, int]]] = {
    "the rest of the time": ("a.", PLAN, AT + 20_000, {"b": 40_000}),
    "the time is over": ("", PLAN, AT + 90_000, {"b": 0}),
    "a clock that was set back": ("", PLAN, AT - 90_000, {"b": 60_000}),
    "it has been used": ("b.", PLAN, AT, {}),
    "it is needed anyway": ("a!", PLAN, AT, {}),
    "what the shorter time is for has arrived": ("a+", BOTH, AT, {"b": 600_000}),
    "what the longer time is for has arrived": ("c+", BOTH, AT, {"b": 60_000}),
    "the shorter of two times": ("", BOTH, AT, {"b": 60_000}),
}


@pytest.mark.parametrize("case", OPENINGS)
def test_from_when_on(case: str) -> None:
    """The time counts from the plan, while it stands by and what the time is for is under way."""
    attempts, plan, now, wanted = OPENINGS[case]
    assert opening(plan, seen(attempts, plan), now) == wanted


def held(*, dropped: bool = False) -> Held:
    """A hold."""
    return Held("dropped" if dropped else "held", 9.0, 0, dropped)


HELD: dict[str, tuple[str, dict[str, Held], str]] = {
    "nothing": ("a!", {}, ""),
    "the fallback alone": ("a! c!", {"b": held()}, "held"),
    "all that needs it": ("a! c+", {"a": held(dropped=True)}, "dropped"),
    "one of two that need it": ("a! c!", {"a": held(dropped=True)}, ""),
    "one dropped, the other only held": ("a! c.", {"a": held(dropped=True), "c": held()}, "held"),
}


@pytest.mark.parametrize("case", HELD)
def test_what_holds_it(case: str) -> None:
    """It is held where all that needs it is, so that no flood goes on to it."""
    attempts, holds, wanted = HELD[case]
    found = held_along(BOTH, seen(attempts, BOTH), holds)
    assert (found["b"].reason if "b" in found else "") == wanted
    assert holds.items() <= found.items()


@pytest.mark.parametrize(
    ("attempts", "opens", "due", "decision"),
    [
        ("", {}, {}, Deliver(("a",), None, "1 channel(s) due")),
        ("a.", {}, {"a": 20.0}, WaitUntil(20.0, "next attempt not due yet")),
        ("a.", {"b": 15.0}, {"a": 20.0}, WaitUntil(15.0, "next attempt not due yet")),
        ("a.", {"b": 10.0}, {"a": 20.0}, Deliver(("b",), 20.0, "1 channel(s) due")),
        ("a!", {}, {}, Deliver(("b",), None, "1 channel(s) due")),
        ("a+", {}, {}, Finish("every channel is finished")),
    ],
)
def test_decisions_at_second_ten(
    attempts: str, opens: dict[str, float], due: dict[str, float], decision: object
) -> None:
    """It is sent to when it is needed or its time has come, and never for the time of another."""
    found = decide(
        planned=True, terminal=False, channel_states=seen(attempts), executing=frozenset(), due=due,
        now=10.0, opens=opens,
    )  # fmt: skip
    assert found == decision


def test_a_fallback_waits_while_the_other_is_being_sent_to() -> None:
    """What comes of that decides."""
    sending = [ChannelState("a", State.SENDING), ChannelState("b", State.STANDBY)]
    assert isinstance(
        decide(
            planned=True, terminal=False, channel_states=sending, executing={"a"}, due={}, now=1.0
        ),
        Await,
    )


def test_it_is_frozen_with_the_plan() -> None:
    """What a plan says of fallbacks comes back from its record, blanks in names included."""
    plan = Plan(("slack:on call", "c", "b"), fallbacks=(Fallback("b", ("slack:on call", "c"), 5),))
    assert read_plan(plan_record(plan)) == plan
    assert plan.first == ("slack:on call", "c")
