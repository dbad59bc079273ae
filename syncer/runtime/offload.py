"""
Work that would hold the event loop for too long, done in a thread.

There is one thread for the whole process: its work competes with the loop for the interpreter's lock,
and two threads would compete twice. The caller bounds the work (`notifier.content.trim`), because a
thread cannot be stopped; a caller whose time is over leaves, and the work ends by itself.

Authors take turns: the thread has one work of each at a time. Whoever has a hundred of them done delays
everybody else's by one.

Small work is done at once: a change of threads would cost more.
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

#: Seconds that the thread works before it rests for as long as it has worked, at most for the second one.
_STINT: Final = 0.002
_REST_MOST: Final = 0.01


#: Held by the author whose work the thread has; each stays for as long as somebody holds or wants it.
_turns: Final[WeakValueDictionary[str, asyncio.Lock]] = WeakValueDictionary()


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="offload")


class Breath:
    """
    Lets the loop have the interpreter's lock at once, half of the time; long work calls it again and again.

    Without it each step of every attempt would wait for `SWITCH_INTERVAL`, and more where C code is long.
    Small work is done on the loop itself, which must not rest: there it does nothing.
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
    """Let the thread go once it has no work left; one that has is found to hang at a process's end."""
    _thread().shutdown(wait=False)
    _thread.cache_clear()


async def offload(work: Callable[[], T], *, size: int, seconds: float, author: str = "") -> T:
    """
    Do work: at once if it is small, else in the thread.

    Args:
        work: Depends on nothing that the loop changes meanwhile.
        size: Of its input, in bytes or characters.
        seconds: To wait for it, those before it included.
        author: Namespace or source that it is done for; empty for the process itself.

    Raises:
        TimeoutError: it took longer. What the work raises passes through.
    """
    if size <= SMALL:
        return work()
    turn = _turns.setdefault(author, asyncio.Lock())
    async with asyncio.timeout(seconds), turn:
        return await asyncio.get_running_loop().run_in_executor(_thread(), work)
