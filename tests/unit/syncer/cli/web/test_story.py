"""What happened, as it is told of log and status."""

from __future__ import annotations

from syncer.cli.web.pages import tell
from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.record import (
    resend_record,
    resolution_record,
    skip_record,
)
from tests.unit.syncer.cli.samples import (
    A1,
    A2,
    NOW,
    PLAN,
    C,
    elements,
    failed,
    opened,
    request,
)


def test_who_ordered_it_and_why_not_is_told() -> None:
    """An operator's record is a moment of its own, and the attempt that follows names the operator."""
    log = read_log(elements(
        PLAN, opened(A1), failed(A1, wait=0),
        resend_record("order:1", C, at=NOW - 20_000, by="ana@host", why="the hook is back"),
        skip_record("skip:1", C, at=NOW - 15_000, why="held: not now"),
        opened(A2, at=NOW - 10_000, order="order:1"),
    ))  # fmt: skip
    *_, ordered, skipped, second = tell(request(), log).moments
    assert (ordered.title, ordered.by, ordered.detail) == (
        "resend requested", "ana@host", "the hook is back",
    )  # fmt: skip
    assert (skipped.title, skipped.tone, skipped.detail) == (
        "not sent", "odd", "held 2027-01-15T07:59:45Z to 2027-01-15T07:59:50Z: not now",
    )  # fmt: skip
    assert (second.by, second.title, second.duration) == ("ana@host", "under way", -1)


def test_a_result_that_a_person_stated_is_theirs() -> None:
    """Nobody has seen how long the call took: the time between is that until somebody looked."""
    lost = Attempt(A1, C, AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN)
    said = resolution_record(lost, delivered=True, at=NOW, by="sam", why="seen")
    told = tell(request(), read_log(elements(PLAN, opened(A1), said))).moments
    assert [(m.title, m.duration) for m in told if m.attempt] == [("success, resolved by sam", -1)]
