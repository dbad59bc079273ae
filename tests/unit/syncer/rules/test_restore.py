"""What a status and a memory give back to a log, cut to what a record can hold."""

from __future__ import annotations

from syncer.ledger.codec import encode_record
from syncer.model.attempt import LONGEST_CALL, Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.record import LOG_ERROR_BYTES, MAX_INT, Kind, Plan, read_attempt, read_plan
from syncer.model.resource import ChannelStatus, Status
from syncer.rules.fold import LogView
from syncer.rules.restore import missing_plan, seed_of, seeds_of_view

ID = AttemptId("0.7-1")


def test_a_seed_says_what_was_shown() -> None:
    """An attempt comes back as it was; what was not known stays so."""
    shown = Attempt(
        ID, "a", AttemptState.FAILED, 10, 20, 0, 0, FailureClass.TRANSIENT, "busy", 0, 3
    )
    seed = seed_of(shown)
    assert seed.kind is Kind.SEED_FAILED
    assert read_attempt(seed) == shown
    assert not {"due", "code", "ms"} & seed.body.keys()


def test_a_seed_fits_into_a_record() -> None:
    """Whatever a status holds, its seed can be written."""
    huge = 10**30
    for number in (huge, -huge):
        shown = Attempt(
            ID, "a", AttemptState.FAILED, number, number, number, number,
            FailureClass.TRANSIENT, "x" * 10**5, number, number,
        )  # fmt: skip
        seed = seed_of(shown)
        encode_record(seed)
        back = read_attempt(seed)
        assert len(back.error.encode()) <= LOG_ERROR_BYTES
        most = MAX_INT - 1 if number > 0 else 0
        assert {back.ended, back.due, back.code, back.number} == {most}
        assert back.duration == min(most, LONGEST_CALL)


def test_what_a_memory_gives_back_are_seeds() -> None:
    """The plan first; each attempt with its begin and its number, an open one as an intent."""
    view = LogView()
    view.plan = Plan(("a",), "RoutingRuleMatched", "m", 5)
    ended = Attempt(ID, "a", AttemptState.FAILED, 10, 20, 0, 0, FailureClass.TRANSIENT, "", 0, 3)
    opened = Attempt(AttemptId("0.7-2"), "a", AttemptState.INTENT, 30)
    view.attempts |= {a.id: a for a in (ended, opened)}
    plan, *seeds = seeds_of_view(view, Status())
    assert plan.kind is Kind.PLAN
    assert [s.kind for s in seeds] == [Kind.SEED_FAILED, Kind.SEED_INTENT]
    assert [read_attempt(s) for s in seeds] == [ended, opened]


def test_a_plan_that_is_missing() -> None:
    """It has the channels that the status shows, and the time at which it was begun, if it tells."""
    channels = (ChannelStatus("a", "Sending"), ChannelStatus("b", "Pending"))
    for status, at in (
        (Status(channels=channels), 0),
        (Status(channels=channels, queued_at=5), 5),
        (Status(channels=channels, queued_at=5, started_at=7), 7),
    ):
        record = missing_plan(LogView(), status)
        assert record is not None
        assert (read_plan(record).channels, read_plan(record).at) == (("a", "b"), at)
    assert missing_plan(LogView(), Status()) is None


def test_what_is_shown_behind_an_attempt_that_it_lacks_is_given_with_its_place() -> None:
    """One of the replaced controller as well, if it is known; one that is not comes with its wait later."""
    former = Attempt(AttemptId("0-0"), "a", AttemptState.FAILED, 1, 2, number=1)
    unknown = Attempt(AttemptId("0-1"), "a", AttemptState.FAILED, 3, 4, number=2)
    view = LogView()
    own = Attempt(ID, "a", AttemptState.FAILED, 5, 6)
    view.attempts |= {own.id: own, former.id: former}
    status = Status(attempts=(former, unknown), total_attempts=2)
    seeds = seeds_of_view(view, status)
    assert [seed.id for seed in seeds] == ["0-0", "0.7-1"]
