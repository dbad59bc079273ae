"""
Half an hour of steady work: does memory stay flat, does Redis come back down, is nothing lost?

Notifications come at a steady rate, of five kinds that take turns: most succeed; some fail twice and
then succeed; some are refused for good; some are deleted as soon as they have ended; some always fail
and are deleted while they wait. Whatever has ended is deleted after some seconds, as a clean-up job
does. So everything that the controller holds of a notification has to go again within a minute, and
what it holds over the half hour shows what does not.

When an object is gone its log is held against the receiver's own count, call by call, once the product
has let the log go (given it its time to live). Only then is that time shortened from outside to some
seconds: the product's shortest is a day, which nobody can wait for here. A log that is not let go stays,
and counts.

Every few seconds the process, its metrics and Redis are sampled; the rounds of a figure are the samples.
Growth is the slope of a straight line through the second half, times the length of that half, as a
share of the median: a process that still warms up fails no goal, one that leaks does.

    python -m tests.benchmarks.soak --minutes 3 [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from syncer.model.attempt import AttemptState
from syncer.model.record import Kind
from tests.benchmarks.goals import FLAT, NONE_LOST
from tests.benchmarks.load import SteadyReceiver, notifier_of, pid_of, servers
from tests.benchmarks.report import Goal, Report, cpu_seconds, load, machine, resident_mib, write
from tests.benchmarks.watching import FinalWatcher, watched
from tests.e2e.checker import Log
from tests.e2e.harness import NotifierProcess, Stage, until
from tests.servers.controlplane import ControlPlane

POLICY: Final = {
    "maxAttempts": 5, "initialBackoffSeconds": 1, "backoffMultiplier": 2, "maxBackoffSeconds": 60,
}  # fmt: skip
#: Of twenty notifications; the order keeps failures apart, or the breaker would take them for an
#: outage.
MIX: Final = tuple(("good",) * 12 + ("flaky",) * 4 + ("refused",) + ("brief",) * 2 + ("hopeless",))
_STRIDE: Final = 7
#: Final phase of each kind, and calls until then; a hopeless one has no end and no fixed number.
EXPECTED: Final = {
    "good": ("Sent", 1), "flaky": ("Sent", 3), "refused": ("Failed", 1), "brief": ("Sent", 1),
}  # fmt: skip
#: A process of this age has done what it does once.
_GROWN_UP: Final = 600.0
_DRAIN: Final = 120.0


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        seconds: Length of the run.
        rate: Notifications per second.
        every: Seconds between two samples.
        object_stays: Seconds from the end of a notification until its object is deleted.
        log_stays: Seconds from the counting of its log until that expires.
    """

    seconds: float
    rate: float
    every: float
    object_stays: float = 10.0
    log_stays: int = 10


FULL: Final = Scale(1800, 20, 5)
QUICK: Final = Scale(30, 20, 1)


def kind_of(number: int) -> str:
    """The kind of a notification, by its number."""
    return MIX[number * _STRIDE % len(MIX)]


class CountingReceiver(SteadyReceiver):
    """
    Answers by kind, after 5 ms, and keeps count by subject until it is asked to forget.

    Attributes:
        heard: Calls read whole, by subject.
        taken: Of those, how many it answered with 200.
    """

    def __init__(self) -> None:
        super().__init__(self._take, delay=0.005)
        self.heard: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()

    def _take(self, subject: str) -> int:
        self.heard[subject] += 1
        code = self.code(subject)
        self.taken[subject] += code == 200
        return code

    def code(self, subject: str) -> int:
        """The status code for the newest call about a subject."""
        kind = subject.partition("-")[0]
        if kind == "refused":
            return 400
        if kind == "hopeless" or (kind == "flaky" and self.heard[subject] <= 2):
            return 503
        return 200


