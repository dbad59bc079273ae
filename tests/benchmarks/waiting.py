"""
What waiting notifications cost: memory, idle CPU, and the time that a restart takes.

Thousands of notifications get 503 and wait 300 s for their next attempt, the longest first wait
that the API allows. Now and then one gets 200, or the receiver's breaker would open and most would
wait for it without an attempt. Then the process is left alone and watched from outside; then it is
killed and started again, and has to claim every log and compare it with its object before it may
send anything.

One run gives one value for each figure: the rounds repeat the whole of it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.goals import WAITING_IDLE, WAITING_MEMORY
from tests.benchmarks.load import (
    SteadyReceiver,
    create_all,
    notifier_of,
    pid_of,
    receiver_of,
    servers,
)
from tests.benchmarks.report import Report, cpu_seconds, resident_mib
from tests.e2e.harness import NotifierProcess, Stage, stage, until
from tests.servers.controlplane import ControlPlane

POLICY: Final = {
    "maxAttempts": 5, "initialBackoffSeconds": 300, "backoffMultiplier": 2,
    "maxBackoffSeconds": 3600,
}  # fmt: skip
#: What a process logs once it has looked at everything after it became the owner.
DONE: Final = "start-up reconciliation done"
#: One in so many succeeds.
_LUCKY: Final = 50


@dataclass(frozen=True, slots=True)
class Scale:
    """Notifications that wait, rounds, seconds within which all must be waiting, idle seconds."""

    notifications: int
    rounds: int
    within: float
    idle: float


FULL: Final = Scale(10_000, 1, 240, 20)
QUICK: Final = Scale(1_000, 1, 90, 10)


@dataclass(frozen=True, slots=True)
class Run:
    """
    What one run came to.

    Attributes:
        empty: Resident MiB before there is any notification.
        rss: Resident MiB with all of them waiting, after the idle time.
        idle: CPU while idle, in percent of a core.
        owned: Seconds from the first line of the second process's log until it owns the shard.
        reconciled: Seconds from its spawning, imports included, until it has claimed every log.
        restart_cpu: CPU seconds of the second process up to then.
        restarted: Resident MiB of the second process then.
        calls: Attempts that came due during the restart; they take from it, so 0 is wanted.
    """

    empty: float
    rss: float
    idle: float
    owned: float
    reconciled: float
    restart_cpu: float
    restarted: float
    calls: int


def _code(subject: str) -> int:
    return 200 if subject.startswith("lucky") else 503


async def _all_wait(process: NotifierProcess, n: int, *, within: float) -> None:
    async def waits() -> bool:
        return (
            await process.metric("notification_ledger_delayed") >= n
            and await process.metric("notification_ledger_queue_depth") == 0
        )

    await until(waits, lambda: f"{n} wait; {process.tail()}", within=within, every=0.2)


async def _once(here: Stage, receiver: SteadyReceiver, scale: Scale) -> Run:
    n = scale.notifications
    process = notifier_of(here)
    process.start()
    await process.wait_ready()
    await process.seconds_to_acquire()
    pid = pid_of(process)
    first = await here.create("lucky")
    await here.wait_phase(first)
    empty = resident_mib(pid)
    names = [f"lucky-{i}" if i % _LUCKY == 0 else f"wait-{i}" for i in range(n + n // _LUCKY)]
    uids = await create_all(here.api, names, retryPolicy=POLICY)
    expected = sum(name.startswith("wait") for name in names)

    def shown() -> int:
        """Objects whose status shows an attempt; the phase stays Sending while none succeeded."""
        versions = [here.watcher.last(uid) for uid in uids]
        return sum(bool(v and v.status.get("deliveryAttempts")) for v in versions)

    await until(
        lambda: shown() == len(uids),
        lambda: f"{len(uids)} show an attempt, {shown()} do; {process.tail()}",
        within=scale.within, every=0.2,
    )  # fmt: skip
    await _all_wait(process, expected, within=30)
    await asyncio.sleep(3)
    calls, before = receiver.count, cpu_seconds(pid)
    await asyncio.sleep(scale.idle)
    idle = (cpu_seconds(pid) - before) / scale.idle * 100
    rss = resident_mib(pid)
    # What came due is work: then the machine took too long to get here.
    assert receiver.count == calls, "attempts came due while all should wait"
    process.kill()
    began = time.monotonic()
    process.start()
    await process.wait_ready()
    owned = await process.seconds_to_acquire()
    pid = pid_of(process)
    await until(
        lambda: len(process.lines(DONE)) > 1,
        lambda: f"all is claimed; {process.tail()}",
        within=180, every=0.1,
    )  # fmt: skip
    total = time.monotonic() - began
    return Run(
        empty, rss, idle, owned, total, cpu_seconds(pid), resident_mib(pid),
        receiver.count - calls,
    )  # fmt: skip


async def _round(plane: ControlPlane, redis_url: str, folder: Path, scale: Scale) -> Run:
    async with (
        stage(plane, redis_url, folder, sampled=False) as here,
        receiver_of(here, _code) as receiver,
    ):
        return await _once(here, receiver, scale)


async def run(*, quick: bool) -> Report:
    """Let them wait, look, restart."""
    scale = QUICK if quick else FULL
    async with servers() as (plane, redis, folder):
        runs = [
            await _round(plane, redis.url, folder / f"round-{n}", scale)
            for n in range(scale.rounds)
        ]
    n = scale.notifications
    report = Report("waiting")
    report.notes.append(
        f"about {n:,} notifications with one failed attempt each, waiting 300 s; default settings; "
        f"idle is taken over {scale.idle:g} s; one run, so median, min and max are the same"
    )
    report.add("resident memory, nothing to do", "MiB", [r.empty for r in runs])
    limit = WAITING_MEMORY if scale is FULL else None
    report.add(f"resident memory, {n:,} waiting", "MiB", [r.rss for r in runs], limit)
    report.add(
        "memory per waiting notification", "KiB", [(r.rss - r.empty) * 1024 / n for r in runs]
    )
    report.add("CPU while all wait", "% of a core", [r.idle for r in runs], WAITING_IDLE)
    report.add("restart: first line until the shard is owned", "s", [r.owned for r in runs])
    report.add("restart: spawn until all are claimed", "s", [r.reconciled for r in runs])
    report.add("restart: CPU", "s", [r.restart_cpu for r in runs])
    report.add("restart: resident memory", "MiB", [r.restarted for r in runs])
    report.add("restart: attempts that came due meanwhile", "", [r.calls for r in runs])
    return report
