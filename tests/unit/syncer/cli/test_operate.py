"""The pure parts of the operators' command: judging, explaining, refusing, reading exports, words."""

from __future__ import annotations

import argparse
import base64
import io
import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from notifier.cli import main as notifier_main
from syncer.cli import main as cli
from syncer.cli import transfer
from syncer.cli.access import Access
from syncer.cli.advice import ADVICE
from syncer.cli.arguments import CLASSES
from syncer.cli.completion import SHELLS, candidates, script
from syncer.cli.exits import BadExport, Refused
from syncer.cli.explanation import Rules, as_json, as_text, explain
from syncer.cli.export_format import Counts, lines_of, read_export
from syncer.cli.inspection import Inspection
from syncer.cli.inspection import as_json as inspection_json
from syncer.cli.inspection import as_text as inspection_text
from syncer.cli.manual_records import parse_reason, resend_requests, resolutions
from syncer.cli.namespaces import namespaces_of
from syncer.cli.output import Columns, Progress, age, table, write_json, write_lines, write_remark
from syncer.cli.owner import Owner, holder_of
from syncer.cli.repairs import Allowed, plan_repair
from syncer.cli.scan import Joined, read_logs
from syncer.cli.times import seconds_of
from syncer.configfile import build
from syncer.ledger.codec import encode_element, stored
from syncer.ledger.log import StoredLog
from syncer.ledger.reading import Line, read_log
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, FailureClass
from syncer.model.errors import ConfigError, Rejected, Unauthorised
from syncer.model.record import (
    Header,
    Plan,
    Record,
    attempt_record,
    intent_record,
    order_record,
    plan_record,
    skip_record,
)
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules.divergence import VERIFIED, Divergence, Remedy
from syncer.rules.fold import ROOT_CHAIN
from syncer.rules.text import plain
from syncer.rules.verification import Bounds
from syncer.settings import SyncerSettings

NOW = 1_800_000_000_000
C = "slack:ops"
A1, A2 = AttemptId("0.7-1"), AttemptId("0.7-2")
PLAN = plan_record(Plan((C,), "RoutingRuleMatched", "rule 1 matched", at=NOW - 60_000))
BOUNDS = Bounds(NOW, latest=Epoch("0.1000"))


def elements(*records: Record, header: Header | None = None) -> tuple[bytes, ...]:
    """A log as stored."""
    out, chain = [(header or Header("ns/n", Epoch("0.7"))).encode()], ROOT_CHAIN
    for position, record in enumerate(records, 1):
        out.append(encode_element(record, chain))
        chain = stored(record, chain, position).chain
    return tuple(out)


def opened(attempt: AttemptId, *, at: int = NOW - 50_000, order: str = "") -> Record:
    """An intent."""
    return intent_record(attempt, C, at=at, by="p", order=order)


def failed(attempt: AttemptId, *, wait: int = 30_000, at: int = NOW - 49_000) -> Record:
    """A failure that may be retried after a wait."""
    return attempt_record(
        Attempt(
            attempt, C, AttemptState.FAILED, ended=at, due=at + wait if wait else 0,
            failure=FailureClass.TRANSIENT if wait else FailureClass.PERMANENT,
            error="slack said no", code=503,
        )
    )  # fmt: skip


def entry(state: str, number: int = 1, identity: str = A1) -> dict[str, Any]:
    """One attempt of a status."""
    return {
        "id": identity, "channel": C, "attempt": number, "status": state,
        "timestamp": "2027-01-15T07:59:11.000Z",
    }  # fmt: skip


def request(
    *attempts: dict[str, Any], phase: str = "Sending", hold: str | None = None, **status: Any
) -> NotificationRequest:
    """An object with a status."""
    return parse_object(
        {
            "metadata": {
                "uid": "u", "namespace": "ns", "name": "n", "resourceVersion": "9",
                "generation": 1, "creationTimestamp": "2027-01-15T07:00:00Z",
                "annotations": {"notification-ledger/hold": hold} if hold is not None else {},
            },
            "spec": {"type": "Simple", "retryPolicy": {"maxAttempts": 2}},
            "status": {
                "phase": phase, "deliveryAttempts": list(attempts),
                "log": {"position": 1, "epoch": "0.7", "store": "s"}, **status,
            },
        }
    )  # fmt: skip


# -- judging --------------------------------------------------------------------------------------


def classes(pair: Joined, bounds: Bounds = BOUNDS) -> list[str]:
    """Classes of a pair, in order."""
    return [f.kind.value for f in pair.check(bounds)]


