"""The plan: each decision with its reason, whatever woke us."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.rules.channel_state import ChannelState, State
from syncer.rules.holds import Held
from syncer.rules.plan import (
    PAUSED,
    Await,
    Decision,
    Deliver,
    Finish,
    GiveUp,
    Resolve,
    WaitUntil,
    Withhold,
    decide,
    hold_of,
    stale_of,
    withheld,
)

BASE: dict[str, Any] = {
    "planned": True, "terminal": False, "channel_states": [], "executing": set(), "due": {},
    "now": 100.0,
}  # fmt: skip


def channel_states(**states: State) -> list[ChannelState]:
    """Channels by name with their states."""
    return [ChannelState(name, state) for name, state in states.items()]


HELD: dict[str, Held] = {"a": Held("held: a", 500.0, 0), "c": Held("held: c", 400.0, 0)}

CASES: dict[str, tuple[dict[str, Any], Decision]] = {
    "a final phase ends everything": (
        {"terminal": True, "planned": False, "channel_states": channel_states(a=State.PENDING)},
        Finish("the published phase is final"),
    ),
    "without a plan the channels are resolved first": (
        {"planned": False, "channel_states": channel_states(a=State.PENDING)}, Resolve("no plan on record"),
    ),
    "a plan without channels is finished": ({}, Finish("every channel is finished")),
    "all channels finished, each in its own way": (
        {
            "channel_states": channel_states(
                a=State.DELIVERED, b=State.FAILED, c=State.EXHAUSTED, d=State.UNCERTAIN
            )
        },
        Finish("every channel is finished"),
    ),
    "first attempts start at once, in the order of the plan": (
        {"channel_states": channel_states(b=State.PENDING, a=State.PENDING)},
        Deliver(("b", "a"), None, "2 channel(s) due"),
    ),
    "a channel that is due starts, the other is looked at later": (
        {
            "channel_states": channel_states(a=State.RETRYING, b=State.RETRYING),
            "due": {"a": 99.0, "b": 130.0},
        },
        Deliver(("a",), 130.0, "1 channel(s) due"),
    ),
    "due now is due": (
        {"channel_states": channel_states(a=State.RETRYING), "due": {"a": 100.0}},
        Deliver(("a",), None, "1 channel(s) due"),
    ),
    "a wake-up that comes too early waits for the first due time": (
        {
            "channel_states": channel_states(a=State.RETRYING, b=State.RETRYING),
            "due": {"a": 140.0, "b": 130.0},
        },
        WaitUntil(130.0, "next attempt not due yet"),
    ),
    "a due time holds for a channel that was never tried, too": (
        {"channel_states": channel_states(a=State.PENDING), "due": {"a": 101.0}},
        WaitUntil(101.0, "next attempt not due yet"),
    ),
    "the due time of a finished channel means nothing": (
        {"channel_states": channel_states(a=State.FAILED, b=State.PENDING), "due": {"a": 130.0}},
        Deliver(("b",), None, "1 channel(s) due"),
    ),
    "what is in our hands is not started twice": (
        {"channel_states": channel_states(a=State.RETRYING), "executing": {"a"}},
        Await("attempts under way"),
    ),
    "what is open in the log is not started either": (
        {"channel_states": channel_states(a=State.SENDING)}, Await("attempts under way"),
    ),
    "one on the wire, the other due": (
        {"channel_states": channel_states(a=State.SENDING, b=State.PENDING)},
        Deliver(("b",), None, "1 channel(s) due"),
    ),
    "one on the wire, the other not due": (
        {
            "channel_states": channel_states(a=State.SENDING, b=State.RETRYING), "due": {"b": 130.0},
        },
        WaitUntil(130.0, "next attempt not due yet"),
    ),
    "what is due and held back is not started": (
        {
            "channel_states": channel_states(a=State.PENDING, b=State.RETRYING),
            "due": {"b": 130.0}, "held": "held",
        },
        Withhold(("a",), 130.0, "held"),
    ),
    "holding back changes nothing for what is not due": (
        {"channel_states": channel_states(a=State.RETRYING), "due": {"a": 130.0}, "held": "held"},
        WaitUntil(130.0, "next attempt not due yet"),
    ),
    "holding back does not keep the channels from being resolved": (
        {"planned": False, "held": "held"}, Resolve("no plan on record"),
    ),
    "what is held back and finished is finished": (
        {"channel_states": channel_states(a=State.DELIVERED), "held": "held"},
        Finish("every channel is finished"),
    ),
    "what is too old is given up when it is due": (
        {
            "channel_states": channel_states(a=State.PENDING, b=State.RETRYING),
            "due": {"b": 130.0}, "stale": "old",
        },
        GiveUp(("a",), 130.0, "old"),
    ),
    "what is held back is not given up meanwhile": (
        {"channel_states": channel_states(a=State.PENDING), "held": "held", "stale": "old"},
        Withhold(("a",), None, "held"),
    ),
    "an order goes beyond a final phase, for its channel alone": (
        {
            "terminal": True, "ordered": {"a"},
            "channel_states": channel_states(a=State.RETRYING, b=State.RETRYING),
        },
        Deliver(("a",), None, "1 channel(s) due"),
    ),
    "an order goes beyond a final phase without a plan on record": (
        {
            "terminal": True, "planned": False, "ordered": {"a"},
            "channel_states": channel_states(a=State.RETRYING),
        },
        Deliver(("a",), None, "1 channel(s) due"),
    ),
    "an order for a channel that was delivered ends nothing": (
        {"terminal": True, "ordered": {"a"}, "channel_states": channel_states(a=State.DELIVERED)},
        Finish("the published phase is final"),
    ),
    "an order is carried out however old the notification is": (
        {
            "terminal": True, "ordered": {"a"}, "channel_states": channel_states(a=State.RETRYING),
            "stale": "old",
        },
        Deliver(("a",), None, "1 channel(s) due"),
    ),
    "an order is held back like anything else": (
        {
            "terminal": True, "ordered": {"a"}, "channel_states": channel_states(a=State.RETRYING),
            "held": "held",
        },
        Withhold(("a",), None, "held"),
    ),
    "the due time of what is on the wire wakes nobody": (
        {"channel_states": channel_states(a=State.RETRYING), "executing": {"a"}, "due": {"a": 130.0}},
        Await("attempts under way"),
    ),
    "a hold keeps its channel back, the others go; the end of the hold is looked at": (
        {"channel_states": channel_states(a=State.PENDING, b=State.PENDING), "holds": HELD},
        Deliver(("b",), 500.0, "1 channel(s) due", (("a", "held: a"),)),
    ),
    "holds keep everything back, each for its own reason, until the first ends": (
        {"channel_states": channel_states(a=State.RETRYING, c=State.PENDING), "holds": HELD},
        Withhold(
            ("a", "c"), 400.0, "held: a; held: c", (("a", "held: a"), ("c", "held: c"))
        ),
    ),
    "a due time before the end of a hold is looked at first": (
        {
            "channel_states": channel_states(a=State.PENDING, b=State.RETRYING), "holds": HELD,
            "due": {"b": 130.0},
        },
        Withhold(("a",), 130.0, "held: a", (("a", "held: a"),)),
    ),
    "what is held and not due yet waits for its time": (
        {"channel_states": channel_states(a=State.RETRYING), "holds": HELD, "due": {"a": 130.0}},
        WaitUntil(130.0, "next attempt not due yet"),
    ),
    "a hold wins over the age, which ends only what is not held": (
        {
            "channel_states": channel_states(a=State.PENDING, b=State.PENDING), "holds": HELD,
            "stale": "old",
        },
        GiveUp(("b",), 500.0, "old"),
    ),
    "a hold keeps back what an operator wants resent": (
        {
            "channel_states": channel_states(a=State.PENDING), "holds": HELD, "terminal": True,
            "ordered": {"a"},
        },
        Withhold(("a",), 500.0, "held: a", (("a", "held: a"),)),
    ),
    "what holds everything takes precedence over single holds": (
        {
            "channel_states": channel_states(a=State.PENDING, b=State.PENDING), "holds": HELD,
            "held": "paused",
        },
        Withhold(("a", "b"), None, "paused"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_decision(case: str) -> None:
    """The decision follows from channel states, attempts under way and due times, with its reason."""
    changes, wanted = CASES[case]
    assert decide(**BASE | changes) == wanted


@pytest.mark.parametrize("case", CASES)
def test_deciding_twice(case: str) -> None:
    """A second look at the same things decides the same: a double wake-up is harmless."""
    changes, _ = CASES[case]
    assert decide(**BASE | changes) == decide(**BASE | changes)


HOLDS: dict[str, tuple[str | None, bool, str]] = {
    "nothing is said": (None, False, ""),
    "paused for all": (None, True, PAUSED),
    "the annotation says true": ("true", False, "held: the annotation notification-ledger/hold is set"),
    "an empty annotation holds as well": (
        "", False, "held: the annotation notification-ledger/hold is set",
    ),
    "the annotation says no": (" False ", False, ""),
    "the annotation says no, but all are paused": ("false", True, PAUSED),
    "the annotation says why, on one line, bounded, and without what a terminal obeys": (
        "change\n42\x1b[2J " + "x" * 200, True,
        "held: the annotation notification-ledger/hold says: change 42 [2J " + "x" * 86,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOLDS)
def test_hold(case: str) -> None:
    """The annotation holds one object back, the switch all; the annotation's reason is told first."""
    annotation, paused, wanted = HOLDS[case]
    assert hold_of(annotation, paused=paused) == wanted


@pytest.mark.parametrize(
    ("created", "now", "max_age", "wanted"),
    [
        (1_000, 61_000, 60.0, ""),
        (1_000, 61_001, 60.0, "not sent: older than delivery.maxAge (1m0s)"),
        (1_000, 10**12, 0.0, ""),
        (0, 10**12, 60.0, ""),
        (70_000, 1_000, 60.0, ""),
    ],
)
def test_age(created: int, now: int, max_age: float, wanted: str) -> None:
    """Older than the limit is too old; no limit, no known age and a clock that is behind are not."""
    assert stale_of(created, now, max_age) == wanted


def test_what_a_decision_holds_back() -> None:
    """Each channel with its own reason, or with that of all; nothing where all go or none is due."""
    own = (("a", "x"), ("b", "y"))
    assert withheld(Withhold(("a", "b"), None, "x; y", own)) == own
    assert withheld(Withhold(("a", "b"), None, "z")) == (("a", "z"), ("b", "z"))
    assert withheld(Deliver(("c",), None, "", own)) == own
    assert withheld(Deliver(("c",), None, "")) == ()
    assert withheld(GiveUp(("a",), None, "old")) == ()
