"""What runs beside a test, a client that is served or a loop of the product; and what it leads to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any


@contextlib.asynccontextmanager
async def beside(*work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Have work go on until the block ends, and cancel it; if it has failed before, the block does."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until something holds, at most a minute: a machine may be busy."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


async def turning(turn: Callable[[], object]) -> None:
    """Do something in each turn of the loop."""
    while True:
        turn()
        await asyncio.sleep(0)
