"""
How many notifications pass per second, and what each costs, beside a null controller.

So many notifications are created as fast as the API server takes them, each to one Slack receiver
that answers 200 after 5 ms. The clock runs from the first creation until an independent watch has
seen the last final phase, so creating, watching and the two other processes are part of it, for the
product and for the null controller (`null.py`) alike. Both run in turn, each time in a namespace of
their own on the same servers; the ratio is taken within each pair.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.load import (
    ROOT,
    apiserver_pid,
    create_all,
    notifier_of,
    pid_of,
    plane_of,
    programs,
    receiver_of,
)
from tests.benchmarks.report import Goal, Report, cpu_seconds
from tests.e2e.harness import TERMINAL, Stage, stage, until
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary

RATIO: Final = Goal(0.8, least=True)
CPU: Final = Goal(1.0)
WRITES: Final = Goal(1.2)
_QUIET: Final = 1.0


@dataclass(frozen=True, slots=True)
class Scale:
    """Notifications at once, and rounds."""

    notifications: int
    rounds: int


FULL: Final = Scale(1000, 5)
QUICK: Final = Scale(300, 5)


@dataclass(frozen=True, slots=True)
class Run:
    """
    One run of one controller.

    Attributes:
        rate: Notifications per second.
        cpu: Controller CPU per notification, in ms.
        server_cpu: The same of the API server; creating and both watches are in it.
        writes: Versions of an object after the first, per notification.
    """

    rate: float
    cpu: float
    server_cpu: float
    writes: float


async def _measure(here: Stage, plane: ControlPlane, pid: int, scale: Scale) -> Run:
    names = [f"n-{n}" for n in range(scale.notifications)]
    server = apiserver_pid(plane)
    before = cpu_seconds(pid), cpu_seconds(server)
    began = time.monotonic()
    uids = await create_all(here.api, names)

    def ended() -> bool:
        assert Path(f"/proc/{pid}/cmdline").read_bytes(), "the controller has ended"
        return all(here.watcher.phase(uid) in TERMINAL for uid in uids)

    await until(
        ended,
        lambda: f"{len(uids)} end; {''.join(p.tail() for p in here.processes)}",
        within=120, every=0.01,
    )  # fmt: skip
    seconds = time.monotonic() - began
    # What is due after the last final phase (marks, acknowledgements) belongs to the cost.
    await asyncio.sleep(_QUIET)
    cpu, server_cpu = cpu_seconds(pid) - before[0], cpu_seconds(server) - before[1]
    n = scale.notifications
    assert not here.watcher.gaps
    writes = sum(len(here.watcher.versions[uid]) - 1 for uid in uids)
    return Run(n / seconds, cpu * 1000 / n, server_cpu * 1000 / n, writes / n)


async def _product(plane: ControlPlane, redis_url: str, folder: Path, scale: Scale) -> Run:
    async with (
        stage(plane, redis_url, folder, sampled=False) as here,
        receiver_of(here) as receiver,
    ):
        process = notifier_of(here)
        process.start()
        await process.wait_ready()
        await process.seconds_to_acquire()
        run = await _measure(here, plane, pid_of(process), scale)
        assert receiver.count == scale.notifications, f"{receiver.count} calls"
        return run


@asynccontextmanager
async def _null_process(plane: ControlPlane, namespace: str) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.null", namespace,
        stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        env={**os.environ, "KUBECONFIG": str(plane.controller_kubeconfig)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(40):
            assert await process.stdout.readline() == b"ready\n"
        yield process.pid
        assert process.returncode is None, "the null controller has ended"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _null(plane: ControlPlane, redis_url: str, folder: Path, scale: Scale) -> Run:
    async with (
        stage(plane, redis_url, folder, sampled=False) as here,
        _null_process(plane, here.namespace) as pid,
    ):
        return await _measure(here, plane, pid, scale)


async def run(*, quick: bool) -> Report:
    """Run both controllers in turn."""
    scale = QUICK if quick else FULL
    pairs: list[tuple[Run, Run]] = []
    async with (
        plane_of(await programs()) as plane,
        RedisServer(find_binary("redis-server")) as redis,
    ):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            # A first pair warms the API server and is thrown away.
            for n in range(scale.rounds + 1):
                if n % 2:
                    null = await _null(plane, redis.url, folder / f"null-{n}", scale)
                    full = await _product(plane, redis.url, folder / f"full-{n}", scale)
                else:
                    full = await _product(plane, redis.url, folder / f"full-{n}", scale)
                    null = await _null(plane, redis.url, folder / f"null-{n}", scale)
                if n:
                    pairs.append((full, null))
    report = Report("throughput")
    report.notes.append(
        f"{scale.notifications} notifications at once, one channel, 200 after 5 ms, Events and "
        "audit off; default settings; receiver, creator and watch run in the benchmark's process"
    )
    report.notes.append("null: a watch and one bare status patch per object, same client library")
    report.add("notifications/s", "1/s", [f.rate for f, _ in pairs])
    report.add("null: notifications/s", "1/s", [n.rate for _, n in pairs])
    report.add("notifications/s, product / null", "", [f.rate / n.rate for f, n in pairs], RATIO)
    report.add("controller CPU per notification", "ms", [f.cpu for f, _ in pairs], CPU)
    report.add("null: controller CPU per notification", "ms", [n.cpu for _, n in pairs])
    report.add("controller CPU, product / null", "", [f.cpu / n.cpu for f, n in pairs])
    report.add("API server CPU per notification", "ms", [f.server_cpu for f, _ in pairs])
    report.add("null: API server CPU per notification", "ms", [n.server_cpu for _, n in pairs])
    report.add("status writes per notification", "", [f.writes for f, _ in pairs], WRITES)
    return report
