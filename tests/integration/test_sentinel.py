"""
The log behind Redis Sentinels: failovers that lose what was acknowledged, and others.

Real servers. Where a failover must lose a record, the replica is frozen and its link dropped before
the record is written, so the loss is certain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from syncer.ledger import standalone
from syncer.ledger.answers import SERVER, Answer, Appended
from syncer.ledger.client import LedgerClient
from syncer.ledger.standalone import Standalone
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch
from syncer.model.errors import ConfigError, Unauthorised, Unavailable
from syncer.model.record import attempt_record
from tests.fakes.claimedlog import ClaimedLog
from tests.integration.ledger_client import (
    CHANNEL,
    EPOCH,
    FIRST,
    NAME,
    ids,
    opening,
    running,
    success,
)
from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import SERVICE, Sentinel, SentinelSet, call, port_of, until

NEXT = Epoch("0.8")
SECOND = AttemptId("0.7-2")


@pytest.fixture
async def servers() -> AsyncIterator[SentinelSet]:
    """A master with a replica and three Sentinels."""
    async with SentinelSet() as servers:
        yield servers


@pytest.fixture
async def client(servers: SentinelSet) -> AsyncIterator[LedgerClient]:
    """A client of the service."""
    async with running(servers.url) as client:
        yield client


@pytest.fixture
def log(client: LedgerClient) -> ClaimedLog:
    """A log on that client."""
    return ClaimedLog(client, patience=15)


async def intent(log: ClaimedLog, attempt: AttemptId, *, epoch: Epoch = EPOCH) -> Appended:
    """Open an attempt by the newest claim."""
    return await log.open("u", epoch, opening(attempt), limit=5)


async def test_a_failover_that_loses_an_intent(
    servers: SentinelSet, client: LedgerClient, log: ClaimedLog
) -> None:
    """The old claim permits nothing on the new master; the lost intent comes back with its id."""
    changes: list[int] = []
    client.on_change = lambda: changes.append(client.generation)
    assert (await log.claim("u", EPOCH, name=NAME)).answer is Answer.OK
    await servers.replicated()
    generation = log.client.generation
    await servers.cut_off_replica()
    lost = await intent(log, FIRST)
    assert lost.answer is Answer.OK
    await servers.fail_over()

    stale = await intent(log, SECOND)
    assert (stale.answer, stale.detail) == (Answer.RECLAIM, SERVER)
    assert await ids(log) == []
    assert changes == [generation + 1]

    restored = await log.outcome("u", success(FIRST), opening(FIRST), name=NAME)
    assert (restored.answer, restored.count) == (Answer.OK, 2)
    assert await ids(log) == ["intent 0.7-1", "success 0.7-1"]
    assert (await log.claim("u", EPOCH, name=NAME)).answer is Answer.OK
    again = await intent(log, SECOND)
    assert again.answer is Answer.DONE


async def test_a_failover_that_loses_a_success_which_the_object_shows(
    servers: SentinelSet, log: ClaimedLog
) -> None:
    """Claiming anew brings the success back from the object, and nothing is sent again."""
    await log.claim("u", EPOCH, name=NAME)
    assert (await intent(log, FIRST)).answer is Answer.OK
    await servers.replicated()
    await servers.cut_off_replica()
    assert (await log.outcome("u", success(FIRST), opening(FIRST), name=NAME)).answer is Answer.OK
    await servers.fail_over()

    assert await ids(log) == ["intent 0.7-1"]
    claimed = await log.claim("u", EPOCH, name=NAME, seeds=[success(FIRST, seed=True)])
    assert claimed.answer is Answer.OK
    assert await ids(log) == ["intent 0.7-1", "seed.success 0.7-1"]
    assert (await intent(log, SECOND)).answer is Answer.DONE


async def test_a_failover_that_loses_a_success_which_only_the_cache_knows(
    servers: SentinelSet, log: ClaimedLog
) -> None:
    """The own cache is seed enough, and an id that was handed out once is known again."""
    await log.claim("u", EPOCH, name=NAME)
    await servers.replicated()
    await servers.cut_off_replica()
    assert (await intent(log, FIRST)).answer is Answer.OK
    await servers.fail_over()

    assert await ids(log) == []
    unknown = Attempt(FIRST, CHANNEL, AttemptState.UNKNOWN, ended=2)
    claimed = await log.claim("u", EPOCH, name=NAME, seeds=[attempt_record(unknown, seed=True)])
    assert claimed.answer is Answer.OK
    repeated = await intent(log, FIRST)
    assert (repeated.answer, repeated.rank) == (Answer.DUP, int(AttemptState.UNKNOWN))
    assert (await intent(log, SECOND)).answer is Answer.OK


async def test_a_failover_that_loses_a_claim(servers: SentinelSet, log: ClaimedLog) -> None:
    """The fence that a new owner raised is gone: its intent is refused, the old fence named."""
    await log.claim("u", EPOCH, name=NAME)
    await servers.replicated()
    await servers.cut_off_replica()
    assert (await log.claim("u", NEXT, name=NAME)).answer is Answer.OK
    await servers.fail_over()

    refused = await intent(log, AttemptId("0.8-1"), epoch=NEXT)
    assert (refused.answer, refused.detail) == (Answer.RECLAIM, str(EPOCH))
    assert (await log.claim("u", NEXT, name=NAME)).answer is Answer.OK
    assert (await intent(log, AttemptId("0.8-1"), epoch=NEXT)).answer is Answer.OK


async def serves(client: LedgerClient, server: RedisServer) -> None:
    """
    Wait until a client goes to a server, and only to that one.

    The generation is no sign of it: it rises as soon as the server of before is in doubt.
    """
    run_id = call(port_of(server), "INFO", "server")["run_id"]
    await until(
        lambda: (
            client.problem is None
            and client.server is not None
            and (client.server.run_id, client.server.role) == (run_id, "master")
        ),
        what="the client goes to the new master",
    )


async def test_a_planned_switch() -> None:
    """A switch that loses nothing makes claims stale as well, and is noticed without any call."""
    # Nothing but the order makes them switch, however busy the machine is.
    async with SentinelSet(patience_ms=60_000) as servers, running(servers.url) as client:
        log = ClaimedLog(client, patience=15)
        await log.claim("u", EPOCH, name=NAME)
        assert (await intent(log, FIRST)).answer is Answer.OK
        await servers.replicated()
        generation = log.client.generation
        await servers.switch()
        await servers.promoted(servers.two)
        await serves(client, servers.two)
        assert log.client.generation > generation
        stale = await intent(log, SECOND)
        assert (stale.answer, stale.detail) == (Answer.RECLAIM, SERVER)
        assert await ids(log) == ["intent 0.7-1"]


async def test_a_stale_sentinel(servers: SentinelSet) -> None:
    """A Sentinel that names a replica is not believed, if only by the replica itself."""
    binary = find_binary("redis-server")
    async with Sentinel(binary, port_of(servers.two), quorum=1, patience_ms=60_000) as stale:
        assert servers.named(stale) == port_of(servers.two)
        alone = LedgerClient(f"redis+sentinel://127.0.0.1:{stale.port}/{SERVICE}", timeout=1.0)
        with pytest.raises(Unavailable, match="Redis answers READONLY"):
            await alone.open("one")
        await alone.close()
        # One against one: who names a replica is believed after the other.
        both = LedgerClient(
            f"redis+sentinel://127.0.0.1:{stale.port},127.0.0.1:{servers.sentinels[0].port}/{SERVICE}",
            timeout=1.0,
        )
        with pytest.raises(Unavailable, match="Redis answers READONLY"):
            await both.open("one")
        server = await both.open("one")
        assert server.run_id == call(port_of(servers.one), "INFO", "server")["run_id"]
        await both.close()


@pytest.mark.parametrize("names", ["a stranger", "a replica", "nobody"])
async def test_one_sentinel_against_two(names: str) -> None:
    """
    Whatever one of three names, whichever is asked first, and however often.

    Who remembers the address of a server that is gone names whoever has it now, or nobody.
    """
    async with (
        SentinelSet(patience_ms=60_000) as servers,
        RedisServer(find_binary("redis-server")) as stranger,
        running(servers.url) as client,
    ):
        assert client.server is not None
        known = (client.server.run_id, client.generation)
        named = {"a stranger": port_of(stranger), "a replica": port_of(servers.two), "nobody": 1}
        await asyncio.to_thread(point_at, servers.sentinels[0], named[names])
        assert isinstance(client._servers, Standalone)
        master = client._servers._master
        assert master is not None
        for _ in range(4):
            await master.confirm()
            await client.command("SET", "here", "1")
            master.distrust()
        await client.probe()
        assert (client.server.run_id, client.generation) == known
        assert call(port_of(stranger), "DBSIZE") == 0


@pytest.fixture
async def sentinel() -> AsyncIterator[Sentinel]:
    """A Sentinel alone with a server."""
    binary = find_binary("redis-server")
    async with (
        RedisServer(binary) as server,
        Sentinel(binary, port_of(server), quorum=1, patience_ms=600) as sentinel,
    ):
        yield sentinel


async def test_no_master(sentinel: Sentinel) -> None:
    """A service that no Sentinel knows, and Sentinels that are away, are named as what they are."""
    for url in (
        f"redis+sentinel://127.0.0.1:{sentinel.port}/other",
        f"redis+sentinel://:c4n4ry@127.0.0.1:1/{SERVICE}",
    ):
        client = LedgerClient(url, timeout=1.0)
        with pytest.raises(Unavailable, match="know no healthy master of that service") as caught:
            await client.open("one")
        assert "c4n4ry" not in f"{caught.value!r} {client.problem} {client!r}"
        await client.close()


async def test_a_master_that_was_only_left_behind(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection to a master that the Sentinels no longer name is given up, without any call."""
    # The look at the server that would notice any change is far away.
    monkeypatch.setattr(standalone, "_PROBE_SECONDS", 3600.0)
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}"
    async with RedisServer(find_binary("redis-server")) as heir, running(url) as client:
        generation = client.generation
        point_at(sentinel, heir)
        await serves(client, heir)
        assert client.generation > generation