def pair(found: NotificationRequest | None, log: tuple[bytes, ...] = (), **more: Any) -> Joined:
    """A pair."""
    return Joined("u", "ns/n", found, log, **{"ttl": -1 if log else -2, **more})


def test_what_is_on_its_way_is_no_divergence() -> None:
    """A record younger than the time to settle says nothing; older, it is behind."""
    log = elements(PLAN, opened(A1), failed(A1))
    assert classes(pair(request(), log), replace(BOUNDS, now=NOW - 49_000 + 10_000)) == []
    assert classes(pair(request(), log), BOUNDS) == ["status-behind"]


def test_open_attempt_is_somebodys_for_a_while() -> None:
    """An attempt on the wire is nothing odd until its time is over."""
    log = elements(PLAN, opened(A1))
    shown = request(channels=[{"name": C, "state": "Pending"}])
    assert classes(pair(shown, log), replace(BOUNDS, stuck=50_000)) == []
    assert classes(pair(shown, log), replace(BOUNDS, stuck=49_999)) == ["open-attempt"]


def test_what_a_status_counts_alone_is_published() -> None:
    """Failures folded away are shown by their number: only what is beyond the mark is behind."""
    log = elements(
        PLAN, opened(A1), failed(A1), opened(A2), failed(A2),
        header=Header("ns/n", Epoch("0.7"), acked=3, audited=3),
    )  # fmt: skip
    folded = {"through": 1, "channels": [{"name": C, "failed": 1, "lastId": A1, "number": 1}]}
    assert classes(pair(request(rollup=folded), log)) == ["status-behind"]
    assert classes(pair(request(), log)) == ["acked"]


def test_log_of_a_finished_object_may_be_gone_after_its_time() -> None:
    """Within the retention a missing log is missed, after it has expired."""
    ended = {"completionTime": "2027-01-15T08:00:00Z"}
    sent = request(entry("success"), phase="Sent", **ended)
    assert classes(pair(sent)) == ["log-missing"]
    week = 7 * 86_400_000
    assert classes(pair(sent), replace(BOUNDS, now=NOW + week)) == []


def test_objects_of_the_replaced_controller_need_no_log() -> None:
    """What another controller finished is left alone; an object without attempts has nothing to lose."""
    old = entry("success")
    del old["id"]
    assert classes(pair(request(old, phase="Sent", log=None))) == []
    assert classes(pair(request())) == []


def test_orphan_is_one_that_nobody_lets_go() -> None:
    """A log without an object is odd only while it has no expiry."""
    log = elements(PLAN)
    assert classes(pair(None, log)) == ["orphan"]
    assert classes(pair(None, log, ttl=60)) == []


def test_object_that_does_not_parse() -> None:
    """An object that cannot be judged is told as such, and nothing is said of its log."""
    assert classes(pair(None, elements(PLAN), problem="the object does not parse")) == ["object"]


def test_every_class_has_advice() -> None:
    """Whatever verify names, it says what to do; and the parser knows every class."""
    assert set(ADVICE) == set(VERIFIED)
    assert set(CLASSES) == {kind.value for kind in VERIFIED}
    assert Divergence.CONFLICT.remedy is Remedy.PERSON


def test_verdict_overtaken_by_a_result_is_no_conflict() -> None:
    """An operator who said failed and was wrong has broken no rule."""
    said = Record(
        plan_record(Plan(())).kind.RESOLVE_FAILED, f"resolve:{A1}:1", C, {"at": NOW - 40_000}
    )
    success = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW - 30_000))
    assert "conflict" not in classes(pair(request(), elements(PLAN, opened(A1), said, success)))
    both = elements(PLAN, opened(A1), failed(A1), success)
    assert "conflict" in classes(pair(request(), both))


# -- planning a repair -----------------------------------------------------------------------------


def steps(spoilt: Joined, **allowed: bool) -> list[tuple[str, str]]:
    """What would be done, and the first words of it."""
    planned = plan_repair(
        spoilt, spoilt.check(BOUNDS), allowed=Allowed(**allowed), now=NOW, by="me"
    )
    return [(s.act.value, s.text.partition(":")[0]) for s in planned]


def test_facts_are_joined_although_a_log_is_not_replaced() -> None:
    """What may be mended is, beside what would need leave; behind damage nothing is appended."""
    beyond = elements(PLAN, header=Header("ns/n", Epoch("0.7"), acked=9))
    shown = pair(request(entry("failed")), beyond)
    assert classes(shown) == ["mark-beyond", "log-behind"]
    assert steps(shown) == [
        ("nothing", "would need --rebuild"), ("append", f"append seed.failed {A1}"),
        ("poke", "tell the owner"),
    ]  # fmt: skip
    assert steps(shown, rebuild=True) == [
        ("rebuild", "keep the log aside and put in its place one that is built anew"),
        ("poke", "have the owner look at it"),
    ]  # fmt: skip
    damaged = (*beyond, b"damage")
    assert steps(pair(request(entry("failed")), damaged), rebuild=True) == [
        ("nothing", "would need --accept-loss")
    ]


