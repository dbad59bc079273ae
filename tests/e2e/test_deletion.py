"""
An object that is being deleted and that somebody else's finalizer keeps, on real parts.

To delete is to cancel: nothing more is sent from then on. What was sent is published a last time, and
the log is let go when the object is gone, not before.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.e2e.harness import BUSY, QUICK, Stage, until

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

FINALIZER: Final = "example.com/keeps"


async def keep(here: Stage, name: str, *finalizers: str) -> None:
    """Set the finalizers of an object."""
    answer = await here.api.ask(
        "PATCH", f"{here.api.requests}/{name}", {"metadata": {"finalizers": list(finalizers)}}
    )
    assert answer.code == 200, answer.body


async def delete(here: Stage, name: str) -> None:
    """Delete an object, which its finalizer keeps."""
    answer = await here.api.ask("DELETE", f"{here.api.requests}/{name}")
    assert answer.body["metadata"]["deletionTimestamp"]


async def ttl(here: Stage, uid: str) -> int:
    """Seconds until a log is gone, -1 if it stays."""
    return int(await here.redis.ttl(f"{here.prefix}:{{{uid}}}"))


async def expires(here: Stage, uid: str) -> None:
    """Wait until a log does not stay."""

    async def ends() -> bool:
        return await ttl(here, uid) > 0

    await until(ends, here.processes[-1].tail)


@pytest.mark.stage(sampled=True)
async def test_nothing_is_sent_for_an_object_that_is_being_deleted(here: Stage) -> None:
    """Its retries end with the deletion, under a live claim too, and the status shows all of them."""
    here.script("a", BUSY)
    here.script("later", BUSY)
    process = await here.notifier().start().wait_ready()
    policy = {**QUICK, "maxAttempts": 10}
    uid = await here.create("a", retryPolicy=policy)
    await keep(here, "a", FINALIZER)
    await until(lambda: len(here.receiver.calls("a")) >= 2, process.tail)
    await delete(here, "a")
    await here.create("later", retryPolicy=policy)
    # Whoever has sent a younger one has been told of the deletion.
    await until(lambda: bool(here.receiver.calls("later")), process.tail, within=60)
    made = len(here.receiver.calls("a"))
    # Three retries of another one later it would have been its turn again, three times.
    await until(lambda: len(here.receiver.calls("later")) >= 4, process.tail, within=60)
    # One may have been on its way by then.
    calls = len(here.receiver.calls("a"))
    assert calls <= made + 1
    await until(lambda: len(here.watcher.last(uid).attempts) == calls, process.tail)
    assert await ttl(here, uid) == -1
    process.kill()
    await process.start().wait_ready()
    seen = len(here.receiver.calls("later"))
    await until(lambda: len(here.receiver.calls("later")) >= seen + 2, process.tail, within=60)
    assert len(here.receiver.calls("a")) == calls
    assert await ttl(here, uid) == -1
    await keep(here, "a")
    await expires(here, uid)
    await here.sound(finished=False)


@pytest.mark.stage(sampled=True)
async def test_what_is_not_published_is_published_before_the_log_goes(here: Stage) -> None:
    """A success that only the log knows, found by a process that starts after the deletion."""
    process = here.notifier().start("after-outcome=kill")
    uid = await here.create("a")
    await keep(here, "a", FINALIZER)
    await process.wait_exit()
    assert len(here.receiver.calls("a")) == 1
    assert here.watcher.phase(uid) in ("", "Pending", "Sending")
    await delete(here, "a")
    process.start()
    version = await here.wait_phase(uid)
    assert [a["status"] for a in version.status["deliveryAttempts"]] == ["success"]
    assert uid not in here.watcher.deleted
    await keep(here, "a")
    await until(lambda: uid in here.watcher.deleted, process.tail)
    await expires(here, uid)
    await here.sound()
    assert len(here.receiver.calls("a")) == 1
