"""
All notifications, newest first, kept in step with the API server: a list of each namespace, then a watch.

The API server can neither sort by age nor filter by more than names, so every search would have to read
everything. Therefore all rows are kept here, in order, and a page begins where the one before ended.
A search visits all rows and yields to the event loop every few thousand. Beyond a bound the oldest rows are
dropped, and the pages say so.

The controller's reflector is not used: it would keep identity and version of each object a second time,
and its rules about shards and finished objects are for delivery. Here a late or lost event only leaves a
row out of date until the next event. When a watch has expired, everything is listed again, and rows that
the list lacks are removed. While a server is unavailable, the rows stay, and the pages say since when.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Final

from syncer.cli.access import Access
from syncer.cli.exits import reason_of
from syncer.cli.rows import Placed, Row, row_of
from syncer.cli.web.search import Position, Search, position_of
from syncer.kube.answers import event_of
from syncer.kube.notification_requests import Unreadable, list_path, parse, told_of
from syncer.model.errors import Expired, LedgerError, Unavailable
from syncer.model.resource import NotificationRequest
from syncer.rules.backoff import exponential

#: Rows that are kept: some sixty megabytes at most.
MOST: Final = 200_000
#: Groups that are shown.
GROUPS: Final = 500
#: Rows that are visited in one turn of the event loop.
_TURN: Final = 2_000
#: Values that rows share, the most recently used ones.
_SHARED: Final = 8_192


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
    The rows of all notifications.

    Attributes:
        phases: Number of rows in each phase; the empty phase is that before the first status.
        cut: There are more notifications than are kept, so that the oldest are missing.
        on_change: Called with the key of each notification that has changed; with an empty key if all may
            have.
    """

    def __init__(self, *, most: int = MOST) -> None:
        """Begin without rows; at most `most` are kept."""
        self._most = most
        #: Returns one object for equal values: phases, namespaces, channels and errors repeat.
        self._share: Callable[[Any], Any] = lru_cache(_SHARED)(lambda value: value)
        self._entries: dict[str, dict[str, Row]] = {}
        self._order: list[Row] = []
        self.phases: Counter[str] = Counter()
        self.cut = False
        self.on_change: Callable[[str], None] = lambda _key: None

    @property
    def namespaces(self) -> list[str]:
        """Namespaces with a notification."""
        return sorted(self._entries)

    def get(self, namespace: str, name: str) -> Row | None:
        """Return a row, None if there is none."""
        return self._entries.get(namespace, {}).get(name)

    def put(self, request: NotificationRequest, *, listing: int = 0) -> None:
        """Add or replace the row of an object; `listing` is the number of the list that contained it."""
        before = self.get(request.namespace, request.name)
        entry = row_of(request, self._share, listing or (before.listing if before else 0))
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
        """Remove the row of a deleted object."""
        entry = self.get(namespace, name)
        if entry is not None:
            self._take_out(entry)
            self.on_change(entry.key)

    def keep_only(self, listing: int, namespace: str | None) -> None:
        """Remove rows that a complete list of a namespace, or of all namespaces with None, lacks."""
        gone = [
            e for e in self._order
            if e.listing != listing and (namespace is None or e.namespace == namespace)
        ]  # fmt: skip
        for entry in gone:
            self.drop(entry.namespace, entry.name)

    async def page(self, query: Search, size: int, placed: Placed) -> tuple[list[Row], bool]:
        """
        Return the rows that match, the newest first, and whether there are more.

        Args:
            query: Conditions, and the position where the page before ended.
            size: Rows at most.
            placed: The operators' holds, and the time.
        """
        found: list[Row] = []
        async for entry in self.walk(query.after):
            if query.matches(entry, placed):
                if len(found) == size:
                    return found, True
                found.append(entry)
        return found, False

    async def walk(self, after: Position | None = None) -> AsyncIterator[Row]:
        """Yield all rows after a position, the newest first; other tasks get their turn in between."""
        while True:
            end = len(self._order)
            if after is not None:
                end = bisect_left(self._order, after, key=position_of)
            chunk = self._order[max(0, end - _TURN) : end]
            for entry in reversed(chunk):
                yield entry
            if len(chunk) < _TURN:
                return
            # Continue at a position, not an index: the order may change while other tasks run.
            after = position_of(chunk[0])
            await asyncio.sleep(0)

    async def groups(self, query: Search, placed: Placed, by: str) -> list[Group]:
        """Return the rows that match as groups by `event` or `receiver`, the newest first."""
        found: dict[str, Group] = {}
        async for row in self.walk():
            if not query.matches(row, placed):
                continue
            for name in [row.event] if by == "event" else [c.name for c in row.channels] or [""]:
                if name in found or len(found) < GROUPS:
                    group = found.setdefault(name, Group(name, row.created))
                    group.number += 1
                    group.unfinished += not row.finished
                    group.failed += row.lost
        return list(found.values())

    def _take_out(self, entry: Row) -> None:
        del self._order[bisect_left(self._order, position_of(entry), key=position_of)]
        inside = self._entries[entry.namespace]
        del inside[entry.name]
        if not inside:
            del self._entries[entry.namespace]
        self.phases[entry.phase] -= 1


