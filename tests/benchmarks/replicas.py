"""
What replicas pay for each other's notifications.

One, two and four replicas share the shards of an installation. All notifications of a load belong to one
replica: they are put into etcd, where a uid can be chosen, and only those are that fall into a shard of
it. So whatever CPU another replica spends, and whatever its watches bring, is for notifications of
another's. What it spends at rest, taken in a window before the loads, is taken away: it is as much again.

Each replica reaches the API server through a proxy of its own, which counts bytes by connection. A
connection on which the replica sends nothing during a load, and is sent something, is a watch. The bytes
are those on the wire, TLS included.

What the end of a replica costs is another suite's (`takeover`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import aiohttp

from syncer.model.times import format_time
from syncer.rules.shards import Sharding
from tests.benchmarks.idle import share_out
from tests.benchmarks.load import SHARED, pid_of, progress, servers, spread
from tests.benchmarks.recovery import put_of
from tests.benchmarks.report import Json, Measured, Report, cpu_seconds, resident_mib
from tests.e2e.harness import (
    QUICK as POLICY,
)
from tests.e2e.harness import (
    SEND_TIMEOUT,
    NotifierProcess,
    Stage,
    Step,
    stage,
    until,
)
from tests.fakes.proxy import Proxy
from tests.integration.api import notification
from tests.servers.controlplane import ControlPlane

SHARDS: Final[int] = SHARED["sharding"]["shards"]
#: For a quick look: leases of 5.5 s.
SHORT: Final[dict[str, Json]] = {
    "sharding": {
        "shards": SHARDS, "renewDeadline": "3s", "retryPeriod": "500ms", "margin": "1s",
    },
    "sync": SHARED["sync"],
}  # fmt: skip
_PUTTERS: Final = 32
#: Seconds; what is due after the last final phase belongs to the cost.
_QUIET: Final = 2.0
_SENT_WITHIN: Final = 180.0
#: What the receiver takes.
_ANSWER: Final = Step(delay=0.005)


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        replicas: Numbers of replicas.
        notifications: Of one load.
        loads: Of each number of replicas.
        rest: Seconds of the window at rest.
        settings: Of each replica.
    """

    replicas: tuple[int, ...]
    notifications: int
    loads: int
    rest: float
    settings: Mapping[str, Json] = field(default_factory=lambda: SHARED)


FULL: Final = Scale((1, 2, 4), 1500, 3, 20.0)
QUICK: Final = Scale((2,), 200, 1, 4.0, SHORT)


@dataclass(slots=True)
class _Place:
    """
    One installation.

    Attributes:
        here: Its stage.
        processes: Its replicas.
        proxies: Through which each of them reaches the API server.
        uids: Of all notifications, by name.
        sharding: How the installation divides them, once there is one.
    """

    here: Stage
    processes: list[NotifierProcess]
    proxies: list[Proxy]
    uids: dict[str, str] = field(default_factory=dict)
    sharding: Sharding = field(default_factory=lambda: Sharding(SHARDS))

    async def lease(self, name: str) -> Json:
        """A Lease of the installation, by the end of its name."""
        leases = self.here.api.leases
        reply = await self.here.api.ask("GET", f"{leases}/notification-ledger-{name}")
        assert reply.code == 200, reply.body
        return dict(reply.body)

    async def shards_of(self, process: NotifierProcess) -> set[int]:
        """Shards whose Lease names a replica: its identity ends with its health port."""
        found = set()
        for shard in range(SHARDS):
            holder = (await self.lease(str(shard)))["spec"]["holderIdentity"]
            if str(holder).endswith(f"_{process.health_port}"):
                found.add(shard)
        assert found, "a replica owns nothing"
        return found


