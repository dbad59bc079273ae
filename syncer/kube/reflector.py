"""
List, then watch, without end: what the API server holds becomes calls to a sink.

Each namespace (or all of them as one) is a scope with a loop of its own: a paged list, a watch from
the list's resourceVersion, another watch from the last event, and so on. The loop is level-based:
whatever cannot be understood leads to a new list, and the difference to what is known becomes
deletes (`syncer.kube.mirror`).

A list takes what is not finished first and in full, then the rest by name, version and phase, where the
server can select by phase: a hundred thousand finished objects would be a third of a gigabyte. The
watch begins at the first of the two lists, so what changes in between is not lost.

Rules that cost someone an outage:

- A clean end of a watch is nothing special (the server closes slow watchers so), but a watch that
  ends at once, again and again, must not spin: without progress the pause doubles, with jitter.
- Silence is a failure. Bookmarks come every minute; a line must arrive within `idle_timeout`.
- An expired watch is answered with 200 and an ERROR event; an error while opening is never read as
  a list of lines.
- A resource type that is not served, or may not be read, proves nothing about objects: the reflector
  reports a problem and deletes nothing.
- A list older than what was seen (a restored etcd, a server that lags) is refused.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from syncer.kube.errors import OVERSIZED, OversizedLine
from syncer.kube.mirror import Mirror, Place, Shared, Sink
from syncer.kube.notification_requests import (
    UNFINISHED,
    Meta,
    Row,
    Unreadable,
    list_page,
    list_path,
    list_rows,
    parse,
)
from syncer.model.errors import (
    ContractError,
    Expired,
    KindMissing,
    PortError,
    Rejected,
    Unauthorised,
    Unavailable,
)
from syncer.model.resource import GROUP, PLURAL, TERMINAL_PHASES, version_key
from syncer.rules.backoff import equal_jitter, exponential, late_jitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncer.kube.client import KubeClient

#: Bytes of a page of a list: reading it as JSON holds the loop for some tens of milliseconds.
PAGE_BYTES: Final = 8 << 20
#: By which a page is made smaller that was larger.
_FEWER: Final = 8
#: The loop of the process gets its turn after this many events of one buffer.
_BATCH: Final = 64
#: Clean ends without progress, one after the other, that make a problem.
_CLOSES_TOLERATED: Final = 3

logger = logging.getLogger("ledger.kube")


@dataclass(frozen=True, slots=True)
class ReflectorTimings:
    """
    Periods of a reflector, in seconds.

    Attributes:
        request_timeout: For a page of a list, and until a watch answers.
        watch_timeout: After which the server ends a watch; up to a quarter more is added.
        idle_timeout: Longest silence of a watch. Bookmarks come every 60 s.
        resync: Age of the last list at which the end of a watch leads to a new one.
        pause_min: First pause after a failure or after a watch that brought nothing.
        pause_max: Longest pause.
        settled: A watch that lasted this long was a good one.
    """

    request_timeout: float = 30.0
    watch_timeout: float = 240.0
    idle_timeout: float = 90.0
    resync: float = 1800.0
    pause_min: float = 0.2
    pause_max: float = 15.0
    settled: float = 5.0


@dataclass(slots=True, eq=False)
class _Scope:
    namespace: str | None
    mirror: Mirror
    #: Where the next watch begins; empty: list first.
    resume: str = ""
    #: Newest resourceVersion that this scope has shown; never cleared.
    newest: str = ""
    synced: bool = False
    listed_at: float = 0.0
    #: Failures, and watches that brought nothing, since the last good one.
    streak: int = 0
    opened_at: float | None = None
    problem: str | None = None


@dataclass(slots=True)
class _Listed:
    """
    What a list has brought so far.

    Attributes:
        version: resourceVersion of the list.
        present: The objects in it.
        anonymous: Entries without an identity.
    """

    version: str = ""
    present: set[Place] = field(default_factory=set)
    anonymous: int = 0


class Reflector:
    """
    Mirrors the NotificationRequests of some namespaces into a sink.

    Attributes:
        counts: Totals since the start.
    """

    def __init__(  # noqa: PLR0913 (wiring: each is a part or a number of its own)
        self,
        client: KubeClient,
        namespaces: list[str] | None,
        sink: Sink,
        *,
        clock: Callable[[], float],
        timings: ReflectorTimings | None = None,
        page_size: int = 500,
        page_bytes: int = PAGE_BYTES,
        brief: bool = False,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """
        Prepare; `run` starts.

        Args:
            client: Used for lists and watches; one connection per namespace stays open.
            namespaces: To watch, at least one; None is all of them, with one list and one watch.
            sink: Receives the changes, in order for each object.
            clock: Seconds of the monotonic clock.
            timings: Periods; tests use short ones.
            page_size: Objects in a page of a list.
            page_bytes: Of a page; where objects are large it holds fewer, one at least.
            brief: Finished objects may come without their retention and the time of their end, which
                makes a list of mostly finished ones several times as quick.
            jitter: Random numbers in [0, 1).

        Raises:
            ValueError: the list of namespaces is empty.
        """
        scopes: list[str | None] = [None] if namespaces is None else list(dict.fromkeys(namespaces))
        if not scopes:
            raise ValueError("no namespace to watch")
        self._client = client
        self._clock = clock
        self._timings = timings or ReflectorTimings()
        self._page_size = page_size
        self._page_bytes = page_bytes
        self._brief = brief
        self._jitter = jitter
        shared = Shared(sink)
        self._scopes = [_Scope(n, Mirror(shared)) for n in scopes]
        self.counts = shared.counts

    @property
    def synced(self) -> bool:
        """Whether each namespace has been listed completely at least once."""
        return all(s.synced for s in self._scopes)

    @property
    def problem(self) -> str | None:
        """Why the mirror may be behind now, for readiness; None if it is not known to be."""
        for scope in self._scopes:
            if scope.problem and not self._settled(scope):
                where = f"namespace {scope.namespace}: " if scope.namespace else ""
                return f"watch of notifications: {where}{scope.problem}"
        return None

    async def run(self) -> None:
        """Mirror until cancelled; no answer of the server ends it, but an error of the sink does."""
        async with asyncio.TaskGroup() as group:
            for scope in self._scopes:
                group.create_task(self._follow(scope), name=f"reflector {scope.namespace or '*'}")

    async def _follow(self, scope: _Scope) -> None:
        while True:
            pause = 0.0
            try:
                if not scope.resume:
                    await self._list(scope)
                useful = await self._watch(scope)
            except PortError as error:
                pause = self._failed(scope, error)
            else:
                if useful:
                    scope.streak = 0
                    scope.problem = None
                else:
                    scope.streak += 1
                    if scope.streak >= _CLOSES_TOLERATED:
                        scope.problem = "the server ends each watch at once"
                if self._clock() - scope.listed_at >= self._timings.resync:
                    scope.resume = ""
            await asyncio.sleep(max(pause, self._pause(scope.streak)))

    def _failed(self, scope: _Scope, error: PortError) -> float:
        """Note a failure; returns the pause that the server requests."""
        self.counts.failures += 1
        scope.streak += 1
        pause = 0.0
        match error:
            case OversizedLine():
                self.counts.oversized += 1
                scope.resume = ""
                scope.problem = str(error)
            case Expired():
                scope.resume = ""
                scope.problem = f"list again ({error})"
            case KindMissing():
                scope.resume = ""
                scope.problem = f"the resource {PLURAL}.{GROUP} is not served"
                pause = error.retry_after or 0.0
            case Unauthorised():
                scope.problem = f"access is refused ({error})"
            case Rejected():
                # Perhaps it is the version at which the watch would begin that is refused.
                scope.resume = ""
                scope.problem = str(error)
            case Unavailable():
                scope.problem = str(error)
                pause = error.retry_after or 0.0
            case _:
                scope.problem = str(error)
        logger.info("watch of %s interrupted: %s", scope.namespace or "all namespaces", error)
        return pause

    def _pause(self, streak: int) -> float:
        longest = exponential(self._timings.pause_min, self._timings.pause_max, streak + 1)
        return equal_jitter(longest, self._jitter())

    def _settled(self, scope: _Scope) -> bool:
        """Whether the open watch has lasted long enough to outlive the problem noted before it."""
        return (
            scope.opened_at is not None and self._clock() - scope.opened_at >= self._timings.settled
        )

    async def _list(self, scope: _Scope) -> None:
        if not (self._brief and await self._list_in_brief(scope)):
            listed = await self._take(scope)
            self._on_listed(scope, listed)

    async def _list_in_brief(self, scope: _Scope) -> bool:
        """
        List what is not finished, then of everything its name, version and phase.

        Nine of ten objects are finished, and nothing else is wanted of them.

        Returns:
            False if the server cannot select by phase; what was taken until then is right.
        """
        try:
            listed = await self._take(scope, selector=UNFINISHED)
        except Rejected as error:
            if error.reason != "BadRequest":
                raise
            self._list_whole_objects(f"the phase cannot be selected ({error})")
            return False
        token = ""
        while True:
            page = await list_rows(
                self._client,
                scope.namespace,
                limit=self._page_size,
                continue_token=token,
                timeout=self._timings.request_timeout,
            )
            if page is None:
                self._list_whole_objects("objects are not printed with their phase")
                return False
            if version_key(page.resource_version) < version_key(listed.version):
                raise Unavailable("the server lists an older state than it has shown before")
            listed.anonymous += page.anonymous
            for row in page.rows:
                listed.present.add(Place(row.meta.namespace, row.meta.name))
                # Changed since the first list: the watch begins there, and brings the whole object.
                if version_key(row.meta.resource_version) > version_key(listed.version):
                    continue
                if not self._take_row(scope.mirror, row):
                    self._list_whole_objects("the list of what is not finished lacks an object")
                    return False
            token = page.continue_token
            if not token:
                break
        self._on_listed(scope, listed)
        return True

    @staticmethod
    def _take_row(mirror: Mirror, row: Row) -> bool:
        """Take a row of a list in brief; False if the object should have been in the first list."""
        meta = row.meta
        if mirror.version_of(meta) == meta.resource_version or mirror.sink_has(meta):
            return True
        if row.phase in TERMINAL_PHASES:
            mirror.upsert(row.outline(), added=False)
            return True
        return False

    def _list_whole_objects(self, reason: str) -> None:
        """List all objects in full until the next start."""
        self._brief = False
        logger.info("objects are listed whole, finished ones too: %s", reason)

    async def _take(self, scope: _Scope, *, selector: str = "") -> _Listed:
        """Take a list to its end, page by page."""
        token, listed = "", _Listed()
        limit = self._page_size
        while True:
            try:
                page = await list_page(
                    self._client,
                    scope.namespace,
                    limit=limit,
                    continue_token=token,
                    timeout=self._timings.request_timeout,
                    known=scope.mirror.version_of,
                    selector=selector,
                    max_bytes=self._page_bytes if limit > 1 else 0,
                )
            except Rejected as error:
                if error.reason != OVERSIZED:
                    raise
                # Five hundred objects of a mebibyte would hold the loop for seconds, and fill memory.
                limit = max(1, limit // _FEWER)
                continue
            limit = min(self._page_size, 2 * limit)
            if version_key(page.resource_version) < version_key(scope.newest):
                raise Unavailable("the server lists an older state than it has shown before")
            # Before the list is complete: what it brings is known from now on, and an older list
            # that follows it after a failure would take that for deleted.
            scope.newest = listed.version = page.resource_version
            listed.anonymous += page.anonymous
            listed.present.update(Place(m.namespace, m.name) for m in page.unchanged)
            for found in page.objects:
                meta = found.meta if isinstance(found, Unreadable) else found
                scope.mirror.upsert(found, added=False)
                listed.present.add(Place(meta.namespace, meta.name))
            token = page.continue_token
            if not token:
                return listed

    def _on_listed(self, scope: _Scope, listed: _Listed) -> None:
        """Note that a list is complete; what it lacks is gone."""
        # An entry without identity may be any of those that are missing now.
        self.counts.unreadable += listed.anonymous
        if not listed.anonymous:
            scope.mirror.keep_only(listed.present)
        scope.resume = scope.newest = listed.version
        scope.listed_at = self._clock()
        scope.synced = True
        self.counts.lists += 1

    async def _watch(self, scope: _Scope) -> bool:
        """Follow one watch to its end; returns whether it was of any use."""
        timeout = late_jitter(self._timings.watch_timeout, self._jitter())
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": scope.resume,
            "timeoutSeconds": str(max(1, round(timeout))),
        }
        began_at = scope.resume
        self.counts.watches += 1
        try:
            async with self._client.stream(
                list_path(scope.namespace),
                params,
                connect_timeout=self._timings.request_timeout,
                idle_timeout=self._timings.idle_timeout,
            ) as lines:
                scope.opened_at = self._clock()
                if not scope.streak:
                    scope.problem = None
                n = 0
                async for line in lines:
                    self._event(scope, line)
                    n += 1
                    if n % _BATCH == 0:
                        await asyncio.sleep(0)
        finally:
            settled = self._settled(scope)
            scope.opened_at = None
            if settled:
                scope.streak = 0
                scope.problem = None
        return settled or scope.resume != began_at

    def _event(self, scope: _Scope, line: bytes) -> None:
        try:
            event: Any = orjson.loads(line)
            kind, document = event["type"], event["object"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self.counts.garbage += 1
            raise Expired("a line of the watch is not an event") from None
        if kind == "BOOKMARK":
            self.counts.bookmarks += 1
            meta = document.get("metadata") if isinstance(document, dict) else None
            version = meta.get("resourceVersion") if isinstance(meta, dict) else None
            if isinstance(version, str):
                self._advance(scope, version)
            else:
                self.counts.garbage += 1
            return
        if kind == "ERROR":
            # 410, or anything else: a list is the one answer that is always right.
            code = document.get("code") if isinstance(document, dict) else None
            raise Expired(f"error {code} in the watch")
        if kind not in ("ADDED", "MODIFIED", "DELETED"):
            self.counts.garbage += 1
            raise Expired("an event of a type that is not known")
        self.counts.events += 1
        try:
            meta = Meta.of(document)
            if kind == "DELETED":
                scope.mirror.delete(meta)
            elif not scope.mirror.sink_has(meta):
                # Otherwise our own write comes back, and need not be parsed.
                scope.mirror.upsert(parse(document), added=kind == "ADDED")
        except ContractError:
            self.counts.unreadable += 1
            raise Expired("an event about an object without identity") from None
        self._advance(scope, meta.resource_version)

    def _advance(self, scope: _Scope, resource_version: str) -> None:
        # A late event must not move the watch back.
        if version_key(resource_version) > version_key(scope.resume):
            scope.resume = scope.newest = resource_version
