"""Turns at a rate: the most urgent first, and nobody is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from syncer.sync.allowance import Allowance, Urgency
from tests.virtual import on_virtual_time


class Desk:
    """An allowance, and who has had a turn, in order."""

    def __init__(self, rate: float) -> None:
        self.now, self.order = 0.0, list[str]()
        self.allowance = Allowance(rate, lambda: self.now)

    def wait(self, name: str, urgency: Urgency, namespace: str = "a") -> asyncio.Task[None]:
        """Have somebody wait for a turn."""

        async def go() -> None:
            await self.allowance.turn(namespace, urgency)
            self.order.append(name)

        return asyncio.create_task(go())

    async def use_up(self, turns: int) -> None:
        """Take the turns of a second."""
        for _ in range(turns):
            await self.allowance.turn("a", (0, 0.0))


async def test_what_is_left_of_a_second_is_given_at_once() -> None:
    """As many as fit into one go without a wait, and the next one waits."""
    here = Desk(3.0)
    tasks = [here.wait(str(n), (n, 0.0)) for n in range(4)]
    await asyncio.gather(*tasks[:3])
    assert (here.order, tasks[3].done()) == (["0", "1", "2"], False)
    here.allowance.open()
    await tasks[3]
    here.now = 1.0
    later = here.wait("later", (9, 0.0))
    await asyncio.sleep(0)
    assert later.done(), "nobody waits before it any more"


async def test_the_most_urgent_goes_first() -> None:
    """Priority counts, then since when it is due, then who came first; who was cancelled is passed over."""
    here = Desk(10.0)
    await here.use_up(10)
    urgencies = {
        "low": (3, 1.0), "late": (1, 9.0), "later": (1, 9.0), "latest": (1, 9.0), "early": (1, 2.0),
    }  # fmt: skip
    tasks = [here.wait(name, urgency) for name, urgency in urgencies.items()]
    gone = here.wait("gone", (0, 0.0))
    await asyncio.sleep(0)
    gone.cancel()
    here.now = 1.0
    await asyncio.gather(*tasks)
    assert here.order == ["early", "late", "later", "latest", "low"]
    assert gone.cancelled()


@on_virtual_time
async def test_turns_come_at_the_rate() -> None:
    """A second's worth at once, then one in each share of a second, whenever it was asked for."""
    times: list[float] = []
    loop = asyncio.get_running_loop()
    allowance, began = Allowance(2.0, loop.time), loop.time()

    async def go() -> None:
        await allowance.turn("a", (1, 0.0))
        times.append(loop.time() - began)

    first = [asyncio.create_task(go()) for _ in range(2)]
    await asyncio.sleep(0.25)
    await asyncio.gather(*first, *(go() for _ in range(4)))
    await asyncio.sleep(0.75)
    await asyncio.gather(*(go() for _ in range(3)))
    assert times == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.75, 3.0, 3.5])


async def test_a_slow_rate_gives_the_first_turn_at_once() -> None:
    """Less than one a second is one at first, and no second one."""
    here = Desk(0.1)
    await asyncio.wait_for(here.wait("first", (0, 0.0)), 5)
    # What was not used for an hour is one turn as well.
    here.now = 3600.0
    await asyncio.wait_for(here.wait("second", (1, 0.0)), 5)
    third = here.wait("third", (2, 0.0))
    await asyncio.sleep(0)
    assert here.order == ["first", "second"]
    here.allowance.open()
    await third


async def test_namespaces_take_turns() -> None:
    """
    What one author calls critical, however much of it, delays nobody else's by more than a turn.

    One whose only notification was cancelled has no turn.
    """
    here = Desk(4.0)
    await here.use_up(4)
    critical = [here.wait(f"critical-{n}", (0, float(n)), "flood") for n in range(100)]
    gone = here.wait("gone", (0, 0.0), "gone")
    low = [here.wait(f"low-{n}", (3, float(n)), "b") for n in range(2)]
    await asyncio.sleep(0)
    gone.cancel()
    here.now = 1.0
    await asyncio.wait_for(asyncio.gather(*low), 30)
    assert here.order == ["critical-0", "low-0", "critical-1", "low-1"]
    here.allowance.open()
    await asyncio.gather(*critical)
