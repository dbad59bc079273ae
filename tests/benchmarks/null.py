"""
Controllers that decide nothing: a watch, and one status patch for each object.

The null controller writes one member, and the reference a whole status that the product has written before:
the same bytes, by the same client. They are the limits on a machine: of what does nothing, and of what
writes down what happened. Each says `ready` on standard output once its watch is open, and runs until it is
killed.

    KUBECONFIG=FILE python -m tests.benchmarks.null NAMESPACE [WATCHES | STATUS.json]

With a number it is not even that: it opens so many watches and throws away what they bring, to show
what a watch costs the API server.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from syncer.kube.client import MERGE_PATCH, KubeClient
from syncer.kube.notification_requests import FIELD_MANAGER, list_path, object_path
from tests.benchmarks.child import say

#: Patches at the same time.
WRITERS: Final = 16
_QUEUE: Final = 100_000


async def _patch(
    client: KubeClient, work: asyncio.Queue[tuple[str, str, str]], status: dict[str, Any]
) -> None:
    while True:
        namespace, name, version = await work.get()
        await client.request(
            "PATCH", f"{object_path(namespace, name)}/status",
            params={"fieldManager": FIELD_MANAGER},
            body={"metadata": {"resourceVersion": version}, "status": status},
            content_type=MERGE_PATCH, timeout=30,
        )  # fmt: skip


async def _watch(
    client: KubeClient, namespace: str, work: asyncio.Queue[tuple[str, str, str]]
) -> None:
    path = list_path(namespace)
    version = (await client.request("GET", path, timeout=30))["metadata"]["resourceVersion"]
    said = False
    # The server ends a watch that is slow, in an orderly way: the next one begins where it ended.
    while True:
        params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "300"}
        async with client.stream(path, params, connect_timeout=30, idle_timeout=600) as lines:
            if not said:
                say("ready")
                said = True
            async for line in lines:
                event = orjson.loads(line)
                meta = event["object"]["metadata"]
                version = meta["resourceVersion"]
                if event["type"] == "ADDED":
                    work.put_nowait((meta["namespace"], meta["name"], version))


async def _listen(client: KubeClient, namespace: str, opened: asyncio.Semaphore) -> None:
    path = list_path(namespace)
    version = (await client.request("GET", path, timeout=30))["metadata"]["resourceVersion"]
    params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "300"}
    async with client.stream(path, params, connect_timeout=30, idle_timeout=600) as lines:
        opened.release()
        async for _ in lines:
            pass


async def listen(namespace: str, watches: int) -> None:
    """Hold so many watches open until killed; a watch that ends is an error."""
    opened = asyncio.Semaphore(0)
    async with (
        await KubeClient.connect(None, user_agent="null-watches") as client,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(_listen(client, namespace, opened)) for _ in range(watches)]
        for _ in tasks:
            await opened.acquire()
        say("ready")
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        raise RuntimeError("a watch has ended")


async def main(namespace: str, status: dict[str, Any]) -> None:
    """Write this status to every new object until killed."""
    work: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue(_QUEUE)
    async with (
        await KubeClient.connect(None, user_agent="null-controller") as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(WRITERS):
            group.create_task(_patch(client, work, status))
        group.create_task(_watch(client, namespace, work))


if __name__ == "__main__":
    what = sys.argv[2] if len(sys.argv) > 2 else ""
    if what.isdigit():
        asyncio.run(listen(sys.argv[1], int(what)))
    else:
        whole = orjson.loads(Path(what).read_bytes()) if what else {"phase": "Sent"}
        asyncio.run(main(sys.argv[1], whole))
