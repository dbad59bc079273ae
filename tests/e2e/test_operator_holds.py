"""
Holds of operators on real processes: what could make the product forget one, and how a flood is let go.

The owner is killed, Redis is killed, a replica starts without it, and the command is the one that people
type. The receiver's own book says what was sent.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from syncer.model.record import Kind
from syncer.rules.shards import shard_of
from tests.e2e.harness import BRISK, CHANNEL, NotifierProcess, Stage, stage, until
from tests.e2e.journaling import journaling, replica
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer
from tests.servers.starts import run_beside

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]

#: Notifications of a flood, those that are let go before the rest is dropped, and how many go a second.
FLOOD: Final = 120
GO: Final = 30
RATE: Final = 10
SHARDS: Final = 4
#: Sends that a replica has under way at once.
AT_ONCE: Final = 4


async def syncer(here: Stage, *words: str) -> list[dict[str, Any]]:
    """Run the command in a process of its own; returns the lines of its answer."""
    # Other tests have left objects on the plane that nobody can read; they would stop the count.
    config = here.folder / "operator.json"
    redis = {"url": here.redis_url, "keyPrefix": here.prefix}
    namespaces = {"namespaces": [here.namespace]}
    config.write_text(json.dumps({"redis": redis, "controller": namespaces}))
    ended = await run_beside([
        "syncer", *words, "-o", "json", "--config", str(config),
        "--kubeconfig", str(here.plane.kubeconfig),
    ])  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


async def hold(here: Stage, processes: Sequence[NotifierProcess], *words: str) -> str:
    """Hold the channel; returns the name once all processes obey."""
    (placed,) = await syncer(
        here, "hold", "--receiver", CHANNEL, "--until", "1h", "--reason", "they mend it",
        "--anyway", *words,
    )  # fmt: skip
    for process in processes:
        await process.wait_metric("holds", 1)
    return str(placed["name"])


async def held(process: NotifierProcess, wanted: int, within: float = 60.0) -> None:
    """Wait until a process says that it holds so many."""
    await process.wait_metric("held_notifications", wanted, reason="operator", within=within)


async def test_a_hold_is_forgotten_by_nobody(
    control_plane: ControlPlane, namespace: str, redis_binary: Path, tmp_path: Path
) -> None:
    """Not by a replica that starts while Redis is away and journals: nothing that is held is sent."""
    server = RedisServer(redis_binary)
    async with server, stage(control_plane, server.url, tmp_path, sampled=False) as here:
        first = replica(here, BRISK)
        await first.wait_ready()
        name = await hold(here, [first], "--type", "simple")
        critical = await here.create("critical", priority="Critical", type="Simple")
        await held(first, 1)
        await asyncio.to_thread(first.kill)
        await server.kill()

        second = replica(here)
        await journaling(second)
        await asyncio.sleep(4)  # Younger than the note by the margin.
        await here.create("new", type="Simple")
        await held(second, 1)
        # That this one is sent shows that the other would have been.
        await here.wait_phase(await here.create("free", type="Completion"), within=60)
        assert [call.subject for call in here.receiver.book] == ["free"]

        await server.start()
        await held(second, 2)
        assert await second.metric("notification_ledger_held_critical_seconds") > 0
        assert [call.subject for call in here.receiver.book] == ["free"]
        (ended,) = await syncer(here, "hold", "end", name)
        assert (ended["ended"], ended["holds"]) == (True, 2)
        await here.wait_phase(critical, within=60)
        await until(lambda: len(here.receiver.book) == 3, "both are sent", within=60)
        assert len(here.receiver.calls("critical")) == 1


async def test_a_flood_is_held_counted_let_go_slowly_and_dropped(here: Stage) -> None:
    """Two replicas let go at one rate, the oldest first; what is dropped fails, and all is on record."""
    replicas = [
        # What other tests have left held on the plane would be counted.
        here.notifier(
            sync={"window": "100ms"}, sharding={"shards": SHARDS}, delivery={"perReceiver": AT_ONCE},
            controller={"namespaces": [here.namespace]},
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in replicas:
        process.start()
    for process in replicas:
        await process.wait_ready()
    name = await hold(here, replicas)
    uids = [await here.create(f"n-{n}") for n in range(FLOOD)]

    async def all_held() -> bool:
        metric = "notification_ledger_held_notifications"
        return sum([await p.metric(metric, reason="operator") for p in replicas]) == FLOOD

    await until(all_held, "the flood is held", within=60)
    (listed,) = await syncer(here, "hold", "list")
    assert listed["holds"] == FLOOD
    assert here.receiver.book == []

    began = time.monotonic()
    (going,) = await syncer(here, "hold", "end", name, "--rate", f"{RATE}/s")
    assert going["holds"] == FLOOD
    await until(lambda: len(here.receiver.book) >= GO, "some went", within=60)
    took = time.monotonic() - began
    assert took > GO / RATE * 0.5, f"{GO} went in {took:.1f} s"

    (dropped,) = await syncer(here, "hold", "end", name, "--drop")
    await until(
        lambda: all(here.watcher.phase(u) in {"Sent", "Failed"} for u in uids),
        "everything has ended", within=60,
    )  # fmt: skip
    sent = {call.subject for call in here.receiver.book}
    assert GO <= len(here.receiver.book) == len(sent) < FLOOD
    logs = await here.logs(uids)
    ages = {uid: age for age, uid in enumerate(uids)}
    went: dict[str, list[str]] = {}
    for uid, log in logs.items():
        for intent in log.records:
            if intent.kind is Kind.INTENT:
                went.setdefault(str(intent.body["by"]), []).append(uid)
    for own in went.values():
        shards = {shard_of(uid, SHARDS) for uid in own}
        stayed = [ages[u] for u in uids if shard_of(u, SHARDS) in shards and u not in own]
        late = [u for u in own if ages[u] > min(stayed, default=FLOOD)]
        assert len(late) <= AT_ONCE, "each replica lets the oldest go first"
    phases = Counter(here.watcher.phase(uid) for uid in uids)
    assert phases == {"Sent": len(sent), "Failed": FLOOD - len(sent)}
    assert dropped["holds"] == FLOOD - len(sent), "as many as were counted"
    whys = Counter(
        str(r.body.get("error", ""))
        for uid in uids
        for r in logs[uid].records
        if r.kind is Kind.FAILED
    )
    (why,) = whys
    assert f"dropped with hold {name} of " in why
    assert (why.endswith(": they mend it"), whys[why]) == (True, FLOOD - len(sent))
    (blamed,) = await syncer(here, "receivers", "-n", here.namespace)
    assert (blamed["badSince"], blamed["attempts"], blamed["failed"]) == (None, len(sent), 0)
    await here.create("after")
    await until(lambda: bool(here.receiver.calls("after")), "a younger one goes")
