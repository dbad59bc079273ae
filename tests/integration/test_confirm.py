"""
Replicas that confirm intents: what `redis.durability: strict` promises, on real servers.

A replica that is frozen has the bytes in its socket and acknowledges nothing; one that is killed is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from syncer.ledger.answers import Answer
from syncer.ledger.client import LedgerClient
from syncer.ledger.lua import INTENT
from syncer.model.attempt import AttemptId, AttemptState, Epoch
from syncer.model.record import Record, intent_record
from syncer.rules.channel_state import State
from syncer.rules.merge import channel_states_of
from tests.fakes.claimedlog import ClaimedLog
from tests.fakes.proxy import DropReply, Fault, Proxy
from tests.integration.delivering import Delivery, delivering
from tests.integration.ledger_client import running
from tests.integration.pairs import Pair
from tests.servers.topology import RedisCluster, SentinelSet, call, follow, port_of, until

pytestmark = pytest.mark.timeout(120)

EPOCH = Epoch("0.7")


@contextlib.asynccontextmanager
async def pair(binary: str) -> AsyncIterator[Pair]:
    """Both, joined; a frozen one is woken at the end."""
    made = Pair(binary)
    async with made.primary, made.replica:
        await follow(made.replica, made.primary)
        try:
            yield made
        finally:
            await made.replica.resume()


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[LedgerClient, ClaimedLog]]:
    """A client that asks for confirmation, and a log on it."""
    async with running(url, installation="test", prefix="strict", timeout=2.0) as client:
        client.confirming = True
        yield client, ClaimedLog(client)


@contextlib.asynccontextmanager
async def one_sent(url: str) -> AsyncIterator[tuple[LedgerClient, Delivery, Counter[str]]]:
    """A controller whose intents want confirmation, and which has sent one notification."""
    client = LedgerClient(url, prefix="strict", timeout=2.0)
    client.confirming = True
    await client.open("test")
    async with delivering(client) as (here, calls):
        here.create("first", attempts=1)
        await until(lambda: here.results("first") == ["success"], what="one is sent")
        yield client, here, calls


def intent(uid: str) -> Record:
    """The first attempt of a notification."""
    return intent_record(AttemptId(f"0.7-{int(uid[1:]) + 1}"), "slack:ops", at=1, by="p")


async def claimed(log: ClaimedLog, count: int) -> list[str]:
    """So many logs, claimed."""
    uids = [f"u{n}" for n in range(count)]
    await asyncio.gather(*(log.claim(uid, EPOCH, name=f"ns/{uid}") for uid in uids))
    return uids


async def test_a_refused_confirmation_holds_until_it_is_permitted() -> None:
    """The replica keeps up, so only the server's answer to WAIT says that nothing is ever confirmed."""
    async with pair("redis-server") as both, opened(both.primary.url) as (client, log):
        (uid, other) = await claimed(log, 2)
        right = ("ACL", "SETUSER", "default")
        await asyncio.to_thread(call, port_of(both.primary), *right, "-wait")
        answer = await log.open(uid, EPOCH, intent(uid))
        assert (answer.answer, answer.confirmed) == (Answer.OK, False)
        await until(lambda: "refuses WAIT" in (client.unfit or ""), what="it is said")
        for _ in range(3):
            await client.probe()
            assert "refuses WAIT" in (client.unfit or "")
        # A new connection does not make it forgotten.
        await client._servers._pipeline.reset()  # type: ignore[union-attr] # of the one server
        await client.probe()
        assert "refuses WAIT" in (client.unfit or "")
        await asyncio.to_thread(call, port_of(both.primary), *right, "+wait")
        # Probed every two seconds while it lasts.
        await until(lambda: client.unfit is None, what="it is permitted")
        answer = await log.open(other, EPOCH, intent(other))
        assert (answer.answer, answer.confirmed) == (Answer.OK, True)


async def test_a_stalled_replica_uses_up_no_attempt() -> None:
    """Nothing is sent, little is opened, nothing ends, and all of it goes out afterwards."""
    async with pair("redis-server") as both, one_sent(both.primary.url) as (client, here, calls):
        await both.replica.pause()
        names = [f"n{n}" for n in range(30)]
        for name in names:
            here.create(name, attempts=1)
        await until(lambda: "confirmed" in (client.unfit or ""), what="it is held")
        # What was on its way when the first went unconfirmed; then nothing more for seconds.
        await until(
            lambda: not any(here.cache.entries[n].in_flight.executing for n in names),
            what="nothing is under way",
        )
        opened_by_then = sum(len(here.results(n)) for n in names)
        # An attempt that was not sent is due again after a second, the next one after two.
        await asyncio.sleep(3)
        assert sum(len(here.results(n)) for n in names) == opened_by_then
        assert calls["/ops"] == 1
        assert {r for n in names for r in here.results(n)} == {"notSent"}
        for name in names:
            entry = here.cache.entries[name]
            facts = here.controller.decisions.facts(entry)
            (channel_state,) = channel_states_of(entry.view, entry.request.status, facts)
            assert channel_state.state in (State.PENDING, State.RETRYING)
        await both.replica.resume()
        await until(
            lambda: all(here.results(n)[-1:] == ["success"] for n in names),
            what="all are sent", timeout=60,
        )  # fmt: skip
        assert calls["/ops"] == 31
        assert client.unfit is None


