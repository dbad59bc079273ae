"""
Ways to put attempts into a status, under one load: what each records, loses and costs.

Writers record attempts on the same objects as fast as they can; nothing paces them. An attempt is a
line of text that no other has, so that what is missing at the end can be named. Four ways, one
interface:

- `naive` reads the status, appends, and writes it back over whatever is there by then;
- `A` does the same with the resourceVersion that was read, and begins anew when it is refused, after
  the pause that client-go's DefaultRetry has (10 ms, jitter), as often as it takes;
- `B` takes turns: a lock per object, the newest version kept in memory, one write per attempt;
- `C` is this product: intent and outcome in Redis, the status folded and written by the sync loop
  with its default window.

A record is durable when the way says so: after its own write (naive, A, B), after OUTCOME (C). The
clock of "shown" runs on until every attempt is in the status. The server-side rules are off for all,
since they refuse what the naive way does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry

from syncer.kube.client import KubeClient
from syncer.kube.notification_requests import NotificationRequestClient
from syncer.ledger.answers import Answer
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.metrics import SyncMetrics
from syncer.model.attempt import AttemptState, Epoch, FailureClass
from syncer.model.record import read_attempt
from syncer.model.resource import Json, parse_object
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Cache
from syncer.sync.notification import Claim, Notification
from syncer.sync.recorder import Recorder
from syncer.sync.status_writer import StatusWriter
from tests.benchmarks.load import servers
from tests.benchmarks.report import Measured, Report, percentile
from tests.beside import beside
from tests.fakes.notifications import recording
from tests.fakes.ownership import Ours
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane

_CROWD: Final = 5
_RETRY_PAUSE: Final = 0.01
_WINDOW: Final = 0.5
_DEADLINE: Final = 180.0


@dataclass(frozen=True, slots=True)
class Case:
    """Writers at once on each object, and attempts that each of them records there."""

    writers: int
    each: int

    @property
    def attempts(self) -> int:
        """Attempts per object."""
        return self.writers * self.each

    def __str__(self) -> str:
        """As the table shows it."""
        return f"{self.attempts} attempts by {self.writers} writers"


CASES: Final = (Case(1, 1), Case(1, 20), Case(5, 1), Case(5, 4), Case(32, 1))


@dataclass(frozen=True, slots=True)
class Scale:
    """Objects in a round, and rounds."""

    objects: int
    rounds: int


FULL: Final = Scale(24, 5)
QUICK: Final = Scale(4, 3)


@dataclass(slots=True)
class Costs:
    """What a way has asked of the API server: writes, by object, and how many of them were refused."""

    writes: Counter[str] = field(default_factory=Counter)
    conflicts: int = 0


class Strategy(Protocol):
    """One way to record attempts."""

    costs: Costs

    async def open(self, created: Json) -> None:
        """Get ready for an object."""

    async def record(self, created: Json, writer: int, text: str) -> None:
        """Record one attempt; returns when it is durable."""

    async def settle(self) -> None:
        """Wait until everything that was recorded is in the status."""


def _line(text: str, number: int) -> Json:
    return {
        "channel": "slack:ops", "attempt": number, "timestamp": "2026-01-01T00:00:00Z",
        "status": "failed", "error": text,
    }  # fmt: skip


def _with(status: Json, text: str) -> Json:
    attempts = [*status.get("deliveryAttempts", ())]
    attempts.append(_line(text, len(attempts) + 1))
    return {"phase": "Sending", "deliveryAttempts": attempts, "totalAttempts": len(attempts)}


class Naive:
    """Reads, appends, overwrites."""

    def __init__(self, api: Api) -> None:
        """`api` is shared with the other ways."""
        self.api = api
        self.costs = Costs()

    async def open(self, created: Json) -> None:
        """Nothing to get ready."""

    async def settle(self) -> None:
        """Everything is written already."""

    async def record(self, created: Json, writer: int, text: str) -> None:
        """Write the list that was read a moment before, and one line more."""
        path = f"{self.api.requests}/{created['metadata']['name']}"
        status = (await self.api.ask("GET", path)).body.get("status") or {}
        self.costs.writes[path] += 1
        reply = await self.api.ask("PATCH", f"{path}/status", {"status": _with(status, text)})
        # Where the server-side rules are on, they refuse a write that forgets attempts: lost, too.
        assert reply.code in (200, 422), reply.body


class Optimistic(Naive):
    """As the naive one, but only onto the version that was read."""

    async def record(self, created: Json, writer: int, text: str) -> None:
        """Begin anew until the write is accepted."""
        path = f"{self.api.requests}/{created['metadata']['name']}"
        async with asyncio.timeout(_DEADLINE):
            while True:
                current = (await self.api.ask("GET", path)).body
                if await self._written(path, current, text):
                    return
                # S311: spreading retries needs no secret randomness.
                await asyncio.sleep(_RETRY_PAUSE * random.uniform(1.0, 1.1))  # noqa: S311 - jitter

    async def _written(self, path: str, current: Json, text: str) -> Json | None:
        self.costs.writes[path] += 1
        reply = await self.api.ask(
            "PATCH",
            f"{path}/status",
            {
                "metadata": {"resourceVersion": current["metadata"]["resourceVersion"]},
                "status": _with(current.get("status") or {}, text),
            },
        )
        if reply.code == 200:
            return dict(reply.body)
        assert reply.code == 409, reply.body
        self.costs.conflicts += 1
        return None


class Serialised(Optimistic):
    """One writer at a time per object; the newest version stays in memory."""

    def __init__(self, api: Api) -> None:
        """Begin without any object."""
        super().__init__(api)
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._newest: dict[str, Json] = {}

    async def open(self, created: Json) -> None:
        """Remember the object as it was created."""
        self._newest[created["metadata"]["name"]] = created

    async def record(self, created: Json, writer: int, text: str) -> None:
        """Wait for the turn, then write; a foreign write costs a reading."""
        name = created["metadata"]["name"]
        path = f"{self.api.requests}/{name}"
        async with self._turns[name], asyncio.timeout(_DEADLINE):
            while True:
                written = await self._written(path, self._newest[name], text)
                if written is not None:
                    self._newest[name] = written
                    return
                self._newest[name] = dict((await self.api.ask("GET", path)).body)


class _Counting(NotificationRequestClient):
    def __init__(self, client: KubeClient, costs: Costs) -> None:
        super().__init__(client)
        self._costs = costs

    async def patch(self, *args: Any, **options: Any) -> Any:
        self._costs.writes[args[1]] += 1
        return await super().patch(*args, **options)


class Product:
    """Log, fold, batch, merge: the product's own parts, with nothing left out but the send."""

    def __init__(
        self, recorder: Recorder, term: Ours, costs: Costs, registry: CollectorRegistry
    ) -> None:
        """`recorder` has a sync loop running over its cache, and its metrics in `registry`."""
        self.recorder = recorder
        self.term = term
        self.costs = costs
        self.registry = registry

    async def open(self, created: Json) -> None:
        """Claim the log, as a controller does when it first sees the object."""
        notification = Notification(parse_object(created))
        log = self.recorder.log
        self.recorder.cache.entries[notification.uid] = notification
        claimed = await log.claim(notification.uid, self.term.epoch, name=notification.request.key)
        assert claimed.snapshot is not None
        self.recorder.adopt(notification, claimed.snapshot)
        notification.claimed(Claim(self.term.epoch, log.client.generation, claimed.stamp))

    async def record(self, created: Json, writer: int, text: str) -> None:
        """Write intent and outcome; each writer has a channel, whose attempts never overlap."""
        notification = self.recorder.cache.entries[created["metadata"]["uid"]]
        answer, intent = await recording(self.recorder).open(
            notification, self.term, f"slack:w{writer}", limit=1000
        )
        assert answer.answer is Answer.OK, answer
        now = self.recorder.time.now()
        failed = replace(
            read_attempt(intent), state=AttemptState.FAILED, ended=now, due=now + 300_000,
            failure=FailureClass.TRANSIENT, code=503, error=text,
        )  # fmt: skip
        assert await recording(self.recorder).close(notification, failed, intent, patience=5)

    async def settle(self) -> None:
        """Wait until every log is wholly marked as published."""
        async with asyncio.timeout(_DEADLINE):
            for notification in list(self.recorder.cache.entries.values()):
                while (
                    notification.acked < notification.view.position
                    or notification.publication.pending
                ):
                    await asyncio.sleep(0.002)


