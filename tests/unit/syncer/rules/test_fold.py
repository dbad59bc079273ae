"""The fold: what a log says, record by record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncer.ledger.codec import stored
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.record import (
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
    repair_record,
    skip_record,
)
from syncer.rules import fold as fold_module
from syncer.rules.fold import ROOT_CHAIN, LogView, fold

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


def log(*records: Record) -> list[Record]:
    """The records as a log holds them: with positions and chains."""
    out: list[Record] = []
    for record in records:
        out.append(stored(record, out[-1].chain if out else ROOT_CHAIN, len(out) + 1))
    return out


def test_empty() -> None:
    """An empty log says nothing, and stands at its root."""
    view = fold([])
    assert view == LogView()
    assert view.publishable == (0, ROOT_CHAIN)
    assert fold_module.ROOT_CHAIN == ROOT_CHAIN


def test_attempts_are_joined() -> None:
    """An attempt is what all of its records together say."""
    view = fold(log(intent(A1), result(A1)))
    assert view.attempts == {
        A1: Attempt(A1, "slack:ops", AttemptState.SUCCESS, started=1_000, ended=2_000)
    }
    assert view.opened == {}


def test_a_late_lower_record_changes_nothing() -> None:
    """A result is not lowered by what is recorded after it."""
    view = fold(log(intent(A1), result(A1), result(A1, AttemptState.UNKNOWN)))
    assert view.attempts[A1].state is AttemptState.SUCCESS
    assert view.conflicts == 0


def test_conflicting_results_are_counted() -> None:
    """Two definite results of one attempt are joined and counted; equal ones are no conflict."""
    failed = result(A1, AttemptState.FAILED)
    assert fold(log(intent(A1), failed, failed)).conflicts == 0
    view = fold(log(intent(A1), failed, result(A1)))
    assert (view.conflicts, view.attempts[A1].state) == (1, AttemptState.SUCCESS)


def test_order_of_first_record() -> None:
    """Attempts stand in the order in which they were first spoken of."""
    view = fold(log(intent(A2), intent(A1, "console"), result(A1, channel="console"), result(A2)))
    assert list(view.attempts) == [A2, A1]
    assert [a.id for a in view.of_channel("console")] == [A1]


def test_first_plan_stays() -> None:
    """A plan is taken once: a second one changes nothing."""
    first = Plan(("slack:ops",), "RoutingRuleMatched", "m", 5)
    view = fold(log(plan_record(first), plan_record(Plan(("console",), at=9))))
    assert view.plan == first


def test_an_empty_plan_is_a_plan() -> None:
    """A plan without channels is on record, and stays."""
    view = fold(log(plan_record(Plan((), at=5)), plan_record(Plan(("console",), at=9))))
    assert view.plan == Plan((), at=5)


def test_skips() -> None:
    """A skip is remembered as the channel's last word until an attempt of the channel follows."""
    skip = skip_record("skip:1:1", "slack:ops", at=1, why="circuit open")
    view = fold(log(skip, intent(A1, "console")))
    assert (view.skips, view.last_skip) == (1, {"slack:ops": "circuit open"})
    view = fold(log(skip, intent(A1)))
    assert (view.skips, view.last_skip) == (1, {})


def test_order_sets_known_attempts_aside() -> None:
    """An operator's order names the attempts that its channel had at that point, no later ones."""
    order = Record(Kind.ORDER, "order:1", "slack:ops", {"at": 3})
    view = fold(
        log(
            intent(A1), result(A1, AttemptState.FAILED), intent(A2, "console"), order, intent(A3)
        )
    )  # fmt: skip
    assert view.orders == {"slack:ops": frozenset({A1})}
    assert view.order_ids == {"slack:ops": "order:1"}


