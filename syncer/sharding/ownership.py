"""
Which notifications are ours: shards, the lease term of each, and how many we should hold.

The shard of a notification is computed from its uid (`syncer.rules.shards`), so its owner never depends on
its name or on its author. A term is added when a Lease is acquired and removed when it is lost; everything
that sends, claims or writes checks here first. A shard that is being handed over still has its term, so
that results are recorded and published, but accepts nothing new.

How many shards a replica should hold is arithmetic (`share`), and what to give up a decision
(`hand_over`); both are pure, and know nothing of how a shard is guarded. They only distribute work:
safety comes from the Leases and the fences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from syncer.model.ports import LeaseTerm
from syncer.rules.shards import Sharding


def share(shards: int, members: int) -> int:
    """The most shards that one of several replicas should hold; all of them if it is alone."""
    return -(-shards // max(1, members))


@dataclass(frozen=True, slots=True)
class HandOver:
    """Shards to hand over, in this order, and the reason; none if all stay."""

    shards: tuple[int, ...]
    reason: str


def hand_over(
    owned: Iterable[int], *, shards: int, others: int, unable: float | None, patience: float
) -> HandOver:
    """
    Decide what a replica should hand over now.

    Above its share it gives up the highest-numbered shards. One that cannot serve gives up all of
    them, but not for a short outage, which costs less than claiming every log again; and not while no
    other replica can serve either, since then nothing would be gained, and shards would move in circles.

    Args:
        owned: Shards held, those that are being handed over already left out.
        shards: Of the installation.
        others: How many other replicas are able to serve.
        unable: Seconds for which this one has not been, None if it is.
        patience: Seconds of that from which on it hands over.
    """
    held = sorted(owned, reverse=True)
    if unable is None:
        most = share(shards, others + 1)
        return HandOver(
            tuple(held[: max(0, len(held) - most)]), f"above the share of {others + 1} replicas"
        )
    if unable <= patience:
        return HandOver((), "unable to serve, and not for long")
    if not others:
        return HandOver((), "unable to serve, and so is every other replica")
    return HandOver(tuple(held), f"unable to serve for {unable:.0f} s, and another replica is able")


class Shards:
    """
    The lease terms of this process.

    Attributes:
        sharding: How the installation divides its notifications; fixed before anything is owned.
    """

    def __init__(self, shards: int) -> None:
        """Own nothing yet; `shards` is fixed at installation."""
        self.sharding = Sharding(shards)
        self._terms: dict[int, LeaseTerm] = {}
        self._leaving: set[int] = set()

    def take(self, shard: int, term: LeaseTerm) -> None:
        """Note that a shard was acquired."""
        self._leaving.discard(shard)
        self._terms[shard] = term

    def leave(self, shard: int) -> None:
        """Note that a shard is being handed over: nothing new is begun in it."""
        self._leaving.add(shard)

    def drop(self, shard: int) -> None:
        """Note that a shard was lost or released."""
        self._terms.pop(shard, None)
        self._leaving.discard(shard)

    def term_of(self, uid: str) -> LeaseTerm | None:
        """The lease term of a notification's shard, None while that is not ours."""
        return self._terms.get(self.sharding.of(uid))

    def accepts(self, uid: str) -> bool:
        """Whether new work on a notification may begin here."""
        shard = self.sharding.of(uid)
        return shard in self._terms and shard not in self._leaving

    def covers(self, shard: int, uid: str) -> bool:
        """Whether a notification is in a shard."""
        return self.sharding.of(uid) == shard

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return self.sharding.shards

    @property
    def owned(self) -> dict[int, LeaseTerm]:
        """Lease terms by shard."""
        return dict(self._terms)

    @property
    def leaving(self) -> frozenset[int]:
        """Shards that are being handed over."""
        return frozenset(self._leaving)
