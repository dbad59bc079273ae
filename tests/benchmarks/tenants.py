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
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.benchmarks.isolation import TwoReceivers
from tests.benchmarks.load import (
    at_rate,
    at_rest,
    create_all,
    on_servers,
    progress,
    routing_notifier,
    serving,
)
from tests.benchmarks.report import Measured, Report
from tests.benchmarks.watching import WAITS, FinalWatcher, waits, watched
from tests.e2e.harness import NotifierProcess, Stage, create_notification, stage, until
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane

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


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a block takes place: the installation that is measured, and everybody's processes."""

    here: Stage
    watcher: FinalWatcher
    receiver: TwoReceivers
    processes: Sequence[NotifierProcess]
    crowds: dict[Kind, Api]


#: What a block tells beside the waits: how much of the crowd there was at its end.
_CREATED: Final = "created before the last of the others was received"
_SERVED: Final = "received before the last of the others"


async def _block(place: _Place, scale: Scale, label: str, kind: Kind) -> Measured:
    here, receiver, crowd = place.here, place.receiver, place.crowds[kind]
    names = [f"{label}-steady-{n}" for n in range(int(scale.rate * scale.seconds))]
    others = [f"{label}-crowd-{n}" for n in range(scale.crowd)]
    creating = asyncio.create_task(create_all(crowd, others))
    made: dict[str, float] = {}

    async def create(name: str) -> None:
        await create_notification(here.api, name)
        made[name] = time.monotonic()

    await at_rate(create, names, scale.rate)
    arrived, shown = receiver.arrived, place.watcher.shown
    await until(
        lambda: all(n in arrived and n in shown for n in names),
        lambda: f"all are received; {here.processes[-1].tail()}",
        within=120,
    )
    measured = {
        **waits(
            [max(0.0, arrived[n] - made[n]) for n in names],
            [max(0.0, min(shown[n], arrived[n]) - made[n]) for n in names],
        ),
        _SERVED: float(sum(n in arrived for n in others)),
        _CREATED: float(await _count(crowd)),
    }
    creating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await creating
    await _clear(crowd, here.api)
    for process in place.processes:
        await at_rest(process, 240, live_notifications=0)
    progress(
        "tenants",
        f"{label}, {kind}: p50 {measured['p50']:.0f} ms, p99 {measured['p99']:.0f} ms; of {scale.crowd} "
        f"{measured[_CREATED]:g} created, {measured[_SERVED]:g} received",
    )
    return measured


async def _count(api: Api) -> int:
    answer = await api.ask("GET", f"{api.requests}?limit=1")
    assert answer.code == 200, answer.body
    left = answer.body["metadata"].get("remainingItemCount", 0)
    return len(answer.body["items"]) + int(left)


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
) -> list[dict[Kind, Measured]]:
    """Rounds of a block of each kind."""
    receiver = TwoReceivers(_ANSWER_AFTER)
    rounds: list[dict[Kind, Measured]] = []
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        here, watcher = await enter(watched(plane, redis_url, folder / "here", receiver))
        there = await enter(stage(plane, redis_url, folder / "there", sampled=False))
        crowds: dict[Kind, Api] = {}
        for kind in Kind:
            name = f"{here.namespace}-{kind.name.lower()}"
            await asyncio.to_thread(plane.api.create_namespace, name)
            crowds[kind] = await enter(Api(plane.server, plane.admin_token, plane.ca_file, name))
        processes = [
            await serving(
                routing_notifier(
                    installation, receiver, ["steady"],
                    controller={"namespaces": [installation.namespace, crowds[kind].namespace]},
                )
            )
            for installation, kind in ((here, Kind.BESIDE), (there, Kind.ANOTHER))
        ]  # fmt: skip
        place = _Place(here, watcher, receiver, processes, crowds)
        for kind in (Kind.ANOTHER, Kind.BESIDE):
            warm = Scale(1, min(100, scale.crowd), 2.0, scale.rate)
            await _block(place, warm, f"warm-{kind.name.lower()}", kind)
        began = time.monotonic()
        for n in range(scale.rounds):
            if time.monotonic() > began + _LAST_ROUND:
                progress("tenants", f"no time for more than {n} of {scale.rounds} rounds")
                break
            found: dict[Kind, Measured] = {}
            for kind in Kind if n % 2 else reversed(Kind):
                found[kind] = await _block(place, scale, f"r{n}-{kind.name.lower()}", kind)
            rounds.append(found)
    return rounds


def told(rounds: Sequence[dict[Kind, Measured]], scale: Scale) -> Report:
    """The report of some rounds."""
    report = Report("tenants")
    report.notes.append(
        f"{len(rounds)} rounds of a block of each kind, {scale.seconds:g} s each, {scale.rate:g}/s; "
        f"{scale.crowd} created at once in another namespace; default settings, Events and audit off"
    )
    report.notes.append("from the answer to the creation of a notification until received")
    p99 = {kind: [r[kind]["p99"] for r in rounds] for kind in Kind}
    for words, other in (
        ("elsewhere", Kind.ELSEWHERE), ("served by another installation", Kind.ANOTHER)
    ):  # fmt: skip
        ratios = [a / b for a, b in zip(p99[Kind.BESIDE], p99[other], strict=True)]
        report.add(f"p99, crowd beside / {words}", "", ratios)
    if len(rounds) > 1:
        same = [b / a for a, b in itertools.pairwise(p99[Kind.ELSEWHERE])]
        report.add("p99, elsewhere / elsewhere (the noise)", "", same)
    for kind in Kind:
        blocks = [r[kind] for r in rounds]
        served = {} if kind is Kind.ELSEWHERE else {_SERVED: ""}
        report.rows({**WAITS, _CREATED: "", **served}, blocks, f"{kind}: ")
        created = statistics.median(b[_CREATED] for b in blocks)
        if created < scale.crowd:
            report.notes.append(
                f"{kind}: the API server took {created / scale.seconds:.0f} "
                "creations a second, so the crowd was not complete within a block"
            )
    return report


run: Final = on_servers(measure, told, full=FULL, quick=QUICK)