#: Objects in a page of a list; parsing it blocks the loop for some ten milliseconds, and takes megabytes.
_PAGE: Final = 100
#: Seconds without a line of a watch until the pages say that they may be old; bookmarks come every 60.
_SILENCE: Final = 90.0
#: Seconds between tries: at first, and at most.
_PAUSE_FIRST: Final = 0.5
_PAUSE_MOST: Final = 15.0


#: Seconds after which the server ends a watch; seconds within which it must answer.
_LASTS: Final = 240
_ANSWER: Final = 10.0
#: Seconds that list and watch must have lasted for a failure to count as the first one again.
_STEADY: Final = 60.0


class Follower:
    """Follows namespaces; if there is a `problem`, the rows are as of `since` or later."""

    def __init__(self, at: Access, index: Index, namespaces: Sequence[str]) -> None:
        """Prepare; `run` keeps the index up to date. Without namespaces, all are followed."""
        self._at = at
        self._index = index
        self._scopes: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._listed: set[str | None] = set()
        self._problems: dict[str | None, tuple[str, float]] = {}
        self._numbers = count(1)

    @property
    def complete(self) -> bool:
        """Whether every namespace has been listed completely since the start."""
        return len(self._listed) == len(self._scopes)

    @property
    def problem(self) -> str:
        """Why the rows may be out of date, empty if they are not."""
        return next((text for text, _ in self._problems.values()), "")

    @property
    def since(self) -> float:
        """Unix seconds since when there is a problem, 0 without one."""
        return min((at for _, at in self._problems.values()), default=0.0)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            for namespace in self._scopes:
                group.create_task(self._follow(namespace))

    async def _follow(self, namespace: str | None) -> None:
        version, failures = "", 0
        while True:
            began = time.monotonic()
            try:
                if not version:
                    version = await self._list(namespace)
                async with self._watch(namespace, version) as lines:
                    self._mended(namespace)
                    async for line in lines:
                        version = self._take(line)
                        self._mended(namespace)
                failures = 0
            except (LedgerError, TimeoutError) as error:
                # Expired counts, too: a server may end each watch at once with it, which costs a new list.
                failures = 1 if time.monotonic() - began >= _STEADY else failures + 1
                if isinstance(error, Expired):
                    version = ""
                else:
                    self._failed(namespace, reason_of(error))
            await asyncio.sleep(exponential(_PAUSE_FIRST, _PAUSE_MOST, failures + 1))

    def _watch(
        self, namespace: str | None, version: str
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Watch until the server ends the watch; everything up to `version` is known."""
        if self._at.kube is None:
            raise Unavailable(self._at.problem)
        params = {
            "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(_LASTS),
            "resourceVersion": version,
        }  # fmt: skip
        return self._at.kube.stream(
            list_path(namespace), params, connect_timeout=_ANSWER, idle_timeout=_SILENCE
        )

    def _take(self, line: bytes) -> str:
        """Apply one line of a watch; returns the version up to which everything is then known."""
        kind, document = event_of(line)
        version = told_of(document, "resourceVersion")
        if not version:
            raise Expired("an event about an object without a version")
        # A bookmark brings no object, only a version.
        found = None if kind == "BOOKMARK" else parse(document)
        if found is not None and kind == "DELETED":
            self._index.drop(found.namespace, found.name)
        elif isinstance(found, NotificationRequest):
            self._index.put(found)
        return version

    async def _list(self, namespace: str | None) -> str:
        """List everything, and apply it; returns the version of the list."""
        number, token, version = next(self._numbers), "", ""
        while True:
            page = await self._at.objects.list_page(namespace, limit=_PAGE, continue_token=token)
            version = version or page.resource_version
            for found in page.objects:
                if not isinstance(found, Unreadable):
                    self._index.put(found, listing=number)
            token = page.continue_token
            if not token:
                break
            self._mended(namespace)
        self._index.keep_only(number, namespace)
        self._listed.add(namespace)
        self._mended(namespace)
        self._index.on_change("")
        return version

    def _failed(self, namespace: str | None, text: str) -> None:
        _, at = self._problems.get(namespace, ("", time.time()))
        if namespace not in self._problems:
            self._index.on_change("")
        self._problems[namespace] = (text, at)

    def _mended(self, namespace: str | None) -> None:
        if self._problems.pop(namespace, None) is not None:
            self._index.on_change("")
