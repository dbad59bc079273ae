"""What the page of one notification says: the text, the links and the colours that a person sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.cli.explanation import Rules, explain
from syncer.cli.installation import Store, StoreState
from syncer.cli.known import Known
from syncer.cli.owner import Owner
from syncer.cli.receivers import Overview
from syncer.cli.rows import Placed, row_of
from syncer.cli.web.pages import Moment, _environment, page, tell
from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.record import (
    Record,
    attempt_record,
    resend_record,
    resolution_record,
    skip_record,
)
from syncer.model.resource import NotificationRequest
from syncer.rules.divergence import Divergence, Finding
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
from tests.unit.syncer.cli.web.reading import lines_of


def known(of: NotificationRequest | None, *records: Record, **changes: Any) -> Known:
    """Everything that is known of a notification with such a log."""
    log = read_log(elements(*records)) if records else None
    found = None
    if of is not None and log is not None:
        owner = changes.pop("owner", Owner(watched=True, shard=3, holder="pod-1"))
        found = explain(of, log, Rules(), now=NOW, owner=owner)
    ours = Store(StoreState.OURS)
    made = Known("ns/n", "u", of, "", log, "", (), -1, ours, found, (), gone=False, now=NOW)
    return replace(made, **changes)


def the_page(of: Known) -> list[str]:
    """The page of a notification."""
    story = tell(of.request, of.log)
    text = page("notification", title=of.key, here="", known=of, story=story, events="/e")
    return lines_of(text)


ROUTED: Final = (
    "- routed to slack:ops 2027-01-15T07:59:00Z (1 minute ago) RoutingRuleMatched: rule 1 matched"
)
MORE: Final = [
    "## More",
    "Every record of its log: $ kubectl ledger explain ns/n --records",
    "The same as text: $ kubectl ledger explain ns/n",
    "One more attempt: $ kubectl ledger resend ns/n --reason 'TEXT'",
]


def test_a_notification_that_is_retried() -> None:
    """What became of it, what comes next, channels, and each moment with its wait, time and answer."""
    shown = replace(
        request(entry("failed"), phase="Retrying", totalAttempts=1), created=NOW - 61_000
    )
    assert the_page(known(shown, PLAN, opened(A1), failed(A1, wait=80_000))) == [
        "# ns/n",
        "Not yet delivered to slack:ops after one failure: slack said no.",
        "Phase: Retrying (odd)",
        "Created: 2027-01-15T07:58:59Z (61 seconds ago)",
        "Priority: Medium",
        "Attempts: 1",
        "Owner: pod-1, shard 3",
        "Uid: u",
        "## What comes next",
        "an attempt at 2027-01-15T08:00:31.000Z (in 31 seconds): next attempt not due yet",
        "## Channels",
        "Where it goes",
        "| Channel | State | Because | Attempts | Next attempt | Notes |",
        (
            "| slack:ops </list?receiver=slack%3Aops> | Retrying (odd) | attempts left | 1 |"
            " 2027-01-15T08:00:31Z (in 31 seconds) | |"
        ),
        "## What happened",
        "- created 2027-01-15T07:58:59Z (61 seconds ago)",
        ROUTED,
        (
            "- (bad) failed, may be retried (bad) slack:ops 2027-01-15T07:59:10Z (50 seconds ago)"
            " attempt 0.7-1, after a wait of 10.0 s, took 1.0 s, code 503 slack said no"
        ),
        *MORE,
    ]


def test_a_notification_that_somebody_takes_care_of() -> None:
    """The hold, the order, the attempt that was not made, and the unknown result that can be resolved."""
    shown = request(
        entry("unknown"), phase="PartiallySent", hold="why", message="half",
        reason="Mixed", completionTime="2027-01-15T07:59:30Z",
    )  # fmt: skip
    lines = the_page(
        known(
            replace(shown, priority="High"), PLAN, opened(A1), failed(A1, wait=0),
            resend_record("order:1", C, at=NOW - 20_000, by="ana@host", why="the hook is back"),
            skip_record("skip:1", C, at=NOW - 15_000, why="held: not now"),
            owner=Owner(watched=True, shard=3, holder=None),
        )
    )  # fmt: skip
    assert {"Message: half", "Priority: High", "Held: why"} < set(lines)
    assert not [line for line in lines if line.startswith("Owner")]
    row_of = next(line for line in lines if line.startswith("| slack:ops"))
    assert row_of.endswith(
        "| none planned | one more attempt requested by ana@host;"
        " last due attempt was not made: held: not now |"
    )
    notes = lines[lines.index("## What comes next") + 2 : lines.index("## Channels")]
    assert notes == [
        "- 2027-01-15T07:59:40.000Z resend requested by ana@host: slack:ops: the hook is back",
    ]
    assert lines[-1] == (
        "Put on record that it arrived: $ kubectl ledger resolve ns/n --as delivered --reason 'TEXT'"
    )


def test_what_became_of_a_hold_and_of_a_final_phase() -> None:
    """Until when it was held, by whom; and why the phase does not say what was delivered later."""
    shown = request(phase="Failed", completionTime="2027-01-15T07:59:30Z")
    why = "held until 2027-01-15T09:00:00Z by ana: CHG-1 (syncer hold end h-1)"
    late = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW))
    lines = the_page(
        known(
            shown, PLAN, skip_record("s1", C, at=NOW - 59_000, why=why),
            skip_record("s2", "x", at=NOW - 58_000, why="slack circuit breaker is open"), opened(A1), late,
        )
    )  # fmt: skip
    (said,) = (line for line in lines if line.startswith("Final: Failed, as it was published at "))
    assert said.endswith(" 07:59:30 UTC, and that stays; delivered since then: slack:ops")
    held, skipped = (line for line in lines if line.startswith("- (odd) not sent"))
    assert held.endswith(" held 2027-01-15T07:59:01Z to 2027-01-15T07:59:10Z by ana: CHG-1")
    assert skipped.endswith(" slack circuit breaker is open")


def test_log_and_object_that_disagree() -> None:
    """Each finding has what is to be done about it, and the command that shows what that would be."""
    found = (Finding(Divergence.UNACKED, "two records are not marked"),)
    lines = the_page(known(request(), PLAN, findings=found))
    at = lines.index("## Log and object disagree")
    assert lines[at + 1] == (
        "- unacked (bad) two records are not marked. `syncer verify --repair` has the owner mark it (caused"
        " by an owner that was ended or delayed)."
        " $ kubectl ledger verify --repair --dry-run ns/n"
    )


def test_what_is_not_known_is_left_out() -> None:
    """The page is made of what there is; what a shell would run is quoted."""
    assert the_page(known(None, PLAN, gone=True)) == [
        "# ns/n", "Not delivered to slack:ops. The object was deleted; its log is kept.",
        "## What happened", ROUTED, *MORE,
    ]  # fmt: skip
    lines = the_page(known(None, key="ns/$(rm)"))
    assert lines[1:3] == ["## What happened", "Nothing is known."]
    assert lines[-1] == "One more attempt: $ kubectl ledger resend 'ns/$(rm)' --reason 'TEXT'"


def test_a_long_story_says_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many moments, above those that are shown."""
    monkeypatch.setitem(_environment().globals, "most", 1)
    lines = the_page(known(None, PLAN, opened(A1), failed(A1), gone=True))
    assert lines[lines.index("## What happened") + 1] == "1 earlier moments are not shown."
    assert lines[lines.index("## What happened") + 2].startswith("- (bad) failed")