async def test_many_share_one_wait_and_nobody_else_waits() -> None:
    """Sixty intents that nobody confirms take one time-out, not sixty, and reads go on meanwhile."""
    async with pair("redis-server") as both, opened(both.primary.url) as (client, log):
        uids = await claimed(log, 60)
        await both.replica.pause()
        began = time.monotonic()
        asked = [asyncio.create_task(log.open(u, EPOCH, intent(u))) for u in uids]
        reads = 0
        while not all(t.done() for t in asked):
            await log.read(uids[0])
            reads += 1
            await asyncio.sleep(0.02)
        answers = [t.result() for t in asked]
        assert {(a.answer, a.confirmed) for a in answers} == {(Answer.OK, False)}
        # One after the other they would take two minutes.
        assert time.monotonic() - began < 60
        assert reads > 4, "none waits with them"
        assert client.unfit is not None
        await both.replica.resume()
        await until(lambda: client.unfit is None, what="a replica has caught up")
        assert client.problem is None


async def test_a_repeat_on_a_new_connection_confirms_the_first_copy() -> None:
    """The reply is lost while the replica lags: the echo of the first copy is not confirmed either."""
    async with (
        pair("redis-server") as both,
        Proxy(port_of(both.primary)) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}") as (client, log),
    ):
        loaded, uid = await claimed(log, 2)
        first = await log.open(loaded, EPOCH, intent(loaded))
        assert first.confirmed
        # Written while the replica has everything else, so that nothing else is waited for.
        await both.replica.pause()
        proxy.faults.append(Fault(DropReply(), INTENT.sha.encode()))
        answer = await log.open(uid, EPOCH, intent(uid))
        assert proxy.struck == ["DropReply"]
        assert (answer.answer, answer.rank) == (Answer.DUP, AttemptState.INTENT)
        assert not answer.confirmed
        await both.replica.resume()
        await until(lambda: client.unfit is None, what="a replica has caught up")
        again = await log.open(uid, EPOCH, intent(uid))
        assert (again.answer, again.confirmed) == (Answer.DUP, True)
        snapshot = await log.read(uid)
        assert snapshot is not None
        assert [r.kind.value for r in snapshot.records] == ["intent"]


@pytest.mark.parametrize("binary", ["redis-server", "valkey"])
async def test_a_replica_that_is_gone_is_missed(binary: str) -> None:
    """It does not pass for one that never was: nothing may be opened until one is back."""
    async with pair(binary) as both, opened(both.primary.url) as (client, log):
        assert client.replicas_wanted == 1
        await both.replica.kill()
        await until(
            lambda: (
                int(call(port_of(both.primary), "INFO", "replication")["connected_slaves"]) == 0
            ),
            what="the primary has noticed",
        )
        await client.probe()
        assert client.unfit == "the primary has no replica to confirm an attempt; bring one back"
        assert client.replicas_wanted == 1
        (uid,) = await claimed(log, 1)
        answer = await log.open(uid, EPOCH, intent(uid))
        assert (answer.answer, answer.confirmed) == (Answer.OK, False)
        await both.replica.start()
        await follow(both.replica, both.primary)
        await until(lambda: client.unfit is None, what="it is seen that one is back")


async def test_a_failover_loses_no_intent_that_was_sent() -> None:
    """What the replica does not have is not sent; the promoted one sends once it has a replica itself."""
    async with SentinelSet() as servers, one_sent(servers.url) as (client, here, calls):
        await servers.cut_off_replica()
        here.create("second", attempts=1)
        await until(lambda: bool(client.unfit), what="it is held")
        await servers.fail_over()
        lonely = "the primary has no replica to confirm an attempt; bring one back"
        await until(
            lambda: client.problem is None and client.unfit == lonely,
            what="the new primary is known, and lonely",
        )
        assert calls["/ops"] == 1
        await servers.one.start()
        await until(
            lambda: here.results("second")[-1:] == ["success"], what="it is sent", timeout=60
        )
        assert calls["/ops"] == 2
        assert "uncertain" not in here.results("second")


async def test_one_primary_without_a_replica_is_missed_in_a_cluster() -> None:
    """It lowers nothing for the others: their intents are confirmed, and the whole says what is missing."""
    async with RedisCluster(replica=True) as cluster, opened(cluster.url) as (client, log):
        await until(lambda: client.unfit is not None, what="all primaries are known")
        text = "2 of 3 primaries have no replica to confirm an attempt; bring one back"
        assert client.unfit == text
        uids = await claimed(log, 24)
        answers = await asyncio.gather(*(log.open(u, EPOCH, intent(u)) for u in uids))
        assert {a.answer for a in answers} == {Answer.OK}
        # Those on the primary with the replica, and no others.
        assert {a.confirmed for a in answers} == {True, False}
        client.confirming = False
        await client.probe()
        assert client.unfit is None
