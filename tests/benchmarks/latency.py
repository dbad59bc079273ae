"""
How long one notification takes, at three loads: to its receiver, and to its final phase.

Each round first measures how many notifications pass per second: so many at once, from the first
creation until an independent watch has seen the last final phase. Then they come at 10, 50 and 90 %
of that rate, the loads in another order each round. The loop is open: each is created at its own
moment whatever became of those before, and its clock runs from the moment at which it was *to be*
created. Whatever holds up the API server, the controller or this process is therefore in the figures,
and a slow answer does not thin out the load that follows.

Three moments are taken: the first byte of the call at the receiver, the receiver's answer, and the
final phase as the watch sees it. Creator, receiver and watch share the benchmark's process and the
machine with the servers, and what that costs is in the figures as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.load import (
    SteadyReceiver,
    at_rate,
    create_all,
    notifier_of,
    on_servers,
    progress,
    serving,
)
from tests.benchmarks.report import Report, percentile
from tests.benchmarks.watching import FinalWatcher, watched
from tests.e2e.harness import NotifierProcess, Stage, subject_of, until
from tests.servers.controlplane import ControlPlane

SHARES: Final = (0.1, 0.5, 0.9)
_MOST: Final = "notifications/s (the largest rate)"
_QUIET: Final = 1.0


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        rounds: Each with a burst and one level for each share.
        burst: Notifications at once, to find the largest rate.
        seconds: Length of a level.
    """

    rounds: int
    burst: int
    seconds: float


FULL: Final = Scale(5, 1000, 15.0)
QUICK: Final = Scale(3, 200, 2.5)


class ClockedReceiver(SteadyReceiver):
    """
    Takes the time.

    Attributes:
        first: Monotonic second of the first byte, by subject.
        answered: Of the answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, float] = {}
        self.answered: dict[str, float] = {}

    async def take(self, head: bytes, body: bytes, at: float) -> tuple[int, str]:
        """Answer a little later."""
        answer = await super().take(head, body, at)
        subject = subject_of(body)
        self.first.setdefault(subject, at)
        self.answered.setdefault(subject, time.monotonic())
        return answer


#: Percentiles that a level tells, with units.
_LEVEL: Final = {
    "rate": "1/s",
    "create answered, p50": "ms",
    **{
        f"{what}, {word}": "ms"
        for what in ("create to first byte", "create to final phase", "answer to status")
        for word in ("p50", "p99")
    },
}


@dataclass(frozen=True, slots=True)
class Bench:
    """One installation with everything that takes the time."""

    here: Stage
    watcher: FinalWatcher
    receiver: ClockedReceiver
    process: NotifierProcess

    async def burst(self, tag: str, n: int) -> dict[str, float]:
        """So many at once."""
        names = [f"{tag}-{i}" for i in range(n)]
        began = time.monotonic()
        await create_all(self.here.api, names)
        await self._all_end(names)
        rate = n / (max(self.watcher.ended[name] for name in names) - began)
        return {_MOST: rate, **_both("answer to status", self._shown(names))}

    async def level(self, tag: str, rate: float, seconds: float) -> dict[str, float]:
        """Notifications at a steady rate, for so many seconds."""
        names = [f"{tag}-{i}" for i in range(max(1, round(rate * seconds)))]
        created: dict[str, float] = {}

        async def create(name: str) -> None:
            await self.here.api.create(name, subject=name)
            created[name] = time.monotonic()

        due = await at_rate(create, names, rate)
        await self._all_end(names)
        answered = [created[n] - due[n] for n in names]
        return {
            "rate": rate,
            "create answered, p50": percentile(answered, 0.5) * 1000,
            **_both("create to first byte", [self.receiver.first[n] - due[n] for n in names]),
            **_both("create to final phase", [self.watcher.ended[n] - due[n] for n in names]),
            **_both("answer to status", self._shown(names)),
        }

    def _shown(self, names: Sequence[str]) -> list[float]:
        return [self.watcher.ended[n] - self.receiver.answered[n] for n in names]

    async def _all_end(self, names: Sequence[str]) -> None:
        ended = self.watcher.ended.keys()
        await until(
            lambda: ended >= set(names),
            lambda: f"{len(set(names) - ended)} of {len(names)} end; {self.process.tail()}",
            within=120, every=0.05,
        )  # fmt: skip


def _both(words: str, seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile in ms."""
    return {
        f"{words}, p50": percentile(seconds, 0.5) * 1000,
        f"{words}, p99": percentile(seconds, 0.99) * 1000,
    }


async def measure(
    plane: ControlPlane, redis_url: str, folder: Path, scale: Scale
) -> list[dict[float, dict[str, float]]]:
    """Rounds on one replica, which a burst warms up: levels by their share, 1 is all at once."""
    receiver = ClockedReceiver()
    rounds = []
    async with watched(plane, redis_url, folder, receiver) as (here, watcher):
        process = await serving(notifier_of(here))
        bench = Bench(here, watcher, receiver, process)
        await bench.burst("warm", scale.burst)
        shares = list(SHARES)
        for n in range(scale.rounds):
            await asyncio.sleep(_QUIET)
            levels = {1.0: await bench.burst(f"r{n}-burst", scale.burst)}
            most = levels[1.0][_MOST]
            for share in shares:
                await asyncio.sleep(_QUIET)
                tag = f"r{n}-{share * 100:.0f}"
                levels[share] = await bench.level(tag, most * share, scale.seconds)
            rounds.append(levels)
            shares.append(shares.pop(0))
            progress("latency", f"round {n + 1} of {scale.rounds}, {most:.0f}/s at most")
        assert not watcher.gaps, "the watch has missed versions"
        assert receiver.count == len(receiver.first), "a notification was sent twice"
    return rounds


def told(rounds: Sequence[dict[float, dict[str, float]]], scale: Scale) -> Report:
    """The report of some rounds."""
    report = Report("latency")
    report.notes.append(
        f"{len(rounds)} rounds: {scale.burst} at once, then {scale.seconds:g} s at each share of the "
        "rate that these reached; one channel, 200 after 5 ms, Events and audit off, default settings"
    )
    report.notes.append(
        "created at a steady rate by schedule (open loop); from the moment at which each was to be "
        "created; creator, receiver and watch run in the benchmark's process"
    )
    report.notes.append(
        "answer to status: from the receiver's answer until another client's watch sees the final phase"
    )
    for share in SHARES:
        report.rows(_LEVEL, [levels[share] for levels in rounds], f"{share * 100:.0f} %: ")
    burst = {_MOST: "1/s", "answer to status, p50": "ms", "answer to status, p99": "ms"}
    report.rows(burst, [levels[1.0] for levels in rounds], "at once: ")
    return report


run: Final = on_servers(measure, told, full=FULL, quick=QUICK)
