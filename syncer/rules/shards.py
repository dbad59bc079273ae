"""
Shards: which one a notification belongs to.

The shard of a uid is computed from its text alone: the 64-bit FNV-1a hashes are divided into equal ranges,
one for each shard.

The number of shards and the hash function are one decision of an installation (`Sharding`), stored as one
text, `16-fnv1a`, so that neither can be known without the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

#: Number of uids whose shard is cached. A hash costs 2.3 us, and most uids are looked up many times soon.
_REMEMBERED: Final = 16_384
_BASIS: Final = 0xCBF29CE484222325
_PRIME: Final = 0x100000001B3
_TEXT: Final = re.compile(r"([1-9][0-9]{0,4})-fnv1a")


@lru_cache(maxsize=_REMEMBERED)
def shard_of(uid: str, shards: int) -> int:
    """Return the shard of a notification: the range, of `shards` in all, that the hash of its uid is in."""
    found = _BASIS
    for byte in uid.encode():
        found = (found ^ byte) * _PRIME & 0xFFFFFFFFFFFFFFFF
    return found * shards >> 64


@dataclass(frozen=True, slots=True)
class Sharding:
    """How an installation divides its notifications: the number of shards, and the hash function."""

    shards: int

    @classmethod
    def read(cls, text: str) -> Sharding | None:
        """Parse the text that `str` gives; None if it is something else."""
        found = _TEXT.fullmatch(text)
        return None if found is None else cls(int(found[1]))

    def __str__(self) -> str:
        """Return the text in which an installation stores it."""
        return f"{self.shards}-fnv1a"

    def of(self, uid: str) -> int:
        """Return the shard of a notification."""
        return shard_of(uid, self.shards)
