"""
The pipeline to Redis under faults: what is said to have happened did happen, and in bounded time.

Between the client and a real server stands a proxy whose faults are named in each test; that they
landed is asserted too. `MemoryClient`, the simulator's pipeline, is held to the same answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio

from syncer.ledger.answers import SERVER, Answer, Appended
from syncer.ledger.client import LedgerClient
from syncer.ledger.lua import INTENT, OUTCOME
from syncer.model.attempt import AttemptState
from syncer.model.errors import (
    Ambiguous,
    ConfigError,
    ContractError,
    Rejected,
    Unauthorised,
    Unavailable,
)
from tests.beside import beside, eventually
from tests.fakes.claimedlog import ClaimedLog
from tests.fakes.proxy import (
    Action,
    BlackHole,
    Delay,
    DropReply,
    DropRequest,
    Fault,
    Proxy,
    ResetAfter,
)
from tests.integration.ledger_client import (
    EPOCH,
    HOME,
    NAME,
    admin,
    claimed,
    client,
    kinds,
    log,
    open_attempt,
    opening,
    proxy,
    running,
    success,
    tell,
)
from tests.servers.redis import RedisServer

__all__ = ["admin", "client", "log", "proxy"]

CANARY = "c4n4ry-s3cret"


# -- lost replies and requests ---------------------------------------------------------------------

FAULTS: dict[str, tuple[Action, Answer]] = {
    "the reply is lost": (DropReply(), Answer.DUP),
    "the reply is cut short": (ResetAfter(7), Answer.DUP),
    "the request is lost": (DropRequest(), Answer.OK),
    "the connection falls silent": (BlackHole(), Answer.OK),
    "the request is slow": (Delay(0.2), Answer.OK),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_one_intent(proxy: Proxy, log: ClaimedLog, case: str) -> None:
    """Whatever befalls a request, the same id again gives one entry and an honest answer."""
    action, wanted = FAULTS[case]
    await claimed(log)
    await open_attempt(log, uid="other")  # now the server has the script
    proxy.faults.append(Fault(action, INTENT.sha.encode()))
    answer = await open_attempt(log)
    assert proxy.struck == [type(action).__name__]
    assert (answer.answer, await kinds(log)) == (wanted, ["intent"])
    if wanted is Answer.DUP:
        assert answer.rank == AttemptState.INTENT


@pytest.mark.parametrize("case", FAULTS)
async def test_one_outcome(proxy: Proxy, log: ClaimedLog, case: str) -> None:
    """An outcome is recorded once, however often it is said."""
    action, wanted = FAULTS[case]
    await claimed(log)
    await open_attempt(log)
    await log.outcome("other", success(), opening(), name=NAME)  # now the server has the script
    proxy.faults.append(Fault(action, OUTCOME.sha.encode()))
    answer = await log.outcome("u", success(), opening(), name=NAME)
    assert proxy.struck == [type(action).__name__]
    assert answer.answer is (Answer.NOOP if wanted is Answer.DUP else Answer.OK)
    assert await kinds(log) == ["intent", "success"]


async def test_what_an_error_claims(proxy: Proxy, client: LedgerClient) -> None:
    """A lost reply may have been executed; a refused connection has not."""
    await client.command("PING")
    proxy.faults.append(Fault(DropReply(), b"ECHO"))
    with pytest.raises(Ambiguous, match="no reply from Redis"):
        await client.command("ECHO", "x")
    await proxy.refuse()
    with pytest.raises(Unavailable, match="Redis cannot be reached"):
        await client.command("PING")
    assert client.problem == f"Redis cannot be reached at 127.0.0.1:{proxy.port} (ECONNREFUSED)"
    await proxy.accept()
    assert await client.command("PING") == b"PONG"
    assert client.problem is None


async def test_patience_ends(proxy: Proxy, client: LedgerClient) -> None:
    """A repeated call gives up when its time is over."""
    await proxy.refuse()
    begin = time.monotonic()
    with pytest.raises(Unavailable):
        await ClaimedLog(client, patience=0.3).read("u")
    assert 0.3 <= time.monotonic() - begin < 30


async def test_a_lost_script_is_loaded_again(
    admin: redis_asyncio.Redis, client: LedgerClient, log: ClaimedLog
) -> None:
    """After SCRIPT FLUSH the calls of one pipeline are all answered, each with its own reply."""
    await claimed(log)
    await admin.script_flush()
    answers = await asyncio.gather(
        *(log.claim(f"u{n}", EPOCH, name=f"ns/n{n}") for n in range(20)), client.command("PING")
    )
    assert answers[-1] == b"PONG"
    for n, answer in enumerate(answers[:-1]):
        assert answer.snapshot.header.object == f"ns/n{n}"


# -- who answers -----------------------------------------------------------------------------------


async def test_a_restart_makes_claims_stale(
    redis_server: RedisServer, proxy: Proxy, client: LedgerClient, log: ClaimedLog
) -> None:
    """H4: an intent that waits while the server restarts is given up, not retried."""
    await claimed(log)
    before = client.generation
    proxy.faults.append(Fault(DropRequest(), INTENT.sha.encode()))
    waiting = asyncio.create_task(open_attempt(log))
    await eventually(lambda: proxy.struck)
    await proxy.refuse()
    await redis_server.restart()
    await proxy.accept()
    answer = await waiting
    assert answer == Appended(Answer.RECLAIM, detail=SERVER)
    assert client.generation > before
    assert await kinds(log) == []


async def test_another_store_has_all_logs_looked_at(
    admin: redis_asyncio.Redis, proxy: Proxy, client: LedgerClient, log: ClaimedLog
) -> None:
    """A store with another id behind the same address is told of once, before anything is read of it."""
    await claimed(log)
    changes: list[int] = []
    client.on_change = lambda: changes.append(client.generation)
    before, server = client.generation, client.server
    assert server is not None
    await admin.set("nl:meta", f"format=1 installation={HOME} store=0123456789abcdef")
    proxy.cut()
    assert await kinds(log) == []
    assert log.store == "0123456789abcdef" != server.store
    assert changes == [client.generation] == [before + 1]


async def test_a_new_connection_to_the_same_store(
    proxy: Proxy, client: LedgerClient, log: ClaimedLog
) -> None:
    """A connection that breaks by itself leaves claims in force."""
    await claimed(log)
    before = client.generation
    proxy.cut()
    answer = await open_attempt(log)
    assert (answer.answer, client.generation) == (Answer.OK, before)


async def test_a_claim_that_ended_is_tried_no_more(proxy: Proxy, log: ClaimedLog) -> None:
    """The guard is asked before each try: before the first, and after a request that was lost."""
    await claimed(log)
    ended = Appended(Answer.RECLAIM, detail="stale claim")
    assert await open_attempt(log, guard=lambda: False) == ended
    proxy.faults.append(Fault(DropRequest(), INTENT.sha.encode()))
    asked = [True, False]
    assert await open_attempt(log, guard=lambda: asked.pop(0)) == ended
    assert (asked, proxy.struck) == ([], ["DropRequest"])
    assert await kinds(log) == []


async def test_a_new_store_is_stamped_once(redis_url: str, admin: redis_asyncio.Redis) -> None:
    """Two clients that open a new store agree on its id."""
    async with running(redis_url) as one, running(redis_url) as two:
        assert one.server is not None
        assert two.server is not None
        assert one.server.store == two.server.store
        assert len(one.server.store) == 16
    meta = await admin.get("nl:meta")
    assert meta == f"format=1 installation={HOME} store={one.server.store}".encode()


async def test_a_new_store_is_no_other_store(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What connects before it knows its installation finds no change when the store gets an id."""
    changes: list[str] = []
    async with running(redis_url, installation="") as client:
        client.on_change = lambda: changes.append(client.server.store if client.server else "")
        assert (await client.probe()).store == ""
        assert len((await client.open(HOME)).store) == 16
        assert client.generation == 1
    assert changes == []
    assert "another Redis server" not in caplog.text


