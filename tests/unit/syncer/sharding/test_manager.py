"""
Replicas that share the shards of one installation, on virtual time.

Each is the real manager with the real session, watch and calls; the API server is the stand-in without a
network. What the server cannot be made to show here is asked on the real one
(`tests/integration/test_sessions.py`) and in the simulation.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, cast
from unittest.mock import Mock

import orjson
import pytest

from syncer.kube.lease_term import LeaseTerm, LeaseTimings, Session
from syncer.kube.leases import Leases
from syncer.model.errors import (
    DENIED,
    ConfigError,
    PortError,
    Unauthorised,
    Unavailable,
)
from syncer.model.journal import NOTE, parse_note
from syncer.sharding.installation import Installation
from syncer.sharding.manager import ShardManager
from syncer.sharding.ownership import Shards
from syncer.sharding.sessions import Place
from syncer.sharding.view import FOREVER, LABEL, SESSION, session_name
from tests.fakes.apianswers import Request
from tests.fakes.apistate import MERGE_PATCH, ApiState
from tests.fakes.directkube import DirectKube
from tests.simulation.loop import SimLoop, simulate

TIMINGS = LeaseTimings()
SHARDS = "notification-ledger/shards"
DURATION, PERIOD = TIMINGS.duration, TIMINGS.retry_period
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


class Replica:
    """One replica; its owner's shards fall quiet when the test lets them."""

    def __init__(self, town: Town, name: str) -> None:
        self.town, self.name = town, name
        self.kube = DirectKube(town.state)
        self.able = True
        self.refused: list[ConfigError] = []
        self.asked: list[int] = []
        self.begun: list[int] = []
        self.quiet = asyncio.Event()
        self.quiet.set()
        self.shards = Shards(town.shards)
        leases = Leases(self.kube, "default", (LABEL, "nl"))
        self.manager = ShardManager(
            self.shards,
            Installation(leases, "default", "nl", shards=town.shards),
            self,
            leases,
            Place("nl", name, 0, town.clock, lambda: datetime.fromtimestamp(town.clock(), UTC)),
            timings=TIMINGS,
            able=lambda: self.able,
            refused=self.refused.append,
        )  # fmt: skip
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> Replica:
        """Found the installation and run."""
        await self.manager._installation.found()
        self.task = asyncio.create_task(self.manager.run())
        return self

    async def kill(self) -> None:
        """End at once; nothing is released."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def begin(self, shard: int) -> None:
        self.begun.append(shard)

    async def quiesce(self, shard: int, seconds: float) -> bool:
        self.asked.append(shard)
        await self.quiet.wait()
        return True

    @property
    def owned(self) -> list[int]:
        """Shards that it owns and may work on now."""
        now = self.town.clock()
        return sorted(n for n, term in self.shards.owned.items() if term.valid(now))

    def sends(self, n: int) -> bool:
        """Whether it may begin the shortest send in a shard."""
        term = self.shards.owned.get(n)
        return isinstance(term, LeaseTerm) and term.may_send(self.town.clock(), 0.0)


class Town:
    """An API server and its replicas."""

    def __init__(self, loop: SimLoop, shards: int = 4) -> None:
        self.clock = loop.time
        self.shards = shards
        self.state = ApiState(now=loop.time, install=False)

    async def replica(self, name: str) -> Replica:
        return await Replica(self, name).start()

    async def owner(self, name: str) -> Replica:
        """Start one that gets all shards."""
        one = await self.replica(name)
        await self.until(lambda: len(one.owned) == self.shards)
        return one

    async def pair(self) -> tuple[Replica, Replica]:
        """Start one that gets all shards, and then one that gets half of them."""
        a, b = await self.owner("a"), await self.replica("b")
        await self.until(lambda: len(b.owned) == self.shards / 2)
        return a, b

    def lease(self, name: str) -> dict[str, Any]:
        found = self.state.get("leases", "default", name)
        assert found is not None, name
        return found

    def sessions(self) -> set[str]:
        found = self.state.objects("leases")
        return {o["spec"]["holderIdentity"] for o in found if "-session-" in o["metadata"]["name"]}

    def ask(self, method: str, name: str, body: Any = None) -> None:
        """Change a Lease as a human does."""
        form = MERGE_PATCH if method == "PATCH" else "application/json"
        path = LEASES if method == "POST" else f"{LEASES}/{name}"
        data = orjson.dumps(body) if body else b""
        answer = self.state.answer(Request(method, path, {}, data, form))
        assert answer.code < 300, answer.body

    async def until(self, condition: Callable[[], object], within: float = 60.0) -> float:
        """Wait for what must happen; returns how long it took."""
        began = self.clock()
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.01)
        return self.clock() - began


def town(
    shards: int = 4, seeds: tuple[int, ...] = (1, 2, 3)
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """
    Run a test in a town of its own, on virtual time, in some orders of what happens at once.

    A test that takes `a` begins with an owner of all shards, one that takes `b` too with two that share.
    """

    def wrap(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        signature = inspect.signature(test)
        taken = {"here", "a", "b"} & signature.parameters.keys()
        others = [p for p in signature.parameters.values() if p.name not in taken]

        async def play(loop: SimLoop, fixtures: dict[str, Any]) -> None:
            here = Town(loop, shards)
            there = [*await here.pair()] if "b" in taken else []
            there = there or ([await here.owner("a")] if "a" in taken else [])
            await test(here, *there, **fixtures)

        def run(**fixtures: Any) -> None:
            for seed in seeds:
                simulate(seed, lambda loop: play(loop, fixtures))

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        vars(run)["__signature__"] = signature.replace(parameters=others)
        return run

    return wrap


def refusing(
    error: PortError, *, method: str = "", ends: str = "", holding: bytes = b""
) -> Callable[[Request], None]:
    """Have requests fail that are of this kind."""

    def fail(request: Request) -> None:
        if (
            method in ("", request.method)
            and request.path.endswith(ends)
            and holding in request.body
        ):
            raise error

    return fail


#: Whatever would acquire a shard.
NOT_TO_ACQUIRE = refusing(Unavailable("not now"), holding=b"acquireTime")


# -- at rest --------------------------------------------------------------------------------------


@town(shards=16)
async def test_at_rest_a_replica_writes_its_session_and_reads_nothing(
    here: Town, a: Replica, b: Replica
) -> None:
    """Half a write a second, whatever the number of shards; each knows how many replicas there are."""
    await asyncio.sleep(2 * DURATION)
    assert [len(r.owned) for r in (a, b)] == [8, 8]
    assert [r.manager.sessions for r in (a, b)] == [2, 2]
    for one in (a, b):
        one.kube.requests.clear()
    await asyncio.sleep(100)
    for one in (a, b):
        assert set(one.kube.requests) == {f"PATCH {session_name('nl', one.name)}"}
        assert 48 <= len(one.kube.requests) <= 50


@town()
async def test_what_a_shards_lease_says(here: Town, a: Replica) -> None:
    """Holder and session, the longest duration there is; the epoch is the write's version."""
    lease = here.lease("nl-0")
    session = here.lease(session_name("nl", "a"))
    assert lease["metadata"]["annotations"] == {SESSION: session["metadata"]["uid"]}
    assert lease["metadata"]["labels"] == session["metadata"]["labels"] == {LABEL: "nl"}
    assert lease["spec"]["holderIdentity"] == "a"
    assert lease["spec"]["leaseDurationSeconds"] == FOREVER
    assert a.shards.owned[0].epoch == f"0.{lease['metadata']['resourceVersion']}"
    assert session["spec"]["leaseDurationSeconds"] == 18


