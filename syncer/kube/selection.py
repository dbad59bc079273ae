"""
What is requested from the API server to get some shards, and whether it sends nothing else.

A server without sharded list and watch ignores the selector, and its lists of custom resources
do not say whether they were narrowed. So the client always selects, and learns whether the server does
from what it sends: one object of a shard that was not requested shows that it does not. Every list
shows it again, because a server may be replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from typing import Final

from syncer.kube.following import Owned
from syncer.kube.notification_requests import Part
from syncer.model.errors import PortError
from syncer.rules.shards import selector_of

#: In the text by which a server refuses a selector of shards.
_REFUSED: Final = "shard selector"

logger = logging.getLogger("ledger.kube")


class Selection:
    """
    Makes selectors, and learns whether the server obeys them.

    Attributes:
        selects: Whether the server sends nothing but what it was asked for, as far as it has shown; None if
            it was not asked, or has shown nothing yet.
        foreign: How many objects came that were not asked for.
    """

    def __init__(self, owned: Owned) -> None:
        """Nothing is known; `owned` has the shards."""
        self.selects: bool | None = None
        self.foreign = 0
        self._owned = owned
        self._refused = False

    def shard_of(self, uid: str) -> int:
        """Shard of a notification."""
        return self._owned.sharding.of(uid)

    def part(self, shards: Container[int]) -> Part:
        """The part that a list or watch of some shards requests, possibly none."""
        sharding, selector = self._owned.sharding, ""
        if not self._refused:
            numbers = [n for n in range(sharding.shards) if n in shards]
            # Without shards the shortest range there is, as none cannot be asked for.
            selector = sharding.selector(numbers) if numbers else selector_of([(0, 1)])
        return Part(selector, lambda uid: self.shard_of(uid) in shards)

    def note(self, part: Part, *, foreign: int, ours: int = 0) -> None:
        """
        Note what came.

        Args:
            part: What was asked for.
            foreign: How many objects came that were not.
            ours: How many came that were.
        """
        self.foreign += foreign
        if not part.selector or not (foreign or ours):
            return
        selects = not foreign
        if selects is not self.selects:
            self.selects = selects
            logger.info(
                "the API server selects by shard: it sends only the objects of this replica"
                if selects
                else "the API server does not select by shard: the objects of other replicas arrive as"
                " well, and are skipped"
            )

    def on_failure(self, error: PortError) -> None:
        """Ask for shards no more where the server refuses how: an alpha interface may change."""
        if not self._refused and _REFUSED in str(error):
            self._refused, self.selects = True, None
            logger.warning("the API server is asked for all objects: %s", error)
