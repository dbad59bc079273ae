"""
What a start finds, and how long it takes to look at all of it: ten thousand, a hundred thousand.

Of the notifications 95 % are finished, marked as published and given their time to live; 5 % wait
for their last attempt, every second one of them due already. Each log holds ten attempts (nine where
one is to come). They are put where they belong without the controller: objects into etcd as the API
server stores them, logs into Redis as the scripts leave them, both made by the product's own fold,
merge and codec. Making them through the API server and the controller would take half an hour.

Then one replica starts, with default settings, and is watched from outside: readiness, its log, the
receiver's clock, its memory and CPU. One run gives one value for each figure.
"""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import redis.asyncio as redis_asyncio

from syncer.ledger.codec import encode_record, stored
from syncer.ledger.reading import snapshot_of
from syncer.model.attempt import (
    Attempt,
    AttemptState,
    Epoch,
    FailureClass,
    make_attempt_id,
)
from syncer.model.record import Header, Plan, Record, attempt_record, intent_record, plan_record
from syncer.model.rendering import render_status
from syncer.model.resource import LogMark, RetryPolicy, Status, parse_object
from syncer.model.times import format_time
from syncer.rules.fold import LogView, fold
from syncer.rules.merge import Facts, merge
from tests.benchmarks.goals import (
    FIRST_DELIVERY,
    START_CPU,
    START_LINEAR,
    START_MEMORY,
    START_SECONDS,
)
from tests.benchmarks.load import (
    Json,
    SteadyReceiver,
    notifier_of,
    pid_of,
    plane_of,
    programs,
)
from tests.benchmarks.report import Report, cpu_seconds, resident_mib
from tests.e2e.harness import CHANNEL, NotifierProcess, Stage, Watcher, until
from tests.integration.api import Api, notification
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary

_EPOCH: Final = Epoch("0.1")
_POLICY: Final = {
    "maxAttempts": 10, "initialBackoffSeconds": 30, "backoffMultiplier": 1,
    "maxBackoffSeconds": 3600,
}  # fmt: skip
#: Of so many, one is unfinished; of those, every second one is due.
_UNFINISHED: Final = 20
_TTL: Final = 7 * 86400
#: Puts in one transaction; etcd allows 128.
_PAGE: Final = 100
_QUIET: Final = 2.0


@dataclass(frozen=True, slots=True)
class Kind:
    """
    What all notifications of a kind have in common.

    Attributes:
        elements: Records as the scripts leave them, the header left out.
        document: The object without its identity.
    """

    elements: tuple[bytes, ...]
    document: Json


@dataclass(frozen=True, slots=True)
class Run:
    """
    What one start came to; seconds count from the start of the process.

    Attributes:
        fill: Seconds of making the objects and the logs.
        ready: Until /readyz said yes.
        first: Until the receiver had the first call; after readiness in `first_after_ready`.
        done: Until everything was looked at.
        cpu: CPU seconds of the process up to then.
        peak: Largest resident MiB up to then.
        after: Resident MiB some seconds later.
        sent: Calls at the receiver at the end.
    """

    fill: float
    ready: float
    first: float
    done: float
    cpu: float
    peak: float
    after: float
    sent: int


class FirstCall(SteadyReceiver):
    """
    Knows when its first call came.

    Attributes:
        first: Monotonic second, 0 while there was none.
    """

    def __init__(self) -> None:
        """Answer 200 after 5 ms."""
        self.first = 0.0
        super().__init__(self._note, delay=0.005)

    def _note(self, _subject: str) -> int:
        self.first = self.first or time.monotonic()
        return 200


# -- what is there ---------------------------------------------------------------------------------


def kind(*, now: int, finished: bool, due: int = 0) -> Kind:
    """
    Make the log and the object of one kind of notification.

    Args:
        now: Unix milliseconds.
        finished: The tenth attempt succeeded; else nine have failed and the tenth is to come.
        due: When it is to come.
    """
    # With the defaults of the definition: a plan has the digest of the spec as it is read.
    document = notification(
        subject="recovery", priority="Medium", retentionDays=7, retryPolicy=_POLICY
    )
    spec = parse_object({**document, "metadata": {"uid": "u", "namespace": "n", "name": "n"}})
    plan = Plan((CHANNEL,), "RoutingFallback", "the default receiver", now, spec.content_hash())
    view, elements = LogView(), []

    def append(record: Record) -> None:
        encoded = encode_record(record)
        after = stored(record, view.chain, view.position + 1)
        head = b" ".join(encoded.split(b" ", 4)[:4]) + b" "
        elements.append(head + f"{after.chain} ".encode() + encoded[len(head) :])
        view.apply(after)

    append(plan_record(plan))
    begin = now - 600_000
    for n in range(1, 11 if finished else 10):
        at = begin + n * 50_000
        identity = make_attempt_id(_EPOCH, n)
        append(intent_record(identity, CHANNEL, at=at, by="bench"))
        failed = Attempt(
            identity, CHANNEL, AttemptState.FAILED, started=at, ended=at + 20, due=at + 50_000,
            duration=20, failure=FailureClass.TRANSIENT, error="503 Service Unavailable", code=503,
        )  # fmt: skip
        if finished and n == 10:
            failed = replace(
                failed, state=AttemptState.SUCCESS, due=0, failure=None, error="", code=200
            )
        elif n == 9 and not finished:
            failed = replace(failed, ended=min(now, due) - 30_000, due=due)
        append(attempt_record(failed))
    records = snapshot_of([Header("n/n", _EPOCH).encode(), *elements]).records
    facts = Facts(1, RetryPolicy(10, 30, 1, 3600))
    mark = LogMark(view.position, _EPOCH, "bench")
    status = merge(Status(), fold(records), facts, now=now, mark=mark).status
    return Kind(tuple(elements), {**document, "status": render_status(status)})


