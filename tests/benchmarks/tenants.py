"""
What one author who creates thousands at once costs the others.

Notifications of one namespace arrive at a steady rate, and meanwhile a crowd is created at once in
another namespace: in the blocks *beside* one that the controller serves, in the blocks *elsewhere* one
that it does not watch. So the API server, etcd and this program have the same to do in both kinds, and
the difference is what the crowd takes from the others inside the controller. All go to one receiver that
takes its time, so that the crowd waits there for most of a block and both want the same places; were the
receiver quick, the processor would be what they share, and nothing would wait in a queue for long. Blocks
take turns, first one kind first, then the other.

Measured is the time from the moment at which the creation of a notification of the steady namespace is
answered until the receiver has read its call: what the API server takes to create it among thousands is
not the controller's. Where the call is quicker than the answer, that is 0. How far two blocks of the
*same* kind lie apart is in the table too.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.goals import FAIR
from tests.benchmarks.isolation import TwoReceivers
from tests.benchmarks.load import SETTINGS, create_all, plane_of, programs
from tests.benchmarks.report import Report, percentile
from tests.e2e.harness import NotifierProcess, Stage, create_notification, stage, until
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary

Json = dict[str, Any]

#: Seconds; 32 places then let 128 calls a second through.
_ANSWER_AFTER: Final = 0.25


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        rounds: Pairs of p99 that are compared.
        crowd: Notifications created at once in each block.
        seconds: For how long the steady ones arrive.
        rate: Of them per second.
    """

    rounds: int = 4
    crowd: int = 5000
    seconds: float = 20.0
    rate: float = 20.0


FULL: Final = Scale()
QUICK: Final = Scale(rounds=2, crowd=600, seconds=5.0)


@dataclass(slots=True)
class Block:
    """
    What one block came to.

    Attributes:
        beside: Whether the controller serves the crowd.
        delays: Seconds from created to received, for each steady notification.
        served: How many of the crowd had been received when the last steady one was.
    """

    beside: bool
    delays: list[float] = field(default_factory=list)
    served: int = 0

    @property
    def p99(self) -> float:
        """The 99th percentile in ms."""
        return percentile(self.delays, 0.99) * 1000

    @property
    def p50(self) -> float:
        """The median in ms."""
        return percentile(self.delays, 0.5) * 1000


def _notifier(here: Stage, receiver: TwoReceivers, crowd: str) -> NotifierProcess:
    """A notifier with default settings that serves two namespaces."""
    credentials = here.folder / "credentials"
    process = here.notifier(
        to="slack",
        **SETTINGS,
        delivery={"slack": {"timeout": "10s"}, "credentials": {"dir": str(credentials)}},
        controller={"namespaces": [here.namespace, crowd]},
    )
    (credentials / "steady").write_text(receiver.address("steady"))
    (here.folder / "routing.yaml").write_text(
        json.dumps({
            "route": {"receiver": "steady"},
            "receivers": [{"name": "steady", "slackConfigs": [{"credentialRef": "steady"}]}],
        })
    )  # fmt: skip
    return process


async def _block(
    here: Stage, receiver: TwoReceivers, crowd: Api, scale: Scale, label: str, *, beside: bool
) -> Block:
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
        lambda: all(n in receiver.arrived for n in names),
        lambda: f"all are received; {here.processes[-1].tail()}",
        within=120,
    )
    block = Block(beside, [max(0.0, receiver.arrived[n] - made[n]) for n in names])
    block.served = sum(n in receiver.arrived for n in others)
    await creating
    if beside:
        await until(
            lambda: all(n in receiver.arrived for n in others),
            lambda: f"the crowd is received; {here.processes[-1].tail()}",
            within=240,
            every=0.2,
        )
        await _quiet(here.processes[-1])
    for api in (crowd, here.api):
        answer = await api.ask("DELETE", api.requests)
        assert answer.code == 200, answer.body
    await _gone(crowd, here.api)
    return block


