"""What a claim finds, what an owner relies on, and what odd logs, objects and former owners lead to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from syncer.ledger.answers import Answer, Proof, Snapshot
from syncer.ledger.codec import encode_log
from syncer.ledger.reading import snapshot_of
from syncer.model.attempt import (
    Attempt,
    AttemptId,
    AttemptState,
    Epoch,
    FailureClass,
    make_attempt_id,
)
from syncer.model.errors import ContractError, Gone, PortError, Unavailable
from syncer.model.ports import ObjectClient
from syncer.model.record import (
    LOG_ERROR_BYTES,
    MAX_SKIPS,
    Header,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
    resend_record,
)
from syncer.model.resource import NotificationRequest
from syncer.rules.reconcile import Action
from syncer.sync.evidence import Evidence
from syncer.sync.notification import Notification
from syncer.sync.status_writer import Flushed
from syncer.sync.sweeps import Sweeper
from tests.fakes.memorylog import Fault, Mishap, ServerTwin
from tests.fakes.notifications import recording
from tests.unit.syncer.sync.bench import EPOCH, HELD, Bench, bench


def shown(**members: Any) -> dict[str, Any]:
    """A status with one failed attempt, as edited by hand."""
    notification = {
        "channel": "console", "attempt": 1, "status": "failed", "id": "0.3-1",
        "timestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return {"phase": "Retrying", "deliveryAttempts": [notification | members], "totalAttempts": 1}


@pytest.fixture
async def here() -> AsyncIterator[Bench]:
    """A bench whose log is claimed."""
    async with bench() as (made, notification):
        await made.claimer.claim(notification, HELD)
        yield made


@pytest.fixture
def notification(here: Bench) -> Notification:
    """Whose log it is."""
    return here.cache.entries["u"]


async def opened(here: Bench, notification: Any) -> tuple[Attempt, Any]:
    """An attempt that is open, and its intent."""
    _, intent = await recording(here.recorder).open(notification, HELD, "console", limit=5)
    return notification.view.attempts[intent.attempt_id], intent


async def test_a_result_that_redis_does_not_take_is_kept(
    here: Bench, notification: Notification
) -> None:
    """Nobody else knows it: the next claim records it, and until then all is known here."""
    attempt, intent = await opened(here, notification)
    here.log.client.redis.faults.append(Fault(Mishap.REFUSE, "outcome", times=99))
    done = replace(attempt, state=AttemptState.SUCCESS, ended=2)
    assert await recording(here.recorder).close(notification, done, intent, patience=0.0)
    assert list(notification.in_flight.unrecorded) == [attempt.id]
    assert (notification.claim, notification.known_in) == (None, EPOCH)


@pytest.mark.parametrize(
    "how", ["it is stale", "its log cannot be read", "its log has fallen back"]
)
async def test_a_lost_claim_leads_to_a_check(
    here: Bench, notification: Notification, how: str
) -> None:
    """Whoever finds it lost need not ask for that, and what is lost already asks for nothing."""
    await here.recorder.freeze(notification, Plan(("console",), "r", "m", 1))
    asked: list[str] = []
    here.cache.check = asked.append
    for _ in range(2):
        if how == "it is stale":
            here.recorder.lose_claim(notification, "test")
        elif how == "its log cannot be read":
            here.recorder.put_in_quarantine(notification, "record 3")
        else:
            del here.log.client.redis.twin.logs["nl:{u}"][1:]
            await here.recorder.reread(notification)
    assert (asked, notification.claim) == (["u"], None)


async def test_news_during_a_read_are_no_part_of_it(
    here: Bench, notification: Notification
) -> None:
    """What has the log read again may say so while it is being read, for another reason."""
    read = here.log.read

    async def slowly(uid: str) -> Any:
        found = await read(uid)
        notification.news()
        return found

    notification.news()
    here.log.read = slowly  # type: ignore[method-assign] # and is told meanwhile
    await here.recorder.reread(notification)
    assert notification.reread
    here.log.read = read  # type: ignore[method-assign] # as it was
    await here.recorder.reread(notification)
    assert not notification.reread


async def test_a_claim_that_fails_leaves_none_behind(
    here: Bench, notification: Notification
) -> None:
    """That of before was of another lease term or server, and nothing may be decided by it."""
    here.log.client.redis.down = True
    with pytest.raises(PortError):
        await here.claimer.claim(notification, HELD)
    assert notification.claim is None


async def test_reasons_to_wait_do_not_fill_a_log(here: Bench, notification: Notification) -> None:
    """It takes so many of them, however often they change; of the rest, none passes for recorded."""
    noted = [
        await here.recorder.note(notification, "console", f"reason {n}")
        for n in range(MAX_SKIPS + 3)
    ]
    assert noted == [True] * MAX_SKIPS + [False] * 3
    assert not await here.recorder.note(notification, "console", f"reason {MAX_SKIPS - 1}")
    assert notification.view.position == MAX_SKIPS


@pytest.mark.parametrize("failed", [0, 2])
async def test_what_a_dead_sender_left_waits_by_the_tries_before(failed: int) -> None:
    """The wait after an attempt whose result nobody knows grows as after any other."""
    async with bench(most=5) as (here, notification):
        here.claimer._backoff = backoff = Mock(return_value=1000)
        await here.claimer.claim(notification, HELD)
        for _ in range(failed):
            attempt, intent = await opened(here, notification)
            done = replace(attempt, state=AttemptState.FAILED, ended=2)
            assert await recording(here.recorder).close(notification, done, intent, patience=1.0)
        await opened(here, notification)
        notification.in_flight.executing.clear()  # as the next process of this host finds it
        await here.claimer.claim(notification, HELD)
        assert [number for (_, number), _ in backoff.call_args_list] == [failed + 1]


async def test_another_object_of_the_name_gets_nothing() -> None:
    """The notification whose log is claimed is gone, and the other one's status is not its."""
    async with bench(shown()) as (here, notification):
        here.objects.answers = lambda found: replace(found, uid="v")
        decision = await here.claimer.claim(notification, HELD)
        assert Action.ORPHAN in decision
        assert notification.deleted
        assert notification.request.uid == "u"


