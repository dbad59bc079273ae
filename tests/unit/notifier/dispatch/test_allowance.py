"""Turns at a rate: the most urgent first, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from notifier.dispatch.allowance import Allowance, Urgency


def waiting(
    allowance: Allowance, order: list[Urgency], namespace: str = "a"
) -> Callable[[Urgency], asyncio.Task[None]]:
    """Return what starts somebody who waits, and notes when he goes."""

    async def go(urgency: Urgency) -> None:
        await allowance.turn(namespace, urgency)
        order.append(urgency)

    return lambda urgency: asyncio.create_task(go(urgency))


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
