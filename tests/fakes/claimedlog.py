"""A log that opens attempts as who has just claimed, for tests that have no recorder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from syncer.ledger.answers import Appended, Claimed, Proof
from syncer.ledger.log import RedisLog
from syncer.model.attempt import Epoch
from syncer.model.record import Record


class ClaimedLog(RedisLog):
    """
    The log, and the stamp of the newest claim of each notification.

    `open` decides on no record, so that it depends on the claim alone.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.stamps: dict[str, str] = {}

    async def claim(
        self, uid: str, epoch: Epoch, *, name: str, seeds: Sequence[Record] = ()
    ) -> Claimed:
        """Claim, and keep the stamp."""
        claimed = await super().claim(uid, epoch, name=name, seeds=seeds)
        self.stamps[uid] = claimed.stamp
        return claimed

    async def open(
        self,
        uid: str,
        epoch: Epoch,
        record: Record,
        *,
        limit: int = 5,
        guard: Callable[[], bool] = lambda: True,
        patience: float | None = None,
    ) -> Appended:
        """Open an attempt under the newest claim."""
        proof = Proof(epoch, self.stamps.get(uid, ""))
        return await self.intent(uid, proof, record, limit=limit, guard=guard, patience=patience)
