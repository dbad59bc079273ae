"""The fold: what a log says, record by record."""

from __future__ import annotations

import pytest

from syncer.ledger.codec import encode_log
from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch
from syncer.model.record import (
    Header,
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
)
from syncer.rules.fold import LogView, fold

A1, A2, A3 = (AttemptId(f"0.7-{n}") for n in (1, 2, 3))


def intent(attempt: AttemptId, channel: str = "slack:ops", at: int = 1_000) -> Record:
    """Open an attempt."""
    return intent_record(attempt, channel, at=at, by="pod-a")


def result(
    attempt: AttemptId,
    state: AttemptState = AttemptState.SUCCESS,
    channel: str = "slack:ops",
    *,
    seed: bool = False,
) -> Record:
    """Say how an attempt ended."""
    return attempt_record(Attempt(attempt, channel, state, ended=2_000), seed=seed)


PLAN = plan_record(Plan(("slack:ops",)))


def log(*records: Record) -> list[Record]:
    """The records as a log holds them: with positions and chains."""
    return list(read_log(encode_log(Header("ns/n", Epoch("0.7")), records)).records)


def test_a_verdict_is_no_second_result() -> None:
    """What a sender learns after an operator's word contradicts nobody; two senders do."""
    wrong = Record(Kind.RESOLVE_FAILED, f"resolve:{A1}:failed", "slack:ops", {"at": 1_500})
    overtaken = fold(log(intent(A1), wrong, result(A1)))
    assert (overtaken.attempts[A1].state, overtaken.conflicts) == (AttemptState.SUCCESS, 0)
    assert overtaken.resolved == {A1}
    unknown = result(A1, AttemptState.UNKNOWN)
    assert fold(log(intent(A1), unknown, result(A1), intent(A2), result(A2))).doubted == {A1}
    raised = Record(Kind.RESOLVE_SUCCESS, f"resolve:{A1}:success", "slack:ops", {"at": 9_000})
    assert fold(log(intent(A1), result(A1, AttemptState.FAILED), raised)).conflicts == 0
    assert fold(log(intent(A1), result(A1, AttemptState.FAILED), result(A1))).conflicts == 1
    assert fold(log(wrong, intent(A2), result(A2, AttemptState.FAILED), result(A2))).conflicts == 1


@pytest.mark.parametrize(
    ("records", "whole"),
    [
        ((PLAN,), None),
        ((PLAN, intent(A1), result(A2, seed=True)), True),
        ((PLAN, result(A1, seed=True), intent(A2), result(A2)), False),
        ((intent(A1), result(A1)), False),
    ],
    ids=["no attempt", "its own", "out of a memory", "for a late result"],
)
def test_whether_a_log_holds_its_beginning(records: tuple[Record, ...], whole: bool | None) -> None:
    """One does whose first attempt was opened in it, by its plan."""
    assert fold(log(*records)).whole is whole


def test_gap() -> None:
    """A record that is not the next one is refused, and the view stays as it was."""
    records = log(intent(A1), result(A1))
    view = LogView()
    with pytest.raises(ValueError, match="record 2 does not follow 0"):
        view.apply(records[1])
    view.apply(records[0])
    with pytest.raises(ValueError, match="record 1 does not follow 1"):
        view.apply(records[0])
    assert view == fold(records[:1])


def test_the_wait_after_the_newest_attempt_counts() -> None:
    """Wherever its record stands; what came before a resend request does not."""
    wait = {A1: 5_000, A2: 9_000, A3: 7_000}
    ended = {
        a: attempt_record(Attempt(a, "slack:ops", AttemptState.FAILED, ended=2_000, due=2_000 + ms))
        for a, ms in wait.items()
    }
    order = Record(Kind.ORDER, "order:1", "slack:ops", {"at": 1})
    for records in ([ended[A1], ended[A2], ended[A3]], [ended[A3], ended[A2], ended[A1]]):
        assert fold(log(*records)).waits(3_000, ()) == {"slack:ops": 6_000}
    view = fold(log(ended[A2], order, ended[A3]))
    assert view.waits(3_000, {"slack:ops"}) == {"slack:ops": 6_000}
    assert view.waits(30_000, {"slack:ops"}) == {"slack:ops": 0}
    assert fold(log(ended[A2], order)).waits(3_000, {"slack:ops"}) == {}