@asynccontextmanager
async def _place(
    plane: ControlPlane, redis_url: str, folder: Path, replicas: int, scale: Scale
) -> AsyncIterator[_Place]:
    """Set up an installation whose shards are shared out."""
    async with (
        stage(
            plane, redis_url, folder, default=(_ANSWER,), sampled=False, send_timeout=SEND_TIMEOUT
        ) as here,
        contextlib.AsyncExitStack() as stack,
    ):
        place = _Place(here, [], [])
        for n in range(replicas):
            proxy = Proxy(plane._recipe.api_port)
            place.proxies.append(await stack.enter_async_context(proxy))
            process = here.notifier(to="slack", **scale.settings)
            process._env["KUBECONFIG"] = str(_kubeconfig(plane, folder / f"kubeconfig-{n}", proxy))
            place.processes.append(process)
        await share_out(place.processes, SHARDS)
        divided = (await place.lease("map"))["metadata"]["annotations"][
            "notification-ledger/shards"
        ]
        sharding = Sharding.read(divided)
        assert sharding is not None, divided
        place.sharding = sharding
        try:
            yield place
        finally:
            # Before their proxies, which then find nothing to cut.
            for process in place.processes:
                await asyncio.to_thread(process.kill)
            await asyncio.sleep(0.5)


def _kubeconfig(plane: ControlPlane, file: Path, proxy: Proxy) -> Path:
    """The controller's kubeconfig, by way of a proxy."""
    document = json.loads(plane.controller_kubeconfig.read_text())
    # The certificate is for 127.0.0.1, at whatever port.
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    file.write_text(json.dumps(document))
    return file


# -- notifications of one replica ------------------------------------------------------------------


def uids_of(sharding: Sharding, shards: set[int], n: int) -> Iterator[str]:
    """
    New uids.

    Args:
        sharding: How they are divided.
        shards: Into which they fall.
        n: How many.
    """
    while n:
        uid = str(uuid.uuid4())
        if sharding.of(uid) in shards:
            n -= 1
            yield uid


async def _put(place: _Place, names: Mapping[str, str]) -> None:
    """Put objects into etcd, each in a write of its own: a watch shows one object for one revision."""
    here = place.here
    etcd = f"http://127.0.0.1:{here.plane._recipe.etcd_port}/v3/kv/put"
    created = format_time(round(time.time() * 1000), millis=False)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def put(name: str) -> None:
            document = notification(name, subject=name, retryPolicy=POLICY)
            one = put_of(here.namespace, name, names[name], document, created=created)
            async with session.post(etcd, json=one) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"etcd answers {answer.status}")

        await spread(put, names, _PUTTERS)
    place.uids.update(names)


