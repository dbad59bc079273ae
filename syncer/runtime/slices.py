"""
Walks over all live notifications, cut into slices.

There may be a hundred thousand notifications, and a few microseconds for each of them add up to a stall of
the event loop. So the loop gets a turn after each slice. The items are those present at the beginning;
changes made meanwhile are missed, as by any other walk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

#: Items of a slice; each may take several microseconds.
SLICE: Final = 400


async def slices(items: Iterable[T], size: int = SLICE) -> AsyncIterator[list[T]]:
    """
    Yield the present items, `size` at a time, and let the event loop turn after each slice.

    Args:
        items: The items; they may change as soon as this has begun.
        size: Items of a slice.
    """
    left = list(items)
    for start in range(0, len(left), size):
        yield left[start : start + size]
        await asyncio.sleep(0)