def test_rebuilt_log_holds_what_both_sides_know() -> None:
    """Of the old log what is legible, of the status what that lacks, the fence, and no mark."""
    broken = [*elements(PLAN, opened(A1), failed(A1), opened(A2)), b"damage"]
    broken[2] = broken[2][:-1] + b"\xff"
    spoilt = pair(request(entry("success", identity="0.7-9")), tuple(broken))
    planned = plan_repair(
        spoilt, spoilt.check(BOUNDS), allowed=Allowed(rebuild=True, accept_loss=True), now=NOW,
        by="me",
    )  # fmt: skip
    log = read_log(planned[0].elements)
    assert log.problem == ""
    assert log.header == Header("ns/n", Epoch("0.7"))
    assert [(r.kind.value, r.id) for r in log.records] == [
        ("plan", "plan"), ("seed.unknown", A1), ("failed", A1), ("intent", A2),
        ("seed.success", "0.7-9"), ("repair", f"repair:{NOW}"),
    ]  # fmt: skip
    assert log.view.attempts[A1].state is AttemptState.FAILED


# -- explaining -----------------------------------------------------------------------------------


def explained(
    *records: Record, rules: Rules | None = None, found: NotificationRequest | None = None
) -> tuple[dict[str, Any], str]:
    """An explanation, as JSON and as text."""
    log = read_log(elements(*records))
    told = explain(found or request(), log, rules or Rules(), now=NOW)
    return as_json(told), "\n".join(as_text(told))


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
    order = order_record("order:slack:2", C, at=NOW, by="me", why="hook is back")
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
    """What keeps the answer from being whole is said."""
    log = list(elements(PLAN, opened(A1)))
    log[-1] = log[-1][:-1] + b"\xff"
    told = explain(request(), read_log(log), Rules(known=False), now=NOW)
    assert told.notes[0].startswith("its log cannot be read, so nothing is sent: record 2")
    assert "without --config the defaults of `delivery` are assumed" in told.notes
    told = explain(request(), read_log([]), Rules(), now=NOW)
    assert told.notes[0] == "it has no log yet: nobody has claimed it"


NOBODY = "nobody owns its shard (3): no controller runs, or none that can serve"
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
    told = explain(found, read_log(log), Rules(), now=NOW, owner=owner)
    text = as_text(told)
    (headline,) = [line for line in text if line.startswith("NEXT")]
    assert headline.startswith("NEXT    nothing: ")
    assert why in headline
    assert as_json(told)["next"]["decision"] == "Withhold"
    assert why in as_json(told)["next"]["blocked"]


def test_explains_what_was_not_found_out() -> None:
    """Who works on it may not be known; that is said, and is no reason that nothing comes."""
    owner = Owner(None, unread=("who owns its shard is not known: Forbidden",))
    told = explain(request(), read_log(elements(PLAN)), Rules(), now=NOW, owner=owner)
    assert told.blocked == ""
    assert told.notes == owner.unread
    document = as_json(told)
    assert (document["watched"], document["owner"]) == (None, {"shard": None, "holder": None})


def test_finished_is_not_blocked() -> None:
    """What has ended needs nobody, so nobody is missed."""
    ended = request(entry("failed"), phase="Failed")
    owner = Owner(watched=False, shard=3, holder="")
    told = explain(ended, read_log(elements(PLAN)), Rules(), now=NOW, owner=owner)
    assert told.blocked == ""
    assert as_json(told)["next"]["decision"] == "Finish"


@pytest.mark.parametrize(
    ("renewed", "holder", "held"),
    [
        pytest.param("2027-01-15T08:00:00.000000Z", "a", "a", id="renewed"),
        pytest.param("2027-01-15T07:59:20.000000Z", "a", "", id="run out"),
        pytest.param("2027-01-15T08:00:00.000000Z", "", "", id="released"),
        pytest.param(None, "a", "", id="never renewed"),
    ],
)
def test_who_holds_a_lease(renewed: str | None, holder: str, held: str) -> None:
    """A Lease that has run out is nobody's, by a clock that may differ by its own duration."""
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed}
    assert holder_of(spec, now=NOW / 1000) == held


INSPECTED = read_log(
    elements(PLAN, opened(A1), attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW)))
)


