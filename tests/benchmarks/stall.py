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
import itertools
import time
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.child import Child, child
from tests.benchmarks.hostile import ANSWER_BYTES, ANSWERS, SHAPES, Orders
from tests.benchmarks.load import (
    CallReceiver,
    at_rate,
    at_rest,
    on_servers,
    progress,
    routing_notifier,
    serving,
)
from tests.benchmarks.report import Report
from tests.benchmarks.watching import WAITS, FinalWatcher, waits, watched
from tests.e2e.harness import NotifierProcess, Stage, subject_of, until
from tests.servers.controlplane import ControlPlane
from tests.servers.definition import serve, upstream_form

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
    """

    rounds: int = 4
    turns: int = 2
    seconds: float = 5.0
    rate: float = 20.0


FULL: Final = Scale()
QUICK: Final = Scale(rounds=2, turns=1)


class Kind(StrEnum):
    """What else happens in a block."""

    NOTHING = "without"
    UNSEEN = "where nobody looks"
    HOSTILE = "with hostile objects"


@dataclass(slots=True)
class Blocks:
    """
    What blocks of one kind came to.

    Attributes:
        delays: Seconds from due to received, for each steady notification.
        shown: The part of it until an independent watch showed the object, or it was received.
        stalls: Times that the loop was held for more than a tenth of a second.
    """

    delays: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    stalls: int = 0


@dataclass(slots=True)
class Found:
    """
    What a run came to.

    Attributes:
        rounds: The blocks of each kind.
        refused: Calls about hostile objects that were answered, in each round.
        start: Longest stall in ms before the first hostile object, that of the start included.
        stalls: Longest stall in ms up to the end of each round.
        lost: Shards that were lost.
        places: Where the loop stood in stalls that were worth a log line.
    """

    rounds: list[dict[Kind, Blocks]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    start: float = 0.0
    stalls: list[float] = field(default_factory=list)
    lost: int = 0
    places: list[str] = field(default_factory=list)


class PickyReceiver(CallReceiver):
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

    async def take(self, head: bytes, body: bytes, at: float) -> tuple[int, str]:
        """Answer at once."""
        if head.startswith(b"post /steady "):
            self.arrived.setdefault(subject_of(body), time.monotonic())
            return 200, "ok"
        self.refused += 1
        return 400, next(self._words)


def _notifier(here: Stage, receiver: PickyReceiver) -> NotifierProcess:
    hostile = {
        "webhookConfigs": [{"url": f"http://127.0.0.1:{receiver.port}/picky"}],
        "logConfigs": [{"enabled": True}],
    }
    return routing_notifier(
        here, receiver, ("steady", "picky"), more={"picky": hostile},
        controller={"namespaces": [here.namespace, f"{here.namespace}-h"]},
        delivery={"webhook": {"enabled": True}, "log": {"enabled": True}},
    )  # fmt: skip


#: Calls for one set of hostile objects: two channels refuse for good, the log takes what it gets.
CALLS: Final = 2 * len(SHAPES)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where blocks take place."""

    here: Stage
    watcher: FinalWatcher
    receiver: PickyReceiver
    process: NotifierProcess
    other: Child


async def _block(place: _Place, scale: Scale, prefix: str, kind: Kind, into: Blocks) -> None:
    here, receiver, process, other = place.here, place.receiver, place.process, place.other
    arrived, shown = receiver.arrived, place.watcher.shown
    names = [f"{prefix}-steady-{n}" for n in range(int(scale.rate * scale.seconds))]
    refused, stalls = receiver.refused, await _stalls(process)
    orders = Orders(
        here.plane.server, here.plane.admin_token, str(here.plane.ca_file),
        f"{here.namespace}-{'h' if kind is Kind.HOSTILE else 'x'}", prefix, {"to": "picky"}, scale.seconds,
    )  # fmt: skip
    creating: asyncio.Task[Any] | None = None
    if kind is not Kind.NOTHING:
        await other.ask(asdict(orders))
        creating = asyncio.create_task(other.ask("begin"))
    due = await at_rate(here.create, names, scale.rate)
    await until(
        lambda: all(n in arrived and n in shown for n in names),
        lambda: f"all are received; {process.tail()}",
        within=60,
    )
    into.delays += [arrived[n] - due[n] for n in names]
    into.shown += [min(shown[n], arrived[n]) - due[n] for n in names]
    if creating is not None:
        await creating
    if kind is Kind.HOSTILE:
        await until(
            lambda: receiver.refused >= refused + CALLS,
            lambda: f"{receiver.refused - refused} of {CALLS} are refused; {process.tail()}",
            within=120,
        )
    if kind is not Kind.NOTHING:
        await other.ask(asdict(replace(orders, create=False)))
        await other.ask("begin")
    await at_rest(process, 60, running_attempts=0, queue_depth=0)
    into.stalls += await _stalls(process) - stalls
    progress("stall", f"{prefix}, {kind}")


