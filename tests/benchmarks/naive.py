"""
Many writers of one status, and the naive one that loses attempts under them.

`contend` puts a load on one object of a real API server: five writers publish one attempt each, at
the same moment, while a rival keeps a condition of its own up to date. What a writer does is given
by the caller; the load is the same for all.

`NaiveWriter` does what a controller without a log does: it reads the status, appends its attempt to
the list, counts, and writes the whole back without a resourceVersion. Each of its writes succeeds.
It is here to prove that the load is one under which attempts can be lost: a test that it passed
would prove nothing about the real writer.

    python -m tests.benchmarks.naive [ROUNDS]      on a control plane of its own; prints the losses
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from syncer.model.carried import expand
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane, built_programs
from tests.servers.definition import serve, upstream_form

Json = dict[str, Any]

ROOT: Final = Path(__file__).resolve().parents[2]
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
        seconds: From the writers' start until the last one was done.
    """

    object: Json
    rival: Rival
    seconds: float

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


@dataclass(slots=True)
class NaiveWriter:
    """Reads, appends, overwrites."""

    api: Api
    refused: list[Any] = field(default_factory=list)

    async def publish(self, n: int, created: Json) -> None:
        """Write attempt n into the list that was read a moment before."""
        path = f"{self.api.requests}/{created['metadata']['name']}"
        status = (await self.api.ask("GET", path)).body.get("status") or {}
        attempts = list(status.get("deliveryAttempts", ()))
        attempts.append(
            {
                "channel": CHANNEL,
                "attempt": len(attempts) + 1,
                "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "status": "failed",
                "error": error_of(n),
            }
        )
        wanted = {
            "phase": "Sending", "deliveryAttempts": attempts, "totalAttempts": len(attempts),
            "failedDeliveries": 1, "conditions": status.get("conditions", []),
        }  # fmt: skip
        reply = await self.api.ask("PATCH", f"{path}/status", {"status": wanted})
        if reply.code != 200:
            self.refused.append(reply.body)


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
        began = time.monotonic()
        async with asyncio.timeout(90):
            await asyncio.gather(*(publish(n, created) for n in range(WRITERS)))
        seconds = time.monotonic() - began
    finally:
        rivalry.cancel()
        ended = await asyncio.gather(rivalry, return_exceptions=True)
    for error in ended:
        if not isinstance(error, asyncio.CancelledError) and error is not None:
            raise error
    return Round((await api.ask("GET", path)).body, rival, seconds)


async def naive_rounds(api: Api, rounds: int) -> list[Round]:
    """Run so many rounds with naive writers."""
    writer = NaiveWriter(api)
    return [await contend(api, f"naive-{n}", writer.publish) for n in range(rounds)]


async def main(arguments: Sequence[str]) -> int:
    """Run it by hand; exit code 0 if attempts were lost, as they must be."""
    async with ControlPlane(await asyncio.to_thread(built_programs)) as plane:
        await asyncio.to_thread(serve, plane, upstream_form())
        async with Api(plane.server, plane.admin_token, plane.ca_file) as api:
            done = await naive_rounds(api, int(arguments[0]) if arguments else 100)
    lost = sum(r.missing for r in done)
    hit = sum(r.missing > 0 for r in done)
    print(f"{lost} of {len(done) * WRITERS} attempts lost, in {hit} of {len(done)} rounds")
    print(f"the rival lost its last write in {sum(r.rival_lost for r in done)} rounds")
    return 0 if lost else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