def test_order_is_pending_until_its_channel_was_tried() -> None:
    """An attempt after the order fulfils it, a success at any time ends it, other channels do not."""
    order = Record(Kind.ORDER, "order:1", "slack:ops", {"at": 3})
    failed = result(A1, AttemptState.FAILED)
    ordered = [intent(A1), failed, order]
    assert fold(log(*ordered, intent(A2, "console"))).pending == {"slack:ops"}
    assert fold(log(*ordered, intent(A2))).pending == frozenset()
    assert fold(log(*ordered, result(A1))).pending == frozenset()
    unsent = Attempt(A2, "slack:ops", AttemptState.FAILED, ended=4, failure=FailureClass.NOT_SENT)
    assert fold(log(*ordered, intent(A2), attempt_record(unsent))).pending == {"slack:ops"}
    again = Record(Kind.ORDER, "order:2", "slack:ops", {"at": 4})
    assert fold(log(*ordered, intent(A2), again)).pending == {"slack:ops"}
    assert fold(log(intent(A1), failed)).pending == frozenset()


def test_publishable_ends_before_the_first_open_attempt() -> None:
    """Nothing from the first open attempt on may be acknowledged."""
    records = log(
        plan_record(Plan(("slack:ops", "console"), at=1)),
        intent(A1),
        intent(A2, "console"),
        result(A2, channel="console"),
    )
    view = fold(records)
    assert view.publishable == (1, records[0].chain)
    assert (view.position, view.chain) == (4, records[3].chain)
    view.apply(stored(result(A1), view.chain, 5))
    assert view.publishable == (5, view.chain)


def test_verdict() -> None:
    """An operator's verdict raises the attempt that it names."""
    verdict = Record(Kind.RESOLVE_SUCCESS, f"resolve:{A1}:1", "slack:ops", {"at": 9_000})
    view = fold(log(intent(A1), result(A1, AttemptState.UNKNOWN), verdict))
    assert view.attempts[A1] == Attempt(
        A1, "slack:ops", AttemptState.SUCCESS, started=1_000, ended=9_000
    )


def test_a_verdict_is_no_second_result() -> None:
    """What a sender learns after an operator's word contradicts nobody; two senders do."""
    wrong = Record(Kind.RESOLVE_FAILED, f"resolve:{A1}:failed", "slack:ops", {"at": 1_500})
    overtaken = fold(log(intent(A1), wrong, result(A1)))
    assert (overtaken.attempts[A1].state, overtaken.conflicts) == (AttemptState.SUCCESS, 0)
    assert overtaken.resolved == {A1}
    raised = Record(Kind.RESOLVE_SUCCESS, f"resolve:{A1}:success", "slack:ops", {"at": 9_000})
    assert fold(log(intent(A1), result(A1, AttemptState.FAILED), raised)).conflicts == 0
    assert fold(log(intent(A1), result(A1, AttemptState.FAILED), result(A1))).conflicts == 1
    assert fold(log(wrong, intent(A2), result(A2, AttemptState.FAILED), result(A2))).conflicts == 1


def test_repair_changes_nothing_known() -> None:
    """A note of a repair moves the position and nothing else."""
    repair = repair_record("repair:1", at=5, by="me", what="lost", did="restored")
    view, without = fold(log(intent(A1), repair)), fold(log(intent(A1)))
    assert (view.position, view.attempts) == (2, without.attempts)
    assert (view.skips, view.orders, view.plan) == (0, {}, None)


def test_seed_of_an_open_attempt() -> None:
    """An attempt that is restored while open is open again."""
    seed = attempt_record(Attempt(A1, "slack:ops", AttemptState.INTENT, started=5), seed=True)
    view = fold(log(seed))
    assert view.attempts[A1].open
    assert view.publishable == (0, ROOT_CHAIN)


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


def test_malformed_record() -> None:
    """A record that cannot be read leaves the view where it was."""
    record = replace(result(A1), id="seven", position=1)
    view = LogView()
    with pytest.raises(ValueError, match="not an attempt id"):
        view.apply(record)
    assert view == LogView()


def test_class_is_a_field() -> None:
    """The class of a failure is what the record says, whatever its text looks like."""
    attempt = Attempt(
        A1, "slack:ops", AttemptState.FAILED, ended=2, failure=FailureClass.TRANSIENT,
        error="permanent failure: not really",
    )  # fmt: skip
    assert fold(log(attempt_record(attempt))).attempts[A1].failure is FailureClass.TRANSIENT
