"""What an import does with each log, over a Redis in memory: written, completed, joined, left alone."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from syncer.cli.access import Access
from syncer.cli.export_format import FORMAT, Log, read_export
from syncer.cli.output import Progress
from syncer.cli.transfer import Apart, Imported, export, import_logs, objects_by_name
from syncer.kube.notification_requests import Meta, Unreadable
from syncer.ledger.answers import Restored
from syncer.ledger.codec import decode_header, encode_element, stored
from syncer.ledger.reading import snapshot_of
from syncer.ledger.store import Server
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, FailureClass
from syncer.model.errors import ContractError, Rejected, Unavailable
from syncer.model.record import (
    Header,
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
    skip_record,
)
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules.fold import ROOT_CHAIN
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.unit.syncer.cli import samples
from tests.unit.syncer.cli.world import Objects, World, logged, named, page

NOW: Final = 1_800_000_000_000
C: Final = "slack:ops"
KEY: Final = "nl:{u}"
PLAN: Final = plan_record(Plan((C,), "RoutingRuleMatched", "m", at=1))
A1, A2 = AttemptId("0.7-1"), AttemptId("0.7-2")
OPENED: Final = intent_record(A1, C, at=10, by="p")
SENT: Final = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, started=10, ended=11))
HEADER: Final = Header("ns/n", Epoch("0.7"), acked=3, audited=2)


def elements(*records: Record, header: Header = HEADER) -> tuple[bytes, ...]:
    """A log as stored."""
    out, chain = [header.encode()], ROOT_CHAIN
    for position, record in enumerate(records, 1):
        out.append(encode_element(record, chain))
        chain = stored(record, chain, position).chain
    return tuple(out)


WHOLE: Final = elements(PLAN, OPENED, SENT)
OTHER: Final = elements(PLAN, skip_record("skip:2:1", C, at=2, why="paused"))


def moved(
    log: Sequence[bytes] = WHOLE, *, uid: str = "u", ttl: int = -1, damaged: bool = False
) -> Log:
    """A log of an export."""
    return Log(uid, tuple(log), ttl, decode_header(log[0]), damaged)


class Target:
    """The store that is written to."""

    def __init__(self, there: Sequence[bytes] = (), *, key: str = KEY) -> None:
        self.redis = MemoryRedis(lambda: NOW)
        if there:
            self.redis.twin.logs[key] = list(there)
        self.log: Any = MemoryLog(self.redis)

    async def bring(self, *logs: Log, **options: Any) -> Imported:
        """Import them."""
        at = cast("Access", SimpleNamespace(log=self.log))
        return await import_logs(at, logs, Progress("import", stream=io.StringIO()), **options)

    def stored(self, key: str = KEY) -> tuple[bytes, ...]:
        """The log as it is now."""
        return tuple(self.redis.twin.logs.get(key, ()))

    @property
    def woken(self) -> list[bytes]:
        """Uids whose owners were woken."""
        return [uid for _, uid in self.redis.published]


async def test_a_log_that_is_not_there() -> None:
    """It is written byte by byte with its expiry, and its owner is woken."""
    target = Target()
    assert await target.bring(moved(ttl=60)) == Imported(created=1, records=3)
    assert target.stored() == WHOLE
    assert target.redis.execute("TTL", KEY) == 60
    assert target.woken == [b"u"]


async def test_a_log_without_expiry_gets_none() -> None:
    """What did not expire does not begin to."""
    target = Target()
    await target.bring(moved(ttl=-1))
    assert target.redis.execute("TTL", KEY) == -1


async def test_the_beginning_of_a_log_is_completed() -> None:
    """Only what is missing is appended."""
    target = Target(WHOLE[:2])
    assert await target.bring(moved()) == Imported(extended=1, records=2)
    assert target.stored() == WHOLE
    assert target.woken == [b"u"]


async def test_a_log_that_holds_everything_stays() -> None:
    """A second import, or one of an older export, changes nothing and wakes nobody."""
    for there in (WHOLE, elements(PLAN, OPENED, SENT, skip_record("s", C, at=9, why="w"))):
        target = Target(there)
        assert await target.bring(moved()) == Imported(present=1)
        assert target.stored() == there
        assert target.woken == []


async def test_another_history_is_left_alone() -> None:
    """The first position that differs is named, and the import goes on with the next log."""
    target = Target(OTHER)
    found = await target.bring(moved(), moved(uid="v"))
    assert found == Imported(created=1, records=3, apart=[Apart("u", 2)])
    assert target.stored() == OTHER
    assert target.woken == [b"v"]


async def test_what_is_damaged_is_refused() -> None:
    """Neither a damaged log nor one whose header cannot be read is written."""
    target = Target()
    found = await target.bring(moved(damaged=True), replace(moved(uid="v"), header=None))
    assert found == Imported(refused=["u", "v"])
    assert target.redis.twin.logs == {}


FORETOLD: Final = {
    "nothing is there": ((), Imported(created=1, records=3)),
    "its beginning is there": (WHOLE[:3], Imported(extended=1, records=1)),
    "all of it is there": (WHOLE, Imported(present=1)),
    "another history is there": (OTHER, Imported(apart=[Apart("u", 2)])),
}


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("case", FORETOLD)
async def test_a_dry_run_writes_nothing(case: str, join: bool) -> None:
    """It foretells what the import does, down to the counts, and what would be joined as apart."""
    there, wanted = FORETOLD[case]
    target = Target(there)
    assert await target.bring(moved(), dry_run=True, join=join) == wanted
    assert (target.stored(), target.woken) == (there, [])
    assert await Target(there).bring(moved()) == wanted


# -- by name --------------------------------------------------------------------------------------


def bearer(uid: str) -> dict[str, NotificationRequest]:
    """Who bears the name now."""
    metadata = {"uid": uid, "namespace": "ns", "name": "n", "resourceVersion": "1"}
    return {"ns/n": parse_object({"metadata": metadata, "spec": {"type": "simple"}})}


async def test_a_new_bearer_has_published_nothing() -> None:
    """The log of a name is written under the new uid, with nothing marked as published."""
    target = Target()
    assert await target.bring(moved(), named=bearer("w")) == Imported(created=1, records=3)
    log = snapshot_of(target.stored("nl:{w}"))
    header, records = log.header, log.records
    assert (header.acked, header.audited, header.object) == (0, 2, "ns/n")
    assert [r.kind for r in records] == [Kind.PLAN, Kind.INTENT, Kind.SUCCESS]
    assert target.stored() == ()
    assert target.woken == [b"w"]


async def test_the_same_bearer_keeps_its_log() -> None:
    """An object that still has its uid has published what its log says."""
    target = Target()
    await target.bring(moved(), named=bearer("u"))
    assert target.stored() == WHOLE


async def test_a_name_that_nobody_bears() -> None:
    """Its log is named and not written, and the next one is."""
    target = Target()
    assert await target.bring(moved(), named={}) == Imported(nameless=["ns/n"])
    assert target.redis.twin.logs == {}
    other = elements(PLAN, header=replace(HEADER, object="ns/other"))
    found = await target.bring(moved(other), moved(uid="v"), named=bearer("w"))
    assert found == Imported(nameless=["ns/other"], created=1, records=3)


# -- joining --------------------------------------------------------------------------------------


async def test_attempts_are_joined_to_another_history() -> None:
    """What is known of attempts is appended as seeds behind what is there."""
    target = Target(OTHER)
    assert await target.bring(moved(), join=True) == Imported(joined=1)
    assert target.stored()[: len(OTHER)] == OTHER
    records = snapshot_of(target.stored()).records
    assert [(r.kind, r.id) for r in records[2:]] == [(Kind.SEED_SUCCESS, A1)]
    assert target.woken == [b"u"]


async def test_an_open_attempt_is_joined_as_unknown() -> None:
    """Nobody is left to record its result; what is known is that it was begun, and when."""
    target = Target(OTHER)
    await target.bring(moved(elements(PLAN, OPENED)), join=True)
    records = snapshot_of(target.stored()).records
    (seed,) = records[2:]
    assert (seed.kind, seed.id, seed.channel) == (Kind.SEED_UNKNOWN, A1, C)
    assert seed.body["class"] == FailureClass.UNCERTAIN.value
    assert seed.body["at"] == 10
    assert seed.body["error"] == "the log was moved before the result was recorded"


class Refusing(MemoryLog):
    """A log that refuses a call."""

    def __init__(
        self, redis: MemoryRedis, *, restoring: Exception | None, outcome: Exception
    ) -> None:
        super().__init__(redis)
        self._restoring, self._outcome = restoring, outcome

    async def restore(self, uid: str, elements: Sequence[bytes], *, ttl: int) -> Restored:
        """Refuse, or answer as it is."""
        if self._restoring is not None:
            raise self._restoring
        return await super().restore(uid, elements, ttl=ttl)

    async def outcome(self, *arguments: Any, **options: Any) -> Any:
        """Refuse."""
        raise self._outcome


NO_LOG: Final = {
    "what is there is no log": ContractError("no header"),
}
NO_ANSWER: Final = {
    "the right is missing": Rejected("no", reason="NOPERM"),
    "Redis does not answer": Unavailable("away"),
}


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("case", NO_LOG)
async def test_what_is_there_is_no_log_of_ours(case: str, join: bool) -> None:
    """It is left alone and named, wanted joined or not; no other log waits for it."""
    error = NO_LOG[case]
    target = Target(OTHER)
    target.log = Refusing(target.redis, restoring=error, outcome=error)
    found = await target.bring(moved(), join=join)
    assert (found.apart, found.joined) == ([("u", 0)], 0)
    assert (target.stored(), target.woken) == (OTHER, [])


@pytest.mark.parametrize("case", NO_ANSWER)
async def test_a_refusal_says_nothing_of_what_is_there(case: str) -> None:
    """It ends the import, at the writing of a log and at the joining, and is no other history."""
    error = NO_ANSWER[case]
    for restoring, join in ((error, False), (error, True), (None, True)):
        target = Target(OTHER)
        target.log = Refusing(target.redis, restoring=restoring, outcome=error)
        with pytest.raises(type(error)):
            await target.bring(moved(), join=join)
        assert target.stored() == OTHER


# -- export ---------------------------------------------------------------------------------------


async def exported(
    world: World, *, uids: Sequence[str] = (), namespaces: Sequence[str] = ()
) -> str:
    """The file of an export."""
    out = io.StringIO()
    counts = await export(world.at, namespaces, uids, out, world.progress)
    last = json.loads(out.getvalue().splitlines()[-1])
    assert last == {"end": True, "logs": counts.logs, "records": counts.records}
    assert world.progress.done == counts.logs
    return out.getvalue()


async def test_an_export_can_be_imported() -> None:
    """All logs of a store are read back as they were, the damaged ones too."""
    world = World(Objects())
    for uid in ("a", "b"):
        world.put(uid, logged(uid))
    world.put("c", (*WHOLE, b"damage"))
    text = await exported(world)
    first = json.loads(text.splitlines()[0])
    assert first == {"format": FORMAT, "prefix": "nl", "store": "", "at": samples.NOW}
    assert text.isascii()
    found = list(read_export(text.splitlines()))
    assert [(log.uid, log.elements, log.damaged) for log in found] == [
        ("a", logged("a"), False), ("b", logged("b"), False), ("c", (*WHOLE, b"damage"), True),
    ]  # fmt: skip
    assert json.loads(text.splitlines()[-1]) == {"end": True, "logs": 3, "records": 6}


async def test_an_export_names_the_store_and_is_legible(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is that of the server that answers now; letters of any script stand as they are."""
    world = World(Objects())
    world.put("a", elements(plan_record(Plan((C,), "R", "größe", at=1))))

    async def probe() -> None:
        world.at.client.server = Server("run", "id", "master", "abc", (7, 2))

    monkeypatch.setattr(world.at.client, "probe", probe)
    text = await exported(world)
    assert json.loads(text.splitlines()[0])["store"] == "abc"
    assert "größe" in text