async def test_another_installation_while_running(
    admin: redis_asyncio.Redis, proxy: Proxy, client: LedgerClient
) -> None:
    """A store of another installation behind the same address is not used: callers are told."""
    await admin.set("nl:meta", "format=1 installation=two store=0")
    proxy.cut()
    with contextlib.suppress(Ambiguous):
        await client.command("PING")  # the client notices
    with pytest.raises(Unavailable, match="belong to installation 'two'"):
        await client.command("PING")
    assert client.problem is not None
    assert "belong to installation 'two'" in client.problem


#: What stands in the place of the metadata, and what is said of it.
NOT_OURS: dict[str, tuple[bytes | None, str]] = {
    "of another installation": (b"format=1 installation=two store=0", r"set another redis\.keyPrefix"),
    "of a later version": (b"format=2 installation=one store=0", "format '2'"),
    "a set": (None, "the key 'nl:meta' is not this product's"),
    "empty": (b"", "the key 'nl:meta' is not this product's"),
    "no text": (b"\xff\0" * 9, "the key 'nl:meta' is not this product's"),
    "without an owner": (b"format=1 store=a", "the key 'nl:meta' is not this product's"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_OURS)
async def test_a_store_that_is_not_ours(
    redis_url: str, admin: redis_asyncio.Redis, case: str
) -> None:
    """It is left alone, with the way out; nothing of the kind is taken for a store that is new."""
    value, told = NOT_OURS[case]
    await (admin.sadd("nl:meta", "x") if value is None else admin.set("nl:meta", value))
    with pytest.raises(ConfigError, match=told) as caught:
        async with running(redis_url):
            pass
    assert caught.value.path == "redis.keyPrefix"


@pytest.mark.parametrize("kind", ["a set", "no text"])
async def test_the_key_of_another_program_while_running(
    client: LedgerClient, admin: redis_asyncio.Redis, kind: str
) -> None:
    """The next look at the server notices, as a new connection would."""
    await admin.delete("nl:meta")
    await (admin.sadd("nl:meta", "x") if kind == "a set" else admin.set("nl:meta", b"\xff\0"))
    with pytest.raises(ConfigError, match="the key 'nl:meta' is not this product's"):
        await client.probe()


async def test_a_database_that_is_not_there(redis_url: str) -> None:
    """Most servers have sixteen."""
    url = f"{redis_url.rstrip('/').removesuffix('/0')}/99"
    with pytest.raises(Rejected, match=r"redis\.url; correct the number after the last /"):
        async with running(url):
            pass


# -- servers that refuse ---------------------------------------------------------------------------


async def test_a_demoted_server(
    admin: redis_asyncio.Redis, client: LedgerClient, log: ClaimedLog
) -> None:
    """A server that became a replica executes nothing; what was claimed before is stale for good."""
    await claimed(log)
    generation = client.generation
    await tell(admin, "REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(Unavailable, match="READONLY"):
            await ClaimedLog(client, patience=0.2).note("u", opening())
        assert client.problem == "Redis answers READONLY: it is a replica"
    finally:
        await tell(admin, "REPLICAOF", "NO", "ONE")
    # The same process, the same role, the same store: and yet it may have lost what it had.
    assert await open_attempt(log) == Appended(Answer.RECLAIM, detail=SERVER)
    assert client.generation == generation + 1
    await claimed(log)
    assert (await open_attempt(log)).answer is Answer.OK


async def test_a_server_on_a_socket(redis_binary: Path) -> None:
    """`unix://` leads to a server of this machine, with a password in front of the path or without."""
    async with RedisServer(redis_binary, unix=True) as server:
        async with running(server.url) as client:
            log = ClaimedLog(client, patience=0)
            await claimed(log)
            assert (await open_attempt(log)).answer is Answer.OK
            await client.command("ACL", "SETUSER", "u", "on", f">{CANARY}", "~*", "&*", "+@all")
        async with running(server.url.replace("//", f"//u:{CANARY}@")) as client:
            assert await client.command("ACL", "WHOAMI") == b"u"
    with pytest.raises(Unavailable, match=r"Redis cannot be reached at /.* \(ENOENT\)"):
        async with running(server.url):
            pass


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("~other:* +@all", "may not use this key"),
        ("~nl:* +@all -evalsha -script -eval", "may not run (EVALSHA|SCRIPT LOAD)"),
    ],
)
async def test_missing_permissions(
    admin: redis_asyncio.Redis, proxy: Proxy, rule: str, told: str
) -> None:
    """A user that may not touch our keys, or run scripts, is told which; the password is not."""
    await tell(admin, "ACL", "SETUSER", "limited", "reset", "on", f">{CANARY}", *rule.split(" "))
    try:
        url = f"redis://limited:{CANARY}@127.0.0.1:{proxy.port}"
        with pytest.raises(Unauthorised, match=told) as caught:
            async with running(url) as client:
                await claimed(ClaimedLog(client, patience=0))
        assert caught.value.reason == "NOPERM"
        async with running(url, installation="") as client:
            for ask in (
                ClaimedLog(client, patience=0).read_headers,
                ClaimedLog(client, patience=0).read_logs,
            ):
                refused = pytest.raises(Unauthorised, match="NOPERM")
                with contextlib.nullcontext() if rule.startswith("~nl:") else refused:
                    await ask(["u"])
        assert CANARY not in repr(caught.value) + str(caught.value.__cause__)
    finally:
        await tell(admin, "ACL", "DELUSER", "limited")