#: What one round of one way tells, with units; the missing do not count, refused writes do.
_ROWS: Final = {
    "recorded/s": "1/s",
    "shown/s": "1/s",
    "lost": "",
    "writes per attempt": "",
    "conflicts per attempt": "",
    "send to record p50": "ms",
    "send to record p99": "ms",
}


async def measure(api: Api, strategy: Strategy, case: Case, objects: int, prefix: str) -> Measured:
    """Put the load of one round on so many new objects."""
    policy = {"maxAttempts": 10, "initialBackoffSeconds": 300}
    made = [await api.create(f"{prefix}-{n}", retryPolicy=policy) for n in range(objects)]
    for created in made:
        await strategy.open(created)
    waits: list[float] = []

    async def write(created: Json, writer: int) -> None:
        for n in range(case.each):
            # Where a request would be sent: other tasks have their turn.
            await asyncio.sleep(0)
            began = time.monotonic()
            await strategy.record(created, writer, f"503 busy: writer {writer}, attempt {n}")
            waits.append(time.monotonic() - began)

    writes, conflicts = strategy.costs.writes.total(), strategy.costs.conflicts
    began = time.monotonic()
    async with asyncio.timeout(_DEADLINE), asyncio.TaskGroup() as group:
        for created in made:
            for writer in range(case.writers):
                group.create_task(write(created, writer))
    durable = time.monotonic() - began
    await strategy.settle()
    shown = time.monotonic() - began
    total = objects * case.attempts
    lost = 0
    for created in made:
        path = f"{api.requests}/{created['metadata']['name']}"
        status = (await api.ask("GET", path)).body.get("status") or {}
        lines = Counter(a["error"] for a in status.get("deliveryAttempts", ()))
        lost += case.attempts - len(lines)
    return {
        "recorded/s": (total - lost) / durable,
        "shown/s": (total - lost) / shown,
        "lost": lost,
        "writes per attempt": (strategy.costs.writes.total() - writes) / total,
        "conflicts per attempt": (strategy.costs.conflicts - conflicts) / total,
        "send to record p50": percentile(waits, 0.5) * 1000,
        "send to record p99": percentile(waits, 0.99) * 1000,
    }


