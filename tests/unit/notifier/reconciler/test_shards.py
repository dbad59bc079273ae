"""What begins and ends with the ownership of a shard."""

from __future__ import annotations

from uuid import UUID

import pytest

from notifier.outside import Stop
from notifier.progress import Takeover
from syncer.model.errors import ConfigError
from syncer.rules.shards import Sharding
from tests.unit.notifier.reconciler.holding import World


@pytest.fixture
def world() -> World:
    """A controller of four shards, which knows two notifications of each."""
    made = World()
    made.shards.sharding, left = Sharding(4), dict.fromkeys(range(4), 2)
    for uid in (str(UUID(int=n << 120 | n)) for n in range(256)):
        shard = made.shards.sharding.of(uid)
        if left[shard]:
            left[shard] -= 1
            made.object(uid)
    return made


async def test_the_work_on_a_shard_begins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of it, and of it alone, is looked at; the sweeps start early."""
    controller, takeover = world.controller, world.controller.takeover
    begun: list[str] = []
    monkeypatch.setattr(controller.queue, "add", begun.append)
    controller.begin(2)
    assert [world.shards.sharding.of(uid) for uid in begun] == [2, 2]
    assert [takeover.owning.is_set(), takeover.finished.is_set(), takeover.orphans.is_set()] == [
        True
    ] * 3


@pytest.mark.parametrize("first", ["finished", "orphans"])
async def test_a_takeover_waits_for_both_sweeps(first: str) -> None:
    """In either order."""
    takeover = Takeover()
    takeover.start_sweeps()
    getattr(takeover, first).clear()
    assert takeover.waiting
    takeover.finished.clear()
    takeover.orphans.clear()
    assert not takeover.waiting


async def test_a_process_is_asked_to_end(caplog: pytest.LogCaptureFixture) -> None:
    """By a signal, or because it must not go on; then the reason is logged and kept."""
    stop, refused = Stop(), Stop()
    stop.requested.set()
    assert (stop.requested.is_set(), stop.refusal, caplog.records) == (True, None, [])
    error = ConfigError("the installation has 4 shards", path="sharding.shards")
    refused.refuse(error)
    assert (refused.requested.is_set(), refused.refusal) == (True, error)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("ERROR", f"this replica must shut down: {error}")
    ]
