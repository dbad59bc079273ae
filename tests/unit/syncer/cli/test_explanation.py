"""What `syncer explain` answers: what comes next, why nothing does, and what is not known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

from syncer.cli.explanation import Rules, as_json, as_text, explain, next_step, of_deleted
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


@dataclass(frozen=True)
class Told:
    """What is known of one, what its text says and does not, and what its document has."""

    records: tuple[Record, ...]
    says: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    next: dict[str, Any] = field(default_factory=dict)
    channel: dict[str, Any] = field(default_factory=dict)
    rules: Rules | None = None
    found: NotificationRequest | None = None
    notes: list[str] | None = None


SUCCESS: Final = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW))
SUCCESS_2: Final = attempt_record(Attempt(A2, C, AttemptState.SUCCESS, ended=NOW))
UNKNOWN: Final = Attempt(A1, C, AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN)
LONG: Final = Attempt(A1, C, AttemptState.FAILED, failure=FailureClass.PERMANENT, error="x" * 101)
#: `file` stands by for the other channel.
STOOD_BY: Final = plan_record(
    Plan((C, "file"), "r", "m", at=NOW - 60_000, fallbacks=(Fallback("file", (C,), 90_000),))
)
REFUSED: Final = (PLAN, opened(A1), failed(A1, wait=0))
LATER: Final = (PLAN, opened(A1), failed(A1, wait=60_000))
WAITING: Final[dict[str, Any]] = {
    "decision": "WaitUntil", "reason": "next attempt not due yet", "channels": [],
    "at": "2027-01-15T08:00:11.000Z", "blocked": None, "held": {},
}  # fmt: skip
ORDER: Final = resend_record("order:slack:2", C, at=NOW, by="me", why="hook is back")
ENDED: Final = request(entry("failed"), phase="Failed")
HELD: Final = Hold(
    "00000001", "1", NOW - 5, NOW + 60_000, "alice@desk", "they mend it", receivers=(C,)
)
WHY: Final = reason_of(HELD)
AGAIN: Final = "NEXT    nothing: it has ended; `resend` requests one more attempt\n"


def resolved(*, delivered: bool) -> Record:
    """What an operator says of the attempt whose result is unknown."""
    return resolution_record(UNKNOWN, delivered=delivered, at=NOW, by="me", why="looked")


TOLD: Final = {
    "a fallback stands by, and is used when its time has come": Told(
        (STOOD_BY, opened(A1), failed(A1, wait=600_000)),
        (f"to file if {C} fails, or has not succeeded after 1m30s",
         "Not sent to file yet, the fallback."),
        next={"decision": "WaitUntil", "at": "2027-01-15T08:00:30.000Z"},
    ),
    "a retry comes before the fallback": Told(
        (STOOD_BY, opened(A1), failed(A1, wait=60_000)), next={"at": "2027-01-15T08:00:11.000Z"}
    ),
    "a fallback that was not needed": Told(
        (STOOD_BY, opened(A1), SUCCESS), ("No fallback to file was needed.",)
    ),
    "the next attempt has a time and a reason": Told(
        LATER,
        ("NEXT    an attempt at 2027-01-15T08:00:11.000Z (in 11 seconds)",
         "\n  next attempt at 2027-01-15T08:00:11.000Z (in 11 seconds)\n"),
        next=WAITING, channel={"state": "Retrying", "rule": "attempts left"},
    ),
    "its time is that of the log": Told(
        (PLAN, opened(A1), failed(A1, wait=49_500)),
        channel={"nextAttempt": "2027-01-15T08:00:00.500Z"},
    ),
    "a wait that is over names no time": Told(
        (PLAN, opened(A1), failed(A1, wait=49_000)), silent=("next attempt at",),
        next={"decision": "Deliver", "at": None},
    ),
    "a failure for good": Told(
        REFUSED, ("NEXT    nothing: every channel is finished; the status does not show this yet",),
        next={"reason": "every channel is finished"}, channel={"rule": "permanent failure recorded"},
    ),
    "it has failed": Told((PLAN,), (AGAIN,), found=request(phase="Failed")),
    "it was sent in part": Told((PLAN,), (AGAIN,), found=request(phase="PartiallySent")),
    "it was sent": Told((PLAN,), ("NEXT    nothing: it has ended\n",), found=request(phase="Sent")),
    "it has failed, and an operator saw it arrive": Told(
        (PLAN, opened(A1), resolved(delivered=True)), ("NEXT    nothing: it has ended\n",),
        found=request(phase="Failed"),
    ),
    "no attempt is left": Told(
        (PLAN, opened(A1), failed(A1), opened(A2), failed(A2)), channel={"rule": "attempts used up"}
    ),
    "its author holds it": Told(
        (PLAN,), (f"NEXT    nothing: {C} is due and held: the annotation",),
        found=request(hold="change 42"),
    ),
    "all are paused": Told(
        (PLAN,), ("is due and held: delivery is paused for all (delivery.paused)",),
        rules=Rules(DeliveryRules(paused=True)),
    ),
    "it is too old": Told(
        (PLAN,), (f"NEXT    {C} is given up: not sent: older than delivery.maxAge (1m0s)",),
        rules=Rules(DeliveryRules(max_age=60)),
    ),
    "an operator holds it": Told(
        (PLAN,),
        (f"NEXT    nothing: {C} is due and held until 2027-01-15T08:01:00Z by alice@desk",
         "they mend it (syncer hold end 00000001)"),
        next={
            "decision": "Withhold", "reason": WHY, "channels": [C],
            "at": "2027-01-15T08:01:00.000Z", "blocked": None, "held": {C: WHY},
        },
        rules=Rules(holds=(HELD,)),
    ),
    "a hold that is over": Told(
        (PLAN,), (f"NEXT    an attempt is due now on {C}",),
        rules=Rules(holds=(replace(HELD, until=NOW),)),
    ),
    "holds that are not known": Told(
        (PLAN,), ("! operators' holds are not known: the right is missing",),
        rules=Rules(holds_problem="the right is missing"),
    ),
    "a breaker was open": Told(
        (PLAN, skip_record("skip:1", C, at=NOW, why="slack circuit breaker is open")),
        (f"NEXT    an attempt is due now on {C}; {C} was last not tried: slack circuit breaker is open\n",
         "last due attempt was not made: slack circuit breaker is open"),
        channel={"skipped": "slack circuit breaker is open"},
    ),
    "what is ordered is due after the end": Told(
        (*REFUSED, ORDER),
        ("\n  one more attempt requested by me\n",
         "resend requested by me: slack:ops: hook is back"),
        next={"decision": "Deliver"}, channel={"ordered": "order:slack:2"}, found=ENDED,
    ),
    "what is ordered waits for no back-off": Told((*LATER, ORDER), next={"decision": "Deliver"}),
    "an order that was carried out": Told(
        (*REFUSED, ORDER, opened(A2, order=ORDER.id)), ("  resend by me",), ("order:slack:2",),
        next={"decision": "Finish"}, found=ENDED,
    ),
    "nothing is ordered": Told(
        (PLAN, opened(A1), failed(A1)), ("it was due",), ("one more attempt requested", "restored")
    ),
    "an attempt was made by an order": Told(
        (PLAN, opened(A1, order="resend:1"), failed(A1)), ("resend:1",), ("it was due",)
    ),
    "nobody recorded the begin of an attempt": Told(
        (PLAN, failed(A1)), ("restored",), ("it was due",)
    ),
    "there is no plan": Told(
        (), ("NEXT    its channels are resolved: no plan on record",), ("ROUTED",)
    ),
    "nothing was tried": Told(
        (PLAN,), (f"NEXT    an attempt is due now on {C}\n", "\n  no attempt yet")
    ),
    "a failed one was delivered since": Told(
        (*REFUSED, ORDER, opened(A2, order=ORDER.id), SUCCESS_2),
        ("PHASE   Failed  R  all failed\n        Failed, as it was published at 07:59:30 UTC, and that",
         f"stays; delivered since then: {C}\n"),
        found=replace(ENDED, status=replace(
            ENDED.status, completed_at=NOW - 30_000, reason="R", message="all failed")),
    ),
    "a partial one has what was delivered before": Told(
        (PLAN, opened(A1), SUCCESS), silent=("as it was published",),
        found=request(entry("success"), phase="PartiallySent", completionTime="2027-01-15T08:00:00Z"),
    ),
    "a hold that was let go": Told(
        (PLAN, skip_record("s1", C, at=NOW - 40_000, why=WHY), opened(A1, at=NOW - 20_000), failed(A1)),
        ("\n  held 2027-01-15T07:59:20Z to 2027-01-15T07:59:40Z by alice@desk: they mend it\n",),
        ("last due attempt",),
        channel={"held": [{
            "from": "2027-01-15T07:59:20.000Z", "to": "2027-01-15T07:59:40.000Z",
            "what": "held 2027-01-15T07:59:20Z to 2027-01-15T07:59:40Z by alice@desk: they mend it",
        }]},
    ),
    "a hold that somebody else has ended": Told(
        (PLAN, skip_record("s1", C, at=NOW - 40_000, why=WHY), opened(A1, at=NOW - 20_000), failed(A1)),
        ("to 2027-01-15T07:59:40Z by alice@desk: they mend it, ended by maria\n",),
        rules=Rules(holds=(replace(HELD, until=NOW - 20_000, ended_by="maria"),)),
    ),
    "a hold that ended before anybody looked again": Told(
        (PLAN, skip_record("s1", C, at=NOW, why=WHY), opened(A1, at=NOW + 99_000)),
        ("\n  held 2027-01-15T08:00:00Z to 2027-01-15T08:01:00Z by alice@desk: they mend it\n",),
    ),
    "one hold after another, the second of which stands": Told(
        (PLAN, skip_record("s1", C, at=NOW - 9_000, why="held: the annotation x says: until Monday"),
         skip_record("s2", "file", at=NOW - 8_000, why="slack circuit breaker is open"),
         skip_record("s3", C, at=NOW - 7_000, why=WHY)),
        ("\n  held 2027-01-15T07:59:51Z to 2027-01-15T07:59:53Z: the annotation x says: until Monday\n",
         "\n  held since 2027-01-15T07:59:53Z by alice@desk: they mend it\n"),
        ("last due attempt",),
    ),
    "an attempt is under way": Told(
        (PLAN, opened(A1)),
        ("NEXT    the result of what is being sent: attempts under way", "  under way  "),
    ),
    "a long error is cut in the table": Told(
        (PLAN, opened(A1), attempt_record(LONG)), (" " + "x" * 99 + "…",)
    ),
    "a repair": Told(
        (PLAN, repair_record("repair:1", at=NOW, by="me", what="log-behind", did="append")),
        ("\n\n! 2027-01-15T08:00:00.000Z repaired by me: log-behind: append",),
        notes=["2027-01-15T08:00:00.000Z repaired by me: log-behind: append"],
    ),
    "a repair that says nothing of itself": Told(
        (PLAN, Record(Kind.REPAIR, "repair:1", "-", {})), notes=[" repaired by ?: : "]
    ),
    "an operator saw it arrive": Told(
        (PLAN, opened(A1), attempt_record(UNKNOWN), resolved(delivered=True)),
        notes=["2027-01-15T08:00:00.000Z resolved as delivered by me: slack:ops: looked"],
    ),
    "an operator saw it fail": Told(
        (PLAN, opened(A1), attempt_record(UNKNOWN), resolved(delivered=False)),
        notes=["2027-01-15T08:00:00.000Z resolved as failed by me: slack:ops: looked"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
def test_told(case: str) -> None:
    """What comes next and why, what was done and by whom: in words, and as members of a document."""
    told = TOLD[case]
    document, text = explained(*told.records, rules=told.rules, found=told.found)
    assert [part for part in told.says if part not in text] == []
    assert [part for part in told.silent if part in text] == []
    assert told.next.items() <= document["next"].items()
    assert not told.channel or told.channel.items() <= document["channels"][0].items()
    assert told.notes is None or document["notes"] == told.notes


def test_members_of_fallbacks_orders_and_errors() -> None:
    """What a plan says of a fallback, which order an attempt is by, and the whole of a long error."""
    found, _ = explained(STOOD_BY, opened(A1), SUCCESS)
    assert found["plan"]["fallbacks"] == [{"channel": "file", "of": [C], "afterSeconds": 90.0}]
    assert found["channels"][1]["state"] == "NotNeeded"
    assert found["summary"].endswith("No fallback to file was needed.")
    found, _ = explained(*REFUSED, ORDER, opened(A2, order=ORDER.id), found=ENDED)
    assert [a["order"] for a in found["channels"][0]["attempts"]] == [None, "order:slack:2"]
    found, _ = explained(PLAN, opened(A1), attempt_record(LONG))
    assert found["channels"][0]["attempts"][0]["error"] == "x" * 101


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


NOBODY = "no replica owns its shard (3): no controller runs, or none that can serve"
QUARANTINE: dict[str, Any] = {
    "type": "Quarantined", "status": "True", "reason": "R", "message": "record 2",
}  # fmt: skip
DELETING: Final = "it is being deleted, which cancels delivery"
QUARANTINED: Final = "the controller holds it: record 2"
ILLEGIBLE: Final = "its log cannot be read: record 2: prefix is malformed"
UNWATCHED: Final = "its namespace is not among those that the controller watches"
#: What stands in the way: log, object, who works on it; what is said to come next where the rule does not
#: say it, and further remarks.
BLOCKED: dict[
    str, tuple[tuple[bytes, ...], NotificationRequest, Owner, str, tuple[str, ...]]
] = {
    "a log that cannot be read": (
        (*elements(PLAN), b"intent 0.7-1 x"), request(), Owner(), ILLEGIBLE, (),
    ),
    "a quarantine that was mended and not looked at": (
        elements(PLAN), request(conditions=[QUARANTINE]), Owner(), QUARANTINED, (),
    ),
    "a quarantine that is over": (
        elements(PLAN), request(conditions=[QUARANTINE | {"status": "False"}]), Owner(), "", (),
    ),
    "a namespace that nobody watches": (
        elements(PLAN), request(), Owner(watched=False), UNWATCHED, (),
    ),
    "a shard without an owner": (
        elements(PLAN, opened(A1), failed(A1)), request(), Owner(watched=True, shard=3, holder=""),
        NOBODY, (),
    ),
    "an owner that opens no attempt": (
        elements(PLAN), request(), Owner(watched=True, shard=3, holder="pod-1", idle="Redis answers OOM"),
        "its owner pod-1 opens no attempt: Redis answers OOM", (),
    ),
    "no controller at all": (
        (), request(phase=""), Owner(missing="no controller has"), "no controller has",
        ("it has no log yet: no replica has claimed it",),
    ),
    "an owner that is not known": (
        elements(PLAN), request(), Owner(unread=("its owner is not known: Forbidden",)), "",
        ("its owner is not known: Forbidden",),
    ),
    "what has ended needs no owner": (
        elements(PLAN), ENDED, Owner(watched=False, shard=3, holder=""), "", (UNWATCHED,),
    ),
    "a deletion": (elements(PLAN), replace(request(), deleting=True), Owner(), DELETING, ()),
    "a log that is gone": ((), ENDED, Owner(), "", ("it has no log any more",)),
    "a log that was never seen, of what was sent": (
        (), request(phase="Sent"), Owner(), "", ("it has no log any more",),
    ),
    "a status that another client wrote": (
        elements(PLAN), request(entry("failed", identity="7.1-1")), Owner(),
        "its status names the epoch 7.1, which its log (0.7) does not contain: another client wrote it", (),
    ),
    "a status of the log's own epoch": (elements(PLAN), request(entry("failed")), Owner(), "", ()),
}  # fmt: skip


@pytest.mark.parametrize("case", BLOCKED)
def test_what_stands_in_the_way(case: str) -> None:
    """What the rule would do next is not promised where something keeps anybody from doing it."""
    log, found, owner, why, notes = BLOCKED[case]
    answer = explain(found, read_log(log), Rules(), now=NOW, owner=owner)
    assert (answer.blocked, answer.notes) == (why, ((why,) if why else ()) + notes)
    if why:
        (headline,) = [line for line in as_text(answer) if line.startswith("NEXT")]
        assert headline.startswith("NEXT    nothing: ")
        assert headline.endswith(why)
        shown = as_json(answer)["next"]
        assert (shown["decision"], shown["blocked"]) == ("Withhold", why)


def test_who_works_on_it_is_a_member() -> None:
    """What was not found out is null."""
    for owner, shown in (
        (Owner(), {"shard": None, "holder": None}),
        (Owner(watched=True, shard=0, holder="pod-1"), {"shard": 0, "holder": "pod-1"}),
    ):
        answer = explain(request(), read_log(elements(PLAN)), Rules(), now=NOW, owner=owner)
        document = as_json(answer)
        assert (document["watched"], document["owner"]) == (owner.watched, shown)


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
        "ordered": None, "held": [], "attempts": [],
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


def _said(
    attempt: AttemptId, state: AttemptState, at: int = NOW - 9_000, *, seed: bool = False
) -> Record:
    """What became of an attempt, as its sender or, with `seed`, only the status has it."""
    failure = None if state is AttemptState.SUCCESS else FailureClass.UNCERTAIN
    return attempt_record(Attempt(attempt, C, state, ended=at, failure=failure), seed=seed)


def _ended(attempt: AttemptId, error: str) -> Record:
    """The end of an attempt that only ends its channel."""
    failure = FailureClass.PERMANENT
    return attempt_record(Attempt(attempt, C, AttemptState.FAILED, failure=failure, error=error))


OBSERVED: Final = "not observed by the sender"
SEEN: Final = resolution_record(UNKNOWN, delivered=True, at=NOW - 9_000, by="sam", why="seen")
DROPPED: Final = _ended(A2, "permanent failure: dropped with hold h-1 of sam: old alerts")
AWAY: Final = Owner(watched=True, shard=3, holder="")
UNSURE: Final = "with an unknown result: it may have arrived"
#: The records behind the plan, the first sentence, and what else is known.
SENTENCES: Final[dict[str, tuple[tuple[Record, ...], str, dict[str, Any]]]] = {
    "nothing yet": ((), f"Not yet delivered to {C}.", {}),
    "a failure": (
        (opened(A1), failed(A1)), f"Not yet delivered to {C} after one failure: slack said no.", {},
    ),
    "success after it": (
        (opened(A1), failed(A1), opened(A2), _said(A2, AttemptState.SUCCESS)),
        f"Delivered to {C} at 07:59:51 UTC after one failure.", {},
    ),
    "an unknown one, which the next process has settled hours later": (
        (opened(A1), _said(A1, AttemptState.UNKNOWN, NOW)),
        f"Not yet delivered to {C}; sent at 07:59:10 UTC, {UNSURE}.", {},
    ),
    "perhaps before as well": (
        (opened(A1), _said(A1, AttemptState.UNKNOWN, NOW - 12_000), opened(A2),
         _said(A2, AttemptState.SUCCESS)),
        f"Delivered to {C} at 07:59:51 UTC; also sent at 07:59:10 UTC, {UNSURE} twice.", {},
    ),
    "only its end is known": (
        (_said(A1, AttemptState.UNKNOWN, seed=True),),
        f"Not yet delivered to {C}; sent before 07:59:51 UTC, {UNSURE}.", {},
    ),
    "its end and its length are": (
        (attempt_record(replace(UNKNOWN, ended=NOW, duration=4_000), seed=True),),
        f"Not yet delivered to {C}; sent at 07:59:56 UTC, {UNSURE}.", {},
    ),
    "under way": (
        (opened(A1),), f"Not yet delivered to {C}; being sent since 07:59:10 UTC.",
        {"owner": replace(AWAY, holder="pod-1")},
    ),
    "under way for longer than any call may take": (
        (opened(A1, at=NOW - 300_001),),
        f"Not yet delivered to {C}; on its way since 07:54:59 UTC, and may have arrived.", {},
    ),
    "cut off, and nobody has its shard": (
        (opened(A1),), f"Not yet delivered to {C}; on its way since 07:59:10 UTC, and may have arrived.",
        {"owner": AWAY},
    ),
    "cut off, and another has its log": (
        (opened(AttemptId("0.6-1")),),
        f"Not yet delivered to {C}; on its way since 07:59:10 UTC, and may have arrived.", {},
    ),
    "by a person's word": (
        (opened(A1), _said(A1, AttemptState.UNKNOWN), SEEN),
        f"Delivered to {C} at 07:59:10 UTC (resolved by sam: {OBSERVED}).", {},
    ),
    "by a person's word, and observed later": (
        (opened(A1), _said(A1, AttemptState.UNKNOWN), opened(A2), _said(A2, AttemptState.SUCCESS), SEEN),
        f"Delivered twice to {C}: at 07:59:10 UTC (resolved by sam: {OBSERVED}) and at 07:59:51 UTC.", {},
    ),
    "more often": (
        tuple(_said(AttemptId(f"0.7-{n}"), AttemptState.SUCCESS, NOW + n * 1000) for n in (1, 2, 3)),
        f"Delivered three times to {C}: at 08:00:01 UTC and at 08:00:02 UTC and at 08:00:03 UTC.", {},
    ),
    "restored": (
        (_said(A1, AttemptState.SUCCESS, seed=True),),
        f"Delivered to {C} at 07:59:51 UTC (restored from the status: {OBSERVED}).", {},
    ),
    "adopted": (
        (_said(AttemptId("0-0"), AttemptState.SUCCESS, seed=True),),
        f"Delivered to {C} at 07:59:51 UTC (adopted from the controller before: {OBSERVED}).", {},
    ),
    "dropped": (
        (opened(A2), DROPPED), f"Not sent to {C}: dropped with hold h-1 of sam: old alerts.", {},
    ),
    "dropped after an attempt": (
        (opened(A1), failed(A1), opened(A2), DROPPED),
        f"Not delivered to {C} after one failure: dropped with hold h-1 of sam: old alerts.", {},
    ),
    "too old": (
        (opened(A1), _ended(A1, "permanent failure: not sent: older than delivery.maxAge (1m0s)")),
        f"Not sent to {C}: older than delivery.maxAge (1m0s).", {},
    ),
    "refused in such words": (
        (opened(A1), _ended(A1, "permanent failure: slack said: dropped with hold")),
        f"Not delivered to {C} after one failure: permanent failure: slack said: dropped with hold.", {},
    ),
    "held": ((), f"Not yet delivered to {C}; {WHY}.", {"rules": Rules(holds=(HELD,))}),
    "held, and nobody works on it": (
        (), f"Not yet delivered to {C}; {WHY}.", {"rules": Rules(holds=(HELD,)), "owner": AWAY},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SENTENCES)
def test_the_first_sentence(case: str) -> None:
    """What became of it, when, what may have arrived besides, and on whose word that stands."""
    records, wanted, more = SENTENCES[case]
    answer = explain(
        request(), read_log(elements(PLAN, *records)), more.get("rules", Rules()), now=NOW,
        owner=more.get("owner", Owner()),
    )  # fmt: skip
    first, *rest = as_text(answer)
    assert first == wanted
    if OBSERVED in wanted:
        assert (
            wanted.partition("(")[2].partition(":")[0] in "\n".join(rest).partition("attempt  ")[2]
        )
    if "dropped with hold h-1" in wanted:
        assert " not sent it was due dropped with hold h-1 of sam: old alerts" in " ".join(
            rest[-1].split()
        )


KEPT: Final = "The object was deleted; its log is kept"
#: The records behind the plan of one that was deleted, seconds until its log expires, first sentence.
DELETED: Final = {
    "delivered": (
        (opened(A1), SUCCESS), 60,
        f"Delivered to {C} at 08:00:00 UTC. {KEPT} until 08:01:00 UTC.",
    ),
    "failed, with attempts left": (
        (opened(A1), failed(A1)), 86_400,
        f"Not delivered to {C} after one failure: slack said no. {KEPT} until 2027-01-16 08:00:00 UTC.",
    ),
    "cut off": (
        (opened(A1),), -1,
        f"Not delivered to {C}; on its way since 07:59:10 UTC, and may have arrived. {KEPT}.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DELETED)
def test_one_that_was_deleted(case: str) -> None:
    """What became of it, until when that can be asked, and its attempts; no state and nothing to come."""
    records, ttl, wanted = DELETED[case]
    log = read_log(elements(PLAN, *records, ORDER))
    found = of_deleted("ns/n", "u", log, now=NOW, ttl=ttl)
    text, document = as_text(found), as_json(found)
    assert text[:4] == [
        wanted, "ns/n  uid u", f"ROUTED  to {C} at 2027-01-15T07:59:00.000Z",
        "        RoutingRuleMatched: rule 1 matched",
    ]  # fmt: skip
    assert text[5] == f"CHANNEL {C}"
    assert text[-1] == "! 2027-01-15T08:00:00.000Z resend requested by me: slack:ops: hook is back"
    assert len(document["channels"][0]["attempts"]) == 1
    assert document["next"]["reason"] == "the object was deleted"
    assert (document["deleted"], document["channels"][0]["nextAttempt"]) == (True, None)
    assert (document["logKeptUntil"] is None) == (ttl < 0)


def test_words_that_only_their_developers_understand_are_translated() -> None:
    """The record keeps them."""
    assert (
        translated("permanent failure: it said 400 (permanent failure)")
        == "failed for good: it said 400"
    )
    assert "switched off" in translated("channel x: DD-NOT-007: use RegisterChannel() first")
    assert translated("timeout") == "timeout"