def test_what_was_not_read_was_not_compared() -> None:
    """Of a log alone nothing is said of its publication, and nothing is called agreed."""
    lines = tuple(Line(r.position, r) for r in INSPECTED.records)
    alone = Inspection("u", "ns/n", None, "not asked", INSPECTED.header, lines, INSPECTED.view, -1)
    answer = inspection_text(alone, now=NOW)
    text = "\n".join(answer)
    assert "agree" not in text
    assert "not published yet" not in text
    assert "status not read" in text
    assert answer[-1] == "log and status were not compared: the status was not read"
    assert inspection_json(alone, now=NOW)["compared"] is False
    shown = request(entry("success"), phase="Sent")
    both = replace(alone, request=shown, object_problem="")
    assert inspection_text(both, now=NOW)[-1] == "log and status agree"
    assert inspection_json(both, now=NOW)["compared"] is True


def test_explains_a_status_that_is_not_believed() -> None:
    """An epoch that only the status names stops the object, and is named beside the log's own."""
    forged = request(entry("failed", identity="7.1-1"))
    told = explain(forged, read_log(elements(PLAN)), Rules(), now=NOW)
    (note,) = [n for n in told.notes if "does not believe" in n]
    assert "names the epoch 7.1, which its log does not know" in note
    told = explain(request(entry("failed")), read_log(elements(PLAN)), Rules(), now=NOW)
    assert not [n for n in told.notes if "does not believe" in n]


# -- orders and verdicts --------------------------------------------------------------------------


def order(*records: Record, found: NotificationRequest, **options: Any) -> list[str]:
    """Ids of the records of an order."""
    base: dict[str, Any] = {
        "channels": (), "at_most_once": False, "at": NOW, "by": "me", "reason": "w",
    }  # fmt: skip
    said = resend_requests(found, read_log(elements(*records)), **base | options)
    return [s.record.id for s in said]


ENDED = request(entry("failed"), phase="Failed")
SUCCESS = attempt_record(Attempt(A2, C, AttemptState.SUCCESS, ended=NOW))


def test_order_counts_what_was_tried() -> None:
    """The id of an order follows from the attempts made: the same wish twice is one order."""
    tried = (PLAN, opened(A1), failed(A1, wait=0))
    assert order(*tried, found=ENDED) == [f"order:{C}:2"]
    assert order(*tried, found=ENDED, channels=(C,)) == [f"order:{C}:2"]


@pytest.mark.parametrize(
    ("records", "options", "says"),
    [
        ((PLAN, opened(A1), failed(A1, wait=0)), {"channels": ("x",)}, "x is no channel of this"),
        ((PLAN, opened(A2), SUCCESS), {"channels": (C,)}, "nothing is sent after a recorded"),
        ((PLAN, opened(A2), SUCCESS), {}, "no channel has ended without a success"),
        ((PLAN, opened(A2)), {"channels": (C,)}, "is Sending: it is tried without being told"),
    ],
)
def test_order_that_makes_no_sense(
    records: tuple[Record, ...], options: dict[str, Any], says: str
) -> None:
    """An order is refused with the reason, before anything is written."""
    with pytest.raises(Refused, match=says):
        order(*records, found=ENDED, **options)


def test_order_of_a_channel_with_attempts_left() -> None:
    """What will be tried by itself need not be ordered, unless its object's phase is final."""
    tried = (PLAN, opened(A1), failed(A1))
    with pytest.raises(Refused, match="is Retrying: it is tried without being told"):
        order(*tried, found=request(), channels=(C,))
    assert order(*tried, found=ENDED, channels=(C,)) == [f"order:{C}:2"]


def test_order_without_a_log() -> None:
    """Without its log nobody can tell what was delivered, so nothing is sent again."""
    with pytest.raises(Refused, match="its log is gone"):
        resend_requests(
            ENDED, read_log([]), channels=(), at_most_once=False, at=NOW, by="me", reason="w"
        )  # fmt: skip


def verdict(*records: Record, **options: Any) -> list[str]:
    """Texts of verdicts."""
    base: dict[str, Any] = {
        "attempt": "", "channel": "", "delivered": True, "even_open": False, "at": NOW,
        "by": "me", "reason": "w",
    }  # fmt: skip
    return [s.text for s in resolutions(read_log(elements(*records)), **base | options)]


def unknown(attempt: AttemptId) -> Record:
    """An unknown result."""
    return attempt_record(
        Attempt(attempt, C, AttemptState.UNKNOWN, ended=NOW, failure=FailureClass.UNCERTAIN)
    )


