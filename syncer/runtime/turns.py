"""
Items of groups that take turns: one of a group, then one of the next.

A plain queue serves the items that wait for a shared place in order of arrival, so an item behind five
thousand others waits for all of them. Here each group has a queue of its own, and an item waits for one
of each other group, however long their queues are. A group joins at the end of the round when its first
item comes, and leaves the round with its last.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """A queue for each group, and the order of the groups."""

    def __init__(self) -> None:
        # A dictionary keeps the order of insertion: the first group is the one whose turn it is.
        self._queues: dict[str, deque[T]] = {}

    def __bool__(self) -> bool:
        """Whether there is an item."""
        return bool(self._queues)

    def append(self, group: str, item: T) -> None:
        """Add an item behind those of its group."""
        self._queues.setdefault(group, deque()).append(item)

    def insert(self, group: str, item: T) -> None:
        """Add an item to its group, whose items are sorted, behind the items equal to it."""
        insort(self._queues.setdefault(group, deque()), item)  # type: ignore[call-overload]  # they compare

    def popleft(self, may: Callable[[str], bool] = lambda _group: True) -> T:
        """Take the first item of the next group for which `may` is true; StopIteration if there is none."""
        group = next(filter(may, self._queues))
        queue = self._queues.pop(group)
        item = queue.popleft()
        if queue:
            self._queues[group] = queue
        return item
