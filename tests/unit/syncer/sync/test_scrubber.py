"""
The self-audit over a Redis in memory: each class of divergence is planted, named, and answered.

What is planted is planted behind the product's back: in the memory, in the list, or in the object.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from syncer.model.attempt import Attempt, AttemptState, FailureClass, make_attempt_id
from syncer.model.conditions import QUARANTINED, find_condition
from syncer.model.errors import Unavailable
from syncer.model.record import Plan, attempt_record, intent_record
from syncer.model.resource import ChannelStatus, NotificationRequest, parse_object
from syncer.rules.advice import ADVICE
from syncer.rules.divergence import AUDITED, VERIFIED, Divergence
from syncer.sync.notification import Notification
from syncer.sync.scrubber import Result, Scrubber
from syncer.sync.status_writer import Flushed
from tests.fakes.notifications import recording
from tests.fakes.ownership import Ours
from tests.unit.syncer.sync.bench import EPOCH, HELD, Bench, bench

KEY = "nl:{u}"


@dataclass
class Scene:
    """A notification with one failed attempt on record and published, and its scrubber."""

    bench: Bench
    notification: Notification
    scrubber: Scrubber
    changed: list[str]

    def found(self) -> set[str]:
        """Classes counted up to now."""
        return {
            s.labels["class"]
            for s in next(iter(self.bench.sync.metrics.divergences.collect())).samples
            if s.name.endswith("_total") and s.value
        }

    def rewrite(self, part: str, **members: Any) -> None:
        """Change the object as nobody may."""
        document = self.bench.objects.request.document()
        document[part].update(members)
        self.bench.objects.request = parse_object(document)

    @property
    def raw(self) -> list[bytes]:
        return self.bench.log.client.redis.twin.logs[KEY]


@pytest.fixture
async def here() -> AsyncIterator[Scene]:
    """One of which everything agrees."""
    async with bench({"phase": "Pending"}, most=5) as (made, notification):
        await made.claimer.claim(notification, HELD)
        plan = Plan(("console",), "RoutingRuleMatched", "m", 1, notification.request.content_hash())
        await made.recorder.freeze(notification, plan)
        _, intent = await recording(made.recorder).open(notification, HELD, "console", limit=5)
        failed = Attempt(
            intent.attempt_id, "console", AttemptState.FAILED, ended=2, due=3,
            failure=FailureClass.TRANSIENT, error="busy",
        )  # fmt: skip
        assert await recording(made.recorder).close(notification, failed, intent, patience=1)
        assert await made.sync.flush(notification) is Flushed.WRITTEN
        changed: list[str] = []
        made.cache.check = changed.append
        yield Scene(made, notification, Scrubber(made.sync, rate=1000), changed)


async def test_what_agrees_is_left_alone(here: Scene) -> None:
    """A check of what agrees counts itself and changes nothing."""
    before = (list(here.raw), len(here.bench.objects.written))
    assert await here.scrubber.check(here.notification) is Result.AGREES
    assert (here.raw, len(here.bench.objects.written)) == before
    assert (here.found(), here.changed, here.notification.publication.dirty_since) == (
        set(),
        [],
        None,
    )


async def memory(here: Scene) -> None:
    """An attempt in memory says something else than its record."""
    ((key, attempt),) = here.notification.view.attempts.items()
    here.notification.view.attempts[key] = replace(attempt, error="another error")


async def history(here: Scene) -> None:
    """The newest record is gone."""
    here.raw.pop()


async def vanished(here: Scene) -> None:
    """The whole log is gone."""
    here.raw.clear()


async def unreadable(here: Scene) -> None:
    """A byte of the newest record is another one."""
    here.raw[-1] = here.raw[-1][:-1] + bytes([here.raw[-1][-1] ^ 1])


async def log_behind(here: Scene) -> None:
    """The object shows an attempt that the log does not know."""
    (shown,) = here.bench.objects.request.document()["status"]["deliveryAttempts"]
    other = {**shown, "id": "0.7-77", "attempt": 2}
    here.rewrite("status", deliveryAttempts=[shown, other], totalAttempts=2)


async def status_behind(here: Scene) -> None:
    """A counter of the object is another one."""
    here.rewrite("status", failedDeliveries=0)


async def acked(here: Scene) -> None:
    """A result is marked as published that the object does not show."""
    other = make_attempt_id(EPOCH, 9)
    result = Attempt(
        other, "console", AttemptState.FAILED, ended=5, failure=FailureClass.TRANSIENT, error="x"
    )
    intent = intent_record(other, "console", at=4, by="nobody")
    await here.bench.log.outcome("u", attempt_record(result), intent, name="ns/n")
    here.raw[0] = b"nl1 object=ns/n epoch=0.7 acked=5 audited=5"


async def two_open(here: Scene) -> None:
    """Two intents of one channel stand open."""
    for n in (8, 9):
        record = intent_record(make_attempt_id(EPOCH, n), "console", at=4, by="nobody")
        await here.bench.log.note("u", record)


async def spec(here: Scene) -> None:
    """The spec was changed although it must not be."""
    here.rewrite("spec", body="another body")


async def phase(here: Scene) -> None:
    """The object is called failed, and four attempts are left."""
    here.rewrite("status", phase="Failed")


async def channels(here: Scene) -> None:
    """The object shows a channel that was never planned."""
    status = here.bench.objects.request.status
    shown = replace(status, channels=(*status.channels, ChannelStatus("slack:board", "Pending")))
    here.bench.objects.request = replace(here.bench.objects.request, status=shown)


PLANTED: dict[Divergence, list[Callable[[Scene], Awaitable[None]]]] = {
    Divergence.MEMORY: [memory],
    Divergence.HISTORY: [history, vanished],
    Divergence.UNREADABLE: [unreadable],
    Divergence.LOG_BEHIND: [log_behind],
    Divergence.STATUS_BEHIND: [status_behind],
    Divergence.ACKED: [acked],
    Divergence.TWO_OPEN: [two_open],
    Divergence.SPEC: [spec],
    Divergence.PHASE: [phase],
    Divergence.CHANNELS: [channels],
}
CASES = [(d, plant) for d, plants in PLANTED.items() for plant in plants]


#: What the rules exclude; everything else comes about by loss or by a hand from outside.
STOPPING = {Divergence.MEMORY, Divergence.ACKED, Divergence.TWO_OPEN}


def test_every_class_is_planted() -> None:
    """No class is without a case but that of a sweep, and those that stop sends are these."""
    assert set(PLANTED) == set(AUDITED) - {Divergence.LOG_MISSING}
    assert set(ADVICE) == set(Divergence) >= set(VERIFIED)
    assert {d for d in Divergence if d.stops} == STOPPING


@pytest.mark.parametrize(("divergence", "plant"), CASES, ids=[p.__name__ for _, p in CASES])
async def test_divergence(
    here: Scene,
    divergence: Divergence,
    plant: Callable[[Scene], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A planted divergence is found as what it is, counted, and stops sends only if it must."""
    await plant(here)
    caplog.clear()
    assert await here.scrubber.check(here.notification) is Result.DIVERGES
    assert here.found() == {divergence.value}
    assert bool(here.notification.violation) == (divergence in STOPPING)
    assert bool(here.notification.quarantine) == (divergence is Divergence.UNREADABLE)
    # What is said of the sends is what becomes of them.
    stopped = bool(here.notification.violation or here.notification.quarantine)
    told = {getattr(record, "sends", None) for record in caplog.records} - {None}
    assert told == {"stopped" if stopped else "go on"}
    restored = divergence in (
        Divergence.HISTORY, Divergence.LOG_BEHIND, Divergence.UNREADABLE,
    )  # fmt: skip
    assert (here.notification.claim is None) == restored
    # Whatever it was, the object is about to be told as it was judged, and the controller to look.
    assert restored or here.notification.request is here.bench.objects.request
    assert here.notification.publication.pending
    assert set(here.changed) == {"u"}


