"""
What one author who creates thousands at once costs the others.

Notifications of one namespace arrive at a steady rate, and meanwhile a crowd is created at once in
another namespace: in the blocks *beside* one that the same controller serves, in the blocks *elsewhere*
one that nobody serves. In a third kind the crowd is served by *another installation* beside it, with
processes of its own: the API server, etcd, Redis, the receiver and this program then have the same to do
as in the blocks beside, and what others wait there is what the machine takes from them; the difference is
what they wait for because they share the controller. All go to one receiver that takes its time, so that
the crowd waits there for most of a block and both want the same places; were the receiver quick, the
processor would be what they share, and nothing would wait in a queue for long. Blocks take turns, in one
order and then in the other.

Measured is the time from the moment at which the creation of a notification of the steady namespace is
answered until the receiver has read its call: what the API server takes to create it among thousands is
not the controller's. Where the call is quicker than the answer, that is 0. An independent watch tells
when the API server has shown it to anybody, which divides the time in two. How far two blocks of the
*same* kind lie apart is in the table too.

A block ends when the last of the steady ones is received; what is left of the crowd is deleted then. No
round begins after `_LAST_ROUND`, so that a slow machine makes fewer rounds, and not a run without an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.goals import FAIR
from tests.benchmarks.isolation import TwoReceivers
from tests.benchmarks.load import SETTINGS, create_all, progress, servers
from tests.benchmarks.report import Report, percentile
from tests.benchmarks.watching import FinalWatcher, watched
from tests.e2e.harness import NotifierProcess, Stage, create_notification, stage, until
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane

Json = dict[str, Any]

#: Seconds; 32 places then let 128 calls a second through.
_ANSWER_AFTER: Final = 0.25
#: Seconds from the first block on after which no further round begins.
_LAST_ROUND: Final = 360.0
#: A client waits for 20 s, which a busy API server needs to delete some thousands.
_DELETED_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        rounds: Blocks of each kind that are compared, at most.
        crowd: Notifications created at once in each block.
        seconds: For how long the steady ones arrive.
        rate: Of them per second.
    """

    rounds: int = 3
    crowd: int = 5000
    seconds: float = 20.0
    rate: float = 20.0


FULL: Final = Scale()
QUICK: Final = Scale(rounds=2, crowd=600, seconds=5.0)


class Kind(StrEnum):
    """Who serves the crowd."""

    ELSEWHERE = "crowd elsewhere"
    ANOTHER = "crowd served by another installation"
    BESIDE = "crowd beside"


@dataclass(slots=True)
class Block:
    """
    What one block came to.

    Attributes:
        kind: Who served the crowd.
        delays: Seconds from created to received, for each steady notification.
        shown: The part of it until an independent watch showed the object, 0 where that was quicker.
        served: How many of the crowd had been received when the last steady one was.
        created: How many of the crowd had been created by then.
    """

    kind: Kind
    delays: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    served: int = 0
    created: int = 0

    @property
    def p99(self) -> float:
        """The 99th percentile in ms."""
        return percentile(self.delays, 0.99) * 1000

    @property
    def p50(self) -> float:
        """The median in ms."""
        return percentile(self.delays, 0.5) * 1000

    @property
    def p99_shown(self) -> float:
        """The 99th percentile of what passed until the API server had shown it, in ms."""
        return percentile(self.shown, 0.99) * 1000

    @property
    def p99_after(self) -> float:
        """The 99th percentile of what passed from then on, in ms."""
        after = [max(0.0, d - s) for d, s in zip(self.delays, self.shown, strict=True)]
        return percentile(after, 0.99) * 1000


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a block takes place: the installation that is measured, and everybody's processes."""

    here: Stage
    watcher: FinalWatcher
    receiver: TwoReceivers
    processes: tuple[NotifierProcess, ...]
    crowds: dict[Kind, Api]


def _notifier(here: Stage, receiver: TwoReceivers, *more: str) -> NotifierProcess:
    """A notifier with default settings that serves its own namespace and these."""
    credentials = here.folder / "credentials"
    process = here.notifier(
        to="slack",
        **SETTINGS,
        delivery={"slack": {"timeout": "10s"}, "credentials": {"dir": str(credentials)}},
        controller={"namespaces": [here.namespace, *more]},
    )
    (credentials / "steady").write_text(receiver.address("steady"))
    (here.folder / "routing.yaml").write_text(
        json.dumps({
            "route": {"receiver": "steady"},
            "receivers": [{"name": "steady", "slackConfigs": [{"credentialRef": "steady"}]}],
        })
    )  # fmt: skip
    return process


async def _block(place: _Place, scale: Scale, label: str, kind: Kind) -> Block:
    here, receiver, crowd = place.here, place.receiver, place.crowds[kind]
    names = [f"{label}-steady-{n}" for n in range(int(scale.rate * scale.seconds))]
    others = [f"{label}-crowd-{n}" for n in range(scale.crowd)]
    creating = asyncio.create_task(create_all(crowd, others))
    made: dict[str, float] = {}

    async def create(name: str) -> None:
        await create_notification(here.api, name)
        made[name] = time.monotonic()

    begin = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for n, name in enumerate(names):
            await asyncio.sleep(begin + n / scale.rate - time.monotonic())
            group.create_task(create(name))
    await until(
        lambda: all(n in receiver.arrived and n in place.watcher.shown for n in names),
        lambda: f"all are received; {here.processes[-1].tail()}",
        within=120,
    )
    block = Block(
        kind,
        [max(0.0, receiver.arrived[n] - made[n]) for n in names],
        [max(0.0, place.watcher.shown[n] - made[n]) for n in names],
        sum(n in receiver.arrived for n in others),
        await _count(crowd),
    )
    creating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await creating
    await _clear(crowd, here.api)
    await _quiet(place.processes)
    progress(
        "tenants",
        f"{label}, {kind}: p50 {block.p50:.0f} ms, p99 {block.p99:.0f} ms; of {scale.crowd} "
        f"{block.created} created, {block.served} received; {time.monotonic() - begin:.0f} s",
    )
    return block


