"""What happened, as it is told of log and status."""

from __future__ import annotations

from dataclasses import replace

from syncer.cli.web.story import MOST, tell
from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.record import (
    Record,
    repair_record,
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
    entry,
    failed,
    opened,
    request,
)


def test_each_attempt_has_its_wait_duration_code_and_error() -> None:
    """Counted from the plan, then from the attempt before; in the order in which it happened."""
    log = read_log(elements(
        PLAN, opened(A1), failed(A1), opened(A2, at=NOW - 19_000), failed(A2, wait=0, at=NOW - 18_500),
    ))  # fmt: skip
    created, routed, first, second = tell(replace(request(), created=NOW - 61_000), log).moments
    assert (created.title, routed.title) == ("created", f"routed to {C}")
    assert routed.detail == "RoutingRuleMatched: rule 1 matched"
    assert (first.wait, first.duration, first.code) == (10_000, 1_000, 503)
    assert (first.title, first.tone, first.detail) == (
        "failed, may be retried",
        "bad",
        "slack said no",
    )
    assert (second.wait, second.duration, second.title) == (30_000, 500, "failed for good")
    assert not first.by
    assert not first.restored


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
        "one more attempt requested", "ana@host", "the hook is back",
    )  # fmt: skip
    assert (skipped.title, skipped.tone, skipped.detail) == ("not sent", "odd", "held: not now")
    assert (second.by, second.title, second.duration) == ("ana@host", "under way", -1)


def test_the_status_alone_tells_its_attempts() -> None:
    """Where the log is gone or could not be read, and it says that it is so."""
    shown = request(entry("failed"), entry("success", 2, A2), phase="Sent")
    for log in (None, read_log(())):
        attempts = [m for m in tell(shown, log).moments if m.attempt]
        assert [m.attempt for m in attempts] == [A1, A2]
        assert all(m.restored for m in attempts)


def test_the_log_alone_tells_its_attempts() -> None:
    """Of an object that is gone."""
    log = read_log(elements(PLAN, opened(A1), failed(A1)))
    assert [m.attempt for m in tell(None, log).moments] == ["", A1]
    assert tell(None, None).moments == ()


def test_a_long_story_is_cut_at_its_beginning() -> None:
    """A log of thousands of records makes a page that can be read."""
    attempts = [entry("failed", n, AttemptId(f"0.7-{n}")) for n in range(1, MOST + 11)]
    story = tell(request(*attempts), None)
    assert (len(story.moments), story.left_out) == (MOST, 11)


def test_the_end_is_told_last() -> None:
    """With its phase and message; what was not sent at all ends too."""
    for phase, tone in (
        ("Sent", "good"),
        ("Failed", "bad"),
        ("PartiallySent", "bad"),
        ("Other", ""),
    ):
        shown = request(phase=phase, message="why", completionTime="2027-01-15T07:59:30Z")
        *_, last = tell(shown, read_log(elements(PLAN))).moments
        assert (last.at, last.title, last.tone, last.detail) == (
            NOW - 30_000, f"ended: {phase}", tone, "why",
        )  # fmt: skip


def test_what_a_person_did_is_told() -> None:
    """On which channel, by whom and why; a record about the whole notification names no channel."""

    def resolved(attempt: AttemptId, at: int, why: str, *, delivered: bool) -> Record:
        result = Attempt(attempt, C, AttemptState.UNKNOWN, ended=NOW - 10)
        return resolution_record(result, delivered=delivered, at=at, by="ana", why=why)

    log = read_log(elements(
        PLAN, resolved(A1, NOW - 9, "lost", delivered=False), resolved(A2, NOW - 8, "seen", delivered=True),
        repair_record("r3", at=NOW - 7, by="ana", what="log", did="marks taken back"),
    ))  # fmt: skip
    moments = [m for m in tell(None, log).moments if m.by]
    assert [(m.at, m.title, m.channel, m.by, m.detail) for m in moments] == [
        (NOW - 9, "resolved as failed", C, "ana", "lost"),
        (NOW - 8, "resolved as delivered", C, "ana", "seen"),
        (NOW - 7, "repaired", "", "ana", "marks taken back"),
    ]


def test_an_attempt_whose_begin_is_not_known() -> None:
    """Of a status that shows the end alone, its begin follows from the duration, and so does the wait."""
    first = entry("failed") | {"durationSeconds": 1.5, "timestamp": "2027-01-15T07:59:11.500Z"}
    second = entry("failed", 2, A2) | {"timestamp": "2027-01-15T07:59:20.000Z"}
    shown = replace(request(first, second), created=NOW - 60_000)
    created, one, two = tell(shown, None).moments
    assert (created.title, one.at, one.duration) == ("created", NOW - 50_000, 1_500)
    assert (one.wait, two.wait, two.at) == (10_000, 8_500, NOW - 40_000)
    assert two.duration == 0
    assert [m.wait for m in tell(replace(shown, created=0), None).moments] == [-1, 8_500]


def test_a_duration_that_cannot_be_told() -> None:
    """Of an attempt without an end, and of one that a clock has end before it began."""
    (known,) = request(entry("failed")).status.attempts
    for started, ended in ((0, 0), (NOW, 0), (NOW, NOW - 5_000)):
        odd = replace(known, started=started, ended=ended, duration=0)
        shown = request()
        shown = replace(shown, status=replace(shown.status, attempts=(odd,)))
        (moment,) = [m for m in tell(shown, None).moments if m.attempt]
        assert moment.duration == -1
