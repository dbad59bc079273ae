"""What a status and a memory give back to a log, cut to what a record can hold."""

from __future__ import annotations

from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.record import Fallback
from syncer.model.resource import ChannelStatus, Status
from syncer.rules.fold import LogView
from syncer.rules.restore import missing_plan, seeds_of_view

ID = AttemptId("0.7-1")


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


def test_a_fallback_that_was_not_used_stands_by_in_a_restored_plan() -> None:
    """For all that was, since no status says for which."""
    states = {"a": "Retrying", "b": "Delivered", "c": "Standby", "d": "NotNeeded"}
    status = Status(channels=tuple(ChannelStatus(*each) for each in states.items()))
    plan = missing_plan(LogView(), status)
    assert plan is not None
    assert plan.channels == tuple(states)
    assert plan.fallbacks == (Fallback("c", ("a", "b")), Fallback("d", ("a", "b")))
