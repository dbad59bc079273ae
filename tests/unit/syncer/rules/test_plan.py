"""The plan: each decision with its reason, whatever woke us."""

from __future__ import annotations

import pytest

from syncer.model.record import NO_CHANNEL, Plan
from syncer.rules.channel_state import ChannelState, State
from syncer.rules.fold import LogView
from syncer.rules.plan import PAUSED, Decision, Deliver, Finish, Resolve, decide, hold_of

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


@pytest.mark.parametrize("channel", ["slack:a", NO_CHANNEL])
def test_what_is_requested_without_a_plan_is_routed_first(channel: str) -> None:
    """The status of what another controller has finished may no longer name what is sent again."""
    view = LogView(orders={channel: frozenset()})

    def next_one(*states: ChannelState, planned: bool) -> Decision:
        return decide(
            planned=planned, terminal=True, channel_states=states, ordered=view.ordered,
            executing=frozenset(), due={}, now=1.0,
        )  # fmt: skip

    shown = ChannelState("slack:a", State.PENDING)
    assert isinstance(next_one(planned=False), Resolve)
    assert isinstance(next_one(shown, planned=False), Deliver if channel == "slack:a" else Resolve)
    view.plan = Plan(("slack:a",), "r", "m", 0, "")
    wanted = next_one(shown, planned=True)
    assert isinstance(wanted, Deliver if channel == "slack:a" else Finish), wanted.reason
