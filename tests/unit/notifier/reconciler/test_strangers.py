"""What a replica keeps of notifications that are another one's: nothing that only grows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from syncer.model.attempt import Epoch
from syncer.model.carried import fold
from syncer.model.resource import parse_object
from syncer.sync.notification import Claim
from tests.unit.notifier.reconciler.attempting import NOW, World
from tests.unit.notifier.reconciler.starting import document


async def look(world: World) -> None:
    """One turn of a worker at the one notification."""
    await world.controller.reconciler.reconcile(world.notification.uid)


def fenced(*, logs: int, claimed: bool, believed: bool = True) -> World:
    """A controller that has met so many fences, and may have claimed another log."""
    world = World()
    cache = world.controller.cache
    for n in range(logs):
        world.controller.notifications.upsert(
            parse_object(document(f"fenced-{n}", 1)), first_seen_by_watch=False
        )
        cache.entries[f"uid-fenced-{n}"].epochs(fenced=NOW - 60)
    world.controller.notifications.upsert(
        parse_object(document("soon", 1)), first_seen_by_watch=False
    )
    cache.entries["uid-soon"].epochs(fenced=NOW - 1)
    if claimed:
        cache.entries["uid-a"].claimed(Claim(Epoch("0.7"), 0, ""))
    if not believed:
        cache.entries["uid-a"].epochs(distrusted=True)
    return world


@pytest.mark.parametrize(
    ("world", "said"),
    [
        pytest.param(fenced(logs=1, claimed=True), False, id="one log among others"),
        pytest.param(fenced(logs=1, claimed=False), True, id="one log, and none can be claimed"),
        pytest.param(fenced(logs=2, claimed=True), True, id="two logs"),
        pytest.param(fenced(logs=0, claimed=False), False, id="none for long"),
        pytest.param(
            fenced(logs=0, claimed=False, believed=False), False, id="a status is no evidence"
        ),
        pytest.param(
            fenced(logs=1, claimed=True, believed=False), False, id="nor does it add to a log"
        ),
    ],
)  # fmt: skip
def test_what_is_evidence_that_the_cluster_has_fallen_back(world: World, said: bool) -> None:
    """Logs are, since a claim alone writes their epoch; what a tenant can write is not."""
    problem = world.controller.holds.fence_problem(18.0)
    assert (problem is not None) is said
    assert "raise sharding.incarnation" in (problem or "raise sharding.incarnation")


async def test_a_status_that_is_ahead_of_its_log_is_held_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is sent for it, it is named once, and it counts as held for that reason."""
    world = World()
    forged = document("a", 12)
    forged["status"] = fold({
        "phase": "Retrying",
        "deliveryAttempts": [
            {"id": "7.1-1", "channel": "c", "attempt": 1, "status": "failed",
             "timestamp": "2026-01-01T00:00:00Z"},
        ],
    })  # fmt: skip
    request = parse_object(forged)
    get = AsyncMock(return_value=request)
    world.controller.notifications.claimer.objects = cast("Any", SimpleNamespace(get=get))
    world.controller.notifications.upsert(request, first_seen_by_watch=False)
    for _ in range(2):
        await look(world)
    assert world.controller.holds.by_reason(world.controller.cache.entries.values()) == {
        "epoch-ahead": 1
    }
    assert world.controller.holds.fence_problem(0.0) is None
    assert world.controller.holds.unclaimed() == 0
    assert caplog.text.count("the status names an epoch that the log does not know") == 1
    snapshot = await world.log.read("uid-a")
    assert snapshot is not None
    assert (len(snapshot.records), snapshot.header.epoch) == (0, "0.7")
    world.controller.notifications.delete("uid-a", "n", "a")
    assert not world.controller.cache.entries["uid-a"].distrusted
