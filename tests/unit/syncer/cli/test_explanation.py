"""What `syncer explain` answers: what comes next, why nothing does, and what is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.cli.explanation import Rules, as_json, as_text, explain, next_step
from syncer.cli.output import translated
from syncer.cli.owner import Owner
from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.hold import Hold
from syncer.model.record import (
    Fallback,
    Kind,
    Plan,
    Record,
    attempt_record,
    plan_record,
    repair_record,
    resend_record,
    resolution_record,
    skip_record,
)
from syncer.model.resource import NotificationRequest
from syncer.rules.holds import reason_of
from syncer.rules.plan import Deliver
from syncer.settings import DeliveryRules
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


def explained(
    *records: Record, rules: Rules | None = None, found: NotificationRequest | None = None
) -> tuple[dict[str, Any], str]:
    """An explanation, as JSON and as text."""
    log = read_log(elements(*records))
    answer = explain(found or request(), log, rules or Rules(), now=NOW)
    return as_json(answer), "\n".join(as_text(answer))


def test_explains_a_fallback() -> None:
    """For what it stands by and from when it is used; that it was not needed at the end."""
    stands_by = (Fallback("file", (C,), 90_000),)
    plan = plan_record(Plan((C, "file"), "r", "m", at=NOW - 60_000, fallbacks=stands_by))
    found, text = explained(plan, opened(A1), failed(A1, wait=60_000))
    assert (found["next"]["decision"], found["next"]["at"]) == (
        "WaitUntil", "2027-01-15T08:00:11.000Z",
    )  # fmt: skip
    assert found["plan"]["fallbacks"] == [{"channel": "file", "of": [C], "afterSeconds": 90.0}]
    assert f"to file if {C} fails, or has not succeeded after 1m30s" in text
    assert "Not sent to file yet, the fallback." in text
    found, _ = explained(plan, opened(A1), failed(A1, wait=600_000))
    assert found["next"]["at"] == "2027-01-15T08:00:30.000Z"
    done = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW))
    found, _ = explained(plan, opened(A1), done)
    assert found["channels"][1]["state"] == "NotNeeded"
    assert found["summary"].endswith("No fallback to file was needed.")


def test_explains_a_wait() -> None:
    """The next attempt has a time, which is that of the log, and a reason."""
    found, text = explained(PLAN, opened(A1), failed(A1, wait=60_000))
    assert found["next"] == {
        "decision": "WaitUntil", "reason": "next attempt not due yet", "channels": [],
        "at": "2027-01-15T08:00:11.000Z", "blocked": None, "held": {},
    }  # fmt: skip
    assert "NEXT    an attempt at 2027-01-15T08:00:11.000Z (in 11 seconds)" in text
    soon, _ = explained(PLAN, opened(A1), failed(A1, wait=49_500))
    assert soon["channels"][0]["nextAttempt"] == "2027-01-15T08:00:00.500Z"
    assert found["plan"]["message"] == "rule 1 matched"
    (channel,) = found["channels"]
    assert (channel["state"], channel["rule"]) == ("Retrying", "attempts left")
    assert channel["attempts"][0]["error"] == "slack said no"


def test_explains_what_is_due_now() -> None:
    """A wait that is over names no time; the channel's own line says when the next attempt is."""
    found, text = explained(PLAN, opened(A1), failed(A1, wait=49_000))
    assert (found["next"]["decision"], found["next"]["at"]) == ("Deliver", None)
    assert "next attempt at" not in text
    _, text = explained(PLAN, opened(A1), failed(A1, wait=60_000))
    assert "\n  next attempt at 2027-01-15T08:00:11.000Z (in 11 seconds)\n" in text


def test_explains_why_nothing_comes() -> None:
    """A permanent failure, an exhausted budget, a hold, a pause and an age each have their words."""
    found, _ = explained(PLAN, opened(A1), failed(A1, wait=0))
    assert found["next"]["reason"] == "every channel is finished"
    assert found["channels"][0]["rule"] == "permanent failure recorded"
    found, _ = explained(PLAN, opened(A1), failed(A1), opened(A2), failed(A2))
    assert found["channels"][0]["rule"] == "attempts used up"
    _, text = explained(PLAN, found=request(hold="change 42"))
    assert f"NEXT    nothing: {C} is due and held: the annotation" in text
    _, text = explained(PLAN, rules=Rules(paused=True))
    assert "is due and held: delivery is paused for all (delivery.paused)" in text
    _, text = explained(PLAN, rules=Rules(max_age=60))
    assert f"NEXT    {C} is given up: not sent: older than delivery.maxAge (1m0s)" in text
    skip = skip_record("skip:1", C, at=NOW, why="circuit open")
    found, text = explained(PLAN, skip)
    assert found["channels"][0]["skipped"] == "circuit open"
    assert "last due attempt was not made: circuit open" in text


