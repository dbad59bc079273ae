"""Which entries need a check: the rule by example, and what holds for every state."""

from __future__ import annotations

import math
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.rules.resync import Bounds, Check, Reason, reason_of

NOW: Final = 1000.0
BOUNDS: Final = Bounds(period=10.0, blocked=30.0, stale=600.0)
#: Looked at 20 s ago, wanted again in 100 s, one channel in somebody's hands.
WAITS: Final = Check(at=NOW - 20, by=NOW + 100, version="7", position=3, channels=("c",))
IN_ORDER: Final[dict[str, Any]] = {
    "deleted": False, "blocked": False, "claimed": True, "unread": False, "version": "7",
    "position": 3, "idle": False,
}  # fmt: skip

CASES: Final[dict[str, tuple[Check | None, dict[str, Any], Reason | None]]] = {
    "what waits for its time is left alone": (WAITS, {}, None),
    "what only an event ends is left alone": (Check(NOW - 20, math.inf, "7", 3), {}, None),
    "what is gone is let go, however young the check": (
        Check(NOW, math.inf, "7", 3), {"deleted": True}, Reason.DELETED,
    ),
    "what is gone is let go although its log cannot be read": (
        WAITS, {"deleted": True, "blocked": True}, Reason.DELETED,
    ),
    "what is not claimed is claimed": (WAITS, {"claimed": False}, Reason.UNCLAIMED),
    "what was never checked and is not claimed is claimed": (
        None, {"claimed": False}, Reason.UNCLAIMED,
    ),
    "a log that cannot be read is left alone for a while": (
        WAITS, {"blocked": True, "claimed": False}, None,
    ),
    "a log that cannot be read is tried again": (
        Check(NOW - 30, math.inf, "7", 3), {"blocked": True, "claimed": False}, Reason.BLOCKED,
    ),
    "one of which that was learnt since the last check is checked": (
        None, {"blocked": True, "claimed": False}, Reason.BLOCKED,
    ),
    "records of others are taken up": (WAITS, {"unread": True}, Reason.UNREAD),
    "a check without a decision is repeated": (None, {}, Reason.UNDECIDED),
    "what has come due is checked": (Check(NOW - 20, NOW, "7", 3), {}, Reason.DUE),
    "what is in no attempt or queue any more is checked": (WAITS, {"idle": True}, Reason.DUE),
    "a change that no watch has told is checked": (WAITS, {"version": "8"}, Reason.CHANGED),
    "records that were learnt without a check are checked": (
        WAITS, {"position": 4}, Reason.CHANGED,
    ),
    "nothing goes without a check for ever": (
        Check(NOW - 600, math.inf, "7", 3), {}, Reason.STALE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_rule_by_example(case: str) -> None:
    """Each reason, where it applies and where it does not."""
    last_check, changed, reason = CASES[case]
    assert reason_of(last_check, **{**IN_ORDER, **changed}, now=NOW, bounds=BOUNDS) is reason


def test_only_what_is_known_not_to_be_due_may_be_put_off() -> None:
    """A round has a bound for what can be deferred, and none for the rest."""
    assert {r for r in Reason if r.deferrable} == {Reason.BLOCKED, Reason.STALE}


LOOKS: Final = st.none() | st.builds(
    Check,
    at=st.floats(0, NOW),
    by=st.floats(0, 2 * NOW) | st.just(math.inf),
    version=st.sampled_from("78"),
    position=st.integers(3, 4),
    channels=st.just(()),
)
STATES: Final = st.fixed_dictionaries(
    {
        "deleted": st.booleans(), "blocked": st.booleans(), "claimed": st.booleans(),
        "unread": st.booleans(), "version": st.sampled_from("78"),
        "position": st.integers(3, 4), "idle": st.booleans(),
    }
)  # fmt: skip


@given(LOOKS, STATES)
def test_nothing_is_left_out_for_ever(last_check: Check | None, state: dict[str, Any]) -> None:
    """Whatever the state is, it needs a check by the time that the longest bound is over."""
    later = NOW + BOUNDS.stale
    assert reason_of(last_check, **state, now=later, bounds=BOUNDS) is not None


@given(LOOKS, STATES)
def test_what_is_due_is_never_put_off(last_check: Check | None, state: dict[str, Any]) -> None:
    """Without a known cause, whatever is due, unclaimed or undecided has a reason of its own."""
    reason = reason_of(last_check, **state, now=NOW, bounds=BOUNDS)
    if state["blocked"] and not state["deleted"]:
        assert reason in (None, Reason.BLOCKED)
    elif (
        state["deleted"]
        or not state["claimed"]
        or state["unread"]
        or state["idle"]
        or last_check is None
        or last_check.by <= NOW
        or (last_check.version, last_check.position) != (state["version"], state["position"])
    ):
        assert reason is not None
        assert not reason.deferrable
    else:
        assert reason in (None, Reason.STALE)


@given(LOOKS, STATES)
def test_a_check_that_decides_is_enough(last_check: Check | None, state: dict[str, Any]) -> None:
    """After a check that finds everything in order the entry is left alone until its time."""
    seen = {"version": state["version"], "position": state["position"]}
    fresh = Check(at=NOW, by=NOW + 1, **seen)
    settled = {**IN_ORDER, **seen}
    assert reason_of(fresh, **settled, now=NOW, bounds=BOUNDS) is None
    assert reason_of(fresh, **settled, now=NOW + 1, bounds=BOUNDS) is Reason.DUE


def test_the_bounds_without_settings() -> None:
    """A lost wake-up delays what is due by ten seconds at most, and others by what is documented."""
    assert Bounds() == Bounds(period=10.0, blocked=30.0, stale=600.0)