@asynccontextmanager
async def product(
    plane: ControlPlane,
    redis_url: str,
    *,
    prefix: str = "bench",
    epoch: Epoch = Epoch("0.7"),  # noqa: B008 - a text
    window: float = _WINDOW,
) -> AsyncIterator[Product]:
    """The product's recording side against these servers: log, recorder, cache and sync loop."""
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(
            await KubeClient.connect(str(plane.controller_kubeconfig), user_agent="bench")
        )
        client = LedgerClient(redis_url, prefix=prefix)
        await stack.enter_async_context(beside(client.run()))
        await client.open("bench")
        registry = CollectorRegistry()
        metrics, costs, term = SyncMetrics(registry), Costs(), Ours(epoch)
        recorder = Recorder(
            RedisLog(client), Cache(window=window), LedgerTime(), metrics, identity="bench"
        )
        sync = StatusWriter(recorder, _Counting(kube, costs), term, metrics)
        await stack.enter_async_context(beside(sync.run()))
        yield Product(recorder, term, costs, registry)


async def run(*, quick: bool) -> Report:
    """Measure all four ways in all cases, in turn within each round."""
    scale = QUICK if quick else FULL
    report = Report("strategies")
    report.notes.append(
        f"{scale.objects} objects at once ({scale.objects // 4} with 32 writers); every writer "
        "records its attempts one after the other, "
        "as fast as it can; server-side rules off; Redis with appendfsync everysec"
    )
    report.notes.append("naive: overwrite; A: resourceVersion and retry; B: lock; C: the product")
    async with (
        servers() as (plane, redis, _),
        Api(plane.server, plane.admin_token, plane.ca_file) as api,
    ):
        for number, case in enumerate(CASES):
            # As many requests at once as the API server answers in time, for the naive way too.
            objects = scale.objects if case.writers <= _CROWD else scale.objects // 4
            rounds: dict[str, list[Measured]] = {}
            # The first round warms the servers and is thrown away; once has to do in a quick run.
            for turn in range(1 if quick and number else 0, scale.rounds + 1):
                async with product(plane, redis.url) as own:
                    ways: list[tuple[str, Strategy]] = [
                        ("naive", Naive(api)), ("A", Optimistic(api)),
                        ("B", Serialised(api)), ("C", own),
                    ]  # fmt: skip
                    ways = ways[turn % 4 :] + ways[: turn % 4]
                    for way, strategy in ways:
                        prefix = f"{way.lower()}-{number}-{turn}"
                        done = await measure(api, strategy, case, objects, prefix)
                        if turn:
                            rounds.setdefault(way, []).append(done)
            for way in ("naive", "A", "B", "C"):
                report.rows(_ROWS, rounds[way], f"{case}: {way} ")
            ratios = [
                c["recorded/s"] / a["recorded/s"]
                for a, c in zip(rounds["A"], rounds["C"], strict=True)
            ]
            report.add(f"{case}: recorded/s, C / A", "", ratios)
    return report
