"""The plan: each decision with its reason, whatever woke us."""

from __future__ import annotations

from typing import Any

import pytest

from notifier.delivery.plan import Await, Decision, Deliver, Finish, Resolve, WaitUntil, decide
from syncer.status.standing import Standing, State

BASE: dict[str, Any] = {
    "planned": True, "terminal": False, "standings": [], "executing": set(), "due": {},
    "now": 100.0,
}  # fmt: skip


def standings(**states: State) -> list[Standing]:
    """Channels by name with their states."""
    return [Standing(name, state) for name, state in states.items()]


CASES: dict[str, tuple[dict[str, Any], Decision]] = {
    "a final phase ends everything": (
        {"terminal": True, "planned": False, "standings": standings(a=State.PENDING)},
        Finish("the published phase is final"),
    ),
    "without a plan the channels are resolved first": (
        {"planned": False, "standings": standings(a=State.PENDING)}, Resolve("no plan on record"),
    ),
    "a plan without channels is finished": ({}, Finish("every channel is finished")),
    "all channels finished, each in its own way": (
        {
            "standings": standings(
                a=State.DELIVERED, b=State.FAILED, c=State.EXHAUSTED, d=State.UNCERTAIN
            )
        },
        Finish("every channel is finished"),
    ),
    "first attempts start at once, in the order of the plan": (
        {"standings": standings(b=State.PENDING, a=State.PENDING)},
        Deliver(("b", "a"), None, "2 channel(s) due"),
    ),
    "a channel that is due starts, the other is looked at later": (
        {
            "standings": standings(a=State.RETRYING, b=State.RETRYING),
            "due": {"a": 99.0, "b": 130.0},
        },
        Deliver(("a",), 130.0, "1 channel(s) due"),
    ),
    "due now is due": (
        {"standings": standings(a=State.RETRYING), "due": {"a": 100.0}},
        Deliver(("a",), None, "1 channel(s) due"),
    ),
    "a wake-up that comes too early waits for the first due time": (
        {
            "standings": standings(a=State.RETRYING, b=State.RETRYING),
            "due": {"a": 140.0, "b": 130.0},
        },
        WaitUntil(130.0, "next attempt not due yet"),
    ),
    "a due time holds for a channel that was never tried, too": (
        {"standings": standings(a=State.PENDING), "due": {"a": 101.0}},
        WaitUntil(101.0, "next attempt not due yet"),
    ),
    "the due time of a finished channel means nothing": (
        {"standings": standings(a=State.FAILED, b=State.PENDING), "due": {"a": 130.0}},
        Deliver(("b",), None, "1 channel(s) due"),
    ),
    "what is in our hands is not started twice": (
        {"standings": standings(a=State.RETRYING), "executing": {"a"}},
        Await("attempts under way"),
    ),
    "what is open in the log is not started either": (
        {"standings": standings(a=State.SENDING)}, Await("attempts under way"),
    ),
    "one on the wire, the other due": (
        {"standings": standings(a=State.SENDING, b=State.PENDING)},
        Deliver(("b",), None, "1 channel(s) due"),
    ),
    "one on the wire, the other not due": (
        {
            "standings": standings(a=State.SENDING, b=State.RETRYING), "due": {"b": 130.0},
        },
        WaitUntil(130.0, "next attempt not due yet"),
    ),
    "the due time of what is on the wire wakes nobody": (
        {"standings": standings(a=State.RETRYING), "executing": {"a"}, "due": {"a": 130.0}},
        Await("attempts under way"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_decision(case: str) -> None:
    """The decision follows from standings, hands and due times, with its reason."""
    changes, wanted = CASES[case]
    assert decide(**BASE | changes) == wanted


@pytest.mark.parametrize("case", CASES)
def test_deciding_twice(case: str) -> None:
    """A second look at the same things decides the same: a double wake-up is harmless."""
    changes, _ = CASES[case]
    assert decide(**BASE | changes) == decide(**BASE | changes)
