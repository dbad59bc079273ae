"""
A watch that keeps no objects, and the stage around it.

The harness's watch keeps every version of every object, which is what a check of the record wants and
what a long or a timed run cannot afford. This one stamps the moment at which a final phase was first
seen, and forgets the rest. It runs in the benchmark's process, on the administrator's token, like
any other client's.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import redis.asyncio as redis_asyncio

from tests.benchmarks.report import Json, percentile
from tests.e2e.harness import TERMINAL, Receiver, Stage, Watcher, _ended
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane


class FinalWatcher(Watcher):
    """
    Knows when each notification was first seen, and when it was seen to have ended.

    Attributes:
        shown: Monotonic second at which it was first seen, by name; names are used once.
        ended: Monotonic second at which a final phase was first seen, by name.
        finals: That phase.
    """

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.shown: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.finals: dict[str, str] = {}

    async def _list(self) -> None:
        self.gaps += self._listed  # an end that is found later has no moment
        await super()._list()

    async def _catch_up(self, item: Json) -> None:
        pass

    def _note(self, document: Json) -> None:
        name = document["metadata"]["name"]
        self.shown.setdefault(name, time.monotonic())
        phase = (document.get("status") or {}).get("phase")
        if phase in TERMINAL and name not in self.ended:
            self.ended[name] = time.monotonic()
            self.finals[name] = phase


#: What `waits` tells, with units.
WAITS: Final = dict.fromkeys(
    ("p50", "p99", "p99 until the API server has shown it", "p99 from then until received"), "ms"
)


def waits(delays: Sequence[float], shown: Sequence[float]) -> dict[str, float]:
    """
    Percentiles of how long some notifications waited.

    Args:
        delays: Seconds until received, of each.
        shown: The part of it until an independent watch showed the object.
    """
    after = [d - s for d, s in zip(delays, shown, strict=True)]
    parts = ((delays, 0.5), (delays, 0.99), (shown, 0.99), (after, 0.99))
    found = [percentile(seconds, share) * 1000 for seconds, share in parts]
    return dict(zip(WAITS, found, strict=True))


@asynccontextmanager
async def unwatched(
    plane: ControlPlane, redis_url: str, folder: Path, receiver: Receiver
) -> AsyncIterator[Stage]:
    """Set up an installation in a fresh namespace with this receiver; nobody runs its watch."""
    name = f"bench-{uuid.uuid4().hex[:12]}"
    await asyncio.to_thread(plane.api.create_namespace, name)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with (
        receiver,
        redis_asyncio.Redis.from_url(
            redis_url, socket_timeout=30, socket_connect_timeout=5
        ) as client,
        Api(plane.server, plane.admin_token, plane.ca_file, namespace=name) as api,
    ):
        watcher = FinalWatcher(api)
        made = Stage(plane, name, redis_url, name, folder, receiver, api, watcher, client)
        try:
            yield made
        finally:
            for process in made.processes:
                await asyncio.to_thread(process.kill)


@asynccontextmanager
async def watched(
    plane: ControlPlane, redis_url: str, folder: Path, receiver: Receiver
) -> AsyncIterator[tuple[Stage, FinalWatcher]]:
    """Set up one whose watch runs; if that broke, the run ends with an error."""
    async with unwatched(plane, redis_url, folder, receiver) as here:
        assert isinstance(here.watcher, FinalWatcher)
        watching = asyncio.create_task(here.watcher.run())
        try:
            yield here, here.watcher
        finally:
            broken = await _ended(watching)
        if broken:
            raise RuntimeError(f"the watch broke: {type(broken).__name__}: {broken}")
