"""
Outages, on real parts: the process is told to end, Redis or the API server is away.

SIGTERM in the middle of a send, Redis killed in the middle of one, Redis or the API server absent at the
start, the API server frozen for longer than a lease, etcd without space. Kills of the controller are in
``test_crash.py``.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from syncer.model.resource import Json
from tests.e2e.harness import (
    BRISK,
    BUSY,
    OK,
    QUICK,
    RENEW_DEADLINE,
    SEND_TIMEOUT,
    Stage,
    Step,
    Watcher,
    stage,
    until,
)
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]


@pytest.mark.new_processes("about the end of a process")
@pytest.mark.stage(sampled=True)
async def test_sigterm_waits_for_the_send_and_records_it(here: Stage) -> None:
    """SIGTERM in the middle of a send: answer awaited, recorded, published, lease free, exit 0."""
    process = await here.notifier().start().wait_ready()
    gate = asyncio.Event()
    here.script("n", Step(gate=gate))
    uid = await here.create("n")
    await until(lambda: bool(here.receiver.book), "the call arrives")
    process.sigterm()
    late = await here.create("late")
    gate.set()
    assert await process.wait_exit() == 0, process.tail()
    assert process.lines("drained")[-1]["unrecorded"] == 0
    assert process.lines("drained")[-1]["unsynced"] == 0
    version = await here.wait_phase(uid)
    assert [a["status"] for a in version.attempts] == ["success"]
    await here.wait_acked([uid], within=30)
    assert not here.receiver.calls("late"), "a draining process begins nothing"
    lease = await here.api.ask("GET", f"{here.api.leases}/notification-ledger-0")
    assert lease.body["spec"].get("holderIdentity", "") == ""
    # Somebody else goes on: the lease was released, not left to expire.
    here.notifier().start()
    await here.wait_phase(late)
    await here.sound([late])


async def test_an_outcome_outlives_redis(
    control_plane: ControlPlane, namespace: str, redis_binary: Path, tmp_path: Path
) -> None:
    """
    Redis is killed during a send: the outcome is held in memory and written when it is back.

    What is due meanwhile is not sent, and says so; what is finished does not.
    """
    server = RedisServer(redis_binary)
    async with server, stage(control_plane, server.url, tmp_path) as here:
        gate = asyncio.Event()
        here.script("n", Step(gate=gate))
        settings: Json = {"delivery": {"logOutage": "hold"}, "sync": {"holdNotice": "2s"}}
        process = await here.notifier(**settings).start().wait_ready()
        done = await here.create("done")
        await here.wait_phase(done)
        uid = await here.create("n")
        await until(lambda: bool(here.receiver.calls("n")), "the call arrives")
        await server.kill()
        gate.set()
        await until(lambda: here.receiver.calls("n")[0].answered > 0, "it is answered")
        held = await here.create("held")
        await process.wait_says(503, "[-] redis: ")

        def said(uid: str) -> Json:
            return here.watcher.last(uid).condition("LogUnavailable")

        await until(lambda: bool(said(held)), process.tail)
        assert (said(held)["status"], said(held)["reason"]) == ("True", "DeliveryHeld")
        assert not said(done)
        assert len(process.lines("attempt recorded")) == 1
        assert not here.receiver.calls("held"), "without a log nothing may be sent"
        assert here.watcher.phase(uid) in ("", "Pending", "Sending")
        await server.start()
        for version in await here.wait_sent([uid, held]):
            assert [a["status"] for a in version.attempts] == ["success"]
        await until(lambda: not said(held), process.tail)
        await here.sound([uid, held])
        assert [len(here.receiver.calls(n)) for n in ("n", "held")] == [1, 1]


@pytest.mark.new_processes("about a start")
async def test_a_start_without_redis_waits_for_it(
    control_plane: ControlPlane, namespace: str, redis_binary: Path, tmp_path: Path
) -> None:
    """Redis is down at the start: alive, not ready, says why, sends nothing, then carries on."""
    server = RedisServer(redis_binary)
    try:
        async with stage(control_plane, server.url, tmp_path) as here:
            process = here.notifier(delivery={"logOutage": "hold"}).start()
            uid = await here.create("n")
            await process.wait_says(503, "[-] redis: ")
            assert (await process.ask("/healthz"))[0] == 200
            await asyncio.sleep(1)
            assert not here.receiver.book
            assert here.watcher.phase(uid) == ""
            await server.start()
            await here.wait_phase(uid)
            await process.wait_ready()
            await here.sound([uid])
    finally:
        server.close()


async def test_the_independent_watch_learns_what_it_missed(here: Stage) -> None:
    """Every version of a time in which nothing was watched, in order, also of an object made meanwhile."""
    watcher = Watcher(here.api)
    made = [await here.api.create("old")]
    await watcher._list()
    made += [await here.api.create("new")]
    written = {m["metadata"]["uid"]: [m["metadata"]["resourceVersion"]] for m in made}
    for turn in range(6):
        path = f"{here.api.requests}/{made[turn % 2]['metadata']['name']}"
        changed = await here.api.ask("PATCH", path, {"metadata": {"labels": {"turn": f"{turn}"}}})
        written[changed.body["metadata"]["uid"]].append(changed.revision)
    await watcher._list()
    seen = {uid: [v.resource_version for v in vs] for uid, vs in watcher.versions.items()}
    assert (seen, watcher.gaps) == (written, 0)
    await here.api.ask("DELETE", f"{here.api.requests}/old")
    await watcher._list()
    assert watcher.gaps == 1, "nobody knows what an object was last that is gone"


@pytest.mark.stage(sampled=True)
async def test_a_start_without_the_api_server_waits_for_it(
    here: Stage, control_plane: ControlPlane
) -> None:
    """The API server is down at the start: alive, not ready, says why, then carries on."""
    uid = await here.create("n")
    await control_plane.kill_apiserver()
    process = here.notifier().start()
    await process.wait_says(503, "[-] cluster: ")
    assert (await process.ask("/healthz"))[0] == 200
    assert not here.receiver.book
    await asyncio.to_thread(control_plane.heal)
    await here.wait_phase(uid)
    await process.wait_ready()
    await here.sound([uid])


@pytest.mark.stage(default=(BUSY, OK), sampled=True)
async def test_a_frozen_api_server_stops_all_sends(
    here: Stage, control_plane: ControlPlane
) -> None:
    """The API server is frozen for longer than the lease: no send meanwhile, all goes on after."""
    process = await here.notifier(sharding=BRISK).start().wait_ready()
    wait = {**QUICK, "initialBackoffSeconds": 4}
    # Two, since three notifications that fail would open the receiver's circuit breaker.
    uids = [await here.create(name, retryPolicy=wait) for name in ("n-0", "n-1")]
    await until(lambda: len(here.receiver.book) == 2, "both have failed once")
    await control_plane.pause("kube-apiserver")
    frozen = time.monotonic()
    try:
        await asyncio.sleep(wait["initialBackoffSeconds"] + 2)
        await process.wait_says(503, "[-] shards: ")
    finally:
        thawed = time.monotonic()
        await control_plane.resume("kube-apiserver")
    # Sends may begin for RENEW_DEADLINE after the last renewal; retries were due after that.
    silent = [
        c for c in here.receiver.book if frozen + RENEW_DEADLINE + SEND_TIMEOUT < c.at < thawed
    ]
    assert not silent, "something was sent although the lease was lost"
    assert len(here.receiver.book) == 2
    for version in await here.wait_sent(uids):
        assert [a["status"] for a in version.attempts] == ["failed", "success"]
    assert process.lines("shard lost")
    await here.sound(uids)


@pytest.mark.stage(default=(BUSY, OK), sampled=True)
async def test_an_etcd_without_space_stops_all_sends(
    here: Stage, control_plane: ControlPlane
) -> None:
    """Reads are answered and writes are not: the session is lost, readiness says why, nothing is lost."""
    process = await here.notifier(sharding=BRISK).start().wait_ready()
    wait = {**QUICK, "initialBackoffSeconds": 6}
    uids = [await here.create(name, retryPolicy=wait) for name in ("n-0", "n-1")]
    await until(lambda: len(here.receiver.book) == 2, "both have failed once")
    # Longer than the retries wait, by a tenth more at most.
    due = time.monotonic() + 1.1 * wait["initialBackoffSeconds"] + 1
    await control_plane.full(True)
    try:
        await process.wait_says(503, "mvcc: database space exceeded")
        made = len(here.receiver.book)
        await asyncio.sleep(due - time.monotonic())
        assert len(here.receiver.book) == made
    finally:
        await control_plane.full(False)
    for version in await here.wait_sent(uids):
        assert [a["status"] for a in version.attempts] == ["failed", "success"]
    await here.sound(uids)
