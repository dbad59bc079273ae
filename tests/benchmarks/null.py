"""
The null controller: a watch, and one bare status patch for each object; nothing else.

It is the limit on a machine: what the same client library costs when nothing is recorded, sent or
decided. It says `ready` on standard output once its watch is open, and runs until it is killed.

    KUBECONFIG=FILE python -m tests.benchmarks.null NAMESPACE [WATCHES]

With a number it is not even that: it opens so many watches and throws away what they bring, to show
what a watch costs the API server.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import orjson

from syncer.kube.client import MERGE_PATCH, KubeClient
from syncer.kube.notification_requests import list_path, object_path

#: Patches at the same time, as many as the product's default.
WRITERS: Final = 16
_QUEUE: Final = 100_000


async def _patch(client: KubeClient, work: asyncio.Queue[tuple[str, str, str]]) -> None:
    while True:
        namespace, name, version = await work.get()
        body = {"metadata": {"resourceVersion": version}, "status": {"phase": "Sent"}}
        await client.request(
            "PATCH", f"{object_path(namespace, name)}/status", body=body,
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
                print("ready", flush=True)
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
        print("ready", flush=True)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        raise RuntimeError("a watch has ended")


async def main(namespace: str) -> None:
    """Run until killed."""
    work: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue(_QUEUE)
    async with (
        await KubeClient.connect(None, user_agent="null-controller") as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(WRITERS):
            group.create_task(_patch(client, work))
        group.create_task(_watch(client, namespace, work))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        asyncio.run(listen(sys.argv[1], int(sys.argv[2])))
    else:
        asyncio.run(main(sys.argv[1]))
