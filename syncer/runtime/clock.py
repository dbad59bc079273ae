"""
The clocks of the product.

The *monotonic clock* (seconds, CLOCK_BOOTTIME) measures durations and decides deadlines inside this
process: it never steps, and it goes on while the machine sleeps, so a lease is over after a suspend.
*Ledger time* (Unix milliseconds of the Redis server) is the time in records: every owner of a log reads
the same clock, whatever its own machine shows. A process keeps the offset between the two and sets it at
every claim.

One clock may be wrong, and some decisions cannot be undone: to delete an object, to give up a notification
because of its age. These use the earlier of Redis's time and the API server's, which comes with each of its
answers (`LedgerTime.certain`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

MonotonicClock = Callable[[], float]


#: Seconds since boot, sleep included. No Python function wraps it: it runs fifty times a notification.
monotonic_clock: Final[MonotonicClock] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class ServerTime:
    """A server's time, extrapolated with the monotonic clock since it was last set."""

    def __init__(self, monotonic: MonotonicClock = monotonic_clock) -> None:
        self.monotonic = monotonic
        #: Milliseconds by which the server's time is ahead of the monotonic clock, None until it was set.
        self.offset: float | None = None

    def set(self, now: int) -> None:
        """Take the server's time (Unix milliseconds) as of this moment."""
        self.offset = now - self.monotonic() * 1000

    def now(self) -> int | None:
        """The server's time in Unix milliseconds, None if that is not known."""
        return None if self.offset is None else round(self.monotonic() * 1000 + self.offset)


class LedgerTime(ServerTime):
    """Redis time, extrapolated with the monotonic clock since it was last read."""

    offset: float

    def __init__(
        self, monotonic: MonotonicClock = monotonic_clock, *, api_time: ServerTime | None = None
    ) -> None:
        """Start with the machine's wall clock until a claim brings the server's time."""
        super().__init__(monotonic)
        self.api_time = api_time
        self.offset = time.time() * 1000 - monotonic() * 1000

    def now(self) -> int:
        """Redis time in Unix milliseconds, as far as known."""
        return round(self.monotonic() * 1000 + self.offset)

    def certain(self) -> int:
        """
        The time for decisions that cannot be undone, in Unix milliseconds.

        This is the earlier of Redis's time and the API server's, so a clock that is ahead ends nothing.
        It is 0, at which nothing is over, while the API server has not answered.
        """
        if self.api_time is None:
            return self.now()
        return min(self.now(), self.api_time.now() or 0)

    def latest(self) -> int:
        """The later of these two times; whatever it puts in the future is in the future by both clocks."""
        return max(self.now(), self.api_time.now() or 0 if self.api_time else 0)
