"""
What waiting notifications cost: memory, idle CPU, and the time that a restart takes.

Thousands of notifications get 503 and wait 300 s for their next attempt, the longest first wait
that the API allows. Now and then one gets 200, or the receiver's breaker would open and most would
wait for it without an attempt. Then the process is left alone and watched from outside; then it is
killed and started again, and has to claim every log and compare it with its object before it may
send anything.

One run gives one value for each figure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.load import (
    SteadyReceiver,
    create_all,
    notifier_of,
    pid_of,
    receiver_of,
    servers,
    serving,
)
from tests.benchmarks.report import Report, cpu_seconds, resident_mib
from tests.e2e.harness import NotifierProcess, Stage, stage, until

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
    """Notifications that wait, seconds within which all must be waiting, idle seconds."""

    notifications: int
    within: float
    idle: float


FULL: Final = Scale(10_000, 240, 20)
QUICK: Final = Scale(1_000, 90, 10)


#: What one run tells, with units. Attempts that come due in the restart take from it: 0 is wanted.
_ROWS: Final = {
    "resident memory, nothing to do": "MiB",
    "resident memory, {n:,} waiting": "MiB",
    "memory per waiting notification": "KiB",
    "CPU while all wait": "% of a core",
    "restart: first line until the shard is owned": "s",
    "restart: spawn until all are claimed": "s",
    "restart: CPU": "s",
    "restart: resident memory": "MiB",
    "restart: attempts that came due meanwhile": "",
}


def _code(subject: str) -> int:
    return 200 if subject.startswith("lucky") else 503


async def _all_wait(process: NotifierProcess, n: int, *, within: float) -> None:
    async def waits() -> bool:
        return (
            await process.metric("notification_ledger_delayed") >= n
            and await process.metric("notification_ledger_queue_depth") == 0
        )

    await until(waits, lambda: f"{n} wait; {process.tail()}", within=within, every=0.2)


async def _once(here: Stage, receiver: SteadyReceiver, scale: Scale) -> Sequence[float]:
    n = scale.notifications
    process = await serving(notifier_of(here))
    pid = pid_of(process)
    first = await here.create("lucky")
    await here.wait_phase(first)
    empty = resident_mib(pid)
    names = [f"lucky-{i}" if i % _LUCKY == 0 else f"wait-{i}" for i in range(n + n // _LUCKY)]
    uids = await create_all(here.api, names, retryPolicy=POLICY)
    expected = sum(name.startswith("wait") for name in names)

    def shown() -> int:
        """Objects whose status shows an attempt; the phase stays Sending while none succeeded."""
        return sum(bool(here.watcher.last(uid).attempts) for uid in uids)

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
    await process.start().wait_ready()
    owned = await process.seconds_to_acquire()
    pid = pid_of(process)
    await until(
        lambda: len(process.lines(DONE)) > 1,
        lambda: f"all is claimed; {process.tail()}",
        within=180, every=0.1,
    )  # fmt: skip
    total = time.monotonic() - began
    return (
        empty, rss, (rss - empty) * 1024 / n, idle, owned, total, cpu_seconds(pid), resident_mib(pid),
        receiver.count - calls,
    )  # fmt: skip


async def run(*, quick: bool) -> Report:
    """Let them wait, look, restart."""
    scale = QUICK if quick else FULL
    async with (
        servers() as (plane, redis, folder),
        stage(plane, redis.url, folder / "stage", sampled=False) as here,
        receiver_of(here, _code) as receiver,
    ):
        found = await _once(here, receiver, scale)
    n = scale.notifications
    report = Report("waiting")
    report.notes.append(
        f"about {n:,} notifications with one failed attempt each, waiting 300 s; default settings; "
        f"idle is taken over {scale.idle:g} s; one run, so median, min and max are the same"
    )
    for (name, unit), value in zip(_ROWS.items(), found, strict=True):
        report.add(name.format(n=n), unit, [value])
    return report
