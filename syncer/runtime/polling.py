"""
A thread that polls files and wakes the event loop only when it finds a change.

Files are read in a thread because a disk may hang. Nearly every poll finds nothing. If the event loop
kept the period and only the read ran in the thread, each poll would wake the loop twice, which at rest
costs more than the read; so the thread itself waits for the next one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")


class PollingThread:
    """Runs one function at a time; ended by `close`."""

    def __init__(self, name: str) -> None:
        """`name` is the thread's name, to which a number is added."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        #: Held until `close`; a wait for it costs less than one for an event.
        self._end = threading.Lock()
        self._end.acquire()

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Call a function once."""
        return asyncio.get_running_loop().run_in_executor(self._executor, work)

    def poll(self, look: Callable[[], T | None], every: float) -> asyncio.Future[T | None]:
        """
        Call a function again and again until its result is not None; the future has that result.

        `every` is the seconds before each call.
        """
        return self.run(partial(self._poll, look, every))

    def close(self) -> None:
        """End a poll, and give the thread up without waiting for it."""
        if self._end.locked():
            self._end.release()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _poll(self, look: Callable[[], T | None], every: float) -> T | None:
        while not self._end.acquire(timeout=every):
            found = look()
            if found is not None:
                return found
        return None
