"""
What it costs to have it, with nothing to do.

One replica is started on servers of its own, later more beside it, with default settings and without any
notification. Once the shards are shared out and nothing has moved for a while, everything is left alone for
a window of time, and counted from outside: the API server's requests by verb and resource, the watches
that it holds open, Redis's commands (`counters.py`), CPU and memory of each process by the kernel.

The servers do a little without any replica, too. Windows of the same length before the first start say how
much, and it is taken away: what is left is what the replicas cause. Writes that the API server makes by
itself come every ten seconds, so a window may hold one more or one less of them.

The LIST of metadata by which each replica compares what exists with what it was shown comes every two
minutes. It is told among the requests, and is no part of the reads: a window has one of them or none.

A watch is no read: it is opened once, and costs nothing while nothing happens. How many are open is told
beside the reads; those that end meanwhile are mostly the API server's own.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.counters import (
    api_metrics,
    is_read,
    is_watch,
    is_write,
    redis_commands,
    requests_in,
    watches_in,
)
from tests.benchmarks.load import SHARED, pid_of, progress, servers
from tests.benchmarks.report import Report, cpu_seconds, resident_mib
from tests.e2e.harness import NotifierProcess, Stage, stage, until
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer

OWNED: Final = "notification_ledger_shards_owned"
_SETTLED_WITHIN: Final = 120.0
#: Of metadata, by each replica every two minutes (`syncer.kube.comparison`): a window has one or none.
COMPARISON: Final = "LIST notificationrequests"
#: Per second; less is one request in a window, or the servers' own.
_RARE: Final = 0.005


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        replicas: Numbers of replicas, rising.
        windows: Of each number.
        seconds: Length of a window.
        settle: Seconds between the last move of a shard and the first window.
    """

    replicas: tuple[int, ...]
    windows: int
    seconds: float
    settle: float


FULL: Final = Scale((1, 2, 5), 3, 40.0, 15.0)
QUICK: Final = Scale((1, 2), 1, 5.0, 3.0)


@dataclass(frozen=True, slots=True)
class Window:
    """
    What was counted in one window.

    Attributes:
        seconds: Its length.
        requests: Requests to the API server, by verb and resource.
        watches: Watches open at its end, by resource.
        commands: Redis commands, by name.
        replicas: CPU of each replica, in percent of a core.
        resident: Resident MiB of each at its end.
        servers: CPU of each server, in percent of a core.
    """

    seconds: float
    requests: Mapping[str, int]
    watches: Mapping[str, int]
    commands: Mapping[str, int]
    replicas: tuple[float, ...]
    resident: tuple[float, ...]
    servers: dict[str, float]


