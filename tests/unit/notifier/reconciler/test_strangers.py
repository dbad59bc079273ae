"""What a replica keeps of notifications that are another one's: nothing that only grows."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncer.model.carried import fold
from syncer.model.resource import NotificationRequest, parse_object
from syncer.sync.claim import Claimer
from tests.unit.notifier.reconciler.test_start import document
from tests.unit.notifier.reconciler.test_zombie import LeaseTerm, World


async def look(world: World) -> None:
    """One turn of a worker at the one notification."""
    await world.controller.reconciler.reconcile(world.entry.uid)


async def test_a_status_that_is_ahead_of_its_log_is_held_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is sent for it, it is named once, and it counts as held for that reason."""
    world = World()
    world.shards.take(0, LeaseTerm("0.7"))
    forged = document("a", 2)
    forged["status"] = fold({
        "phase": "Retrying",
        "deliveryAttempts": [
            {"id": "7.1-1", "channel": "c", "attempt": 1, "status": "failed",
             "timestamp": "2026-01-01T00:00:00Z"},
        ],
    })  # fmt: skip
    request = parse_object(forged)

    async def get(_namespace: str, _name: str, _known: object = None) -> NotificationRequest:
        return request

    recorder = world.controller.recorder
    claimer = Claimer(
        recorder, cast("Any", SimpleNamespace(get=get)), recorder.metrics, backoff=lambda *_: 1000
    )
    reconciler = world.controller.reconciler
    reconciler.ports = replace(reconciler.ports, claimer=claimer)
    world.controller.watch.upsert(request, first_seen_by_watch=False)
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
    world.controller.watch.delete("uid-a", "n", "a")
    assert not world.controller.holds.distrusted
