"""
A rate limit with turns: namespaces take turns, and within a namespace the most urgent goes first.

It limits work on a server that others need too. Turns are given by urgency, not by order of arrival. A
priority expresses what its author wants first; it takes no turn away from another namespace. Waiting costs
nothing.
"""

from __future__ import annotations

import asyncio
import heapq

from syncer.rules.bucket import TokenBucket
from syncer.runtime.clock import MonotonicClock

#: Smaller is more urgent.
Urgency = tuple[int, float]
_Waiting = tuple[Urgency, int, asyncio.Future[None]]


class Allowance:
    """Gives turns at a limited rate; unused turns expire after a second."""

    def __init__(self, per_second: float, monotonic: MonotonicClock) -> None:
        """`per_second` is more than 0, and may be less than 1."""
        self._monotonic = monotonic
        self._bucket = TokenBucket(per_second, max(1.0, per_second), monotonic())
        #: By namespace, in the order of their turns.
        self._waiting: dict[str, list[_Waiting]] = {}
        self._arrivals = 0
        self._timer: asyncio.TimerHandle | None = None

    def turn(self, namespace: str, urgency: Urgency) -> asyncio.Future[None]:
        """Ask for a turn, which comes after everything more urgent in the namespace."""
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._waiting and self._bucket.take(self._monotonic()):
            given.set_result(None)
            return given
        self._arrivals += 1
        queue = self._waiting.setdefault(namespace, [])
        heapq.heappush(queue, (urgency, self._arrivals, given))
        self._set_timer()
        return given

    def open(self) -> None:
        """Give everyone who waits a turn at once: the limit no longer applies."""
        for queue in self._waiting.values():
            for _, _, given in queue:
                if not given.done():
                    given.set_result(None)
        self._waiting.clear()

    def _set_timer(self) -> None:
        if self._timer is None:
            wait = self._bucket.wait(self._monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._give)

    def _give(self) -> None:
        self._timer = None
        while (queue := self._first()) is not None:
            if not self._bucket.take(self._monotonic()):
                self._set_timer()
                return
            heapq.heappop(queue)[2].set_result(None)
            # The namespace has had its turn.
            namespace = next(iter(self._waiting))
            self._waiting[namespace] = self._waiting.pop(namespace)

    def _first(self) -> list[_Waiting] | None:
        """The waiting requests of the namespace whose turn it is, None if there are none."""
        while self._waiting:
            namespace, queue = next(iter(self._waiting.items()))
            # Requests that were cancelled while they waited.
            while queue and queue[0][2].done():
                heapq.heappop(queue)
            if queue:
                return queue
            del self._waiting[namespace]
        return None
