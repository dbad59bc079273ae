"""The breaker: what counts, when it opens, what may probe, when it closes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from notifier.app import Parts
from notifier.contract import Outcome
from notifier.dispatch.breaker import (
    OPEN_FIRST,
    OPEN_MOST,
    Allow,
    Breaker,
    Breakers,
    Change,
    Evidence,
    Reject,
    State,
    evidence_of,
    refusal,
)
from notifier.process.gauges import refresh
from notifier.settings import load
from syncer.model.attempt import FailureClass
from syncer.runtime.clock import monotonic_clock
from tests.fakes.outside import unreachable

UP, DOWN, NONE = Evidence.UP, Evidence.DOWN, Evidence.NONE
THREE = "3 notifications failed and none succeeded"

OUTCOMES: dict[str, tuple[Outcome | None, Evidence]] = {
    "a success": (Outcome.success(200), UP),
    "a transient refusal": (Outcome.transient("slack webhook returned 503", code=503), DOWN),
    "an unreachable receiver": (Outcome.transient("slack webhook request failed: refused"), DOWN),
    "an unknown result": (Outcome.unknown("slack webhook request failed: timeout"), DOWN),
    "a final refusal": (Outcome.permanent("slack webhook returned 404", code=404), NONE),
    "a mistake that fails": (Outcome.mistaken("slack webhook returned 403", code=403), NONE),
    "a mistake that waits": (
        replace(Outcome.mistaken("403"), failure=FailureClass.OPERATOR),
        Evidence.REFUSED,
    ),
    "an unknown host that counts": (replace(Outcome.transient("host"), mistake=True), DOWN),
    "an unknown host that waits": (
        replace(Outcome.not_sent("host"), mistake=True),
        Evidence.REFUSED,
    ),
    "a message that did not leave": (Outcome.not_sent("the lease would not cover it"), NONE),
    "an attempt that was not made": (None, NONE),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_evidence(case: str) -> None:
    """Only transient and unknown results speak against a receiver, only success for it."""
    outcome, expected = OUTCOMES[case]
    assert evidence_of("slack:ops", outcome) is expected


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
    "three that fail last are within the window": (
        [(0, "a", DOWN), (11, "b", DOWN), (12, "c", DOWN), (13, "d", DOWN)],
        Change(State.OPEN, THREE),
    ),
    "a repeated failure counts at its last time": (
        [(0, "a", DOWN), (1, "b", DOWN), (9, "a", DOWN), (11, "c", DOWN)],
        Change(State.OPEN, THREE),
    ),
    "a success comes in between": (
        [(0, "a", DOWN), (1, "b", DOWN), (2, "x", UP), (3, "c", DOWN)],
        None,
    ),
    "two failed before a success, and two after it": (
        [(0, "a", DOWN), (1, "b", DOWN), (2, "x", UP), (12.5, "c", DOWN), (12.6, "d", DOWN)],
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
        allowed = breaker.acquire(now)
        assert allowed == Allow(0, probe=False, reason="closed")
        changes.append(breaker.release(allowed, uid, evidence, now))
    assert changes[:-1] == [None] * (len(events) - 1)
    assert changes[-1] == expected


def opened(at: float = 0.0) -> Breaker:
    """Return a breaker that opened at a time."""
    breaker = Breaker()
    for uid in ("a", "b", "c"):
        allowed = breaker.acquire(at)
        assert isinstance(allowed, Allow)
        breaker.release(allowed, uid, DOWN, at)
    assert breaker.state(at) is State.OPEN
    return breaker


def probe(breaker: Breaker, now: float, *, first: bool = False) -> Allow:
    """Get a probe."""
    allowed = breaker.acquire(now, first=first)
    assert isinstance(allowed, Allow), allowed
    assert allowed.reason == "half-open: a probe"
    return allowed


def test_open_refuses_until_its_time() -> None:
    """An open breaker names the time at which it may let a probe through, soon at first."""
    breaker = opened(100)
    assert breaker.acquire(100) == Reject(100 + OPEN_FIRST, "open")
    assert breaker.acquire(100.9) == Reject(101, "open")
    assert breaker.state(101) is State.HALF_OPEN


def test_each_probe_in_vain_doubles_the_time() -> None:
    """A receiver that is down gets one call per probe, ever more rarely; a success starts anew."""
    breaker, now, waits = opened(), 0.0, list[float]()
    for n in range(8):
        assert breaker.until is not None
        waits.append(breaker.until - now)
        now = breaker.until
        allowed = probe(breaker, now)
        assert breaker.acquire(now) == Reject(None, "half-open, and its probe is under way")
        change = breaker.release(allowed, f"n{n}", DOWN, now)
        assert change == Change(State.OPEN, "a probe failed")
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    for uid in ("a", "b"):
        breaker.release(probe(breaker, now + OPEN_MOST), uid, UP, now + OPEN_MOST)
    now += OPEN_MOST + 20
    for uid in ("a", "b", "c"):
        call = breaker.acquire(now)
        assert isinstance(call, Allow)
        breaker.release(call, uid, DOWN, now)
    assert breaker.until == now + OPEN_FIRST


#: What a receiver asked for in the failures that opened it, in seconds; for how long it is open.
WISHES: dict[str, tuple[list[float | None], float]] = {
    "nothing": ([None, None, None], 1),
    "less than the breaker waits anyway": ([0.5, None, 0.2], 1),
    "some seconds": ([None, 7, None], 7),
    "different times": ([3, 5, 4], 5),
    "an hour": ([3600, 3600, 3600], OPEN_MOST),
    "the past": ([-5, -5, -5], 1),
}


@pytest.mark.parametrize("case", WISHES)
def test_retry_after_is_kept(case: str) -> None:
    """No probe comes before the receiver wants a call again, for as long as it may be open."""
    wishes, expected = WISHES[case]
    breaker = Breaker()
    for uid, wish in zip("abc", wishes, strict=True):
        allowed = breaker.acquire(50)
        assert isinstance(allowed, Allow)
        breaker.release(allowed, uid, DOWN, 50, retry_after=wish)
    assert breaker.until == 50 + expected
    allowed = probe(breaker, 50 + expected)
    breaker.release(allowed, "a", DOWN, 100, retry_after=wishes[1])
    assert breaker.until == 100 + max(2, min(wishes[1] or 0, OPEN_MOST))


def test_a_wish_is_no_opening() -> None:
    """What asks for time, and does not open it, holds nobody but its own notification."""
    breaker = Breaker()
    for uid in ("a", "b"):
        allowed = breaker.acquire(0)
        assert isinstance(allowed, Allow)
        breaker.release(allowed, uid, DOWN, 0, retry_after=30)
    assert isinstance(breaker.acquire(0), Allow)


def test_one_probe_at_a_time() -> None:
    """Half-open lets one call through; the next one waits for its end."""
    breaker = opened()
    first = probe(breaker, 1)
    assert breaker.acquire(2) == Reject(None, "half-open, and its probe is under way")
    assert breaker.release(first, "a", UP, 2) is None
    probe(breaker, 2)
    assert isinstance(breaker.acquire(3), Reject)


def test_two_successes_close() -> None:
    """The second success closes it, not the first."""
    breaker = opened()
    assert breaker.release(probe(breaker, 1), "a", UP, 2) is None
    assert breaker.release(probe(breaker, 2), "b", UP, 3) == Change(
        State.CLOSED, "2 probes succeeded"
    )
    assert breaker.acquire(3) == Allow(breaker.generation, probe=False, reason="closed")


def test_a_burst_after_closing_is_no_outage() -> None:
    """The successes of the probes count: what fails right after them does not open it again."""
    breaker = opened()
    for uid in ("a", "b"):
        breaker.release(probe(breaker, 30), uid, UP, 30)
    for n in range(100):
        allowed = breaker.acquire(31)
        assert isinstance(allowed, Allow)
        assert breaker.release(allowed, f"n{n}", DOWN, 31) is None


def test_one_failure_opens_again() -> None:
    """A failed probe opens it even after a success of the other, but that is no sign of an outage."""
    breaker = opened()
    breaker.release(probe(breaker, 1), "x", DOWN, 1)
    breaker.release(probe(breaker, 3), "a", UP, 3)
    assert breaker.release(probe(breaker, 3), "b", DOWN, 4) == Change(State.OPEN, "a probe failed")
    assert breaker.acquire(4) == Reject(4 + OPEN_FIRST, "open"), "for the shortest time"
    assert breaker.suspect == "b"
    assert breaker.release(probe(breaker, 5), "c", UP, 5) is None
    assert breaker.state(5) is State.HALF_OPEN, "two have to succeed after it"


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
    assert breaker.acquire(1, first=True) == Reject(1.5, "half-open, and a retry is to probe")
    assert breaker.check(1) is None
    probe(breaker, 1.1)
    breaker = opened()
    probe(breaker, 1.5, first=True)


#: Probes, as (a first attempt, what it came to); whether a refused one is wanted after them.
KINDS: dict[str, tuple[list[tuple[bool, Evidence]], bool]] = {
    "none yet": ([], True),
    "a refused one in vain": ([(False, DOWN)], False),
    "a first attempt in vain": ([(True, DOWN)], True),
    "one of each in vain": ([(False, DOWN), (True, DOWN)], True),
    "a refused one taken for want of others, in vain": ([(False, DOWN), (False, DOWN)], True),
    "a first attempt taken for want of others, in vain": ([(True, DOWN)], True),
    "a first attempt succeeded": ([(False, DOWN), (True, UP)], False),
    "a refused one succeeded": ([(False, UP)], True),
    "one that says nothing": ([(False, DOWN), (True, NONE)], False),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds_of_probes(case: str) -> None:
    """The next probe is of the kind that succeeded last, or of another than the one that failed."""
    probes, expected = KINDS[case]
    breaker, now = opened(), 0.0
    for first, evidence in probes:
        now += 40
        breaker.release(probe(breaker, now, first=first), f"at-{now}", evidence, now)
    assert breaker.wants_retry is expected


def test_a_probe_without_evidence_frees_its_place() -> None:
    """A final answer, or an attempt that was not made, lets another one probe."""
    breaker = opened()
    first = probe(breaker, 30)
    assert isinstance(breaker.acquire(31), Reject)
    assert breaker.release(first, "a", NONE, 31) is None
    probe(breaker, 31)


def test_latecomers_are_no_evidence() -> None:
    """What began before the last change says nothing of the state after it."""
    breaker = Breaker()
    allowed_calls = {}
    for uid in ("a", "b", "c", "late", "later"):
        allowed_calls[uid] = breaker.acquire(0)
    for uid in ("a", "b", "c"):
        allowed = allowed_calls[uid]
        assert isinstance(allowed, Allow)
        breaker.release(allowed, uid, DOWN, 1)
    late, later = allowed_calls["late"], allowed_calls["later"]
    assert isinstance(late, Allow)
    assert isinstance(later, Allow)
    assert breaker.release(late, "late", UP, 1.5) is None
    assert breaker.state(1.5) is State.OPEN
    probing = probe(breaker, 31)
    assert breaker.release(later, "later", DOWN, 32) is None
    assert breaker.state(32) is State.HALF_OPEN
    assert breaker.release(probing, "a", UP, 33) is None


def test_slow_calls_of_an_outage_do_not_open_it_again() -> None:
    """They began before it was over, however late they fail."""
    breaker = Breaker()
    calls = [breaker.acquire(0) for _ in range(6)]
    for uid, allowed in zip("abc", calls, strict=False):
        assert isinstance(allowed, Allow)
        breaker.release(allowed, uid, DOWN, 1)
    for now in (2, 3):
        breaker.release(probe(breaker, now), "x", UP, now)
    for uid, allowed in zip("def", calls[3:], strict=True):
        assert isinstance(allowed, Allow)
        assert breaker.release(allowed, uid, DOWN, 14) is None
    assert breaker.state(14) is State.CLOSED


def test_one_breaker_per_receiver() -> None:
    """Receivers of one kind do not share a breaker, and those of local channels are not shown."""
    breakers = Breakers()
    slack = breakers.of("slack:ops")
    assert slack is breakers.of("slack:ops")
    assert slack is not breakers.of("slack:dev")
    for name in ("console", "file", "log", "file:audit"):
        assert evidence_of(name, Outcome.transient("full")) is Evidence.NONE
        assert breakers.of(name).state(0) is State.CLOSED
    assert breakers.states(0) == {"slack:ops": State.CLOSED, "slack:dev": State.CLOSED}


def test_gauge_values() -> None:
    """The numbers of the states are those that the metric's help text explains."""
    assert [int(s) for s in (State.CLOSED, State.HALF_OPEN, State.OPEN)] == [0, 1, 2]