def test_verdict_is_on_what_is_not_known() -> None:
    """By default every unknown result is meant; open attempts only if that is said."""
    log = (PLAN, opened(A1), unknown(A1), opened(A2))
    assert verdict(*log) == [f"attempt {A1} on {C}: unknown -> success"]
    assert verdict(*log, delivered=False, even_open=True) == [
        f"attempt {A1} on {C}: unknown -> failed", f"attempt {A2} on {C}: intent -> failed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("records", "options", "says"),
    [
        ((PLAN, opened(A1), failed(A1)), {}, "no attempt has an unknown result"),
        ((PLAN, opened(A1), unknown(A1)), {"attempt": "0.7-9"}, "knows no attempt 0.7-9"),
        ((PLAN, opened(A1), unknown(A1)), {"channel": "x"}, "no attempt has an unknown result"),
        ((PLAN, opened(A1)), {"attempt": A1}, "is open: its owner records"),
        ((PLAN, opened(A2), SUCCESS), {"attempt": A2, "delivered": False}, "which stands"),
        ((PLAN, opened(A1), failed(A1)), {"attempt": A1, "delivered": False}, "which stands"),
    ],
)
def test_verdict_that_makes_no_sense(
    records: tuple[Record, ...], options: dict[str, Any], says: str
) -> None:
    """A verdict never lowers what is known, and never guesses what is under way."""
    with pytest.raises(Refused, match=says):
        verdict(*records, **options)


def test_verdicts_that_contradict_each_other_have_ids_of_their_own() -> None:
    """Two who look at the same log and disagree do not take each other's word for their own."""
    log = read_log(elements(PLAN, opened(A1), unknown(A1)))
    ids = {
        said.record.id
        for delivered in (True, False)
        for said in resolutions(
            log, attempt=A1, channel="", delivered=delivered, even_open=False, at=NOW, by="me",
            reason="w",
        )
    }  # fmt: skip
    assert ids == {f"resolve:{A1}:success", f"resolve:{A1}:failed"}


def test_reason_is_required_and_bounded() -> None:
    """A reason is one line that says something."""
    assert parse_reason(" a\nb ") == "a b"
    for text in ("", "  ", "x" * 257):
        with pytest.raises(Refused, match="--reason"):
            parse_reason(text)


# -- exports --------------------------------------------------------------------------------------


def exported(*logs: tuple[bytes, ...]) -> list[str]:
    """The lines of a whole export."""
    out: list[dict[str, Any]] = [{"format": "notification-ledger-export/1"}]
    for n, log in enumerate(logs):
        out += lines_of(f"u{n}", log, -1)
    out.append({"end": True, "logs": len(logs), "records": sum(len(x) - 1 for x in logs)})
    return [json.dumps(line) for line in out]


LOG = elements(PLAN, opened(A1), failed(A1))


def test_export_reads_back_as_the_same_bytes() -> None:
    """What was written is read back byte by byte, a damaged log included."""
    damaged = (*LOG[:2], LOG[2][:-1] + b"\xff", LOG[3])
    first, second = read_export(exported(LOG, damaged))
    assert (first.elements, first.damaged) == (LOG, False)
    assert (second.elements, second.damaged) == (damaged, True)


def test_sound_record_in_raw_is_no_damage() -> None:
    """A record that another version wrote travels as bytes, and is as good as any."""
    lines = exported(LOG)
    line = json.loads(lines[3])
    raw = {"uid": line["uid"], "position": 2, "raw": base64.b64encode(LOG[2]).decode()}
    (log,) = read_export([*lines[:3], json.dumps(raw), *lines[4:]])
    assert (log.elements, log.damaged) == (LOG, False)


def test_attempt_that_cannot_be_read_is_damage() -> None:
    """What is stored well and says nothing that a fold could read ends the reading all the same."""
    bad = Record(PLAN.kind.INTENT, "seven", C, {"at": 1})
    log = read_log(elements(PLAN, bad, opened(A1)))
    assert (len(log.records), log.view.position) == (1, 1)
    assert log.problem.startswith("record 2: not an attempt id")


def without(lines: list[str], number: int) -> list[str]:
    """The lines but one."""
    return lines[: number - 1] + lines[number:]


def changed(lines: list[str], number: int, **members: Any) -> list[str]:
    """The lines with one changed."""
    line = json.loads(lines[number - 1]) | members
    return [*lines[: number - 1], json.dumps(line), *lines[number:]]


