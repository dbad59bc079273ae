"""
Shards: which one a notification belongs to.

The shard of a uid is computed from its text alone: FNV-1a, whose 64-bit hashes are cut into equal ranges,
one a shard.

Number and function are one decision of an installation (`Sharding`), written as one text, `16-fnv1a`, so
that nobody can know the one without the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

#: Shards that are remembered. A hash costs 2.3 us, and most uids are asked for many times in a short while.
_REMEMBERED: Final = 16_384
_BASIS: Final = 0xCBF29CE484222325
_PRIME: Final = 0x100000001B3
_TEXT: Final = re.compile(r"([1-9][0-9]{0,4})-fnv1a")


@lru_cache(maxsize=_REMEMBERED)
def shard_of(uid: str, shards: int) -> int:
    """Shard of a notification, of so many: where FNV-1a of its uid, in 64 bits, lies."""
    found = _BASIS
    for byte in uid.encode():
        found = (found ^ byte) * _PRIME & 0xFFFFFFFFFFFFFFFF
    return found * shards >> 64


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
