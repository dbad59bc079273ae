"""
Upstream's definition suffices: what a status tells beyond it survives in one condition.

What the server stores is read raw: none of our members is in it, no result that upstream's schema lacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from syncer.model.carried import ENTRY_MEMBERS, MEMBERS, expand
from syncer.model.resource import Json
from tests.e2e.harness import BRISK, BUSY, OK, Stage, Step, stage, until
from tests.servers.controlplane import ControlPlane
from tests.servers.definition import load_crd, serve, upstream_form

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]

#: Notifications whose sends are open when their owner is killed.
OPEN: Final = 4
#: Changes of the definition, and notifications that are made meanwhile.
SWITCHES: Final = 6
LOAD: Final = 60


@pytest.fixture
async def here(control_plane: ControlPlane, redis_url: str, tmp_path: Any) -> AsyncIterator[Stage]:
    """An installation, on upstream's definition."""
    await asyncio.to_thread(serve, control_plane, upstream_form())
    async with stage(control_plane, redis_url, tmp_path) as made:
        yield made


async def stored(here: Stage, name: str, *, ours: bool = False) -> Json:
    """The expanded status of an object; raw, it has none of our members unless our definition is served."""
    reply = await here.api.ask("GET", f"{here.api.requests}/{name}")
    status: Json = reply.body["status"]
    assert all(e["status"] in {"success", "failed"} for e in status["deliveryAttempts"])
    if not ours:
        assert not set(MEMBERS) & set(status)
        assert not any(set(ENTRY_MEMBERS) & set(e) for e in status["deliveryAttempts"])
    return expand(status)


def results(status: Json) -> list[tuple[int, str]]:
    """Number and result of each attempt; each has an id of its own."""
    entries = status["deliveryAttempts"]
    assert len({e["id"] for e in entries}) == len(entries) == status["totalAttempts"]
    return [(e["attempt"], e["status"]) for e in entries]


async def test_a_takeover_with_sends_open_shows_each_attempt_once(here: Stage) -> None:
    """The owner is killed while receivers think: its attempts are unknown to us, and failed in the list."""
    names = [f"open-{n}" for n in range(OPEN)]
    for name in names:
        here.script(name, Step(gate=asyncio.Event()), OK)
    first, second = (here.notifier(sharding=BRISK) for _ in range(2))
    first.start()
    uids = [await here.create(name) for name in names]
    await until(lambda: len(here.receiver.book) == OPEN, first.tail)
    first.kill()
    second.start()
    await here.wait_sent(uids, within=60)
    await here.wait_acked(uids)
    for name in names:
        status = await stored(here, name)
        assert results(status) == [(1, "unknown"), (2, "success")], name
        assert status["uncertainAttempts"] == 1
        assert len(here.receiver.calls(name)) == 2, "one repeat, and the record says why"
    await here.sound()


async def test_the_definition_is_switched_under_load(
    control_plane: ControlPlane, here: Stage
) -> None:
    """As by Kubernaut's upgrades: nothing is lost, sent twice, shown twice or without its id."""
    process = await here.notifier().start().wait_ready()
    uids: dict[str, str] = {}

    async def load() -> None:
        for n in range(LOAD):
            name = f"load-{n}"
            here.script(name, *(BUSY,) * (n % 3), OK)
            uids[name] = await here.create(name)
            await asyncio.sleep(0.2)

    async def switch() -> None:
        for n in range(SWITCHES):
            await asyncio.to_thread(
                serve, control_plane, load_crd() if n % 2 == 0 else upstream_form()
            )
            await asyncio.sleep(1.0)
            if n == SWITCHES // 2:
                process.kill()
                process.start()

    try:
        await asyncio.gather(load(), switch())
        await here.wait_sent(uids.values(), within=90)
    finally:
        await asyncio.to_thread(serve, control_plane, upstream_form())
    await here.wait_acked(list(uids.values()))
    for n, name in enumerate(uids):
        status = await stored(here, name)
        known = [s for _, s in results(status) if s != "unknown"]
        assert known == ["failed"] * (n % 3) + ["success"] or status.get("uncertainAttempts"), name
        assert [k for k, _ in results(status)] == list(range(1, status["totalAttempts"] + 1))
    await here.sound()
