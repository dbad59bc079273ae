"""What `syncer explain` answers: what comes next, why nothing does, and what is not known."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.cli.explanation import Rules, as_json, as_text, explain
from syncer.cli.owner import Owner
from syncer.ledger.reading import read_log
from syncer.model.record import (
    Record,
    resend_record,
    skip_record,
)
from syncer.model.resource import NotificationRequest
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


def test_explains_a_wait() -> None:
    """The next attempt has a time, which is that of the log, and a reason."""
    found, text = explained(PLAN, opened(A1), failed(A1, wait=60_000))
    assert found["next"] == {
        "decision": "WaitUntil", "reason": "next attempt not due yet", "channels": [],
        "at": "2027-01-15T08:00:11.000Z", "blocked": None,
    }  # fmt: skip
    assert "NEXT    an attempt at 2027-01-15T08:00:11.000Z (in 11s)" in text
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
    assert "\n  next attempt at 2027-01-15T08:00:11.000Z (in 11s)\n" in text


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


def test_explains_an_order() -> None:
    """An ordered channel is due now, by name of the order; the attempt that follows bears it."""
    order = resend_record("order:slack:2", C, at=NOW, by="me", why="hook is back")
    ended = request(entry("failed"), phase="Failed")
    found, text = explained(PLAN, opened(A1), failed(A1, wait=0), order, found=ended)
    assert found["next"]["decision"] == "Deliver"
    assert found["channels"][0]["ordered"] == "order:slack:2"
    assert "ordered by me: slack:ops: hook is back" in text
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
    assert answer.notes[0].startswith("its log cannot be read, so nothing is sent: record 2")
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
    (note,) = [n for n in answer.notes if "does not believe" in n]
    assert "names the epoch 7.1, which its log does not know" in note
    answer = explain(request(entry("failed")), read_log(elements(PLAN)), Rules(), now=NOW)
    assert not [n for n in answer.notes if "does not believe" in n]


def test_an_explanation_as_json() -> None:
    """Every member says what the log and the object hold; what is not there is null."""
    first = elements(PLAN, opened(A1), failed(A1))
    log = read_log((*first, *elements(PLAN, opened(A1), failed(A1), opened(A2))[4:]))
    document = as_json(explain(request(), read_log(first), Rules(), now=NOW - 40_000))
    assert document["next"] == {
        "decision": "WaitUntil", "reason": "next attempt not due yet", "channels": [],
        "at": "2027-01-15T07:59:41.000Z", "blocked": None,
    }  # fmt: skip
    assert document["plan"] == {
        "channels": [C], "rule": "RoutingRuleMatched", "message": "rule 1 matched",
        "at": "2027-01-15T07:59:00.000Z",
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
            "code": 503, "error": "slack said no", "order": None,
        }
    ]  # fmt: skip
    (channel,) = as_json(explain(request(), log, Rules(), now=NOW))["channels"]
    assert (channel["nextAttempt"], channel["state"]) == (None, "Sending")
    assert channel["attempts"][1] == {
        "id": A2, "state": "intent", "class": None, "opened": "2027-01-15T07:59:10.000Z",
        "ended": None, "code": None, "error": None, "order": None,
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
