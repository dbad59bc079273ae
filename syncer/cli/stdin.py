"""
Ends a command when its standard input closes.

A command that `kubectl exec` runs in a pod outlives the kubectl that started it: nobody tells it that
the connection is gone, and a `tail -f` would go on for ever. But its standard input is closed, and this
module waits for that. It discards what arrives on standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Coroutine
from typing import Any, Final

from syncer.cli.exits import INTERRUPTED
from syncer.runtime.supervise import end

_CHUNK: Final = 4096


async def until_stdin_closes(work: Coroutine[Any, Any, int]) -> int:
    """Run the work until it is done; the end of standard input cancels it. Returns the exit code."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    closed = loop.create_future()

    def read() -> None:
        # A thread: a pipe, a file and a terminal can all be read so, and only a pipe can be polled.
        # Nothing there that could be read is as good as its end.
        with contextlib.suppress(OSError, ValueError):
            while os.read(sys.stdin.fileno(), _CHUNK):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(closed.cancel)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    try:
        await asyncio.wait((task, closed), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else INTERRUPTED
    finally:
        await end(task)