async def test_who_closes_the_connection_is_no_riddle() -> None:
    """Another program's port, or one in between, may end every connection without a word."""
    closing = asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with await closing as server:
        port = server.sockets[0].getsockname()[1]
        told = (
            rf"cannot be reached at 127\.0\.0\.1:{port} \((it closes the connection|ECONNRESET)\)"
        )
        async with running(f"redis://127.0.0.1:{port}", installation="") as client:
            with pytest.raises(Unavailable, match=told):
                await client.command("PING")


async def test_a_server_without_a_connection_left(redis_binary: Path) -> None:
    """It says so and closes; whoever shares it with others has to look for theirs."""
    full = RedisServer(redis_binary, settings={"maxclients": "1"})
    async with full, redis_asyncio.Redis.from_url(full.url) as other:
        await other.ping()
        with pytest.raises(Unavailable, match=r"\(max number of clients reached\)"):
            async with running(full.url):
                pass


async def test_a_wrong_password(admin: redis_asyncio.Redis, proxy: Proxy) -> None:
    """Credentials that are refused are named as such, without being quoted."""
    with pytest.raises(Unauthorised) as caught:
        async with running(f"redis://nobody:{CANARY}@127.0.0.1:{proxy.port}"):
            pass
    assert CANARY not in repr(caught.value) + str(caught.value)


