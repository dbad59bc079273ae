"""
Stalls of the event loop: how long, and where.

While a callback runs, nothing else does: no lease is renewed, no probe answered. The loop's selector knows
exactly when one round of callbacks begins and ends, at no cost while there is nothing to do; so every stall
is measured, not only one that meets a timer. Time for which another thread keeps the interpreter's lock
passes before a round begins: a task measures it and reports it by `late`.

uvloop's loop, used where it is installed, has no such selector: there the task is all that measures, so a
stall is seen only as far as it makes the task late.

During a long stall a thread reads the stack of the loop, and the log line names the place. It cannot read
while C code keeps the lock, and then names the place that the loop reaches next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import selectors
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

logger = logging.getLogger("ledger.stalls")

#: Seconds of a stall that is worth a log line.
NOTICE: Final = 0.25
#: Seconds of a stall that is counted.
COUNTED: Final = 0.01
#: Seconds between two looks from outside, and of a round that is long enough for its stack to be read:
#: together less than `NOTICE`, so every stall that is logged is met by a look. Each look costs a wake-up.
_LOOK: Final = 0.2
_LONG: Final = 0.04
#: Seconds between two lines about stalls.
_SAY_EVERY: Final = 10.0
#: Seconds for which a stall is remembered, at least; at most twice that.
WINDOW: Final = 300.0
_FRAMES: Final = 3


class _Selector(selectors.DefaultSelector):
    """A selector that reports when a round of callbacks begins and ends."""

    def __init__(self, watch: LoopWatch) -> None:
        super().__init__()
        self._watch = watch

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for what the loop waits for."""
        self._watch.idle()
        try:
            return super().select(timeout)
        finally:
            self._watch.busy()


class LoopWatch:
    """Watches the event loop that it makes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._observe: Callable[[float], None] = lambda _: None
        #: When the round of callbacks that runs now began, 0 if none does.
        self._since = 0.0
        self._place = ""
        self._said = -_SAY_EVERY
        self._longest = [0.0, 0.0]
        self._turned = clock()
        #: Held until `close`; a wait for it costs less than one for an event.
        self._end = threading.Lock()
        self._end.acquire()
        #: Whether the loop tells each round of callbacks.
        self._rounds = True

    def loop(self) -> asyncio.AbstractEventLoop:
        """Make an event loop that is watched: uvloop's if that is installed."""
        with contextlib.suppress(ImportError):
            from uvloop import new_event_loop  # noqa: PLC0415 (an extra)

            self._rounds = False
            loop: asyncio.AbstractEventLoop = new_event_loop()
            return loop
        return asyncio.SelectorEventLoop(_Selector(self))

    def on_stall(self, observe: Callable[[float], None]) -> None:
        """Have a function called with the seconds of each stall that is worth counting."""
        self._observe = observe

    def busy(self) -> None:
        """A round of callbacks begins."""
        self._since = self._clock()

    def idle(self) -> None:
        """It has ended."""
        if self._since:
            now = self._clock()
            seconds, self._since = now - self._since, 0.0
            # Most rounds change nothing, and there are many.
            if seconds > min(self._longest[0], COUNTED) or now - self._turned >= WINDOW:
                self.late(seconds)

    def expect(self, seconds: float) -> None:
        """A task is to run again after so many seconds; being later is all that some loops show."""
        if not self._rounds:
            self._since = self._clock() + seconds
            self._place = ""

    def late(self, seconds: float) -> None:
        """The loop was blocked for so long."""
        self._rotate()
        self._longest[0] = max(self._longest[0], seconds)
        if seconds >= COUNTED:
            self._observe(seconds)
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
        """Look no more."""
        if self._end.locked():
            self._end.release()

    def _look(self, watched: int) -> None:
        while not self._end.acquire(timeout=_LOOK):
            since = self._since
            if since and self._clock() - since >= _LONG:
                frame = sys._current_frames().get(watched)  # noqa: SLF001 - there is no other way to ask
                # Without rounds the last look may come when the stall is over: then the first counts.
                fresh = self._rounds or not self._place
                if frame is not None and self._since == since and fresh:
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
