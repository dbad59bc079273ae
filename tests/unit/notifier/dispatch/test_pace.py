"""The pace of a receiver: what an answer 429 means for everything that waits there."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from notifier.contract import Outcome
from notifier.dispatch.receiver_queue import (
    Pace,
)

OK = Outcome.success(200)


def refused(retry_after: float | None = None) -> Outcome:
    """Return what a call comes to that is one too many."""
    return Outcome.transient("slow down", code=429, retry_after=retry_after)


def test_the_operators_rate_holds_beside_it() -> None:
    """The longer interval counts; a call that was denied counts for neither."""
    pace = Pace(least=0.5)
    pace.on_call(100.0)
    assert pace.at == 100.5
    pace.interval = 2.0
    assert pace.at == 102.0
    pace.on_outcome(Outcome.denied("not yours"), 100.0, 100.0)
    assert pace.at < 100.0


def test_each_refusal_doubles_the_interval() -> None:
    """Up to a bound; what was called before an interval began says nothing about it."""
    pace, found = Pace(), []
    for began in range(8):
        for answered in (began + 0.5, began + 0.6):
            pace.on_outcome(refused(), began, answered)
        found.append(pace.interval)
    assert found == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 4.0, 4.0]


@dataclass
class Bucket:
    """A receiver that takes `rate` calls a second, and `burst` at once."""

    rate: float
    burst: float
    asks: float | None
    tokens: float = 0.0
    at: float = 0.0

    def call(self, now: float) -> Outcome:
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