async def _quiet(process: NotifierProcess) -> None:
    """Wait until everything that was delivered is published."""

    async def idle() -> bool:
        return await process.metric("notification_ledger_live_notifications") == 0

    await until(idle, lambda: f"all is published; {process.tail()}", within=240, every=0.5)


async def _gone(*apis: Api) -> None:
    """Wait until nothing is left of a block."""

    async def empty() -> bool:
        answers = [await api.ask("GET", f"{api.requests}?limit=1") for api in apis]
        return not any(answer.body["items"] for answer in answers)

    await until(empty, "all objects are gone", within=120, every=0.5)


async def measure(
    plane: ControlPlane, redis_url: str, folder: Path, scale: Scale
) -> list[tuple[Block, Block]]:
    """Rounds: the block whose crowd is elsewhere, and the one whose crowd is served."""
    receiver = TwoReceivers()
    receiver.answer_after = _ANSWER_AFTER
    await receiver.start()
    pairs: list[tuple[Block, Block]] = []
    try:
        async with stage(plane, redis_url, folder, sampled=False) as here:
            spaces = {True: f"{here.namespace}-beside", False: f"{here.namespace}-elsewhere"}
            for name in spaces.values():
                await asyncio.to_thread(plane.api.create_namespace, name)
            process = _notifier(here, receiver, spaces[True])
            process.start()
            await process.wait_ready()
            await process.seconds_to_acquire()
            async with (
                Api(plane.server, plane.admin_token, plane.ca_file, spaces[True]) as served,
                Api(plane.server, plane.admin_token, plane.ca_file, spaces[False]) as unserved,
            ):
                crowds = {True: served, False: unserved}
                warm = Scale(1, 100, 2.0, scale.rate)
                await _block(here, receiver, served, warm, "warm", beside=True)
                for n in range(scale.rounds):
                    found: dict[bool, Block] = {}
                    for beside in (False, True) if n % 2 else (True, False):
                        found[beside] = await _block(
                            here, receiver, crowds[beside], scale,
                            f"r{n}-{'beside' if beside else 'elsewhere'}", beside=beside,
                        )  # fmt: skip
                    pairs.append((found[False], found[True]))
    finally:
        await receiver.close()
    return pairs


def told(pairs: Sequence[tuple[Block, Block]], scale: Scale) -> Report:
    """The report of some rounds."""
    report = Report("tenants")
    report.notes.append(
        f"{len(pairs)} rounds of a block of each kind, {scale.seconds:g} s each, {scale.rate:g}/s; "
        f"{scale.crowd} created at once in another namespace; default settings, Events and audit off"
    )
    report.notes.append("from the answer to the creation of a notification until received")
    report.add("crowd elsewhere: p50", "ms", [a.p50 for a, _ in pairs])
    report.add("crowd beside: p50", "ms", [b.p50 for _, b in pairs])
    report.add("crowd elsewhere: p99", "ms", [a.p99 for a, _ in pairs])
    report.add("crowd beside: p99", "ms", [b.p99 for _, b in pairs])
    report.add("p99, crowd beside / elsewhere", "", [b.p99 / a.p99 for a, b in pairs], FAIR)
    quiet = [a for a, _ in pairs]
    if len(quiet) > 1:
        same = [b.p99 / a.p99 for a, b in itertools.pairwise(quiet)]
        report.add("p99, elsewhere / elsewhere (the noise)", "", same)
    served = [float(b.served) for _, b in pairs]
    report.add("of the crowd, received before the last of the others", "", served)
    return report


async def run(*, quick: bool) -> Report:
    """Measure on servers of its own."""
    scale = QUICK if quick else FULL
    async with (
        plane_of(await programs()) as plane,
        RedisServer(find_binary("redis-server")) as redis,
    ):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            pairs = await measure(plane, redis.url, Path(name) / "stage", scale)
    return told(pairs, scale)
