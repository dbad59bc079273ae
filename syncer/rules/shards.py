"""
Shards: which one a notification belongs to, and how the API server is asked for some of them.

The shard of a uid is computed from its text alone: FNV-1a, whose 64-bit hashes are cut into equal ranges,
one a shard. An API server with sharded list and watch (KEP-5866) computes the same hash, and a selector of
ranges has it send the objects of some shards and no others.

Number and function are one decision of an installation (`Sharding`), written as one text, `16-fnv1a`, so
that nobody can know the one without the other.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

#: One more than the highest hash.
SPACE: Final = 1 << 64
#: Shards that are remembered. A hash costs 2.3 us, and most uids are asked for many times in a short while.
_REMEMBERED: Final = 16_384
_BASIS: Final = 0xCBF29CE484222325
_PRIME: Final = 0x100000001B3
_TEXT: Final = re.compile(r"([1-9][0-9]{0,4})-fnv1a")


def fnv1a(text: str) -> int:
    """FNV-1a of a text, in 64 bits."""
    found = _BASIS
    for byte in text.encode():
        found = (found ^ byte) * _PRIME & 0xFFFFFFFFFFFFFFFF
    return found


@lru_cache(maxsize=_REMEMBERED)
def shard_of(uid: str, shards: int) -> int:
    """Shard of a notification, of so many."""
    return fnv1a(uid) * shards >> 64


def ranges_of(owned: Collection[int], shards: int) -> list[tuple[int, int]]:
    """
    Return the ranges of hashes that some of all `shards` cover; adjacent shards are one range.

    Each is its first hash and the one after its last, in order.
    """
    found: list[tuple[int, int]] = []
    for shard in sorted(owned):
        # The lowest hash h with h * shards >> 64 == shard: rounded up.
        first, after = (-(-n * SPACE // shards) for n in (shard, shard + 1))
        if found and found[-1][1] == first:
            first = found.pop()[0]
        found.append((first, after))
    return found


def selector_of(ranges: Collection[tuple[int, int]]) -> str:
    """The text that asks an API server for the objects whose uid is in one of these ranges."""
    return " || ".join(
        f"shardRange(object.metadata.uid, '0x{first:016x}', '0x{after:016x}')"
        for first, after in ranges
    )


@dataclass(frozen=True, slots=True)
class Sharding:
    """How an installation divides its notifications: the number of shards, and what tells that of a uid."""

    shards: int

    @classmethod
    def read(cls, text: str) -> Sharding | None:
        """Read what `str` has written; None if it is something else."""
        found = _TEXT.fullmatch(text)
        return None if found is None else cls(int(found[1]))

    def __str__(self) -> str:
        """The text by which installations write it down."""
        return f"{self.shards}-fnv1a"

    def of(self, uid: str) -> int:
        """Shard of a notification."""
        return shard_of(uid, self.shards)

    def selector(self, owned: Collection[int]) -> str:
        """Return what asks an API server for these shards alone, one at least; empty if they are all."""
        if not owned:
            raise ValueError("a selector of no shards would select everything")
        return "" if len(owned) == self.shards else selector_of(ranges_of(owned, self.shards))
