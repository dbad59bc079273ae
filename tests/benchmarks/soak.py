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
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from syncer.model.attempt import AttemptState
from syncer.model.record import Kind
from tests.benchmarks.load import (
    SteadyReceiver,
    at_rate,
    notifier_of,
    pid_of,
    progress,
    servers,
    serving,
)
from tests.benchmarks.report import Report, cpu_seconds, resident_mib
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
        super().__init__(self._take)
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


#: What is held against the record at the end, of the calls and notifications by name.
CREATED: Final = "notifications created"
CALLS: Final = "calls at the receiver"
UNCOUNTED: Final = "notifications not held against their log"
LOST: Final = "calls that the record does not know"
INVENTED: Final = "attempts on record that were never received"
REPEATED: Final = "calls beyond what was asked for"
WRONG: Final = "notifications with a wrong end"
TALLY: Final = (CREATED, CALLS, UNCOUNTED, LOST, INVENTED, REPEATED, WRONG)

#: What is sampled, with units: what must not grow, and what else there is.
MEMORY: Final = "resident memory"
STORE: Final = "Redis: used memory"
KEYS: Final = "Redis: keys"
FILES: Final = "open descriptors"
FLAT: Final = {MEMORY: "MiB", STORE: "MiB", KEYS: "", FILES: ""}
BESIDES: Final = {
    "notifications in memory": ("live_notifications", ""),
    "finished ones in memory": ("finished_notifications", ""),
    "attempts running": ("running_attempts", ""),
    "oldest change that no status shows": ("dirty_oldest_seconds", "s"),
}


@dataclass(slots=True)
class Soak:
    """One installation under steady work."""

    here: Stage
    watcher: FinalWatcher
    receiver: CountingReceiver
    process: NotifierProcess
    scale: Scale
    tally: Counter[str] = field(default_factory=Counter)
    lives: dict[str, Life] = field(default_factory=dict)
    samples: list[dict[str, float]] = field(default_factory=list)

    # -- the work ---------------------------------------------------------------------------------

    async def create_all(self) -> None:
        """Create at a steady rate, for the length of the run."""
        names = (f"{kind_of(n)}-{n}" for n in range(round(self.scale.seconds * self.scale.rate)))
        await at_rate(self._create, names, self.scale.rate)

    async def _create(self, name: str) -> None:
        created = await self.here.api.create(name, subject=name, retryPolicy=POLICY)
        self.lives[name] = Life(str(created["metadata"]["uid"]), "lives", time.monotonic())
        self.tally[CREATED] += 1
        self.tally[UNCOUNTED] += 1

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
        tally[UNCOUNTED] -= 1
        tally[CALLS] += calls
        if log is None:
            tally[WRONG] += 1
            tally[LOST] += calls
            return
        unsent = {
            r.attempt_id for r in log.records
            if r.kind is Kind.FAILED and r.body.get("class") == "notSent"
        }  # fmt: skip
        states = [s.state for identity, s in log.states().items() if identity not in unsent]
        definite = sum(s >= AttemptState.FAILED for s in states)
        taken_on_record = sum(s == AttemptState.SUCCESS for s in states)
        tally[LOST] += max(0, calls - len(states)) + max(0, taken - taken_on_record)
        tally[INVENTED] += max(0, definite - calls) + max(0, taken_on_record - taken)
        if kind in EXPECTED:
            phase, wanted = EXPECTED[kind]
            tally[REPEATED] += max(0, calls - wanted)
            tally[WRONG] += self.watcher.finals.get(name) != phase or calls < wanted

    # -- the eyes ---------------------------------------------------------------------------------

    async def sample_all(self) -> None:
        """Look every few seconds, until cancelled; say on standard error how it goes."""
        began, told = time.monotonic(), 0.0
        for n in itertools.count():
            await asyncio.sleep(began + n * self.scale.every - time.monotonic())
            seconds = time.monotonic() - began
            self.samples.append({"s": seconds, **await self.sample()})
            if seconds - told >= 15:
                told = seconds
                lost = f"{self.tally[LOST]} calls lost"
                progress("soak", f"{seconds:.0f} of {self.scale.seconds:.0f} s, {lost}")

    async def sample(self) -> dict[str, float]:
        pid = pid_of(self.process)
        metrics = await self._metrics()
        besides = {
            words: metrics[f"notification_ledger_{name}"] for words, (name, _) in BESIDES.items()
        }
        return {
            MEMORY: resident_mib(pid),
            STORE: await used_mib(self.here.redis),
            KEYS: float(await self.here.redis.dbsize()),
            FILES: descriptors(pid),
            "cpu": cpu_seconds(pid),
            **besides,
        }

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


async def measure(plane: ControlPlane, redis_url: str, folder: Path, scale: Scale) -> Report:
    """Run one replica under steady work, then let everything go."""
    receiver = CountingReceiver()
    async with watched(plane, redis_url, folder, receiver) as (here, watcher):
        process = await serving(notifier_of(here))
        soak = Soak(here, watcher, receiver, process, scale)
        before = await soak.sample()
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
        assert receiver.count == soak.tally[CALLS] + sum(receiver.heard.values())
        return told(soak, before, await soak.sample(), scale)


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


def told(
    soak: Soak, before: Mapping[str, float], after: Mapping[str, float], scale: Scale
) -> Report:
    """
    The report of one run.

    Args:
        soak: Its tally and samples.
        before: A sample from before the first notification.
        after: One from after all was over.
        scale: What was run.
    """
    report = Report("soak")
    half = [sample for sample in soak.samples if sample["s"] >= scale.seconds / 2]
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
    for name in TALLY:
        report.add(name, "", [soak.tally[name]])
    for name, unit in FLAT.items():
        points = [(sample["s"], sample[name]) for sample in half]
        report.add(name, unit, [value for _, value in points])
        hourly, share = growth(points)
        report.add(f"{name}: slope", f"{unit}/h" if unit else "1/h", [hourly])
        report.add(f"{name}: growth, share of the median", "", [share])
    columns = {"s": "s", "resident, MiB": MEMORY, "Redis, MiB": STORE, "keys in Redis": KEYS}
    report.series = {
        column: [sample[name] for sample in soak.samples] for column, name in columns.items()
    }
    report.add("resident memory, before the first", "MiB", [before[MEMORY]])
    report.add("Redis: keys after all is over (whose store it is)", "", [after[KEYS]])
    report.add("Redis: used memory, before the first", "MiB", [before[STORE]])
    report.add("Redis: used memory, after all is over", "MiB", [after[STORE]])
    report.rows({words: unit for words, (_, unit) in BESIDES.items()}, half)
    spent = (half[-1]["cpu"] - half[0]["cpu"]) / (half[-1]["s"] - half[0]["s"])
    report.add("controller CPU per notification", "ms", [spent * 1000 / scale.rate])
    return report


async def run(*, quick: bool) -> Report:
    """Work for half an hour, or for half a minute."""
    async with servers() as (plane, redis, folder):
        return await measure(plane, redis.url, folder / "stage", QUICK if quick else FULL)
