"""Turns at a rate: the most urgent first, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from syncer.sync.allowance import Allowance, Urgency
from tests.virtual import on_virtual_time


class Desk:
    """An allowance, and who has had a turn, in order."""

    def __init__(self, rate: float) -> None:
        self.now, self.order = 0.0, list[str]()
        self.allowance = Allowance(rate, lambda: self.now)

    def wait(self, name: str, urgency: Urgency, namespace: str = "a") -> None:
        """Have somebody wait for a turn."""
        self.allowance.turn(namespace, urgency, partial(self.order.append, name))

    def use_up(self, turns: int) -> None:
        """Take the turns of a second."""
        for _ in range(turns):
            self.allowance.turn("a", (0, 0.0), lambda: None)

    async def had(self, turns: int) -> list[str]:
        """Who has had a turn, once so many have."""
        async with asyncio.timeout(30):
            while len(self.order) < turns:
                await asyncio.sleep(0.01)
        return self.order


@pytest.mark.parametrize(("rate", "fit"), [(3.0, 3), (0.1, 1)])
async def test_what_is_left_of_a_second_is_given_at_once(rate: float, fit: int) -> None:
    """As many as fit into one, at least one, go without a wait; an hour unused is no more."""
    here = Desk(rate)
    for here.now in (0.0, 3600.0):
        names = [f"{n} at {here.now}" for n in range(fit + 1)]
        for n, name in enumerate(names):
            here.wait(name, (n, 0.0))
        assert here.order == names[:fit]
        here.allowance.open()
        assert here.order == names
        here.order.clear()


async def test_the_most_urgent_goes_first() -> None:
    """Priority counts, then since when it is due, then who came first."""
    here = Desk(10.0)
    here.use_up(10)
    urgencies = {
        "low": (3, 1.0), "late": (1, 9.0), "later": (1, 9.0), "latest": (1, 9.0), "early": (1, 2.0),
    }  # fmt: skip
    for name, urgency in urgencies.items():
        here.wait(name, urgency)
    here.now = 1.0
    assert await here.had(5) == ["early", "late", "later", "latest", "low"]


@on_virtual_time
async def test_turns_come_at_the_rate() -> None:
    """A second's worth at once, then one in each share of a second, whenever it was asked for."""
    times: list[float] = []
    loop = asyncio.get_running_loop()
    allowance, began = Allowance(2.0, loop.time), loop.time()

    def ask(turns: int) -> None:
        for _ in range(turns):
            allowance.turn("a", (1, 0.0), lambda: times.append(loop.time() - began))

    ask(2)
    await asyncio.sleep(0.25)
    ask(4)
    await asyncio.sleep(2.5)
    ask(3)
    await asyncio.sleep(1.0)
    assert times == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.75, 3.0, 3.5])


async def test_namespaces_take_turns() -> None:
    """What one author calls critical, however much of it, delays nobody else's by more than a turn."""
    here = Desk(4.0)
    here.use_up(4)
    for n in range(100):
        here.wait(f"critical-{n}", (0, float(n)), "flood")
    for n in range(2):
        here.wait(f"low-{n}", (3, float(n)), "b")
    here.now = 1.0
    assert await here.had(4) == ["critical-0", "low-0", "critical-1", "low-1"]