async def _stalls(process: NotifierProcess) -> int:
    """How often the loop was held for more than a tenth of a second."""
    everything = await process.metric(f"{_STALLS}_count")
    return round(everything - await process.metric(f"{_STALLS}_bucket", le="0.1"))


async def measure(plane: ControlPlane, redis_url: str, folder: Path, scale: Scale) -> Found:
    """Rounds of blocks of each kind, under Kubernaut's definition."""
    await asyncio.to_thread(serve, plane, upstream_form())
    receiver = PickyReceiver()
    found = Found()
    numbers = itertools.count()
    async with (
        watched(plane, redis_url, folder, receiver) as (here, watcher),
        child("tests.benchmarks.hostile") as other,
    ):
        for seen in "hx":
            await asyncio.to_thread(plane.api.create_namespace, f"{here.namespace}-{seen}")
        process = await serving(_notifier(here, receiver))
        place = _Place(here, watcher, receiver, process, other)

        async def block(kind: Kind, into: Blocks) -> None:
            await _block(place, scale, f"b{next(numbers)}", kind, into)

        await block(Kind.NOTHING, Blocks())
        found.start = 1000 * await process.metric(_STALL)
        for _ in range(scale.rounds):
            blocks, refused = {kind: Blocks() for kind in Kind}, receiver.refused
            for turn in range(scale.turns):
                for kind in list(Kind)[:: -1 if turn % 2 else 1]:
                    await block(kind, blocks[kind])
            found.rounds.append(blocks)
            found.refused.append(float(receiver.refused - refused))
            found.stalls.append(1000 * await process.metric(_STALL))
        found.lost = len(process.lines("shard lost"))
        found.places = [str(line.get("where")) for line in process.lines(_HELD)]
    return found


def told(found: Found, scale: Scale) -> Report:
    """The report of a run."""
    report = Report("stall")
    report.notes.append(
        f"{len(found.rounds)} rounds of {scale.turns} blocks of each kind, {scale.seconds:g} s each, "
        f"{scale.rate:g} notifications/s to the steady receiver; in a block with hostile objects one of "
        f"each of {len(SHAPES)} shapes, to Slack, webhook and log; {ANSWER_BYTES // 1024} KiB for an answer"
    )
    report.add("longest stall of the loop, start included", "ms", found.stalls)
    report.add("longest stall before the first hostile object", "ms", [found.start])
    report.add("shards lost", "", [float(found.lost)])
    p99 = {}
    for kind in Kind:
        blocks = [r[kind] for r in found.rounds]
        measured = [waits(b.delays, b.shown) for b in blocks]
        report.rows(WAITS, measured, f"{kind}: ")
        report.add(f"{kind}: stalls of more than 100 ms", "", [float(b.stalls) for b in blocks])
        p99[kind] = [each["p99"] for each in measured]
    for words, other in (("where nobody looks", Kind.UNSEEN), ("without", Kind.NOTHING)):
        ratios = [a / b for a, b in zip(p99[Kind.HOSTILE], p99[other], strict=True)]
        report.add(f"p99, with / {words}", "", ratios)
    same = [b / a for a, b in itertools.pairwise(p99[Kind.NOTHING])]
    report.add("p99, without / without (the noise)", "", same)
    report.add("calls that were refused in many words", "", found.refused)
    for place in sorted(set(found.places)):
        report.notes.append(f"a stall of more than 0.25 s stood at {place}")
    return report


run: Final = on_servers(measure, told, full=FULL, quick=QUICK)