@town(shards=16, seeds=(1,))
async def test_few_shards_are_acquired_at_once(here: Town) -> None:
    """Each call has a connection of its own, whose memory does not come back."""
    a = Replica(here, "a")
    ask, under_way, most = a.kube.request, 0, 0

    async def slowly(*arguments: Any, **options: Any) -> dict[str, Any]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.1)
        under_way -= 1
        return await ask(*arguments, **options)

    a.kube.request = slowly  # type: ignore[method-assign]  # counts
    await a.start()
    await here.until(lambda: len(a.owned) == 16)
    assert 2 <= most <= 5


@town()
async def test_a_note_is_found_by_the_notification(here: Town, a: Replica) -> None:
    """Each shard's Lease carries one while the log is away, for each notification; its marks may stay."""
    uids = [f"uid-{n}" for n in range(16)]

    def none() -> bool:
        return not a.manager.held.carries_notes and {a.manager.note_of(uid) for uid in uids} == {
            None
        }

    assert none()
    a.kube.fail = refusing(Unavailable("not now"), ends="/nl-1")
    assert await a.manager.put_notes(1_000) == 3, "one is not confirmed"
    a.kube.fail = lambda _: None
    assert await a.manager.put_notes(1_000) == 4
    assert not none()
    for uid in uids:
        note = a.manager.note_of(uid)
        assert a.manager.held.carries_notes
        assert note is not None
        stored = here.lease(f"nl-{a.manager.shard_of(uid)}")["metadata"]["annotations"][NOTE]
        assert parse_note(stored) == note
        assert a.manager.may_carry_note(uid)
    assert await a.manager.remove_notes() == 4
    assert none()
    (shard, *_) = a.manager.held.marks_left
    assert await a.manager.held.clear_marks(shard) is True
    assert shard not in a.manager.held.marks_left


