"""
Which notifications are ours: shards, and the tenure over each.

A notification belongs to shard crc32(uid) mod the number of shards, so its owner never depends on its
name or on who created it. A tenure is put here when a Lease is acquired and taken away when it is
lost; everything that sends, claims or writes asks here first.
"""

from __future__ import annotations

import zlib

from syncer.api.ports import Tenure


def shard_of(uid: str, shards: int) -> int:
    """Shard of a notification."""
    return zlib.crc32(uid.encode()) % shards


class Shards:
    """The tenures of this process."""

    def __init__(self, shards: int) -> None:
        """Own nothing yet; `shards` is fixed at installation."""
        self.shards = shards
        self._tenures: dict[int, Tenure] = {}

    def take(self, shard: int, tenure: Tenure) -> None:
        """Note that a shard was acquired."""
        self._tenures[shard] = tenure

    def drop(self, shard: int) -> None:
        """Note that a shard was lost or released."""
        self._tenures.pop(shard, None)

    def tenure_of(self, uid: str) -> Tenure | None:
        """The tenure over a notification, None while its shard is not ours."""
        return self._tenures.get(shard_of(uid, self.shards))

    @property
    def owned(self) -> dict[int, Tenure]:
        """Tenures by shard."""
        return dict(self._tenures)
