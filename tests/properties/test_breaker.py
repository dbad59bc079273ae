"""Laws of the breaker, over any course of events."""

from __future__ import annotations

import copy

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
    Allow,
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
        allowed = breaker.acquire(now)
        assert isinstance(allowed, Allow)
        change = breaker.release(allowed, uid, evidence, now)
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
    flying: list[tuple[Allow, str]] = []
    for step, uid, evidence, which, end, first, wish in events:
        now += step
        if end and flying:
            allowed, who = flying.pop(which % len(flying))
            before = breaker.state(now)
            change = breaker.release(allowed, who, evidence, now, retry_after=wish)
            check(change, before, allowed, evidence)
            if change is not None and change.state is State.OPEN:
                assert breaker.until is not None
                least, most = max(OPEN_FIRST, min(wish or 0, OPEN_MOST)), OPEN_MOST
                if breaker.refused:
                    least, most = REFUSED_FIRST, REFUSED_MOST
                assert least <= breaker.until - now <= most
            continue
        untouched = copy.deepcopy(breaker)
        answer = breaker.acquire(now, first=first)
        if isinstance(answer, Allow):
            flying.append((answer, uid))
            assert answer.probe == (breaker.state(now) is State.HALF_OPEN)
        else:
            assert breaker == untouched, "a refusal leaves no trace"
            assert breaker.state(now) is not State.CLOSED, "a closed breaker refuses nobody"
            assert answer.until is None or now < answer.until <= now + REFUSED_MOST
        current = [p for p, _ in flying if p.probe and p.generation == breaker.generation]
        assert len(current) <= 1
    for allowed, who in flying:
        breaker.release(allowed, who, Evidence.NONE, now)
    late = now + REFUSED_MOST + PATIENCE
    assert isinstance(breaker.acquire(late, first=True), Allow), "there is always a way out"


def check(change: Change | None, before: State, allowed: Allow, evidence: Evidence) -> None:
    """Judge one change of state."""
    if change is None:
        return
    if change.state is State.OPEN:
        assert evidence in {Evidence.DOWN, Evidence.REFUSED}
        assert before is (State.HALF_OPEN if allowed.probe else State.CLOSED)
    else:
        assert (change.state, evidence) == (State.CLOSED, Evidence.UP)
        assert allowed.probe