def test_explains_a_hold() -> None:
    """Until when, by whom and why, and what lets go; the exit of a blocked one says more, not less."""
    hold = Hold(
        "00000001", "1", NOW - 5, NOW + 60_000, "alice@desk", "they mend it", receivers=(C,)
    )
    why = reason_of(hold)
    found, text = explained(PLAN, rules=Rules(holds=(hold,)))
    assert f"NEXT    nothing: {C} is due and held until 2027-01-15T08:01:00Z by alice@desk" in text
    assert "they mend it (syncer hold end 00000001)" in text
    assert found["next"] == {
        "decision": "Withhold", "reason": why, "channels": [C], "at": "2027-01-15T08:01:00.000Z",
        "blocked": None, "held": {C: why},
    }  # fmt: skip
    over = Hold("00000001", "1", NOW - 5, NOW, "alice@desk", "they mend it", receivers=(C,))
    _, text = explained(PLAN, rules=Rules(holds=(over,)))
    assert f"NEXT    an attempt is due now on {C}" in text
    _, text = explained(PLAN, rules=Rules(holds_problem="the right is missing"))
    assert "! operators' holds are not known: the right is missing" in text


def test_explains_that_some_channels_are_held() -> None:
    """What goes is said first, then what each hold keeps back, once."""
    hold = Hold(
        "00000001", "1", NOW - 5, NOW + 60_000, "alice", "x", receivers=("slack:a", "slack:b")
    )
    why = reason_of(hold)
    held = (("slack:a", why), ("slack:b", why))
    answer = explain(request(), read_log(elements(PLAN)), Rules(), now=NOW)
    some = replace(answer, decision=Deliver(("pagerduty:x",), None, "1 channel(s) due", held))
    assert next_step(some) == (
        f"an attempt is due now on pagerduty:x; slack:a, slack:b is due and {why}"
    )
    assert as_json(some)["next"]["held"] == dict(held)


def test_explains_why_what_is_due_was_not_tried() -> None:
    """The first line names a breaker that is open, not only the lines about the channel."""
    skip = skip_record("skip:1", C, at=NOW, why="slack circuit breaker is open")
    _, text = explained(PLAN, skip)
    assert (
        f"NEXT    an attempt is due now on {C}; {C} was last not tried: slack circuit breaker is open\n"
        in text
    )


def test_explains_what_can_be_done_at_the_end() -> None:
    """Only what was not delivered everywhere can be sent once more."""
    again = "; `resend` requests one more attempt"
    for phase, said in (("Failed", again), ("PartiallySent", again), ("Sent", "")):
        answer = explain(request(phase=phase), read_log(elements(PLAN)), Rules(), now=NOW)
        assert next_step(answer) == f"nothing: it has ended{said}"
    seen = resolution_record(
        Attempt(A1, C, AttemptState.UNKNOWN, ended=NOW), delivered=True, at=NOW, by="me", why="seen"
    )
    log = read_log(elements(PLAN, opened(A1), seen))
    answer = explain(request(phase="Failed"), log, Rules(), now=NOW)
    assert next_step(answer) == "nothing: it has ended", "an operator saw it arrive"
    log = read_log(elements(PLAN, opened(A1), failed(A1, wait=0)))
    answer = explain(request(), log, Rules(), now=NOW)
    assert (
        next_step(answer) == "nothing: every channel is finished; the status does not show this yet"
    )