async def test_a_violation_is_shown_and_taken_back(here: Scene) -> None:
    """The condition names the violation; the first check that finds order takes it away."""
    await memory(here)
    await here.scrubber.check(here.notification)
    assert await here.bench.sync.flush(here.notification) is Flushed.WRITTEN
    condition = find_condition(here.bench.objects.request.status.conditions, QUARANTINED)
    assert condition is not None
    assert (condition.reason, condition.message) == ("SelfAudit", Divergence.MEMORY.message)
    # What was wrong in memory came from the log again; the attempts shown are the log's.
    assert [a.error for a in here.bench.objects.request.status.attempts] == ["busy"]
    assert await here.scrubber.check(here.notification) is Result.AGREES
    assert here.notification.violation == ""
    assert await here.bench.sync.flush(here.notification) is Flushed.WRITTEN
    assert find_condition(here.bench.objects.request.status.conditions, QUARANTINED) is None
    assert here.changed == ["u", "u"]


async def test_records_of_others_are_taken_in(here: Scene) -> None:
    """A log that has grown is no divergence; what it says more is folded in and published."""
    result = Attempt(make_attempt_id(EPOCH, 9), "console", AttemptState.SUCCESS, ended=5)
    intent = intent_record(result.id, "console", at=4, by="nobody")
    await here.bench.log.outcome("u", attempt_record(result), intent, name="ns/n")
    assert await here.scrubber.check(here.notification) is Result.AGREES
    assert here.notification.view.attempts[result.id].state is AttemptState.SUCCESS
    assert (here.changed, not here.notification.publication.pending) == (["u"], False)


