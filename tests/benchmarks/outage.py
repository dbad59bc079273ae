"""
Redis is away under a steady load: what is delivered meanwhile, how late, and what it costs.

Two replicas share the shards, and notifications are created at a steady rate before, in and after an
outage in which attempts are journaled in the status. Four outages: Redis is killed and comes back *whole*;
the same with a *killed owner* in the middle; Redis comes back *empty*; one replica is *cut off* from it
alone, so that nothing is to be journaled at all. Some notifications have failed before the outage and come
due in it.

Lateness counts from the answer to the creation until the receiver has read the call that it acts upon, less
the notification's own back-off. At the end the receiver's book, logs and statuses are held together by the
checker of the end-to-end tests. Where a replica was killed or cut off, its shards need another owner first,
which is a bound of its own (`takeover`); there the limit is that much longer.

A burst tells how many attempts can be journaled in a second, beside the two optimistic writes of each
attempt that Option A makes (`strategies`). It is created after Redis was killed and before anything is
journaled, so all of it is due at once.

What it costs to be prepared is measured while Redis is there: the load of `throughput`, with attempts held
in an outage and with attempts journaled in one, in pairs whose first one takes turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.benchmarks import throughput
from tests.benchmarks.counters import api_metrics, requests_in
from tests.benchmarks.idle import share_out
from tests.benchmarks.load import SHARED, at_rate, plane_of, programs, progress, spread
from tests.benchmarks.replicas import SHARDS
from tests.benchmarks.report import Json, Report, percentile
from tests.benchmarks.strategies import Optimistic
from tests.e2e.checker import Kind, unlogged
from tests.e2e.harness import BUSY, OK, SEND_TIMEOUT, NotifierProcess, Stage, stage, until
from tests.fakes.proxy import Proxy
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import port_of

WHOLE, KILLED, EMPTY, CUT = "whole", "owner killed", "empty", "one cut off"
KINDS: Final = (WHOLE, KILLED, EMPTY, CUT)
#: One in so many is refused at first, and has a back-off of its own.
_REFUSED: Final = 10
_BACKOFF: Final = 2.0
_POLICY: Final[Json] = {
    "maxAttempts": 5, "initialBackoffSeconds": round(_BACKOFF), "backoffMultiplier": 1,
}  # fmt: skip
_AT_ONCE: Final = 32
_REST: Final = 180.0
_MARGIN: Final = 5.0


#: What is measured while Redis is there.
PREPARED: Final = throughput.Scale(notifications=1000, rounds=6)


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        rate: Notifications created in a second.
        around: Seconds of load before and after the outage.
        outage: Its seconds.
        after: `delivery.journalAfter` in seconds.
        burst: Notifications of the burst.
        prepared: What is measured while Redis is there.
        kinds: Outages, each once.
    """

    rate: float = 20.0
    around: float = 10.0
    outage: float = 60.0
    after: float = 10.0
    burst: int = 300
    prepared: throughput.Scale = PREPARED
    kinds: Sequence[str] = KINDS


FULL: Final = Scale()
QUICK: Final = Scale(
    rate=5.0, around=3.0, outage=20.0, after=2.0, burst=40, kinds=(WHOLE,),
    prepared=throughput.Scale(notifications=200, rounds=1),
)  # fmt: skip
#: Controller CPU in ms per notification: held and journaled, of each pair.
Pair = tuple[float, float]


@dataclass(slots=True)
class Result:
    """
    What one outage came to.

    Attributes:
        late: Seconds of each notification that was created in it.
        older: Seconds after its due time of each that had failed before, where that time was in it.
        held: Of those among them that had to wait for Redis: seconds after it was back.
        undelivered: How many have not ended as they should.
        violations: What book and record do not agree on.
        unlogged: Attempts that a status shows and its log was not given.
        repeated: Calls after one that succeeded, whose result nobody could learn; these are allowed.
        journaled: Attempts that were journaled.
        requests: Requests for notifications, other than creations and watches, meanwhile.
    """

    late: list[float] = field(default_factory=list)
    older: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    undelivered: int = 0
    violations: int = 0
    unlogged: int = 0
    repeated: int = 0
    journaled: float = 0.0
    requests: int = 0