async def share_out(processes: Sequence[NotifierProcess], shards: int) -> None:
    """Have all run, and wait until all shards have an owner and no replica has more than its share."""
    for process in processes:
        if not process.running:
            process.start()
    for process in processes:
        await process.wait_ready(120)
    most = -(-shards // len(processes))

    async def shared() -> bool:
        owned = [await p.metric(OWNED) for p in processes]
        return sum(owned) == shards and max(owned) <= most

    await until(
        shared, lambda: f"{shards} shards are shared out; {processes[-1].tail()}",
        within=_SETTLED_WITHIN, every=0.5,
    )  # fmt: skip


async def _window(
    here: Stage, servers: Mapping[str, int], replicas: Sequence[int], seconds: float
) -> Window:
    """
    Leave everything alone, and count.

    Args:
        here: The installation.
        servers: Process ids by name.
        replicas: Process ids.
        seconds: For how long.
    """
    requests, commands = requests_in(await api_metrics(here)), await redis_commands(here)
    pids = [*replicas, *servers.values()]
    used, began = [cpu_seconds(pid) for pid in pids], time.monotonic()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - began
    cpu = [
        (cpu_seconds(pid) - before) / elapsed * 100 for pid, before in zip(pids, used, strict=True)
    ]
    resident = tuple(resident_mib(pid) for pid in replicas)
    commands = await redis_commands(here) - commands
    # The question itself.
    commands["info"] -= 1
    metrics = await api_metrics(here)
    n = len(replicas)
    return Window(
        elapsed,
        requests_in(metrics) - requests,
        watches_in(metrics),
        commands,
        tuple(cpu[:n]),
        resident,
        dict(zip(servers, cpu[n:], strict=True)),
    )


async def measure(
    plane: ControlPlane, redis: RedisServer, folder: Path, scale: Scale
) -> dict[int, list[Window]]:
    """Windows by number of replicas, those without any included."""
    found: dict[int, list[Window]] = {}
    servers = {name: process.pid for name, process in plane._processes.items()}
    servers["redis"] = redis._process.pid
    shards = int(SHARED["sharding"]["shards"])
    async with stage(plane, redis.url, folder, sampled=False) as here:
        for n in (0, *scale.replicas):
            while len(here.processes) < n:
                here.notifier(to="slack", **SHARED, events={"enabled": True})
            if n:
                await share_out(here.processes, shards)
            await asyncio.sleep(scale.settle)
            pids = [pid_of(p) for p in here.processes]
            found[n] = []
            for number in range(scale.windows):
                progress("idle", f"{n} replicas, window {number + 1} of {scale.windows}")
                found[n].append(await _window(here, servers, pids, scale.seconds))
    return found


# -- what is said ----------------------------------------------------------------------------------


def told(found: Mapping[int, Sequence[Window]], scale: Scale) -> Report:
    """The report of some windows, those without a replica among them."""
    report = Report("idle")
    report.notes.append(
        f"{scale.windows} windows of {scale.seconds:g} s for each number of replicas, begun "
        f"{scale.settle:g} s after the shards were shared out; default settings, no notification; "
        "counted by the API server, by Redis and by the kernel; what the servers do without a replica "
        "is taken away. Every two minutes each replica lists the metadata of all notifications: that is no "
        "part of the reads, and stands among the requests below"
    )
    bare = found[0]
    for n in sorted(set(found) - {0}):
        _tell(report, n, found[n], bare)
    return report


def _tell(report: Report, n: int, windows: Sequence[Window], bare: Sequence[Window]) -> None:
    label = f"{n} replica{'s' if n > 1 else ''}"

    def add(words: str, unit: str, of: Callable[[Window], float]) -> None:
        report.add(f"{label}: {words}", unit, [of(w) for w in windows])

    requests, commands, watches, servers = (
        _of(statistics.median, [getattr(w, name) for w in bare])
        for name in ("requests", "commands", "watches", "servers")
    )

    def asked(window: Window, of: Callable[[str], bool]) -> float:
        count = sum(v for k, v in _more(window.requests, requests).items() if of(k))
        return count / window.seconds

    add("API writes per second and replica", "1/s", lambda w: asked(w, is_write) / n)
    add(
        "API reads per second", "1/s",
        lambda w: asked(w, lambda name: is_read(name) and name != COMPARISON),
    )  # fmt: skip
    add("open watches of a replica", "", lambda w: sum(_more(w.watches, watches).values()) / n)
    add("CPU of the busiest replica", "% of a core", lambda w: max(w.replicas))
    add("resident memory of the largest replica", "MiB", lambda w: max(w.resident))
    add(
        "Redis commands per second", "1/s",
        lambda w: sum(_more(w.commands, commands).values()) / w.seconds,
    )  # fmt: skip
    for name, alone in servers.items():
        rounds = [w.servers[name] - alone for w in windows]
        report.add(f"{label}: CPU of {name} for it", "% of a core", rounds)
    seconds = statistics.fmean(w.seconds for w in windows)
    for words, of, then in (
        ("API requests", "requests", requests), ("Redis commands", "commands", commands)
    ):  # fmt: skip
        means = _more(_of(statistics.fmean, [getattr(w, of) for w in windows]), then)
        ordered = sorted(means.items(), key=lambda item: (-item[1], item[0]))
        rates = [(name, count / seconds) for name, count in ordered]
        shown = [(name, rate) for name, rate in rates if rate >= _RARE and not is_watch(name)]
        listed = ", ".join(f"{name} {rate:.2f}" for name, rate in shown)
        report.notes.append(f"{label}, {words} per second: {listed or 'none'}")


def _more(now: Mapping[str, float], then: Mapping[str, float]) -> dict[str, float]:
    """By how much each is larger; negative where it is smaller."""
    return {name: value - then.get(name, 0) for name, value in now.items()}


def _of(
    middle: Callable[[Iterable[float]], float], counted: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """
    Counters of several windows as one.

    Args:
        middle: Median or mean.
        counted: Of each window; what a window lacks is 0 in it.
    """
    names = {name for counts in counted for name in counts}
    return {name: middle(c.get(name, 0) for c in counted) for name in names}


async def run(*, quick: bool) -> Report:
    """Measure on servers of its own."""
    scale = QUICK if quick else FULL
    async with servers() as (plane, redis, folder):
        found = await measure(plane, redis, folder / "stage", scale)
    return told(found, scale)
