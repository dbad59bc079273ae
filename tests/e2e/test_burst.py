"""
A burst that a healthy receiver refuses once, on real parts: the breaker must not punish it.

Two hundred notifications come at once, the receiver answers the first call of each with 503 and every
later one with 200. The breaker is right to open, and has to find out soon that it was mistaken.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import pytest

from notifier.dispatch.breaker import OPEN_MOST
from tests.e2e.harness import BUSY, OK, Stage, stage, until
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

CROWD: Final = 200
#: Lease timings for a machine that is busy with other things as well.
_SHARDS: Final = {"shards": 8, "renewDeadline": "5s", "retryPeriod": "1s", "margin": "1s"}


async def _sent(here: Stage, kind: str) -> float:
    """Create a crowd at once; seconds until the last one is delivered and its status says so."""
    names = [f"{kind}-{n}" for n in range(CROWD)]
    began = time.monotonic()
    uids = await asyncio.gather(*(here.create(name) for name in names))
    await until(
        lambda: all(here.watcher.phase(uid) == "Sent" for uid in uids),
        lambda: f"all of {kind} are sent; {here.processes[-1].tail()}",
        within=60,
    )
    return time.monotonic() - began


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_burst_that_is_refused_once_is_sent_soon(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path, replicas: int
) -> None:
    """Two calls each and no more, and all Sent long before a breaker's longest wait is over."""
    async with stage(control_plane, redis_url, tmp_path / "stage", sampled=False) as here:
        for _ in range(replicas):
            process = here.notifier(sharding=_SHARDS)
            process.start()
            await process.wait_ready()
        here.receiver.default = (BUSY, OK)
        refused = await _sent(here, "refused")
        # What the same machine needs, at about the same time, for a crowd that is not refused. Not
        # before the other: a success of the last 10 s would keep the breaker closed.
        here.receiver.default = (OK,)
        plain = await _sent(here, "plain")
        findings = await here.sound()
        assert findings.calls == CROWD + 2 * CROWD
        assert sum(c.code == BUSY.code for c in here.receiver.book) == CROWD
        opened = [
            await p.metric("notification_ledger_breaker_openings_total", channel="slack:ops")
            for p in here.processes
        ]
        # Each process has its own breakers, and on a slow machine one may see no burst.
        assert any(opened), "nothing is shown where no breaker opened"
        told = f"refused once {refused:.1f} s, not refused {plain:.1f} s, openings {opened}"
        print(told)  # noqa: T201 - the figures, for whoever runs it with -s
        # On two free cores it is 3.0 to 3.4 s, once 5.0 s right after an installation.
        assert refused < OPEN_MOST, told
