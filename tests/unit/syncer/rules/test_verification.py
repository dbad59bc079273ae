"""The rules of `syncer verify`: each way in which a log and an object can disagree, and what is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptState, Epoch, FailureClass
from syncer.model.record import (
    Header,
    Kind,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
)
from syncer.model.resource import ChannelStatus, LogMark, NotificationRequest, Status
from syncer.rules.divergence import VERIFIED
from syncer.rules.merge import Facts, merge
from syncer.rules.verification import Bounds, Sides, check
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


TRIED, OPEN = elements(PLAN, opened(A1), failed(A1)), elements(PLAN, opened(A1))
PENDING = request(channels=[{"name": C, "state": "Pending"}])
#: Failures that are folded away: one of two, and both are marked as published.
COUNTED = elements(
    PLAN, opened(A1), failed(A1), opened(A2), failed(A2),
    header=Header("ns/n", Epoch("0.7"), acked=3, audited=3),
)  # fmt: skip
FOLDED = {"through": 1, "channels": [{"name": C, "failed": 1, "lastId": A1, "number": 1}]}
ENDED = {"completionTime": "2027-01-15T08:00:00Z"}
SENT = request(entry("success"), phase="Sent", **ENDED)
#: What another controller made and finished, and when it says that it ended.
OLD = entry("success", identity="")
THEIRS = request(OLD, phase="Sent", log=None)
EARLY: dict[str, Any] = {"phase": "Sent", "log": None, "completionTime": "2020-01-01T00:00:00Z"}
BARE, CLAIMED = request(**EARLY), request(OLD, **EARLY)
CREATED, WEEK = request().created, 7 * 86_400_000
HERE = replace(BOUNDS, since=CREATED - 1)
#: An operator has called the attempt failed, and it was delivered.
WRONG = Record(Kind.RESOLVE_FAILED, f"resolve:{A1}:1", C, {"at": NOW - 40_000})
DONE = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW - 30_000))

#: What log and object are, the bounds, and the classes of divergence.
JUDGED: dict[str, tuple[Sides, Bounds, list[str]]] = {
    "a record younger than the time to settle": (
        sides(request(), TRIED), replace(BOUNDS, now=NOW - 39_000), [],
    ),
    "an older one": (sides(request(), TRIED), BOUNDS, ["status-behind"]),
    "an attempt that was just opened": (sides(PENDING, OPEN), replace(BOUNDS, stuck=50_000), []),
    "one that was opened too long ago": (
        sides(PENDING, OPEN), replace(BOUNDS, stuck=49_999), ["open-attempt"],
    ),
    "one that is two minutes old": (sides(PENDING, OPEN), Bounds(NOW + 70_000), []),
    "one that is older": (sides(PENDING, OPEN), Bounds(NOW + 70_001), ["open-attempt"]),
    "failures that the status counts alone": (
        sides(request(rollup=FOLDED), COUNTED), BOUNDS, ["status-behind"],
    ),
    "failures that it does not count": (sides(request(), COUNTED), BOUNDS, ["acked"]),
    "a log that is missing within its retention": (sides(SENT), BOUNDS, ["log-missing"]),
    "in the last moment of it": (
        sides(SENT), replace(BOUNDS, now=NOW + WEEK - 1), ["log-missing"],
    ),
    "after it": (sides(SENT), replace(BOUNDS, now=NOW + WEEK), []),
    "what another controller finished": (sides(THEIRS), BOUNDS, []),
    "the same with a time": (sides(request(OLD, phase="Sent", log=None, **ENDED)), BOUNDS, []),
    "the same with the mark of a log": (
        sides(request(OLD, phase="Sent", **ENDED)), BOUNDS, ["log-missing"],
    ),
    "an object without attempts": (sides(request()), BOUNDS, []),
    "a phase where it is not known since when the installation is": (sides(BARE), BOUNDS, []),
    "a phase of one that may be adopted": (sides(BARE), replace(BOUNDS, since=CREATED), []),
    "a phase of one that was created here": (sides(BARE), HERE, ["phase"]),
    "the same once a log would have expired": (
        sides(BARE), replace(HERE, now=CREATED + WEEK), [],
    ),
    "attempts without ids, installation unknown": (sides(CLAIMED), BOUNDS, []),
    "attempts of one that may be adopted": (sides(CLAIMED), replace(BOUNDS, since=CREATED), []),
    "attempts of one that was created here": (sides(CLAIMED), HERE, ["phase"]),
    "these once a log would have expired": (sides(CLAIMED), replace(HERE, now=CREATED + WEEK), []),
    "a log without an object": (sides(None, elements(PLAN)), BOUNDS, ["orphan"]),
    "one that expires": (sides(None, elements(PLAN), ttl=60), BOUNDS, []),
    "one in its last second": (sides(None, elements(PLAN), ttl=0), BOUNDS, []),
    "nothing at all": (sides(None), BOUNDS, []),
    "a log in use that does not expire": (sides(PENDING, elements(PLAN)), BOUNDS, []),
    "one that does": (sides(PENDING, elements(PLAN), ttl=90), BOUNDS, ["expiring"]),
    "one that does within a second": (sides(PENDING, elements(PLAN), ttl=0), BOUNDS, ["expiring"]),
    "an object that does not parse": (
        sides(None, elements(PLAN), problem="the object does not parse"), BOUNDS, ["object"],
    ),
    "a verdict that was overtaken by a result": (
        sides(request(), elements(PLAN, opened(A1), WRONG, DONE)), BOUNDS, ["status-behind"],
    ),
    "a list of another program": (sides(None, (b"no header",)), BOUNDS, ["foreign"]),
    "a record that cannot be read": (sides(PENDING, (*elements(PLAN), b"x")), BOUNDS, ["unreadable"]),
    "two attempts at once": (
        sides(PENDING, elements(PLAN, opened(A1), opened(A2))), BOUNDS, ["two-open"],
    ),
    "two results": (
        sides(request(), elements(PLAN, opened(A1), failed(A1), DONE)), BOUNDS,
        ["conflict", "status-behind"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", JUDGED)
def test_judged(case: str) -> None:
    """What is on its way, gone in time, or not ours is no divergence, and is one from a moment on."""
    found, bounds, wanted = JUDGED[case]
    assert classes(found, bounds) == wanted


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
    "the log is gone, and attempts were journaled": (
        request(entry("failed"), journal={"outage": "0.7-1"}), (), -2, ["log-missing"],
        "; they were journaled in the outage 0.7-1",
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


def test_every_class_has_a_case() -> None:
    """None that `verify` names is without one here."""
    judged = [kinds for _, _, kinds in JUDGED.values()] + [row[3] for row in PLANTED.values()]
    assert {kind for kinds in judged for kind in kinds} == set(VERIFIED)


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
    "failed, and one was not sent": ("Failed", 1, FailureClass.NOT_SENT, _GOING),
    "failed, and one was not sent, by a log made anew": ("Failed", 1, FailureClass.NOT_SENT, None),
    "failed, and one attempt is left, by a log made anew": (
        "Failed",
        1,
        FailureClass.TRANSIENT,
        _GOING,
    ),
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
        intent = intent_record(attempt, channel, at=NOW - 50_000, by="p")
        anew = "anew" in case
        records += [attempt_record(done, seed=True)] if anew else [intent, attempt_record(done)]
    log = elements(*records)
    before = request(phase=phase)
    facts = Facts(before.generation, before.policy)
    merged = merge(before.status, read_log(log).view, facts, now=NOW).status
    found = check(sides(replace(before, status=merged), log), BOUNDS)
    texts = [f.text for f in found if f.kind.value == "phase"]
    said = f"the phase is {phase}, {delivered} of 2 channel(s) are delivered"
    assert texts == ([] if more is None else [said + more])
