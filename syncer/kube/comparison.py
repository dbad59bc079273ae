"""
The comparison: what the API server holds, held against what its watches have shown.

A watch that has lost an event goes on as if nothing had happened: the object is not known, so no resync
checks it, and until the next complete list nobody does. Therefore every two minutes the metadata of all
objects is listed, in pages that are small and spread over time. What the watch has not shown in the version
listed, or a later one, is looked up again once the watch has had time to show it. What is still missing is
read and handed over like an entry of a list; where much is missing, everything is listed anew.

The lists are quorum reads, and need no right beyond those of the reflector. Deletions that the watch has
lost are found by its next complete list, or by the write that meets them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from syncer.kube.listing import Lister
from syncer.kube.notification_requests import Meta
from syncer.kube.scope import Scope
from syncer.model.errors import PortError
from syncer.model.resource import version_key

#: Seconds between pages: those of a hundred thousand objects take twenty.
_PAUSE: Final = 0.05
#: Objects that are read one by one.
_FEW: Final = 32

logger = logging.getLogger("ledger.kube")


class Comparison:
    """Finds objects that the watches of a reflector have not shown."""

    def __init__(
        self,
        lister: Lister,
        scopes: Sequence[Scope],
        shard_of: Callable[[str], int],
        *,
        every: float,
        grace: float,
        on_missed: Callable[[int], None],
    ) -> None:
        """
        Args:
            lister: Lists the metadata, and reads what is missing.
            scopes: Of the reflector, with their mirrors.
            shard_of: Tells the shard of a uid.
            every: Seconds from the begin of a round to that of the next.
            grace: For which a watch may be behind a list.
            on_missed: Called with the number of objects that were found missing.
        """  # noqa: D205 - the class says what it is
        self._lister = lister
        self._scopes = scopes
        self._shard_of = shard_of
        self._every = every
        self._grace = grace
        self._on_missed = on_missed

    async def run(self) -> None:
        """Compare until cancelled; what could not be compared is left to the next round."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            await asyncio.sleep(max(0.0, began + self._every - clock()))
            began = clock()
            for scope in self._scopes:
                # Nothing is watched here: a complete list comes first.
                if scope.refused or not scope.resume:
                    continue
                try:
                    await self._compare(scope)
                except PortError as error:
                    logger.info("what the watch has shown could not be compared: %s", error)

    async def _compare(self, scope: Scope) -> None:
        ours = partial(self._follows, scope)
        token: str | None = ""
        limit = None
        suspects: list[Meta] = []
        while token is not None:
            page, limit = await self._lister.metadata(scope, ours, token, limit)
            suspects += [meta for meta in page.objects if self._is_missing(scope, meta)]
            token = page.continue_token or None
            await asyncio.sleep(_PAUSE)
        if suspects:
            await asyncio.sleep(self._grace)
            await self._fetch(scope, [m for m in suspects if self._is_missing(scope, m)])

    def _is_missing(self, scope: Scope, meta: Meta) -> bool:
        return self._follows(scope, meta.uid) and scope.mirror.is_missing(meta)

    def _follows(self, scope: Scope, uid: str) -> bool:
        return scope.following.follows(self._shard_of(uid))

    async def _fetch(self, scope: Scope, missing: Sequence[Meta]) -> None:
        if len(missing) > _FEW:
            # Of so many, those that the watch has not reached yet are only late.
            reached = version_key(scope.resume)
            missing = [m for m in missing if version_key(m.resource_version) <= reached]
        if not missing:
            return
        logger.warning(
            "the watch has not shown objects that exist; they are read",
            extra={"objects": len(missing), "object": f"{missing[0].namespace}/{missing[0].name}"},
        )
        self._on_missed(len(missing))
        if len(missing) > _FEW:
            scope.resume = ""
            scope.switch()
            return
        for meta in missing:
            # A list that began before would take what is handed over for deleted.
            async with scope.listing:
                if self._is_missing(scope, meta):
                    await self._lister.read(scope, meta, partial(self._follows, scope))
