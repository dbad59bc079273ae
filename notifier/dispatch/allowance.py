"""
So many per second, the most urgent first.

For work that costs a server which others need, too: whoever wants to go waits for his turn, and turns are
given by urgency, not by arrival. Nobody who waits costs anything until then.
"""

from __future__ import annotations

import asyncio
import heapq

from syncer.runtime.clock import MonotonicClock

#: Smaller is more urgent.
Urgency = tuple[int, float]


class Allowance:
    """Gives turns at a rate; what was not used for a second is gone."""

    def __init__(self, per_second: float, monotonic: MonotonicClock) -> None:
        """`per_second` is more than 0, and may be less than 1."""
        self._rate = per_second
        self._monotonic = monotonic
        self._tokens = max(1.0, per_second)
        self._filled = monotonic()
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []
        self._arrivals = 0
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, urgency: Urgency) -> None:
        """Wait for a turn, behind everybody who is more urgent."""
        if not self._waiting and self._take():
            return
        self._arrivals += 1
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, self._arrivals, given))
        self._set_timer()
        await given

    def open(self) -> None:
        """Let everybody go who waits: there is nothing to wait for any more."""
        for _, _, given in self._waiting:
            if not given.done():
                given.set_result(None)
        self._waiting.clear()

    def _take(self) -> bool:
        now = self._monotonic()
        most = max(1.0, self._rate)
        self._tokens = min(most, self._tokens + max(0.0, now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _set_timer(self) -> None:
        if self._timer is None:
            wait = max(0.0, 1.0 - self._tokens) / self._rate
            self._timer = asyncio.get_running_loop().call_later(wait, self._give)

    def _give(self) -> None:
        self._timer = None
        while self._waiting:
            if self._waiting[0][2].done():
                # Cancelled while it waited.
                heapq.heappop(self._waiting)
            elif self._take():
                heapq.heappop(self._waiting)[2].set_result(None)
            else:
                self._set_timer()
                return
