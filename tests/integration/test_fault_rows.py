"""
Rows of docs/faults.md that no other file covers: what Redis itself refuses, loses or cannot read.

Every case is a real server in the state in question. What must hold is the same throughout: what
was refused is known not to be executed, a log that lost its tail permits nothing that was claimed
before, and a server that cannot read its file is not taken for an empty one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio
from redis.exceptions import ResponseError

from syncer.ledger.answers import Answer
from syncer.ledger.client import LedgerClient
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch
from syncer.model.errors import Ambiguous, Rejected, Unavailable
from syncer.model.record import attempt_record, intent_record
from tests.e2e.harness import until
from tests.fakes.claimedlog import ClaimedLog
from tests.integration.ledger_client import running
from tests.servers.process import ServerError
from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import call, port_of

EPOCH = Epoch("0.7")
FIRST, SECOND = AttemptId("0.7-1"), AttemptId("0.7-2")
OPENING = intent_record(FIRST, "slack:ops", at=1, by="p")
AGAIN = intent_record(SECOND, "slack:ops", at=3, by="p")
SUCCESS = attempt_record(Attempt(FIRST, "slack:ops", AttemptState.SUCCESS, ended=2))


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[LedgerClient, ClaimedLog]]:
    """A client that is served, and a log on it that insists for a moment only."""
    async with running(url, probing=True) as client:
        yield client, ClaimedLog(client, patience=0.5)


async def test_a_primary_without_replicas_executes_nothing() -> None:
    """NOREPLICAS: intent and outcome are known not to be executed; both go when it ends."""
    async with RedisServer(find_binary("redis-server")) as server, opened(server.url) as (_, log):
        await log.claim("u", EPOCH, name="ns/n")
        call(port_of(server), "CONFIG", "SET", "min-replicas-to-write", "1")
        with pytest.raises(Unavailable, match="NOREPLICAS"):
            await log.open("u", EPOCH, OPENING)
        with pytest.raises(Unavailable, match="NOREPLICAS"):
            await log.outcome("u", SUCCESS, OPENING, name="ns/n")
        snapshot = await log.read("u")
        assert snapshot is not None
        assert not snapshot.records
        call(port_of(server), "CONFIG", "SET", "min-replicas-to-write", "0")
        assert (await log.open("u", EPOCH, OPENING)).answer is Answer.OK


async def test_a_server_that_cannot_save_executes_nothing() -> None:
    """MISCONF, as with a full disk: nothing is executed, and work goes on once it can save."""
    server = RedisServer(find_binary("redis-server"), settings={"dbfilename": "blocked"})
    # A directory in the place of the file stands for a disk that takes no more.
    await asyncio.to_thread((server.directory / "blocked").mkdir)
    async with (
        server,
        opened(server.url) as (_, log),
        redis_asyncio.Redis.from_url(server.url, socket_timeout=5) as admin,
    ):
        await log.claim("u", EPOCH, name="ns/n")
        await admin.config_set("save", "3600 1")
        await admin.bgsave()

        async def fails() -> bool:
            return bool((await admin.info("persistence"))["rdb_last_bgsave_status"] == "err")

        await until(fails, "the server fails to save")
        with pytest.raises(Unavailable, match="MISCONF"):
            await log.open("u", EPOCH, OPENING)
        await admin.config_set("save", "")
        assert (await log.open("u", EPOCH, OPENING)).answer is Answer.OK


async def test_a_full_server_is_full_until_it_takes_an_intent() -> None:
    """
    OOM: claims are executed meanwhile, and none of them makes the server look fit.

    Else gauge and readiness change with every notification that is claimed, and no alert ever fires.
    """
    async with (
        RedisServer(find_binary("redis-server")) as server,
        opened(server.url) as (client, log),
    ):
        await log.claim("u", EPOCH, name="ns/n")
        assert not client.unavailable_reason
        call(port_of(server), "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Unavailable):
            await log.open("u", EPOCH, OPENING, patience=0.0)
        for n in range(20):
            claimed = await log.claim(f"u{n}", EPOCH, name="ns/n")
            assert (claimed.answer, client.unavailable_reason) == (
                Answer.OK,
                "Redis answers OOM: it is full (maxmemory)",
            )
        call(port_of(server), "CONFIG", "SET", "maxmemory", "0")
        # Without any call: the client itself tries.
        await until(lambda: client.unavailable_reason is None, "the client sees that it is over")
        assert (await log.open("u", EPOCH, OPENING)).answer is Answer.OK


async def test_a_server_that_loads_says_so() -> None:
    """LOADING: a start on a large file takes minutes, and nobody shall look for a fault of the network."""
    # Of an append-only file, it answers only after every 1,024 commands.
    slow = {
        "save": "3600 1", "loading-process-events-interval-bytes": "1024", "key-load-delay": "5000",
    }  # fmt: skip
    async with (
        RedisServer(find_binary("redis-server"), appendonly=False, settings=slow) as server,
        opened(server.url) as (client, log),
    ):
        await log.claim("u", EPOCH, name="ns/n")
        async with redis_asyncio.Redis.from_url(server.url, socket_timeout=5) as admin:
            for n in range(400):
                await admin.set(f"other:{n}", "x" * 100)
        restart = asyncio.create_task(server.restart())
        await until(
            lambda: _says(client, "Redis answers LOADING: it still reads its data"),
            "it is said",
            within=20,
        )
        assert not restart.done()
        await restart
        await until(lambda: client.unavailable_reason is None, "the client sees that it is over")
        assert await log.read("u") is not None


async def _says(client: LedgerClient, reason: str) -> bool:
    with contextlib.suppress(Unavailable, Ambiguous, TimeoutError):
        await client.command("GET", "nl:meta")
    return client.problem == reason


async def test_a_busy_server_is_waited_for() -> None:
    """BUSY: another tenant's script holds the server; nothing is executed, and nobody kills it."""
    async with (
        RedisServer(find_binary("redis-server"), settings={"busy-reply-threshold": "50"}) as server,
        opened(server.url) as (_, log),
    ):
        await log.claim("u", EPOCH, name="ns/n")
        async with redis_asyncio.Redis.from_url(server.url, socket_timeout=20) as tenant:
            spin: asyncio.Task[object] = asyncio.create_task(
                tenant.eval(
                    "local t = redis.call('TIME')[1] "
                    "while redis.call('TIME')[1] - t < 3 do end return 1",
                    0,
                )  # type: ignore[arg-type]  # vendor
            )
            await until(partial(_is_busy, server.url), "the script runs")
            with pytest.raises(Unavailable):
                await log.open("u", EPOCH, OPENING)
            assert await spin == 1, "the other tenant's script was ended"
        answer = await log.open("u", EPOCH, OPENING)
        assert answer.answer in (Answer.OK, Answer.DUP)