# -- taking over ----------------------------------------------------------------------------------


@town()
async def test_a_dead_replicas_shards_are_taken_once_its_session_is_ended(
    here: Town, a: Replica, b: Replica
) -> None:
    """Within a LeaseDuration and two periods; while it might send, nobody else may."""
    terms = dict(a.shards.owned)
    await a.kill()
    took = await here.until(lambda: len(b.owned) == 4)
    assert DURATION - PERIOD <= took <= DURATION + 2 * PERIOD
    assert here.sessions() == {"b"}
    for n, term in terms.items():
        assert not term.may_send(here.clock(), 0.0), n


@town()
async def test_a_renewal_defeats_the_end_of_a_session(here: Town, a: Replica, b: Replica) -> None:
    """Whose watch shows nothing asks in vain, takes nothing, and looks at everything anew."""
    # Neither the watch nor a list brings anything: it sees a session that is silent.
    b.kube.deaf = True
    b.kube.fail = refusing(Unavailable("no list"), method="GET")
    await asyncio.sleep(3 * DURATION)
    ends = [r for r in b.kube.requests if r == f"DELETE {session_name('nl', 'a')}"]
    assert len(ends) == 1, "what was renewed once is renewed, whatever is not shown"
    assert (len(a.owned), len(b.owned)) == (2, 2)
    assert b.manager.problem == "other replicas' leases are not known (watch of leases: no list)"
    b.kube.deaf, b.kube.fail = False, lambda _: None
    await asyncio.sleep(DURATION)
    await here.until(lambda: b.manager.problem is None, within=PERIOD)
    b.kube.requests.clear()
    await asyncio.sleep(2 * DURATION)
    assert set(b.kube.requests) == {f"PATCH {session_name('nl', 'b')}"}


@town(shards=2)
async def test_a_watch_that_does_not_show_our_renewals_is_given_up(here: Town) -> None:
    """Others' events still come on it; what it keeps back is found by a new list."""
    a = await here.replica("a")
    await here.until(lambda: len(a.owned) == 2)
    b, c = await here.replica("b"), await here.replica("c")
    await here.until(lambda: sorted(len(r.owned) for r in (a, b, c)) == [0, 1, 1])
    idle = next(r for r in (b, c) if not r.owned)
    kept = session_name("nl", "a")
    idle.kube.lose = lambda event: event["object"]["metadata"]["name"] != kept
    await asyncio.sleep(PERIOD)
    other = c if idle is b else b
    await other.manager.release()
    took = await here.until(lambda: idle.owned, within=DURATION)
    assert took < TIMINGS.renew_deadline + 2 * PERIOD


@town()
async def test_a_released_replica_is_not_waited_for(here: Town, a: Replica, b: Replica) -> None:
    """It frees its shards and deletes its session; nothing is left of it."""
    assert await a.manager.release() == 2
    assert a.shards.owned == {}
    assert here.sessions() == {"b"}
    assert await here.until(lambda: len(b.owned) == 4) < PERIOD
    assert a.task is not None
    await asyncio.wait_for(a.task, 10)


@town()
async def test_a_session_lost_while_it_is_being_released(here: Town, a: Replica) -> None:
    """Its shards are nobody's to release any more; the process ends as it was to."""
    session = a.manager._session.current
    assert session is not None
    for turns in range(4):

        async def lose(turns: int = turns, session: Session = session) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            session.end("lost")

        released, _ = await asyncio.gather(a.manager.release(), lose())
        assert 0 <= released <= 4
        again = await here.replica(f"a{turns}")
        await here.until(lambda again=again: len(again.owned) == 4)  # type: ignore[misc]  # bound now
        a, found = again, again.manager._session.current
        assert found is not None
        session = found


