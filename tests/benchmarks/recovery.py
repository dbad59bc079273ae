"""
What a start finds, and how long it takes to look at all of it: ten thousand, a hundred thousand.

Of the notifications 95 % are finished, marked as published and given their time to live; 5 % wait
for their last attempt, every second one of them due already. Each log holds ten attempts (nine where
one is to come). They are put where they belong without the controller: objects into etcd as the API
server stores them, logs into Redis as the scripts leave them, both made by the product's own fold,
merge and codec. Making them through the API server and the controller would take half an hour.

Each size is looked at twice: with the definition of the chart, which lets the phase be selected, and with
Kubernaut's, which does not, so that every unfinished object is read by itself.

Then one replica starts, with default settings, and is watched from outside: readiness, its log, the
receiver's clock, its memory and CPU. One run gives one value for each figure.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from syncer.ledger.codec import encode_element, stored
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
from syncer.rules.fold import LogView
from syncer.rules.merge import Facts, merge
from tests.benchmarks.load import SteadyReceiver, notifier_of, pid_of, servers
from tests.benchmarks.report import Json, Report, cpu_seconds, resident_mib
from tests.benchmarks.watching import unwatched
from tests.e2e.harness import CHANNEL, NotifierProcess, Stage, _stamp, until
from tests.integration.api import notification
from tests.servers.controlplane import ControlPlane
from tests.servers.definition import load_crd, serve, upstream_form

EPOCH: Final = Epoch("0.1")
_POLICY: Final = {
    "maxAttempts": 10, "initialBackoffSeconds": 30, "backoffMultiplier": 1,
    "maxBackoffSeconds": 3600,
}  # fmt: skip
#: Of so many, one is unfinished; of those, every second one is due.
_UNFINISHED: Final = 20
TTL: Final = 7 * 86400
#: Puts in one transaction; etcd allows 128.
PAGE: Final = 100
_QUIET: Final = 2.0


@dataclass(frozen=True, slots=True)
class Kind:
    """
    What all notifications of a kind have in common.

    Attributes:
        elements: Records as the scripts leave them, the header left out.
        document: The object without its identity.
        finished: It has ended.
    """

    elements: Sequence[bytes]
    document: Json
    finished: bool


#: What one start tells, with units; seconds count from the start of the process.
_ROWS: Final = {
    "all looked at": "s",
    "ready": "s",
    "first pending delivery": "s",
    "CPU until all looked at": "s",
    "resident, largest": "MiB",
    "resident, after": "MiB",
    "filling": "s",
    "attempts made after the start": "",
}


class FirstCall(SteadyReceiver):
    """
    Knows when its first call came.

    Attributes:
        first: Monotonic second, 0 while there was none.
    """

    def __init__(self) -> None:
        """Answer 200 after 5 ms."""
        self.first = 0.0
        super().__init__(self._note)

    def _note(self, _subject: str) -> int:
        self.first = self.first or time.monotonic()
        return 200


# -- what is there ---------------------------------------------------------------------------------


def encoded(records: Iterable[Record]) -> tuple[list[bytes], LogView]:
    """Elements of a log as the scripts leave them, the header left out, and its fold."""
    view, elements = LogView(), []
    for record in records:
        elements.append(encode_element(record, view.chain))
        view.apply(stored(record, view.chain, view.position + 1))
    return elements, view


def made_of(document: Json, records: Sequence[Record], policy: RetryPolicy, now: int) -> Kind:
    """A log, and the object that shows all of it, which is finished if they have ended it."""
    elements, view = encoded(records)
    mark = LogMark(view.position, EPOCH, "bench")
    status = merge(Status(), view, Facts(1, policy), now=now, mark=mark).status
    return Kind(elements, {**document, "status": render_status(status)}, status.terminal)


def hash_of(document: Json) -> str:
    """The digest of an object's content, as its plan has it."""
    named = {**document, "metadata": {"uid": "u", "namespace": "n", "name": "n"}}
    return parse_object(named).content_hash()


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
    digest = hash_of(document)
    records = [
        plan_record(Plan((CHANNEL,), "RoutingFallback", "the default receiver", now, digest))
    ]
    for n in range(1, 11 if finished else 10):
        at = now - 600_000 + n * 50_000
        identity = make_attempt_id(EPOCH, n)
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
        records += [intent_record(identity, CHANNEL, at=at, by="bench"), attempt_record(failed)]
    made = made_of(document, records, RetryPolicy(10, 30, 1, 3600), now)
    assert made.finished is finished
    return made