async def test_a_foreign_key(admin: redis_asyncio.Redis, log: ClaimedLog) -> None:
    """A key that holds no log of ours is an error of the data, not of the server."""
    await admin.rpush("nl:{u}", "job:1")
    claimed = await log.claim("u", EPOCH, name=NAME)
    assert claimed.snapshot is None
    assert "no log of this format" in str(claimed.error)
    with pytest.raises(ContractError, match="no log of this format"):
        await open_attempt(log)


# -- bounds ----------------------------------------------------------------------------------------


async def test_a_foreign_key_hides_no_other(admin: redis_asyncio.Redis, log: ClaimedLog) -> None:
    """Among the heads of many logs a key that is no list stands for itself, and holds up no sweep."""
    await claimed(log)
    await admin.set("nl:{x}", "no list")
    (ours, foreign, gone) = await log.read_headers(["u", "x", "gone"])
    assert (ours[1:], foreign, gone) == ((1, -1), (b"", 0, -1), (None, 0, -2))


async def test_a_frozen_server_costs_bounded_time(
    redis_server: RedisServer, redis_url: str
) -> None:
    """Calls to a server that answers nothing end in time, and work again once it wakes."""
    async with running(redis_url, timeout=1.0) as client:
        await redis_server.pause()
        begin = time.monotonic()
        try:
            results = await asyncio.gather(
                *(client.command("PING") for _ in range(50)), return_exceptions=True
            )
            problem = client.problem
        finally:
            await redis_server.resume()
        assert time.monotonic() - begin < 25, "one after the other they take 50 s"
        assert {type(r) for r in results} <= {Ambiguous, Unavailable, TimeoutError}
        assert problem == f"Redis does not answer in time at {redis_url.removeprefix('redis://')}"
        assert await ClaimedLog(client, patience=5).read("u") is None
        assert client.problem is None