@pytest.mark.parametrize("command", ["EVALSHA", "SCRIPT"])
async def test_a_server_without_scripts_is_unavailable(command: str, tmp_path: Path) -> None:
    """A command that the server, or a proxy, lacks is said to keep all from being sent."""
    config = tmp_path / "renamed.conf"
    config.write_text(f'rename-command {command} ""\n')
    server = RedisServer(find_binary("redis-server"), settings={"include": str(config)})
    async with server, opened(server.url) as (client, log):
        assert client.unavailable_reason == "Redis refuses the command (ERR)", "at the start"
        with pytest.raises(Rejected):
            await log.claim("u", EPOCH, name="ns/n")
        assert client.unavailable_reason == "Redis refuses the command (ERR)"


async def _is_busy(url: str) -> bool:
    async with redis_asyncio.Redis.from_url(url, socket_timeout=20) as asking:
        try:
            await asking.get("x")
        except ResponseError as error:
            return "BUSY" in str(error)
        return False


def _newest(directory: Path) -> Path:
    """The file that holds the newest writes."""
    return max((directory / "appendonlydir").glob("*.incr.aof"), key=lambda p: p.stat().st_mtime)


async def test_a_tail_lost_in_a_power_cut_permits_nothing_old() -> None:
    """A file cut by some bytes loses a whole script; old claims are stale, the cache is seed."""
    server = RedisServer(find_binary("redis-server"), appendfsync="always")
    async with server, opened(server.url) as (client, log):
        await log.claim("u", EPOCH, name="ns/n")
        await log.open("u", EPOCH, OPENING)
        await log.outcome("u", SUCCESS, OPENING, name="ns/n")
        before = client.generation
        await server.kill()
        file = _newest(server.directory)
        file.write_bytes(file.read_bytes()[:-7])
        await server.start()
        async with asyncio.timeout(20):
            while client.generation == before:
                with contextlib.suppress(Unavailable):
                    await log.read("u")
                await asyncio.sleep(0.05)
        lost = await log.read("u")
        assert lost is not None
        assert [str(r.kind) for r in lost.records] == ["intent"], "the cut hit no whole script"
        stale = await log.open(
            "u", EPOCH, AGAIN, limit=5, guard=lambda: client.generation == before
        )
        assert stale.answer is Answer.RECLAIM
        seed = attempt_record(Attempt(FIRST, "slack:ops", AttemptState.SUCCESS, ended=2), seed=True)
        claimed = await log.claim("u", EPOCH, name="ns/n", seeds=[seed])
        assert claimed.answer is Answer.OK
        done = await log.open("u", EPOCH, AGAIN)
        assert done.answer is Answer.DONE


async def test_a_damaged_file_is_not_taken_for_an_empty_one() -> None:
    """Redis refuses to start on a file that is damaged in the middle: clients hold, not resend."""
    server = RedisServer(find_binary("redis-server"), appendfsync="always")
    async with server, opened(server.url) as (_, log):
        await log.claim("u", EPOCH, name="ns/n")
        for _ in range(3):
            await log.open("u", EPOCH, OPENING)
        await server.kill()
        file = _newest(server.directory)
        damaged = bytearray(file.read_bytes())
        damaged[damaged.index(b"*", len(damaged) // 3)] = ord("?")
        file.write_bytes(damaged)
        with pytest.raises(ServerError):
            await server.start()
        with pytest.raises(Unavailable):
            await log.read("u")
