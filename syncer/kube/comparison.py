"""
The comparison: objects that exist on the API server are checked against those that its watches have shown.

A watch that has lost an event goes on as if nothing had happened: the object is unknown, so no resync
checks it, and nothing else does until the next complete list. Therefore the metadata of all objects is
listed every two minutes, in small pages spread over time. An object that the watch has not shown in the
listed version or a later one is checked again once the watch has had time to show it. If it is still
missing, it is read and handed over like an item of a list; if many are missing, everything is listed again.

The lists are quorum reads and need no permission beyond those of the reflector. Deletions that the watch
has lost are found by its next complete list, or by a write to the deleted object.
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

#: Seconds between pages: the pages of a hundred thousand objects take twenty seconds.
_PAUSE: Final = 0.05
#: Up to this many missing objects are read one by one; if there are more, everything is listed.
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
            scopes: The reflector's scopes, with their mirrors.
            shard_of: Returns the shard of a uid.
            every: Seconds from the start of one round to the start of the next.
            grace: Seconds by which a watch may be behind a list.
            on_missed: Called with the number of objects that were found missing.
        """  # noqa: D205 - the class says what it is
        self._lister = lister
        self._scopes = scopes
        self._shard_of = shard_of
        self._every = every
        self._grace = grace
        self._on_missed = on_missed

    async def run(self) -> None:
        """Compare until cancelled; a scope that could not be compared waits for the next round."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            await asyncio.sleep(max(0.0, began + self._every - clock()))
            began = clock()
            for scope in self._scopes:
                # Nothing is watched here: a complete list must come first.
                if scope.refused or not scope.resume:
                    continue
                try:
                    await self._compare(scope)
                except PortError as error:
                    logger.info("existing objects could not be compared with the watch: %s", error)

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
            # Of so many, leave out those that the watch has not reached yet: they are only late.
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
            # Not during a list: one that began before would take the object read here for deleted.
            async with scope.listing:
                if self._is_missing(scope, meta):
                    await self._lister.read(scope, meta, partial(self._follows, scope))