def population(n: int, now: int) -> Iterator[tuple[str, Kind]]:
    """Name and kind of every notification; the kinds are mixed."""
    ended = kind(now=now, finished=True)
    # The last attempt is to come in ten minutes, or was to come ten seconds ago.
    later = kind(now=now, finished=False, due=now + 600_000)
    ready = kind(now=now, finished=False, due=now - 10_000)
    for i in range(n):
        waits = (later, ready)[i // _UNFINISHED % 2]
        yield f"n-{i:06}", ended if i % _UNFINISHED else waits


def due_at_start(n: int) -> int:
    """How many of so many notifications have an attempt due when the process starts."""
    return (-(-n // _UNFINISHED)) // 2


async def fill(here: Stage, n: int, *, together: int = PAGE) -> None:
    """
    Put so many objects into etcd and their logs into Redis.

    Args:
        here: The installation.
        n: How many.
        together: Objects in one transaction. They get the same resourceVersion, and an open watch
            shows only the first of those: use 1 where something watches.
    """
    await put(here, population(n, round(time.time() * 1000)), together=together)


async def put(here: Stage, made: Iterable[tuple[str, Kind]], *, together: int = PAGE) -> None:
    """Put objects with these names into etcd and their logs into Redis; see `fill`."""
    created = format_time(round(time.time() * 1000) - 3_600_000, millis=False)
    waiting = iter(made)
    while page := list(itertools.islice(waiting, together)):
        puts = []
        pipeline = here.redis.pipeline(transaction=False)
        for name, what in page:
            uid = str(uuid.uuid4())
            one = put_of(here.namespace, name, uid, what.document, created=created)
            puts.append({"requestPut": one})
            end = len(what.elements)
            header = Header(f"{here.namespace}/{name}", EPOCH, end, end).encode()
            log = f"{here.prefix}:{{{uid}}}"
            pipeline.rpush(log, header, *what.elements)
            if what.finished:
                pipeline.expire(log, TTL)
        done, _ = await asyncio.gather(
            here.plane.etcd("kv/txn", {"success": puts}), pipeline.execute()
        )
        assert done["succeeded"], done


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
    return {
        name: base64.b64encode(text.encode()).decode()
        for name, text in (("key", key), ("value", value))
    }


# -- the start --------------------------------------------------------------------------------------


async def _start(
    here: Stage, process: NotifierProcess, receiver: FirstCall, n: int
) -> dict[str, float]:
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
    return {
        "all looked at": done,
        "ready": ready,
        "first pending delivery": receiver.first - began,
        "CPU until all looked at": cpu,
        "resident, largest": peak,
        "resident, after": resident_mib(pid),
        "attempts made after the start": receiver.count,
    }


async def measure(plane: ControlPlane, redis_url: str, folder: Path, n: int) -> dict[str, float]:
    """Fill an installation with so many notifications and start a replica on it."""
    receiver = FirstCall()
    async with unwatched(plane, redis_url, folder, receiver) as here:
        began = time.monotonic()
        await fill(here, n)
        filled = time.monotonic() - began
        await until(
            lambda: put_in(here, n), f"the API server has taken in {n}", within=120, every=0.5
        )
        await asyncio.sleep(_QUIET)
        return {"filling": filled, **await _start(here, notifier_of(here), receiver, n)}


async def put_in(here: Stage, n: int) -> bool:
    """Whether the API server's cache, too, has what was put into etcd behind its back."""
    first = await here.api.ask("GET", f"{here.api.requests}?limit=1")
    if first.code != 200 or first.body["metadata"].get("remainingItemCount", 0) + 1 != n:
        return False
    query = f"resourceVersion={first.revision}&resourceVersionMatch=NotOlderThan&labelSelector=a"
    return (await here.api.ask("GET", f"{here.api.requests}?{query}")).code == 200


async def run(*, quick: bool) -> Report:
    """Start on two sizes, or on one small one, each on servers of its own."""
    report = Report("recovery")
    report.notes.append(
        "95 % finished and marked, 5 % unfinished, half of those due; ten attempts in each log; "
        "one replica, default settings; objects are put straight into etcd, logs into Redis"
    )
    costs: dict[int, float] = {}
    for n in (2_000,) if quick else (10_000, 100_000):
        for form, of in ((load_crd, ""), (upstream_form, ", Kubernaut's definition")):
            async with servers() as (plane, redis, folder):
                await asyncio.to_thread(serve, plane, form())
                found = await measure(plane, redis.url, folder / "stage", n)
            report.rows(_ROWS, [found], f"{n:,} notifications{of}: ")
            costs.setdefault(n, found["CPU until all looked at"] / n)
    if len(costs) > 1:
        (few, small), (many, large) = costs.items()
        report.add(f"CPU per notification, {many:,} / {few:,}", "", [large / small])
    return report
