"""
The two clocks of the product.

The *boot clock* (seconds, CLOCK_BOOTTIME) measures durations and decides deadlines inside this
process: it never steps, and it goes on while the machine sleeps, so a lease is over after a suspend.
*Ledger time* (Unix milliseconds of the Redis server) is what records carry: every owner of a log
reads the same clock, whatever its own machine shows. A process keeps the offset between the two and
sets it at every claim.
"""

from __future__ import annotations

import time
from collections.abc import Callable

BootClock = Callable[[], float]


def boot_clock() -> float:
    """Seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LedgerTime:
    """Redis time, extrapolated with the boot clock since it was last read."""

    def __init__(self, boot: BootClock = boot_clock) -> None:
        """Start with the machine's wall clock until a claim brings the server's time."""
        self.boot = boot
        self._offset = time.time() * 1000 - boot() * 1000

    def set(self, now: int) -> None:
        """Take the server's time (Unix milliseconds) as of this moment."""
        self._offset = now - self.boot() * 1000

    def now(self) -> int:
        """Redis time in Unix milliseconds, as far as known."""
        return round(self.boot() * 1000 + self._offset)