def test_explains_an_order() -> None:
    """An ordered channel is due now, by name of the order; the attempt that follows bears it."""
    order = resend_record("order:slack:2", C, at=NOW, by="me", why="hook is back")
    ended = request(entry("failed"), phase="Failed")
    found, text = explained(PLAN, opened(A1), failed(A1, wait=0), order, found=ended)
    assert found["next"]["decision"] == "Deliver"
    assert found["channels"][0]["ordered"] == "order:slack:2"
    assert "\n  one more attempt requested by order:slack:2\n" in text
    assert "one more attempt requested" not in explained(PLAN, opened(A1), failed(A1))[1]
    waiting, _ = explained(PLAN, opened(A1), failed(A1, wait=60_000), order)
    assert waiting["next"]["decision"] == "Deliver", "it does not wait for the back-off"
    assert "resend requested by me: slack:ops: hook is back" in text
    found, _ = explained(
        PLAN, opened(A1), failed(A1, wait=0), order, opened(A2, order=order.id), found=ended
    )
    assert [a["order"] for a in found["channels"][0]["attempts"]] == [None, "order:slack:2"]
    assert found["next"]["decision"] == "Finish"


def test_explains_a_log_that_is_not_there_or_not_legible() -> None:
    """What keeps the answer from being complete is named."""
    log = list(elements(PLAN, opened(A1)))
    log[-1] = log[-1][:-1] + b"\xff"
    answer = explain(request(), read_log(log), Rules(known=False), now=NOW)
    assert answer.notes[0].startswith("its log cannot be read: record 2")
    assert "without --config the defaults of `delivery` are assumed" in answer.notes
    answer = explain(request(), read_log([]), Rules(), now=NOW)
    assert answer.notes[0] == "it has no log yet: no replica has claimed it"


