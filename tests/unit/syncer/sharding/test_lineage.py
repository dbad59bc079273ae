"""The note of the store in a shard's Lease: what was lost once stays known, whoever comes next."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from syncer.kube.leases import Leases
from syncer.model.lineage import STORE, Lineage, parse_lineage
from syncer.sharding.sessions import Place, TimesOfDay
from syncer.sharding.shard_leases import ShardLeases
from syncer.sharding.view import LeaseView
from tests.unit.syncer.sharding.noting import Server, acquire


class Replica:
    """One replica: the store that it sees, and the API server's time."""

    def __init__(self, server: Server, store: str, now: int | None, name: str = "me") -> None:
        self.store, self.now, self.server = store, now, server
        view = LeaseView("nl", duration=10.0, clock=lambda: 0.0, on_change=lambda: None)
        wall = datetime(2030, 1, 1, tzinfo=UTC)
        place = Place("nl", name, 0, lambda: 0.0, lambda: wall, lambda: self.now)
        self.held = ShardLeases(
            cast("Leases", server), view, place, times=TimesOfDay(place.wall), timeout=1.0,
            store=lambda: self.store,
        )  # fmt: skip

    async def take(self) -> Lineage:
        """Take the shard; returns what is known then."""
        await acquire(self.held, self.server)
        return self.held.lineage(0)

    @property
    def noted(self) -> Lineage | None:
        """What the Lease notes."""
        return parse_lineage(self.server.lease.annotation(STORE))


async def test_a_loss_that_was_noticed_once_stays_known() -> None:
    """By the owner, over a restart, and by the next one."""
    server = Server()
    first = Replica(server, "a 1", 1000)
    assert await first.take() == Lineage("a 1", 1000) == first.noted, "nothing was noted before"
    first.now = 2000
    assert first.held.lineage(0) == Lineage("a 1", 1000)
    first.store = "a 2"
    assert first.held.lineage(0) == Lineage("a 2", 2000, 2000)
    first.now = 3000
    await first.held.note_store()
    assert first.noted == Lineage("a 2", 2000, 2000)
    version = server.lease.resource_version
    await first.held.note_store()
    assert server.lease.resource_version == version, "what is noted is not written again"
    assert await Replica(server, "a 2", 4000, "you").take() == Lineage("a 2", 2000, 2000)


async def test_a_loss_that_nobody_noticed_is_noticed_by_the_next_owner() -> None:
    """Its own first look compares with the note of the one before."""
    server = Server()
    await Replica(server, "a 1", 1000).take()
    second = Replica(server, "b 7", 5000, "you")
    assert await second.take() == Lineage("b 7", 5000, 5000) == second.noted


async def test_an_unknown_store_is_compared_later() -> None:
    """Where Redis is away, the note stays as it is, and nothing counts as complete."""
    server = Server()
    await Replica(server, "a 1", 1000).take()
    second = Replica(server, "", 5000, "you")
    assert (await second.take()).since == math.inf
    await second.held.note_store()
    assert second.noted == Lineage("a 1", 1000)
    second.store = "a 2"
    assert second.held.lineage(0) == Lineage("a 2", 5000, 5000)


@pytest.mark.parametrize(
    "text", ["", "a since=1 lost=2", "a b since=x lost=0", "a b since=1 lost=2 "]
)
def test_what_is_no_note(text: Any) -> None:
    """It says nothing, so nothing counts as complete."""
    assert parse_lineage(text) is None
