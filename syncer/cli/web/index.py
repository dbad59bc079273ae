"""
The entries of all notifications, newest first, and the counts over them.

The API server can neither sort by age nor filter by more than names, so every search would have to read
everything. Therefore all entries are kept here, in order, and a page begins where the one before ended.
A search visits all of them and yields to the event loop every few thousand.

Bounds: entries (beyond the bound the oldest are dropped, and the pages say so), and recent attempts.

No I/O, no clock.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from syncer.cli.web.entries import Entry, EntryMaker, Placed, Query, position_of
from syncer.model.attempt import AttemptState
from syncer.model.resource import NotificationRequest

#: Entries that are kept: some sixty megabytes at most.
MOST: Final = 200_000
#: Attempts of the recent past that are kept, and how long that is in milliseconds.
RECENT: Final = 5_000
WINDOW: Final = 3_600_000
#: Entries that are looked at in one turn of the loop.
_TURN: Final = 2_000


@dataclass(frozen=True, slots=True)
class RecentAttempt:
    """An attempt of the recent past."""

    channel: str
    ended: int
    state: AttemptState


class Index:
    """
    All entries.

    Attributes:
        phases: How many there are in each phase; the empty one is that before the first status.
        cut: There are more than are kept: the oldest are missing.
        on_change: Gets the key of each notification that has changed.
    """

    def __init__(self, *, most: int = MOST) -> None:
        """Begin without entries; it keeps `most` of them."""
        self._most = most
        self._maker = EntryMaker()
        self._entries: dict[str, dict[str, Entry]] = {}
        self._order: list[Entry] = []
        self._recent: dict[tuple[str, str], RecentAttempt] = {}
        self._ends: list[tuple[int, tuple[str, str]]] = []
        self.phases: Counter[str] = Counter()
        self.cut = False
        self.on_change: Callable[[str], None] = lambda _key: None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._order)

    @property
    def namespaces(self) -> list[str]:
        """Namespaces with a notification."""
        return sorted(self._entries)

    @property
    def recent(self) -> list[RecentAttempt]:
        """Attempts of the recent past, as far as they are kept."""
        return list(self._recent.values())

    def get(self, namespace: str, name: str) -> Entry | None:
        """Return an entry, None if there is none."""
        return self._entries.get(namespace, {}).get(name)

    def put(self, request: NotificationRequest, *, listing: int = 0) -> None:
        """Take an object as it is now; `listing` is the number of the list that brought it."""
        before = self.get(request.namespace, request.name)
        entry = self._maker.entry(request, listing or (before.listing if before else 0))
        if before is not None:
            self._take_out(before)
        elif len(self._order) >= self._most:
            self.cut = True
            if position_of(entry) <= position_of(self._order[0]):
                return
            self._take_out(self._order[0])
        self._entries.setdefault(entry.namespace, {})[entry.name] = entry
        self._order.insert(bisect_right(self._order, position_of(entry), key=position_of), entry)
        self.phases[entry.phase] += 1
        self._remember(request)
        self.on_change(entry.key)

    def drop(self, namespace: str, name: str) -> None:
        """Remove a deleted object."""
        entry = self.get(namespace, name)
        if entry is not None:
            self._take_out(entry)
            self.on_change(entry.key)

    def keep_only(self, listing: int, namespace: str | None) -> None:
        """Remove what a complete list of a namespace, or of all with None, lacks."""
        gone = [
            e for e in self._order
            if e.listing != listing and (namespace is None or e.namespace == namespace)
        ]  # fmt: skip
        for entry in gone:
            self.drop(entry.namespace, entry.name)

    async def page(self, query: Query, size: int, placed: Placed) -> tuple[list[Entry], bool]:
        """
        Return what matches, the newest first, and whether there is more.

        Args:
            query: Conditions, and where the page before ended.
            size: Entries at most.
            placed: What operators hold.
        """
        found: list[Entry] = []
        async for entry in self.walk(query):
            if query.matches(entry, placed):
                if len(found) == size:
                    return found, True
                found.append(entry)
        return found, False

    async def walk(self, query: Query | None = None) -> AsyncIterator[Entry]:
        """Yield all entries behind a place, the newest first; the loop gets its turn meanwhile."""
        after = query.after if query is not None else None
        while True:
            end = len(self._order)
            if after is not None:
                end = bisect_left(self._order, after, key=position_of)
            chunk = self._order[max(0, end - _TURN) : end]
            for entry in reversed(chunk):
                yield entry
            if len(chunk) < _TURN:
                return
            # It continues at a position: the order may change while others run.
            after = position_of(chunk[0])
            await asyncio.sleep(0)

    def _take_out(self, entry: Entry) -> None:
        del self._order[bisect_left(self._order, position_of(entry), key=position_of)]
        inside = self._entries[entry.namespace]
        del inside[entry.name]
        if not inside:
            del self._entries[entry.namespace]
        self.phases[entry.phase] -= 1

    def _remember(self, request: NotificationRequest) -> None:
        for attempt in request.status.attempts:
            identity = (request.uid, attempt.id)
            known = identity in self._recent
            if not attempt.ended:
                continue
            self._recent[identity] = RecentAttempt(attempt.channel, attempt.ended, attempt.state)
            if not known:
                heapq.heappush(self._ends, (attempt.ended, identity))
            if len(self._ends) > RECENT:
                del self._recent[heapq.heappop(self._ends)[1]]
