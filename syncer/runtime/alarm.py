"""One timer of the event loop, for the earliest of several moments of the monotonic clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from syncer.runtime.clock import MonotonicClock

#: Longest sleep in seconds: while the machine is suspended, the loop's clock stands still, and the clock of
#: `syncer.runtime.clock` goes on.
_MAX_SLEEP: Final = 5.0


class Alarm:
    """Calls a function once, at a moment or a little earlier; if too early, the owner sets it again."""

    def __init__(self, monotonic: MonotonicClock, rings: Callable[[], object]) -> None:
        """Begin unset."""
        self._monotonic = monotonic
        self._rings = rings
        self._at = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Set it to a second of the monotonic clock, unless it is set to an earlier one."""
        if self.timer is not None and self._at <= at:
            return
        self.cancel()
        self._at = at
        wait = min(_MAX_SLEEP, max(0.001, at - self._monotonic()))
        self.timer = asyncio.get_running_loop().call_later(wait, self._ring)

    def cancel(self) -> None:
        """Unset the alarm."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _ring(self) -> None:
        self.timer = None
        self._rings()