def test_gauge_shows_the_clock_s_work(tmp_path: Path) -> None:
    """What a scrape sees is the state of that moment, a half-open one included."""
    file = tmp_path / "config.yaml"
    file.write_text("redis: {url: redis://127.0.0.1:1/0}\n", encoding="utf-8")
    outside = unreachable()
    parts = Parts(load(file, {"KUBERNAUT_CONTROLLER_NAMESPACE": "alerts"}), outside)

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


def test_text() -> None:
    """The refusal is worded as it always was, with the channel's kind."""
    assert refusal("slack:ops", Reject(None, "open")) == (
        "slack circuit breaker is open (too many failures, preventing cascading failures)"
    )


def test_a_breaker_that_closed_wants_a_refused_one_first_again() -> None:
    """What it learnt of kinds of probes in one outage is forgotten with it."""
    breaker = opened()
    breaker.release(probe(breaker, 40), "a", DOWN, 40)
    assert breaker.wants_retry is False
    for n in range(2):
        breaker.release(probe(breaker, 400 + n, first=True), f"n{n}", UP, 400 + n)
    assert (breaker.state(402), breaker.wants_retry) == (State.CLOSED, True)


def test_a_mistake_opens_at_once_and_is_asked_for_by_one_call() -> None:
    """From 5 s to 5 min between calls; the first that is accepted lets all go."""
    breaker, now, waits = Breaker(), 0.0, []
    for _ in range(8):
        allowed = breaker.acquire(now)
        assert isinstance(allowed, Allow)
        change = breaker.release(allowed, "a", Evidence.REFUSED, now)
        assert change == Change(State.OPEN, Evidence.REFUSED.value)
        assert breaker.refused
        rejection = breaker.acquire(now)
        assert isinstance(rejection, Reject)
        assert rejection.refused
        assert refusal("slack:ops", rejection).startswith("slack:ops refuses what an operator")
        assert rejection.until is not None
        waits.append(rejection.until - now)
        now = rejection.until
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    probe = breaker.acquire(now)
    assert isinstance(probe, Allow)
    assert probe.probe
    assert breaker.check(now) == Reject(None, "half-open, and its probe is under way", refused=True)
    assert breaker.release(probe, "a", UP, now) == Change(
        State.CLOSED, "what was configured is accepted"
    )
    assert not breaker.refused


def test_a_receiver_that_is_down_is_no_mistake_any_more() -> None:
    """What it refuses last decides, with the waits of its own kind."""
    breaker = Breaker()
    breaker.release(breaker.acquire(0.0), "a", Evidence.REFUSED, 0.0)  # type: ignore[arg-type]  # it is closed
    probe = breaker.acquire(5.0)
    assert isinstance(probe, Allow)
    breaker.release(probe, "a", DOWN, 5.0)
    assert not breaker.refused
    assert breaker.until == 5.0 + OPEN_FIRST