@dataclass(slots=True)
class Life:
    """
    Where one notification stands.

    Attributes:
        uid: Its identity.
        stage: `lives`, `deleting`, `gone` (the watch has seen it go), `counted`.
        since: Monotonic second at which that began.
    """

    uid: str
    stage: str
    since: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One look; `at` counts seconds from the first creation."""

    at: float
    rss: float
    fds: int  # noqa: V107 (read by its name)
    cpu: float
    redis: float
    keys: int
    live: float
    finished: float
    running: float
    unsynced: float


@dataclass(slots=True)
class Tally:
    """
    What the receiver's count and the record came to.

    Attributes:
        created: Notifications.
        counted: Of those, how many were held against their log.
        calls: Calls at the receiver.
        lost: Calls that the record does not know, or knows otherwise.
        invented: Attempts with a definite result that the receiver never saw.
        repeated: Calls beyond what the kind asks for.
        wrong: Notifications with another end than their kind has, or without a log.
    """

    created: int = 0
    counted: int = 0
    calls: int = 0
    lost: int = 0
    invented: int = 0
    repeated: int = 0
    wrong: int = 0


@dataclass(slots=True)
class Result:
    """Everything of one run."""

    samples: list[Sample]
    tally: Tally
    keys_after: int
    redis_before: float
    redis_after: float
    rss_before: float
    seconds: float


@dataclass(slots=True)
class Soak:
    """One installation under steady work."""

    here: Stage
    watcher: FinalWatcher
    receiver: CountingReceiver
    process: NotifierProcess
    scale: Scale
    tally: Tally = field(default_factory=Tally)
    lives: dict[str, Life] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    began: float = 0.0

    # -- the work ---------------------------------------------------------------------------------

    async def create_all(self) -> None:
        """Create at a steady rate, for the length of the run."""
        self.began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for n in range(round(self.scale.seconds * self.scale.rate)):
                await asyncio.sleep(self.began + n / self.scale.rate - time.monotonic())
                group.create_task(self._create(f"{kind_of(n)}-{n}"))

    async def _create(self, name: str) -> None:
        created = await self.here.api.create(name, subject=name, retryPolicy=POLICY)
        self.lives[name] = Life(str(created["metadata"]["uid"]), "lives", time.monotonic())
        self.tally.created += 1

    async def clean_up(self) -> None:
        """Delete, count and forget, until cancelled."""
        while True:
            await self._round()
            await asyncio.sleep(0.5)

    async def _round(self) -> None:
        now = time.monotonic()
        delete: list[tuple[str, Life]] = []
        gone: list[tuple[str, Life]] = []
        for name, life in self.lives.items():
            if life.stage == "lives" and self._over(name, life, now):
                delete.append((name, life))
            elif life.stage == "deleting" and life.uid in self.watcher.deleted:
                self.watcher.deleted.discard(life.uid)
                life.stage, life.since = "gone", now
            elif life.stage in {"gone", "counted"} and now - life.since > 1:
                gone.append((name, life))
        await asyncio.gather(*(self._delete(name, life) for name, life in delete))
        await self._logs(gone)

    def _over(self, name: str, life: Life, now: float) -> bool:
        kind = name.partition("-")[0]
        if kind == "hopeless":
            return self.receiver.heard[name] > 0 and now - life.since > 1.5
        stays = 0.0 if kind == "brief" else self.scale.object_stays
        return name in self.watcher.ended and now - self.watcher.ended[name] > stays

    async def _delete(self, name: str, life: Life) -> None:
        answer = await self.here.api.ask("DELETE", f"{self.here.api.requests}/{name}")
        if answer.code != 200:
            raise RuntimeError(f"deleting {name} is answered with {answer.code} {answer.reason}")
        life.stage, life.since = "deleting", time.monotonic()

    async def _logs(self, gone: Sequence[tuple[str, Life]]) -> None:
        """Count the logs that the product has let go, and see the counted ones expire."""
        if not gone:
            return
        pipeline = self.here.redis.pipeline(transaction=False)
        for _, life in gone:
            key = self._key(life)
            pipeline.ttl(key)
            pipeline.lrange(key, 0, -1)
        replies = await pipeline.execute()
        shorter = self.here.redis.pipeline(transaction=False)
        for (name, life), ttl, elements in zip(gone, replies[::2], replies[1::2], strict=True):
            if ttl == -2:
                if life.stage != "counted":
                    self._count(name, None)
                self._forget(name)
            elif ttl >= 0:
                if life.stage == "gone":
                    self._count(name, Log.read(elements))
                    life.stage = "counted"
                # A deletion that the product notices late gives the log its whole time again.
                if ttl > self.scale.log_stays:
                    shorter.expire(self._key(life), self.scale.log_stays)
        await shorter.execute()

    def _key(self, life: Life) -> str:
        return f"{self.here.prefix}:{{{life.uid}}}"

    def _forget(self, name: str) -> None:
        del self.lives[name]
        for book in (
            self.receiver.heard, self.receiver.taken, self.watcher.ended, self.watcher.finals
        ):  # fmt: skip
            book.pop(name, None)

    def _count(self, name: str, log: Log | None) -> None:
        tally, kind = self.tally, name.partition("-")[0]
        calls, taken = self.receiver.heard[name], self.receiver.taken[name]
        tally.counted += 1
        tally.calls += calls
        if log is None:
            tally.wrong += 1
            tally.lost += calls
            return
        unsent = {
            r.attempt_id for r in log.records
            if r.kind is Kind.FAILED and r.body.get("class") == "notSent"
        }  # fmt: skip
        states = [s.state for identity, s in log.states().items() if identity not in unsent]
        definite = sum(s >= AttemptState.FAILED for s in states)
        taken_on_record = sum(s == AttemptState.SUCCESS for s in states)
        tally.lost += max(0, calls - len(states)) + max(0, taken - taken_on_record)
        tally.invented += max(0, definite - calls) + max(0, taken_on_record - taken)
        if kind in EXPECTED:
            phase, wanted = EXPECTED[kind]
            tally.repeated += max(0, calls - wanted)
            tally.wrong += self.watcher.finals.get(name) != phase or calls < wanted

    # -- the eyes ---------------------------------------------------------------------------------

    async def sample_all(self) -> None:
        """Look every few seconds, until cancelled; say on standard error how it goes."""
        told = 0.0
        for n in range(10**9):
            await asyncio.sleep(self.began + n * self.scale.every - time.monotonic())
            sample = await self._sample()
            self.samples.append(sample)
            if sample.at - told >= 15:
                told = sample.at
                print(
                    f"soak: {sample.at:.0f} of {self.scale.seconds:.0f} s, "
                    f"{self.tally.created} created, {self.tally.lost} calls lost, "
                    f"{sample.rss:.1f} MiB, {sample.keys} keys, {sample.redis:.2f} MiB in Redis",
                    file=sys.stderr, flush=True,
                )  # fmt: skip

    async def _sample(self) -> Sample:
        pid = pid_of(self.process)
        metrics = await self._metrics()
        return Sample(
            time.monotonic() - self.began,
            resident_mib(pid),
            descriptors(pid),
            cpu_seconds(pid),
            await used_mib(self.here.redis),
            int(await self.here.redis.dbsize()),
            metrics["notification_ledger_live_notifications"],
            metrics["notification_ledger_finished_notifications"],
            metrics["notification_ledger_running_attempts"],
            metrics["notification_ledger_dirty_oldest_seconds"],
        )

    async def _metrics(self) -> dict[str, float]:
        """The series without labels, from one scrape."""
        code, text = await self.process.ask("/metrics", metrics=True)
        if code != 200:
            raise RuntimeError(f"/metrics answers {code}; {self.process.tail()}")
        pairs = (line.split(" ") for line in text.splitlines() if not line.startswith("#"))
        return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2}


def descriptors(pid: int) -> int:
    """Open file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def used_mib(client: Any) -> float:
    """MiB that Redis says it uses."""
    return int((await client.info("memory"))["used_memory"]) / 1024**2


