"""Turns at a rate: the most urgent first, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from notifier.dispatch.allowance import Allowance, Urgency


def waiting(allowance: Allowance, order: list[Urgency]) -> Callable[[Urgency], asyncio.Task[None]]:
    """Return what starts somebody who waits, and notes when he goes."""

    async def go(urgency: Urgency) -> None:
        await allowance.turn(urgency)
        order.append(urgency)

    return lambda urgency: asyncio.create_task(go(urgency))


async def test_what_is_left_of_a_second_is_given_at_once() -> None:
    """As many as fit into one go without a wait, and the next one waits."""
    allowance, order = Allowance(3.0, lambda: 0.0), list[Urgency]()
    tasks = [waiting(allowance, order)((n, 0.0)) for n in range(4)]
    await asyncio.gather(*tasks[:3])
    assert len(order) == 3
    assert not tasks[3].done()
    allowance.open()
    await tasks[3]


async def test_the_most_urgent_goes_first() -> None:
    """Priority counts, then since when it is due, then who came first; who was cancelled is passed over."""
    now = [0.0]
    allowance, order = Allowance(1000.0, lambda: now[0]), list[Urgency]()
    for _ in range(1000):
        await allowance.turn((0, 0.0))
    start = waiting(allowance, order)
    low, late, gone, early = start((3, 1.0)), start((1, 9.0)), start((0, 0.0)), start((1, 2.0))
    await asyncio.sleep(0)
    gone.cancel()
    now[0] = 1.0
    await asyncio.gather(low, late, early)
    assert order == [(1, 2.0), (1, 9.0), (3, 1.0)]
    assert gone.cancelled()


async def test_a_slow_rate_gives_the_first_turn_at_once() -> None:
    """Less than one a second is one at first."""
    await asyncio.wait_for(Allowance(0.1, lambda: 0.0).turn((0, 0.0)), 5)
