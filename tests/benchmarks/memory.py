"""
What a notification takes of memory: in Redis, and in a replica.

Redis: logs are written through the product's own scripts, from the claim to the expiry, on a server that
nothing else uses. What its memory grows by from some logs to more is what `maxmemory` will count: keys,
expiries and the allocator's rounding are in it, buffers and tables that are there anyway are not.

A replica: objects are put into etcd and logs into Redis, made by the product's own fold and merge, and a
replica is started on them and left until it has looked at all of them. Its private memory with many, less
that with few, is what each takes; what it takes by itself is what remains. Then it is left alone for a
while, for what it spends on notifications that wait.

Each figure stands beside what the formula (`sizing.py`) says.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import redis.asyncio as redis_asyncio

from syncer.ledger.answers import Answer, Mark, Proof
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.model.attempt import Attempt, AttemptState, Epoch, FailureClass, make_attempt_id
from syncer.model.record import Plan, Record, attempt_record, intent_record, plan_record
from syncer.model.resource import RetryPolicy
from syncer.runtime.supervise import beside
from tests.benchmarks.load import (
    at_rest,
    notifier_of,
    pid_of,
    plane_of,
    programs,
    spread,
)
from tests.benchmarks.recovery import (
    EPOCH,
    TTL,
    FirstCall,
    Kind,
    hash_of,
    made_of,
    put,
    put_in,
)
from tests.benchmarks.report import Json, Report, cpu_seconds
from tests.benchmarks.sizing import (
    FINISHED,
    Shape,
    live_bytes,
    log_bytes,
    replica_bytes,
)
from tests.benchmarks.watching import unwatched
from tests.e2e.harness import CHANNEL, NotifierProcess, until
from tests.integration.api import notification
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary

DONE: Final = "start-up reconciliation done"
_EPOCH: Final = Epoch("0.1234567")
_NOW: Final = 1_767_225_600_000
_WRITERS: Final = 16
#: A replica sends nothing that is due in an hour.
_LATER: Final = 3_600_000
_POLICY: Final = {
    "maxAttempts": 10, "initialBackoffSeconds": 300, "backoffMultiplier": 1,
    "maxBackoffSeconds": 3600,
}  # fmt: skip
_QUIET: Final = 1.5
#: Seconds for which the CPU of a replica at rest is taken.
_IDLE: Final = 10.0


# -- one notification ------------------------------------------------------------------------------


def channels_of(shape: Shape) -> tuple[str, ...]:
    """Names of the wanted length; the first is the one that the stage has."""
    names = []
    for n in range(shape.channels):
        kept = f"slack:{n}-"
        names.append(kept + "c" * (shape.channel - len(kept)))
    return tuple(names)


def attempts_of(
    shape: Shape,
    channels: Sequence[str],
    numbers: Iterator[int],
    *,
    end: int,
    epoch: Epoch = _EPOCH,
) -> list[Attempt]:
    """
    The attempts of a notification, the failed ones first, the channels in turn.

    Args:
        shape: How many, and how long their errors are.
        channels: Where to.
        numbers: For their ids.
        end: When the last one ended, Unix milliseconds; the others a minute apart before it.
        epoch: For their ids.
    """
    out = []
    for n in range(shape.attempts):
        ended = end - (shape.attempts - 1 - n) * 60_000
        attempt = Attempt(
            make_attempt_id(epoch, next(numbers)), channels[n % len(channels)],
            AttemptState.SUCCESS, started=ended - 20, ended=ended, duration=20, code=200,
        )  # fmt: skip
        if n < shape.failed:
            attempt = replace(
                attempt, state=AttemptState.FAILED, due=ended + 60_000, code=503,
                failure=FailureClass.TRANSIENT, error="e" * shape.error,
            )  # fmt: skip
        out.append(attempt)
    return out


def _plan(shape: Shape, channels: Sequence[str], at: int, content: str) -> Record:
    return plan_record(Plan(tuple(channels), "RoutingRuleMatched", "w" * shape.route, at, content))


def _intent(shape: Shape, attempt: Attempt) -> Record:
    return intent_record(attempt.id, attempt.channel, at=attempt.started, by="r" * shape.replica)


# -- Redis -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Books:
    """One server, the product's way to write to it, and a plain connection."""

    log: RedisLog
    bare: redis_asyncio.Redis
    numbers: Iterator[int]

    async def write(self, shape: Shape, n: int) -> list[str]:
        """Write so many logs; returns their uids."""
        uids = [str(uuid.uuid4()) for _ in range(n)]
        async with asyncio.timeout(120):
            await spread(partial(self._one, shape), uids, _WRITERS)
        return uids

    async def _one(self, shape: Shape, uid: str) -> None:
        name = "n/" + "n" * (shape.name - 2)
        channels = channels_of(shape)
        claimed = await self.log.claim(uid, _EPOCH, name=name)
        noted = await self.log.note(uid, _plan(shape, channels, _NOW, "0123456789abcdef"))
        assert (claimed.answer, noted.answer) == (Answer.OK, Answer.OK)
        proof = Proof(_EPOCH, claimed.stamp)
        position, chain = noted.position, noted.chain
        for attempt in attempts_of(shape, channels, self.numbers, end=_NOW):
            opened = _intent(shape, attempt)
            intent = await self.log.intent(uid, proof, opened, limit=1000, guard=lambda: True)
            outcome = await self.log.outcome(uid, attempt_record(attempt), opened, name=name)
            assert (intent.answer, outcome.answer) == (Answer.OK, Answer.OK)
            position, chain = outcome.position, outcome.chain
        assert await self.log.ack(uid, position, chain, ttl=TTL) is Mark.EXPIRING

    async def used(self) -> int:
        """Bytes that the server uses, once it has written its file, without what it reads clients into."""
        await asyncio.sleep(0.2)
        memory = await self.bare.info("memory")
        # A client has a buffer of 20 kB or not, by chance: a twentieth of some dozens of logs.
        return int(memory["used_memory"]) - int(memory["mem_clients_normal"])

    async def per_log(self, shape: Shape, n: int) -> float:
        """Bytes that each of so many logs adds to some that are there."""
        await self.bare.flushall()
        await self.write(shape, max(20, n // 4))
        before = await self.used()
        await self.write(shape, n)
        return (await self.used() - before) / n

    async def usage(self, uids: Sequence[str]) -> float:
        """What MEMORY USAGE says of these logs, on the average; without their expiries."""
        sizes = [await self.bare.memory_usage(self.log.key(uid), samples=0) for uid in uids]
        return sum(int(s or 0) for s in sizes) / len(sizes)


@asynccontextmanager
async def books(url: str) -> AsyncIterator[Books]:
    """Open a server that nothing else uses."""
    client = LedgerClient(url)
    async with (
        beside(client.run()),
        redis_asyncio.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5) as bare,
    ):
        await client.open("bench")
        yield Books(RedisLog(client), bare, itertools.count(1))


#: What the formula was fitted to: logs by what is special about them.
FITTED: Final = {
    "1 attempt": Shape(),
    "5 attempts": Shape(5, 4),
    "20 attempts": Shape(20, 19),
    "40 attempts": Shape(40, 39),
    "5 attempts, errors of 200 B": Shape(5, 4, error=200),
    "5 attempts, errors of 1,000 B": Shape(5, 4, error=1000),
    "20 attempts, errors of 200 B": Shape(20, 19, error=200),
    "20 attempts, errors of 1,000 B": Shape(20, 19, error=1000),
    "3 channels, 1 attempt each": Shape(3, 0, channels=3),
    "3 channels, 5 attempts each": Shape(15, 12, channels=3),
    "8 channels, 5 attempts each": Shape(40, 32, channels=8),
    "all names twice as long, 5 attempts": Shape(
        5, 4, name=80, channel=32, route=240, replica=96
    ),
}  # fmt: skip


def logs_for(shape: Shape, wanted: int) -> int:
    """How many logs of a shape make so many bytes; at least 40."""
    return max(40, round(wanted / log_bytes(shape)))


async def _redis(report: Report, wanted: int) -> None:
    shares: list[float] = []
    found: dict[str, float] = {}
    async with (
        RedisServer(find_binary("redis-server"), appendfsync="everysec") as server,
        books(server.url) as here,
    ):
        await here.write(Shape(), 200)  # what is allocated once
        for words, shape in FITTED.items():
            n = logs_for(shape, wanted)
            found[words] = each = await here.per_log(shape, n)
            shares.append(each / log_bytes(shape))
            report.add(f"Redis, {words}", "B", [each])
            report.add(
                f"Redis, {words}: MEMORY USAGE",
                "B",
                [await here.usage(await here.write(shape, 20))],
            )
    one, five, twenty = (found[f"{n}"] for n in ("1 attempt", "5 attempts", "20 attempts"))
    report.add("Redis, each attempt beyond the first, of 5", "B", [(five - one) / 4])
    report.add("Redis, each attempt beyond the first, of 20", "B", [(twenty - one) / 19])
    longer = found["20 attempts, errors of 1,000 B"] - found["20 attempts, errors of 200 B"]
    report.add("Redis, each byte of error text", "B", [longer / 19 / 800])
    _judge(report, "Redis", shares)


def _judge(report: Report, where: str, shares: Sequence[float]) -> None:
    report.add(f"{where}: measured / formula, smallest", "", [min(shares)])
    report.add(f"{where}: measured / formula, largest", "", [max(shares)])


# -- a replica -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """
    What a replica takes at rest: memory in bytes, CPU in percent of a core.

    Attributes:
        resident: All that counts for it, files included.
        private: What nobody shares: its own data.
        cpu: While it has nothing to do but wait.
    """

    resident: int
    private: int
    cpu: float


def held(pid: int, cpu: float) -> Held:
    """What a process takes, which took so much CPU."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return Held(found["Rss"], found["Private_Dirty"], cpu)


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many notifications of one shape, finished or with an attempt due in an hour."""

    n: int
    shape: Shape
    finished: bool = False


def _document(shape: Shape) -> Json:
    """An object without its identity and status, its spec of the wanted length."""
    bare = notification(subject="s", body="", retryPolicy=_POLICY)
    rest = shape.spec - len(json.dumps(bare["spec"], separators=(",", ":")))
    return notification(subject="s", body="b" * max(1, rest), retryPolicy=_POLICY)


def _made(crowd: Crowd, now: int) -> Kind:
    """A log, and the object that shows all of it."""
    shape, channels = crowd.shape, (CHANNEL,)
    document = _document(shape)
    attempts = attempts_of(shape, channels, itertools.count(1), end=now, epoch=EPOCH)
    if not crowd.finished:
        attempts[-1] = replace(attempts[-1], due=now + _LATER)
    records = [_plan(shape, channels, now, hash_of(document))]
    for attempt in attempts:
        records += [_intent(shape, attempt), attempt_record(attempt)]
    made = made_of(document, records, RetryPolicy(10, 300, 1, 3600), now)
    assert made.finished is crowd.finished
    return made


async def after_start(
    plane: ControlPlane, redis_url: str, folder: Path, crowds: Sequence[Crowd]
) -> Held:
    """Start a replica on some notifications; returns what it takes once it has looked at all."""
    receiver = FirstCall()
    total = sum(c.n for c in crowds)
    async with unwatched(plane, redis_url, folder, receiver) as here:
        for crowd in crowds:
            made = _made(crowd, round(time.time() * 1000))
            kind = "f" if crowd.finished else "w"
            await put(here, ((f"{kind}-{i:06}", made) for i in range(crowd.n)))
        await until(
            lambda: put_in(here, total),
            f"the API server has taken in {total}",
            within=60,
            every=0.2,
        )
        process = notifier_of(here)
        process.start()
        await until(lambda: bool(process.lines(DONE)), process.tail, within=240, every=0.1)
        # It is not where it was refused a log, and then it holds less.
        await process.wait_ready()
        await _settled(process, crowds)
        assert receiver.count == 0, "nothing was due"
        pid = pid_of(process)
        used = cpu_seconds(pid)
        await asyncio.sleep(_IDLE)
        return held(pid, (cpu_seconds(pid) - used) / _IDLE * 100)


async def _settled(process: NotifierProcess, crowds: Sequence[Crowd]) -> None:
    live = sum(c.n for c in crowds if not c.finished)
    finished = sum(c.n for c in crowds if c.finished)
    await at_rest(
        process, 30, live_notifications=live, finished_notifications=finished, queue_depth=0
    )
    await asyncio.sleep(_QUIET)


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        bytes: Of Redis, for each shape.
        few: Unfinished notifications that a replica has done its warming up with.
        many: More of them.
        finished: Finished ones, few and many.
    """

    bytes: int
    few: int
    many: int
    finished: tuple[int, int]


FULL: Final = Scale(1_500_000, 500, 4_000, (10_000, 50_000))
QUICK: Final = Scale(400_000, 500, 1_500, (1_000, 6_000))

WAITING: Final = {
    "1 attempt": Shape(1, 1),
    "9 attempts": Shape(9, 9),
    "1 attempt, spec of 2,500 B": Shape(1, 1, spec=2_500),
    "9 attempts, errors of 400 B": Shape(9, 9, error=400),
}


async def _replica(report: Report, plane: ControlPlane, folder: Path, scale: Scale) -> None:
    shares: list[float] = []
    names = itertools.count()
    async with RedisServer(find_binary("redis-server"), appendfsync="everysec") as redis:

        async def start(*crowds: Crowd) -> Held:
            return await after_start(plane, redis.url, folder / f"stage-{next(names)}", crowds)

        chosen = WAITING if scale is FULL else dict(itertools.islice(WAITING.items(), 1))
        usual = WAITING["1 attempt"]
        few = await start(Crowd(scale.few, usual))
        for words, shape in chosen.items():
            base = few if shape == usual else await start(Crowd(scale.few, shape))
            many = await start(Crowd(scale.many, shape))
            each = (many.private - base.private) / (scale.many - scale.few)
            report.add(f"replica, unfinished, {words}", "B", [each])
            report.add(
                f"replica, {scale.many:,} unfinished, {words}: CPU", "% of a core", [many.cpu]
            )
            shares.append(each / live_bytes(shape))
        bottom = few.resident - scale.few * live_bytes(usual)
        report.add("replica, by itself: resident", "MiB", [bottom / 2**20])
        report.add(
            "replica, by itself: of that files", "MiB", [(few.resident - few.private) / 2**20]
        )
        shares.append(few.resident / replica_bytes(scale.few, 0, usual))
        less, more = scale.finished
        before = await start(Crowd(less, Shape(), finished=True))
        after = await start(Crowd(more, Shape(), finished=True))
        each = (after.private - before.private) / (more - less)
        report.add("replica, finished", "B", [each])
        if scale is FULL:
            # Tables grow by doubling: a few thousand more may cost nothing or too much.
            shares.append(each / FINISHED)
        _judge(report, "replica", shares)


async def run(*, quick: bool) -> Report:
    """Measure Redis, then a replica."""
    scale = QUICK if quick else FULL
    report = Report("memory")
    report.notes.append(
        "Redis: growth of used_memory per log, from some logs to more; errors of 60 B unless it says "
        "otherwise, names as in docs/scale.md; every log ends with a success and has its expiry"
    )
    report.notes.append(
        f"replica: private memory after a start among {scale.many:,} unfinished notifications less "
        f"that among {scale.few:,}; finished: {scale.finished[1]:,} less {scale.finished[0]:,}; one "
        "replica, default settings, Events and audit off; formula: tests/benchmarks/sizing.py"
    )
    await _redis(report, scale.bytes)
    async with plane_of(await programs()) as plane:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            await _replica(report, plane, Path(name), scale)
    return report
