"""
The entries of all notifications, newest first, and the counts over them.

The API server can neither sort by age nor filter by more than names, so every search would have to read
everything. Therefore all entries are kept here, in order, and a page begins where the one before ended.
A search visits all of them and yields to the event loop every few thousand.

Beyond a bound the oldest are dropped, and the pages say so.

No I/O, no clock.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from syncer.cli.rows import Placed, Position, Query, Row, RowMaker, position_of
from syncer.model.resource import NotificationRequest

#: Entries that are kept: some sixty megabytes at most.
MOST: Final = 200_000
#: Groups that are shown.
GROUPS: Final = 500
#: Entries that are looked at in one turn of the loop.
_TURN: Final = 2_000


@dataclass(slots=True)
class Group:
    """Notifications that have an event or a receiver in common."""

    name: str
    newest: int
    number: int = 0
    unfinished: int = 0
    failed: int = 0


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
        self._maker = RowMaker()
        self._entries: dict[str, dict[str, Row]] = {}
        self._order: list[Row] = []
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

    def get(self, namespace: str, name: str) -> Row | None:
        """Return an entry, None if there is none."""
        return self._entries.get(namespace, {}).get(name)

    def put(self, request: NotificationRequest, *, listing: int = 0) -> None:
        """Take an object as it is now; `listing` is the number of the list that brought it."""
        before = self.get(request.namespace, request.name)
        entry = self._maker.row(request, listing or (before.listing if before else 0))
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

    async def page(self, query: Query, size: int, placed: Placed) -> tuple[list[Row], bool]:
        """
        Return what matches, the newest first, and whether there is more.

        Args:
            query: Conditions, and where the page before ended.
            size: Entries at most.
            placed: What operators hold.
        """
        found: list[Row] = []
        async for entry in self.walk(query.after):
            if query.matches(entry, placed):
                if len(found) == size:
                    return found, True
                found.append(entry)
        return found, False

    async def walk(self, after: Position | None = None) -> AsyncIterator[Row]:
        """Yield all rows behind a place, the newest first; the loop gets its turn meanwhile."""
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

    async def groups(self, query: Query, placed: Placed, by: str) -> list[Group]:
        """Return what matches as groups by `event` or `receiver`, the newest first."""
        found: dict[str, Group] = {}
        async for row in self.walk():
            if not query.matches(row, placed):
                continue
            for name in [row.event] if by == "event" else [c.name for c in row.channels] or [""]:
                if name in found or len(found) < GROUPS:
                    group = found.setdefault(name, Group(name, row.created))
                    group.number += 1
                    group.unfinished += not row.finished
                    group.failed += row.phase in {"Failed", "PartiallySent"}
        return list(found.values())

    def _take_out(self, entry: Row) -> None:
        del self._order[bisect_left(self._order, position_of(entry), key=position_of)]
        inside = self._entries[entry.namespace]
        del inside[entry.name]
        if not inside:
            del self._entries[entry.namespace]
        self.phases[entry.phase] -= 1
