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
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Final

from tests.benchmarks.load import (
    CallReceiver,
    at_rate,
    at_rest,
    on_servers,
    routing_notifier,
    serving,
)
from tests.benchmarks.report import Report, in_ms
from tests.e2e.harness import NotifierProcess, Stage, stage, subject_of, until
from tests.servers.controlplane import ControlPlane

#: Attempts that one receiver may have at once, by default.
PER_RECEIVER: Final = 32


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
class Blocks:
    """
    What blocks of one kind came to.

    Attributes:
        delays: Seconds from due to received, for each notification.
        hanging: Most calls that hung at the same time, of each block.
    """

    delays: list[float] = field(default_factory=list)
    hanging: list[int] = field(default_factory=list)


class TwoReceivers(CallReceiver):
    """
    One server for all receivers, told apart by the path of the call.

    Attributes:
        arrived: When each notification's first call to the steady receiver was read, by subject.
        hang: Whether calls to the other receivers are left unanswered.
        hanging: Calls that are unanswered now.
        most: The largest number of them at once, since it was set to 0.
        others: Calls to the other receivers, since it was set to 0.
    """

    def __init__(self, answer_after: float = 0.005) -> None:
        super().__init__()
        self.arrived: dict[str, float] = {}
        self.hang = False
        self.hanging = 0
        self.most = 0
        self.others = 0
        self._answer_after = answer_after
        self._let_go = asyncio.Event()

    def release(self) -> None:
        """Drop the calls that hang."""
        self._let_go.set()
        self._let_go = asyncio.Event()

    async def take(self, head: bytes, body: bytes, at: float) -> tuple[int, str]:
        """Answer, unless it is another one that hangs."""
        if head.startswith(b"post /steady "):
            self.arrived.setdefault(subject_of(body), time.monotonic())
        else:
            self.others += 1
            if self.hang:
                await self._hold()
        await asyncio.sleep(self._answer_after)
        return 200, "ok"

    async def _hold(self) -> None:
        self.hanging += 1
        self.most = max(self.most, self.hanging)
        try:
            await self._let_go.wait()
        finally:
            self.hanging -= 1
        raise ConnectionError("nobody waits for an answer any more")


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


async def _block(
    here: Stage, process: NotifierProcess, receiver: TwoReceivers, scale: Scale, other: str,
    *, hang: bool, into: Blocks,
) -> None:  # fmt: skip
    receiver.hang, receiver.most, receiver.others = hang, 0, 0
    names = [f"{other}-steady-{n}" for n in range(int(scale.rate * scale.seconds))]
    first = [f"{other}-first-{n}" for n in range(scale.first)]
    later = [f"{other}-later-{n}" for n in range(int(scale.others * scale.seconds))]
    await _first(here, process, receiver, first, other)
    create = partial(here.create, extensions={"to": other})
    due, _ = await asyncio.gather(
        at_rate(here.create, names, scale.rate), at_rate(create, later, scale.others)
    )
    await until(
        lambda: all(n in receiver.arrived for n in names),
        lambda: f"all are received; {process.tail()}",
        within=60,
    )
    into.delays += [receiver.arrived[n] - due[n] for n in names]
    into.hanging.append(receiver.most)
    # What hung is called off, so that no retry of it falls into a later block.
    gone = len(here.watcher.deleted) + len(first) + len(later)
    for name in (*first, *later):
        answer = await here.api.ask("DELETE", f"{here.api.requests}/{name}")
        assert answer.code == 200, answer.body
    await until(lambda: len(here.watcher.deleted) >= gone, "the deletions are seen", within=20)
    receiver.release()
    await at_rest(process, 60, running_attempts=0)


async def measure(
    plane: ControlPlane, redis_url: str, folder: Path, scale: Scale
) -> list[tuple[Blocks, Blocks]]:
    """Rounds: what the blocks without and those with a receiver that hangs came to."""
    others = [f"other-{n}" for n in range(2 * scale.rounds * scale.turns + 1)]
    pairs: list[tuple[Blocks, Blocks]] = []
    async with (
        TwoReceivers() as receiver,
        stage(plane, redis_url, folder, sampled=False) as here,
    ):
        process = await serving(routing_notifier(here, receiver, ["steady", *others]))
        block = partial(_block, here, process, receiver)
        warm = replace(scale, seconds=2.0, first=4)
        await block(warm, others.pop(), hang=False, into=Blocks())
        for _ in range(scale.rounds):
            without, beside = Blocks(), Blocks()
            for turn in range(scale.turns):
                for hang in (False, True) if turn % 2 else (True, False):
                    into = beside if hang else without
                    await block(scale, others.pop(), hang=hang, into=into)
            pairs.append((without, beside))
    return pairs


def told(pairs: Sequence[tuple[Blocks, Blocks]], scale: Scale) -> Report:
    """The report of some rounds."""
    report = Report("isolation")
    n = len(pairs[0][0].delays)
    report.notes.append(
        f"{len(pairs)} rounds of {scale.turns} blocks of each kind, {scale.seconds:g} s each; {n} "
        f"notifications to the steady receiver in a round of a kind, {scale.rate:g}/s; to the other "
        f"one {scale.first} before, then {scale.others:g}/s; default settings, Events and audit off"
    )
    report.notes.append("from the moment at which a notification is to be created until received")
    quiet, hung = ([blocks.delays for blocks in side] for side in zip(*pairs, strict=True))
    for share, word in ((0.5, "p50"), (0.99, "p99")):
        report.add(f"nothing hangs: {word}", "ms", in_ms(quiet, share))
        report.add(f"one receiver hangs: {word}", "ms", in_ms(hung, share))
    without, beside = in_ms(quiet, 0.99), in_ms(hung, 0.99)
    report.add(
        "p99, one hangs / nothing hangs", "", [b / a for a, b in zip(without, beside, strict=True)]
    )
    apart = in_ms([list(chain(*side)) for side in (quiet, hung)], 0.99)
    report.add("the same, all rounds as one", "", [apart[1] / apart[0]])
    same = [b / a for a, b in pairwise(without)]
    report.add("p99, nothing hangs / nothing hangs (the noise)", "", same)
    report.add("calls that hung at once", "", [float(min(b.hanging)) for _, b in pairs])
    return report


run: Final = on_servers(measure, told, full=FULL, quick=QUICK)
