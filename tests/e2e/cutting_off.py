"""Replicas of which one is cut off."""

from __future__ import annotations

from typing import Final

from tests.e2e.harness import NotifierProcess, until

SHARDS: Final = 4


TIMINGS: Final = {"renewDeadline": "2s", "retryPeriod": "400ms", "margin": "500ms"}


async def owns(process: NotifierProcess, shards: int) -> None:
    """Wait until a replica owns so many shards."""

    async def owned() -> bool:
        return await process.metric("notification_ledger_shards_owned") == shards

    await until(owned, lambda: f"it owns {shards} shards; {process.tail()}", within=60)
