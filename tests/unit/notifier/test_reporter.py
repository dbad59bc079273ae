"""Events and metrics of each step: their reasons, texts and discriminators, and what is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from notifier.metrics import DeliveryMetrics
from notifier.reporter import EventReporter
from syncer.kube.events import EventRecorder
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.conditions import Condition
from syncer.model.resource import NotificationRequest, Status, parse_object
from syncer.rules.channel_state import ChannelState, State
from syncer.rules.journal import Basis, held_because
from syncer.rules.merge import ALL_FAILED, Merged
from syncer.sync.notification import Notification

C = "slack:ops"
ID = AttemptId("0.7-1")
FAILED = Attempt(ID, C, AttemptState.FAILED, 10, 20, 30_020, 1_500, FailureClass.TRANSIENT)
SENT = Attempt(ID, C, AttemptState.SUCCESS, 10, 20, 0, 500)
UNKNOWN = Attempt(ID, C, AttemptState.UNKNOWN, 10, 20, 0, 500, FailureClass.UNCERTAIN)


def request(phase: str = "", **extensions: str) -> NotificationRequest:
    """A notification."""
    found = parse_object(
        {
            "metadata": {"uid": "u", "namespace": "ns", "name": "n", "resourceVersion": "1"},
            "spec": {"type": "simple", "extensions": extensions},
        }
    )
    return replace(found, status=Status(phase=phase))


class World:
    """A reporter, its events and its metrics."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []
        self.registry = CollectorRegistry()
        self.metrics = DeliveryMetrics(self.registry)
        self.reporter = EventReporter(cast("EventRecorder", self), self.metrics)

    def emit(self, _request: object, *event: str, discriminator: str) -> None:
        self.events.append((*event, discriminator))

    def counted(self) -> dict[tuple[str, ...], float]:
        """Samples that are not 0, without buckets and times of creation."""
        return {
            (s.name, *s.labels.values()): s.value
            for metric in self.registry.collect()
            for s in metric.samples
            if s.value and not s.name.endswith(("_bucket", "_created"))
        }


@pytest.fixture
def world() -> World:
    """A reporter that has said nothing."""
    return World()


STARTED = ("Normal", "ReconcileStarted", "Started reconciling notification n", "")
TURNED = ("Normal", "PhaseTransition", "Transitioned to Sending phase", "Sending")


@pytest.mark.parametrize(
    ("phase", "wanted"),
    [("", [STARTED, TURNED]), ("Pending", [STARTED, TURNED]), ("Sending", [STARTED])],
)
def test_a_notification_is_taken_up(world: World, phase: str, wanted: list[Any]) -> None:
    """That its phase turns is said only of one whose phase had not turned yet."""
    world.reporter.started(request(phase))
    assert world.events == wanted


def test_attributes_that_an_author_sets(world: World) -> None:
    """Extensions that routing does not believe are named."""
    world.reporter.started(request("Sending", namespace="other", name="other", team="a"))
    (_, warning) = world.events
    assert warning[:2] == ("Warning", "ReservedAttribute")
    assert "name" in warning[2]
    assert "namespace" in warning[2]
    assert "team" not in warning[2]


ATTEMPTED = {
    "the first succeeds": (
        SENT, None, [("Normal", "NotificationSent", f"Successfully delivered to channel {C}", C)],
        {("attempts_total", C, "success"): 1.0, ("duration_count", C): 1.0, ("duration_sum", C): 0.5},
    ),
    "the first fails": (
        FAILED, None, [],
        {("attempts_total", C, "failed"): 1.0, ("duration_count", C): 1.0, ("duration_sum", C): 1.5},
    ),
    "a second fails": (
        FAILED, FAILED, [],
        {
            ("attempts_total", C, "failed"): 1.0, ("retries_total", C, "transient"): 1.0,
            ("duration_count", C): 1.0, ("duration_sum", C): 1.5,
        },
    ),
    "one after an attempt without a class": (
        FAILED, replace(FAILED, failure=None), [],
        {
            ("attempts_total", C, "failed"): 1.0, ("retries_total", C, "none"): 1.0,
            ("duration_count", C): 1.0, ("duration_sum", C): 1.5,
        },
    ),
    "a result is not known": (
        UNKNOWN, None, [],
        {
            ("attempts_total", C, "failed"): 1.0, ("uncertain_total",): 1.0,
            ("duration_count", C): 1.0, ("duration_sum", C): 0.5,
        },
    ),
}  # fmt: skip


