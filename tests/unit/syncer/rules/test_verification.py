"""The rules of `syncer verify`: each way in which a log and an object can disagree, and what is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptState, Epoch, FailureClass
from syncer.model.record import (
    Header,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
)
from syncer.model.resource import ChannelStatus, LogMark, NotificationRequest, Status
from syncer.rules.merge import Facts, merge
from syncer.rules.verification import Bounds, Sides, check, check_alone
from tests.unit.syncer.cli.samples import (
    A1,
    A2,
    BOUNDS,
    NOW,
    PLAN,
    C,
    elements,
    entry,
    failed,
    opened,
    request,
)


def classes(sides: Sides, bounds: Bounds = BOUNDS) -> list[str]:
    """Classes of divergence, in order."""
    return [kind.value for kind, _ in check(sides, bounds)]


def sides(found: NotificationRequest | None, log: tuple[bytes, ...] = (), **more: Any) -> Sides:
    """An object and its log."""
    return Sides(read_log(log), found, **{"ttl": -1 if log else -2, **more})


def test_what_is_on_its_way_is_no_divergence() -> None:
    """A record younger than the time to settle says nothing; older, it is behind."""
    log = elements(PLAN, opened(A1), failed(A1))
    assert classes(sides(request(), log), replace(BOUNDS, now=NOW - 49_000 + 10_000)) == []
    assert classes(sides(request(), log), BOUNDS) == ["status-behind"]


def test_open_attempt_is_somebodys_for_a_while() -> None:
    """An attempt on the wire is nothing odd until its time is over."""
    log = elements(PLAN, opened(A1))
    shown = request(channels=[{"name": C, "state": "Pending"}])
    assert classes(sides(shown, log), replace(BOUNDS, stuck=50_000)) == []
    assert classes(sides(shown, log), replace(BOUNDS, stuck=49_999)) == ["open-attempt"]
    started = NOW - 50_000
    assert classes(sides(shown, log), Bounds(started + 120_000)) == []
    assert classes(sides(shown, log), Bounds(started + 120_001)) == ["open-attempt"]


def test_what_a_status_counts_alone_is_published() -> None:
    """Failures folded away are shown by their number: only what is beyond the mark is behind."""
    log = elements(
        PLAN, opened(A1), failed(A1), opened(A2), failed(A2),
        header=Header("ns/n", Epoch("0.7"), acked=3, audited=3),
    )  # fmt: skip
    folded = {"through": 1, "channels": [{"name": C, "failed": 1, "lastId": A1, "number": 1}]}
    assert classes(sides(request(rollup=folded), log)) == ["status-behind"]
    assert classes(sides(request(), log)) == ["acked"]


def test_log_of_a_finished_object_may_be_gone_after_its_time() -> None:
    """Within the retention a missing log is missed, after it has expired."""
    ended = {"completionTime": "2027-01-15T08:00:00Z"}
    sent = request(entry("success"), phase="Sent", **ended)
    assert classes(sides(sent)) == ["log-missing"]
    week = 7 * 86_400_000
    assert classes(sides(sent), replace(BOUNDS, now=NOW + week - 1)) == ["log-missing"]
    assert classes(sides(sent), replace(BOUNDS, now=NOW + week)) == []


def test_objects_of_the_replaced_controller_need_no_log() -> None:
    """What another controller finished is left alone; an object without attempts has nothing to lose."""
    old = entry("success")
    del old["id"]
    assert classes(sides(request(old, phase="Sent", log=None))) == []
    # The mark of a log shows that one was there, whoever made the attempts.
    ended = {"completionTime": "2027-01-15T08:00:00Z"}
    assert classes(sides(request(old, phase="Sent", **ended))) == ["log-missing"]
    assert classes(sides(request(old, phase="Sent", log=None, **ended))) == []
    assert classes(sides(request())) == []


def test_what_was_created_here_has_a_log() -> None:
    """A final phase needs one until its time is over, whatever the status says of when it ended."""
    created = request().created
    for attempts in ([], [{**entry("success"), "id": None}]):
        sent = request(*attempts, phase="Sent", log=None, completionTime="2020-01-01T00:00:00Z")
        assert classes(sides(sent)) == [], "when the installation began is not known"
        assert classes(sides(sent), replace(BOUNDS, since=created)) == [], "it may be adopted"
        bounds = replace(BOUNDS, since=created - 1)
        assert classes(sides(sent), bounds) == ["phase"]
        late = replace(bounds, now=created + 7 * 86_400_000)
        assert classes(sides(sent), late) == []


def test_orphan_is_one_that_nobody_lets_go() -> None:
    """A log without an object is odd only while it has no expiry."""
    log = elements(PLAN)
    assert classes(sides(None, log)) == ["orphan"]
    assert classes(sides(None, log, ttl=60)) == []
    assert classes(sides(None, log, ttl=0)) == []
    assert classes(sides(None)) == []


def test_a_log_in_use_that_expires() -> None:
    """A notification that is not finished needs its log: an expiry is odd, down to its last second."""
    log = elements(PLAN)
    shown = request(channels=[{"name": C, "state": "Pending"}])
    for ttl, wanted in ((-1, []), (0, ["expiring"]), (90, ["expiring"])):
        assert classes(sides(shown, log, ttl=ttl)) == wanted
    assert "the log expires in 90 s" in check(sides(shown, log, ttl=90), BOUNDS)[0].text


def test_object_that_does_not_parse() -> None:
    """An object that cannot be read is named as such, and its log is not checked."""
    assert classes(sides(None, elements(PLAN), problem="the object does not parse")) == ["object"]


def test_verdict_overtaken_by_a_result_is_no_conflict() -> None:
    """An operator who said failed and was wrong has broken no rule."""
    said = Record(
        plan_record(Plan(())).kind.RESOLVE_FAILED, f"resolve:{A1}:1", C, {"at": NOW - 40_000}
    )
    success = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW - 30_000))
    assert "conflict" not in classes(sides(request(), elements(PLAN, opened(A1), said, success)))
    both = elements(PLAN, opened(A1), failed(A1), success)
    assert "conflict" in classes(sides(request(), both))


SUCCESS = attempt_record(
    Attempt(A1, C, AttemptState.SUCCESS, started=NOW - 50_000, ended=NOW - 49_000)
)
DELIVERED = elements(PLAN, opened(A1), SUCCESS, header=Header("ns/n", Epoch("0.7"), 3, 3))
FACTS = Facts(request().generation, request().policy)
WRITTEN = merge(Status(), read_log(DELIVERED).view, FACTS, now=NOW - 48_000).status


def delivered(**changed: Any) -> NotificationRequest:
    """An object that shows one success, as its log has it."""
    status = replace(WRITTEN, log=LogMark(3, "0.7", "s"))
    return replace(request(), status=replace(status, **changed))


def marked(acked: int, audited: int, name: str = "ns/n", epoch: str = "0.7") -> tuple[bytes, ...]:
    """The log of that object, with other marks, another name or another epoch."""
    header = Header(name, Epoch(epoch), acked=acked, audited=audited)
    return elements(PLAN, opened(A1), SUCCESS, header=header)


#: sentence: (object, log, seconds until that expires) -> classes, and words of the first
PLANTED: dict[str, tuple[NotificationRequest, tuple[bytes, ...], int, list[str], str]] = {
    "all is well": (delivered(), DELIVERED, 60, [], ""),
    "the log is another object's": (
        delivered(), marked(3, 3, name="ns/m"), 60, ["misnamed"], "that of ns/m, by its header",
    ),
    "more is marked as published than there is": (
        delivered(), marked(4, 3), 60, ["mark-beyond"], "marked up to 4, and there are 3 record(s)",
    ),
    "more is marked as audited than there is": (
        delivered(), marked(3, 4), 60, ["mark-beyond"], "marked up to 4, and there are 3 record(s)",
    ),
    "the log's epoch is of the future": (
        delivered(), marked(3, 3, epoch="0.1001"), 60, ["epoch-ahead"], "epoch 0.1001 is later",
    ),
    "the log's epoch is the latest": (
        delivered(log=LogMark(3, "0.1000", "s")), marked(3, 3, epoch="0.1000"), 60, [], "",
    ),
    "the status names an epoch of the future": (
        delivered(log=LogMark(3, "0.1001", "s")), DELIVERED, 60,
        ["epoch-ahead"], "the status names epoch 0.1001",
    ),
    "the log has no plan": (
        delivered(), elements(opened(A1), SUCCESS, header=Header("ns/n", Epoch("0.7"), 2, 2)), 60,
        ["plan-missing"], "the status shows channels, but the log has no plan",
    ),
    "the log of an unfinished one expires": (
        request(), elements(PLAN, header=Header("ns/n", Epoch("0.7"), 1, 1)), 60,
        ["expiring", "status-differs"], "the log expires in 60 s",
    ),
    "the log of a finished one does not expire": (
        delivered(), DELIVERED, -1, ["no-expiry"], "",
    ),
    "a record is not marked as published": (delivered(), marked(2, 3), -1, ["unacked"], ""),
    "the status shows less than is on record, by its counters the same": (
        delivered(attempts=()), DELIVERED, 60, ["acked"], "",
    ),
    "the status counts otherwise": (
        delivered(successful=0), DELIVERED, 60, ["status-differs"],
        "the log says otherwise: successfulDeliveries",
    ),
    "the status shows another result of a channel": (
        delivered(channels=(ChannelStatus(C, "Failed", 1),)), DELIVERED, 60,
        ["status-differs"], "the log says otherwise: channels",
    ),
    "the status shows no number of an attempt": (
        delivered(attempts=(replace(WRITTEN.attempts[0], number=0),)), DELIVERED, 60,
        ["status-differs"], "the log says otherwise: deliveryAttempts",
    ),
    "the status shows a channel that was not planned": (
        delivered(channels=(*WRITTEN.channels, ChannelStatus("slack:board", "Delivered", 1))), DELIVERED,
        60, ["channels", "status-differs"], "the plan does not name 0 channel(s) of the log's attempts",
    ),
    "the log has an attempt at a channel that was not planned": (
        delivered(), elements(
            PLAN, opened(A1), SUCCESS, replace(opened(A2), channel="slack:board"),
            header=Header("ns/n", Epoch("0.7"), 3, 3),
        ), 60, ["channels"], "the plan does not name 1 channel(s)",
    ),
    "the plan is that of another spec": (
        delivered(), elements(
            plan_record(Plan((C,), body_hash="0" * 64)), opened(A1), SUCCESS,
            header=Header("ns/n", Epoch("0.7"), 3, 3),
        ), 60, ["spec"], "the plan is for the spec 000000000000, it is ",
    ),
    "the status shows one attempt twice": (
        delivered(attempts=WRITTEN.attempts * 2), DELIVERED, 60, ["status-differs", "numbers"],
        "the log says otherwise: deliveryAttempts",
    ),
    "the status counts more than it shows": (
        delivered(total_attempts=2**31 - 1), DELIVERED, 60, ["numbers"],
        "the status counts 2147483647 attempts and shows 1",
    ),
    "the status ends before the object was created": (
        delivered(completed_at=1), DELIVERED, 60, ["numbers"], "the status ends before the object was",
    ),
    "the status shows an attempt that the log lacks": (
        delivered(attempts=(*WRITTEN.attempts, replace(WRITTEN.attempts[0], id=A2))), DELIVERED, 60,
        ["log-behind"], "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
def test_planted(case: str) -> None:
    """Each way in which the two can disagree has its class, and nothing else is said."""
    found, log, ttl, wanted, says = PLANTED[case]
    findings = check(sides(found, log, ttl=ttl), BOUNDS)
    assert [kind.value for kind, _ in findings] == wanted
    assert not says or says in findings[0].text


def test_two_attempts_under_one_number() -> None:
    """Numbers are given once; what bears one of another is named, although the log agrees."""
    success = attempt_record(
        Attempt(A2, C, AttemptState.SUCCESS, started=NOW - 45_000, ended=NOW - 44_000)
    )
    records = (PLAN, opened(A1), failed(A1), opened(A2, at=NOW - 45_000), success)
    log = elements(*records, header=Header("ns/n", Epoch("0.7"), 5, 5))
    written = merge(Status(), read_log(log).view, FACTS, now=NOW - 44_000).status
    first, second = written.attempts
    assert (first.number, second.number) == (1, 2)
    right = replace(written, log=LogMark(5, "0.7", "s"))
    wrong = replace(right, attempts=(first, replace(second, number=1)))
    for status, wanted in ((right, []), (wrong, ["numbers"])):
        shown = replace(request(), status=status)
        assert classes(sides(shown, log, ttl=60)) == wanted
        assert [f.kind.value for f in check_alone(shown)] == wanted
        assert check_alone(replace(shown, deleting=True)) == ()


_GOING = " and 1 have attempts left"
#: sentence: (phase, channels delivered, result of the others, what is said more; None if nothing is wrong)
PHASES: dict[str, tuple[str, int, FailureClass, str | None]] = {
    "sent, and one of two is delivered": ("Sent", 1, FailureClass.PERMANENT, ""),
    "sent, and both are": ("Sent", 2, FailureClass.PERMANENT, None),
    "partially sent, and none is delivered": ("PartiallySent", 0, FailureClass.PERMANENT, ""),
    "partially sent, and one is": ("PartiallySent", 1, FailureClass.PERMANENT, None),
    "partially sent, and the other may be": ("PartiallySent", 1, FailureClass.TRANSIENT, _GOING),
    "failed, and none is delivered": ("Failed", 0, FailureClass.PERMANENT, None),
    "failed, and one attempt is left": ("Failed", 1, FailureClass.TRANSIENT, _GOING),
}


@pytest.mark.parametrize("case", PHASES)
def test_a_phase_without_its_deliveries(case: str) -> None:
    """A final phase absorbs, so the merge keeps it; whether it has its reason is said apart."""
    phase, delivered, other, more = PHASES[case]
    plan = plan_record(Plan((C, "b"), "r", "m", at=NOW - 60_000))
    records = [plan]
    for n, (attempt, channel) in enumerate(((A1, C), (A2, "b"))):
        done = Attempt(attempt, channel, AttemptState.SUCCESS, NOW - 50_000, NOW - 49_000)
        if n >= delivered:
            done = replace(done, state=AttemptState.FAILED, failure=other)
        records += [intent_record(attempt, channel, at=NOW - 50_000, by="p"), attempt_record(done)]
    log = elements(*records)
    before = request(phase=phase)
    facts = Facts(before.generation, before.policy)
    merged = merge(before.status, read_log(log).view, facts, now=NOW).status
    found = check(sides(replace(before, status=merged), log), BOUNDS)
    texts = [f.text for f in found if f.kind.value == "phase"]
    said = f"the phase is {phase}, {delivered} of 2 channel(s) are delivered"
    assert texts == ([] if more is None else [said + more])
    # What is delivered a status by itself shows, too; one without channels is the replaced controller's.
    alone = [f.text for f in check_alone(replace(before, status=merged))]
    assert alone == ([] if more != "" else texts)
    assert check_alone(replace(before, status=replace(merged, channels=()))) == ()
