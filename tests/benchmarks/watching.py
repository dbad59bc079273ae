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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import redis.asyncio as redis_asyncio

from tests.benchmarks.load import Json
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


@asynccontextmanager
async def watched(
    plane: ControlPlane, redis_url: str, folder: Path, receiver: Receiver
) -> AsyncIterator[tuple[Stage, FinalWatcher]]:
    """
    Set up an installation in a fresh namespace, with this receiver and such a watch.

    The receiver is started here, and closed. A watch that broke ends the run with an error.
    """
    name = f"bench-{uuid.uuid4().hex[:12]}"
    await asyncio.to_thread(plane.api.create_namespace, name)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    await receiver.start()
    client = redis_asyncio.Redis.from_url(redis_url, socket_timeout=10, socket_connect_timeout=5)
    async with Api(plane.server, plane.admin_token, plane.ca_file, namespace=name) as api:
        watcher = FinalWatcher(api)
        made = Stage(plane, name, redis_url, name, folder, receiver, api, watcher, client)
        watching = asyncio.create_task(watcher.run())
        try:
            yield made, watcher
        finally:
            for process in made.processes:
                await asyncio.to_thread(process.kill)
            broken = await _ended(watching)
            await receiver.close()
            await client.aclose()
    if broken:
        raise RuntimeError(f"the watch broke: {type(broken).__name__}: {broken}")
