"""
Ends a command when its standard input closes.

A command that `kubectl exec` runs in a pod outlives the kubectl that started it: it is not told that the
connection is gone, and a `tail -f` would run for ever. But its standard input is closed, and this module
waits for that. Input that arrives is discarded.
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
    """Run the work, and cancel it when standard input closes; returns the exit code."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    closed = loop.create_future()

    def read() -> None:
        # A thread can read a pipe, a file and a terminal alike; only a pipe can be polled.
        # Standard input that cannot be read counts as closed; closed before the start, it is None.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            while os.read(sys.stdin.fileno(), _CHUNK):
                pass
        with contextlib.suppress(RuntimeError):  # the loop is already closed
            loop.call_soon_threadsafe(closed.cancel)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    try:
        await asyncio.wait((task, closed), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else INTERRUPTED
    finally:
        await end(task)
