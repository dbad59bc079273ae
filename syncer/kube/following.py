"""
Which shards a reflector follows, and from which version on.

A replica follows only the notifications of the shards that it owns. A shard is followed under one lease
term: its objects are released at the end of the term and listed again in the next one, however soon
that begins, because the cache may have dropped them meanwhile.

Shards are acquired while others are watched, and one watch serves them all. It is opened again at the
older of two versions: the one that it has reached, and that of the list of the new shards. So nothing
is lost, and some events are repeated. Each shard has the version up to which everything in it is known;
an event that is not newer was part of an earlier list or watch, and is skipped. Otherwise an object
that was created and deleted before the list would be taken for an existing one.

No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from syncer.model.resource import version_key
from syncer.rules.shards import Sharding


class Owned(Protocol):
    """The shards that a replica owns."""

    #: Called whenever a shard is acquired or lost.
    on_change: Callable[[], None]

    @property
    def sharding(self) -> Sharding:
        """How notifications are divided into shards; fixed before any shard is owned."""

    @property
    def owned(self) -> Mapping[int, object]:
        """The owned shards, each with the one object that identifies its lease term."""


@dataclass(slots=True)
class _Shard:
    term: object
    #: Version up to which everything in the shard is known; empty before the shard is listed.
    known: str = ""


class Following:
    """The shards that one scope follows."""

    def __init__(self, owned: Owned) -> None:
        """Follow nothing yet."""
        self._owned = owned
        self._shards: dict[int, _Shard] = {}

    @property
    def shards(self) -> frozenset[int]:
        """The followed shards."""
        return frozenset(n for n, s in self._shards.items() if s.known)

    def left(self) -> frozenset[int]:
        """Shards whose term is over and whose objects may still be known."""
        owned = self._owned.owned
        return frozenset(n for n, s in self._shards.items() if owned.get(n) is not s.term)

    def coming(self) -> dict[int, object]:
        """Shards that are owned and not followed, with their terms."""
        return {n: t for n, t in self._owned.owned.items() if not self.follows(n)}

    def follows(self, shard: int) -> bool:
        """Whether a shard has been listed and has not been dropped since."""
        found = self._shards.get(shard)
        return found is not None and bool(found.known)

    @property
    def complete(self) -> bool:
        """Whether the followed shards are exactly the owned ones, each under its current term."""
        return not self.left() and not self.coming()

    def drop(self, shards: frozenset[int]) -> None:
        """Stop following some shards."""
        for shard in shards:
            del self._shards[shard]

    def begin(self, terms: Mapping[int, object]) -> None:
        """Note that shards are about to be listed, so that their objects may be known from now on."""
        for shard, term in terms.items():
            self._shards.setdefault(shard, _Shard(term))

    def start(self, version: str) -> None:
        """Follow the shards that were listed; all are known as of this version."""
        for shard in self._shards.values():
            shard.known = version

    def add(self, terms: Mapping[int, object], version: str, *, watched: str) -> str:
        """
        Follow more shards, after `begin` and their list.

        Args:
            terms: The shards, with their terms.
            version: Version as of which they are known.
            watched: Version up to which the shards followed before are known.

        Returns:
            The version at which one watch of all shards must begin.
        """
        for number, shard in self._shards.items():
            shard.known = version if number in terms else max(shard.known, watched, key=version_key)
        return min(version, watched, key=version_key)

    def lacks(self, shard: int, version: str) -> bool:
        """Whether a shard is followed and an event brings a later version than is known of it."""
        known = self._shards[shard].known if self.follows(shard) else ""
        return bool(known) and version_key(version) > version_key(known)
