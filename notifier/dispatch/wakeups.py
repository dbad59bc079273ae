"""
Wake-ups: uids of logs to which another process has appended, until there is time to read them.

Whoever may publish on the channel can send wake-ups, so the buffer is bounded: a uid waits once, and what
comes while it is full is dropped. Nothing is lost by that, since the sweeps find every record.
"""

from __future__ import annotations

import asyncio
from typing import Final

#: Uids that may wait.
MAX_WAITING: Final = 4096


class WakeUps:
    """A buffer of uids, each at most once, oldest first."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._waiting: dict[str, None] = {}
        self._some = asyncio.Event()

    def add(self, uid: str) -> None:
        """Request that the log of a uid is read again."""
        if len(self._waiting) < self._limit or uid in self._waiting:
            self._waiting[uid] = None
            self._some.set()

    async def get(self) -> str:
        """Wait for the next uid."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        uid = next(iter(self._waiting))
        del self._waiting[uid]
        return uid