async def test_some_logs_are_exported() -> None:
    """Logs are chosen by uid, each once and in that order, or by the namespace in their header."""
    world = World(Objects())
    world.put("a", logged("a", "one"))
    world.put("b", logged("b", "two"))
    world.put("c", (b"no header",))
    chosen = {
        "by uid": (await exported(world, uids=["b", "nobody", "a", "b"]), ["b", "a"]),
        "by namespace": (await exported(fresh(world), namespaces=["two", "three"]), ["b"]),
        "all": (await exported(fresh(world)), ["a", "b", "c"]),
    }
    for case, (text, wanted) in chosen.items():
        assert [log.uid for log in read_export(text.splitlines())] == wanted, case


def fresh(world: World) -> World:
    """Another command on the same store."""
    other = World(Objects())
    other.redis.twin.logs = world.redis.twin.logs
    return other


async def test_more_uids_than_a_page_are_exported() -> None:
    """Uids are asked for in pages; none is left out at the border of one."""
    world = World(Objects())
    uids = [f"u{n}" for n in range(501)]
    for uid in uids:
        world.put(uid, logged(uid))
    text = await exported(world, uids=uids)
    assert [log.uid for log in read_export(text.splitlines())] == uids


async def test_objects_by_name() -> None:
    """Objects are found by namespace and name, without what they hold; what does not parse is left out."""
    meta = Meta("bad", "ns", "odd", "5")
    full = replace(named("a"), raw=b"{}")
    world = World(Objects(page(full, Unreadable(meta, "ContractError"))))
    assert await objects_by_name(world.at, ()) == {"ns/na": replace(full, raw=b"")}


async def test_what_is_joined_names_its_object() -> None:
    """Should the other history expire meanwhile, a log is made of it under that name."""
    named: list[str] = []
    target = Target(OTHER)
    outcome = target.log.outcome

    async def noted(*given: Any, name: str, **more: Any) -> Any:
        named.append(name)
        return await outcome(*given, name=name, **more)

    target.log.outcome = noted
    await target.bring(moved(), join=True)
    assert named == [HEADER.object]
