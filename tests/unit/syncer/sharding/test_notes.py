"""Notes in shards' Leases: written, removed, kept by an acquisition, in doubt."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from syncer.kube.lease_term import LeaseTimings, Session
from syncer.kube.leases import Leases
from syncer.model.journal import MARKS_LEFT, NOTE, parse_note
from syncer.sharding.sessions import Place, TimesOfDay
from syncer.sharding.shard_leases import ShardLeases
from syncer.sharding.view import LeaseView
from tests.unit.syncer.sharding.noting import Server, acquire


def leases(server: Server, identity: str = "me") -> ShardLeases:
    """One replica's."""
    view = LeaseView("nl", duration=10.0, clock=lambda: 0.0, on_change=lambda: None)
    place = Place("nl", identity, 0, lambda: 0.0, lambda: datetime(2030, 1, 1, tzinfo=UTC))
    times = TimesOfDay(place.wall)
    return ShardLeases(cast("Leases", server), view, place, times=times, timeout=1.0)


@pytest.fixture
def server() -> Server:
    """A server without Leases."""
    return Server()


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
