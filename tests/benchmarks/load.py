"""
What the suites with a whole installation share: a control plane, a receiver, objects, settings.

The receiver keeps its connections open, as real ones do; a call per connection would be charged to
the controller. The settings are the product's defaults with Events off; only what a stage shortens
for tests is put back.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.benchmarks.report import Json, Report
from tests.e2e.harness import NotifierProcess, Receiver, Stage, subject_of, until
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane, built_programs
from tests.servers.definition import load_crd, serve
from tests.servers.redis import RedisServer, find_binary

T = TypeVar("T")
S = TypeVar("S")
#: Measures, all or (`quick`) a little.
Suite = Callable[..., Awaitable[Report]]

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
_ANSWER_AFTER: Final = 0.005


def progress(suite: str, text: str) -> None:
    """Show on standard error how far a suite is."""
    print(f"bench: {suite}: {text}", file=sys.stderr, flush=True)


async def programs() -> Path:
    """The folder with etcd and kube-apiserver; builds them on the first run."""
    return await asyncio.to_thread(built_programs)


_shared: ContextVar[ControlPlane | None] = ContextVar("shared", default=None)


@asynccontextmanager
async def plane_of(assets: Path) -> AsyncIterator[ControlPlane]:
    """A control plane with the chart's CRD: a fresh one, or the one that is shared."""
    if (shared := _shared.get()) is not None:
        yield shared
        return
    async with ControlPlane(assets) as plane:
        await asyncio.to_thread(serve, plane, load_crd())
        yield plane


@asynccontextmanager
async def servers() -> AsyncIterator[tuple[ControlPlane, RedisServer, Path]]:
    """A control plane, a Redis, and a folder for an installation."""
    async with (
        plane_of(await programs()) as plane,
        RedisServer(find_binary("redis-server"), appendfsync="everysec") as redis,
    ):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            yield plane, redis, Path(name)


def on_servers(
    measure: Callable[[ControlPlane, str, Path, S], Awaitable[T]],
    told: Callable[[T, S], Report],
    *,
    full: S,
    quick: S,
) -> Suite:
    """Return the suite that measures on servers of its own, and tells what was found."""
    scales = {False: full, True: quick}

    async def run(*, quick: bool) -> Report:
        async with servers() as (plane, redis, folder):
            found = await measure(plane, redis.url, folder / "stage", scales[quick])
        return told(found, scales[quick])

    return run


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


def routing_notifier(
    here: Stage,
    receiver: Receiver,
    names: Sequence[str],
    *,
    more: Json | None = None,
    **settings: Json,
) -> NotifierProcess:
    """
    The same with a routing file.

    Args:
        here: The installation.
        receiver: Told by the path of a call to whom of these it goes.
        names: Who can be named by `extensions.to`; the first one gets all else. All have Slack's form.
        more: Further channels by name.
        settings: Groups of them.
    """
    credentials = here.folder / "credentials"
    own = {"slack": {"timeout": "10s"}, "credentials": {"dir": str(credentials)}}
    process = notifier_of(here, **{**settings, "delivery": {**own, **settings.get("delivery", {})}})
    for name in names:
        (credentials / name).write_text(f"http://127.0.0.1:{receiver.port}/{name}")
    routing = {
        "route": {
            "receiver": names[0],
            "routes": [{"match": {"to": name}, "receiver": name} for name in names[1:]],
        },
        "receivers": [
            {"name": name, "slackConfigs": [{"credentialRef": name}], **(more or {}).get(name, {})}
            for name in names
        ],
    }
    (here.folder / "routing.yaml").write_text(json.dumps(routing))
    return process


async def serving(process: NotifierProcess) -> NotifierProcess:
    """Start a notifier, and wait until it serves its shards."""
    await process.start().wait_ready()
    await process.seconds_to_acquire()
    return process


async def at_rest(process: NotifierProcess, within: float, **wanted: float) -> None:
    """Wait until metrics of a notifier have these values at once."""

    async def reached() -> bool:
        found = {name: await process.metric(f"notification_ledger_{name}") for name in wanted}
        return found == wanted

    await until(reached, lambda: f"{wanted}; {process.tail()}", within=within, every=0.2)


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


class CallReceiver(Receiver):
    """Answers many calls on one connection, what its heirs say; these keep what is to be known."""

    async def take(self, head: bytes, body: bytes, at: float) -> tuple[int, str]:
        """
        Take a call; a connection error drops it.

        Args:
            head: In lower case.
            body: Read whole.
            at: Monotonic second of the first byte.

        Returns:
            Status code and text of the answer.
        """
        raise NotImplementedError

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first = await reader.readexactly(1)
            at = time.monotonic()
            head = (first + await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            code, text = await self.take(head, await reader.readexactly(length), at)
            writer.write(
                f"HTTP/1.1 {code} Scripted\r\nContent-Length: {len(text)}\r\n"
                f"Content-Type: text/plain\r\n\r\n{text}".encode()
            )


class SteadyReceiver(CallReceiver):
    """
    Keeps count instead of a book, and answers after 5 ms.

    Attributes:
        count: Calls read whole.
    """

    def __init__(self, answer: Callable[[str], int] = lambda _subject: 200) -> None:
        """
        Args:
            answer: Status code for a subject; asked once for each call, when it was read whole.
        """  # noqa: D205 - the class says what it is
        super().__init__()
        self.count = 0
        self._answer_to = answer

    async def take(self, head: bytes, body: bytes, at: float) -> tuple[int, str]:
        """Count it, and answer a little later."""
        self.count += 1
        code = self._answer_to(subject_of(body))
        await asyncio.sleep(_ANSWER_AFTER)
        return code, "ok"


async def at_rate(
    create: Callable[[str], Coroutine[Any, Any, object]], names: Iterable[str], rate: float
) -> dict[str, float]:
    """Create so many a second, whatever each takes; returns the monotonic second at which each was due."""
    due: dict[str, float] = {}
    begin = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for n, name in enumerate(names):
            due[name] = begin + n / rate
            await asyncio.sleep(due[name] - time.monotonic())
            group.create_task(create(name))
    return due


async def spread(
    work: Callable[[T], Coroutine[Any, Any, object]], things: Iterable[T], workers: int
) -> None:
    """Do something with each of some things, with so many at once."""
    waiting = iter(things)

    async def worker() -> None:
        for thing in waiting:
            await work(thing)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())


async def create_all(
    api: Api, names: Iterable[str], *, began: dict[str, float] | None = None
) -> None:
    """
    Create objects as fast as the server takes them.

    Args:
        api: Where.
        names: Of the objects; the subject is the name.
        began: Gets the monotonic second at which each creation began, by name.
    """

    async def create(name: str) -> None:
        if began is not None:
            began[name] = time.monotonic()
        await api.create(name, subject=name)

    await spread(create, names, _CREATORS)
