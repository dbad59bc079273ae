"""
How long a record takes: intent and outcome through `RedisLog` against a bare RPUSH.

The bare RPUSH writes the same bytes to a list of the same length on the same server, through
redis-py's asyncio client as anybody would use it. Both are measured in one run, in small blocks
that take turns, so the machine's noise falls on both and their ratio holds. A third row sends the
same RPUSH through our own pipeline: what is left between it and the log is the price of the script and
of encoding.

Each operation works on a log of its own that was copied beforehand, so every sample sees the stated
number of records before the intent (one more before the outcome).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import redis.asyncio as redis_asyncio

from syncer.ledger.answers import Answer, Proof
from syncer.ledger.client import LedgerClient
from syncer.ledger.codec import encode_record
from syncer.ledger.log import RedisLog
from syncer.model.attempt import Attempt, AttemptState, Epoch, FailureClass, make_attempt_id
from syncer.model.record import Plan, Record, attempt_record, intent_record, plan_record
from syncer.rules.fold import ROOT_CHAIN
from syncer.runtime.supervise import beside
from tests.benchmarks.load import spread
from tests.benchmarks.report import Report, in_ms
from tests.servers.redis import Fsync, RedisServer, find_binary

EPOCH: Final = Epoch("0.7")
CHANNEL: Final = "slack:ops"
TEMPLATE: Final = "template"
LENGTHS: Final = (2, 20)
CONCURRENCY: Final = (1, 32)
_NOW: Final = 1_767_225_600_000

#: Writes intent and outcome of one operation; adds the seconds that each took.
Operation = Callable[[str, list[float]], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: rounds, operations in a round, operations in a block."""

    rounds: int
    operations: int
    block: int


FULL: Final = Scale(rounds=7, operations=512, block=64)
QUICK: Final = Scale(rounds=5, operations=192, block=64)