def population(n: int, now: int) -> Iterator[tuple[str, Kind, bool]]:
    """Every notification: uid, kind, and whether it is finished; the kinds are mixed."""
    ended = kind(now=now, finished=True)
    # The last attempt is to come in ten minutes, or was to come ten seconds ago.
    later = kind(now=now, finished=False, due=now + 600_000)
    ready = kind(now=now, finished=False, due=now - 10_000)
    for i in range(n):
        finished = i % _UNFINISHED != 0
        chosen = ended if finished else (later, ready)[i // _UNFINISHED % 2]
        yield str(uuid.uuid4()), chosen, finished


def due_at_start(n: int) -> int:
    """How many of so many notifications have an attempt due when the process starts."""
    return (-(-n // _UNFINISHED)) // 2


async def fill(here: Stage, n: int, *, together: int = _PAGE) -> None:
    """
    Put so many objects into etcd and their logs into Redis.

    Args:
        here: The installation.
        n: How many.
        together: Objects in one transaction. They get the same resourceVersion, and an open watch
            shows only the first of those: use 1 where something watches.
    """
    etcd = f"http://127.0.0.1:{here.plane._recipe.etcd_port}/v3/kv/txn"
    now = round(time.time() * 1000)
    created = format_time(now - 3_600_000, millis=False)
    page: list[tuple[str, Kind, bool]] = []
    done = 0
    timeout = aiohttp.ClientTimeout(total=60)

    async def flush(session: aiohttp.ClientSession) -> None:
        puts = []
        pipeline = here.redis.pipeline(transaction=False)
        for index, (uid, what, finished) in enumerate(page, done):
            name = f"n-{index:06}"
            put = put_of(here.namespace, name, uid, what.document, created=created)
            puts.append({"requestPut": put})
            end = len(what.elements)
            header = Header(f"{here.namespace}/{name}", _EPOCH, end, end).encode()
            log = f"{here.prefix}:{{{uid}}}"
            pipeline.rpush(log, header, *what.elements)
            if finished:
                pipeline.expire(log, _TTL)

        async def objects() -> None:
            async with session.post(etcd, json={"success": puts}) as answer:
                body = await answer.json(content_type=None)
                if answer.status != 200 or not body.get("succeeded"):
                    raise RuntimeError(f"etcd answers {answer.status} {str(body)[:200]}")

        await asyncio.gather(objects(), pipeline.execute())

    async with aiohttp.ClientSession(timeout=timeout) as session:
        for one in population(n, now):
            page.append(one)
            if len(page) == together:
                await flush(session)
                done += len(page)
                page.clear()
        if page:
            await flush(session)


def put_of(namespace: str, name: str, uid: str, document: Json, *, created: str) -> Json:
    """
    What to ask etcd's gateway for, so that it holds an object as the API server would store it.

    Args:
        namespace: Of the object.
        name: Of the object.
        uid: Of the object.
        document: The object without its metadata.
        created: Its time of creation, as the API server writes it.
    """
    meta = {
        "name": name, "namespace": namespace, "uid": uid, "generation": 1,
        "creationTimestamp": created,
    }  # fmt: skip
    key = f"/registry/kubernaut.ai/notificationrequests/{namespace}/{name}"
    value = json.dumps({**document, "metadata": meta}, separators=(",", ":"))
    return {"key": _b64(key), "value": _b64(value)}


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# -- the start --------------------------------------------------------------------------------------


@asynccontextmanager
async def _stage(
    plane: ControlPlane, redis_url: str, folder: Path, receiver: FirstCall
) -> AsyncIterator[Stage]:
    """Set up an installation like any other's, but nobody watches a hundred thousand objects."""
    name = f"recovery-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(plane.api.create_namespace, name)
    await asyncio.to_thread(folder.mkdir)
    client = redis_asyncio.Redis.from_url(redis_url, socket_timeout=30, socket_connect_timeout=5)
    async with Api(plane.server, plane.admin_token, plane.ca_file, namespace=name) as api:
        made = Stage(plane, name, redis_url, name, folder, receiver, api, Watcher(api), client)
        try:
            yield made
        finally:
            for process in made.processes:
                await asyncio.to_thread(process.kill)
            await receiver.close()
            await client.aclose()


async def _start(here: Stage, process: NotifierProcess, receiver: FirstCall, n: int) -> Run:
    began = time.monotonic()
    process.start()
    pid = pid_of(process)
    ready, peak, done, cpu = 0.0, 0.0, 0.0, 0.0
    while not (ready and done and receiver.count >= due_at_start(n)):
        process._must_run("done")
        if time.monotonic() - began > 300:
            raise AssertionError(f"not done: {receiver.count} calls; {process.tail()}")
        peak = max(peak, resident_mib(pid))
        if not ready and (await process.ask("/readyz"))[0] == 200:
            ready = time.monotonic() - began
        if not done and (lines := process.lines("start-up reconciliation done")):
            # The line's own stamp, not the time of its discovery.
            done = _stamp(lines[0]) - time.time() + time.monotonic() - began
            cpu = cpu_seconds(pid)
        await asyncio.sleep(0.1)
    await asyncio.sleep(_QUIET)
    await until(
        lambda: receiver.count == due_at_start(n),
        lambda: f"{due_at_start(n)} calls, there are {receiver.count}",
        within=5,
    )  # fmt: skip
    finished, live = 0.0, 0.0
    for _ in range(20):
        # Two questions: one may have finished between them.
        finished = await process.metric("notification_ledger_finished_notifications")
        live = await process.metric("notification_ledger_live_notifications")
        if finished + live == n:
            break
    assert finished + live == n, f"{finished:g} finished and {live:g} live of {n}"
    return Run(
        0.0, ready, receiver.first - began, done, cpu, peak, resident_mib(pid), receiver.count
    )


def _stamp(line: Json) -> float:
    return datetime.fromisoformat(line["timestamp"]).astimezone(UTC).timestamp()


async def measure(plane: ControlPlane, redis_url: str, folder: Path, n: int) -> Run:
    """Fill an installation with so many notifications and start a replica on it."""
    receiver = FirstCall()
    await receiver.start()
    async with _stage(plane, redis_url, folder, receiver) as here:
        began = time.monotonic()
        await fill(here, n)
        filled = time.monotonic() - began
        await until(
            lambda: put_in(here, n), f"the API server has taken in {n}", within=120, every=0.5
        )
        await asyncio.sleep(_QUIET)
        return replace(await _start(here, notifier_of(here), receiver, n), fill=filled)


async def put_in(here: Stage, n: int) -> bool:
    """Whether the API server's cache, too, has what was put into etcd behind its back."""
    first = await here.api.ask("GET", f"{here.api.requests}?limit=1")
    if first.code != 200 or first.body["metadata"].get("remainingItemCount", 0) + 1 != n:
        return False
    query = f"resourceVersion={first.revision}&resourceVersionMatch=NotOlderThan&labelSelector=a"
    return (await here.api.ask("GET", f"{here.api.requests}?{query}")).code == 200


async def run(*, quick: bool) -> Report:
    """Start on two sizes, or on one small one."""
    sizes: Sequence[int] = (2_000,) if quick else (10_000, 100_000)
    return await report_of(sizes)


async def report_of(sizes: Sequence[int]) -> Report:
    """Start on these sizes, the smallest first; each on servers of its own."""
    report = Report("recovery")
    report.notes.append(
        "95 % finished and marked, 5 % unfinished, half of those due; ten attempts in each log; "
        "one replica, default settings; objects are put straight into etcd, logs into Redis"
    )
    runs: list[tuple[int, Run]] = []
    assets = await programs()
    for n in sizes:
        async with (
            plane_of(assets) as plane,
            RedisServer(find_binary("redis-server")) as redis,
        ):
            with tempfile.TemporaryDirectory(prefix="bench-") as name:
                got = await measure(plane, redis.url, Path(name) / "stage", n)
        runs.append((n, got))
        at = f"{n:,} notifications"
        largest = n == 100_000
        report.add(f"{at}: all looked at", "s", [got.done], START_SECONDS if largest else None)
        report.add(f"{at}: ready", "s", [got.ready])
        report.add(f"{at}: first pending delivery", "s", [got.first], FIRST_DELIVERY)
        report.add(f"{at}: CPU until all looked at", "s", [got.cpu], START_CPU if largest else None)
        report.add(f"{at}: resident, largest", "MiB", [got.peak], START_MEMORY if largest else None)
        report.add(f"{at}: resident, after", "MiB", [got.after])
        report.add(f"{at}: filling", "s", [got.fill])
        report.add(f"{at}: attempts made after the start", "", [got.sent])
    if len(runs) > 1:
        (few, small), (many, large) = runs[0], runs[-1]
        report.add(
            f"CPU per notification, {many:,} / {few:,}", "",
            [(large.cpu / many) / (small.cpu / few)], START_LINEAR,
        )  # fmt: skip
    return report
