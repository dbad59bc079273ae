"""
`syncer list --watch`: the rows of notifications that change.

The API server's watch shows which object has changed; the header of its log is read for the row. Each
namespace has its own watch, opened before the list is read, so nothing is lost in between; a row that
comes twice is the same and is not shown again. When a watch has expired, everything is listed once
more, and the differences are shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from syncer.cli.access import Access
from syncer.cli.holding import read_holds
from syncer.cli.listing import Filter, Shown, row_of, rows
from syncer.cli.output import Progress, write_remark
from syncer.kube.notification_requests import Unreadable, list_path, parse
from syncer.model.errors import Ambiguous, Expired, Unavailable
from syncer.model.resource import NotificationRequest
from syncer.rules.backoff import exponential

#: Seconds after which the server ends a watch, for an answer, and of silence until it is given up.
_LASTS: Final = 240
_ANSWER: Final = 10.0
_SILENCE: Final = 300.0
#: Seconds between tries, at first and at most.
_PAUSE_FIRST: Final = 1.0
_PAUSE_MOST: Final = 30.0
#: Seconds that a watch must have lasted for its end to be none of several in a row.
_STEADY: Final = 60.0


class FailureStreak:
    """
    Watches of one namespace that ended with an error, one soon after the other.

    A server may open each watch and end it at once with an error after which everything is listed anew.
    That it was opened, or has said something, must not make the next list follow at once.
    """

    def __init__(self) -> None:
        """None has failed."""
        self.failures = 0
        self._opened: float | None = None

    def opened(self) -> None:
        """Note that a watch is open, or has brought something."""
        if self._opened is None:
            self._opened = time.monotonic()

    def ended(self, *, failed: bool) -> None:
        """Note the end of a watch, or that there was none."""
        lasted = 0.0 if self._opened is None else time.monotonic() - self._opened
        self._opened = None
        self.failures = 0 if not failed else 1 if lasted >= _STEADY else self.failures + 1


@dataclass(slots=True)
class Watching:
    """Watches of namespaces, each from the version that it has reached."""

    at: Access
    wanted: Filter
    shown: Shown
    versions: dict[str | None, str]

    @classmethod
    async def begin(
        cls, at: Access, namespaces: Sequence[str], wanted: Filter, shown: Shown
    ) -> Watching:
        """
        Remember the current version of each namespace.

        Args:
            at: Open connections.
            namespaces: To watch; empty for all.
            wanted: Which rows are shown.
            shown: Where they are written.

        Raises:
            PortError: the API server does not answer, or refuses.
        """
        versions: dict[str | None, str] = {}
        for namespace in namespaces or (None,):
            page = await at.objects.list_page(namespace, limit=1)
            versions[namespace] = page.resource_version
        return cls(at, wanted, shown, versions)

    async def run(self) -> None:
        """
        Show what changes, until cancelled.

        Raises:
            PortError: a server refuses; where one does not answer, it is asked again.
        """
        tasks = [asyncio.create_task(self._follow(namespace)) for namespace in self.versions]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, namespace: str | None) -> None:
        streak, away = FailureStreak(), 0
        while True:
            before = self.versions[namespace]
            try:
                try:
                    async with aclosing(changes(self.at, namespace, before)) as news:
                        async for change in news:
                            streak.opened()
                            if isinstance(change.found, NotificationRequest):
                                await self._show(change.found, deleted=change.deleted)
                            self.versions[namespace] = change.version
                    streak.ended(failed=False)
                except Expired:
                    streak.ended(failed=True)
                    # A server may be away for this as well: the place stays lost, and is looked for again.
                    await self._list_again(namespace)
                away = 0
            except (Unavailable, Ambiguous, TimeoutError) as error:
                streak.ended(failed=True)
                away = 1 if self.versions[namespace] != before else away + 1
                if away == 2:
                    write_remark(f"a server does not answer, retrying: {error}")
            await asyncio.sleep(exponential(_PAUSE_FIRST, _PAUSE_MOST, streak.failures + 1))

    async def _show(self, request: NotificationRequest, *, deleted: bool) -> None:
        (head,) = await self.at.log.read_headers([request.uid])
        now, (holds, _) = await self.at.now(), await read_holds(self.at)
        row = row_of(request, head, holds, now=now, deleted=deleted)
        if self.wanted.matches(row, now):
            self.shown.write([row], now)
        else:
            self.shown.forget(row)

    async def _list_again(self, namespace: str | None) -> None:
        page = await self.at.objects.list_page(namespace, limit=1)
        now, named = await self.at.now(), (namespace,) if namespace else ()
        holds, _ = await read_holds(self.at)
        found = rows(
            self.at, self.wanted, named, Progress("objects"), now=now, unread=[], holds=holds
        )
        async with aclosing(found) as pages:
            async for chosen in pages:
                self.shown.write(chosen, now)
        self.versions[namespace] = page.resource_version


class Change(NamedTuple):
    """
    What a watch brings.

    Attributes:
        version: Up to which everything is known with it.
        found: The object that has changed, None where none has: once when the watch begins, and as a sign
            of life.
        deleted: It is gone.
    """

    version: str
    found: NotificationRequest | Unreadable | None = None
    deleted: bool = False


async def changes(
    at: Access, namespace: str | None, version: str, *, silence: float = _SILENCE
) -> AsyncGenerator[Change, None]:
    """
    Watch until the server ends it.

    Args:
        at: Open connections.
        namespace: To watch; None is all of them.
        version: Up to which everything is known.
        silence: Seconds without a line after which the watch is given up; a bookmark comes every minute.

    Raises:
        Expired: the server has forgotten the version, list again.
        PortError: the API server does not answer, or refuses.
    """
    if at.kube is None:
        raise Unavailable(at.problem)
    params = {
        "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(_LASTS),
        "resourceVersion": version,
    }  # fmt: skip
    async with at.kube.stream(
        list_path(namespace), params, connect_timeout=_ANSWER, idle_timeout=silence
    ) as lines:
        yield Change(version)
        async for line in lines:
            kind, document = _event(line)
            found = parse(document) if kind != "BOOKMARK" else None
            yield Change(document["metadata"]["resourceVersion"], found, kind == "DELETED")


def _event(line: bytes) -> tuple[str, Any]:
    """Return kind and object of an event; Expired for anything else, since a list is always right."""
    try:
        event = orjson.loads(line)
        kind, document = event["type"], event["object"]
        version = document["metadata"]["resourceVersion"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Expired("a line of the watch is not an event") from None
    if kind not in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"} or not isinstance(version, str):
        raise Expired("the watch has ended with an error")
    return kind, document
