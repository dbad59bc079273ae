"""Shards' Leases: notes of outages and of the store, written, removed, kept by an acquisition, in doubt."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from syncer.kube.lease_term import LeaseTimings, Session
from syncer.kube.leases import LeaseRecord, Leases
from syncer.model.errors import Ambiguous, Conflict
from syncer.model.journal import MARKS_LEFT, NOTE, parse_note
from syncer.model.lineage import STORE, Lineage, parse_lineage
from syncer.sharding.sessions import Place, TimesOfDay
from syncer.sharding.shard_leases import ShardLeases
from syncer.sharding.view import LeaseView, Sighting


class Server:
    """One Lease, written by compare-and-swap; an answer may be lost, or a write come late."""

    def __init__(self) -> None:
        self.lease = LeaseRecord("nl-0", "u", "10", annotations={})
        self.lose = False
        #: Set when an answer may be given that is held up.
        self.gate: asyncio.Event | None = None

    async def get(self, name: str, *, timeout: float) -> LeaseRecord:
        return self.lease

    async def create(
        self, name: str, annotations: Mapping[str, str], spec: Any, *, timeout: float
    ) -> LeaseRecord:
        self.lease = LeaseRecord(
            name, "u2", "90", spec["holderIdentity"], annotations=dict(annotations)
        )
        return self.lease

    async def patch(
        self, name: str, version: str, annotations: Mapping[str, str | None], spec: Any, *, timeout: float
    ) -> LeaseRecord:  # fmt: skip
        if version != self.lease.resource_version:
            raise Conflict("another version")
        kept = {**(self.lease.annotations or {}), **annotations}
        self.lease = replace(
            self.lease,
            resource_version=str(int(version) + 1),
            holder=spec.get("holderIdentity", self.lease.holder),
            transitions=spec.get("leaseTransitions", self.lease.transitions),
            annotations={k: v for k, v in kept.items() if v is not None},
        )
        if self.lose:
            self.lose = False
            raise Ambiguous("no answer")
        answer = self.lease
        if self.gate is not None:
            await self.gate.wait()
        return answer


async def acquire(held: ShardLeases, server: Server) -> None:
    """Take the shard."""
    session = Session("s", 0.0, LeaseTimings())
    assert await held.acquire(0, session, Sighting(server.lease, 0.0)) is not None


class Replica:
    """One replica: the store that it sees, and the API server's time."""

    def __init__(
        self, server: Server, store: str = "", now: int | None = None, name: str = "me"
    ) -> None:
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
        return parse_lineage(self.server.lease.annotation(STORE))


def leases(server: Server, identity: str = "me") -> ShardLeases:
    """One replica's, to which no store is known."""
    return Replica(server, name=identity).held


@pytest.fixture
def server() -> Server:
    """A server without Leases."""
    return Server()


# -- notes of outages -----------------------------------------------------------------------------


async def test_a_note_is_written_and_removed(server: Server) -> None:
    """It is known while it is there, and stands in the Lease under the acquisition's number."""
    held = leases(server)
    await acquire(held, server)
    assert (held.note(0), held.may_carry_note(0)) == (None, False)
    note = await held.put_note(0, 1_000)
    assert note is not None
    assert parse_note(server.lease.annotation(NOTE)) == note == held.note(0)
    assert (note.since, note.kept) == (1_000, server.lease.transitions)
    assert await held.put_note(0, 2_000) == note
    assert await held.remove_note(0)
    assert (server.lease.annotation(NOTE), held.may_carry_note(0)) == ("", False)
    again = await held.put_note(0, 3_000)
    assert again is not None
    assert again.name != note.name


async def test_a_note_in_doubt_is_there_for_the_log_and_not_for_the_journal(server: Server) -> None:
    """Its write was not answered: another write settles it."""
    held = leases(server)
    await acquire(held, server)
    server.lose = True
    assert await held.put_note(0, 1_000) is None
    assert (held.note(0), held.may_carry_note(0)) == (None, True)
    assert server.lease.annotation(NOTE)
    assert await held.remove_note(0)
    assert (server.lease.annotation(NOTE), held.may_carry_note(0)) == ("", False)


