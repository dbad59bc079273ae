"""
Calls of the pipeline: how long they may take, and what becomes of them where a connection or a caller goes.

The server is one that does what it is told, on virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from syncer.ledger.lua import CLAIM
from syncer.ledger.pipeline import PATIENCE, Call, Pipeline
from syncer.ledger.replies import Refused
from syncer.model.errors import Ambiguous, Unauthorised, Unavailable
from tests.virtual import on_virtual_time

TIMEOUT = 1.0


class Server:
    """
    A connection, its pool and its owner in one.

    Attributes:
        pauses: Seconds before each reply, None for none at all; the last one repeats.
        sent: Commands of each round.
        replies: What is answered in turn, then always OK; an error is raised.
        connecting: Seconds that a connection takes.
        refusals: Errors of the next connections.
        ended: Whether the other side has closed the connection.
        held: Connections that were taken from the pool and not given back.
        closed: How many connections were closed by the pipeline.
        unreachable: Whether that fails.
        told: What the owner was told.
        infos: What connections have said of the server.
    """

    connection_class = Connection

    def __init__(self, *pauses: float | None) -> None:
        self.pauses = list(pauses)
        self.sent: list[int] = []
        self.replies: list[Any] = []
        self.connecting = 0.0
        self.refusals: list[Exception] = []
        self.ended = False
        self.held = 0
        self.closed = 0
        self.unreachable = False
        self.told: list[tuple[str, Pipeline]] = []
        self.infos: list[dict[str, str]] = []

    async def get_connection(self) -> Server:
        await asyncio.sleep(self.connecting)
        if self.refusals:
            raise self.refusals.pop(0)
        self.held += 1
        self.ended = False
        return self

    async def release(self, _connection: object) -> None:
        self.held -= 1

    async def disconnect(self, *, nowait: bool = False, inuse_connections: bool = False) -> None:
        """Close the connection, or those of the pool, which does not know of one that is being made."""
        self.closed += nowait
        self.ended = self.ended or nowait or inuse_connections

    async def connect(self) -> None:
        if self.unreachable:
            raise RedisConnectionError("refused")

    async def can_read(self) -> bool:
        return self.ended

    async def send_packed_command(self, packed: Any, *, check_health: bool) -> None:
        assert not check_health, "a PING in between would take the next reply"
        self.sent.append(1 if isinstance(packed, bytes) else len(list(packed)))

    async def send_command(self, *_command: object, check_health: bool) -> None:
        await self.send_packed_command(b"", check_health=check_health)

    async def read_response(self) -> Any:
        pause = self.pauses.pop(0) if len(self.pauses) > 1 else self.pauses[0]
        await (asyncio.Event().wait() if pause is None else asyncio.sleep(pause))
        reply = self.replies.pop(0) if self.replies else b"OK"
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def on_connect(self, *known: Any) -> None:
        """Both of a connection, and of its owner."""
        self.infos += [each for each in known if isinstance(each, dict)]

    def on_problem(self, pipeline: Pipeline) -> None:
        self.told.append(("problem", pipeline))

    def on_unconfirmed(self, pipeline: Pipeline) -> None:
        self.told.append(("unconfirmed", pipeline))


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Pipeline]:
    """A pipeline to a server, which serves until the end of the block."""
    pipeline = Pipeline(
        lambda _: cast("ConnectionPool", server), cast("Any", server), timeout=TIMEOUT
    )
    task = asyncio.create_task(pipeline.serve())
    try:
        yield pipeline
    finally:
        await pipeline.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def together(pipeline: Pipeline, calls: int) -> list[Any]:
    """What so many calls at once come to."""
    submitted = [pipeline.submit(Call(("GET", "x"))) for _ in range(calls)]
    return await asyncio.gather(*submitted, return_exceptions=True)


def about(seconds: float) -> Any:
    """About so many seconds of virtual time."""
    return pytest.approx(seconds, abs=0.01)


@on_virtual_time
async def test_silence_behind_replies_that_took_long_ends_a_round() -> None:
    """It has its own time from the last reply on, and little more."""
    loop = asyncio.get_running_loop()
    async with serving(Server(0.0, *[TIMEOUT * 0.9] * 3, None)) as pipeline:
        began = loop.time()
        found = await together(pipeline, 6)
        waited = loop.time() - began
    assert sorted(type(f).__name__ for f in found) == ["Ambiguous"] * 2 + ["bytes"] * 4
    assert TIMEOUT * 3.7 <= waited <= TIMEOUT * 3.9


@on_virtual_time
async def test_a_call_that_never_has_its_turn_fails() -> None:
    """Each after its own time, however many wait; what was answered before is not touched."""
    loop = asyncio.get_running_loop()
    async with serving(Server(0.0)) as pipeline:
        assert await together(pipeline, 4) == [b"OK"] * 4
        await asyncio.sleep(TIMEOUT * PATIENCE / 2)
        async with pipeline._round_lock:
            began = loop.time()
            first = asyncio.create_task(together(pipeline, 3))
            await asyncio.sleep(TIMEOUT * 2)
            later = asyncio.create_task(together(pipeline, 1))
            assert [type(f) for f in await first] == [TimeoutError] * 3
            assert loop.time() - began == about(TIMEOUT * PATIENCE)
            assert [type(f) for f in await later] == [TimeoutError]
            assert loop.time() - began == about(TIMEOUT * (PATIENCE + 2))
        assert await together(pipeline, 4) == [b"OK"] * 4


#: What is answered in turn, what is sent in turn, and what the call comes to.
SCRIPTS: dict[str, tuple[list[Any], list[int], object]] = {
    "a script that the server has": ([b"done"], [1], b"done"),
    "one that it lacks is loaded, and run once": (
        [ResponseError("NOSCRIPT No matching script"), b"sha", b"done"], [1, 1, 1], b"done",
    ),
    "one that it refuses": ([ResponseError("NOPERM no")], [1], Unauthorised),
    "one that may not be loaded": (
        [ResponseError("NOSCRIPT a"), ResponseError("NOPERM no")], [1, 1], Unauthorised,
    ),
    "one that is lost as soon as it is loaded": (
        [ResponseError("NOSCRIPT a"), b"sha", ResponseError("NOSCRIPT b")], [1, 1, 1], Refused,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SCRIPTS)
@on_virtual_time
async def test_a_script_runs_once(case: str) -> None:
    """It is sent again only where it was not run, and then no more than once."""
    replies, sent, wanted = SCRIPTS[case]
    server = Server(0.0)
    server.replies = list(replies)
    async with serving(server) as pipeline:
        call = Call(("EVALSHA", CLAIM.sha), script=CLAIM)
        found: object = (await asyncio.gather(pipeline.submit(call), return_exceptions=True))[0]
    assert wanted in {found, type(found)}
    assert server.sent == sent


GET = Call(("GET", "x"))


def confirmed(replicas: int = 1) -> Call:
    """A write that so many replicas must confirm within half a second."""
    return Call(("SET", "x", "1"), wait=(replicas, 500))


@on_virtual_time
async def test_a_call_may_wait_for_replicas() -> None:
    """Its result is the reply and how many have confirmed; of too few the owner is told."""
    server = Server(0.0)
    async with serving(server) as pipeline:
        server.replies = [b"OK", 1, b"OK", 0]
        assert await pipeline.submit(confirmed()) == (b"OK", 1)
        assert server.told == []
        assert await pipeline.submit(confirmed()) == (b"OK", 0)
        assert server.told == [("unconfirmed", pipeline)]
        server.replies = [b"OK", ResponseError("NOPERM of WAIT")]
        assert await pipeline.submit(confirmed()) == (b"OK", 0)
    assert server.sent == [2, 2, 2]


INFO = b"# Server\r\nredis_version:7.2.0\r\nrole:master\r\n"


@on_virtual_time
async def test_a_server_that_became_a_replica_is_left() -> None:
    """INFO says so before a write is refused: its owner is told, and later calls connect anew."""
    server = Server(0.0)
    replica = INFO.replace(b"master", b"slave")
    async with serving(server) as pipeline:
        await pipeline.submit(GET)
        server.replies = [replica, [b"appendfsync", b"always"]]
        with pytest.raises(Unavailable, match=r"^Redis answers READONLY: it is a replica$"):
            await pipeline.look()
        assert server.told == [("problem", pipeline)]
        assert server.ended
        assert server.infos == [], "a replica is not compared"
        assert await pipeline.submit(GET) == b"OK"
        assert not server.ended


@on_virtual_time
async def test_a_setting_is_read_where_the_newest_connection_may() -> None:
    """What an ACL refuses is not asked for again, until a connection is made to which it is allowed."""
    server = Server(0.0)
    async with serving(server) as pipeline:
        for answer, shown in (
            (ResponseError("NOPERM"), None),
            ([b"appendfsync", b"always"], "always"),
        ):
            server.replies = [INFO, answer]
            await pipeline._identify(cast("AbstractConnection", server))
            assert server.infos[-1].get("appendfsync") == shown
            await pipeline.submit(GET)
            server.replies = [INFO, [b"appendfsync", b"always"]]
            await pipeline.look()
            assert server.infos[-1].get("appendfsync") == shown


@on_virtual_time
async def test_a_caller_that_goes_while_connecting_is_cancelled() -> None:
    """It is not told of an error instead, nothing is sent, and no error is left that nobody takes."""
    loop = asyncio.get_running_loop()
    server, left = Server(0.0), list[Any]()
    loop.set_exception_handler(lambda _loop, context: left.append(context))
    server.connecting = TIMEOUT / 2
    async with serving(server) as pipeline:
        caller = asyncio.create_task(pipeline.submit(GET))
        await asyncio.sleep(TIMEOUT / 4)
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        del caller
        gc.collect()
        assert left == []
        assert server.sent == []
        assert await pipeline.submit(GET) == b"OK"


@on_virtual_time
async def test_a_connection_that_comes_up_after_the_end_is_closed() -> None:
    """Nothing else would close it; its call and those behind it were not executed."""
    server = Server(0.0)
    server.connecting = TIMEOUT / 2
    async with serving(server) as pipeline:
        calls = asyncio.create_task(together(pipeline, 3))
        await asyncio.sleep(TIMEOUT / 4)
        await pipeline.close()
        assert server.closed == 0
        found = await calls
        await asyncio.sleep(TIMEOUT)
        assert (server.closed, server.held) == (1, 1)
        assert [str(f) for f in found] == ["the Redis client is closed"] * 3
        with pytest.raises(Unavailable, match="is closed"):
            await pipeline.submit(GET)
        with pytest.raises(Unavailable, match="is closed"):
            await pipeline.submit(confirmed())
        assert (server.closed, server.held) == (1, 1), "nobody connects any more"
    assert server.sent == []


@on_virtual_time
async def test_a_demotion_closes_the_connection() -> None:
    """The server is identified again before the next call, and the owner knows."""
    server = Server(0.0)
    async with serving(server) as pipeline:
        server.replies = [ResponseError("READONLY You can't write against a read only replica.")]
        found = await together(pipeline, 1)
        assert isinstance(found[0], Exception)
        assert server.closed == 1
        assert server.told == [("problem", pipeline)]
        assert pipeline.problem == "Redis answers READONLY: it is a replica"


@on_virtual_time
async def test_a_caller_that_goes_before_its_reply_leaves_no_reply_behind() -> None:
    """The reply would be taken for that of the next call: the connection is closed."""
    server = Server(TIMEOUT / 2)
    async with serving(server) as pipeline:
        caller = asyncio.create_task(pipeline.submit(GET))
        await asyncio.sleep(TIMEOUT / 4)
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        assert server.ended
        server.replies = [RedisConnectionError("lost")]
        with pytest.raises(Ambiguous):
            await pipeline.submit(GET)
        assert server.ended


@on_virtual_time
async def test_a_former_master_whose_successor_cannot_be_reached_is_given_back() -> None:
    """The pool counts those that are out; its call was not executed."""
    server = Server(0.0)
    async with serving(server) as pipeline:
        pipeline._current = lambda _: False
        server.unreachable = True
        with pytest.raises(Unavailable, match="cannot be reached"):
            await pipeline.submit(GET)
        assert (server.held, server.sent) == (0, [])


@on_virtual_time
async def test_a_reset_drops_what_is_under_way() -> None:
    """Its connection ends with it."""
    server = Server(0.0)
    async with serving(server) as pipeline:
        assert await pipeline.submit(GET) == b"OK"
        await pipeline.reset()
        assert server.ended
