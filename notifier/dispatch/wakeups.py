"""
Uids of logs that somebody says hold something new, until there is time to look.

Anybody who may publish on the channel can poke, so the waiting room is bounded: a uid waits once, and
what finds no room is dropped. Nothing is lost by that, since the sweeps find every record.
"""

from __future__ import annotations

import asyncio
from typing import Final

#: Uids that may wait.
MAX_POKES: Final = 4096


class WakeUps:
    """A waiting room of uids, each at most once, oldest first."""

    def __init__(self, limit: int = MAX_POKES) -> None:
        """Start empty."""
        self._limit = limit
        self._waiting: dict[str, None] = {}
        self._some = asyncio.Event()
        #: Pokes that found no room.
        self.dropped = 0

    def add(self, uid: str) -> None:
        """Have a uid looked at."""
        if len(self._waiting) >= self._limit and uid not in self._waiting:
            self.dropped += 1
            return
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