def test_a_second_attempt_waits_for_the_first() -> None:
    """Its wait is counted from the end of the one before, and a stopped one has no duration."""
    lines = the_page(known(request(), PLAN, opened(A1), failed(A1), opened(A2, at=NOW - 19_000)))
    assert lines[lines.index("## More") - 1] == (
        "- under way slack:ops 2027-01-15T07:59:41Z (19 seconds ago) attempt 0.7-2, after a wait of 30.0 s"
    )


def test_who_ordered_it_and_why_not_is_told() -> None:
    """An operator's record is a moment of its own, and the attempt that follows names the operator."""
    log = read_log(elements(
        PLAN, opened(A1), failed(A1, wait=0),
        resend_record("order:1", C, at=NOW - 20_000, by="ana@host", why="the hook is back"),
        skip_record("skip:1", C, at=NOW - 15_000, why="held: not now"),
        opened(A2, at=NOW - 10_000, order="order:1"),
    ))  # fmt: skip
    *_, ordered, skipped, second = tell(request(), log)
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
    told = tell(request(), read_log(elements(PLAN, opened(A1), said)))
    assert [(m.title, m.duration) for m in told if m.attempt] == [("success, resolved by sam", -1)]


#: A moment, and what is said of it besides its title and time.
MOMENTS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "its title": ({}, ""),
    "short times in milliseconds": (
        {"attempt": "1", "wait": 0, "duration": 999}, "attempt 1, after a wait of 0 ms, took 999 ms",
    ),
    "longer ones in seconds, the longest in words": (
        {"attempt": "1", "wait": 59_940, "duration": 60_000},
        "attempt 1, after a wait of 59.9 s, took 1 minute",
    ),
    "what is known of an attempt alone": (
        {"attempt": "1", "code": 429, "by": "ana", "restored": True},
        "attempt 1, code 429, requested by ana, known from the status alone",
    ),
    "what a person did has no wait": ({"wait": 5, "duration": 5, "by": "ana"}, "by ana"),
}  # fmt: skip


@pytest.mark.parametrize("case", MOMENTS)
def test_a_moment(case: str) -> None:
    """What is known of it, and nothing else."""
    changes, said = MOMENTS[case]
    assert ", ".join(Moment(NOW, "x", **changes).facts) == said


def test_receivers() -> None:
    """The bad ones first, since when, what waits there and why, with the way to it."""
    counts = Overview(Placed(now=NOW), NOW - 86_400_000)
    shown = request(
        entry("failed") | {"error": "no"},
        channels=[{"name": C, "state": "Retrying"}, {"name": "a"}],
    )
    counts.take(row_of(shown))
    counts.receivers[C].skip = "the breaker is open"
    lines = lines_of(page("receivers", title="Receivers", here="/receivers", counts=counts))
    assert lines[-2] == (
        "| slack:ops </list?receiver=slack%3Aops> | bad (bad) for 49s"
        " | 1 | 1 | 0 | 1 </list?receiver=slack%3Aops&state=unfinished> | | the breaker is open | no |"
    )
    assert lines[-1].startswith("| a </list?receiver=a> | good (good) | 0 | 0 | 0 | 1 <")
    none = Overview(Placed(now=NOW), 0)
    lines = lines_of(page("receivers", title="Receivers", here="/receivers", counts=none))
    assert lines[-1] == "No notification has been routed yet."
