"""
Stalls of the event loop: how long, and where.

While a callback runs, nothing else does: no lease is renewed, no probe answered. A task that asks to be
woken ten times a second measures how late it is woken, whatever the cause: callbacks, or another thread
that keeps the interpreter's lock. The part of a stall before the task was due is not measured.

During a long stall a thread reads the stack of the loop, and the log line names the place. The thread
cannot read while C code keeps the lock; it then finds the place that the loop reaches next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

logger = logging.getLogger("ledger.stalls")

#: Seconds from which on a stall is worth a log line.
NOTICE: Final = 0.25
#: Seconds for which the task sleeps.
_PULSE: Final = 0.1
#: Seconds between two checks by the thread, and the lag from which on it reads the stack: together less
#: than `NOTICE`, so a check falls into every stall that is logged. Each check wakes the thread.
_LOOK: Final = 0.2
_LONG: Final = 0.04
#: Seconds between two log lines about stalls.
_SAY_EVERY: Final = 10.0
#: Seconds for which a stall is remembered, at least; at most twice that.
WINDOW: Final = 300.0
_FRAMES: Final = 3


class LoopWatch:
    """Watches the event loop that runs `pulse`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        #: Called with the seconds of each lag.
        self.observe: Callable[[float], None] = lambda _: None
        #: When the task is to be woken next, 0 before it runs.
        self._due = 0.0
        self._place = ""
        self._said = -_SAY_EVERY
        self._longest = [0.0, 0.0]
        self._turned = clock()
        #: Held until `close`; a wait for it costs less than one for an event.
        self._end = threading.Lock()
        self._end.acquire()

    @staticmethod
    def loop() -> asyncio.AbstractEventLoop:
        """Make an event loop: uvloop's if that is installed."""
        with contextlib.suppress(ImportError):
            from uvloop import new_event_loop  # noqa: PLC0415 (an extra)

            loop: asyncio.AbstractEventLoop = new_event_loop()
            return loop
        return asyncio.new_event_loop()

    async def pulse(self) -> None:
        """Measure how late the loop is, until cancelled."""
        while True:
            due = self._clock() + _PULSE
            self._due, self._place = due, ""
            await asyncio.sleep(_PULSE)
            self.late(max(0.0, self._clock() - due))

    def late(self, seconds: float) -> None:
        """Note by how many seconds the loop was late."""
        self._rotate()
        self._longest[0] = max(self._longest[0], seconds)
        self.observe(seconds)
        if seconds >= NOTICE:
            place, self._place = self._place, ""
            now = self._clock()
            if now - self._said >= _SAY_EVERY:
                self._said = now
                logger.warning(
                    "the event loop was blocked; nothing else ran meanwhile",
                    extra={"seconds": round(seconds, 3), "where": place or "not seen"},
                )

    def longest(self) -> float:
        """Seconds of the longest stall within the last `WINDOW` to twice that."""
        self._rotate()
        return max(self._longest)

    def _rotate(self) -> None:
        now = self._clock()
        if now - self._turned >= WINDOW:
            kept = self._longest[0] if now - self._turned < 2 * WINDOW else 0.0
            self._longest = [0.0, kept]
            self._turned = now

    def look_from_outside(self) -> None:
        """Start the thread that reads the stack of this one during a long stall."""
        watched = threading.get_ident()
        threading.Thread(target=self._look, args=(watched,), name="loop-watch", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        if self._end.locked():
            self._end.release()

    def _look(self, watched: int) -> None:
        while not self._end.acquire(timeout=_LOOK):
            due = self._due
            if due and self._clock() - due >= _LONG:
                frame = sys._current_frames().get(watched)  # noqa: SLF001 - there is no other way to ask
                if frame is not None and self._due == due:
                    self._place = place_of(frame)


def place_of(frame: FrameType | None) -> str:
    """Innermost functions of a stack with their lines, innermost first."""
    found: list[str] = []
    while frame is not None and len(found) < _FRAMES:
        code = frame.f_code
        path = "/".join(code.co_filename.rsplit("/", 3)[1:])
        found.append(f"{path}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return " < ".join(found)
