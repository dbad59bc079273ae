"""
What was journaled in an outage is joined with the logs, on real parts, and told to the audit feed once.

Redis comes back whole, or empty; or one replica alone is cut off from it, and then all of them are. The
receiver's book, the logs and the statuses agree, and each log holds every attempt.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.checker import unlogged
from tests.e2e.harness import BUSY, OK, QUICK, Stage, stage, until
from tests.e2e.journaling import JOURNAL, journaling
from tests.fakes.proxy import Proxy
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer
from tests.servers.topology import port_of

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]

SHARDS: Final = 4


def told(file: Path, uid: str) -> list[str]:
    """What the audit feed has told of a notification: attempt and kind of each event, in order."""
    lines = file.read_text().splitlines() if file.exists() else []
    events = [json.loads(line)["event_data"]["event_id"] for line in lines]
    return [e.removeprefix(f"{uid}/") for e in events if e.startswith(f"{uid}/")]


async def audited_once(here: Stage, file: Path, uid: str, name: str, *, lost: bool) -> None:
    """Wait until every call is audited, in order; with `lost`, Redis does not know what was before."""
    calls = here.receiver.calls(name)
    wanted = [f"{c.attempt}/{'sent' if c.processed else 'failed'}" for c in calls]
    wanted.append(f"{calls[-1].attempt}/acknowledged")

    def all_told() -> bool:
        found = told(file, uid)
        # That the first one was audited is lost with the log; the id of the event is the same.
        return (list(dict.fromkeys(found)) if lost else found) == wanted

    await until(all_told, lambda: f"{wanted} are audited: {told(file, uid)}")


async def in_each_log(here: Stage, uids: Sequence[str]) -> None:
    """Check that each log holds every attempt that its object shows."""
    last = {uid: here.watcher.last(uid) for uid in uids}
    assert not list(unlogged(await here.logs(uids), last))


@pytest.mark.parametrize("back", ["whole", "empty"])
async def test_it_is_joined_with_a_redis_that_comes_back(
    back: str, control_plane: ControlPlane, namespace: str, redis_binary: Path, tmp_path: Path
) -> None:
    """Each log has every attempt, and the audit feed each once, in the order in which they were made."""
    server, audited = RedisServer(redis_binary), tmp_path / "audit.jsonl"
    async with server, stage(control_plane, server.url, tmp_path / "stage") as here:
        for name in ("before", "busy"):
            here.script(name, BUSY, OK)
        process = (
            await here.notifier(delivery=JOURNAL, audit={"file": str(audited)}).start().wait_ready()
        )
        before = await here.create("before", retryPolicy={**QUICK, "initialBackoffSeconds": 8})
        await until(lambda: bool(told(audited, before)), "its failure is audited")

        async def noted() -> bool:
            log = (await here.logs([before]))[before]
            return log.header.audited == len(log.records)

        # Else whoever finds the log would tell it once more, as he may.
        await until(noted, "the log says so")
        await server.kill()
        await journaling(process)
        # Younger than note and term by the margin, which only time makes them.
        await asyncio.sleep(4)
        uids = [before, *[await here.create(n, retryPolicy=QUICK) for n in ("new", "busy")]]
        await here.wait_sent(uids, within=40)
        assert await process.metric("notification_ledger_journaling") == 1
        code, text = await process.ask("/readyz")
        assert (code, "redis" in text) == (503, True), "what is sent so makes nobody ready"
        if back == "empty":
            await asyncio.to_thread(shutil.rmtree, server.directory / "appendonlydir")
        await server.start()
        await here.sound(uids, within=40)
        await in_each_log(here, uids)
        for uid, name in zip(uids, ("before", "new", "busy"), strict=True):
            await audited_once(here, audited, uid, name, lost=back == "empty")
        await here.wait_acked(uids)
        count: Any = await process.metric("notification_ledger_journaled_attempts_total")
        assert count >= 1


async def test_who_alone_lost_redis_does_not_journal(
    control_plane: ControlPlane, namespace: str, redis_binary: Path, tmp_path: Path
) -> None:
    """Another one has it, and takes over; once nobody has, the owner journals, whoever was cut off."""
    server = RedisServer(redis_binary)
    async with server, stage(control_plane, server.url, tmp_path) as here:
        async with Proxy(port_of(server)) as proxy:
            cut, healthy = (
                here.notifier(
                    delivery=JOURNAL, sharding={"shards": SHARDS, "renewDeadline": "2s"},
                    redis={"url": way, "timeout": "500ms"},
                )
                for way in (f"redis://127.0.0.1:{proxy.port}", server.url)
            )  # fmt: skip
            for process in (cut, healthy):
                process.start()
            for process in (cut, healthy):
                await process.wait_metric("shards_owned", SHARDS // 2, within=60)
            await proxy.refuse()
            uids = [await here.create(f"n-{n}") for n in range(6)]
            await here.wait_sent(uids, within=60)
            await healthy.wait_metric("shards_owned", SHARDS, within=60)
            # The one may say it after the other has taken the shard.
            await until(
                lambda: any(
                    "another replica is able" in str(line["reason"])
                    for line in cut.lines("shard handed over")
                ),
                cut.tail,
            )
            await server.kill()
            await journaling(healthy)
            await asyncio.sleep(4)
            uids += [await here.create(f"m-{n}") for n in range(4)]
            await here.wait_sent(uids, within=60)
            # One-sided once more: it is back for the owner alone.
            await server.start()
            await here.wait_acked(uids, within=60)
            await proxy.accept()
            for process in (cut, healthy):
                await process.wait_metric("shards_owned", SHARDS // 2, within=60)
        await here.sound(uids)
        await in_each_log(here, uids)
        assert len(here.receiver.book) == len(uids)