@pytest.mark.parametrize("plant", [status_behind, acked], ids=lambda p: p.__name__)
async def test_a_pending_write_is_no_divergence(
    here: Scene, plant: Callable[[Scene], Awaitable[None]]
) -> None:
    """A status that is about to be written may lag, behind the log and behind its mark."""
    await plant(here)
    here.bench.cache.mark_dirty(here.notification)
    assert await here.scrubber.check(here.notification) is Result.AGREES


async def test_what_changes_between_the_reads_is_passed_over(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log grows after it was read, and before the object is."""
    get = here.bench.objects.get

    async def moving(namespace: str, name: str) -> NotificationRequest:
        await here.bench.recorder.note(here.notification, "console", "because")
        return await get(namespace, name)

    monkeypatch.setattr(here.bench.objects, "get", moving)
    assert await here.scrubber.check(here.notification) is Result.PASSED
    assert here.found() == set()


async def test_a_round_counts_what_it_has_looked_at(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coverage begins at 0 and rises with each; between two checks the pace is kept."""
    coverage, slept = here.bench.sync.metrics.scrub_coverage, list[float]()
    coverage.set(1.0)
    for uid in ("v", "w", "foreign"):
        request = replace(here.notification.request, uid=uid)
        here.bench.cache.entries[uid] = Notification(request)
    seen: list[float] = []
    looked = here.scrubber.check

    async def check(notification: Notification) -> Result:
        seen.append(coverage._value.get())
        if notification.uid == "u":
            here.bench.cache.entries.pop("w")
        return await looked(notification)

    here.scrubber.ownership = Ours(EPOCH, others={"foreign"})
    monkeypatch.setattr(here.scrubber, "check", check)
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "sleep", AsyncMock(side_effect=slept.append))
        await here.scrubber.round()
    assert seen == [0.0, 1 / 3]
    assert coverage._value.get() == 1.0
    assert [s for s in slept if s] == [0.001, 0.001]
    looks = here.bench.sync.metrics.scrub_looks
    counts = {r: looks.labels(r.value)._value.get() for r in Result}
    assert counts == {
        Result.AGREES: 1, Result.PASSED: 1, Result.DIVERGES: 0, Result.UNANSWERED: 0,
    }  # fmt: skip


async def test_a_round_over_nothing_has_seen_all(here: Scene) -> None:
    """Where nothing is live, or nothing is ours, coverage is 1."""
    here.bench.cache.entries.clear()
    here.bench.sync.metrics.scrub_coverage.set(0.5)
    await here.scrubber.round()
    assert here.bench.sync.metrics.scrub_coverage._value.get() == 1.0


