"""How many objects are read at once."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from syncer.kube.client import KubeClient
from syncer.kube.notification_requests import READS, NotificationRequestClient
from syncer.model.errors import Unavailable


class Server:
    """Answers when it is told to, and knows how many wait."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.most = self.waiting = 0
        self.answer = asyncio.Event()
        self.failing = 0

    async def request(self, method: str, path: str, **_: Any) -> dict[str, Any]:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        self.asked.append(path)
        try:
            await self.answer.wait()
            if self.failing:
                self.failing -= 1
                raise Unavailable("away")
        finally:
            self.waiting -= 1
        name = path.rpartition("/")[2]
        meta = {"uid": f"u-{name}", "namespace": "n", "name": name, "resourceVersion": "1"}
        return {"metadata": meta, "spec": {"type": "Simple"}}


async def test_a_start_reads_few_objects_at_once() -> None:
    """The others have their turn, in order; one that fails or is given up leaves its place."""
    server = Server()
    objects = NotificationRequestClient(cast("KubeClient", server))
    reads = [asyncio.create_task(objects.get("n", f"{i:02}")) for i in range(64)]
    async with asyncio.timeout(30):
        while server.waiting < READS:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert server.waiting == READS < 64
        reads[0].cancel()
        reads[READS + 3].cancel()
        server.failing = 5
        server.answer.set()
        found = await asyncio.gather(*reads, return_exceptions=True)
    assert server.most == READS
    assert [type(f) for f in found].count(asyncio.CancelledError) == 2
    assert [type(f) for f in found].count(Unavailable) == 5
    assert len([f for f in found if not isinstance(f, BaseException)]) == 57
    assert len(server.asked) == 63
    assert server.asked == sorted(server.asked)


async def test_an_object_that_has_not_changed_is_the_known_one() -> None:
    """It is read all the same, since that is what tells so."""
    server = Server()
    server.answer.set()
    objects = NotificationRequestClient(cast("KubeClient", server))
    known = await objects.get("n", "a")
    assert await objects.get("n", "a", known) is known
    assert await objects.get("n", "b", known) is not known
    assert len(server.asked) == 3