class Load:
    """Creates notifications at a steady rate, and knows when each was there."""

    def __init__(self, here: Stage, rate: float) -> None:
        """Nothing is created yet."""
        self._here = here
        self._rate = rate
        #: By uid: name and monotonic second of the answer to the creation.
        self.created: dict[str, tuple[str, float]] = {}

    async def run(self) -> None:
        """Create until cancelled; a creation that is slow delays no other."""
        names = (f"n-{n}" if n % _REFUSED else f"refused-{n}" for n in itertools.count())
        await at_rate(self._one_of_many, names, self._rate)

    async def _one_of_many(self, name: str) -> None:
        await self.one(name, refused=name.startswith("refused"))

    async def one(self, name: str, *, refused: bool = False, backoff: float = _BACKOFF) -> str:
        """Create one; returns its uid."""
        if refused:
            self._here.script(name, BUSY, OK)
        policy = {**_POLICY, "initialBackoffSeconds": round(backoff)}
        uid = await self._here.create(name, retryPolicy=policy)
        self.created[uid] = (name, time.monotonic())
        return uid


async def _sum(processes: Sequence[NotifierProcess], name: str) -> float:
    """A counter of all replicas that run, all its labels together."""
    total = 0.0
    for process in processes:
        _, text = await process.ask("/metrics", metrics=True)
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        total += sum(map(float, found))
    return total


async def _requests(here: Stage) -> int:
    found = requests_in(await api_metrics(here), "notificationrequests")
    return sum(n for what, n in found.items() if not what.startswith(("POST", "WATCH", "LIST")))


@dataclass(slots=True)
class Installation:
    """Two replicas, each behind a way to Redis of its own."""

    here: Stage
    redis: RedisServer
    replicas: list[NotifierProcess]
    ways: list[Proxy]


@asynccontextmanager
async def _installation(
    plane: ControlPlane, folder: Path, scale: Scale, per_second: float, count: int = 2
) -> AsyncIterator[Installation]:
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(
            RedisServer(find_binary("redis-server"), appendfsync="everysec")
        )
        here = await stack.enter_async_context(
            stage(plane, redis.url, folder, sampled=False, send_timeout=SEND_TIMEOUT)
        )
        delivery = {
            **SHARED["delivery"],
            "logOutage": "journal", "journalAfter": f"{scale.after}s", "journalPerSecond": per_second,
            "credentials": {"dir": str(folder / "credentials")},
        }  # fmt: skip
        ways, replicas = [], []
        for _ in range(count):
            way = await stack.enter_async_context(Proxy(port_of(redis)))
            through = {"url": f"redis://127.0.0.1:{way.port}", "timeout": "1s"}
            settings = {**SHARED, "delivery": delivery, "redis": through}
            replicas.append(here.notifier(to="slack", **settings))
            ways.append(way)
        await share_out(replicas, SHARDS)
        yield Installation(here, redis, replicas, ways)


async def _outage(kind: str, made: Installation, scale: Scale) -> None:
    """Take Redis away for a while; returns when it is back."""
    half = scale.outage / 2
    if kind == CUT:
        await made.ways[0].refuse()
        await asyncio.sleep(scale.outage)
        await made.ways[0].accept()
        return
    await made.redis.kill()
    await asyncio.sleep(half)
    if kind == KILLED:
        await asyncio.to_thread(made.replicas[0].kill)
    await asyncio.sleep(half)
    if kind == EMPTY:
        await asyncio.to_thread(
            shutil.rmtree, made.redis.directory / "appendonlydir", ignore_errors=True
        )
    await made.redis.start()