async def test_a_log_that_is_taken_while_it_is_restored_is_left_to_its_owner() -> None:
    """It is no fault: the next look is told that it is fenced."""
    async with bench(shown()) as (here, notification):
        get = here.objects.get

        async def overtaken(
            namespace: str, name: str, _known: object = None, /
        ) -> NotificationRequest:
            await here.log.claim("u", Epoch("0.9"), name="ns/n")
            return await get(namespace, name)

        here.objects.get = overtaken  # type: ignore[method-assign]  # the reader of this test alone
        with pytest.raises(Unavailable, match="changed under its claim"):
            await here.claimer.claim(notification, HELD)
        assert notification.claim is None
        assert Action.STOP in await here.claimer.claim(notification, HELD)


async def test_an_intent_that_came_in_late_is_settled(
    here: Bench, notification: Notification
) -> None:
    """R1: the sweep names it again and again until a claim has made it unknown."""
    late = intent_record(make_attempt_id(EPOCH, 9), "console", at=1, by="me")
    assert notification.claim is not None
    proof = Proof(EPOCH, notification.claim.stamp)
    await here.log.intent("u", proof, late, limit=5, guard=lambda: True)
    checked: list[str] = []
    here.cache.check = checked.append
    assert await Sweeper(here.claimer).live() == 1
    assert [a.id for a in notification.abandoned] == [late.id]
    assert await Sweeper(here.claimer).live() == 1
    assert checked == ["u", "u"]
    verdict = await here.claimer.claim(notification, HELD)
    assert "left-open" in verdict.rows
    assert notification.view.attempts[late.attempt_id].state is AttemptState.UNKNOWN
    notification.hear(0)
    assert await Sweeper(here.claimer).live() == 0
    assert notification.heard == here.log.client.subscriptions, (
        "it was compared, so nothing was unheard"
    )


