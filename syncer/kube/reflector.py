"""
List, then watch, without end: the objects on the API server become calls to a sink.

Each namespace (or all of them together) is a scope with its own loop: a paged list, a watch from
the list's resourceVersion, another watch from the last event, and so on. The loop is level-based:
anything that it does not understand leads to a new list, and objects that the list lacks are
deleted (`syncer.kube.mirror`).

It follows only the shards that this replica owns (`syncer.kube.following`): the API server sends all
objects, and the others are skipped as soon as they are decoded. Newly acquired shards are listed while the
watch of the others continues, and then one watch of all is opened; the objects of lost shards are
released, which does not count as a deletion. A second loop of each scope does this: every change wakes it,
and it also runs every few seconds. A replica that owns nothing sends one list request to learn whether
lists are answered, and waits.

Rules learnt from outages:

- The end of a watch is normal (the server closes slow watchers in this way), but a watch that ends
  immediately, again and again, must not spin: without progress the pause doubles, with jitter.
- A watch does not notice that it has lost an event, so the objects that exist are compared with those
  that were shown (`syncer.kube.comparison`).
- Silence is a failure. Bookmarks come every minute; a line must arrive within `idle_timeout`.
- An expired watch is answered with 200 and an ERROR event; an error while opening is never read as
  a list of lines.
- A resource type that is not served, or may not be read, proves nothing about objects: the reflector
  reports a problem and deletes nothing.
- Nothing waits for a namespace that may not be read, since deleting a namespace deletes its roles as well:
  the others are served.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from syncer.kube.answers import event_of
from syncer.kube.client import KubeClient
from syncer.kube.comparison import Comparison
from syncer.kube.errors import OversizedLine
from syncer.kube.following import Following, Owned
from syncer.kube.listing import PAGE_BYTES, Listed, Lister
from syncer.kube.mirror import Mirror, Shared, Sink
from syncer.kube.notification_requests import Meta, list_path, parse, told_of
from syncer.kube.scope import Scope
from syncer.model.errors import (
    ContractError,
    Expired,
    KindMissing,
    PortError,
    Rejected,
    Unauthorised,
)
from syncer.model.resource import GROUP, PLURAL, version_key
from syncer.rules.backoff import as_requested, equal_jitter, exponential, late_jitter
from syncer.runtime.supervise import elapse

#: Events taken from one buffer before the event loop gets its turn.
_BATCH: Final = 64
#: Clean ends without progress, one after the other, that count as a problem.
_CLOSES_TOLERATED: Final = 3
#: Checks for further acquired shards before the acquired ones are listed.
_SETTLING: Final = 5

logger = logging.getLogger("ledger.kube")


@dataclass(frozen=True, slots=True)
class ReflectorTimings:
    """
    Periods of a reflector, in seconds.

    Attributes:
        request_timeout: Timeout for a page of a list, and for the answer to a watch.
        watch_timeout: Time after which the server ends a watch; up to a quarter more is added.
        idle_timeout: Longest silence of a watch. Bookmarks come every 60 s.
        resync: Age of the last list at which the end of a watch leads to a new one.
        pause_min: First pause after a failure or after a watch that brought nothing.
        pause_max: Longest pause.
        settled: Time after which a watch counts as a good one.
        look: Time between checks of the owned shards if no change is reported.
        gather: Time to wait for further shards after a change, since few come alone.
        compare: Time between comparisons of the existing objects with those that the watch has shown.
        lag: Time by which a watch may be behind such a comparison.
    """

    request_timeout: float = 30.0
    watch_timeout: float = 240.0
    idle_timeout: float = 90.0
    resync: float = 1800.0
    pause_min: float = 0.2
    pause_max: float = 15.0
    settled: float = 5.0
    look: float = 5.0
    gather: float = 0.1
    compare: float = 120.0
    lag: float = 5.0


class Reflector:
    """Mirrors the NotificationRequests of some namespaces into a sink."""

    def __init__(  # noqa: PLR0913 (wiring: each is a part or a number of its own)
        self,
        client: KubeClient,
        namespaces: list[str] | None,
        sink: Sink,
        *,
        clock: Callable[[], float],
        owned: Owned,
        timings: ReflectorTimings | None = None,
        page_size: int = 500,
        page_bytes: int = PAGE_BYTES,
        brief: Callable[[], bool] = lambda: False,
        on_missed: Callable[[int], None] = lambda _: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """
        Prepare; `run` starts.

        Args:
            client: Used for lists and watches; one connection per namespace stays open.
            namespaces: Namespaces to watch, at least one; None for all, with one list and one watch.
            sink: Receives the changes, in order for each object.
            clock: Seconds of the monotonic clock.
            owned: The shards to follow.
            timings: Periods; tests use short ones.
            page_size: Objects in a page of a list.
            page_bytes: Largest page; if objects are large, a page holds fewer, but at least one.
            brief: Returns whether finished objects may come without their retention, completion time and
                journaled attempts, which makes a list of mostly finished ones several times as quick.
            on_missed: Called with the number of objects that exist and that no watch has shown.
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
        self._lister = Lister(
            client,
            timeout=self._timings.request_timeout,
            page_size=page_size,
            page_bytes=page_bytes,
            brief=brief,
        )
        self._jitter = jitter
        self._owned = owned
        owned.on_change = self._on_change
        #: Number of other replicas' objects received, in lists and watches.
        self.foreign = 0
        shared = Shared(sink, self._shard_of)
        self._scopes = [Scope(n, Mirror(shared), following=Following(owned)) for n in scopes]
        self._comparison = Comparison(
            self._lister,
            self._scopes,
            self._shard_of,
            every=self._timings.compare,
            grace=self._timings.lag,
            on_missed=on_missed,
        )

    @property
    def refused(self) -> frozenset[str | None]:
        """Namespaces that may not be read: nothing new is learnt of them, and nothing waits for them."""
        return frozenset(s.namespace for s in self._scopes if s.refused)

    @property
    def _readable(self) -> list[Scope]:
        """The scopes to wait for: all of them if none may be read."""
        return [s for s in self._scopes if not s.refused] or self._scopes

    @property
    def answered(self) -> bool:
        """Whether a list of each namespace that may be read has been answered."""
        return all(s.answered for s in self._readable)

    @property
    def synced(self) -> bool:
        """Whether all shards that are owned now have been listed, in each namespace that may be read."""
        return all(s.answered and s.following.complete for s in self._readable)

    def follows(self, uid: str) -> bool:
        """Whether a uid's shard is listed and watched, in each namespace that may be read."""
        return all(s.following.follows(self._shard_of(uid)) for s in self._readable)

    def _shard_of(self, uid: str) -> int:
        return self._owned.sharding.of(uid)

    @property
    def problem(self) -> str | None:
        """Why the mirror may be behind now, for readiness; None if it is not known to be."""
        for scope in self._scopes:
            problem = (
                None if scope.has_settled(self._clock(), self._timings.settled) else scope.problem
            )
            if problem := problem or scope.behind:
                where = f"namespace {scope.namespace}: " if scope.namespace else ""
                return f"watch of notifications: {where}{problem}"
        return None

    async def run(self) -> None:
        """Mirror until cancelled; no answer of the server ends it, but an error of the sink does."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._comparison.run(), name="reflector-comparison")
            for scope in self._scopes:
                where = scope.namespace or "*"
                group.create_task(self._follow(scope), name=f"reflector {where}")
                group.create_task(self._follow_shards(scope), name=f"reflector-shards {where}")

    async def _follow(self, scope: Scope) -> None:
        while True:
            pause = 0.0
            try:
                if not scope.resume:
                    async with scope.listing:
                        await self._list(scope)
                useful = await (self._watch(scope) if scope.resume else self._idle(scope))
            except PortError as error:
                pause = self._failed(scope, error)
            else:
                if useful:
                    scope.recover()
                else:
                    scope.streak += 1
                    if scope.streak >= _CLOSES_TOLERATED:
                        scope.problem = "the server ends each watch at once"
                if self._clock() - scope.listed_at >= self._timings.resync:
                    scope.resume = ""
                if scope.switching:
                    continue
            await asyncio.sleep(self._pause(scope.streak, requested=pause))

    def _failed(self, scope: Scope, error: PortError) -> float:
        """Note a failure; returns the pause that the server requests."""
        scope.streak += 1
        scope.note(error)
        scope.problem = str(error)
        if isinstance(error, Unauthorised):
            scope.problem = f"access is refused ({error})"
        elif isinstance(error, Expired | KindMissing | Rejected):
            # The server may have rejected the version at which the watch would begin.
            scope.resume = ""
        if isinstance(error, KindMissing):
            scope.problem = f"the resource {PLURAL}.{GROUP} is not served"
        elif isinstance(error, Expired) and not isinstance(error, OversizedLine):
            scope.problem = f"list again ({error})"
        if str(error) != scope.interrupted:
            scope.interrupted = str(error)
            where = scope.namespace or "all namespaces"
            logger.info("watch of %s interrupted: %s", where, error)
        return error.retry_after or 0.0

    def _pause(self, streak: int, *, requested: float = 0.0) -> float:
        """Return the seconds to the next try; if the server names a time, not much longer than that."""
        longest = exponential(self._timings.pause_min, self._timings.pause_max, streak + 1)
        pause = equal_jitter(longest, self._jitter())
        return as_requested(pause, requested)

    # -- shards ---------------------------------------------------------------------------------

    def _on_change(self) -> None:
        for scope in self._scopes:
            scope.changed.set()

    async def _idle(self, scope: Scope) -> bool:
        """Wait until there is something to follow, or until the next regular check."""
        scope.switching = False
        await elapse(self._timings.look, scope.wake)
        scope.wake.clear()
        return True

    async def _follow_shards(self, scope: Scope) -> None:
        """Keep following the shards that are owned, as they change."""
        streak = 0
        while True:
            await self._until_changed(scope)
            pause = 0.0
            try:
                async with scope.listing:
                    await self._adjust(scope)
            except PortError as error:
                streak += 1
                scope.note(error)
                behind = f"acquired shards could not be listed ({error})"
                if behind != scope.behind:
                    logger.info("%s", behind)
                scope.behind = behind
                pause = self._pause(streak, requested=error.retry_after or 0.0)
            else:
                streak, scope.behind = 0, None
            await asyncio.sleep(pause)

    async def _until_changed(self, scope: Scope) -> None:
        scope.changed.clear()
        if scope.is_behind:
            return
        await elapse(self._timings.look, scope.changed)
        for _ in range(_SETTLING):
            if not scope.changed.is_set():
                break
            scope.changed.clear()
            await asyncio.sleep(self._timings.gather)

    async def _adjust(self, scope: Scope) -> None:
        """Release lost shards, list acquired ones, and have one watch for all of them opened."""
        left = self._let_go(scope)
        coming = scope.following.coming()
        if coming and scope.resume:
            listed = await self._collect(scope, coming)
            # Meanwhile the watch may have met an error that only a list of everything answers.
            begin = scope.following.add(coming, listed.version, watched=scope.resume)
            scope.resume = scope.resume and begin
        if left or coming:
            scope.switch()

    def _let_go(self, scope: Scope) -> frozenset[int]:
        left = scope.following.left()
        if left:
            scope.following.drop(left)
            scope.mirror.release(left)
            if not scope.following.shards:
                scope.resume = ""
                scope.switch()
        return left

    # -- lists ----------------------------------------------------------------------------------

    async def _list(self, scope: Scope) -> None:
        """List the owned shards; if there are none, send one list request to see whether it is answered."""
        self._let_go(scope)
        terms = dict(self._owned.owned)
        if terms:
            listed = await self._collect(scope, terms)
            scope.following.start(listed.version)
            scope.resume = listed.version
            scope.listed_at = self._clock()
        elif not scope.answered:
            await self._lister.probe(scope)
            scope.answered, scope.refused = True, False

    async def _collect(self, scope: Scope, terms: Mapping[int, object]) -> Listed:
        """Take a complete list of some shards; objects of these shards not in it are gone."""
        scope.following.begin(terms)
        listed = await self._lister.collect(scope, lambda uid: self._shard_of(uid) in terms)
        self.foreign += listed.foreign
        # An item without an identity may be any of the objects that are missing now.
        if not listed.anonymous:
            scope.mirror.keep_only(listed.present, terms)
        scope.answered, scope.refused = True, False
        logger.info(
            "objects are listed",
            extra={
                "shards": sorted(terms),
                "objects": len(listed.present),
                "others": listed.foreign,
            },
        )
        return listed

    # -- the watch ------------------------------------------------------------------------------

    async def _watch(self, scope: Scope) -> bool:
        """Follow one watch until it ends or the shards to watch change; return whether it was of use."""
        scope.switching = False
        try:
            async with asyncio.timeout(None) as scope.watching:
                return await self._stream(scope)
        except TimeoutError:
            return True
        finally:
            scope.watching = None

    async def _stream(self, scope: Scope) -> bool:
        timeout = late_jitter(self._timings.watch_timeout, self._jitter())
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": scope.resume,
            "timeoutSeconds": str(max(1, round(timeout))),
        }
        began_at = scope.resume
        try:
            async with self._client.stream(
                list_path(scope.namespace),
                params,
                connect_timeout=self._timings.request_timeout,
                idle_timeout=self._timings.idle_timeout,
            ) as lines:
                scope.opened_at, scope.refused = self._clock(), False
                if not scope.streak:
                    scope.problem = None
                n = 0
                async for line in lines:
                    if scope.switching:
                        break
                    self._event(scope, line)
                    n += 1
                    if n % _BATCH == 0:
                        await asyncio.sleep(0)
        finally:
            settled = scope.has_settled(self._clock(), self._timings.settled)
            scope.opened_at = None
            if settled:
                scope.recover()
        return settled or scope.resume != began_at

    def _event(self, scope: Scope, line: bytes) -> None:
        kind, document = event_of(line)
        version, uid = told_of(document, "resourceVersion"), told_of(document, "uid")
        if kind == "BOOKMARK":
            self._advance(scope, version)
            return
        if uid and version:
            shard = self._shard_of(uid)
            if not scope.following.lacks(shard, version):
                self.foreign += not scope.following.follows(shard)
                self._advance(scope, version)
                return
        try:
            meta = Meta.of(document)
            if kind == "DELETED":
                scope.mirror.delete(meta, lambda: parse(document))
            elif not scope.mirror.sink_has(meta):
                # If the sink has it, it is a write of this process coming back, and need not be parsed.
                scope.mirror.upsert(parse(document), added=kind == "ADDED")
        except ContractError:
            raise Expired("an event about an object without identity") from None
        self._advance(scope, meta.resource_version)

    def _advance(self, scope: Scope, resource_version: str) -> None:
        # A late event must not move the watch back.
        if version_key(resource_version) > version_key(scope.resume):
            scope.resume = resource_version
            scope.newest = max(scope.newest, resource_version, key=version_key)