WHOLE = exported(LOG)
BAD = {
    "nothing at all": ([], "line 0: the last line is missing"),
    "something else": (['{"a": 1}'], "line 1: not an export of format"),
    "not JSON": ([WHOLE[0], "{"], "line 2: not JSON"),
    "nested too deeply": ([WHOLE[0], "[" * 100_000], "line 2: not JSON"),
    "not an object": ([WHOLE[0], "[]"], "line 2: not a JSON object"),
    "a file that was cut off": (WHOLE[:-1], "line 5: the last line is missing"),
    "a record is missing": (without(WHOLE, 4), "line 4: position 2 is missing"),
    "the last record is missing": (without(WHOLE, 5), "line 5: the log before has 2 record"),
    "a header is missing": (without(WHOLE, 2), "line 2: a record of no log"),
    "a record of another log": (changed(WHOLE, 3, uid="x"), "line 3: a record of no log"),
    "a word was changed": (changed(WHOLE, 4, id="0.7-9"), "line 4: the chain does not follow"),
    "a chain was changed": (changed(WHOLE, 4, chain="00000000"), "line 4: the chain does not"),
    "a body was changed": (changed(WHOLE, 4, body={"at": 1}), "line 4: the chain does not follow"),
    "an unknown kind": (changed(WHOLE, 4, kind="x"), "line 4: the record cannot be read"),
    "a body that is none": (changed(WHOLE, 4, body=[]), "line 4: the record cannot be read"),
    "a header that is none": (changed(WHOLE, 2, epoch="x"), "line 2: the header is none"),
    "a mark beyond all numbers": (changed(WHOLE, 2, acked=float("inf")), "line 2: the header is"),
    "a uid that is none": (changed(WHOLE, 2, log="a}b"), "line 2: the uid is none"),
    "the counts are others": (changed(WHOLE, 6, records=4), "line 6: 1 logs with 3 records"),
    "something follows": ([*WHOLE, "{}"], "line 7: something follows the last line"),
}


@pytest.mark.parametrize("bad", BAD)
def test_export_that_is_not_whole(bad: str) -> None:
    """An import refuses a file with a gap, a change or an end too soon, and names the line."""
    lines, says = BAD[bad]
    with pytest.raises(BadExport, match=says):
        list(read_export(lines))


# -- words ----------------------------------------------------------------------------------------

COMPLETED = {
    "the first letters of a command": (["ver"], ["verify"]),
    "any command": (
        [""],
        ["completion", "doctor", "explain", "export", "import", "inspect", "list", "repair",
         "resend", "resolve", "verify"],
    ),
    "an option of a command": (["resend", "ns/n", "--re"], ["--reason", "--redis-url", "--redis-url-file"]),
    "a value of an option": (["resolve", "ns/n", "--as", ""], ["delivered", "failed"]),
    "a phase": (["list", "--phase", "s"], ["sending", "sent"]),
    "a class of divergence": (["verify", "--class", "st"], ["status-behind", "status-differs"]),
    "a file is the shell's business": (["list", "--config", ""], []),
    "a switch takes no value": (["list", "--held", "--un"], ["--unknown", "--unsynced"]),
    "a shell": (["completion", ""], ["bash", "fish", "zsh"]),
    "an object is known to the cluster alone": (["inspect", "ns/"], []),
    "an option of the whole": (["--h"], ["--help"]),
    "nothing yet": ([], [
        "completion", "doctor", "explain", "export", "import", "inspect", "list", "repair",
        "resend", "resolve", "verify",
    ]),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPLETED)
def test_completion(case: str) -> None:
    """The parser itself says what a word may become."""
    words, wanted = COMPLETED[case]
    assert candidates(cli._parser(), words) == wanted


#: For each shell, how it is run without files of its own, and what has it complete its words, of which
#: the last is being written. Bash and zsh complete within their line editors alone, so what these would
#: call is called here.
LINES = {
    "bash": (
        ["bash", "--norc", "-c"],
        """COMP_WORDS=(syncer {words} more); COMP_CWORD={count}; _syncer
        printf '%s\\n' "${{COMPREPLY[@]}}" """,
    ),
    "zsh": (
        ["zsh", "-f", "-c"],
        """compadd() {{ print -rl -- "${{@[2,-1]}}" }}
        _files() {{ print a-file }}
        words=(syncer {words} more); CURRENT=$(({count} + 1)); $_comps[syncer]""",
    ),
    "fish": (["fish", "--no-config", "-c"], 'complete -C "syncer {typed}"'),
}
#: What a person's own files do before.
SET_UP = {"zsh": "autoload -U compinit && compinit -D -u\n"}


