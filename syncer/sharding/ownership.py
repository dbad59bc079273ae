"""
Which notifications are ours: shards, and the lease term of each.

The shard of a notification is computed from its uid (`syncer.rules.shards`), so its owner never depends on
its name or on its author. A term is added when a Lease is acquired and removed when it is lost; everything
that sends, claims or writes checks here first. A shard that is being handed over still has its term, so
that results are recorded and published, but accepts nothing new.

Who should hold which shard is decided in `syncer.sharding.assignment`.
"""

from __future__ import annotations

from collections.abc import Callable

from syncer.model.ports import LeaseTerm
from syncer.rules.shards import Sharding


class Shards:
    """The lease terms of this process; `sharding` is fixed before anything is owned."""

    def __init__(self, shards: int) -> None:
        """Own nothing yet; `shards` is fixed at installation."""
        self.sharding = Sharding(shards)
        self._terms: dict[int, LeaseTerm] = {}
        #: Shards that are being handed over.
        self.leaving: set[int] = set()
        #: Called whenever a shard is acquired, lost or released.
        self.on_change: Callable[[], None] = lambda: None

    def take(self, shard: int, term: LeaseTerm) -> None:
        """Note that a shard was acquired."""
        self.leaving.discard(shard)
        self._terms[shard] = term
        self.on_change()

    def leave(self, shard: int) -> None:
        """Note that a shard is being handed over: nothing new is begun in it."""
        self.leaving.add(shard)

    def drop(self, shard: int) -> None:
        """Note that a shard was lost or released."""
        self._terms.pop(shard, None)
        self.leaving.discard(shard)
        self.on_change()

    def term_of(self, uid: str) -> LeaseTerm | None:
        """The lease term of a notification's shard, None while the shard is not ours."""
        return self._terms.get(self.sharding.of(uid))

    def accepts(self, uid: str) -> bool:
        """Whether new work on a notification may begin here."""
        shard = self.sharding.of(uid)
        return shard in self._terms and shard not in self.leaving

    @property
    def owned(self) -> dict[int, LeaseTerm]:
        """Lease terms by shard."""
        return dict(self._terms)