async def measure(plane: ControlPlane, redis_url: str, folder: Path, scale: Scale) -> Result:
    """Run one replica under steady work, then let everything go."""
    receiver = CountingReceiver()
    async with watched(plane, redis_url, folder, receiver) as (here, watcher):
        process = notifier_of(here)
        process.start()
        await process.wait_ready()
        await process.seconds_to_acquire()
        soak = Soak(here, watcher, receiver, process, scale)
        before = await used_mib(here.redis), resident_mib(pid_of(process))
        soak.began = time.monotonic()
        # Whoever breaks ends the run; the two that have no end are ended below.
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(soak.clean_up()), group.create_task(soak.sample_all())]
            await group.create_task(soak.create_all())
            others.pop().cancel()
            await until(
                lambda: not soak.lives,
                lambda: f"all go, {len(soak.lives)} are left; {process.tail()}",
                within=_DRAIN, every=0.5,
            )  # fmt: skip
            others.pop().cancel()
        process._must_run("done")
        assert not watcher.gaps, "the watch has missed versions"
        assert receiver.count == soak.tally.calls + sum(receiver.heard.values())
        return Result(
            soak.samples, soak.tally, int(await here.redis.dbsize()), before[0],
            await used_mib(here.redis), before[1], scale.seconds,
        )  # fmt: skip


# -- what it came to --------------------------------------------------------------------------------


