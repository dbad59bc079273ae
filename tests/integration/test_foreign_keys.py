"""Keys of others under our prefix: what is no log of ours costs no log of ours its sweep."""

from __future__ import annotations

from unittest.mock import AsyncMock, Mock

import pytest
import redis.asyncio as redis_asyncio
from prometheus_client import CollectorRegistry

from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.metrics import SyncMetrics
from syncer.model.errors import ContractError, Gone
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Cache
from syncer.sync.recorder import Recorder
from syncer.sync.sweeps import Sweeper
from tests.fakes.notifications import claimer as claiming
from tests.fakes.ownership import Ours
from tests.integration.ledger_client import EPOCH, admin, client, log, proxy

__all__ = ["admin", "client", "log", "proxy"]


async def test_foreign_keys_stop_no_sweep(
    admin: redis_asyncio.Redis, client: LedgerClient, log: RedisLog
) -> None:
    """A name and a header that are no text, and a key of another type: logs are let go all the same."""
    await admin.rpush(b"nl:{\xff\xfe}", b"x")
    await admin.rpush("nl:{header}", b"nl1 object=\xff/n epoch=0.1 acked=0 audited=0")
    await admin.rpush("nl:{huge}", b"nl1 object=n/n epoch=0.1 acked=" + b"9" * 5000 + b" audited=0")
    await admin.set("nl:{string}", "x")
    for n in range(3):
        await log.claim(f"orphan-{n}", EPOCH, name=f"ns/orphan-{n}")
    nothing = Mock(get=AsyncMock(side_effect=Gone("no object")))
    metrics, cache = SyncMetrics(CollectorRegistry()), Cache(window=1.0)
    recorder = Recorder(log, cache, LedgerTime(), metrics, identity="me")
    claimer = claiming(recorder, nothing, backoff=lambda _policy, _n: 0)
    _, retired = await Sweeper(claimer).orphans(Ours(), lambda _: False, lambda _: True)
    assert retired == 3
    for uid in ("header", "huge"):
        with pytest.raises(ContractError, match="header"):
            await log.read(uid)