async def test_the_queue_is_bounded(redis_url: str) -> None:
    """More calls than the pipeline can hold are refused at once, not stored."""
    client = LedgerClient(redis_url, timeout=5)
    # One is on its way, the others wait.
    calls = [asyncio.ensure_future(client.command("PING")) for _ in range(8_193)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="too many calls are waiting"):
        await client.command("PING")
    await client.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {(type(r), str(r)) for r in results} == {
        (Unavailable, "the Redis client is closed"),
    }  # fmt: skip
    with pytest.raises(Unavailable, match="closed"):
        await client.command("PING")


async def test_cancelled_calls_mix_no_replies(proxy: Proxy, client: LedgerClient) -> None:
    """Calls that are cancelled on the way leave every other call its own reply."""
    for round_ in range(12):
        proxy.faults.append(Fault(Delay(0.01), b"ECHO"))
        calls = [asyncio.ensure_future(client.command("ECHO", f"{round_}-{n}")) for n in range(30)]
        await asyncio.sleep(0.001 * (round_ % 6))
        for call in calls[round_ % 3 :: 3]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        cancelled = [isinstance(r, asyncio.CancelledError) for r in results]
        assert cancelled.count(True) == 10
        for n, result in enumerate(results):
            assert cancelled[n] or result == f"{round_}-{n}".encode()
    assert len(proxy.struck) == 12


async def test_a_client_that_ends_answers_everybody(redis_url: str, proxy: Proxy) -> None:
    """When the pipeline is cancelled, calls on the way learn that they may have been executed."""
    client = LedgerClient(f"redis://127.0.0.1:{proxy.port}", timeout=2)
    task = asyncio.create_task(client.run())
    await client.open(HOME)
    proxy.faults.append(Fault(BlackHole(), b"ECHO"))
    call = asyncio.ensure_future(client.command("ECHO", "x"))
    await eventually(lambda: proxy.struck)
    later = asyncio.ensure_future(client.command("ECHO", "y"))
    await asyncio.sleep(0)
    task.cancel()
    results = await asyncio.gather(call, later, task, return_exceptions=True)
    assert [type(r) for r in results] == [Ambiguous, Unavailable, asyncio.CancelledError]


# -- the stand-in in memory ------------------------------------------------------------------------


async def test_a_cancelled_client_ends(redis_url: str) -> None:
    """Cancelling ends the client at whatever point of a call it comes."""
    for turns in range(60):
        client = LedgerClient(redis_url)
        task = asyncio.create_task(client.run())
        await client.open("here/x@1")
        call = asyncio.create_task(client.command("PING"))
        for _ in range(turns % 8):
            await asyncio.sleep(0)
        task.cancel()
        call.cancel()
        _, pending = await asyncio.wait({task}, timeout=5)
        await asyncio.gather(call, return_exceptions=True)
        assert not pending, f"still running after being cancelled at turn {turns}"


async def test_a_store_emptied_under_a_live_connection_is_stamped_anew(redis_url: str) -> None:
    """A probe finds the stamp gone, writes a new one, and makes all claims stale."""
    client = LedgerClient(redis_url)
    async with beside(client.run()):
        before, generation = await client.open("here/x@1"), client.generation
        await client.command("FLUSHALL")
        after = await client.probe()
        assert after.store
        assert after.store != before.store
        assert client.generation == generation + 1