def growth(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """
    The slope of a straight line through points (second, value), by least squares.

    Returns:
        Value per hour; and the line's rise over the whole length as a share of the median.
    """
    slope = statistics.linear_regression(*zip(*points, strict=True)).slope
    middle = statistics.median(value for _, value in points)
    rise = slope * (points[-1][0] - points[0][0])
    return slope * 3600, rise / middle if middle else 0.0


def told(result: Result, scale: Scale) -> Report:
    """The report of one run."""
    report = Report("soak")
    tally = result.tally
    half = [s for s in result.samples if s.at >= result.seconds / 2]
    report.notes.append(
        f"{scale.seconds / 60:g} minutes at {scale.rate:g} notifications/s, of twenty "
        + ", ".join(f"{n} {kind}" for kind, n in Counter(MIX).items())
        + f"; sampled every {scale.every:g} s; default settings, Events and audit off"
    )
    report.notes.append(
        f"an object is deleted {scale.object_stays:g} s after its end (brief: at once; hopeless: while it "
        f"waits); its log, once let go, is counted and then expires within {scale.log_stays} s instead of "
        "a day; rounds are the samples of the second half"
    )
    grown = scale.seconds >= _GROWN_UP
    flat = FLAT if grown else None
    if not grown:
        report.notes.append(
            f"flatness is judged in runs of {_GROWN_UP / 60:g} minutes or more only"
        )
    report.add("notifications created", "", [tally.created])
    report.add("calls at the receiver", "", [tally.calls])
    report.add(
        "notifications not held against their log", "", [tally.created - tally.counted], NONE_LOST
    )
    report.add("calls that the record does not know", "", [tally.lost], NONE_LOST)
    report.add("attempts on record that were never received", "", [tally.invented], NONE_LOST)
    report.add("calls beyond what was asked for", "", [tally.repeated], NONE_LOST)
    report.add("notifications with a wrong end", "", [tally.wrong], NONE_LOST)
    rows = (
        ("resident memory", "MiB", "rss"), ("Redis: used memory", "MiB", "redis"),
        ("Redis: keys", "", "keys"), ("open descriptors", "", "fds"),
    )  # fmt: skip
    for name, unit, member in rows:
        points = [(s.at, float(getattr(s, member))) for s in half]
        report.add(name, unit, [value for _, value in points])
        hourly, share = growth(points)
        report.add(f"{name}: slope", f"{unit}/h".lstrip("/") if unit else "1/h", [hourly])
        # Descriptors follow the calls that are under way.
        report.add(
            f"{name}: growth, share of the median", "", [share], None if member == "fds" else flat
        )
    report.series = {
        "s": [s.at for s in result.samples],
        "resident, MiB": [s.rss for s in result.samples],
        "Redis, MiB": [s.redis for s in result.samples],
        "keys in Redis": [float(s.keys) for s in result.samples],
    }
    report.add("resident memory, before the first", "MiB", [result.rss_before])
    report.add(
        "Redis: keys after all is over (whose store it is)", "", [result.keys_after], Goal(1)
    )
    report.add("Redis: used memory, before the first", "MiB", [result.redis_before])
    report.add("Redis: used memory, after all is over", "MiB", [result.redis_after])
    report.add("notifications in memory", "", [s.live for s in half])
    report.add("finished ones in memory", "", [s.finished for s in half])
    report.add("attempts running", "", [s.running for s in half])
    report.add("oldest change that no status shows", "s", [s.unsynced for s in half])
    spent = (half[-1].cpu - half[0].cpu) / (half[-1].at - half[0].at)
    report.add("controller CPU per notification", "ms", [spent * 1000 / scale.rate])
    return report


async def run(*, quick: bool) -> Report:
    """Work for half an hour, or for half a minute."""
    return await report_of(QUICK if quick else FULL)


async def report_of(scale: Scale) -> Report:
    """Work for so long, on servers of its own."""
    async with servers() as (plane, redis, folder):
        result = await measure(plane, redis.url, folder / "stage", scale)
    return told(result, scale)


async def main(arguments: Sequence[str]) -> int:
    """Run this suite alone, for as long as is wanted."""
    parser = argparse.ArgumentParser(prog="soak", description="Steady work, for some minutes.")
    parser.add_argument("--minutes", type=float, default=FULL.seconds / 60, help="default 30")
    parser.add_argument("--rate", type=float, default=FULL.rate, help="notifications/s, default 20")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample here")
    wanted = parser.parse_args(arguments)
    seconds = wanted.minutes * 60
    every = FULL.every if seconds >= _GROWN_UP else QUICK.every
    before = machine([])
    report = await report_of(Scale(seconds, wanted.rate, every))
    report.seconds, report.machine = seconds, {**before, "load after": load()}
    print(report.table())
    if wanted.json:
        write(wanted.json, {"soak": report})
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