async def _measure(kind: str, plane: ControlPlane, folder: Path, scale: Scale) -> Result:
    """One outage under load, until everything has ended."""
    result = Result()
    async with _installation(plane, folder, scale, 2 * scale.rate) as made:
        here, load = made.here, Load(made.here, scale.rate)
        backoff = scale.around + 0.6 * scale.outage
        running = asyncio.create_task(load.run())
        older = []
        for n in range(round(scale.rate)):
            # Among others that succeed: else the receiver's circuit breaker would open.
            await asyncio.sleep(2 / scale.rate)
            older.append(await load.one(f"older-{n}", refused=True, backoff=backoff))
        await asyncio.sleep(scale.around)
        requests, began = await _requests(here), time.monotonic()
        await _outage(kind, made, scale)
        ended = time.monotonic()
        alive = [p for p in made.replicas if p.running]
        result.journaled = await _sum(alive, "notification_ledger_journaled_attempts_total")
        result.requests = await _requests(here) - requests
        await asyncio.sleep(scale.around)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await _rest(here, list(load.created))
        for uid, (name, created) in load.created.items():
            calls = here.receiver.calls(name)
            if here.watcher.phase(uid) != "Sent" or not any(c.processed for c in calls):
                result.undelivered += 1
            elif uid in older:
                due = calls[0].at + backoff
                if calls[-1].at > ended and due < ended:
                    result.held.append(calls[-1].at - ended)
                elif due < ended:
                    result.older.append(calls[-1].at - due)
            elif began <= created <= ended:
                result.late.append(calls[-1].at - created - _BACKOFF * (len(calls) - 1))
        # An empty Redis has lost the logs of older notifications, and nobody makes them anew.
        there = await here.logs(list(load.created)) if kind == EMPTY else load.created
        await here.wait_acked(list(there), within=_REST)
        logs = await here.logs(list(load.created))
        last = {uid: here.watcher.last(uid) for uid in logs}
        result.unlogged = len(list(unlogged(logs, last)))
        findings = await here.findings()
        result.violations = len(findings.violations)
        result.repeated = len(findings.of(Kind.EXPLAINED))
        if findings.violations:
            progress("outage", str(findings)[:4000])
    return result


async def _rest(here: Stage, uids: Sequence[str]) -> None:
    """Wait until all have ended; what has not by then is counted."""

    def ended() -> bool:
        return all(here.watcher.phase(u) in ("Sent", "Failed", "PartiallySent") for u in uids)

    with contextlib.suppress(AssertionError):
        await until(ended, "all have ended", within=_REST, every=0.5)


async def _burst(plane: ControlPlane, folder: Path, scale: Scale) -> tuple[float, float]:
    """Attempts journaled in a second, and those that Option A records, with two writes each."""
    # One replica: two do not begin at the same moment, which is no matter of speed.
    async with _installation(plane, folder, scale, 10_000, 1) as made:
        here, load = made.here, Load(made.here, 1.0)
        # What is created since its owner took the shard is known to it; by a margin of whole seconds.
        await asyncio.sleep(_MARGIN)
        await made.redis.kill()
        names = [f"b-{n}" for n in range(scale.burst)]
        await spread(load.one, names, _AT_ONCE)
        await until(
            lambda: len(here.receiver.book) >= len(names),
            lambda: f"the burst is delivered; {made.replicas[0].tail()}", within=_REST, every=0.2,
        )  # fmt: skip
        times = [call.at for call in here.receiver.book]
        journaled = (len(times) - 1) / (max(times) - min(times))
        for process in made.replicas:
            await asyncio.to_thread(process.kill)
        option = Optimistic(here.api)
        created = [{"metadata": {"name": f"a-{n}"}} for n in range(scale.burst)]
        for document in created:
            await here.create(document["metadata"]["name"])
        began = time.monotonic()

        async def attempt(document: Json) -> None:
            for text in ("intent", "outcome"):
                await option.record(document, 0, text)

        await spread(attempt, created, _AT_ONCE)
        return journaled, scale.burst / (time.monotonic() - began)