def completed(shell: str, tmp_path: Path, words: list[str], *found: str) -> list[str]:
    """What a shell makes of its words when the command finds this; the command is a stub."""
    summary = tmp_path / "syncer"
    said = "".join(f"{line}\\n" for line in found)
    summary.write_text(f'#!/bin/sh\nprintf "%s|" "$@" > "$0.args"\nprintf "{said}"\n')
    summary.chmod(0o755)
    nowhere = tmp_path / "no-files"
    nowhere.mkdir()
    command, line = LINES[shell]
    quoted = shlex.join(words)
    # An empty word is typed as nothing.
    line = line.format(words=quoted, count=len(words), typed=quoted.removesuffix("''"))
    answer = subprocess.run(
        [*command, f"{SET_UP.get(shell, '')}{script(shell)}\n{line}"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "dumb"},
        cwd=nowhere, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert answer.stderr == ""
    return answer.stdout.splitlines()


@pytest.mark.parametrize("words", [["-n", "a b", "ver"], ["verify", ""]], ids=["begun", "empty"])
@pytest.mark.parametrize("shell", SHELLS)
def test_shell_completes(shell: str, words: list[str], tmp_path: Path) -> None:
    """The script of each shell, run by that shell, asks the command with the words as they stand."""
    assert completed(shell, tmp_path, words, "verify", "version x") == ["verify", "version x"]
    said = (tmp_path / "syncer.args").read_text()
    assert said == "".join(f"{word}|" for word in ("complete", "--", *words))


def test_zsh_completes_files(tmp_path: Path) -> None:
    """Where the command knows no word, zsh is told to complete files; the others do so by themselves."""
    assert completed("zsh", tmp_path, ["x"]) == ["a-file"]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_ask_the_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every script is printed by the command, and does nothing but ask it."""
    assert cli.main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert printed == script(shell)
    assert "syncer complete -- " in printed


def test_complete_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """The hidden command prints candidates, one a line."""
    assert cli.main(["complete", "--", "list", "--phase", "f"]) == 0
    assert capsys.readouterr().out == "failed\n"


USAGE: dict[str, list[str]] = {
    "no command": [],
    "an unknown command": ["frobnicate"],
    "an unknown option": ["list", "--frob"],
    "a verdict without a reason": ["resolve", "ns/n", "--as", "failed"],
    "a verdict that is none": ["resolve", "ns/n", "--as", "perhaps", "--reason", "x"],
    "a class that is none": ["verify", "--class", "x"],
    "a negative limit": ["repair", "--limit", "-1"],
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage(case: str) -> None:
    """Wrong usage ends with code 2."""
    with pytest.raises(SystemExit) as ended:
        cli.main(USAGE[case])
    assert ended.value.code == 2


def test_nowhere_to_look(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without settings and URL the command says what it needs, with code 2."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert cli.main(["list"]) == 2
    assert (
        "say where to look: --config FILE, --redis-url URL or $REDIS_URL" in capsys.readouterr().err
    )


# -- showing --------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says that somebody watches."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_progress_is_for_terminals() -> None:
    """A terminal sees how far it is, and nothing of it in the end; a file holds nothing at all."""
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        with Progress("verified", total=4, stream=stream) as progress:
            for _ in range(3):
                progress.step()
        text = stream.getvalue()
        assert ("verified [######------------------] 1/4" in text) is shown
        assert text.endswith("\r") is shown


def test_an_answer_is_not_glued_to_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both go to one terminal the line is taken away before the answer, and comes back after."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("objects") as progress:
        progress.step()
        write_lines(["NAMESPACE  NAME"])
        write_json({"a": 1})
        write_remark("none")
    screen = terminal.getvalue()
    for line in ("NAMESPACE  NAME\n", '{"a": 1}\n', "syncer: none\n"):
        before = screen[: screen.index(line)]
        shown = before.rpartition("\n")[2].rpartition("\r")[2]
        assert shown == "", line
    assert "objects 1" in screen


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3d", 259_200.0), ("1d12h", 129_600.0), ("72h", 259_200.0), ("90", 90.0), ("0d", 0.0)],
)
def test_spans_of_time_may_be_days(text: str, seconds: float) -> None:
    """Ages are told in days, so they may be asked for in days."""
    assert seconds_of(text, "--older-than") == seconds


@pytest.mark.parametrize("text", ["d", "-3d", "3dd", "3 days", "99999d", ""])
def test_other_spans_are_refused_with_an_example(text: str) -> None:
    """What is no span of time is refused by the option's name."""
    with pytest.raises(ConfigError, match=r"--older-than: .*3d"):
        seconds_of(text, "--older-than")


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Both commands say their version, and the same."""
    assert notifier_main(["--version"]) == 0
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith("notification-ledger ")


def test_tables_are_plain() -> None:
    """Columns are aligned, and what would move a cursor is not shown as it is."""
    assert table([("A", "B"), ("long", "x\x1b[2Jy")]) == ["A     B", "long  x [2Jy"]
    assert plain("a\r\nb") == "a  b"
    columns = Columns(("A", "B"))
    assert columns.lines([("1", "2")]) == ["A  B", "1  2"]
    assert columns.lines([("long", "2")]) == ["long  2"]
    assert columns.lines([("1", "2")]) == ["1     2"]


@pytest.mark.parametrize(
    ("named", "config", "said", "home", "wanted"),
    [
        pytest.param(["x"], "f", ("a",), "h", ("x",), id="what is named wins"),
        pytest.param(None, None, ("a",), "h", (), id="without a settings file all"),
        pytest.param(None, "f", ("a", "b"), "h", ("a", "b"), id="what the controller watches"),
        pytest.param(None, "f", "*", "h", (), id="which may be all"),
        pytest.param(None, "f", (), "h", ("h",), id="and is its own by default"),
        pytest.param(None, "f", (), "", (), id="if that is known"),
    ],
)
async def test_namespaces_that_are_looked_at(
    named: list[str] | None, config: str | None, said: tuple[str, ...] | str, home: str,
    wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In a pod of the controller a command looks where its account may look."""
    monkeypatch.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", home)
    document = {"redis": {"url": "redis://h/0"}, "controller": {"namespaces": said}}
    settings = build(SyncerSettings, document)
    at = cast("Access", SimpleNamespace(settings=settings))
    options = argparse.Namespace(namespace=named, config=config)
    assert await namespaces_of(at, options) == wanted


async def test_logs_that_may_not_be_read_are_not_called_foreign() -> None:
    """A missing permission is an error of the command; only a key of another type is a finding."""

    class Log:
        def __init__(self, error: Rejected) -> None:
            self.error = error

        async def read_logs(self, uids: list[str]) -> list[StoredLog]:
            raise self.error

    for error in (Unauthorised("no"), Rejected("no", reason="WRONGTYPE")):
        at = cast("Access", SimpleNamespace(log=Log(error)))
        if isinstance(error, Unauthorised):
            with pytest.raises(Unauthorised):
                await read_logs(at, [("u", None), ("v", None)])
        else:
            found = await read_logs(at, [("u", None), ("v", None)])
            assert [p.wrong_type for p in found] == [True, True]


def test_answers_for_people_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """What a creator or another writer wrote neither begins a line nor commands the terminal."""
    hostile = "x\x1b[2J\x9b1m\nNEXT    nothing"
    plan = plan_record(Plan((C,), "RoutingRuleMatched", hostile, at=NOW - 60_000))
    skip = skip_record("skip:2:1", C, at=NOW, why=hostile)
    log = elements(plan, skip)
    request = parse_object(
        {
            "metadata": {"namespace": "ns", "name": "n", "uid": "u", "resourceVersion": "1"},
            "spec": {"type": "Simple"},
            "status": {"phase": "Sending", "message": hostile},
        }
    )
    read = read_log(log)
    lines = tuple(Line(r.position, r) for r in read.records)
    found = Inspection("u", "ns/n", request, "", read.header, lines, read.view, -1)
    inspected = inspection_text(found, now=NOW)
    explained = as_text(explain(request, read, Rules(), now=NOW))
    write_remark(hostile)
    for line in (*explained, *inspected, capsys.readouterr().err.rstrip("\n")):
        assert line.isprintable(), line
    assert any("x [2J 1m NEXT    nothing" in line for line in inspected)


@pytest.mark.parametrize(
    ("where", "why"),
    [("/nowhere/x", "No such file or directory"), ("/dev/full", "No space left on device")],
)
async def test_export_that_cannot_be_written(
    where: str, why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is not there, or a full disk, is said in a sentence, with code 2."""

    async def export(*given: Any) -> Counts:
        given[3].write("x" * 100_000)
        return Counts()

    monkeypatch.setattr(transfer, "export", export)
    words = ["export", "--redis-url", "redis://127.0.0.1:1/0", "--output", where]
    assert await cli.execute(words) == 2
    assert capsys.readouterr().err == f"syncer: cannot write {where}: {why}\n"


@pytest.mark.parametrize(
    ("ms", "wanted"),
    [(0, "0s"), (119_000, "119s"), (120_000, "2m"), (7_200_000, "2h"), (3 * 86_400_000, "3d")],
)
def test_age(ms: int, wanted: str) -> None:
    """Ages are told in one unit."""
    assert age(ms) == wanted