async def test_a_master_that_was_left_behind_during_a_call(sentinel: Sentinel) -> None:
    """A connection that was in use when the Sentinels were asked is not used again."""
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}"
    async with RedisServer(find_binary("redis-server")) as heir, running(url) as client:
        servers = client._servers
        assert isinstance(servers, Standalone)
        assert servers._master is not None
        slow = asyncio.create_task(client.command("BLPOP", "nothing", "0.5"))
        await asyncio.sleep(0.1)
        point_at(sentinel, heir)
        await servers._master.confirm()
        assert await slow is None
        await client.command("SET", "here", "1")
        assert call(port_of(heir), "GET", "here") == "1"


def point_at(sentinel: Sentinel, server: RedisServer | int) -> None:
    """Have a Sentinel watch another master, or another port, under the same name."""
    port = server if isinstance(server, int) else port_of(server)
    call(sentinel.port, "SENTINEL", "REMOVE", SERVICE)
    call(sentinel.port, "SENTINEL", "MONITOR", SERVICE, "127.0.0.1", port, 1)


async def test_two_passwords() -> None:
    """Server and Sentinels have credentials of their own, and neither is ever shown."""
    binary = find_binary("redis-server")
    async with (
        RedisServer(binary) as server,
        Sentinel(
            binary, port_of(server), quorum=1, patience_ms=600, password="w4tcher",
            settings=[f"sentinel auth-pass {SERVICE} s3rver"],
        ) as sentinel,
    ):  # fmt: skip
        call(port_of(server), "CONFIG", "SET", "requirepass", "s3rver")
        url = f"redis+sentinel://:%s@127.0.0.1:{sentinel.port}/{SERVICE}?sentinel_password=%s"
        async with running(url % ("s3rver", "w4tcher")) as client:
            assert client.problem is None
        for pair in (("s3rver", "c4n4ry"), ("c4n4ry", "w4tcher")):
            client = LedgerClient(url % pair, timeout=1.0)
            with pytest.raises(Unauthorised, match="Redis refuses the credentials") as caught:
                await client.open("one")
            shown = f"{caught.value!r} {client.problem} {client!r}"
            assert not {w for w in ("s3rver", "w4tcher", "c4n4ry") if w in shown}
            await client.close()


async def test_the_address_of_a_sentinel_as_that_of_a_server(sentinel: Sentinel) -> None:
    """A Sentinel where a server is expected is a mistake in the settings, and says the way out."""
    client = LedgerClient(f"redis://127.0.0.1:{sentinel.port}", timeout=1.0)
    with pytest.raises(ConfigError, match=r"begin the URL with redis\+sentinel://") as caught:
        await client.open("one")
    assert caught.value.path == "redis.url"
    await client.close()
