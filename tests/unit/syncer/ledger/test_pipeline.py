"""How long a call of the pipeline may take, where the server is slow, silent, or never comes to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from redis.asyncio.connection import AbstractConnection, ConnectionPool

from syncer.ledger.calls import Call
from syncer.ledger.pipeline import PATIENCE, Pipeline
from tests.simulation.loop import SimLoop, simulate

TIMEOUT = 1.0


class Server:
    """
    A connection, its pool and its owner in one.

    Attributes:
        pauses: Seconds before each reply, None for none at all; the last one repeats.
        sent: Commands of each round.
    """

    def __init__(self, *pauses: float | None) -> None:
        self.pauses = list(pauses)
        self.sent: list[int] = []

    async def get_connection(self) -> Server:
        return self

    async def release(self, _connection: object) -> None:
        """Nothing is kept."""

    async def disconnect(self, **_options: bool) -> None:
        """Nothing is closed."""

    async def connect(self) -> None:
        """Always possible."""

    async def can_read(self) -> bool:
        return False

    async def send_packed_command(self, packed: list[Any], **_options: bool) -> None:
        self.sent.append(len(packed))

    async def read_response(self) -> bytes:
        pause = self.pauses.pop(0) if len(self.pauses) > 1 else self.pauses[0]
        await (asyncio.Event().wait() if pause is None else asyncio.sleep(pause))
        return b"OK"

    def on_problem(self, _pipeline: Pipeline) -> None:
        """Nobody asks."""


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Pipeline]:
    """A pipeline to a server, which serves until the end of the block."""

    def pool(_: Callable[[AbstractConnection], Awaitable[None]]) -> ConnectionPool:
        return cast("ConnectionPool", server)

    pipeline = Pipeline(pool, cast("Any", server), timeout=TIMEOUT)
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


def test_each_reply_has_its_own_time() -> None:
    """A round may take as long as all of its replies, if each comes in time."""

    async def main(loop: SimLoop) -> None:
        server = Server(TIMEOUT * 0.9)
        async with serving(server) as pipeline:
            began = loop.time()
            assert await together(pipeline, 6) == [b"OK"] * 6
            assert loop.time() - began == about(TIMEOUT * 0.9 * 6)
        assert server.sent == [1, 5]

    simulate(1, main)


@pytest.mark.parametrize("silent", [0, 3])
def test_a_silent_server_ends_a_round(silent: int) -> None:
    """Whichever reply does not come: it and those after it may have been executed."""

    async def main(loop: SimLoop) -> None:
        async with serving(Server(*[0.0] * (silent + 1), None)) as pipeline:
            began = loop.time()
            found = await together(pipeline, 6)
            waited = loop.time() - began
        kinds = sorted(type(f).__name__ for f in found)
        assert kinds == ["Ambiguous"] * (5 - silent) + ["bytes"] * (silent + 1)
        assert TIMEOUT <= waited <= TIMEOUT * 1.25

    simulate(1, main)


def test_a_call_that_never_has_its_turn_fails() -> None:
    """Each after its own time, however many wait; what was answered before is not touched."""

    async def main(loop: SimLoop) -> None:
        async with serving(Server(0.0)) as pipeline:
            assert await together(pipeline, 4) == [b"OK"] * 4
            await asyncio.sleep(TIMEOUT * PATIENCE / 2)
            async with pipeline._turn:
                began = loop.time()
                first = asyncio.create_task(together(pipeline, 3))
                await asyncio.sleep(TIMEOUT * 2)
                later = asyncio.create_task(together(pipeline, 1))
                assert [type(f) for f in await first] == [TimeoutError] * 3
                assert loop.time() - began == about(TIMEOUT * PATIENCE)
                assert [type(f) for f in await later] == [TimeoutError]
                assert loop.time() - began == about(TIMEOUT * (PATIENCE + 2))
            assert await together(pipeline, 4) == [b"OK"] * 4

    simulate(1, main)


def test_what_was_answered_is_not_kept() -> None:
    """A reply may hold a whole log; the limits of calls do not keep it from being freed."""

    async def main(_loop: SimLoop) -> None:
        async with serving(Server(0.0)) as pipeline:
            for _ in range(50):
                await together(pipeline, 5)
            assert len(pipeline._limited) <= 5

    simulate(1, main)
