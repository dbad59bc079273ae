"""
Lists of a reflector: read page by page into a mirror; only a complete list shows deletions.

A list in brief first takes the unfinished objects in full, if the CRD lets the phase be selected (the
chart's does, Kubernaut's does not). Then it takes all objects by name, version and phase, as the server
prints them, and reads one by one the unfinished objects that are still missing. In full, a hundred thousand
finished objects would be most of a gigabyte. The watch begins at the last list, so it repeats the state of
an object that was read after that list; the repeat is skipped.

Pages are small in bytes, since parsing one blocks the event loop. A list older than the state seen before
(a restored etcd, a server that lags) is refused.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from syncer.kube.client import KubeClient
from syncer.kube.errors import BAD_REQUEST, OLDER_STATE, OVERSIZED
from syncer.kube.mirror import Mirror
from syncer.kube.notification_requests import (
    UNFINISHED,
    Meta,
    Ours,
    Page,
    Row,
    excludes,
    list_metadata,
    list_page,
    list_rows,
    object_path,
    parse,
)
from syncer.kube.scope import Scope
from syncer.model.errors import ContractError, Gone, Rejected, Unavailable
from syncer.model.resource import TERMINAL_PHASES, version_key

P = TypeVar("P")

#: Largest page of a list in bytes: parsing it blocks the event loop for some tens of milliseconds.
PAGE_BYTES: Final = 8 << 20
#: Maximum of pages and objects read at once: a start may list hundreds of namespaces.
_TOGETHER: Final = 8
#: Up to a page of objects, or one in this many, is read one by one; beyond that a full list is quicker.
_FEW: Final = 8
#: Objects in a page of metadata, about 1.5 kB each: small enough not to stall an idle process.
_BRIEF_PAGE: Final = 250
#: Factor by which the limit is reduced after a page that was too large.
_FEWER: Final = 8

logger = logging.getLogger("ledger.kube")


@dataclass(slots=True)
class Listed:
    """
    The result of a list.

    Attributes:
        version: resourceVersion of the list.
        present: Uids of the objects in it.
        anonymous: Number of items without an identity.
        foreign: Number of items that `ours` excludes.
    """

    version: str = ""
    present: set[str] = field(default_factory=set)
    anonymous: int = 0
    foreign: int = 0


class Lister:
    """Lists the objects of one resource type."""

    def __init__(
        self,
        client: KubeClient,
        *,
        timeout: float,
        page_size: int,
        page_bytes: int,
        brief: Callable[[], bool],
    ) -> None:
        """
        Args:
            client: The client to read with.
            timeout: Seconds for a page.
            page_size: Objects in a page.
            page_bytes: Largest page; if objects are large, a page holds fewer, but at least one.
            brief: Returns whether finished objects may come without their retention, completion time and
                journaled attempts, which makes a list of mostly finished ones several times as quick.
        """  # noqa: D205 - the class says what it is
        self._client = client
        self._timeout = timeout
        self._page_size = page_size
        self._page_bytes = page_bytes
        self._brief = brief
        self._unable = False
        self._reading = asyncio.Semaphore(_TOGETHER)

    async def probe(self, scope: Scope) -> None:
        """List one object to learn whether lists are answered; the object is ignored."""
        async with self._reading:
            page = await list_page(
                self._client, scope.namespace, limit=1, continue_token="", timeout=self._timeout,
            )  # fmt: skip
        scope.newest = max(scope.newest, page.resource_version, key=version_key)

    async def collect(self, scope: Scope, ours: Ours) -> Listed:
        """Take a complete list into the mirror; objects taken before a PortError stay valid."""
        listed = await self._in_brief(scope, ours) if self._brief() and not self._unable else None
        return await self._whole(scope, ours) if listed is None else listed

    async def _in_brief(self, scope: Scope, ours: Ours) -> Listed | None:
        """
        List all objects by name, version and phase; read in full those neither finished nor known.

        Nine of ten objects are finished, and nothing else is needed of those. Returns None if a list of
        whole objects is needed or quicker; objects taken until then stay valid.
        """
        await self._unfinished(scope, ours)
        token, limit, listed, newest, read = "", self._page_size, Listed(), scope.newest, 0
        while True:
            # Rows are not always small: the annotations of one may take a quarter of a mebibyte.
            page, limit = await self._page(
                limit,
                partial(
                    list_rows, self._client, scope.namespace, continue_token=token,
                    timeout=self._timeout, ours=ours,
                ),
            )  # fmt: skip
            if page is None:
                self._unable = True
                logger.info("all objects are listed in full: the server does not print their phase")
                return None
            _note(page, scope, listed, newest)
            listed.present.update(row.meta.uid for row in page.objects)
            wanted = [row.meta for row in page.objects if not _take_row(scope.mirror, row)]
            read += len(wanted)
            if read > max(self._page_size, len(listed.present) // _FEW):
                return None
            for done in await asyncio.gather(
                *(self.read(scope, meta, ours) for meta in wanted), return_exceptions=True
            ):
                if done is not None:
                    raise done
            token = page.continue_token
            if not token:
                return listed

    async def _unfinished(self, scope: Scope, ours: Ours) -> None:
        """Take the unfinished objects page by page, if the CRD lets the phase be selected."""
        try:
            await self._whole(scope, ours, fields=UNFINISHED)
        except Rejected as error:
            if error.reason != BAD_REQUEST:
                raise

    async def read(self, scope: Scope, meta: Meta, ours: Ours) -> None:
        """Read a listed object into the mirror; if it is gone by then, the watch shows that."""
        path = object_path(meta.namespace, meta.name)
        async with self._reading:
            try:
                document = await self._client.request("GET", path, timeout=self._timeout)
                now = Meta.of(document)
            except (Gone, ContractError):
                return
        # By now another object may have the name, or another replica may own the shard.
        if now.uid == meta.uid and not excludes(ours, document):
            scope.newest = max(scope.newest, now.resource_version, key=version_key)
            scope.mirror.upsert(parse(document), added=False)

    async def metadata(
        self, scope: Scope, ours: Ours, token: str, limit: int | None
    ) -> tuple[Page[Meta], int]:
        """Read a page of metadata; return it and the limit to pass for the next page."""
        return await self._page(
            limit or min(self._page_size, _BRIEF_PAGE),
            partial(
                list_metadata, self._client, scope.namespace, continue_token=token,
                timeout=self._timeout, ours=ours,
            ),
            most=_BRIEF_PAGE,
        )  # fmt: skip

    async def _whole(self, scope: Scope, ours: Ours, *, fields: str = "") -> Listed:
        """Take a list to its end, page by page."""
        token, listed = "", Listed()
        limit = self._page_size
        # Taken now, because a concurrent watch may advance it while the answer is under way.
        newest = scope.newest
        while True:
            # Five hundred objects of a mebibyte each would block the loop for seconds, and fill memory.
            page, limit = await self._page(
                limit,
                partial(
                    list_page, self._client, scope.namespace, continue_token=token,
                    timeout=self._timeout, known=scope.mirror.version_of, ours=ours,
                    fields=fields,
                ),
            )  # fmt: skip
            _note(page, scope, listed, newest)
            listed.present.update(m.uid for m in page.unchanged)
            for found in page.objects:
                scope.mirror.upsert(found, added=False)
                listed.present.add(found.uid)
            token = page.continue_token
            if not token:
                return listed

    async def _page(
        self, limit: int, read: Callable[..., Awaitable[P]], *, most: int = sys.maxsize
    ) -> tuple[P, int]:
        """Read a page of `limit` objects, or fewer if that is too large; return it and the next limit."""
        while True:
            try:
                async with self._reading:
                    page = await read(limit=limit, max_bytes=self._page_bytes if limit > 1 else 0)
            except Rejected as error:
                if error.reason != OVERSIZED:
                    raise
                limit = max(1, limit // _FEWER)
            else:
                return page, min(self._page_size, most, 2 * limit)


def _note(page: Page[Any], scope: Scope, listed: Listed, newest: str) -> None:
    """Record a page; Unavailable if it is older than the page before or, for the first, than `newest`."""
    # Later pages have the version of the first.
    if version_key(page.resource_version) < version_key(listed.version or newest):
        raise Unavailable(OLDER_STATE)
    # Even before the list is complete: its objects are known from now on, and an older list that follows
    # after a failure would take them for deleted.
    listed.version = page.resource_version
    scope.newest = max(scope.newest, listed.version, key=version_key)
    listed.anonymous += page.anonymous
    listed.foreign += page.foreign


def _take_row(mirror: Mirror, row: Row) -> bool:
    """Take a row of a list in brief; False if the whole object is needed."""
    meta = row.meta
    if mirror.version_of(meta) == meta.resource_version or mirror.sink_has(meta):
        return True
    if row.phase in TERMINAL_PHASES:
        mirror.upsert(row.outline(), added=False)
        return True
    return False
