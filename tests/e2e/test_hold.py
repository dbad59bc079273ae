"""
Redis away while attempts are due: nothing is sent, and the objects that wait for it say so.

The real controller on real servers; Redis is frozen, which is the worst way to be away: connections
stay and calls end only at their deadlines.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.harness import BUSY, CHANNEL, OK, QUICK, Stage, until
from tests.e2e.holding import condition
from tests.integration.operating import Operator
from tests.servers.redis import RedisServer
from tests.servers.topology import call, port_of

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


async def test_a_redis_that_is_full_is_an_unavailable_log(
    here: Stage, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """It answers and takes no intents: readiness, metrics, the object, the log and commands say that."""
    process = await here.notifier(sync={"window": "100ms", "holdNotice": "2s"}).start().wait_ready()
    here.script("refused", BUSY, OK)
    refused = await here.create("refused")
    await here.wait_phase(refused)
    (line,) = [line for line in process.lines("attempt recorded") if line["state"] == "failed"]
    assert (line["level"], line["code"]) == ("warning", 503)
    assert "slack webhook returned 503" in line["error"]
    assert await process.metric("notification_ledger_log_available") == 1
    port = port_of(redis_server)
    await asyncio.to_thread(call, port, "CONFIG", "SET", "maxmemory", "1")
    try:
        waits = await here.create("waits")
        await until(lambda: bool(condition(here, waits)), process.tail, within=30)
        code, text = await process.ask("/readyz")
        assert (code, "Redis answers OOM" in text) == (503, True)
        assert await process.metric("notification_ledger_log_available") == 0
        held = "notification_ledger_held_notifications"
        assert await process.metric(held, reason="log-unavailable") == 1
        overdue = [await process.metric("notification_ledger_oldest_due_seconds")]
        for _ in range(20):
            await asyncio.sleep(0.1)
            overdue.append(await process.metric("notification_ledger_oldest_due_seconds"))
        # At every scrape, also while an intent is being asked for.
        assert min(overdue) > 1
        answer = await Operator(here, capsys).run("explain", f"{here.namespace}/waits")
        (headline,) = [line for line in answer.out.splitlines() if line.startswith("NEXT")]
        assert headline.startswith(f"NEXT    nothing: {CHANNEL} is due and its owner ")
        assert headline.endswith(" opens no attempt: Redis answers OOM: it is full (maxmemory)")
        assert answer.code == 1
    finally:
        await asyncio.to_thread(call, port, "CONFIG", "SET", "maxmemory", "0")
    await here.wait_phase(waits)
    await until(lambda: not condition(here, waits), process.tail, within=30)
    assert len(here.receiver.calls("waits")) == 1
    (line,) = process.lines("the log is unavailable; no attempt is opened in it")
    assert (line["reason"], line["redis"]) == (
        "Redis answers OOM: it is full (maxmemory)",
        f"127.0.0.1:{port}",
    )
    await until(
        lambda: len(process.lines("the log is available again")) == 1, process.tail, within=10
    )
    await process.wait_ready()
