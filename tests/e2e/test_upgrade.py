"""
An upgrade while replicas of a version without sessions still run, and the way back, on real parts.

The earlier version is a twin that follows its rules on the Leases and sends nothing
(`tests/e2e/predecessor.py`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.harness import LEASE_SECONDS, NotifierProcess, Stage, stage, until
from tests.e2e.predecessor import MEMBER, Predecessor
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]

ROOT: Final = Path(__file__).parents[2]
SHARDS: Final = 4
NAME: Final = "notification-ledger"
TIMINGS: Final = {"renewDeadline": "2s", "retryPeriod": "400ms", "margin": "500ms"}
#: What those timings come to, with the longest send of the harness, rounded up.
DURATION: Final = round(LEASE_SECONDS + 1)


def replica(here: Stage) -> NotifierProcess:
    """A replica of this version."""
    return here.notifier(sharding={"shards": SHARDS, **TIMINGS})


async def lease(here: Stage, which: object) -> dict[str, Any]:
    """Return a Lease of the installation."""
    answer = await here.api.ask("GET", f"{here.api.leases}/{NAME}-{which}")
    assert answer.code == 200, answer.body
    return dict(answer.body)


async def members(here: Stage) -> list[str]:
    """Return the annotations by which the earlier version counts."""
    shown = (await lease(here, "map"))["metadata"].get("annotations") or {}
    return [key for key in shown if key.startswith(MEMBER)]


@asynccontextmanager
async def predecessor(here: Stage) -> AsyncIterator[Predecessor]:
    """Run a replica of the earlier version; it ends without a word unless it has left before."""
    twin = Predecessor(here.api, NAME, "old-replica", SHARDS, period=0.4, duration=DURATION)
    task = asyncio.create_task(twin.run())
    try:
        yield twin
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def found_by_predecessor(here: Stage) -> None:
    """Make the map Lease as the earlier version does."""
    meta = {"name": f"{NAME}-map", "annotations": {"notification-ledger/shards": str(SHARDS)}}
    body = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta,
        "spec": {"holderIdentity": NAME},
    }  # fmt: skip
    answer = await here.api.ask("POST", here.api.leases, body)
    assert answer.code == 201, answer.body


async def shared(here: Stage, twin: Predecessor, process: NotifierProcess, ours: int) -> None:
    """Wait until this version owns so many shards and the earlier one the rest, none of them both."""

    async def as_wanted() -> bool:
        owned = await process.metric("notification_ledger_shards_owned")
        return (owned, len(twin.owned)) == (ours, SHARDS - ours)

    await until(
        as_wanted, lambda: f"{ours} shards, the twin has {twin.owned}; {process.tail()}", within=60
    )
    for n, version in twin.owned.items():
        found = await lease(here, n)
        assert found["spec"]["holderIdentity"] == "old-replica"
        assert int(found["metadata"]["resourceVersion"]) >= int(version)


def printed() -> dict[str, Any]:
    """Return the patch that docs/migration.md prints."""
    page = (ROOT / "docs" / "migration.md").read_text()
    (found,) = re.findall(r"patch lease '\S+-<shard>' --type merge -p '(.*)'", page)
    return dict(json.loads(found))


async def test_both_versions_share_the_shards_while_an_upgrade_lasts(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """In both directions, with nothing lost, sent twice, or left behind in the map Lease."""
    async with stage(control_plane, redis_url, tmp_path) as here:
        await found_by_predecessor(here)
        process = replica(here)
        async with predecessor(here) as twin:
            await until(
                lambda: len(twin.owned) == SHARDS, "the earlier version owns all", within=60
            )
            process.start()
            await shared(here, twin, process, SHARDS // 2)
            uids = [await here.create(f"n-{n}") for n in range(12)]
            # Neither takes the other's away, however long that lasts.
            held = dict(twin.owned)
            await asyncio.sleep(2 * DURATION)
            assert twin.owned == held
            assert len(await members(here)) == 2
            await twin.leave()
        for uid in uids:
            await here.wait_phase(uid, within=60)

        async def forgotten() -> bool:
            return not await members(here)

        await until(forgotten, "nobody is counted by annotations any more", within=60)
        # Back: the newcomer is given its share, and the rest when this version ends.
        async with predecessor(here) as twin:
            await shared(here, twin, process, SHARDS // 2)
            process.sigterm()
            assert await process.wait_exit() == 0
            for n in range(SHARDS):
                holder = (await lease(here, n))["spec"].get("holderIdentity") or ""
                assert holder in ("", "old-replica"), "it is given back, not left to run out"
            await until(
                lambda: len(twin.owned) == SHARDS, "the earlier version owns all", within=60
            )
        # Killed: it is succeeded when its Leases have not changed for their duration.
        process.start()
        await process.wait_ready()
        await here.wait_acked(uids)
        await here.sound()
        assert len(here.receiver.book) == len(uids)


async def test_a_killed_replica_of_this_version_is_released_by_hand(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """The earlier version alone cannot end its session; the command of docs/migration.md frees it."""
    async with stage(control_plane, redis_url, tmp_path, sampled=False) as here:
        await found_by_predecessor(here)
        process = replica(here)
        async with predecessor(here) as twin:
            process.start()
            await shared(here, twin, process, SHARDS // 2)
            process.kill()
            await asyncio.sleep(3 * DURATION)
            assert len(twin.owned) == SHARDS // 2
            for n in sorted(set(range(SHARDS)) - set(twin.owned)):
                answer = await here.api.ask("PATCH", f"{here.api.leases}/{NAME}-{n}", printed())
                assert answer.code == 200, answer.body
            await until(
                lambda: len(twin.owned) == SHARDS, "the earlier version owns all", within=60
            )
