"""The breaker: what counts, when it opens, what may probe, when it closes."""

from __future__ import annotations

import asyncio

from prometheus_client import generate_latest

from notifier.app import Parts
from notifier.dispatch.breaker import (
    OPEN_FIRST,
    Breaker,
    Change,
    Evidence,
    Reject,
    State,
    refusal,
)
from notifier.process.gauges import refresh
from syncer.runtime.clock import monotonic_clock
from tests.fakes.outside import loaded_with, unreachable

UP, DOWN = Evidence.UP, Evidence.DOWN


def allowed(breaker: Breaker, now: float, *, first: bool = False) -> int:
    """A call that is allowed."""
    assert breaker.check(now, first=first) is None
    return breaker.begin()


def opened(at: float = 0.0) -> Breaker:
    """A breaker that opened at a time."""
    breaker = Breaker()
    for uid in ("a", "b", "c"):
        breaker.release(allowed(breaker, at), uid, DOWN, at)
    assert breaker.state(at) is State.OPEN
    return breaker


def probe(breaker: Breaker, now: float, *, first: bool = False) -> int:
    """Get a probe."""
    assert breaker.state(now) is State.HALF_OPEN
    return allowed(breaker, now, first=first)


def test_who_probed_in_vain_is_remembered() -> None:
    """The last of them, until one succeeds."""
    breaker = opened()
    assert breaker.suspect == ""
    for n in range(3):
        breaker.release(probe(breaker, n * 40 + 40), f"n{n}", DOWN, n * 40 + 40)
        assert breaker.suspect == f"n{n}"
    breaker.release(probe(breaker, 13000), "x", UP, 13000)
    assert breaker.suspect == ""


def test_a_first_attempt_leaves_the_probe_to_a_refused_one() -> None:
    """For a moment: whose back-off is as long as the breaker's wait comes right after its end."""
    breaker = opened()
    assert breaker.check(1, first=True) == Reject(1.5)
    assert breaker.check(1) is None
    probe(breaker, 1.1)
    breaker = opened()
    probe(breaker, 1.5, first=True)


def test_gauge_shows_the_clock_s_work() -> None:
    """What a scrape sees is the state of that moment, a half-open one included."""
    outside = unreachable()
    parts = Parts(loaded_with(), outside)

    def scraped(channel: str) -> float | None:
        asyncio.run(refresh(parts))
        name = "kubernaut_notification_channel_circuit_breaker_state"
        return outside.registry.get_sample_value(name, {"channel": channel})

    breaker = parts.breakers.of("slack:ops")
    assert scraped("slack:ops") == 0
    breaker.until = monotonic_clock() + 60
    assert scraped("slack:ops") == 2
    breaker.until = monotonic_clock() - 1
    assert scraped("slack:ops") == 1
    assert scraped("console") is None
    text = generate_latest(outside.registry).decode()
    assert "Circuit breaker of a receiver: 0 closed, 1 half-open, 2 open." in text


def test_a_mistake_opens_at_once_and_is_asked_for_by_one_call() -> None:
    """From 5 s to 5 min between calls; the first that is accepted lets all go."""
    breaker, now, waits = Breaker(), 0.0, []
    for _ in range(8):
        change = breaker.release(allowed(breaker, now), "a", Evidence.REFUSED, now)
        assert change == Change(State.OPEN, Evidence.REFUSED.value)
        rejection = breaker.check(now)
        assert rejection == Reject(breaker.until, refused=True)
        assert refusal("slack:ops", rejection).startswith("slack:ops refuses what an operator")
        assert rejection.until is not None
        waits.append(rejection.until - now)
        now = rejection.until
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    last = probe(breaker, now)
    assert breaker.check(now) == Reject(None, refused=True)
    assert breaker.release(last, "a", UP, now) == Change(
        State.CLOSED, "what was configured is accepted"
    )
    assert not breaker.refused


def test_a_receiver_that_is_down_is_no_mistake_any_more() -> None:
    """What it refuses last decides, with the waits of its own kind."""
    breaker = Breaker()
    breaker.release(allowed(breaker, 0.0), "a", Evidence.REFUSED, 0.0)
    breaker.release(probe(breaker, 5.0), "a", DOWN, 5.0)
    assert not breaker.refused
    assert breaker.until == 5.0 + OPEN_FIRST
