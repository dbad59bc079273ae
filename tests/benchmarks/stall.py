"""
What hostile objects and answers cost the others.

Notifications to one receiver arrive at a steady rate. In the blocks *with*, ten objects of up to a
mebibyte are created meanwhile, one of each hostile shape, for a receiver that refuses each call with 64 KiB
made to be expensive as well; in the blocks *without*, none. In a third kind the same objects are created
where the controller does not look: what they cost the API server, etcd and whoever creates them, on the
same cores, shows there. Blocks are short and take turns.

Three things are asked: for how long one thing held the controller's event loop at most, as its own metric
says, from the start of the process on; whether it lost a shard; and how much longer the others wait than
beside the same objects where nobody looks, from the moment at which each was to be created until it is
received. An independent watch divides that time: what passes before it shows the object is the API
server's, and this program's, who creates it. On a machine that others use, a stall is also the time in
which the process was not let run.

Kubernaut's definition has no bounds that would refuse such objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.goals import BESIDE_HOSTILE, LONGEST_STALL, NONE_LOST
from tests.benchmarks.hostile import (
    ANSWER_BYTES,
    ANSWERS,
    OBJECT_BYTES,
    SHAPES,
    Elsewhere,
    Orders,
    elsewhere,
)
from tests.benchmarks.isolation import steady
from tests.benchmarks.load import SETTINGS, progress, read_call, servers
from tests.benchmarks.report import Report, percentile
from tests.benchmarks.watching import FinalWatcher, watched
from tests.e2e.harness import NotifierProcess, Receiver, Stage, subject_of, until
from tests.servers.controlplane import ControlPlane

Json = dict[str, Any]

_STALL: Final = "notification_ledger_loop_longest_stall_seconds"
_STALLS: Final = "notification_ledger_loop_lag_seconds"
_HELD: Final = "the event loop was blocked; nothing else ran meanwhile"


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        rounds: Pairs of p99 that are compared.
        turns: Blocks of each kind in a round.
        seconds: Length of a block.
        rate: Notifications to the steady receiver per second.
        size: Of a hostile object in bytes, about.
    """

    rounds: int = 4
    turns: int = 2
    seconds: float = 5.0
    rate: float = 20.0
    size: int = OBJECT_BYTES


FULL: Final = Scale()
QUICK: Final = Scale(rounds=2, turns=1)


class Kind(StrEnum):
    """What else happens in a block."""

    NOTHING = "without"
    UNSEEN = "where nobody looks"
    HOSTILE = "with hostile objects"


@dataclass(slots=True)
class Block:
    """
    What blocks of one kind came to.

    Attributes:
        kind: Which kind.
        delays: Seconds from due to received, for each steady notification.
        shown: The part of it until an independent watch showed the object, or it was received.
        refused: Calls about hostile objects that were answered.
        stalls: Times that the loop was held for more than a tenth of a second.
    """

    kind: Kind
    delays: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    refused: int = 0
    stalls: int = 0

    def __add__(self, other: Block) -> Block:
        """Both as one."""
        return Block(
            self.kind,
            self.delays + other.delays,
            self.shown + other.shown,
            self.refused + other.refused,
            self.stalls + other.stalls,
        )

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
        after = [d - s for d, s in zip(self.delays, self.shown, strict=True)]
        return percentile(after, 0.99) * 1000


@dataclass(slots=True)
class Found:
    """
    What a run came to.

    Attributes:
        rounds: The blocks of each kind.
        start: Longest stall in ms before the first hostile object, that of the start included.
        stalls: Longest stall in ms up to the end of each round.
        lost: Shards that were lost.
        places: Where the loop stood in stalls that were worth a log line.
    """

    rounds: list[dict[Kind, Block]] = field(default_factory=list)
    start: float = 0.0
    stalls: list[float] = field(default_factory=list)
    lost: int = 0
    places: list[str] = field(default_factory=list)


