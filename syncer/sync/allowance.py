"""
How fast attempts are journaled: the API server is needed by others, too.

Turns are given by urgency, not by order of arrival: namespaces take turns, and within a namespace the most
urgent goes first. A priority expresses what its author wants first; it takes no turn away from another
namespace. Waiting costs nothing.
"""

from __future__ import annotations

import asyncio

from syncer.rules.bucket import TokenBucket
from syncer.runtime.clock import MonotonicClock
from syncer.runtime.turns import Turns

#: Smaller is more urgent.
Urgency = tuple[int, float]


class Allowance:
    """Gives turns at a limited rate; unused turns expire after a second."""

    def __init__(self, per_second: float, monotonic: MonotonicClock) -> None:
        """`per_second` is more than 0, and may be less than 1."""
        self._monotonic = monotonic
        self._bucket = TokenBucket(per_second, max(1.0, per_second), monotonic())
        #: By namespace; of equally urgent ones the first to arrive comes first.
        self._waiting: Turns[tuple[Urgency, int, asyncio.Future[None]]] = Turns()
        self._arrivals = 0
        self._timer: asyncio.TimerHandle | None = None

    def turn(self, namespace: str, urgency: Urgency) -> asyncio.Future[None]:
        """Ask for a turn, which comes after everything more urgent in the namespace."""
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        self._waiting.insert(namespace, (urgency, self._arrivals, given))
        self._give()
        return given

    def open(self) -> None:
        """Give everyone who waits a turn at once: the limit no longer applies."""
        while self._waiting:
            self._let_go()

    def _give(self) -> None:
        """Give the turns that there are; the timer brings the next one."""
        while self._waiting:
            if wait := self._bucket.wait(self._monotonic()):
                loop = asyncio.get_running_loop()
                self._timer = self._timer or loop.call_later(wait, self._on_timer)
                return
            if self._let_go():
                self._bucket.take(self._monotonic())

    def _on_timer(self) -> None:
        self._timer = None
        self._give()

    def _let_go(self) -> bool:
        """Let the first one go; false if that was cancelled while it waited."""
        _, _, given = self._waiting.popleft()
        waited = not given.done()
        if waited:
            given.set_result(None)
        return waited
