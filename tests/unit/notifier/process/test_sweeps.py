"""A wake-up for a log that holds something new: it comes from anybody, and ends nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from notifier.dispatch.workqueue import WorkQueue
from notifier.process.parts import Parts
from notifier.process.sweeps import Sweeps
from syncer.model.errors import ContractError, Gone, LedgerError, Unavailable
from syncer.model.resource import NotificationRequest, parse_object
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache, summary
from tests.unit.notifier.reconciler.test_start import Held, document


class Store:
    """Answers each read with an error, or with the object."""

    def __init__(self, error: LedgerError | None) -> None:
        self.error = error

    async def get(self, namespace: str, name: str) -> NotificationRequest:
        """Read."""
        if self.error is not None:
            raise self.error
        assert (namespace, name) == ("n", "a")
        return parse_object(document("a", 2, phase="Sent"))


@pytest.mark.parametrize(
    "error", [None, Unavailable("not now"), ContractError("the object cannot be read (ValueError)")]
)
async def test_a_wake_up_for_a_finished_notification(error: LedgerError | None) -> None:
    """The loop that follows wake-ups must not end: an object that cannot be read now stays as it is."""
    cache, queue, shards = Cache(window=1.0), WorkQueue(), Shards(1)
    shards.take(0, Held())
    cache.finished["uid-a"] = summary(parse_object(document("a", 1, phase="Sent")))
    parts = SimpleNamespace(cache=cache, queue=queue, shards=shards, objects=Store(error))
    await Sweeps(cast("Parts", parts)).wake_up("uid-a")
    assert ("uid-a" in cache.entries, len(queue)) == ((True, 1) if error is None else (False, 0))


async def test_a_finished_notification_whose_deletion_was_not_seen_is_forgotten() -> None:
    """Else its log would count as that of an object that exists, and nobody would let it go."""
    cache, queue, shards = Cache(window=1.0), WorkQueue(), Shards(1)
    shards.take(0, Held())
    cache.finished["uid-a"] = summary(parse_object(document("a", 1, phase="Sent")))
    store = Store(Gone("there is no such object"))
    parts = SimpleNamespace(cache=cache, queue=queue, shards=shards, objects=store)
    await Sweeps(cast("Parts", parts)).wake_up("uid-a")
    assert (cache.entries, cache.finished) == ({}, {})
