"""Turns at a rate: the most urgent first, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from syncer.sync.allowance import Allowance, Urgency
from tests.virtual import on_virtual_time


def waiting(
    allowance: Allowance, order: list[Urgency], namespace: str = "a"
) -> Callable[[Urgency], asyncio.Task[None]]:
    """Return what starts somebody who waits, and notes when he goes."""

    async def go(urgency: Urgency) -> None:
        await allowance.turn(namespace, urgency)
        order.append(urgency)

    return lambda urgency: asyncio.create_task(go(urgency))


async def test_what_is_left_of_a_second_is_given_at_once() -> None:
    """As many as fit into one go without a wait, and the next one waits."""
    now = [0.0]
    allowance, order = Allowance(3.0, lambda: now[0]), list[Urgency]()
    tasks = [waiting(allowance, order)((n, 0.0)) for n in range(4)]
    await asyncio.gather(*tasks[:3])
    assert len(order) == 3
    assert not tasks[3].done()
    allowance.open()
    await tasks[3]
    now[0] = 1.0
    later = waiting(allowance, order)((9, 0.0))
    await asyncio.sleep(0)
    assert later.done(), "nobody waits before it any more"


async def test_the_most_urgent_goes_first() -> None:
    """Priority counts, then since when it is due, then who came first; who was cancelled is passed over."""
    now = [0.0]
    allowance, order = Allowance(10.0, lambda: now[0]), list[Urgency]()
    for _ in range(10):
        await allowance.turn("a", (0, 0.0))
    start = waiting(allowance, order)
    low, late, gone, early = start((3, 1.0)), start((1, 9.0)), start((0, 0.0)), start((1, 2.0))
    await asyncio.sleep(0)
    gone.cancel()
    now[0] = 1.0
    await asyncio.gather(low, late, early)
    assert order == [(1, 2.0), (1, 9.0), (3, 1.0)]
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


async def test_of_the_equally_urgent_the_first_goes_first() -> None:
    """Nobody waits for ever behind those who come later."""
    now = [0.0]
    allowance, order = Allowance(10.0, lambda: now[0]), list[str]()
    for _ in range(10):
        await allowance.turn("a", (0, 0.0))

    async def go(name: str) -> None:
        await allowance.turn("a", (1, 5.0))
        order.append(name)

    tasks = [asyncio.create_task(go(name)) for name in "abc"]
    await asyncio.sleep(0)
    now[0] = 1.0
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c"]


async def test_a_slow_rate_gives_the_first_turn_at_once() -> None:
    """Less than one a second is one at first, and no second one."""
    now = [0.0]
    allowance, order = Allowance(0.1, lambda: now[0]), list[Urgency]()
    start = waiting(allowance, order)
    await asyncio.wait_for(start((0, 0.0)), 5)
    # What was not used for an hour is one turn as well.
    now[0] = 3600.0
    await asyncio.wait_for(start((1, 0.0)), 5)
    second = start((2, 0.0))
    await asyncio.sleep(0)
    assert order == [(0, 0.0), (1, 0.0)]
    allowance.open()
    await second


async def test_namespaces_take_turns() -> None:
    """What one author calls critical, however much of it, delays nobody else's by more than a turn."""
    now = [0.0]
    allowance, order = Allowance(4.0, lambda: now[0]), list[Urgency]()
    for _ in range(4):
        await allowance.turn("a", (0, 0.0))
    critical = [waiting(allowance, order, "flood")((0, float(n))) for n in range(100)]
    low = [waiting(allowance, order, "b")((3, float(n))) for n in (900, 901)]
    await asyncio.sleep(0)
    now[0] = 1.0
    await asyncio.gather(*low)
    assert order == [(0, 0.0), (3, 900.0), (0, 1.0), (3, 901.0)]
    allowance.open()
    await asyncio.gather(*critical)


async def test_a_namespace_that_waits_for_nothing_has_no_turn() -> None:
    """Those who were cancelled leave their namespace's turn to the next one."""
    now = [0.0]
    allowance, order = Allowance(100.0, lambda: now[0]), list[Urgency]()
    for _ in range(100):
        await allowance.turn("a", (0, 0.0))
    gone = waiting(allowance, order, "gone")((0, 0.0))
    here = waiting(allowance, order, "b")((3, 1.0))
    await asyncio.sleep(0)
    gone.cancel()
    now[0] = 1.0
    await here
    assert order == [(3, 1.0)]
