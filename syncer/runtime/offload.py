"""
Work that would hold the event loop for too long, done in a thread.

There is one thread for the whole process: its work competes with the loop for the interpreter's lock,
and two threads would compete twice. The caller bounds the work (`notifier.content.trim`), because a
thread cannot be stopped; a caller that times out leaves, and the work ends by itself.

Authors take turns: the thread is given one piece of work of each at a time. An author with a hundred pieces
delays everybody else's work by one piece.

Small work is done at once on the loop: a change of threads would cost more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")

#: Bytes or characters of input up to which work is done at once: a few milliseconds at worst.
SMALL: Final = 16 * 1024
#: Seconds for which another thread may keep the interpreter from the loop; Python's default is five times
#: as long, and each step of an attempt would wait for it.
SWITCH_INTERVAL: Final = 0.001

#: Seconds of work after which the thread rests for as long as it has worked, and its longest rest.
_STINT: Final = 0.002
_REST_MOST: Final = 0.01


#: A lock for each author, held while the thread has its work; kept while somebody holds or awaits it.
_turns: Final[WeakValueDictionary[str, asyncio.Lock]] = WeakValueDictionary()


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="offload")


class Breath:
    """
    Rests half of the time, so that the loop gets the interpreter's lock at once; long work calls it often.

    Without it, each step of every attempt would wait for `SWITCH_INTERVAL`, or longer during long C code.
    Small work is done on the loop itself, which must not rest; there a call does nothing.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> None:
        """Rest, if it is time to."""
        worked = time.monotonic() - self._began
        if worked >= _STINT and not _on_the_loop():
            time.sleep(min(worked, _REST_MOST))
            self._began = time.monotonic()


def _on_the_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def end() -> None:
    """Let the thread end after its work; if it still works when the process ends, it counts as hanging."""
    _thread().shutdown(wait=False)
    _thread.cache_clear()


async def offload(work: Callable[[], T], *, size: int, seconds: float, author: str = "") -> T:
    """
    Do work: at once if it is small, else in the thread.

    Args:
        work: The work, which must not depend on anything that the loop changes meanwhile.
        size: Size of its input, in bytes or characters.
        seconds: Longest wait for it, including the work before it.
        author: Namespace or source that it is done for; empty for the process itself.

    Raises:
        TimeoutError: the work took longer. Errors of the work pass through.
    """
    if size <= SMALL:
        return work()
    turn = _turns.setdefault(author, asyncio.Lock())
    async with asyncio.timeout(seconds), turn:
        return await asyncio.get_running_loop().run_in_executor(_thread(), work)
