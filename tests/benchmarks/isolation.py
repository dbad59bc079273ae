"""
What a receiver that hangs costs the others.

Notifications to one receiver arrive at a steady rate, and meanwhile some to another one. That one
answers at once in the blocks *without* and never in the blocks *with*; in everything else the two kinds
of block are alike: the same process, servers, rates and numbers. Blocks are short and take turns, first
one kind first, then the other, so that whatever else the machine does befalls both; some of each kind
make up a round. Each block has another receiver of its own, since one that has hung for long is left
alone by its breaker, and the question is about the time before that.

Measured is the time from the moment at which a notification is due to be created until the steady
receiver has read its call. How far the p99 of two rounds of the *same* kind lie apart is in the table
too: a ratio within that says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.goals import ISOLATED
from tests.benchmarks.load import SETTINGS, read_call, servers
from tests.benchmarks.report import Report, percentile
from tests.e2e.harness import NotifierProcess, Receiver, Stage, stage, subject_of, until
from tests.servers.controlplane import ControlPlane

Json = dict[str, Any]

#: Attempts that one receiver may have at once, by default.
PER_RECEIVER: Final = 32
_ANSWER_AFTER: Final = 0.005


@dataclass(frozen=True, slots=True)
class Scale:
    """
    How much is measured.

    Attributes:
        rounds: Pairs of p99 that are compared.
        turns: Blocks of each kind in a round.
        seconds: Length of a block.
        rate: Notifications to the steady receiver per second.
        first: Notifications to the other receiver before the clock runs; more than it may have at
            once.
        others: The same per second while it runs.
    """

    rounds: int = 6
    turns: int = 5
    seconds: float = 3.0
    rate: float = 20.0
    first: int = 40
    others: float = 5.0


FULL: Final = Scale()
QUICK: Final = Scale(rounds=3, turns=1, seconds=2.0)


@dataclass(slots=True)
class Block:
    """
    What blocks of one kind came to.

    Attributes:
        hung: Which kind.
        delays: Seconds from due to received, for each notification.
        hanging: Most calls that hung at the same time; of several blocks, where they were fewest.
    """

    hung: bool
    delays: list[float] = field(default_factory=list)
    hanging: int = 0

    def __add__(self, other: Block) -> Block:
        """Both as one."""
        return Block(self.hung, self.delays + other.delays, min(self.hanging, other.hanging))

    @property
    def p99(self) -> float:
        """The 99th percentile in ms."""
        return _p99(self.delays)

    @property
    def p50(self) -> float:
        """The median in ms."""
        return percentile(self.delays, 0.5) * 1000


def _p99(delays: Sequence[float]) -> float:
    return percentile(delays, 0.99) * 1000


class TwoReceivers(Receiver):
    """
    One server for all receivers, told apart by the path of the call.

    Attributes:
        arrived: When each notification's first call to the steady receiver was read, by subject.
        hang: Whether calls to the other receivers are left unanswered.
        hanging: Calls that are unanswered now.
        most: The largest number of them at once, since it was set to 0.
        others: Calls to the other receivers, since it was set to 0.
        answer_after: Seconds from a call to its answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arrived: dict[str, float] = {}
        self.hang = False
        self.hanging = 0
        self.most = 0
        self.others = 0
        self.answer_after = _ANSWER_AFTER
        self._let_go = asyncio.Event()

    def address(self, name: str) -> str:
        """URL of a receiver."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def release(self) -> None:
        """Drop the calls that hang."""
        self._let_go.set()
        self._let_go = asyncio.Event()

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
                    else:
                        self.others += 1
                        if self.hang:
                            await self._hold()
                            return
                    await asyncio.sleep(self.answer_after)
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
                    )
        finally:
            self._serving.discard(task)
            writer.close()

    async def _hold(self) -> None:
        self.hanging += 1
        self.most = max(self.most, self.hanging)
        try:
            await self._let_go.wait()
        finally:
            self.hanging -= 1


def _notifier(here: Stage, receiver: TwoReceivers, others: Sequence[str]) -> NotifierProcess:
    """A notifier with default settings that knows the steady receiver and every other one."""
    credentials = here.folder / "credentials"
    delivery = {"slack": {"timeout": "10s"}, "credentials": {"dir": str(credentials)}}
    process = here.notifier(to="slack", **SETTINGS, delivery=delivery)
    names = ["steady", *others]
    for name in names:
        (credentials / name).write_text(receiver.address(name))
    routing = {
        "route": {
            "receiver": "steady",
            "routes": [{"match": {"to": name}, "receiver": name} for name in others],
        },
        "receivers": [{"name": n, "slackConfigs": [{"credentialRef": n}]} for n in names],
    }
    (here.folder / "routing.yaml").write_text(json.dumps(routing))
    return process


async def steady(here: Stage, names: Sequence[str], rate: float) -> dict[str, float]:
    """Create at a fixed rate, whatever each creation takes; returns when each was due."""
    due: dict[str, float] = {}
    begin = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for n, name in enumerate(names):
            due[name] = begin + n / rate
            await asyncio.sleep(due[name] - time.monotonic())
            group.create_task(here.create(name))
    return due


async def _first(
    here: Stage, process: NotifierProcess, receiver: TwoReceivers, names: Sequence[str], other: str
) -> None:
    """Create what comes first, and wait until it hangs, or is delivered."""
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(here.create(name, extensions={"to": other}))
    wanted = min(len(names), PER_RECEIVER) if receiver.hang else len(names)
    await until(
        lambda: receiver.others >= wanted,
        lambda: f"{wanted} of the first reach {other}; {process.tail()}",
        within=60,
    )


async def _others(here: Stage, names: Sequence[str], other: str, rate: float) -> None:
    """Create the rest at a fixed rate."""
    begin = time.monotonic()
    for n, name in enumerate(names):
        await asyncio.sleep(begin + n / rate - time.monotonic())
        await here.create(name, extensions={"to": other})


async def _quiet(process: NotifierProcess, receiver: TwoReceivers) -> None:
    """Wait until nothing is on the wire."""

    async def idle() -> bool:
        running = await process.metric("notification_ledger_running_attempts")
        return not receiver.hanging and running == 0

    await until(idle, lambda: f"nothing runs; {process.tail()}", within=60, every=0.2)


async def _block(
    here: Stage, process: NotifierProcess, receiver: TwoReceivers, scale: Scale, other: str,
    *, hang: bool,
) -> Block:  # fmt: skip
    receiver.hang, receiver.most, receiver.others = hang, 0, 0
    names = [f"{other}-steady-{n}" for n in range(int(scale.rate * scale.seconds))]
    first = [f"{other}-first-{n}" for n in range(scale.first)]
    later = [f"{other}-later-{n}" for n in range(int(scale.others * scale.seconds))]
    await _first(here, process, receiver, first, other)
    others = asyncio.create_task(_others(here, later, other, scale.others))
    due = await steady(here, names, scale.rate)
    await others
    await until(
        lambda: all(n in receiver.arrived for n in names),
        lambda: f"all are received; {process.tail()}",
        within=60,
    )
    block = Block(hang, [receiver.arrived[n] - due[n] for n in names], receiver.most)
    # What hung is called off, so that no retry of it falls into a later block.
    gone = len(here.watcher.deleted) + len(first) + len(later)
    for name in (*first, *later):
        answer = await here.api.ask("DELETE", f"{here.api.requests}/{name}")
        assert answer.code == 200, answer.body
    await until(lambda: len(here.watcher.deleted) >= gone, "the deletions are seen", within=20)
    receiver.release()
    await _quiet(process, receiver)
    return block


async def measure(
    plane: ControlPlane, redis_url: str, folder: Path, scale: Scale
) -> list[tuple[Block, Block]]:
    """Rounds: what the blocks without and those with a receiver that hangs came to."""
    others = [f"other-{n}" for n in range(2 * scale.rounds * scale.turns + 1)]
    receiver = TwoReceivers()
    await receiver.start()
    pairs: list[tuple[Block, Block]] = []
    try:
        async with stage(plane, redis_url, folder, sampled=False) as here:
            process = _notifier(here, receiver, others)
            process.start()
            await process.wait_ready()
            await process.seconds_to_acquire()
            warm = replace(scale, seconds=2.0, first=4)
            await _block(here, process, receiver, warm, others.pop(), hang=False)
            for _ in range(scale.rounds):
                found: dict[bool, Block] = {}
                for turn in range(scale.turns):
                    for hang in (False, True) if turn % 2 else (True, False):
                        block = await _block(
                            here, process, receiver, scale, others.pop(), hang=hang
                        )
                        found[hang] = found[hang] + block if hang in found else block
                pairs.append((found[False], found[True]))
    finally:
        await receiver.close()
    return pairs


def told(pairs: Sequence[tuple[Block, Block]], scale: Scale) -> Report:
    """The report of some rounds."""
    report = Report("isolation")
    n = len(pairs[0][0].delays)
    report.notes.append(
        f"{len(pairs)} rounds of {scale.turns} blocks of each kind, {scale.seconds:g} s each; {n} "
        f"notifications to the steady receiver in a round of a kind, {scale.rate:g}/s; to the other "
        f"one {scale.first} before, then {scale.others:g}/s; default settings, Events and audit off"
    )
    report.notes.append("from the moment at which a notification is to be created until received")
    report.add("nothing hangs: p50", "ms", [a.p50 for a, _ in pairs])
    report.add("one receiver hangs: p50", "ms", [b.p50 for _, b in pairs])
    report.add("nothing hangs: p99", "ms", [a.p99 for a, _ in pairs])
    report.add("one receiver hangs: p99", "ms", [b.p99 for _, b in pairs])
    report.add("p99, one hangs / nothing hangs", "", [b.p99 / a.p99 for a, b in pairs], ISOLATED)
    apart = [_p99([d for p in pairs for d in p[side].delays]) for side in (0, 1)]
    report.add("the same, all rounds as one", "", [apart[1] / apart[0]])
    quiet = [a for a, _ in pairs]
    if len(quiet) > 1:
        same = [b.p99 / a.p99 for a, b in itertools.pairwise(quiet)]
        report.add("p99, nothing hangs / nothing hangs (the noise)", "", same)
    report.add("calls that hung at once", "", [float(b.hanging) for _, b in pairs])
    return report


async def run(*, quick: bool) -> Report:
    """Measure on servers of its own."""
    scale = QUICK if quick else FULL
    async with servers() as (plane, redis, folder):
        pairs = await measure(plane, redis.url, folder / "stage", scale)
    return told(pairs, scale)