async def test_an_acquisition_keeps_a_note_that_the_last_one_kept(server: Server) -> None:
    """The next owner knows it at once; one after an owner that knows no notes removes it."""
    first, second = leases(server, "first"), leases(server, "second")
    await acquire(first, server)
    note = await first.put_note(0, 1_000)
    assert note is not None
    await acquire(second, server)
    kept = second.note(0)
    assert kept is not None
    assert (kept.name, kept.since, kept.kept) == (note.name, 1_000, note.kept + 1)
    # A version without notes counts up and leaves the annotation where it is.
    server.lease = replace(server.lease, holder="old", transitions=server.lease.transitions + 1)
    third = leases(server, "third")
    await acquire(third, server)
    assert (third.may_carry_note(0), server.lease.annotation(NOTE)) == (False, "")


async def test_the_lease_says_that_marks_are_left_until_it_is_told_otherwise(
    server: Server,
) -> None:
    """The next owner finds that, too, also when the note is gone; none can be cleared under a note."""
    first, second = leases(server, "first"), leases(server, "second")
    await acquire(first, server)
    assert first.marks_left == frozenset()
    await first.put_note(0, 1_000)
    assert first.marks_left == {0}
    assert not await first.clear_marks(0)
    assert await first.remove_note(0)
    await acquire(second, server)
    assert (second.note(0), second.marks_left) == (None, frozenset({0}))
    assert not await first.clear_marks(0), "the Lease is another's"
    assert await second.clear_marks(0)
    assert (second.marks_left, server.lease.annotation(MARKS_LEFT)) == (frozenset(), "")
    assert await second.put_note(0, 2_000) is not None


async def test_a_late_answer_says_nothing_of_the_next_term(server: Server) -> None:
    """A note is written, and before the answer the shard is released and acquired again."""
    held = leases(server)
    await acquire(held, server)
    server.gate = asyncio.Event()
    writing = asyncio.create_task(held.put_note(0, 1_000))
    await asyncio.sleep(0)
    gate, server.gate = server.gate, None
    held.terms.clear()
    server.lease = replace(server.lease, annotations={})
    await acquire(held, server)
    gate.set()
    assert await writing is None
    assert (held.note(0), held.may_carry_note(0)) == (None, False)


async def test_a_lease_that_was_deleted_may_have_said_that_marks_are_left(server: Server) -> None:
    """The next owner finds that, too; only who founds the installation knows that there are none."""
    session = Session("s", 0.0, LeaseTimings())
    first, founder = leases(server, "first"), leases(server, "founder")
    founder._new = lambda: True
    assert await founder.acquire(0, session, None) is not None
    assert (founder.marks_left, server.lease.annotation(MARKS_LEFT)) == (frozenset(), "")
    await founder.put_note(0, 1_000)
    assert await founder.acquire(0, session, None) is not None
    assert (founder.marks_left, bool(server.lease.annotation(MARKS_LEFT))) == (frozenset({0}), True)
    assert await first.acquire(0, session, None) is not None
    assert (first.note(0), first.marks_left) == (None, frozenset({0}))
    second = leases(server, "second")
    await acquire(second, server)
    assert second.marks_left == {0}
    assert await second.clear_marks(0)
    assert server.lease.annotation(MARKS_LEFT) == ""


# -- the note of the store ------------------------------------------------------------------------


async def test_a_loss_that_was_noticed_once_stays_known(server: Server) -> None:
    """By the owner, over a restart, and by the next one."""
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


async def test_a_loss_that_nobody_noticed_is_noticed_by_the_next_owner(server: Server) -> None:
    """Its own first look compares with the note of the one before."""
    await Replica(server, "a 1", 1000).take()
    second = Replica(server, "b 7", 5000, "you")
    assert await second.take() == Lineage("b 7", 5000, 5000) == second.noted


async def test_an_unknown_store_is_compared_later(server: Server) -> None:
    """Where Redis is away, the note stays as it is, and nothing counts as complete."""
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
def test_what_is_no_note_of_a_store(text: Any) -> None:
    """It says nothing, so nothing counts as complete."""
    assert parse_lineage(text) is None
