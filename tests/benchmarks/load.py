"""
What the suites with a whole installation share: a control plane, a receiver, objects, settings.

The receiver keeps its connections open, as real ones do; a call per connection would be charged to
the controller. The settings are the product's defaults with Events off; only what a stage shortens
for tests is put back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from tests.e2e.harness import NotifierProcess, Receiver, Stage, subject_of
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane, built_programs
from tests.servers.definition import serve, upstream_form
from tests.servers.redis import RedisServer, find_binary

Json = dict[str, Any]

ROOT: Final = Path(__file__).resolve().parents[2]
#: The defaults where a stage has shorter ones.
SETTINGS: Final[dict[str, Json]] = {
    "sharding": {"renewDeadline": "5s", "retryPeriod": "2s", "margin": "3s"},
    "sync": {"window": "500ms", "liveSweep": "30s", "finishedSweep": "10m"},
}
#: The same for suites of several replicas: all shards, and leases as long as the defaults make them.
SHARED: Final[dict[str, Json]] = {
    "sharding": {**SETTINGS["sharding"], "shards": 16},
    "sync": SETTINGS["sync"],
    "delivery": {"slack": {"timeout": "10s"}},
}
_CREATORS: Final = 32


def progress(suite: str, text: str) -> None:
    """Show on standard error how far a suite is."""
    print(f"bench: {suite}: {text}", file=sys.stderr, flush=True)


async def programs() -> Path:
    """The folder with etcd and kube-apiserver; builds them on the first run."""
    return await asyncio.to_thread(built_programs)


_shared: ContextVar[ControlPlane | None] = ContextVar("shared", default=None)


@asynccontextmanager
async def plane_of(assets: Path, feature_gates: str = "") -> AsyncIterator[ControlPlane]:
    """A control plane with upstream's CRD: a fresh one, or the one that is shared and has no gates."""
    if (shared := _shared.get()) is not None and not feature_gates:
        yield shared
        return
    async with ControlPlane(assets, feature_gates=feature_gates) as plane:
        await asyncio.to_thread(serve, plane, upstream_form())
        yield plane


@asynccontextmanager
async def servers() -> AsyncIterator[tuple[ControlPlane, RedisServer, Path]]:
    """A control plane, a Redis, and a folder for an installation."""
    async with (
        plane_of(await programs()) as plane,
        RedisServer(find_binary("redis-server")) as redis,
    ):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            yield plane, redis, Path(name)


@asynccontextmanager
async def sharing_a_plane(assets: Path) -> AsyncIterator[None]:
    """Within it, suites share one control plane, each in namespaces of its own; saves their starts."""
    async with plane_of(assets) as plane:
        token = _shared.set(plane)
        try:
            yield
        finally:
            _shared.reset(token)


def notifier_of(here: Stage, **settings: Json) -> NotifierProcess:
    """A notifier with these settings and further groups of them, not started yet."""
    return here.notifier(to="slack", **SETTINGS, **settings)


def pid_of(process: NotifierProcess) -> int:
    """Process id of a running notifier."""
    assert process._process is not None
    return process._process.pid


def pids_of(plane: ControlPlane, redis: RedisServer, controller: int) -> dict[str, int]:
    """Process ids of everything that works on a notification, by name; `load` is this process."""
    servers = {name: process.pid for name, process in plane._processes.items()}
    return {
        "controller": controller, **servers, "redis": redis._process.pid, "load": os.getpid(),
    }  # fmt: skip


async def read_call(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next call on a connection: its head in lower case, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


class SteadyReceiver(Receiver):
    """
    Answers many calls on one connection; keeps count instead of a book.

    Attributes:
        count: Calls read whole.
    """

    def __init__(self, answer: Callable[[str], int], *, delay: float) -> None:
        """
        Args:
            answer: Status code for a subject; asked once for each call, when it was read whole.
            delay: Seconds between reading a call and answering it.
        """  # noqa: D205 - the class says what it is
        super().__init__()
        self.count = 0
        self._answer_to = answer
        self._delay = delay

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    _, body = await read_call(reader)
                    self.count += 1
                    code = self._answer_to(subject_of(body))
                    await asyncio.sleep(self._delay)
                    writer.write(
                        f"HTTP/1.1 {code} Scripted\r\nContent-Length: 2\r\n"
                        "Content-Type: text/plain\r\n\r\nok".encode()
                    )
        finally:
            self._serving.discard(task)
            writer.close()


@asynccontextmanager
async def receiver_of(
    here: Stage, answer: Callable[[str], int] = lambda _subject: 200, *, delay: float = 0.005
) -> AsyncIterator[SteadyReceiver]:
    """Put a steady receiver in the place of the stage's own, before a notifier is made."""
    receiver = SteadyReceiver(answer, delay=delay)
    await receiver.start()
    first, here.receiver = here.receiver, receiver
    try:
        yield receiver
    finally:
        here.receiver = first
        for process in here.processes:
            await asyncio.to_thread(process.kill)
        await receiver.close()


async def create_all(
    api: Api, names: Iterable[str], *, began: dict[str, float] | None = None, **spec: Any
) -> list[str]:
    """
    Create objects as fast as the server takes them; returns their uids.

    Args:
        api: Where.
        names: Of the objects; the subject is the name.
        began: Gets the monotonic second at which each creation began, by name.
        spec: Further members of the spec.
    """
    waiting = iter(names)
    uids: list[str] = []

    async def work() -> None:
        for name in waiting:
            if began is not None:
                began[name] = time.monotonic()
            created = await api.create(name, **{"subject": name, **spec})
            uids.append(str(created["metadata"]["uid"]))

    async with asyncio.TaskGroup() as group:
        for _ in range(_CREATORS):
            group.create_task(work())
    return uids