async def test_a_round_waits_for_redis(here: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it does not answer nothing is checked, and after that everything is."""
    client, slept = here.bench.log.client, list[float]()
    client.problem = "away"

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        client.problem = None if len(slept) == 2 else client.problem

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "sleep", sleep)
        await here.scrubber.round()
    assert [s for s in slept if s] == [1.0, 1.0, 0.001]
    looks = here.bench.sync.metrics.scrub_looks
    assert looks.labels("agrees")._value.get() == 1


#: What keeps a notification from being compared.
MOVES: dict[str, Callable[[Notification], object]] = {
    "its log is not claimed": lambda e: e.lose(),
    "its status is being written": lambda e: e.publication.begin(),
    "it is deleted": lambda e: e.gone(),
    "its log cannot be read": lambda e: e.unintelligible("damaged"),
    "its log must be read again": lambda e: e.news(),
    "an attempt of it is under way": lambda e: e.in_flight.begin(make_attempt_id(EPOCH, 5), "c"),
}


@pytest.mark.parametrize("case", MOVES)
async def test_what_does_not_stand_still_is_passed_over(here: Scene, case: str) -> None:
    """Each of these alone keeps a divergence from being called one."""
    await memory(here)
    MOVES[case](here.notification)
    assert await here.scrubber.check(here.notification) is Result.PASSED
    assert here.found() == set()


@pytest.mark.parametrize(
    "how", ["another's", "being deleted", "made anew", "gone", "replaced here"]
)
async def test_what_is_not_the_same_object_is_passed_over(
    here: Scene, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What belongs to another replica, or is going, or is not what the log is about."""
    await memory(here)
    objects, get, read = here.bench.objects, here.bench.objects.get, here.bench.log.read
    match how:
        case "another's":
            monkeypatch.setattr(here.scrubber.ownership, "term_of", lambda _uid: None)
        case "being deleted":
            objects.request = replace(objects.request, deleting=True)
        case "made anew":
            objects.request = replace(objects.request, uid="v")
        case "gone":

            async def forgotten(uid: str) -> Any:
                here.bench.cache.entries.clear()
                return await read(uid)

            monkeypatch.setattr(here.bench.log, "read", forgotten)
        case _:

            async def replaced(namespace: str, name: str) -> NotificationRequest:
                here.bench.cache.entries["u"] = Notification(objects.request)
                return await get(namespace, name)

            monkeypatch.setattr(objects, "get", replaced)
    assert await here.scrubber.check(here.notification) is Result.PASSED
    assert here.found() == set()


async def test_a_log_that_does_not_answer(here: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check has no result, and nothing is changed."""
    await memory(here)
    for error in (Unavailable("away"), TimeoutError()):
        monkeypatch.setattr(here.bench.log, "read", AsyncMock(side_effect=error))
        assert await here.scrubber.check(here.notification) is Result.UNANSWERED
    assert here.found() == set()


async def test_an_object_that_cannot_be_read_leaves_log_and_memory(
    here: Scene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those two are compared all the same, and what is known of the object stays."""
    await memory(here)
    known = here.notification.request
    monkeypatch.setattr(here.bench.objects, "get", AsyncMock(side_effect=Unavailable("away")))
    assert await here.scrubber.check(here.notification) is Result.DIVERGES
    assert here.found() == {"memory"}
    assert here.notification.request is known


async def test_what_was_found_is_told(here: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A divergence with its class and place; that it is in order again, once, and never else."""
    assert await here.scrubber.check(here.notification) is Result.AGREES
    assert not [r for r in caplog.records if r.name == "ledger.scrub"]
    await memory(here)
    await here.scrubber.check(here.notification)
    assert here.notification.publication.urgent, "a violation is shown at once"
    await here.scrubber.check(here.notification)
    await here.scrubber.check(here.notification)
    first, second = [r.__dict__ for r in caplog.records if r.name == "ledger.scrub"]
    assert (first["levelname"], first["msg"]) == (
        "ERROR", "the self-audit found a divergence",
    )  # fmt: skip
    assert [first[k] for k in ("uid", "object", "class", "meaning", "position", "sends")] == [
        "u", "ns/n", "memory", Divergence.MEMORY.message, 3, "stopped",
    ]  # fmt: skip
    assert (second["levelname"], second["msg"]) == (
        "WARNING", "the self-audit finds no divergence any more; sending continues",
    )  # fmt: skip
    assert (second["uid"], second["object"]) == ("u", "ns/n")


async def test_the_age_of_a_round(here: Scene) -> None:
    """It grows from the end of the last one and is never negative."""
    age, now = here.bench.sync.metrics.scrub_age, here.bench.cache.monotonic()
    here.bench.cache.monotonic = lambda: now
    await here.scrubber.round()

    def at(moment: float) -> float:
        here.bench.cache.monotonic = lambda: moment
        return float(next(iter(age.collect())).samples[0].value)

    assert [at(now + 7), at(now - 7)] == [pytest.approx(7.0), 0.0]
