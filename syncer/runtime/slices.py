"""
Walks over everything that is live, cut into slices.

There may be a hundred thousand notifications, and a few microseconds for each of them add up to a stall of
the event loop. So it turns after each slice. What changes meanwhile is not missed by more than any walk
misses: items are those of the beginning.
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
    Yield all items of the moment, so many at once, and let the loop turn after each slice.

    Args:
        items: May change as soon as this has begun.
        size: Of a slice.
    """
    left = list(items)
    for start in range(0, len(left), size):
        yield left[start : start + size]
        await asyncio.sleep(0)