async def test_failed_is_decided_anew_after_a_conflict(
    here: Bench, notification: Notification
) -> None:
    """R2: what another process recorded while our write met a conflict is seen."""
    attempt, intent = await unsure(here, notification)

    async def late_success() -> None:
        success = replace(attempt, state=AttemptState.SUCCESS, ended=3, failure=None, due=0)
        await here.log.outcome("u", attempt_record(success), intent, name="ns/n")
        here.objects.request = replace(here.objects.request, resource_version="6")

    here.objects.conflicts.append(late_success)
    assert await here.sync.flush(notification) is Flushed.WRITTEN
    assert [w.get("phase") for w in here.objects.written] == ["Sent"]


async def test_a_plan_that_only_the_object_shows_is_restored() -> None:
    """R3: the channels frozen in the status stay frozen, although no attempt is lacking."""
    shown = {
        "phase": "Sending",
        "channels": [{"name": "slack:old", "state": "Pending"}],
        "conditions": [
            {
                "type": "RoutingResolved", "status": "True", "reason": "RoutingRuleMatched",
                "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
    }  # fmt: skip
    async with bench(shown) as (here, notification):
        verdict = await here.claimer.claim(notification, HELD)
        assert Action.SEED in verdict
        assert notification.view.plan is not None
        assert notification.view.plan.channels == ("slack:old",)
        elements = here.log.client.redis.twin.logs["nl:{u}"]
        assert elements[1].startswith(b"plan plan ")


async def test_failed_is_not_said_while_the_log_holds_another_history(
    here: Bench, notification: Notification
) -> None:
    """R4: what is remembered is no answer any more; the log is claimed anew, and its success is told."""
    attempt, intent = await unsure(here, notification)
    assert here.sync._merged(notification, HELD).status.phase == "Failed"
    here.log.client.redis.twin.delete("nl:{u}")
    success = replace(attempt, state=AttemptState.SUCCESS, failure=None, due=0)
    await here.log.outcome("u", attempt_record(success), intent, name="ns/n")
    assert await here.sync.flush(notification) is Flushed.NOT_OURS
    assert here.objects.written == []
    await here.claimer.claim(notification, HELD)
    assert await here.sync.flush(notification) is Flushed.WRITTEN
    assert [w.get("phase") for w in here.objects.written] == ["Sent"]


# -- verdicts -------------------------------------------------------------------------------------


async def unsure(here: Bench, notification: Notification) -> tuple[Attempt, Record]:
    """An attempt whose result is unknown, on record, and its intent."""
    await here.recorder.freeze(notification, Plan(("console",), "RoutingRuleMatched", "m", 1))
    _, intent = await recording(here.recorder).open(notification, HELD, "console", limit=5)
    attempt = Attempt(
        intent.attempt_id, "console", AttemptState.UNKNOWN, ended=2, due=9,
        failure=FailureClass.UNCERTAIN,
    )  # fmt: skip
    assert await recording(here.recorder).close(notification, attempt, intent, patience=1)
    return attempt, intent


KEY = "nl:{u}"


def header(keys: ServerTwin) -> None:
    """The header is another one."""
    keys.logs[KEY][0] = b"job:1"


def tail(keys: ServerTwin) -> None:
    """Something stands behind the last record."""
    keys.logs[KEY].append(b"job:1")


def kind(keys: ServerTwin) -> None:
    """The key is no list any more."""
    del keys.logs[KEY]
    keys.strings[KEY] = b"job:1"


HANDS = [header, tail, kind]


#: What meets a log that cannot be read.
MEETS: dict[str, Callable[[Bench, Notification], Awaitable[object]]] = {
    "a look for what others have appended": lambda here, it: here.recorder.reread(it),
    "a plan": lambda here, it: here.recorder.freeze(it, Plan(("console",), "r", "m", 1)),
    "the reason for a skip": lambda here, it: here.recorder.note(it, "console", "because"),
}


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("what", MEETS)
async def test_a_log_that_cannot_be_read_is_held(
    here: Bench, notification: Notification, what: str, hand: Any
) -> None:
    """Whatever finds it; nothing gets behind what cannot be read."""
    hand(here.log.client.redis.twin)
    await MEETS[what](here, notification)
    assert (bool(notification.quarantine), notification.claim) == (True, None)


@pytest.mark.parametrize("hand", HANDS)
async def test_an_attempt_is_not_opened(here: Bench, notification: Notification, hand: Any) -> None:
    """Who asks for permission is refused, and the log is held at once."""
    await here.recorder.freeze(notification, Plan(("console",), "RoutingRuleMatched", "m", 1))
    hand(here.log.client.redis.twin)
    answer, _ = await recording(here.recorder).open(notification, HELD, "console", limit=1)
    assert answer.answer is Answer.RECLAIM
    assert (bool(notification.quarantine), notification.claim) == (True, None)
    assert notification.in_flight.executing == {}


@pytest.mark.parametrize("hand", HANDS)
async def test_a_deleted_notification_is_forgotten_and_its_log_stays(
    here: Bench, notification: Notification, hand: Any
) -> None:
    """Nobody can tell what is in it, so it gets no expiry."""
    hand(here.log.client.redis.twin)
    notification.gone()
    assert await here.claimer.retire(notification, HELD)
    assert here.cache.entries == {}
    assert [ttl for _, _, ttl in await here.log.read_headers(["u"])] == [-1]


ODD: dict[str, dict[str, Any]] = {
    "a number": {"attempt": 10**17},
    "a code": {"code": 10**17},
    "a code below zero": {"code": -(10**17)},
    "the length of a call": {"durationSeconds": 1e300},
    "the end of time": {"timestamp": "9999-12-31T23:59:59Z"},
    "the beginning of time": {"timestamp": "0001-01-01T00:00:00Z", "startedAt": "0001-01-01T00:00:00Z"},
    "a text": {"error": "x" * 100_000},
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
async def test_what_no_record_can_hold_is_cut(case: str) -> None:
    """A log is restored from whatever its object shows; a claim that fails would fail for ever."""
    async with bench(shown(**ODD[case])) as (here, notification):
        assert Action.OPEN in await here.claimer.claim(notification, HELD)
        assert list(notification.view.attempts) == ["0.3-1"]
        assert (
            len(notification.view.attempts[next(iter(notification.view.attempts))].error)
            <= LOG_ERROR_BYTES
        )
        # Restored once: what was cut is not taken for lost at the next claim.
        position = notification.view.position
        assert "agree" in (await here.claimer.claim(notification, HELD)).rows
        assert notification.view.position == position


async def test_an_object_that_cannot_be_read_does_not_end_the_sweep_for_orphans() -> None:
    """Its own log stays, and those behind it in the scan are let go all the same."""
    async with bench() as (here, _):
        for uid in ("orphan-1", "odd", "orphan-2"):
            await here.log.claim(uid, EPOCH, name=f"ns/{uid}")

        class Mixed:
            """A store of one object, which does not parse."""

            asked = 0

            async def get(
                self, namespace: str, name: str, _known: object = None, /
            ) -> NotificationRequest:
                self.asked += name == "odd"
                raise ContractError("cannot be read") if name == "odd" else Gone(f"no {name}")

        store = Mixed()
        here.claimer.objects = cast("ObjectClient", store)
        found = await Sweeper(here.claimer).orphans(HELD, lambda _: False, lambda _: True)
        assert (found, store.asked) == ((3, 2), 1)
        assert [t for _, _, t in await here.log.read_headers(["odd"])] == [-1]


KEPT = AttemptId("0.5-1")


def keep(notification: Notification, attempt: AttemptId = KEPT) -> None:
    """Have a success that no log holds yet."""
    done = Attempt(attempt, "console", AttemptState.SUCCESS, started=3, ended=4)
    intent = intent_record(attempt, "console", at=3, by="t")
    notification.in_flight.keep(attempt, attempt_record(done), intent)


def twice_shown() -> dict[str, Any]:
    """A status with two failed attempts."""
    status = shown()
    status["deliveryAttempts"].append(status["deliveryAttempts"][0] | {"id": "0.4-1", "attempt": 2})
    return status


async def logged(here: Bench) -> list[str]:
    """Kinds and ids of the log's records, in order."""
    snapshot = await here.log.read("u")
    return [f"{r.kind} {r.id}" for r in snapshot.records] if snapshot else []


async def test_only_the_first_makes_a_log_anew() -> None:
    """A copy of a later one, held up until the log is lost again, would leave out what came before."""
    async with bench() as (here, notification):
        names: list[str | None] = []
        outcome = here.log.outcome

        async def noted(uid: str, *rest: Any, name: str | None, **more: Any) -> Any:
            names.append(name)
            return await outcome(uid, *rest, name=name, **more)

        here.claimer.log.outcome = noted  # type: ignore[method-assign] # looks on
        keep(notification)
        keep(notification, AttemptId("0.5-2"))
        await here.recorder.record_kept(notification, anew=True)
        assert names == ["ns/n", None]
        keep(notification)
        keep(notification, AttemptId("0.5-2"))
        await here.claimer.claim(notification, HELD)
        assert names[2:] == [None, None]


async def test_what_its_sender_records_is_told_from_what_a_status_shows() -> None:
    """A former owner makes the log anew with its own result; what came before is restored by the claim."""
    async with bench(shown()) as (here, notification):
        keep(notification)
        await here.recorder.record_kept(notification, anew=True)
        await here.claimer.claim(notification, HELD)
        assert await logged(here) == ["intent 0.5-1", "success 0.5-1", "seed.failed 0.3-1"]


async def test_a_log_that_is_lost_under_its_claim_is_claimed_again() -> None:
    """Results that were kept are not given to it alone; they stay until the next claim has made it anew."""
    async with bench(shown()) as (here, notification):
        keep(notification)
        logs, claim = here.log.client.redis.twin.logs, here.log.claim

        async def lost_after(*args: Any, **more: Any) -> Any:
            found = await claim(*args, **more)
            logs.clear()
            return found

        here.claimer.log.claim = lost_after  # type: ignore[method-assign] # between the calls
        with pytest.raises(Unavailable, match="lost under its claim"):
            await here.claimer.claim(notification, HELD)
        assert not await here.claimer.retire(notification, HELD)
        assert not logs
        assert [*notification.in_flight.unrecorded] == [KEPT]
        here.claimer.log.claim = claim  # type: ignore[method-assign] # as it was
        await here.claimer.claim(notification, HELD)
        assert await logged(here) == ["seed.failed 0.3-1", "seed.success 0.5-1"]


async def remembers(here: Bench, notification: Notification) -> None:
    """A former owner has the notification again, and knows the plan and the first attempt."""
    first = Attempt(AttemptId("0.3-1"), "console", AttemptState.FAILED, started=1, ended=2)
    notification.learn([first], Plan(("console",)))
    del here


async def hands_in(here: Bench, notification: Notification) -> None:
    """A former owner has the result of an attempt that was recorded as unknown long ago."""
    keep(notification, AttemptId("0.4-1"))
    await here.recorder.record_kept(notification, anew=True)


@pytest.mark.parametrize("remake", [remembers, hands_in])
async def test_a_log_made_anew_after_its_time_goes_again(remake: Any) -> None:
    """It knows less than the status, which nobody else has to have written for that."""
    status = twice_shown() | {"phase": "Sent"}
    status["deliveryAttempts"][1] |= {"status": "success"}
    async with bench(status) as (here, notification):
        late = cast("Any", SimpleNamespace(latest=lambda: 8 * 86_400_000))
        here.recorder.evidence = Evidence(
            here.log,
            late,
            protected=lambda: False,
            adopted_before=lambda: 0.0,
            marked=lambda _: False,
        )
        await remake(here, notification)
        claimed = await here.claimer.claim(notification, HELD)
        assert claimed.actions == (Action.ACK, Action.OPEN)
        assert len(await logged(here)) == 2, "what only the status says enters no log"
        assert await here.sync.flush(notification) is Flushed.WRITTEN
        assert notification.expiring
        assert len(here.objects.request.status.attempts) == 2


def journaled(here: Bench, notification: Notification) -> None:
    """Have a success that was recorded while the log was away."""
    done = Attempt(KEPT, "console", AttemptState.SUCCESS, started=3, ended=4)
    recording(here.recorder).close_in_memory(
        notification, done, intent_record(KEPT, "console", at=3, by="t")
    )


DELETED: dict[str, tuple[Any, list[str]]] = {
    "journaled": (journaled, ["seed.success 0.5-1"]),
    "kept while the log could not be read": (
        lambda _here, notification: keep(notification), ["intent 0.5-1", "success 0.5-1"],
    ),
    "nothing": (lambda _here, _entry: None, []),
}  # fmt: skip


@pytest.mark.parametrize("case", DELETED)
async def test_what_is_known_of_a_deleted_object_is_recorded(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its status is gone and there is no log, so nobody else knows; of one never sent no log is made."""
    learn, expected = DELETED[case]
    async with bench() as (here, notification):
        learn(here, notification)
        notification.gone()
        with caplog.at_level("INFO", "ledger.archive"):
            assert await here.claimer.retire(notification, HELD)
        assert here.cache.entries == {}
        assert await logged(here) == expected
        (head,) = await here.log.read_headers(["u"])
        assert (head.ttl > 0) is bool(expected)
        told = [cast("Any", r).ledger for r in caplog.records if r.name == "ledger.archive"]
        assert [KEPT in line for line in told] == [True] * bool(expected)


# -- an order in the hands of its owner -----------------------------------------------------------

C, D = "slack:ops", "slack:dev"


def failed(number: int, channel: str) -> Record:
    """A failure whose wait is long."""
    return attempt_record(
        Attempt(
            AttemptId(f"0.7-{number}"), channel, AttemptState.FAILED, ended=1_000, due=900_000,
            failure=FailureClass.TRANSIENT, error="e",
        )
    )  # fmt: skip


def snapshot(*records: Record) -> Snapshot:
    """A log as read."""
    return snapshot_of(encode_log(Header("n/a", Epoch("0.7")), records))


ORDER = resend_record(f"order:{C}:2", C, at=2_000, by="me", why="w")
LOG = (plan_record(Plan((C, D))), failed(1, C), failed(2, D))


async def test_what_is_ordered_is_due_at_once() -> None:
    """A new order takes the wait of its channel away and of no other; known ones change nothing."""
    async with bench() as (here, notification):
        notification.waits({C: 900.0, D: 900.0})
        here.recorder.adopt(notification, snapshot(*LOG))
        assert notification.due == {C: 900.0, D: 900.0}
        here.recorder.adopt(notification, snapshot(*LOG, ORDER))
        assert notification.due == {D: 900.0}
        # A hold of a few seconds, for a missing credential, stands against reading the log again.
        notification.wait(C, 105.0)
        here.recorder.adopt(notification, snapshot(*LOG, ORDER))
        assert notification.due == {C: 105.0, D: 900.0}