@dataclass(slots=True)
class Bench:
    """One server and three ways to write to it."""

    log: RedisLog
    client: LedgerClient
    bare: redis_asyncio.Redis
    numbers: Iterator[int]
    #: Of the template's claim, which its copies share.
    proof: Proof = field(default_factory=lambda: Proof(EPOCH, ""))

    async def fill(self, records: int) -> None:
        """Make the template, of an even number of records: a seed, a plan, failed attempts."""
        await self.bare.flushdb()
        _, restored = self._pair()
        claimed = await self.log.claim(
            TEMPLATE, EPOCH, name="bench/template", seeds=[_seed(restored)]
        )
        assert claimed.answer is Answer.OK
        self.proof = Proof(EPOCH, claimed.stamp)
        channels = (CHANNEL,)
        await self.log.note(TEMPLATE, plan_record(Plan(channels, "RoutingRuleMatched", at=_NOW)))
        for _ in range(records // 2 - 1):
            await self.through_log(TEMPLATE, [])
        assert await self.bare.llen(self.log.key(TEMPLATE)) == records + 1

    async def copies(self, n: int) -> list[str]:
        """So many fresh copies of the template, each for all three ways."""
        names = [f"log-{next(self.numbers)}" for _ in range(n)]
        pipeline = self.bare.pipeline(transaction=False)
        for name in names:
            for prefix in ("", "bare:", "pipeline:"):
                pipeline.copy(self.log.key(TEMPLATE), prefix + self.log.key(name))
        await pipeline.execute()
        return names

    async def drop(self, names: list[str]) -> None:
        """Delete the copies again."""
        keys = [p + self.log.key(n) for n in names for p in ("", "bare:", "pipeline:")]
        await self.bare.unlink(*keys)

    def _pair(self) -> tuple[Record, Record]:
        made = make_attempt_id(EPOCH, next(self.numbers))
        ended = Attempt(
            made, CHANNEL, AttemptState.FAILED, ended=_NOW + 5, due=_NOW + 30_000, duration=5,
            failure=FailureClass.TRANSIENT, code=503, error="slack webhook returned 503",
        )  # fmt: skip
        opened = intent_record(made, CHANNEL, at=_NOW, by="bench-host_8081")
        return opened, attempt_record(ended)

    async def through_log(self, name: str, took: list[float]) -> None:
        """Intent and outcome as the product writes them."""
        opened, ended = self._pair()
        began = time.perf_counter()
        intent = await self.log.intent(name, self.proof, opened, limit=1000, guard=lambda: True)
        between = time.perf_counter()
        outcome = await self.log.outcome(name, ended, opened, name="bench/template")
        took += (between - began, time.perf_counter() - between)
        assert (intent.answer, outcome.answer) == (Answer.OK, Answer.OK)

    async def through_vendor(self, name: str, took: list[float]) -> None:
        """The same bytes, each by a bare RPUSH of redis-py."""
        key = "bare:" + self.log.key(name)
        for element in self._elements():
            began = time.perf_counter()
            await self.bare.rpush(key, element)
            took.append(time.perf_counter() - began)

    async def through_pipeline(self, name: str, took: list[float]) -> None:
        """The same bytes, each by a bare RPUSH on our pipeline."""
        key = "pipeline:" + self.log.key(name)
        for element in self._elements():
            began = time.perf_counter()
            await self.client.command("RPUSH", key, element)
            took.append(time.perf_counter() - began)

    def _elements(self) -> list[bytes]:
        """Intent and outcome as they stand in a list: with the eight digits of a chain."""
        out = []
        for encoded in map(encode_record, self._pair()):
            kind, identity, channel, crc, body = encoded.split(b" ", 4)
            prefix = b" ".join((kind, identity, channel, crc, ROOT_CHAIN.encode()))
            out.append(prefix + b" " + body)
        return out


def _seed(record: Record) -> Record:
    attempt = Attempt(
        record.attempt_id, CHANNEL, AttemptState.FAILED, started=_NOW, ended=_NOW + 5,
        failure=FailureClass.TRANSIENT, code=503, error="slack webhook returned 503",
    )  # fmt: skip
    return attempt_record(attempt, seed=True)


@asynccontextmanager
async def _bench(fsync: Fsync, numbers: Iterator[int]) -> AsyncIterator[Bench]:
    async with RedisServer(find_binary("redis-server"), appendfsync=fsync) as server:
        client = LedgerClient(server.url)
        async with (
            beside(client.run()),
            redis_asyncio.Redis.from_url(server.url, max_connections=64) as bare,
        ):
            await client.open("bench")
            yield Bench(RedisLog(client), client, bare, numbers)


async def _block(operation: Operation, names: list[str], workers: int) -> list[float]:
    """Run one operation on each name, so many at once; returns the seconds of each write."""
    took: list[float] = []
    async with asyncio.timeout(120):
        await spread(lambda name: operation(name, took), names, workers)
    return took


async def _round(bench: Bench, scale: Scale, workers: int) -> dict[str, list[float]]:
    """One round: blocks of the three ways in turn, the first of them another each time."""
    ways: list[tuple[str, Any]] = [
        ("log", bench.through_log), ("bare", bench.through_vendor), ("pipeline", bench.through_pipeline),
    ]  # fmt: skip
    took: dict[str, list[float]] = {name: [] for name, _ in ways}
    for _ in range(scale.operations // scale.block):
        names = await bench.copies(scale.block)
        for way, operation in ways:
            took[way] += await _block(operation, names, workers)
        ways.append(ways.pop(0))
        await bench.drop(names)
    return took


async def run(*, quick: bool) -> Report:
    """Measure all combinations of fsync, length and concurrency."""
    scale = QUICK if quick else FULL
    report = Report("append")
    report.notes.append(
        f"{scale.rounds} rounds of {scale.operations} intents and outcomes per row and way, in "
        f"blocks of {scale.block} that take turns; redis-server on loopback, its own file"
    )
    report.notes.append(
        "bare: RPUSH of the same bytes by redis-py; pipeline: that RPUSH on our pipeline"
    )
    numbers = iter(range(1, 10**9))
    policies: tuple[Fsync, ...] = ("everysec", "always")
    for fsync in policies:
        async with _bench(fsync, numbers) as bench:
            for records in LENGTHS:
                await bench.fill(records)
                for workers in CONCURRENCY:
                    warm = Scale(1, scale.block, scale.block)
                    await _round(bench, warm, workers)
                    rounds = [await _round(bench, scale, workers) for _ in range(scale.rounds)]
                    _rows(report, f"{fsync}, {records} records, {workers} at once", rounds)
    return report


def _rows(report: Report, case: str, rounds: list[dict[str, list[float]]]) -> None:
    for share, word in ((0.5, "p50"), (0.99, "p99")):
        ways = ("log", "bare", "pipeline") if word == "p50" else ("log", "bare")
        by_way = {way: in_ms([r[way] for r in rounds], share) for way in ways}
        for way, values in by_way.items():
            report.add(f"{case}: {way} {word}", "ms", values)
        ratios = [a / b for a, b in zip(by_way["log"], by_way["bare"], strict=True)]
        report.add(f"{case}: log / bare {word}", "", ratios)
