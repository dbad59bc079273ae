"""
The work queue: keys to reconcile, each handled by one worker at a time.

Semantics of client-go's queue, which level-triggered controllers rely on: adding a key that is
waiting changes nothing; adding one that is being handled makes it wait again once that is done; a
delayed add keeps the earliest time. So an object is always handled serially, different objects in
parallel, and no wake-up is ever lost or multiplied. There is no task and no timer per key: one heap
holds all delays, and one timer waits for the earliest.

Ready keys are taken in turns, one from each group. With the notification's namespace as its group, an
author who creates five thousand at once delays those of others by one key each.

A key that becomes ready wakes one worker. Waking all of them, as an event would, costs a millisecond for
each notification of a quiet hour, because sixty workers look for a key that the first one has taken.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

from syncer.rules.backoff import exponential
from syncer.runtime.alarm import Alarm
from syncer.runtime.clock import MonotonicClock, monotonic_clock
from syncer.runtime.turns import Turns

#: Seconds before a failed key is handled again, at first and at most. The longest wait is reached
#: while a server is away; if Redis answers, the resync requests an earlier check of what is due.
_RETRY_FIRST: Final = 0.2
_RETRY_MOST: Final = 30.0
#: Superseded heap entries that are tolerated, in addition to one for each delay.
_STALE: Final = 1_024


class WorkQueue:
    """Keys ready now, keys due later, keys in hand."""

    def __init__(
        self,
        monotonic: MonotonicClock = monotonic_clock,
        *,
        group: Callable[[str], str] = lambda _key: "",
    ) -> None:
        """Start empty; `group` gives the group of a key when it becomes ready."""
        self.monotonic = monotonic
        self._group = group
        self._ready: Turns[str] = Turns()
        self._waiting: set[str] = set()
        self._in_hand: set[str] = set()
        self._again: set[str] = set()
        self._delayed: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._failures: dict[str, int] = {}
        #: One for each ready key; workers without a key wait here, the longest waiting first.
        self._available = asyncio.Semaphore(0)
        self._alarm = Alarm(monotonic, self._on_alarm)

    def __len__(self) -> int:
        """Keys ready or in hand, delayed ones excluded."""
        return len(self._waiting) + len(self._in_hand)

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._delayed)

    def add(self, key: str) -> None:
        """Queue a key to be handled as soon as possible."""
        self._delayed.pop(key, None)
        if key in self._in_hand:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(self._group(key), key)
            self._available.release()

    def add_at(self, key: str, at: float) -> None:
        """Queue a key to be handled at a monotonic second, or earlier if something else adds it."""
        if at <= self.monotonic():
            self.add(key)
            return
        known = self._delayed.get(key)
        if known is not None and known <= at:
            return
        self._delayed[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._delayed) + _STALE:
            # A key that is added before its time leaves its heap entry behind, for hours if the back-off is
            # long.
            self._heap = [(due, delayed) for delayed, due in self._delayed.items()]
            heapq.heapify(self._heap)
        self._alarm.set(at)

    def retry(self, key: str) -> float:
        """Queue a key again after a failure, later each time; returns the wait in seconds."""
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        wait = exponential(_RETRY_FIRST, _RETRY_MOST, failures)
        self.add_at(key, self.monotonic() + wait)
        return wait

    def succeeded(self, key: str) -> None:
        """Reset the back-off of a key, which was handled without a failure."""
        self._failures.pop(key, None)

    async def get(self) -> str:
        """Wait for the next key; the caller must call `done` with it."""
        self._add_due()
        await self._available.acquire()
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._in_hand.add(key)
        return key

    def _on_alarm(self) -> None:
        self._add_due()
        if self._heap:
            self._alarm.set(self._heap[0][0])

    def done(self, key: str) -> None:
        """Give a key back."""
        self._in_hand.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _add_due(self) -> None:
        now = self.monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            # A heap entry that was superseded or dropped no longer matches.
            if self._delayed.get(key) == at:
                self.add(key)
