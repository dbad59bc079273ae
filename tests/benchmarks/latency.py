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
import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.goals import FIRST_BYTE_P50, FIRST_BYTE_P99, STATUS_P99
from tests.benchmarks.load import create_all, notifier_of, read_call, servers
from tests.benchmarks.report import Report, percentile
from tests.benchmarks.watching import FinalWatcher, watched
from tests.e2e.harness import NotifierProcess, Receiver, Stage, subject_of, until
from tests.servers.controlplane import ControlPlane

SHARES: Final = (0.1, 0.5, 0.9)
_HALF: Final = 0.5
_FULL: Final = 0.9
_ANSWER_AFTER: Final = 0.005
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


@dataclass(frozen=True, slots=True)
class Level:
    """
    What one load came to, in seconds; one value for each notification.

    Attributes:
        rate: Notifications created per second.
        created: From due until the creation was answered.
        first: From due until the first byte was at the receiver.
        final: From due until the final phase was seen.
        shown: From the receiver's answer until the final phase was seen.
    """

    rate: float
    created: Sequence[float]
    first: Sequence[float]
    final: Sequence[float]
    shown: Sequence[float]


@dataclass(frozen=True, slots=True)
class Round:
    """
    One round.

    Attributes:
        most: Notifications per second, all at once.
        shown: Of those, seconds from the receiver's answer until the final phase was seen.
        levels: By share of `most`.
    """

    most: float
    shown: Sequence[float]
    levels: dict[float, Level]


class ClockedReceiver(Receiver):
    """
    Answers 200 after 5 ms, many calls on one connection, and takes the time.

    Attributes:
        first: Monotonic second of the first byte, by subject.
        answered: Of the answer.
        calls: Calls read whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, float] = {}
        self.answered: dict[str, float] = {}
        self.count = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    await reader.readexactly(1)
                    at = time.monotonic()
                    subject = subject_of((await read_call(reader))[1])
                    self.count += 1
                    self.first.setdefault(subject, at)
                    await asyncio.sleep(_ANSWER_AFTER)
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
                    )
                    self.answered.setdefault(subject, time.monotonic())
        finally:
            self._serving.discard(task)
            writer.close()


@dataclass(frozen=True, slots=True)
class Bench:
    """One installation with everything that takes the time."""

    here: Stage
    watcher: FinalWatcher
    receiver: ClockedReceiver
    process: NotifierProcess

    async def burst(self, tag: str, n: int) -> tuple[float, list[float]]:
        """So many at once; returns notifications per second, and the seconds from answer to status."""
        names = [f"{tag}-{i}" for i in range(n)]
        began = time.monotonic()
        await create_all(self.here.api, names)
        await self._all_end(names)
        rate = n / (max(self.watcher.ended[name] for name in names) - began)
        return rate, self._shown(names)

    async def level(self, tag: str, rate: float, seconds: float) -> Level:
        """Notifications at a steady rate, for so many seconds."""
        names = [f"{tag}-{i}" for i in range(max(1, round(rate * seconds)))]
        due: dict[str, float] = {}
        created: dict[str, float] = {}

        async def create(name: str) -> None:
            await self.here.api.create(name, subject=name)
            created[name] = time.monotonic()

        begin = time.monotonic() + 0.1
        async with asyncio.TaskGroup() as group:
            for i, name in enumerate(names):
                due[name] = begin + i / rate
                await asyncio.sleep(due[name] - time.monotonic())
                group.create_task(create(name))
        await self._all_end(names)
        return Level(
            rate,
            [created[n] - due[n] for n in names],
            [self.receiver.first[n] - due[n] for n in names],
            [self.watcher.ended[n] - due[n] for n in names],
            self._shown(names),
        )

    def _shown(self, names: Sequence[str]) -> list[float]:
        return [self.watcher.ended[n] - self.receiver.answered[n] for n in names]

    async def _all_end(self, names: Sequence[str]) -> None:
        left = set(names)

        def ended() -> bool:
            left.difference_update([n for n in left if n in self.watcher.ended])
            return not left

        await until(
            ended, lambda: f"{len(left)} of {len(names)} end; {self.process.tail()}",
            within=120, every=0.05,
        )  # fmt: skip


async def measure(plane: ControlPlane, redis_url: str, folder: Path, scale: Scale) -> list[Round]:
    """Run the rounds on one replica; a burst before them warms it up and is thrown away."""
    receiver = ClockedReceiver()
    rounds: list[Round] = []
    async with watched(plane, redis_url, folder, receiver) as (here, watcher):
        process = notifier_of(here)
        process.start()
        await process.wait_ready()
        await process.seconds_to_acquire()
        bench = Bench(here, watcher, receiver, process)
        await bench.burst("warm", scale.burst)
        shares = list(SHARES)
        for n in range(scale.rounds):
            await asyncio.sleep(_QUIET)
            most, shown = await bench.burst(f"r{n}-burst", scale.burst)
            levels: dict[float, Level] = {}
            for share in shares:
                await asyncio.sleep(_QUIET)
                tag = f"r{n}-{share * 100:.0f}"
                levels[share] = await bench.level(tag, most * share, scale.seconds)
            rounds.append(Round(most, shown, levels))
            shares.append(shares.pop(0))
            print(
                f"latency: round {n + 1} of {scale.rounds}, {most:.0f}/s at most",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        assert not watcher.gaps, "the watch has missed versions"
        assert receiver.count == len(receiver.first), "a notification was sent twice"
    return rounds


def told(rounds: Sequence[Round], scale: Scale) -> Report:
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
    report.add("at once: notifications/s (the largest rate)", "1/s", [r.most for r in rounds])
    for share in SHARES:
        levels = [r.levels[share] for r in rounds]
        at = f"{share * 100:.0f} %"
        half, full = share == _HALF, share == _FULL
        report.add(f"{at}: rate", "1/s", [v.rate for v in levels])
        report.add(f"{at}: create answered, p50", "ms", _ms([v.created for v in levels], 0.5))
        first, final, shown = (
            [getattr(v, of) for v in levels] for of in ("first", "final", "shown")
        )
        report.add(
            f"{at}: create to first byte, p50",
            "ms",
            _ms(first, 0.5),
            FIRST_BYTE_P50 if half else None,
        )
        report.add(
            f"{at}: create to first byte, p99",
            "ms",
            _ms(first, 0.99),
            FIRST_BYTE_P99 if half else None,
        )
        report.add(f"{at}: create to final phase, p50", "ms", _ms(final, 0.5))
        report.add(f"{at}: create to final phase, p99", "ms", _ms(final, 0.99))
        report.add(f"{at}: answer to status, p50", "ms", _ms(shown, 0.5))
        report.add(
            f"{at}: answer to status, p99", "ms", _ms(shown, 0.99), STATUS_P99 if full else None
        )
    shown = [r.shown for r in rounds]
    report.add("at once: answer to status, p50", "ms", _ms(shown, 0.5))
    report.add("at once: answer to status, p99", "ms", _ms(shown, 0.99), STATUS_P99)
    return report


def _ms(rounds: Sequence[Sequence[float]], share: float) -> list[float]:
    return [percentile(r, share) * 1000 for r in rounds]


async def run(*, quick: bool) -> Report:
    """Measure on servers of its own."""
    scale = QUICK if quick else FULL
    async with servers() as (plane, redis, folder):
        rounds = await measure(plane, redis.url, folder / "stage", scale)
    return told(rounds, scale)
