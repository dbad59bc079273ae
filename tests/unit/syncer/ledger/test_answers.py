"""What an answer of the log says where nothing was appended, or nothing was asked."""

from __future__ import annotations

from syncer.ledger.answers import Answer
from syncer.model.attempt import Epoch, make_attempt_id
from syncer.model.record import intent_record
from tests.unit.syncer.sync.test_holes import EPOCH, Held, bench, proof_of


async def test_a_call_that_was_not_sent_names_no_place() -> None:
    """Its guard did not hold: there is no position, no chain, and nothing that lacks confirmation."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        record = intent_record(make_attempt_id(EPOCH, 9), "console", at=1, by="me")
        told = await here.log.intent("u", proof_of(entry), record, limit=5, guard=lambda: False)
        assert (told.answer, told.detail) == (Answer.RECLAIM, "stale claim")
        assert (told.position, told.before, told.chain, told.count) == (0, "", "", 0)
        assert (told.rank, told.confirmed) == (-1, True)


async def test_what_was_appended_is_placed() -> None:
    """Position, both chains and the number of records; no state was there, and nothing is missing."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        record = intent_record(make_attempt_id(EPOCH, 9), "console", at=1, by="me")
        told = await here.log.intent("u", proof_of(entry), record, limit=5, guard=lambda: True)
        assert (told.answer, told.position, told.count) == (Answer.OK, 1, 1)
        assert (told.before, len(told.chain)) == ("00000000", 8)
        assert (told.rank, told.detail, told.confirmed) == (-1, "", True)


async def test_the_time_of_redis_comes_with_a_claim() -> None:
    """A claim has it, a refusal has none."""
    async with bench() as (here, _):
        claimed = await here.log.claim("u", EPOCH, name="ns/n")
        assert claimed.snapshot is not None
        assert claimed.now == 1000
        read = await here.log.read("u")
        assert read is not None
        assert (len(read.records), read.view.position) == (0, 0)
        await here.log.claim("u", Epoch("1.8"), name="ns/n")
        refused = await here.log.claim("u", EPOCH, name="ns/n")
        assert (refused.answer, refused.snapshot, refused.now) == (Answer.FENCED, None, 0)
