"""The pace of a receiver: what an answer 429 means for everything that waits there."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.contract import Outcome
from notifier.dispatch.pace import (
    INTERVAL_FIRST,
    INTERVAL_LEAST,
    INTERVAL_MOST,
    QUIET_LEAST,
    Pace,
)

OK = Outcome.success(200)


def refused(retry_after: float | None = None) -> Outcome:
    """Return what a call comes to that is one too many."""
    return Outcome.transient("slow down", code=429, retry_after=retry_after)


@pytest.mark.parametrize(
    ("asked", "quiet"),
    {
        "no time": (None, QUIET_LEAST),
        "less than a second": (0.0, QUIET_LEAST),
        "a while": (7.0, 7.0),
        "an hour": (3600.0, 30.0),
    }.values(),
    ids=["no time", "less than a second", "a while", "an hour"],
)
def test_nothing_is_called_before_the_time_that_is_asked_for(
    asked: float | None, quiet: float
) -> None:
    """It binds whatever waits, within bounds: one answer stops nothing for an hour."""
    pace = Pace()
    pace.on_call(100.0)
    pace.on_outcome(refused(asked), 100.0, 100.5)
    assert pace.at == 100.5 + quiet


def test_an_earlier_wish_shortens_no_later_one() -> None:
    """The answers to calls that were under way together come in any order."""
    pace = Pace()
    pace.on_outcome(refused(20.0), 100.0, 101.0)
    pace.on_outcome(refused(2.0), 100.0, 101.0)
    assert pace.at == 121.0


def test_calls_under_way_together_lengthen_the_interval_once() -> None:
    """A burst of refusals is one sign, not thirty."""
    pace = Pace()
    for n in range(30):
        pace.on_outcome(refused(), 100.0, 100.1 + n / 1000)
    assert pace.interval == INTERVAL_FIRST
    pace.on_outcome(refused(), 102.0, 102.1)
    assert pace.interval == 2 * INTERVAL_FIRST


def test_an_interval_has_an_end() -> None:
    """However long a receiver refuses, it is called every few seconds once it may be."""
    pace = Pace()
    for n in range(100):
        pace.on_outcome(refused(), 100.0 + n, 100.5 + n)
    assert pace.interval == INTERVAL_MOST


def test_what_is_accepted_shortens_it_to_nothing() -> None:
    """A receiver that takes what it gets is called at once again, after a number of calls."""
    pace = Pace()
    pace.on_outcome(refused(), 100.0, 100.1)
    calls = 0
    while pace.interval:
        calls += 1
        assert calls < 100
        assert pace.interval >= INTERVAL_LEAST
        pace.on_outcome(OK, 102.0 + calls, 102.1 + calls)
    assert calls > 10


def test_a_success_from_before_says_nothing_about_the_new_interval() -> None:
    """It was taken while more calls were under way."""
    pace = Pace()
    pace.on_outcome(refused(), 100.0, 100.5)
    pace.on_outcome(OK, 100.4, 100.6)
    assert pace.interval == INTERVAL_FIRST


@pytest.mark.parametrize("code", [408, 500, 503])
def test_other_refusals_change_nothing(code: int) -> None:
    """They are for the circuit breaker to judge."""
    pace = Pace()
    pace.on_outcome(Outcome.transient("busy", code=code, retry_after=20.0), 100.0, 100.5)
    assert (pace.interval, pace.at) == (0.0, float("-inf"))


def test_the_operators_rate_holds_beside_it() -> None:
    """The longer interval counts; a call that was denied counts for neither."""
    pace = Pace(least=0.5)
    pace.on_call(100.0)
    assert pace.at == 100.5
    pace.interval = 2.0
    assert pace.at == 102.0
    pace.on_unsent()
    assert pace.at < 100.0


def test_a_denied_call_ends_no_pause() -> None:
    """An author who may not use a receiver does not have it called sooner than it wants."""
    pace = Pace()
    pace.on_outcome(refused(10.0), 100.0, 100.5)
    pace.on_call(100.6)
    pace.on_unsent()
    assert pace.at == 110.5


@dataclass
class Bucket:
    """A receiver that takes `rate` calls a second, and `burst` at once."""

    rate: float
    burst: float
    asks: float | None
    tokens: float = 0.0
    at: float = 0.0

    def call(self, now: float) -> Outcome:
        """Answer a call."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return refused(self.asks)
        self.tokens -= 1
        return OK


@given(
    rate=st.floats(0.3, 40.0),
    burst=st.floats(1.0, 20.0),
    asks=st.none() | st.floats(0.0, 30.0),
    latency=st.floats(0.001, 0.5),
)
def test_of_what_is_called_most_is_taken(
    rate: float, burst: float, asks: float | None, latency: float
) -> None:
    """Whatever a receiver's limit is, a long queue before it costs few refusals for each message taken."""
    receiver, pace, now = Bucket(rate, burst, asks), Pace(), 1000.0
    receiver.tokens, receiver.at = burst, now
    under_way: list[tuple[float, float, Outcome]] = []
    taken = refusals = 0
    while taken < 400:
        # Thirty-two calls at once; answers come in the order of their calls.
        due = under_way[0][0] if under_way else float("inf")
        if len(under_way) < 32 and max(now, pace.at) < due:
            now = max(now, pace.at)
            pace.on_call(now)
            outcome = receiver.call(now)
            taken, refusals = taken + (outcome is OK), refusals + (outcome is not OK)
            under_way.append((now + latency, now, outcome))
        else:
            now, began, outcome = under_way.pop(0)
            pace.on_outcome(outcome, began, now)
    assert refusals < taken
