"""
How fast attempts are journaled: the API server is needed by others, too.

Turns are given by urgency, not by order of arrival: namespaces take turns, and within a namespace the most
urgent goes first. A priority expresses what its author wants first; it takes no turn away from another
namespace. Waiting costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from syncer.rules.bucket import TokenBucket
from syncer.runtime.alarm import Alarm
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
        self._waiting: Turns[tuple[Urgency, int, Callable[[], object]]] = Turns()
        self._arrivals = 0
        self._alarm = Alarm(monotonic, self._give)

    def turn(self, namespace: str, urgency: Urgency, given: Callable[[], object]) -> None:
        """Have a function called in its turn, after everything more urgent in the namespace."""
        self._arrivals += 1
        self._waiting.insert(namespace, (urgency, self._arrivals, given))
        self._give()

    def open(self) -> None:
        """Give everyone who waits a turn at once: the limit no longer applies."""
        while self._waiting:
            self._call_first()

    def _give(self) -> None:
        """Give the turns that there are; the alarm brings the next one."""
        now = self._monotonic()
        while self._waiting and self._bucket.take(now):
            self._call_first()
        if self._waiting:
            self._alarm.set(now + self._bucket.wait(now))

    def _call_first(self) -> None:
        _, _, given = self._waiting.popleft()
        given()
