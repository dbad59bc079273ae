"""Laws of the breaker, over any course of events."""

from __future__ import annotations

import copy
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from notifier.dispatch.breaker import (
    FAILURES,
    OPEN_FIRST,
    OPEN_MOST,
    PATIENCE,
    REFUSED_FIRST,
    REFUSED_MOST,
    WINDOW,
    Breaker,
    Change,
    Evidence,
    State,
)

UIDS = st.sampled_from("abcdef")
#: Steps on a grid, so that times meet the window's edge exactly.
STEPS = st.sampled_from([0.0, 0.5, 1.0, 3.0, 5.0, 10.0, 15.0, 30.0])
EVENTS = st.lists(
    st.tuples(STEPS, UIDS, st.sampled_from([*Evidence, Evidence.DOWN, Evidence.DOWN])),
    max_size=40,
)
#: As events, with the number of another call that ends first, of those under way.
RACES = st.lists(
    st.tuples(
        STEPS,
        UIDS,
        st.sampled_from(list(Evidence)),
        st.integers(0, 7),
        st.booleans(),
        st.booleans(),
        st.sampled_from([None, 0.5, 3.0, 45.0]),
    ),
    max_size=60,
)


@given(EVENTS)
def test_opens_exactly_by_its_rule(events: list[tuple[float, str, Evidence]]) -> None:
    """While closed it opens exactly if the whole history, looked at anew, asks for it."""
    breaker = Breaker()
    now = 0.0
    history: list[tuple[float, str, Evidence]] = []
    for step, uid, evidence in events:
        now += step
        assert breaker.check(now) is None
        change = breaker.release(breaker.begin(), uid, evidence, now)
        history.append((now, uid, evidence))
        recent = [e for e in history if now - e[0] <= WINDOW]
        failed = {u for _, u, e in recent if e is Evidence.DOWN}
        succeeded = any(e is Evidence.UP for _, _, e in recent)
        down = evidence is Evidence.DOWN and len(failed) >= FAILURES and not succeeded
        must_open = down or evidence is Evidence.REFUSED
        assert (change is not None) == must_open
        if change is not None:
            assert change.state is State.OPEN
            return


class Call(NamedTuple):
    """A call under way: of which generation and whom, and whether it is a probe, and a first attempt."""

    generation: int
    uid: str
    probe: bool
    first: bool


@given(RACES)
def test_any_course(
    events: list[tuple[float, str, Evidence, int, bool, bool, float | None]],
) -> None:
    """
    Over calls that overlap: bounded probes, refusals without a trace, a way out of every state.

    It opens only on a failure, for no less than a second and no less than the receiver asked for;
    it closes only by the success of a probe, and never has more than one probe under way. Whatever
    has happened, it lets a call through once the open time has passed and the calls under way have
    ended.
    """
    breaker = Breaker()
    now = 0.0
    flying: list[Call] = []
    for step, uid, evidence, which, end, first, wish in events:
        now += step
        if end and flying:
            call = flying.pop(which % len(flying))
            before = breaker.state(now)
            change = breaker.release(
                call.generation, call.uid, evidence, now, first=call.first, retry_after=wish
            )
            check(change, before, call, evidence)
            if change is not None and change.state is State.OPEN:
                assert breaker.until is not None
                least, most = max(OPEN_FIRST, min(wish or 0, OPEN_MOST)), OPEN_MOST
                if breaker.refused:
                    least, most = REFUSED_FIRST, REFUSED_MOST
                assert least <= breaker.until - now <= most
            continue
        untouched = copy.deepcopy(breaker)
        answer = breaker.check(now, first=first)
        assert breaker == untouched, "a question leaves no trace"
        if answer is None:
            probe = breaker.state(now) is State.HALF_OPEN
            flying.append(Call(breaker.begin(), uid, probe, first))
        else:
            assert breaker.state(now) is not State.CLOSED, "a closed breaker refuses nobody"
            assert answer.until is None or now < answer.until <= now + REFUSED_MOST
        current = [p for p in flying if p.probe and p.generation == breaker.generation]
        assert len(current) <= 1
    for call in flying:
        breaker.release(call.generation, call.uid, Evidence.NONE, now, first=call.first)
    late = now + REFUSED_MOST + PATIENCE
    assert breaker.check(late, first=True) is None, "there is always a way out"


def check(change: Change | None, before: State, call: Call, evidence: Evidence) -> None:
    """Judge one change of state."""
    if change is None:
        return
    if change.state is State.OPEN:
        assert evidence in {Evidence.DOWN, Evidence.REFUSED}
        assert before is (State.HALF_OPEN if call.probe else State.CLOSED)
    else:
        assert (change.state, evidence) == (State.CLOSED, Evidence.UP)
        assert call.probe