async def _sent(place: _Place, names: Sequence[str]) -> None:
    """Wait until all of these have ended as they should."""
    watcher = place.here.watcher
    await until(
        lambda: all(watcher.phase(place.uids[name]) == "Sent" for name in names),
        lambda: f"all are sent; {place.processes[0].tail()}",
        within=_SENT_WITHIN, every=0.1,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Reading:
    """CPU seconds so far of the API server and of each replica, and the time at which they were read."""

    at: float
    cpu: tuple[float, ...]

    def per_second(self, after: _Reading) -> tuple[float, ...]:
        """CPU of each per second since."""
        return tuple(
            (now - then) / (after.at - self.at)
            for now, then in zip(after.cpu, self.cpu, strict=True)
        )


def _read(place: _Place) -> _Reading:
    pids = [place.here.plane._processes["kube-apiserver"].pid, *map(pid_of, place.processes)]
    return _Reading(time.monotonic(), tuple(cpu_seconds(pid) for pid in pids))


async def _rest(place: _Place, seconds: float) -> tuple[float, ...]:
    """CPU of API server and replicas at rest, seconds per second."""
    before = _read(place)
    await asyncio.sleep(seconds)
    return before.per_second(_read(place))


def watched_bytes(
    before: Mapping[int, tuple[int, int]], after: Mapping[int, tuple[int, int]]
) -> int:
    """
    Bytes that a server sent on connections on which the client sent nothing.

    Args:
        before: Bytes of client and server, by connection (`Proxy.traffic`).
        after: The same later; a connection that was not there before is no watch of that time.
    """
    return sum(
        replied - before[link][1]
        for link, (requested, replied) in after.items()
        if link in before and requested == before[link][0]
    )


#: What one load tells, with units: of the replicas that own none of it, if there are any, and of the rest.
_OTHERS: Final = {
    "CPU of a replica per notification of another's": "ms",
    "bytes on a replica's watches per notification of another's": "B",
    "resident memory of a replica that owned none": "MiB",
}
_OWN: Final = {
    "CPU of the owner per notification": "ms",
    "bytes on the owner's watches per notification": "B",
    "API server CPU per notification": "ms",
    "notifications/s": "1/s",
}


async def _load(place: _Place, label: str, scale: Scale, rest: Sequence[float]) -> Measured:
    """
    Load the first replica, and see what that costs all of them; what they spend at rest is taken away.

    Args:
        place: The installation.
        label: First part of the notifications' names.
        scale: How many.
        rest: CPU of API server and replicas at rest, seconds per second.
    """
    n = scale.notifications
    uids = uids_of(place.sharding, await place.shards_of(place.processes[0]), n)
    names = {f"{label}-{i}": uid for i, uid in enumerate(uids)}
    traffic = [proxy.traffic() for proxy in place.proxies]
    before = _read(place)
    await _put(place, names)
    await _sent(place, list(names))
    seconds = time.monotonic() - before.at
    await asyncio.sleep(_QUIET)
    after = _read(place)
    elapsed = after.at - before.at
    server, owner, *others = (
        (each - idle) * elapsed * 1000 / n
        for each, idle in zip(before.per_second(after), rest, strict=True)
    )
    owner_bytes, *other_bytes = (
        watched_bytes(then, proxy.traffic()) / n
        for then, proxy in zip(traffic, place.proxies, strict=True)
    )
    resident = [resident_mib(pid_of(p)) for p in place.processes[1:]]
    measured = dict(zip(_OWN, (owner, owner_bytes, server, n / seconds), strict=True))
    if others:
        means = map(statistics.mean, (others, other_bytes, resident))
        measured |= zip(_OTHERS, means, strict=True)
    return measured


# -- all of it -------------------------------------------------------------------------------------


async def measure(
    report: Report, plane: ControlPlane, redis_url: str, folder: Path, replicas: int, scale: Scale
) -> None:
    """
    Load one installation.

    Args:
        report: Gets its figures.
        plane: Its API server.
        redis_url: Its Redis.
        folder: Is made.
        replicas: How many.
        scale: How much is measured.
    """
    at = f"{replicas} replica{'s' if replicas > 1 else ''}: "
    async with _place(plane, redis_url, folder, replicas, scale) as place:
        # What comes first warms everything and is thrown away.
        warm = replace(scale, notifications=max(20, scale.notifications // 10))
        await _load(place, "warm", warm, [0.0] * (replicas + 1))
        rest = await _rest(place, scale.rest)
        loads = []
        for n in range(scale.loads):
            loads.append(await _load(place, f"load{n}", scale, rest))
            progress("replicas", f"{at}{loads[-1]['notifications/s']:.0f}/s")
    if replicas > 1:
        report.rows(_OTHERS, loads, at)
    report.rows(_OWN, loads, at)


async def run(*, quick: bool) -> Report:
    """Measure on servers of its own."""
    scale = QUICK if quick else FULL
    report = Report("replicas")
    report.notes.append(
        f"{scale.loads} loads of {scale.notifications} notifications at once on each installation, all "
        f"of one replica; one channel, 200 after 5 ms, {SHARDS} shards, "
        f"{'leases of 5.5 s' if quick else 'default settings'}, Events and audit off"
    )
    report.notes.append(
        "CPU and watches of a replica that owns none of them, per notification; what it spends at rest "
        "is taken away; bytes on the wire, by a proxy before each replica; what a watch brought that was "
        "opened anew during a load is not counted"
    )
    async with servers() as (plane, redis, folder):
        for n in scale.replicas:
            await measure(report, plane, redis.url, folder / str(n), n, scale)
    return report
