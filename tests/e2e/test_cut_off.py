"""
A replica that alone has lost Redis, on real parts: another one takes its shards.

Its leases are renewed all the while, since it reaches the API server, so nothing but its own decision
lets anybody else begin.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.e2e.cutting_off import SHARDS, TIMINGS, owns
from tests.e2e.harness import LEASE_SECONDS, NotifierProcess, Stage, stage
from tests.fakes.proxy import Proxy
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]


def replica(here: Stage, url: str) -> NotifierProcess:
    """A replica with a Redis of its own address."""
    return here.notifier(
        sharding={"shards": SHARDS, **TIMINGS}, redis={"url": url, "timeout": "500ms"}
    )


async def test_a_replica_that_alone_lost_redis_hands_over(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """All that is due is sent by the healthy one; when Redis is back, the shards are shared again."""
    parts = urlsplit(redis_url)
    async with (
        stage(control_plane, redis_url, tmp_path) as here,
        Proxy(parts.hostname or "", parts.port or 0) as proxy,
    ):
        through = urlunsplit(parts._replace(netloc=f"127.0.0.1:{proxy.port}"))
        cut, healthy = replica(here, through), replica(here, redis_url)
        for process in (cut, healthy):
            process.start()
        for process in (cut, healthy):
            await owns(process, SHARDS // 2)
        await proxy.refuse()
        uids = [await here.create(f"n-{n}") for n in range(12)]
        for uid in uids:
            await here.wait_phase(uid, within=LEASE_SECONDS + 60)
        await owns(healthy, SHARDS)
        reasons = {str(line["reason"]) for line in cut.lines("shard handed over")}
        assert any("another replica is able" in reason for reason in reasons), reasons
        assert not cut.lines("shard lost")
        await proxy.accept()
        for process in (cut, healthy):
            await owns(process, SHARDS // 2)
        await here.wait_acked(uids)
        await here.sound()
        assert len(here.receiver.book) == len(uids)
