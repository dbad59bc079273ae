"""The breaker: what counts, when it opens, what may probe, when it closes."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import generate_latest

from notifier.app import App
from notifier.delivery.breaker import (
    OPEN_FOR,
    Breaker,
    Breakers,
    Change,
    Evidence,
    Permit,
    Postpone,
    State,
    evidence_of,
    refusal,
)
from notifier.delivery.outcome import Outcome
from notifier.settings import load
from syncer.runtime.clock import boot_clock

UP, DOWN, NONE = Evidence.UP, Evidence.DOWN, Evidence.NONE
THREE = "3 notifications failed and none succeeded"

OUTCOMES: dict[str, tuple[Outcome | None, Evidence]] = {
    "a success": (Outcome.success(200), UP),
    "a transient refusal": (Outcome.transient("slack webhook returned 503", code=503), DOWN),
    "an unreachable receiver": (Outcome.transient("slack webhook request failed: refused"), DOWN),
    "an unknown result": (Outcome.unknown("slack webhook request failed: timeout"), DOWN),
    "a final refusal": (Outcome.permanent("slack webhook returned 404", code=404), NONE),
    "a message that did not leave": (Outcome.not_sent("the lease would not cover it"), NONE),
    "an attempt that was not made": (None, NONE),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_evidence(case: str) -> None:
    """Only transient and unknown results speak against a receiver, only success for it."""
    outcome, expected = OUTCOMES[case]
    assert evidence_of(outcome) is expected


#: What happens, as (second, notification, evidence); what the last of it changes.
CLOSED: dict[str, tuple[list[tuple[float, str, Evidence]], Change | None]] = {
    "three notifications fail": (
        [(0, "a", DOWN), (1, "b", DOWN), (2, "c", DOWN)],
        Change(State.OPEN, THREE),
    ),
    "three fail at the same moment": (
        [(0, "a", DOWN), (0, "b", DOWN), (0, "c", DOWN)],
        Change(State.OPEN, THREE),
    ),
    "one notification fails again and again": ([(n, "a", DOWN) for n in range(9)], None),
    "two notifications take turns": (
        [(n, "ab"[n % 2], DOWN) for n in range(9)],
        None,
    ),
    "the first failure is as old as the window": (
        [(0, "a", DOWN), (1, "b", DOWN), (10, "c", DOWN)],
        Change(State.OPEN, THREE),
    ),
    "the first failure is older than the window": (
        [(0, "a", DOWN), (1, "b", DOWN), (10.1, "c", DOWN)],
        None,
    ),
    "a repeated failure counts at its last time": (
        [(0, "a", DOWN), (1, "b", DOWN), (9, "a", DOWN), (11, "c", DOWN)],
        Change(State.OPEN, THREE),
    ),
    "a success comes in between": (
        [(0, "a", DOWN), (1, "b", DOWN), (2, "x", UP), (3, "c", DOWN)],
        None,
    ),
    "something succeeded within the window": (
        [(0, "x", UP), (8, "a", DOWN), (9, "b", DOWN), (10, "c", DOWN)],
        None,
    ),
    "the last success is out of the window": (
        [(0, "x", UP), (8, "a", DOWN), (9, "b", DOWN), (10.1, "c", DOWN)],
        Change(State.OPEN, THREE),
    ),
    "final answers come in between": (
        [(0, "a", DOWN), (1, "x", NONE), (2, "b", DOWN), (3, "y", NONE), (4, "c", DOWN)],
        Change(State.OPEN, THREE),
    ),
    "only final answers come": ([(n, f"n{n}", NONE) for n in range(9)], None),
}


@pytest.mark.parametrize("case", CLOSED)
def test_closed(case: str) -> None:
    """It opens when three notifications failed within the window, in which nothing succeeded."""
    events, expected = CLOSED[case]
    breaker = Breaker()
    changes = []
    for now, uid, evidence in events:
        permit = breaker.ask(now, uid)
        assert permit == Permit(0, probe=False, reason="closed")
        changes.append(breaker.settle(permit, uid, evidence, now))
    assert changes[:-1] == [None] * (len(events) - 1)
    assert changes[-1] == expected


def opened(at: float = 0.0) -> Breaker:
    """Return a breaker that opened at a time."""
    breaker = Breaker()
    for uid in ("a", "b", "c"):
        permit = breaker.ask(at, uid)
        assert isinstance(permit, Permit)
        breaker.settle(permit, uid, DOWN, at)
    assert breaker.state(at) is State.OPEN
    return breaker


def probe(breaker: Breaker, now: float, uid: str) -> Permit:
    """Get a probe."""
    permit = breaker.ask(now, uid)
    assert isinstance(permit, Permit), permit
    assert permit.reason == "half-open: a probe"
    return permit


def test_open_refuses_until_its_time() -> None:
    """An open breaker names the time at which it may let probes through."""
    breaker = opened(100)
    assert breaker.ask(100, "d") == Postpone(100 + OPEN_FOR, "open")
    assert breaker.ask(129.9, "d") == Postpone(130, "open")
    assert breaker.state(130) is State.HALF_OPEN


def test_two_probes_and_no_more() -> None:
    """Half-open lets two calls through; the third waits for their end."""
    breaker = opened()
    probe(breaker, 30, "a")
    probe(breaker, 30, "b")
    assert breaker.ask(31, "c") == Postpone(None, "half-open, and its probes are under way")


def test_two_successes_close() -> None:
    """The second success closes it, not the first; the place of the first is not given again."""
    breaker = opened()
    first, second = probe(breaker, 30, "a"), probe(breaker, 30, "b")
    assert breaker.settle(first, "a", UP, 31) is None
    assert isinstance(breaker.ask(31, "c"), Postpone)
    assert breaker.settle(second, "b", UP, 32) == Change(State.CLOSED, "2 probes succeeded")
    assert breaker.ask(32, "c") == Permit(breaker.era, probe=False, reason="closed")


def test_a_burst_after_closing_is_no_outage() -> None:
    """The successes of the probes count: what fails right after them does not open it again."""
    breaker = opened()
    for uid in ("a", "b"):
        breaker.settle(probe(breaker, 30, uid), uid, UP, 30)
    for n in range(100):
        permit = breaker.ask(31, f"n{n}")
        assert isinstance(permit, Permit)
        assert breaker.settle(permit, f"n{n}", DOWN, 31) is None


def test_one_failure_opens_again() -> None:
    """A failed probe opens it for the whole time, even after a success of the other."""
    breaker = opened()
    first, second = probe(breaker, 30, "a"), probe(breaker, 30, "b")
    breaker.settle(first, "a", UP, 31)
    assert breaker.settle(second, "b", DOWN, 33) == Change(State.OPEN, "a probe failed")
    assert breaker.ask(34, "c") == Postpone(33 + OPEN_FOR, "open")
    assert breaker.suspects == {"a", "b"}


def test_a_probe_without_evidence_frees_its_place() -> None:
    """A final answer, or an attempt that was not made, lets another one probe."""
    breaker = opened()
    first, _ = probe(breaker, 30, "a"), probe(breaker, 30, "b")
    assert breaker.settle(first, "a", NONE, 31) is None
    probe(breaker, 31, "c")
    assert isinstance(breaker.ask(31, "d"), Postpone)


def test_latecomers_are_no_evidence() -> None:
    """What began before the last change says nothing of the state after it."""
    breaker = Breaker()
    permits = {}
    for uid in ("a", "b", "c", "late", "later"):
        permits[uid] = breaker.ask(0, uid)
    for uid in ("a", "b", "c"):
        permit = permits[uid]
        assert isinstance(permit, Permit)
        breaker.settle(permit, uid, DOWN, 1)
    late, later = permits["late"], permits["later"]
    assert isinstance(late, Permit)
    assert isinstance(later, Permit)
    assert breaker.settle(late, "late", UP, 2) is None
    assert breaker.state(2) is State.OPEN
    probing = probe(breaker, 31, "a")
    assert breaker.settle(later, "later", DOWN, 32) is None
    assert breaker.state(32) is State.HALF_OPEN
    assert breaker.settle(probing, "a", UP, 33) is None


def test_one_breaker_per_receiver() -> None:
    """Receivers of one kind do not share a breaker, and local channels have none."""
    breakers = Breakers()
    slack = breakers.of("slack:ops")
    assert slack is not None
    assert slack is breakers.of("slack:ops")
    assert slack is not breakers.of("slack:dev")
    assert [breakers.of(name) for name in ("console", "file", "log", "file:audit")] == [None] * 4
    assert breakers.states(0) == {"slack:ops": State.CLOSED, "slack:dev": State.CLOSED}


def test_gauge_values() -> None:
    """The numbers of the states are those that the metric's help text explains."""
    assert [int(s) for s in (State.CLOSED, State.HALF_OPEN, State.OPEN)] == [0, 1, 2]


def test_gauge_shows_the_clock_s_work(tmp_path: Path) -> None:
    """What a scrape sees is the state of that moment, a half-open one included."""
    file = tmp_path / "config.yaml"
    file.write_text("redis: {url: redis://127.0.0.1:1/0}\n", encoding="utf-8")
    app = App(load(file, {"KUBERNAUT_CONTROLLER_NAMESPACE": "alerts"}))

    def scraped(channel: str) -> float | None:
        app._refresh()
        name = "kubernaut_notification_channel_circuit_breaker_state"
        return app.registry.get_sample_value(name, {"channel": channel})

    breaker = app.breakers.of("slack:ops")
    assert breaker is not None
    assert scraped("slack:ops") == 0
    breaker.until = boot_clock() + 60
    assert scraped("slack:ops") == 2
    breaker.until = boot_clock() - 1
    assert scraped("slack:ops") == 1
    assert scraped("console") is None
    text = generate_latest(app.registry).decode()
    assert "Circuit breaker of a receiver: 0 closed, 1 half-open, 2 open." in text


def test_text() -> None:
    """The refusal is worded as it always was, with the channel's kind."""
    assert refusal("slack:ops") == (
        "slack circuit breaker is open (too many failures, preventing cascading failures)"
    )
