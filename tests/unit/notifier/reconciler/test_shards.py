"""What begins and ends with the ownership of a shard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import pytest

from notifier.outside import Stop
from notifier.progress import Takeover
from notifier.reconciler.controller import ShardWork
from syncer.model.errors import ConfigError
from syncer.sharding.ownership import Shards
from tests.fakes.failpoints import watch_failpoints


class Controller:
    """Notes which of two notifications it is asked about."""

    def __init__(self, shards: Shards) -> None:
        uids = [str(UUID(int=n << 120 | n)) for n in range(256)]
        self.uids = {shards.sharding.of(uid): uid for uid in uids}
        self.begun: list[int] = []
        self.asked: list[tuple[list[int], float]] = []

    def _ours(self, ours: Callable[[str], bool]) -> list[int]:
        return sorted(shard for shard, uid in self.uids.items() if ours(uid))

    def on_started_leading(self, ours: Callable[[str], bool]) -> None:
        """Begin."""
        self.begun += self._ours(ours)

    async def quiesce(self, ours: Callable[[str], bool], seconds: float) -> bool:
        """End."""
        self.asked.append((self._ours(ours), seconds))
        return len(self.asked) == 1


async def test_the_work_on_a_shard_begins_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of it is looked at, the sweeps start early; its end is waited for, and it alone."""
    shards, takeover = Shards(4), Takeover()
    controller = Controller(shards)
    assert len(controller.uids) == 4
    passed: list[tuple[Any, ...]] = []

    def note(name: str) -> None:
        passed.append((name, takeover.owning.is_set(), list(controller.begun)))

    watch_failpoints(monkeypatch, note)
    work = ShardWork(shards, cast("Any", controller), takeover)
    assert not takeover.waiting
    work.begin(2)
    assert passed == [("lease-acquired", False, [])]
    assert controller.begun == [2]
    assert [takeover.owning.is_set(), takeover.finished.is_set(), takeover.orphans.is_set()] == [
        True
    ] * 3
    assert await work.quiesce(3, 8.0)
    assert not await work.quiesce(3, 1.0)
    assert controller.asked == [([3], 8.0), ([3], 1.0)]


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
