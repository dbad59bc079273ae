"""
Many writers of one status, and the naive one that loses attempts under them.

`contend` puts a load on one object of a real API server: five writers publish one attempt each, at
the same moment, while a rival keeps a condition of its own up to date. What a writer does is given
by the caller; the load is the same for all.

`naive_rounds` does what a controller without a log does: it reads the status, appends its attempt to
the list, counts, and writes that back without a resourceVersion. Each of its writes succeeds.
It is here to prove that the load is one under which attempts can be lost: a test that it passed
would prove nothing about the real writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from syncer.model.carried import expand
from tests.benchmarks.strategies import Naive
from tests.integration.api import Api

Json = dict[str, Any]

WRITERS: Final = 5
CHANNEL: Final = "slack:ops"
RIVAL: Final = "RivalWasHere"
#: Seconds between two of the rival's writes: a few to each round, and most of the load is the writers'.
_PAUSE: Final = 0.05

#: Publishes the attempt of writer n (from 0) on an object; returns when its writer is done with it.
Publish = Callable[[int, Json], Awaitable[None]]


@dataclass(slots=True)
class Rival:
    """
    Keeps one condition of its own in the status, by the book: with resourceVersion and repeat.

    Attributes:
        written: Text of the condition as its last accepted write left it.
        writes: Accepted writes.
        conflicts: Refused ones.
    """

    api: Api
    written: str = ""
    writes: int = 0
    conflicts: int = 0

    async def run(self, path: str) -> None:
        """Count up until cancelled; cancelling waits for the write under way."""
        while True:
            turn = asyncio.ensure_future(self._turn(path))
            try:
                await asyncio.shield(turn)
            except asyncio.CancelledError:
                await turn
                raise
            await asyncio.sleep(_PAUSE)

    async def _turn(self, path: str) -> None:
        current = (await self.api.ask("GET", path)).body
        status = current.get("status") or {}
        others = [c for c in status.get("conditions", ()) if c["type"] != RIVAL]
        text = f"write {self.writes + 1}"
        mine = {
            "type": RIVAL, "status": "True", "reason": "Counting", "message": text,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        reply = await self.api.ask(
            "PATCH",
            f"{path}/status",
            {
                "metadata": {"resourceVersion": current["metadata"]["resourceVersion"]},
                "status": {"conditions": [*others, mine]},
            },
        )
        if reply.code == 200:
            self.writes += 1
            self.written = text
        else:
            assert reply.code == 409, reply.body
            self.conflicts += 1


@dataclass(slots=True)
class Round:
    """
    What one round left behind.

    Attributes:
        object: The object after all writers were done and the rival had stopped.
        rival: The rival.
    """

    object: Json
    rival: Rival

    @property
    def shown(self) -> list[Json]:
        """Attempts in the status."""
        status = expand(self.object.get("status") or {})
        return list(status.get("deliveryAttempts", ()))

    @property
    def missing(self) -> int:
        """Attempts that were published and are not there."""
        return WRITERS - len({a.get("id") or a["error"] for a in self.shown})

    @property
    def rival_lost(self) -> bool:
        """Whether the rival's last accepted write is gone."""
        conditions = (self.object.get("status") or {}).get("conditions", ())
        return self.rival.written not in [c["message"] for c in conditions if c["type"] == RIVAL]


def error_of(n: int) -> str:
    """The text by which a round's attempts are told apart; only this load has different ones."""
    return f"slack webhook returned 503 (retryable): writer {n}"


async def contend(api: Api, name: str, publish: Publish) -> Round:
    """Run one round: create an object, let the rival write, release all writers at once."""
    created = await api.create(name, retryPolicy={"maxAttempts": 10, "initialBackoffSeconds": 300})
    path = f"{api.requests}/{name}"
    rival = Rival(api)
    rivalry = asyncio.create_task(rival.run(path))
    try:
        while not rival.writes:
            await asyncio.sleep(0.001)
            if rivalry.done():
                rivalry.result()
        async with asyncio.timeout(90):
            await asyncio.gather(*(publish(n, created) for n in range(WRITERS)))
    finally:
        rivalry.cancel()
        ended = await asyncio.gather(rivalry, return_exceptions=True)
    for error in ended:
        if not isinstance(error, asyncio.CancelledError) and error is not None:
            raise error
    return Round((await api.ask("GET", path)).body, rival)


async def naive_rounds(api: Api, rounds: int) -> list[Round]:
    """Run so many rounds with naive writers."""
    naive = Naive(api)

    async def publish(n: int, created: Json) -> None:
        await naive.record(created, n, error_of(n))

    return [await contend(api, f"naive-{n}", publish) for n in range(rounds)]