NOBODY = "no replica owns its shard (3): no controller runs, or none that can serve"
QUARANTINE: dict[str, Any] = {
    "conditions": [{"type": "Quarantined", "status": "True", "reason": "R", "message": "record 2"}]
}
#: What stands in the way: log, object, who works on it; and what is said to come next.
BLOCKED: dict[str, tuple[tuple[bytes, ...], NotificationRequest, Owner, str]] = {
    "a log that cannot be read": (
        (*elements(PLAN), b"intent 0.7-1 x"), request(), Owner(), "its log cannot be read: record 2",
    ),
    "a quarantine that was mended and not looked at": (
        elements(PLAN), request(**QUARANTINE), Owner(), "the controller holds it: record 2",
    ),
    "a namespace that nobody watches": (
        elements(PLAN), request(), Owner(watched=False),
        "its namespace is not among those that the controller watches",
    ),
    "a shard without an owner": (
        elements(PLAN, opened(A1), failed(A1)), request(), Owner(watched=True, shard=3, holder=""),
        NOBODY,
    ),
    "an owner that opens no attempt": (
        elements(PLAN), request(), Owner(watched=True, shard=3, holder="pod-1", idle="Redis answers OOM"),
        "its owner pod-1 opens no attempt: Redis answers OOM",
    ),
    "no controller at all": (
        (), request(phase=""), Owner(missing="no controller has"), "no controller has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BLOCKED)
def test_explains_that_nothing_comes_where_nobody_looks(case: str) -> None:
    """What the rule would do next is not promised where something keeps anybody from doing it."""
    log, found, owner, why = BLOCKED[case]
    answer = explain(found, read_log(log), Rules(), now=NOW, owner=owner)
    text = as_text(answer)
    (headline,) = [line for line in text if line.startswith("NEXT")]
    assert headline.startswith("NEXT    nothing: ")
    assert why in headline
    assert as_json(answer)["next"]["decision"] == "Withhold"
    assert why in as_json(answer)["next"]["blocked"]


def test_explains_what_was_not_found_out() -> None:
    """Who works on it may not be known; that is said, and is no reason that nothing comes."""
    owner = Owner(None, unread=("who owns its shard is not known: Forbidden",))
    answer = explain(request(), read_log(elements(PLAN)), Rules(), now=NOW, owner=owner)
    assert answer.blocked == ""
    assert answer.notes == owner.unread
    document = as_json(answer)
    assert (document["watched"], document["owner"]) == (None, {"shard": None, "holder": None})
    first = Owner(watched=True, shard=0, holder="pod-1")
    answer = explain(request(), read_log(elements(PLAN)), Rules(), now=NOW, owner=first)
    assert as_json(answer)["owner"] == {"shard": 0, "holder": "pod-1"}


def test_finished_is_not_blocked() -> None:
    """What has ended needs nobody, so nobody is missed."""
    ended = request(entry("failed"), phase="Failed")
    owner = Owner(watched=False, shard=3, holder="")
    answer = explain(ended, read_log(elements(PLAN)), Rules(), now=NOW, owner=owner)
    assert answer.blocked == ""
    assert as_json(answer)["next"]["decision"] == "Finish"


def test_explains_a_status_that_is_not_believed() -> None:
    """An epoch that only the status names stops the object, and is named beside the log's own."""
    forged = request(entry("failed", identity="7.1-1"))
    answer = explain(forged, read_log(elements(PLAN)), Rules(), now=NOW)
    (note,) = [n for n in answer.notes if "another client wrote it" in n]
    assert "names the epoch 7.1, which its log (0.7) does not contain" in note
    answer = explain(request(entry("failed")), read_log(elements(PLAN)), Rules(), now=NOW)
    assert not [n for n in answer.notes if "another client wrote it" in n]


def test_an_explanation_as_json() -> None:
    """Every member says what the log and the object hold; what is not there is null."""
    first = elements(PLAN, opened(A1), failed(A1))
    log = read_log((*first, *elements(PLAN, opened(A1), failed(A1), opened(A2))[4:]))
    document = as_json(explain(request(), read_log(first), Rules(), now=NOW - 40_000))
    assert document["next"] == {
        "decision": "WaitUntil", "reason": "next attempt not due yet", "channels": [],
        "at": "2027-01-15T07:59:41.000Z", "blocked": None, "held": {},
    }  # fmt: skip
    assert document["plan"] == {
        "channels": [C], "rule": "RoutingRuleMatched", "message": "rule 1 matched",
        "at": "2027-01-15T07:59:00.000Z", "fallbacks": [],
    }  # fmt: skip
    (channel,) = document["channels"]
    assert channel | {"attempts": []} == {
        "channel": C, "state": "Retrying", "rule": "attempts left", "finished": False,
        "delivered": False, "nextAttempt": "2027-01-15T07:59:41.000Z", "skipped": None,
        "ordered": None, "attempts": [],
    }  # fmt: skip
    assert channel["attempts"] == [
        {
            "id": A1, "state": "failed", "class": "transient",
            "opened": "2027-01-15T07:59:10.000Z", "ended": "2027-01-15T07:59:11.000Z",
            "code": 503, "error": "slack said no", "word": None, "order": None,
        }
    ]  # fmt: skip
    (channel,) = as_json(explain(request(), log, Rules(), now=NOW))["channels"]
    assert (channel["nextAttempt"], channel["state"]) == (None, "Sending")
    assert channel["attempts"][1] == {
        "id": A2, "state": "intent", "class": None, "opened": "2027-01-15T07:59:10.000Z",
        "ended": None, "code": None, "error": None, "word": None, "order": None,
    }  # fmt: skip
    assert as_json(explain(request(), read_log(()), Rules(), now=NOW))["plan"] is None


def test_why_an_attempt_was_made() -> None:
    """By an order, because it was due, or restored, where nobody recorded its begin."""
    text = explained(PLAN, opened(A1, order="resend:1"), failed(A1))[1]
    assert "resend:1" in text
    assert "it was due" not in text
    text = explained(PLAN, opened(A1), failed(A1))[1]
    assert "it was due" in text
    assert "restored" not in text
    text = explained(PLAN, failed(A1))[1]
    assert "restored" in text
    assert "it was due" not in text


#: The last record of an attempt, and how its result is called.
CALLED: dict[str, Attempt] = {
    "failed, may be retried": Attempt(A1, C, AttemptState.FAILED, failure=FailureClass.TRANSIENT),
    "failed for good": Attempt(A1, C, AttemptState.FAILED, failure=FailureClass.PERMANENT),
    "not sent": Attempt(A1, C, AttemptState.FAILED, failure=FailureClass.NOT_SENT),
    "unknown": Attempt(A1, C, AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN),
    "success": Attempt(A1, C, AttemptState.SUCCESS),
}


@pytest.mark.parametrize("called", CALLED)
def test_what_a_result_is_called(called: str) -> None:
    """A failure by what follows from it; each row with its times, its code and its cause."""
    _, text = explained(
        PLAN, opened(A1), attempt_record(replace(CALLED[called], ended=NOW - 49_000, code=503))
    )
    head, row = (line for line in text.splitlines() if line.startswith(("  attempt", f"  {A1}")))
    assert head.split() == ["attempt", "opened", "ended", "result", "code", "because", "error"]
    assert row.rstrip() == (
        f"  {A1}    2027-01-15T07:59:10.000Z  2027-01-15T07:59:11.000Z  {called}  503   it was due"
    )


def test_explains_what_comes_first() -> None:
    """Before anything was tried, while it is under way, and when all has ended."""
    _, text = explained()
    assert "NEXT    its channels are resolved: no plan on record" in text
    assert "ROUTED" not in text
    _, text = explained(PLAN)
    assert f"NEXT    an attempt is due now on {C}\n" in text
    assert "\n  no attempt yet" in text
    _, text = explained(PLAN, opened(A1))
    assert "NEXT    the result of what is being sent: attempts under way" in text
    assert "  under way  " in text
    _, text = explained(PLAN, opened(A1), failed(A1, wait=0))
    assert "NEXT    nothing: every channel is finished" in text


def test_an_explanation_as_text() -> None:
    """Name, phase with its reason, age and route stand above the channels, remarks below."""
    _, text = explained(
        plan_record(Plan((), "Fallback", "", at=NOW - 60_000)),
        rules=Rules(known=False),
        found=request(phase="Failed", reason="R", message="m"),
    )
    assert text.splitlines() == [
        "It goes to no receiver.", "ns/n  uid u", "PHASE   Failed  R  m", "AGE     60m, priority Medium",
        "NEXT    nothing: it has ended",
        "ROUTED  to no channel at 2027-01-15T07:59:00.000Z", "        Fallback", "",
        "! without --config the defaults of `delivery` are assumed",
    ]  # fmt: skip
    _, text = explained(PLAN, found=request(phase=""))
    assert text.splitlines()[:3] == [
        f"Not yet delivered to {C}.", "ns/n  uid u", "PHASE   (none)",
    ]  # fmt: skip
    assert "        RoutingRuleMatched: rule 1 matched\n" in text
    assert "!" not in text


def test_a_long_error_is_cut_in_the_table() -> None:
    """A hundred characters show what it is about, with a mark at their end; JSON has all of it."""
    long = Attempt(A1, C, AttemptState.FAILED, failure=FailureClass.PERMANENT, error="x" * 101)
    found, text = explained(PLAN, opened(A1), attempt_record(long))
    assert text.endswith(" " + "x" * 99 + "…")
    assert found["channels"][0]["attempts"][0]["error"] == "x" * 101


def test_what_people_did_is_said() -> None:
    """By whom, when, about what and why; a record that lacks it says what there is."""
    repair = repair_record("repair:1", at=NOW, by="me", what="log-behind", did="append")
    found, text = explained(PLAN, repair)
    note = "2027-01-15T08:00:00.000Z repaired by me: log-behind: append"
    assert found["notes"] == [note]
    assert text.endswith(f"\n\n! {note}")
    unknown = Attempt(A1, C, AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN)
    for delivered, word in ((True, "delivered"), (False, "failed")):
        said = resolution_record(unknown, delivered=delivered, at=NOW, by="me", why="looked")
        found, _ = explained(PLAN, opened(A1), attempt_record(unknown), said)
        assert found["notes"] == [
            f"2027-01-15T08:00:00.000Z resolved as {word} by me: slack:ops: looked"
        ]
    found, _ = explained(PLAN, Record(Kind.REPAIR, "repair:1", "-", {}))
    assert found["notes"] == [" repaired by ?: : "]


def test_what_is_gone_is_told_from_what_has_not_begun() -> None:
    """A status that shows attempts, or an end, had a log once."""
    for found in (request(entry("failed")), request(phase="Sent")):
        assert explain(found, read_log([]), Rules(), now=NOW).notes == ("it has no log any more",)


def test_an_attempt_that_the_status_alone_shows_is_shown() -> None:
    """Beside those of the log, with its own channel alone, as restored."""
    other = entry("failed", identity=A2) | {"channel": "file"}
    both = plan_record(Plan((C, "file"), "RoutingRuleMatched", "", at=1))
    shown = request(entry("failed"), other)
    found, text = explained(both, opened(A1), failed(A1), found=shown)
    by_channel = {c["channel"]: [a["id"] for a in c["attempts"]] for c in found["channels"]}
    assert by_channel == {C: [A1], "file": [A2]}
    assert [a["order"] for c in found["channels"] for a in c["attempts"]] == [None, None]
    assert text.count("restored") == 1


def test_a_deletion_is_said() -> None:
    """It cancels what is due, and stands among the remarks too."""
    answer = explain(replace(request(), deleting=True), read_log(elements(PLAN)), Rules(), now=NOW)
    assert answer.blocked == "it is being deleted, which cancels delivery"
    assert answer.notes == (answer.blocked,)


def test_a_quarantine_is_said() -> None:
    """Only one that holds now, and with the controller's own words."""
    held = explain(request(**QUARANTINE), read_log(elements(PLAN)), Rules(), now=NOW)
    assert held.notes == ("the controller holds it: record 2",)
    (condition,) = QUARANTINE["conditions"]
    over = request(conditions=[condition | {"status": "False"}])
    free = explain(over, read_log(elements(PLAN)), Rules(), now=NOW)
    assert (free.blocked, free.notes) == ("", ())


def test_without_a_file_the_defaults_are_those_of_the_settings() -> None:
    """What is assumed is what a controller without the group does."""
    assumed, default = Rules(), DeliveryRules()
    assert (assumed.at_most_once, assumed.paused, assumed.max_age, assumed.known) == (
        default.at_most_once, default.paused, default.max_age, True,
    )  # fmt: skip


def _said(
    attempt: AttemptId, state: AttemptState, at: int = NOW - 9_000, *, seed: bool = False
) -> Record:
    """What became of an attempt, as its sender or, with `seed`, only the status has it."""
    failure = None if state is AttemptState.SUCCESS else FailureClass.UNCERTAIN
    return attempt_record(Attempt(attempt, C, state, ended=at, failure=failure), seed=seed)


#: The records behind the plan, and the first sentence.
SENTENCES: Final = {
    "nothing yet": ((), f"Not yet delivered to {C}."),
    "a failure": ((opened(A1), failed(A1)), f"Not yet delivered to {C} after one failure: slack said no."),
    "success after it": (
        (opened(A1), failed(A1), opened(A2), _said(A2, AttemptState.SUCCESS)),
        f"Delivered to {C} at 07:59:51 UTC after one failure.",
    ),
    "perhaps before as well": (
        (opened(A1), _said(A1, AttemptState.UNKNOWN, NOW - 12_000), opened(A2),
         _said(A2, AttemptState.SUCCESS)),
        f"Delivered to {C} at 07:59:51 UTC; it may also have arrived at 07:59:48 UTC.",
    ),
    "by a person's word": (
        (opened(A1), _said(A1, AttemptState.UNKNOWN), resolution_record(
            Attempt(A1, C, AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN),
            delivered=True, at=NOW - 9_000, by="sam", why="seen")),
        f"Delivered to {C} at 07:59:10 UTC (resolved by sam: not observed by the sender).",
    ),
    "restored": (
        (_said(A1, AttemptState.SUCCESS, seed=True),),
        f"Delivered to {C} at 07:59:51 UTC (restored from the status: not observed by the sender).",
    ),
    "adopted": (
        (_said(AttemptId("0-0"), AttemptState.SUCCESS, seed=True),),
        (
            f"Delivered to {C} at 07:59:51 UTC (adopted from the controller before: not observed by the"
            " sender)."
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SENTENCES)
def test_the_first_sentence(case: str) -> None:
    """What became of it, when, what may have arrived besides, and on whose word that stands."""
    records, wanted = SENTENCES[case]
    _, text = explained(PLAN, *records)
    assert text.splitlines()[0] == wanted
    if "(" in wanted:
        assert wanted.partition("(")[2].partition(":")[0] in text.partition("attempt  ")[2]


def test_words_that_only_their_developers_understand_are_translated() -> None:
    """The record keeps them."""
    assert (
        translated("permanent failure: it said 400 (permanent failure)")
        == "failed for good: it said 400"
    )
    assert "switched off" in translated("channel x: DD-NOT-007: use RegisterChannel() first")
    assert translated("timeout") == "timeout"