@town()
async def test_a_right_that_is_missing_stays_the_reason(
    here: Town, a: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A session that may be begun but not renewed is begun anew each time; the reason does not change.

    Readiness names it, and so does the log.
    """
    a.kube.fail = refusing(Unavailable("cannot patch"), method="PATCH")
    name = session_name("nl", "a")
    await here.until(lambda: a.manager.problem, within=DURATION)
    problems, uids = set(), set()
    for _ in range(300):
        problems.add(a.manager.problem)
        uids.add(here.lease(name)["metadata"]["uid"])
        await asyncio.sleep(0.1)
    assert problems == {f"no owner yet for shard 0, 1, 2, 3 (lease {name}: cannot patch)"}
    assert len(uids) > 2
    told = [line["error"] for line in said(caplog, "session lost")]
    assert len(told) > 1
    assert set(told) == {f"lease {name}: cannot patch"}
    a.kube.fail = lambda _: None
    await here.until(lambda: len(a.owned) == 4)
    assert a.manager.problem is None


@town()
async def test_a_frozen_replica_finds_its_session_gone(here: Town, a: Replica, b: Replica) -> None:
    """It may not send by its own clock, and begins anew with epochs of its own."""
    terms = dict(a.manager.held.terms)
    a.kube.fail, a.kube.deaf = refusing(Unavailable("nothing gets through")), True
    while len(b.owned) < 4:
        both = [n for n in range(4) if a.sends(n) and b.sends(n)]
        assert not both
        await asyncio.sleep(0.05)
    assert all(term.ended == "not renewed for 5 s" for term in terms.values())
    a.kube.fail, a.kube.deaf = lambda _: None, False
    await here.until(lambda: (len(a.owned), len(b.owned)) == (2, 2))
    assert not set(a.manager.held.terms.values()) & set(terms.values())


@town()
async def test_a_session_without_its_label_is_not_taken_for_ended(
    here: Town, a: Replica, b: Replica
) -> None:
    """Its renewals put the label back; the dead one's is put back by whoever misses it."""
    bare = {"metadata": {"labels": {LABEL: None}}}
    here.ask("PATCH", session_name("nl", "a"), bare)
    await asyncio.sleep(2 * DURATION)
    assert (len(a.owned), len(b.owned)) == (2, 2)
    await a.kill()
    here.ask("PATCH", session_name("nl", "a"), bare)
    await here.until(lambda: len(b.owned) == 4, within=3 * DURATION)
    assert here.sessions() == {"b"}


@town(shards=1)
async def test_what_is_written_is_what_was_judged(here: Town) -> None:
    """A shard that gets another owner while its old one's end is looked up stays with the new one."""
    a = await here.replica("a")
    await here.until(lambda: a.owned == [0])
    b = await here.replica("b")
    await here.until(lambda: here.sessions() == {"a", "b"})
    await a.kill()
    name = session_name("nl", "a")
    here.ask("DELETE", name)
    request = b.kube.request

    async def slowly(method: Any, path: str, **rest: Any) -> Any:
        found = request(method, path, **rest)
        if method != "GET" or not path.endswith(name):
            return await found
        # Another process of a's name is back, and faster.
        meta = {"name": name, "labels": {LABEL: "nl"}, "annotations": {}}
        spec = {"holderIdentity": "a", "leaseDurationSeconds": 18}
        kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        here.ask("POST", name, {**kind, "metadata": meta, "spec": spec})
        uid = here.lease(name)["metadata"]["uid"]
        here.ask("PATCH", "nl-0", {"metadata": {"annotations": {SESSION: uid}}})
        await asyncio.sleep(0.1)
        here.ask("DELETE", name)
        try:
            return await found
        finally:
            taken.append(here.lease("nl-0")["metadata"]["resourceVersion"])

    taken: list[str] = []
    b.kube.request = slowly  # type: ignore[method-assign]  # to be slow
    await here.until(lambda: taken)
    await asyncio.sleep(0.1)
    assert here.lease("nl-0")["metadata"]["resourceVersion"] == taken[0]


@town()
async def test_the_epoch_of_a_write_that_changed_nothing_is_refused(here: Town, a: Replica) -> None:
    """If the version does not move, the epoch would be the predecessor's: not acquired."""
    await a.kill()
    again = Replica(here, "a")
    real = again.kube.request

    async def stuck(method: Any, path: str, **more: Any) -> Any:
        if method == "PATCH" and path.endswith("/nl-1"):
            return here.lease("nl-1")
        return await real(method, path, **more)

    again.kube.request = stuck  # type: ignore[method-assign]  # a server that lies
    await again.start()
    await here.until(lambda: "did not change" in (again.manager.problem or ""))
    assert again.owned == [0, 2, 3]


# -- by hand --------------------------------------------------------------------------------------


@town()
async def test_a_shard_taken_by_hand_is_given_up(here: Town, a: Replica) -> None:
    """The watch shows it; who was written in does not renew, and is waited for."""
    term = a.shards.owned[1]
    here.ask("PATCH", "nl-1", {"spec": {"holderIdentity": "human", "leaseDurationSeconds": 9}})
    await here.until(lambda: a.owned == [0, 2, 3], within=1)
    assert isinstance(term, LeaseTerm)
    assert term.ended == "taken by human"
    assert 8.9 < await here.until(lambda: a.owned == [0, 1, 2, 3]) < 9 + PERIOD


@town()
async def test_an_edit_of_a_label_changes_nothing(here: Town, a: Replica) -> None:
    """Neither on the shard nor on the session."""
    terms = dict(a.shards.owned)
    for name in ("nl-1", session_name("nl", "a")):
        here.ask("PATCH", name, {"metadata": {"labels": {"k": "v"}}})
        await asyncio.sleep(DURATION)  # a renewal that is not examined ends it before
    assert a.shards.owned == terms


@town()
async def test_another_number_of_shards_is_refused(here: Town, a: Replica) -> None:
    """Nothing more is taken; the process is told once, has to release, and leaves the map alone."""
    here.ask("PATCH", "nl-map", {"metadata": {"annotations": {SHARDS: "2"}}})
    await here.until(lambda: a.refused, within=1)
    await asyncio.sleep(3 * PERIOD)
    assert len(a.refused) == 1
    here.ask("DELETE", "nl-map")
    a.kube.requests.clear()
    await asyncio.sleep(5 * PERIOD)
    assert [r for r in a.kube.requests if r.endswith("nl-map")] == []
    assert await a.manager.release() == 4


@town()
async def test_a_map_without_its_label_is_shown_again(here: Town, a: Replica) -> None:
    """Else nobody would see that the number of shards was changed."""
    here.ask("PATCH", "nl-map", {"metadata": {"labels": {LABEL: None}}})
    await asyncio.sleep(2 * PERIOD)
    assert here.lease("nl-map")["metadata"]["labels"] == {LABEL: "nl"}
    await asyncio.sleep(PERIOD)
    a.kube.requests.clear()
    await asyncio.sleep(5 * PERIOD)
    assert set(a.kube.requests) == {f"PATCH {session_name('nl', 'a')}"}


# -- Leases that we have not written --------------------------------------------------------------


@town()
async def test_a_shard_without_a_label_is_found(here: Town) -> None:
    """Whoever made it: it is labelled, and waited for, since it names no session."""
    body = {
        "metadata": {"name": "nl-2"},
        "spec": {"holderIdentity": "old", "leaseDurationSeconds": 9, "leaseTransitions": 7},
    }
    here.ask("POST", "nl-2", body)
    a = await here.replica("a")
    await here.until(lambda: a.owned == [0, 1, 3], within=PERIOD)
    assert 8.9 < await here.until(lambda: len(a.owned) == 4) < 9 + 2 * PERIOD
    assert here.lease("nl-2")["spec"]["leaseTransitions"] == 8


# -- sharing --------------------------------------------------------------------------------------


@town()
async def test_a_slow_hand_over_is_no_silence(here: Town, a: Replica) -> None:
    """While a shard is being handed over, the session is renewed and dead replicas are succeeded."""
    a.quiet.clear()
    b = await here.replica("b")
    await here.until(lambda: a.asked == [3])
    await asyncio.sleep(3 * DURATION)
    assert a.owned == [0, 1, 2, 3]
    assert b.owned == []
    assert a.shards.leaving == {3}
    a.quiet.set()
    await here.until(lambda: (len(a.owned), len(b.owned)) == (2, 2))


@town()
async def test_what_is_above_the_share_is_judged_anew_for_each_shard(
    here: Town, a: Replica
) -> None:
    """The newcomer may be gone again before the first shard is quiet."""
    a.quiet.clear()
    b = await here.replica("b")
    await here.until(lambda: a.asked == [3])
    before = a.shards.owned[3]
    await b.manager.release()
    await asyncio.sleep(PERIOD)
    a.quiet.set()
    await here.until(lambda: a.shards.owned.get(3, before) is not before)
    await asyncio.sleep(3 * PERIOD)
    assert (a.owned, a.asked) == ([0, 1, 2, 3], [3])


@town()
async def test_a_shard_acquired_anew_is_not_handed_over_as_if_it_were_quiet(
    here: Town, a: Replica
) -> None:
    """Lost and acquired again meanwhile: sends may have begun, which the waiting was not for."""
    a.quiet.clear()
    b = await here.replica("b")
    await here.until(lambda: a.asked == [3])
    before = a.shards.owned[3]
    b.kube.fail = NOT_TO_ACQUIRE
    here.ask("DELETE", "nl-3")
    await here.until(lambda: a.shards.owned.get(3, before) is not before)
    anew = a.shards.owned[3]
    await b.manager.release()
    await asyncio.sleep(PERIOD)
    a.quiet.set()
    await asyncio.sleep(3 * PERIOD)
    assert a.shards.owned[3] is anew
    assert int(anew.epoch[2:]) > int(before.epoch[2:])
    assert a.asked == [3]


@town()
async def test_who_cannot_serve_hands_over_while_another_can(here: Town, a: Replica) -> None:
    """After a LeaseDuration of it, all of its shards; its session says so from the next renewal."""
    a.able = False
    await asyncio.sleep(2 * DURATION)
    assert len(a.owned) == 4
    b = await here.replica("b")
    await here.until(lambda: b.owned == [0, 1, 2, 3])
    assert a.asked == [3, 2, 1, 0]
    a.able = True
    await asyncio.sleep(DURATION / 2)
    assert a.owned == []
    await here.until(lambda: (len(a.owned), len(b.owned)) == (2, 2))


@town()
async def test_a_free_shard_above_the_share_is_taken_in_the_end(
    here: Town, a: Replica, b: Replica
) -> None:
    """Whoever it would belong to does not take it: a shard without an owner is worse."""
    b.kube.fail = NOT_TO_ACQUIRE
    (n, *_) = b.owned
    here.ask("PATCH", f"nl-{n}", {"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})
    assert DURATION <= await here.until(lambda: n in a.owned) <= DURATION + 2 * PERIOD


# -- what is logged -------------------------------------------------------------------------------


def said(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    """Members of the log lines with this message, its own alone."""
    common = {*vars(logging.makeLogRecord({})), "message", "asctime"}
    return [
        {k: v for k, v in vars(line).items() if k not in common}
        for line in caplog.records
        if line.getMessage() == message
    ]


@town(seeds=(1,))
async def test_a_hand_over_is_logged_with_its_reason(
    here: Town, caplog: pytest.LogCaptureFixture
) -> None:
    """So is what was acquired before, with its epoch, and the session."""
    caplog.set_level(logging.INFO, "ledger.shards")
    a = await here.owner("a")
    uid = here.lease(session_name("nl", "a"))["metadata"]["uid"]
    assert said(caplog, "session begun") == [{"session": uid}]
    assert said(caplog, "shard acquired") == [
        {"shard": n, "epoch": term.epoch} for n, term in a.shards.owned.items()
    ]
    assert a.begun == list(a.shards.owned)
    b = await here.replica("b")
    await here.until(lambda: len(b.owned) == 2)
    assert said(caplog, "shard handed over") == [
        {"shard": n, "released": True, "reason": "above the share of 2 replicas"} for n in (3, 2)
    ]
    assert said(caplog, "a shard is handed over with work under way") == []
    assert sorted(a.shards.owned) == [0, 1]


@town(seeds=(1,))
async def test_a_map_that_is_gone_is_told_while_it_can_be(
    here: Town, a: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """Replicas go on, and say that the next one to start is refused, before that happens and after."""
    here.ask("DELETE", "nl-map")
    await asyncio.sleep(5 * PERIOD)
    b = await here.replica("b")
    await here.until(lambda: len(b.owned) == 2)
    await asyncio.sleep(5 * PERIOD)
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert [t.partition(",")[0] for t in told] == [
        "the Lease nl-map was deleted", "the Lease nl-map was made anew",
    ]  # fmt: skip
    assert [r.manager._installation.problem for r in (a, b)] == [told[1], None]
    assert len(a.owned) == 2


@town(seeds=(1,))
async def test_a_session_that_cannot_go_is_ended_once(
    here: Town, a: Replica, b: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """Its Lease has a finalizer: it stays to be seen after it was ended."""
    here.ask("PATCH", session_name("nl", "a"), {"metadata": {"finalizers": ["x.example/y"]}})
    await a.kill()
    await here.until(lambda: len(b.owned) == 4)
    await asyncio.sleep(10 * PERIOD)
    assert len(said(caplog, "session of a silent replica ended")) == 1
    assert b.kube.requests.count(f"DELETE {session_name('nl', 'a')}") == 1
    assert b.manager.problem is None


@town(seeds=(1,))
async def test_a_loss_is_logged_with_its_reason(
    here: Town, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that is deleted takes its shards with it; the one that was silent is named."""
    caplog.set_level(logging.INFO, "ledger.shards")
    a = await here.owner("a")
    terms = dict(a.shards.owned)
    name = session_name("nl", "a")
    uid = here.lease(name)["metadata"]["uid"]
    here.ask("DELETE", name)
    await here.until(lambda: said(caplog, "session lost"))
    reason = "its lease was deleted"
    assert not set(a.shards.owned.values()) & set(terms.values())
    assert said(caplog, "session lost") == [{"session": uid, "reason": reason}]
    assert said(caplog, "shard lost") == [
        {"shard": n, "epoch": term.epoch, "reason": reason} for n, term in terms.items()
    ]
    await here.until(lambda: len(a.owned) == 4)
    uid = here.lease(name)["metadata"]["uid"]
    await a.kill()
    b = await here.replica("b")
    await here.until(lambda: len(b.owned) == 4)
    assert said(caplog, "session of a silent replica ended") == [{"holder": "a", "session": uid}]


@pytest.mark.parametrize("call", ["an acquisition", "the end of a session"])
@town(seeds=(1,))
async def test_a_call_that_fails_is_not_made_for_every_event(
    here: Town, a: Replica, b: Replica, call: str
) -> None:
    """After a failure it rests for a quarter of the period, however much changes meanwhile."""
    tries: list[float] = []

    def refuse(request: Request) -> None:
        acquires, ends = b"acquireTime" in request.body, request.method == "DELETE"
        if acquires if call == "an acquisition" else ends:
            tries.append(here.clock())
            raise Unavailable("not now")

    b.kube.fail = refuse
    await a.kill()
    await here.until(lambda: tries)
    for n in range(100):
        here.ask("PATCH", "nl-map", {"metadata": {"labels": {"n": str(n)}}})
        await asyncio.sleep(PERIOD / 100)
    rounds = sorted(set(tries))
    assert len(rounds) >= 4
    assert all(later - sooner >= PERIOD / 4 for sooner, later in pairwise(rounds))
    b.kube.fail = lambda _: None
    await here.until(lambda: len(b.owned) == 4)


@town(seeds=(1,))
async def test_a_replica_that_could_take_nothing_over_is_not_ready(
    here: Town, a: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a quota: one that has no session, or gets no Lease of a shard, says so, once."""
    b = Replica(here, "b")
    quota = "403 Forbidden: exceeded quota"

    refuse = refusing(Unauthorised(quota, reason=DENIED), method="POST")
    b.kube.fail = refuse
    b.task = asyncio.create_task(b.manager.run())
    await asyncio.sleep(3 * DURATION)
    reason = f"lease {session_name('nl', 'b')}: {quota}"
    assert a.manager.problem is None
    assert b.manager.problem == f"this replica has no session, and could take none over ({reason})"
    b.kube.fail = lambda _: None
    await here.until(lambda: len(b.owned) == 2 and b.manager.problem is None)
    assert len(said(caplog, "no session can be begun; this replica owns no shard")) == 1

    b.kube.fail = refuse
    await a.kill()
    lost = [n for n in range(4) if n not in b.owned]
    for n in lost:
        here.ask("DELETE", f"nl-{n}")
    await asyncio.sleep(3 * DURATION)
    (line,) = said(caplog, "shard not acquired")
    assert line["shard"] in lost
    assert line["error"] == quota
    b.kube.fail = lambda _: None
    await here.until(lambda: len(b.owned) == 4)


@town(seeds=(1,))
async def test_a_problem_that_is_over_is_no_reason_any_more(
    here: Town, a: Replica, b: Replica
) -> None:
    """What keeps the end of a session from being confirmed is said, and nothing of it afterwards."""
    name, lost = session_name("nl", "a"), list(a.owned)
    b.kube.fail = refusing(Unavailable("not now"), method="GET", ends=name)
    await a.kill()
    here.ask("DELETE", name)
    await here.until(lambda: b.manager.problem and "(" in b.manager.problem)
    shown = f"no owner yet for shard {lost[0]}, {lost[1]}"
    assert b.manager.problem == f"{shown} (lease {name}: not now)"
    b.kube.fail = lambda _: None
    await here.until(lambda: len(b.owned) == 4 and b.manager.problem is None)
    b.able = False
    here.ask("DELETE", "nl-1")
    await here.until(lambda: b.manager.problem)
    assert b.manager.problem == "no owner yet for shard 1"


@town(shards=16, seeds=(1,))
async def test_of_many_shards_without_an_owner_some_are_named(here: Town) -> None:
    """Eight of them, which shows what it is about."""
    a = Replica(here, "a")
    assert (
        a.manager.problem
        == "no owner yet for shard 0, 1, 2, 3, 4, 5, 6, 7 (leases are not listed yet)"
    )


@town(seeds=(1,))
async def test_the_end_of_a_session_is_remembered(here: Town, a: Replica, b: Replica) -> None:
    """Who has ended it need not ask whether it is over, however long the shards take."""
    await a.kill()
    b.kube.fail = NOT_TO_ACQUIRE
    await here.until(lambda: here.sessions() == {"b"})
    await asyncio.sleep(2 * PERIOD)
    b.kube.fail = lambda _: None
    await here.until(lambda: len(b.owned) == 4)
    assert f"GET {session_name('nl', 'a')}" not in b.kube.requests


@town(seeds=(1,))
async def test_a_newcomer_looks_before_it_speaks(here: Town) -> None:
    """It knows of the others before its session says that it could serve."""
    a = Replica(here, "a")
    a.kube.fail = refusing(Unavailable("no list"), method="GET", ends="/leases")
    await a.start()
    await asyncio.sleep(5 * PERIOD)
    assert here.sessions() == set()
    assert a.manager.problem == ("no owner yet for shard 0, 1, 2, 3 (watch of leases: no list)")
    a.kube.fail = lambda _: None
    await here.until(lambda: len(a.owned) == 4)


@town(seeds=(1,))
async def test_a_silent_watch_is_a_problem_after_a_whole_duration(here: Town, a: Replica) -> None:
    """For so long no session can have ended unseen."""
    silent = DURATION
    watch = cast("Any", a.manager._watch)
    watch.problem, watch.silent_for = "watch of leases: no list", lambda: silent
    assert a.manager.problem is None
    silent += 0.001
    assert a.manager.problem == "other replicas' leases are not known (watch of leases: no list)"


@town(seeds=(1,))
async def test_a_session_of_the_same_name_is_not_the_one_that_is_missed(
    here: Town, a: Replica, b: Replica
) -> None:
    """The watch shows neither, as the new one has no label; the old one is over by its uid."""
    await a.kill()
    name = session_name("nl", "a")
    here.ask("DELETE", name)
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 18}
    kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    here.ask("POST", name, {**kind, "metadata": {"name": name}, "spec": spec})
    await here.until(lambda: len(b.owned) == 4, within=3 * DURATION)
    assert here.lease(name)["metadata"].get("labels") is None, "it is nobody's to be followed"


@town(seeds=(1,))
async def test_a_release_has_its_time_and_no_more(here: Town, a: Replica) -> None:
    """An API server that does not answer keeps the process for that long, twice."""
    silent = Mock(side_effect=lambda *_, **__: asyncio.sleep(3600))
    a.kube.request = silent  # type: ignore[method-assign]  # nothing comes back
    began = here.clock()
    assert await a.manager.release(timeout=4.0) == 0
    assert here.clock() - began <= 8.0
    await a.kill()


@town(seeds=(1,))
async def test_no_write_of_a_lease_outlasts_its_share_of_the_deadline(here: Town) -> None:
    """One that hangs would keep a shard from being acquired by anybody."""
    waits = set()
    a = Replica(here, "a")
    request = a.kube.request

    async def noted(method: Any, path: str, *, timeout: float, **more: Any) -> Any:
        body = more.get("body") or {}
        name = str(body.get("metadata", {}).get("name", path))
        if method != "GET" and re.search(r"nl-\d+$", name):
            waits.add(timeout)
        return await request(method, path, timeout=timeout, **more)

    a.kube.request = noted  # type: ignore[method-assign] # watched by this test alone
    await a.start()
    await here.until(lambda: len(a.owned) == 4)
    await a.manager.release(timeout=4.0)
    await a.kill()
    assert max(waits) <= TIMINGS.call_timeout