async def _prepared(plane: ControlPlane, folder: Path, scale: throughput.Scale) -> list[Pair]:
    """What the controller spends on a notification while Redis is there."""
    ways: list[throughput.Way] = ["hold", "journal"]
    pairs = []
    async with RedisServer(find_binary("redis-server"), appendfsync="everysec") as redis:
        # The first one warms the servers and is thrown away.
        await throughput.measure(plane, redis, folder / "warm", "hold", scale)
        for n in range(scale.rounds):
            cpu = {}
            for way in ways:
                run = await throughput.measure(plane, redis, folder / f"{way}-{n}", way, scale)
                cpu[way] = run.cpu["controller"]
            ways.reverse()
            pairs.append((cpu["hold"], cpu["journal"]))
            progress("outage", f"Redis there: {pairs[-1][0]:.2f} and {pairs[-1][1]:.2f} ms each")
    return pairs


def told(
    results: Mapping[str, Result],
    rates: tuple[float, float],
    scale: Scale,
    pairs: Sequence[Pair],
) -> Report:
    """
    Make the report.

    Args:
        results: Of each outage.
        rates: Of the burst.
        scale: What was measured.
        pairs: Controller CPU while Redis is there.
    """
    report = Report("outage")
    report.notes.append(
        f"two replicas, {SHARDS} shards, {scale.rate:g} notifications/s, Redis away for"
        f" {scale.outage:g} s, journalAfter {scale.after:g} s; one in {_REFUSED} is refused at first"
    )
    for kind, result in results.items():
        lateness = {
            "created in it, until delivered, less its own back-off": result.late,
            "the same, p99": [percentile(result.late, 0.99)],
            "older ones, after they were due": result.older,
            "held ones, after Redis was back": result.held,
        }
        for words, seconds in lateness.items():
            if seconds:
                report.add(f"{kind}: {words}", "s", seconds)
        counts = {
            "not delivered": result.undelivered,
            "what book and record do not agree on": result.violations,
            "attempts that a log was not given": result.unlogged,
            "calls repeated after a result that nobody could learn (allowed)": result.repeated,
            "attempts journaled": result.journaled,
        }
        for words, count in counts.items():
            report.add(f"{kind}: {words}", "", [count])
        # A replica that takes over, or comes back, has requests of its own.
        if result.journaled and kind in (WHOLE, EMPTY):
            each = result.requests / result.journaled
            report.add(f"{kind}: API requests per journaled attempt", "", [each])
    journaled, option = rates
    report.add("burst: attempts journaled", "1/s", [journaled])
    report.add("burst: attempts of Option A, two writes each", "1/s", [option])
    report.add("burst: journaled / Option A", "", [journaled / option])
    for way, costs in zip(("hold", "journal"), zip(*pairs, strict=True), strict=True):
        report.add(f"Redis there, {way}: controller CPU per notification", "ms", costs)
    report.add("Redis there: journal / hold", "", [j / h for h, j in pairs])
    return report


async def measure(plane: ControlPlane, folder: Path, scale: Scale) -> Report:
    """Every outage in turn, and the burst."""
    pairs = await _prepared(plane, folder, scale.prepared)
    results = {}
    for number, kind in enumerate(scale.kinds):
        results[kind] = await _measure(kind, plane, folder / str(number), scale)
        progress("outage", f"{kind}: {results[kind].journaled:.0f} attempts journaled")
    rates = await _burst(plane, folder / "burst", scale)
    return told(results, rates, scale, pairs)


async def run(*, quick: bool) -> Report:
    """One outage of 20 s, or four of 60 s."""
    async with plane_of(await programs()) as plane:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            return await measure(plane, Path(name), QUICK if quick else FULL)
