"""
Finished objects and their retention time, on a real API server.

Days are not waited for: creation and end of a finished notification are moved into the past, in etcd, since
nobody can backdate a creation at the API server. What a log shows is arranged in Redis itself.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import pytest

from syncer.model.times import format_time
from tests.e2e.checker import Json
from tests.e2e.harness import Stage, until
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(120),
]

DAY: Final = 86_400_000
RIGHTS: Final = "/apis/rbac.authorization.k8s.io/v1/clusterroles/notification-controller"


async def finished(here: Stage, name: str, *, days: int = 1) -> str:
    """Have one delivered, published and acked; returns its uid."""
    uid = await here.create(name, retentionDays=days)
    await here.wait_phase(uid)
    await here.wait_acked([uid])
    return uid


async def ended(here: Stage, name: str, *, days: float) -> None:
    """Make a finished notification one that was created and ended so many days ago."""
    moment = int(time.time() * 1000 - days * DAY)

    def older(document: Json) -> None:
        document["metadata"]["creationTimestamp"] = format_time(moment, millis=False)
        document["status"]["completionTime"] = format_time(moment, millis=True)

    await here.rewrite(name, older)


async def test_a_finished_object_goes_after_its_days(
    here: Stage, control_plane: ControlPlane
) -> None:
    """
    Only the one whose own days are over, and its log stays until it expires by itself.

    Without the right to delete nothing goes, and the process says which right is missing.
    """
    rights = (await control_plane.request("GET", RIGHTS))[1]["rules"]
    less = [
        {**r, "verbs": [v for v in r["verbs"] if v != "delete"]}
        if r["resources"] == ["notificationrequests"]
        else r
        for r in rights
    ]
    process = here.notifier(retention={"deleteObjects": True}).start()
    over = await finished(here, "over", days=1)
    young = await finished(here, "young", days=3)
    new = await finished(here, "new", days=1)
    await ended(here, "young", days=1.01)
    try:
        await control_plane.request("PATCH", RIGHTS, {"rules": less})
        await ended(here, "over", days=1.01)
        words = "needs permission to read and delete notificationrequests"
        await until(
            lambda: any(words in line["event"] for line in process.lines()),
            process.tail,
            within=30,
        )
        assert not here.watcher.deleted
    finally:
        await control_plane.request("PATCH", RIGHTS, {"rules": rights})
    await until(lambda: over in here.watcher.deleted, process.tail)
    # Another sweep, for whatever should not have gone.
    await asyncio.sleep(1.5)
    assert here.watcher.deleted == {over}
    assert await process.metric("notification_ledger_objects_deleted_total") == 1
    assert set(await here.logs([over, young, new])) == {over, young, new}
    ttl = await here.redis.ttl(f"{here.prefix}:{{{over}}}")
    assert 86_000 < ttl <= 86_400