class PickyReceiver(Receiver):
    """
    Takes what is steady and refuses all else for good, in many words.

    Attributes:
        arrived: When each steady notification's call was read, by subject.
        refused: Calls that were refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arrived: dict[str, float] = {}
        self.refused = 0
        self._words = itertools.cycle(unit * (ANSWER_BYTES // len(unit)) for unit in ANSWERS)

    def address(self, name: str) -> str:
        """URL of a receiver."""
        return f"http://127.0.0.1:{self.port}/{name}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    head, body = await read_call(reader)
                    if head.startswith(b"post /steady "):
                        self.arrived.setdefault(subject_of(body), time.monotonic())
                        code, said = "200 OK", "ok"
                    else:
                        self.refused += 1
                        code, said = "400 Bad Request", next(self._words)
                    writer.write(
                        f"HTTP/1.1 {code}\r\nContent-Length: {len(said)}\r\n"
                        f"Content-Type: text/plain\r\n\r\n{said}".encode()
                    )
        finally:
            self._serving.discard(task)
            writer.close()


def _notifier(here: Stage, receiver: PickyReceiver) -> NotifierProcess:
    credentials = here.folder / "credentials"
    process = here.notifier(
        to="slack",
        **SETTINGS,
        controller={"namespaces": [here.namespace, f"{here.namespace}-h"]},
        delivery={
            "slack": {"timeout": "10s"},
            "credentials": {"dir": str(credentials)},
            "webhook": {"enabled": True},
            "log": {"enabled": True},
        },
    )
    for name in ("steady", "picky"):
        (credentials / name).write_text(receiver.address(name))
    routing = {
        "route": {
            "receiver": "steady",
            "routes": [{"match": {"to": "picky"}, "receiver": "picky"}],
        },
        "receivers": [
            {"name": "steady", "slackConfigs": [{"credentialRef": "steady"}]},
            {
                "name": "picky",
                "slackConfigs": [{"credentialRef": "picky"}],
                "webhookConfigs": [{"url": receiver.address("picky")}],
                "logConfigs": [{"enabled": True}],
            },
        ],
    }
    (here.folder / "routing.yaml").write_text(json.dumps(routing))
    return process


#: Calls for one set of hostile objects: two channels refuse for good, the log takes what it gets.
CALLS: Final = 2 * len(SHAPES)


async def _block(
    here: Stage, watcher: FinalWatcher, process: NotifierProcess, receiver: PickyReceiver,
    other: Elsewhere, scale: Scale, prefix: str, kind: Kind,
) -> Block:  # fmt: skip
    names = [f"{prefix}-steady-{n}" for n in range(int(scale.rate * scale.seconds))]
    refused, stalls = receiver.refused, await _stalls(process)
    orders = Orders(
        here.plane.server, here.plane.admin_token, str(here.plane.ca_file),
        f"{here.namespace}-{'h' if kind is Kind.HOSTILE else 'x'}", prefix, {"to": "picky"}, scale.seconds,
        scale.size,
    )  # fmt: skip
    creating: asyncio.Task[None] | None = None
    if kind is not Kind.NOTHING:
        await other.prepare(orders)
        creating = asyncio.create_task(other.carry_out())
    due = await steady(here, names, scale.rate)
    await until(
        lambda: all(n in receiver.arrived and n in watcher.shown for n in names),
        lambda: f"all are received; {process.tail()}",
        within=60,
    )
    block = Block(
        kind,
        [receiver.arrived[n] - due[n] for n in names],
        [min(watcher.shown[n], receiver.arrived[n]) - due[n] for n in names],
    )
    if creating is not None:
        await creating
    if kind is Kind.HOSTILE:
        await until(
            lambda: receiver.refused >= refused + CALLS,
            lambda: f"{receiver.refused - refused} of {CALLS} are refused; {process.tail()}",
            within=120,
        )
        block.refused = receiver.refused - refused
    if kind is not Kind.NOTHING:
        await other.prepare(replace(orders, create=False))
        await other.carry_out()
    await _quiet(process)
    block.stalls = await _stalls(process) - stalls
    progress(
        "stall",
        f"{prefix}, {kind}: p50 {block.p50:.0f} ms, p99 {block.p99:.0f} ms, of which "
        f"{block.p99_shown:.0f} until the API server has shown it",
    )
    return block


async def _stalls(process: NotifierProcess) -> int:
    """How often the loop was held for more than a tenth of a second."""
    everything = await process.metric(f"{_STALLS}_count")
    return round(everything - await process.metric(f"{_STALLS}_bucket", le="0.1"))


async def _quiet(process: NotifierProcess) -> None:
    async def idle() -> bool:
        running = await process.metric("notification_ledger_running_attempts")
        return not running and not await process.metric("notification_ledger_queue_depth")

    await until(idle, lambda: f"nothing runs; {process.tail()}", within=60, every=0.2)


async def measure(plane: ControlPlane, redis_url: str, folder: Path, scale: Scale) -> Found:
    """Rounds of blocks of each kind."""
    receiver = PickyReceiver()
    found = Found()
    numbers = itertools.count()
    async with (
        watched(plane, redis_url, folder, receiver) as (here, watcher),
        elsewhere() as other,
    ):
        for seen in "hx":
            await plane.create_namespace(f"{here.namespace}-{seen}")
        process = _notifier(here, receiver)
        process.start()
        await process.wait_ready()
        await process.seconds_to_acquire()
        await _block(
            here, watcher, process, receiver, other, scale, f"b{next(numbers)}", Kind.NOTHING
        )
        found.start = 1000 * await process.metric(_STALL)
        for _ in range(scale.rounds):
            blocks = {kind: Block(kind) for kind in Kind}
            for turn in range(scale.turns):
                for kind in list(Kind)[:: -1 if turn % 2 else 1]:
                    blocks[kind] += await _block(
                        here, watcher, process, receiver, other, scale, f"b{next(numbers)}", kind
                    )
            found.rounds.append(blocks)
            found.stalls.append(1000 * await process.metric(_STALL))
        found.lost = len(process.lines("shard lost"))
        found.places = [
            str(line.get("where"))
            for line in process.lines("the event loop was blocked; nothing else ran meanwhile")
        ]
    return found


def told(found: Found, scale: Scale) -> Report:
    """The report of a run."""
    report = Report("stall")
    report.notes.append(
        f"{len(found.rounds)} rounds of {scale.turns} blocks of each kind, {scale.seconds:g} s each, "
        f"{scale.rate:g} notifications/s to the steady receiver; in a block with hostile objects one of "
        f"each of {len(SHAPES)} shapes, to Slack, webhook and log; {ANSWER_BYTES // 1024} KiB for an answer"
    )
    report.add("longest stall of the loop, start included", "ms", found.stalls, LONGEST_STALL)
    report.add("longest stall before the first hostile object", "ms", [found.start])
    report.add("shards lost", "", [float(found.lost)], NONE_LOST)
    for kind in Kind:
        report.add(f"{kind}: p50", "ms", [r[kind].p50 for r in found.rounds])
    for kind in Kind:
        report.add(f"{kind}: p99", "ms", [r[kind].p99 for r in found.rounds])
    for kind in Kind:
        shown = [r[kind].p99_shown for r in found.rounds]
        report.add(f"{kind}: p99 until the API server has shown it", "ms", shown)
    for kind in Kind:
        after = [r[kind].p99_after for r in found.rounds]
        report.add(f"{kind}: p99 from then until received", "ms", after)
    for kind in Kind:
        counts = [float(r[kind].stalls) for r in found.rounds]
        report.add(f"{kind}: stalls of more than 100 ms", "", counts)
    p99 = [{kind: block.p99 for kind, block in r.items()} for r in found.rounds]
    report.add(
        "p99, with / where nobody looks", "", [r[Kind.HOSTILE] / r[Kind.UNSEEN] for r in p99],
        BESIDE_HOSTILE,
    )  # fmt: skip
    report.add("p99, with / without", "", [r[Kind.HOSTILE] / r[Kind.NOTHING] for r in p99])
    if len(p99) > 1:
        same = [b[Kind.NOTHING] / a[Kind.NOTHING] for a, b in itertools.pairwise(p99)]
        report.add("p99, without / without (the noise)", "", same)
    report.add(
        "calls that were refused in many words",
        "",
        [float(r[Kind.HOSTILE].refused) for r in found.rounds],
    )
    for place in sorted(set(found.places)):
        report.notes.append(f"a stall of more than 0.25 s stood at {place}")
    return report


async def run(*, quick: bool) -> Report:
    """Measure on servers of its own."""
    scale = QUICK if quick else FULL
    async with servers() as (plane, redis, folder):
        found = await measure(plane, redis.url, folder / "stage", scale)
    return told(found, scale)