async def _count(api: Api) -> int:
    answer = await api.ask("GET", f"{api.requests}?limit=1")
    assert answer.code == 200, answer.body
    left = answer.body["metadata"].get("remainingItemCount", 0)
    return len(answer.body["items"]) + int(left)


async def _quiet(processes: Sequence[NotifierProcess]) -> None:
    """Wait until nothing of a block is in anybody's hands."""

    async def idle() -> bool:
        live = [await p.metric("notification_ledger_live_notifications") for p in processes]
        return not any(live)

    await until(
        idle, lambda: f"all is let go; {processes[0].tail()}", within=240, every=0.5
    )  # fmt: skip


async def _clear(*apis: Api) -> None:
    """Delete what is left of a block, a page at a time; a creation that was broken off may come in late."""

    async def empty() -> bool:
        for api in apis:
            answer = await api.ask("DELETE", f"{api.requests}?limit={_DELETED_AT_ONCE}")
            assert answer.code == 200, answer.body
        return not any([await _count(api) for api in apis])

    await until(empty, "all objects are gone", within=240, every=0.1)


async def measure(
    plane: ControlPlane, redis_url: str, folder: Path, scale: Scale
) -> list[dict[Kind, Block]]:
    """Rounds of a block of each kind."""
    receiver = TwoReceivers()
    receiver.answer_after = _ANSWER_AFTER
    rounds: list[dict[Kind, Block]] = []
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        here, watcher = await enter(watched(plane, redis_url, folder / "here", receiver))
        there = await enter(stage(plane, redis_url, folder / "there", sampled=False))
        crowds: dict[Kind, Api] = {}
        for kind in Kind:
            name = f"{here.namespace}-{kind.name.lower()}"
            await asyncio.to_thread(plane.api.create_namespace, name)
            crowds[kind] = await enter(Api(plane.server, plane.admin_token, plane.ca_file, name))
        processes = (
            _notifier(here, receiver, crowds[Kind.BESIDE].namespace),
            _notifier(there, receiver, crowds[Kind.ANOTHER].namespace),
        )
        for process in processes:
            process.start()
            await process.wait_ready()
            await process.seconds_to_acquire()
        place = _Place(here, watcher, receiver, processes, crowds)
        for kind in (Kind.ANOTHER, Kind.BESIDE):
            warm = Scale(1, min(100, scale.crowd), 2.0, scale.rate)
            await _block(place, warm, f"warm-{kind.name.lower()}", kind)
        began = time.monotonic()
        for n in range(scale.rounds):
            if time.monotonic() > began + _LAST_ROUND:
                progress("tenants", f"no time for more than {n} of {scale.rounds} rounds")
                break
            found: dict[Kind, Block] = {}
            for kind in Kind if n % 2 else reversed(Kind):
                found[kind] = await _block(place, scale, f"r{n}-{kind.name.lower()}", kind)
            rounds.append(found)
    return rounds


def told(rounds: Sequence[dict[Kind, Block]], scale: Scale) -> Report:
    """The report of some rounds."""
    report = Report("tenants")
    report.notes.append(
        f"{len(rounds)} rounds of a block of each kind, {scale.seconds:g} s each, {scale.rate:g}/s; "
        f"{scale.crowd} created at once in another namespace; default settings, Events and audit off"
    )
    report.notes.append("from the answer to the creation of a notification until received")
    for kind in Kind:
        report.add(f"{kind}: p50", "ms", [r[kind].p50 for r in rounds])
    for kind in Kind:
        report.add(f"{kind}: p99", "ms", [r[kind].p99 for r in rounds])
    p99 = [{kind: block.p99 for kind, block in r.items()} for r in rounds]
    report.add(
        "p99, crowd beside / elsewhere", "", [r[Kind.BESIDE] / r[Kind.ELSEWHERE] for r in p99], FAIR
    )
    report.add(
        "p99, crowd beside / served by another installation", "",
        [r[Kind.BESIDE] / r[Kind.ANOTHER] for r in p99],
    )  # fmt: skip
    if len(rounds) > 1:
        same = [b[Kind.ELSEWHERE] / a[Kind.ELSEWHERE] for a, b in itertools.pairwise(p99)]
        report.add("p99, elsewhere / elsewhere (the noise)", "", same)
    for kind in Kind:
        shown = [r[kind].p99_shown for r in rounds]
        report.add(f"{kind}: p99 until the API server has shown it", "ms", shown)
    for kind in Kind:
        after = [r[kind].p99_after for r in rounds]
        report.add(f"{kind}: p99 from then until received", "ms", after)
    for kind in Kind:
        created = [float(r[kind].created) for r in rounds]
        report.add(f"{kind}: created before the last of the others was received", "", created)
        if statistics.median(created) < scale.crowd:
            report.notes.append(
                f"{kind}: the API server took {statistics.median(created) / scale.seconds:.0f} "
                "creations a second, so the crowd was not complete within a block"
            )
    for kind in (Kind.ANOTHER, Kind.BESIDE):
        served = [float(r[kind].served) for r in rounds]
        report.add(f"{kind}: received before the last of the others", "", served)
    return report


async def run(*, quick: bool) -> Report:
    """Measure on servers of its own."""
    scale = QUICK if quick else FULL
    async with servers() as (plane, redis, folder):
        rounds = await measure(plane, redis.url, folder / "stage", scale)
    return told(rounds, scale)
