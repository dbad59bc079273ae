"""
The fence of an intent on real servers: what the stamp tells, and a server that was a replica for a moment.

A server that follows another one loads that one's data, also what it had acknowledged and the other one
lacks. If it is promoted before anybody has asked it anything, it is the same process at the same address
and on the same connections. Only its replication id tells, which INTENT compares in the server itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import pytest
import redis

from syncer.ledger import lua
from syncer.ledger.answers import SERVER, Answer
from syncer.ledger.client import LedgerClient
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch
from syncer.model.errors import Unauthorised
from syncer.model.record import Plan, attempt_record, intent_record, plan_record
from syncer.model.resource import NO_STATUS
from syncer.rules.merge import Facts, merge
from tests.fakes.claimedlog import ClaimedLog
from tests.integration.delivering import OPS, Delivery, delivering
from tests.integration.ledger_client import running
from tests.integration.pairs import Pair
from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import call, follow, port_of, until

pytestmark = pytest.mark.timeout(120)

BINARIES = pytest.mark.parametrize("binary", ["redis-server", "valkey"])
FORMER, EPOCH = Epoch("0.6"), Epoch("0.7")
FIRST = AttemptId("0.6-1")
NAME = "ops/x"


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[LedgerClient, ClaimedLog]]:
    """A client, and a log on it."""
    async with running(url, installation="test", prefix="fence", timeout=2.0) as client:
        yield client, ClaimedLog(client)


async def tell(server: RedisServer, *words: str | int) -> object:
    """Run a command on a server."""
    return await asyncio.to_thread(call, port_of(server), *words)


# -- the stamp -------------------------------------------------------------------------------------


async def stamp_of(server: RedisServer) -> str:
    """What a CLAIM is answered, read in the same way as the scripts do."""
    text = lua.CLAIM.plain.split("-- CLAIM(", 1)[0] + "return server_stamp()"
    return str(await tell(server, "EVAL", text, 0))


async def restarted(both: Pair) -> None:
    """Restart the primary."""
    await both.primary.restart()


async def demoted_and_promoted(both: Pair) -> None:
    """Have it follow nobody for a moment."""
    await tell(both.primary, "REPLICAOF", "127.0.0.1", 1)
    await tell(both.primary, "REPLICAOF", "NO", "ONE")


async def demoted(both: Pair) -> None:
    """Have it follow somebody."""
    await tell(both.primary, "REPLICAOF", "127.0.0.1", 1)


async def flushed(both: Pair) -> None:
    """Empty it."""
    await tell(both.primary, "FLUSHALL")


async def replica_lost(both: Pair) -> None:
    """End the replica."""
    await both.replica.kill()


STAMPS: dict[str, tuple[Callable[[Pair], object], bool]] = {
    "it is restarted": (restarted, True),
    "it is demoted": (demoted, True),
    "it is demoted and promoted, without a sync": (demoted_and_promoted, True),
    "it is emptied, which leaves no log": (flushed, False),
    "its replica goes": (replica_lost, False),
}


@BINARIES
@pytest.mark.parametrize("case", STAMPS)
async def test_when_a_server_gets_another_stamp(binary: str, case: str) -> None:
    """Whatever may have lost records does; what cannot have does not."""
    change, another = STAMPS[case]
    both = Pair(binary)
    async with both.primary, both.replica:
        lonely = await stamp_of(both.primary)
        assert re.fullmatch("master:[0-9a-f]{40}", lonely)
        await follow(both.replica, both.primary)
        before = await stamp_of(both.primary)
        # A false alarm: the history of a primary gets a new name with its first replica.
        assert before != lonely
        await change(both)  # type: ignore[misc]  # each is a coroutine
        assert (await stamp_of(both.primary) != before) is another


@BINARIES
async def test_a_replica_that_may_be_written_has_a_stamp_of_its_own(binary: str) -> None:
    """It has the replication id of its primary, so the role is part of it; a promotion changes both."""
    both = Pair(binary)
    async with both.primary, both.replica:
        await follow(both.replica, both.primary)
        await tell(both.replica, "CONFIG", "SET", "replica-read-only", "no")
        before, writable = await stamp_of(both.primary), await stamp_of(both.replica)
        assert writable == before.replace("master:", "slave:")
        await tell(both.replica, "REPLICAOF", "NO", "ONE")
        assert await stamp_of(both.replica) not in {before, writable}


@BINARIES
async def test_where_scripts_cannot_tell_the_server(binary: str) -> None:
    """Nothing is claimed or opened, the reason names the fix, and it ends with the reason."""
    async with RedisServer(find_binary(binary)) as server, opened(server.url) as (client, log):
        await log.claim("u", EPOCH, name=NAME)
        await tell(server, "ACL", "SETUSER", "default", "-info")
        with pytest.raises(Unauthorised, match=r"NLSTAMP.*allow the user \+info"):
            await log.open("u", EPOCH, intent_record(AttemptId("0.7-1"), OPS, at=1, by="p"))
        assert "+info" in (client.unavailable_reason or "")
        with pytest.raises(Unauthorised, match=r"NLSTAMP.*allow the user \+info"):
            await log.claim("v", EPOCH, name=NAME)
        assert await log.read("v") is None
        await tell(server, "ACL", "SETUSER", "default", "+info")
        await log.claim("v", EPOCH, name=NAME)
        answer = await log.open("u", EPOCH, intent_record(AttemptId("0.7-1"), OPS, at=1, by="p"))
        assert answer.answer is Answer.OK


# -- a replica for a moment ------------------------------------------------------------------------


@dataclass
class Flip:
    """
    A delivery on a server that is about to fall back.

    A former owner's request was received; its success comes late, to the log and to the object, of which
    the new owner has not heard yet. The new owner has the attempt as unknown, and the next one is due.
    """

    both: Pair
    here: Delivery
    calls: Counter[str]
    log: ClaimedLog

    async def begin(self) -> None:
        """Up to the moment at which the other server is left behind."""
        await self.log.claim("x", FORMER, name=NAME)
        plan = Plan((OPS,), "RoutingRuleMatched", at=1)
        await self.log.note("x", plan_record(plan))
        self.intent = intent_record(FIRST, OPS, at=1, by="former")
        assert (await self.log.open("x", FORMER, self.intent)).answer is Answer.OK
        self.calls["/ops"] += 1  # the former owner's
        self.here.create("x", backoff=30)
        await until(
            lambda: self.states() == [AttemptState.UNKNOWN], what="the new owner has settled it"
        )
        await follow(self.both.replica, self.both.primary)
        await until(
            lambda: self.kinds(self.both.replica) == [b"plan", b"intent", b"unknown"],
            what="the other server has that",
        )
        await tell(self.both.replica, "REPLICAOF", "NO", "ONE")
        success = Attempt(FIRST, OPS, AttemptState.SUCCESS, started=1, ended=2)
        await self.log.outcome("x", attempt_record(success), self.intent, name=NAME)
        snapshot = await self.log.read("x")
        assert snapshot is not None
        request = self.here.store.objects["x"]
        facts = Facts(request.generation, request.policy)
        shown = merge(NO_STATUS, snapshot.view, facts, now=3).status
        self.here.store.objects["x"] = replace(request, resource_version="2", status=shown)

    async def follow(self, seconds: float) -> None:
        """Have the server follow the other one for so long, at least until it has its data."""
        begin = asyncio.get_running_loop().time()
        await tell(self.both.primary, "REPLICAOF", "127.0.0.1", port_of(self.both.replica))

        def loaded() -> bool:
            link = call(port_of(self.both.primary), "INFO", "replication")
            return bool(link["master_link_status"] == "up")

        await until(loaded, what="it has the data of the other one")
        await asyncio.sleep(begin + seconds - asyncio.get_running_loop().time())
        await tell(self.both.primary, "REPLICAOF", "NO", "ONE")
        kinds = self.kinds(self.both.primary)
        assert kinds == [b"plan", b"intent", b"unknown"], "the success was not lost"

    def kinds(self, server: RedisServer) -> list[bytes]:
        """Of the records that a server has."""
        with redis.Redis(port=port_of(server)) as plain:
            elements: list[bytes] = plain.lrange(self.log.key("x"), 1, -1)
        return [e.split(b" ")[0] for e in elements]

    def states(self) -> list[AttemptState]:
        """Of the attempts that the new owner knows."""
        entry = self.here.cache.entries.get("x")
        return [a.state for a in entry.view.of_channel(OPS)] if entry else []


async def calls_after(binary: str, seconds: float) -> tuple[int, float]:
    """Requests of a notification whose server was a replica for so long, and INTENTs refused for that."""
    both = Pair(binary)
    async with both.primary, both.replica, opened(both.primary.url) as (_, log):
        await follow(both.replica, both.primary)
        client = LedgerClient(both.primary.url, prefix="fence", timeout=2.0)
        await client.open("test")
        async with delivering(client) as (here, calls):
            flip = Flip(both, here, calls, log)
            await flip.begin()
            await flip.follow(seconds)
            here.clock.skipped += 60
            here.queue.add("x")
            await until(
                lambda: flip.states()[-1:] == [AttemptState.SUCCESS],
                what="it is delivered",
            )
            refused = here.registry.get_sample_value(
                "notification_ledger_reclaim_total", {"cause": SERVER}
            )
            return calls["/ops"], refused or 0.0


@BINARIES
@pytest.mark.parametrize("seconds", [0.02, 0.5])
async def test_a_server_that_was_a_replica_for_a_moment(binary: str, seconds: float) -> None:
    """What it has lost is restored from the object before anything is opened: one request."""
    assert await calls_after(binary, seconds) == (1, 1.0)