def _short(name: str) -> str:
    words = {
        "attempts": "attempt",
        "retries": "retr",
        "uncertain": "uncertain",
        "duration": "duration",
    }
    for short, part in words.items():
        if part in name:
            return f"{short}_{name.rpartition('_')[2]}"
    return name


@pytest.mark.parametrize("case", ATTEMPTED)
def test_an_attempt(world: World, case: str) -> None:
    """It is counted with its result and duration; a success is an event, a repeat a retry."""
    attempt, before, events, counts = ATTEMPTED[case]
    world.reporter.attempted(request(), attempt, before)
    assert world.events == events
    counted = {(_short(key[0]), *key[1:]): value for key, value in world.counted().items()}
    assert counted == counts


#: What is told, and its event.
TOLD: dict[str, tuple[str, tuple[object, ...], tuple[str, ...]]] = {
    "a failure that is tried again": (
        "failed", (replace(FAILED, error="503 busy"),),
        (
            "Warning", "DeliveryFailed",
            f"Attempt on channel {C} failed, next attempt in 30s: 503 busy", ID,
        ),
    ),
    "one for good": (
        "failed", (replace(FAILED, due=0, failure=FailureClass.PERMANENT, error="no such channel"),),
        (
            "Warning", "DeliveryFailed",
            f"Attempt on channel {C} failed, it is not tried again: no such channel", ID,
        ),
    ),
    "one without a text": (
        "failed", (replace(FAILED, due=0),),
        (
            "Warning", "DeliveryFailed",
            f"Attempt on channel {C} failed, it is not tried again: no reason was given", ID,
        ),
    ),
    "one that is superseded": (
        "failed",
        (replace(FAILED, due=0, failure=FailureClass.SUPERSEDED, error="superseded by x"),),
        ("Normal", "DeliverySuperseded", f"Not sent to channel {C}: superseded by x", ID),
    ),
    "a result that is not known": (
        "failed", (replace(UNKNOWN, error="connection lost"),),
        (
            "Warning", "DeliveryUnknown",
            f"Attempt on channel {C} may or may not have been delivered: connection lost", ID,
        ),
    ),
    "an attempt that is held, for each channel and reason": (
        "held", (C, "held: change 42"),
        (
            "Warning", "DeliveryHeld", f"Channel {C} is due and held: change 42",
            f"{C}/held: change 42",
        ),
    ),
    "one that a breaker rejects, for each channel and attempt": (
        "rejected", (C, "5 failures in a row", 2),
        (
            "Warning", "CircuitBreakerOpen",
            "slack channel circuit breaker is open: 5 failures in a row", f"{C}/2",
        ),
    ),
    "what routing doubts, of many channels a few": (
        "routed_in_doubt", (("a", "b", "c", "d"), ("x", "y")),
        ("Warning", "RoutingDoubtful", "Routed to a, b, c, perhaps by mistake: x; y", ""),
    ),
    "a receiver that takes nothing": (
        "denied", (C, "its namespaces are others"),
        ("Warning", "ReceiverRefused", f"Not sent to {C}, its namespaces are others", C),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
def test_what_is_told(world: World, case: str) -> None:
    """Each is an event of its own, with its cause and what follows; a rejection is counted as well."""
    kind, given, wanted = TOLD[case]
    getattr(world.reporter, kind)(request(), *given)
    assert world.events == [wanted]
    counted = [(C in key, value) for key, value in world.counted().items()]
    assert counted == ([(True, 1.0)] if kind == "rejected" else [])


def state(channel: str, found: State, *, due: int = 0, ended: int = 0) -> ChannelState:
    """A channel with a newest attempt."""
    last = replace(FAILED, channel=channel, due=due, ended=ended)
    return ChannelState(channel, found, last=last)


def settled(world: World, before: Status, after: Status, *states: ChannelState) -> list[Any]:
    """What is said of a status that was written."""
    notification = Notification(replace(request(), status=after))
    world.reporter.status_written(notification, before, Merged(after, states, "because"))
    return world.events


def test_a_retry_is_told_once_per_attempt(world: World) -> None:
    """With the shortest back-off of the channels that go on; not for a write without an attempt."""
    before, after = Status(phase="Retrying"), Status(phase="Retrying", attempts=(FAILED,))
    states = (
        state("a", State.RETRYING, due=90_020, ended=20),
        state("b", State.RETRYING, due=30_020, ended=20),
        state("c", State.EXHAUSTED, due=5_020, ended=20),
        state("d", State.RETRYING, due=0, ended=20),
    )
    assert settled(world, after, after, *states) == []
    assert settled(world, before, replace(after, phase="Sending"), *states) == []
    assert settled(world, before, after, *states) == [
        ("Normal", "NotificationRetrying", "Retrying failed channels with backoff 30s", "1")
    ]


def test_a_quarantine_is_told_once(world: World) -> None:
    """When its condition is first written, and again after it was over."""
    condition = Condition("Quarantined", "True", "LogUndecodable", "record 2", 1)
    held, free = Status(conditions=(condition,)), Status()
    over = Status(conditions=(replace(condition, status="False"),))
    assert settled(world, held, held) == []
    assert settled(world, held, over) == []
    wanted = ("Warning", "Quarantined", "Nothing is sent: record 2", "LogUndecodable")
    assert settled(world, free, held) == [wanted]
    assert settled(world, over, held) == [wanted, wanted]


ENDS: dict[str, list[Any]] = {
    "Sent": [],
    "Superseded": [],
    "PartiallySent": [("Normal", "NotificationPartiallySent", "half of it", "")],
    "Failed": [("Warning", "NotificationFailed", ALL_FAILED, "")],
}


@pytest.mark.parametrize("phase", ENDS)
def test_the_end_is_told_once(world: World, phase: str) -> None:
    """When the final phase is first written, and not when it is written again."""
    reason, shown = ("Superseded", "Failed") if phase == "Superseded" else ("", phase)
    after = Status(phase=shown, reason=reason, message="half of it", completed_at=5_000)
    assert settled(world, after, after) == []
    assert settled(world, Status(phase="Sending"), after) == ENDS[phase]
    assert {key[1] for key in world.counted() if "completion" in key[0]} <= {phase}


def test_events_show_no_secret(world: World) -> None:
    """What a receiver or an author wrote is cleaned, and commands no terminal."""
    world.reporter.held(request(), C, "pwd=oak31\x1b[2J")
    ((_, _, message, _),) = world.events
    assert "oak31" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("created", "completed", "took"),
    [
        (1_000, 5_500, (1.0, 4.5)), (1_000, 1_000, (1.0, 0.0)), (1_000, 400, (1.0, 0.0)),
        (0, 5_000, (0.0, 0.0)), (1_000, 0, (0.0, 0.0)),
    ],
)  # fmt: skip
def test_how_long_a_delivery_took(
    world: World, created: int, completed: int, took: tuple[float, float]
) -> None:
    """From the creation to the end, never less than nothing, if both are known; by the final phase."""
    status = Status(phase="Sent", completed_at=completed)
    notification = Notification(replace(request(), created=created, status=status))
    world.reporter.status_written(notification, Status(phase="Sending"), Merged(status, (), ""))
    found = {n[0].rpartition("_")[2]: value for n, value in world.counted().items() if "Sent" in n}
    assert (found.get("count", 0.0), found.get("sum", 0.0)) == took


def test_an_outage_is_told_once_of_each(world: World) -> None:
    """That attempts are journaled, by the outage's name; that one is not, by the reason."""
    free, marked = Status(), Status(journal="0.9-1")
    assert settled(world, marked, marked) == []
    assert settled(world, marked, free) == []
    mark = (
        "Normal", "DeliveryJournaled",
        "Redis is away: attempts are recorded in the status before they are sent", "0.9-1",
    )  # fmt: skip
    assert settled(world, free, marked) == [mark]
    world.events.clear()
    waits, older = (
        Status(conditions=(Condition("LogUnavailable", "True", *held_because(by), 1000),))
        for by in (None, Basis.OLDER)
    )
    assert settled(world, free, waits) == []
    assert settled(world, older, older) == []
    text = held_because(Basis.OLDER)[1]
    wanted = ("Warning", "DeliveryHeld", text, "RecordsNotRead/1000")
    assert settled(world, free, older) == [wanted]
    assert settled(world, waits, older) == [wanted, wanted]
