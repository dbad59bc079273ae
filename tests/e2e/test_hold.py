"""
Redis away while attempts are due: nothing is sent, and the objects that wait for it say so.

The real controller on real servers; Redis is frozen, which is the worst way to be away: connections
stay and calls end only at their deadlines.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.harness import BUSY, OK, QUICK, Stage, until
from tests.e2e.holding import condition
from tests.servers.redis import RedisServer

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(120),
]


async def test_due_objects_say_that_the_log_is_away(here: Stage, redis_server: RedisServer) -> None:
    """One that is new and one whose retry came due say it; a waiting and a finished one do not."""
    process = (
        await here.notifier(
            delivery={"logOutage": "hold"}, sync={"window": "100ms", "holdNotice": "2s"}
        )
        .start()
        .wait_ready()
    )
    here.script("soon", BUSY, OK)
    here.script("later", BUSY, OK)
    done = await here.create("done")
    await here.wait_phase(done)
    later = await here.create("later", retryPolicy={**QUICK, "initialBackoffSeconds": 60})
    soon = await here.create("soon", retryPolicy={**QUICK, "initialBackoffSeconds": 3})
    for uid in (later, soon):
        await until(
            lambda uid=uid: bool(  # type: ignore[misc]  # the loop's uid
                (v := here.watcher.last(uid)) and v.status.get("deliveryAttempts")
            ),
            process.tail,
            within=30,
        )
    await redis_server.pause()
    new = await here.create("new")
    for uid in (new, soon):
        await until(lambda uid=uid: bool(condition(here, uid)), process.tail, within=20)  # type: ignore[misc]  # bound now
    said = condition(here, soon)
    assert (said["status"], said["reason"]) == ("True", "DeliveryHeld")
    version = here.watcher.last(soon)
    assert version is not None
    assert [a["status"] for a in version.status["deliveryAttempts"]] == ["failed"]
    code, text = await process.ask("/readyz")
    assert code == 503
    assert "redis" in text
    assert here.receiver.calls("new") == []
    assert len(here.receiver.calls("soon")) == 1
    assert not condition(here, later)
    assert not condition(here, done)
    await redis_server.resume()
    for uid in (new, soon):
        await here.wait_phase(uid)
        await until(lambda uid=uid: not condition(here, uid), process.tail, within=30)  # type: ignore[misc]  # bound now
    await here.wait_acked([new, soon, done])
    await asyncio.sleep(0.5)
    assert [len(here.receiver.calls(n)) for n in ("new", "soon", "later")] == [1, 2, 1]
    findings = await here.findings(finished=False)
    assert not findings.violations, str(findings)
