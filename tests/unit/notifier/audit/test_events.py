"""Audit events: their exact shape, which record yields which, and what never gets into one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from notifier.audit.events import AuditEvent, EventKind, events_of
from syncer.model.attempt import FailureClass
from syncer.model.record import (
    Kind,
    Plan,
    Record,
    attempt_record,
    plan_record,
    read_attempt,
    skip_record,
)
from syncer.model.resource import NotificationRequest
from tests.unit.notifier.audit.told import (
    BEGUN,
    FAILED,
    SUCCESS,
    UNKNOWN,
    log_of,
    notification,
    opened,
    planned,
    settled,
)


def ids(events: Sequence[AuditEvent]) -> list[str]:
    """Ids without the uid."""
    return [e.id.removeprefix("uid-1/") for e in events]


def body(event: AuditEvent) -> dict[str, Any]:
    """The event as a receiver reads it."""
    content: dict[str, Any] = json.loads(event.line)
    return content


def test_a_delivery_is_told_in_upstreams_shape() -> None:
    """A success and the end that it brings are these two objects, member by member."""
    request = notification(
        clusterID="prod-1",
        remediationRequestRef={"name": "rr-9"},
        context={"lineage": {"remediationRequest": "rr-9"}},
        extensions={"team": "storage"},
    )
    sent, acknowledged = events_of(
        log_of(planned("slack:ops"), opened(1), settled(1, SUCCESS)), request
    )
    shared = {
        "version": "1.0",
        "event_timestamp": "2023-11-14T22:13:21.250Z",
        "event_category": "notification",
        "event_outcome": "success",
        "actor_type": "service",
        "actor_id": "notification-controller",
        "resource_type": "NotificationRequest",
        "resource_id": "disk-full",
        "correlation_id": "rr-9",
        "namespace": "ops",
        "cluster_id": "prod-1",
    }
    metadata = {"remediationRequest": "rr-9", "team": "storage"}
    assert body(sent) == shared | {
        "event_type": "notification.message.sent",
        "event_action": "sent",
        "event_data": {
            "event_type": "notification.message.sent",
            "event_id": "uid-1/0.7-1/sent",
            "notification_uid": "uid-1",
            "attempt_id": "0.7-1",
            "notification_id": "disk-full",
            "channel": "slack:ops",
            "subject": "disk full",
            "body": "node 7",
            "priority": "Critical",
            "type": "Escalation",
            "metadata": metadata,
        },
    }
    assert body(acknowledged) == shared | {
        "event_type": "notification.message.acknowledged",
        "event_action": "acknowledged",
        "event_data": {
            "event_type": "notification.message.acknowledged",
            "event_id": "uid-1/0.7-1/acknowledged",
            "notification_uid": "uid-1",
            "attempt_id": "0.7-1",
            "notification_id": "disk-full",
            "subject": "disk full",
            "priority": "Critical",
            "metadata": metadata,
        },
    }


def test_a_failure_is_told_in_upstreams_shape() -> None:
    """A final failure and the escalation that follows are these two objects."""
    failed, escalated = events_of(
        log_of(
            planned("slack:ops"),
            opened(1),
            settled(1, FAILED, failure=FailureClass.PERMANENT, error="permanent failure: 404"),
        ),
        notification(),
    )
    assert body(failed) == {
        "version": "1.0",
        "event_type": "notification.message.failed",
        "event_timestamp": "2023-11-14T22:13:21.250Z",
        "event_category": "notification",
        "event_action": "sent",
        "event_outcome": "failure",
        "actor_type": "service",
        "actor_id": "notification-controller",
        "resource_type": "NotificationRequest",
        "resource_id": "disk-full",
        "correlation_id": "uid-1",
        "namespace": "ops",
        "event_data": {
            "event_type": "notification.message.failed",
            "event_id": "uid-1/0.7-1/failed",
            "notification_uid": "uid-1",
            "attempt_id": "0.7-1",
            "notification_id": "disk-full",
            "channel": "slack:ops",
            "subject": "disk full",
            "body": "node 7",
            "priority": "Critical",
            "error_type": "permanent",
            "error": "permanent failure: 404",
        },
    }
    told = body(escalated)
    assert (told["event_action"], told["event_outcome"]) == ("escalated", "success")
    assert told["event_data"]["reason"] == "Escalated due to Critical priority"
    assert "channel" not in told["event_data"]


TABLE: dict[str, tuple[list[Record], list[str]]] = {
    "an open attempt is not told": ([planned("slack:ops"), opened(1)], []),
    "attempts used up escalate once, after the last failure": (
        [planned("slack:ops"), opened(1), settled(1, FAILED), opened(2), settled(2, FAILED)],
        ["0.7-1/failed", "0.7-2/failed", "0.7-2/escalated"],
    ),
    "a partly sent notification is told by its attempts alone": (
        [
            planned("console", "slack:ops"),
            opened(1, "console"),
            opened(2),
            settled(1, SUCCESS, "console"),
            settled(2, FAILED, failure=FailureClass.PERMANENT),
        ],
        ["0.7-1/sent", "0.7-2/failed"],
    ),
    "every channel delivered is acknowledged once, at the last": (
        [
            planned("console", "slack:ops"),
            opened(1, "console"),
            opened(2),
            settled(2, SUCCESS),
            settled(1, SUCCESS, "console"),
        ],
        ["0.7-2/sent", "0.7-1/sent", "0.7-1/acknowledged"],
    ),
    "no channel resolved escalates at the plan": ([planned()], ["plan/escalated"]),
    "an unknown result counts as failed": (
        [planned("slack:ops"), opened(1), settled(1, UNKNOWN, failure=FailureClass.UNCERTAIN)],
        ["0.7-1/failed"],
    ),
    "an unknown result that became known is told once, as it is": (
        [planned("slack:ops"), opened(1), settled(1, UNKNOWN), settled(1, SUCCESS)],
        ["0.7-1/sent", "0.7-1/acknowledged"],
    ),
    "a weaker record after a stronger one changes nothing": (
        [planned("slack:ops"), opened(1), settled(1, SUCCESS), settled(1, UNKNOWN)],
        ["0.7-1/sent", "0.7-1/acknowledged"],
    ),
    "a success after the end is told, the end is not told again": (
        [
            planned("slack:ops"), opened(1), settled(1, UNKNOWN), opened(2), settled(2, FAILED),
            settled(1, SUCCESS),
        ],
        ["0.7-2/failed", "0.7-2/escalated", "0.7-1/sent"],
    ),
    "attempts of the replaced controller were audited by it": (
        [planned("slack:ops"), settled(1, FAILED, identity="0-0"), opened(2), settled(2, SUCCESS)],
        ["0.7-2/sent", "0.7-2/acknowledged"],
    ),
    "what is superseded neither arrived nor failed": (
        [planned("console", "slack:ops"), opened(1), settled(1, FAILED, failure=FailureClass.SUPERSEDED),
         opened(2, "console"), settled(2, SUCCESS, "console")],
        ["0.7-2/sent", "0.7-2/acknowledged"],
    ),
    "what is superseded everywhere escalates to nobody": (
        [planned("slack:ops"), opened(1), settled(1, FAILED),
         opened(2), settled(2, FAILED, failure=FailureClass.SUPERSEDED)],
        ["0.7-1/failed"],
    ),
    "what needed no fallback is acknowledged": (
        [planned("slack:ops", "console", stands_by=True), opened(1), settled(1, SUCCESS)],
        ["0.7-1/sent", "0.7-1/acknowledged"],
    ),
    "what needs its fallback has not ended before that has": (
        [planned("slack:ops", "console", stands_by=True),
         opened(1), settled(1, FAILED, failure=FailureClass.PERMANENT),
         opened(2, "console"), settled(2, FAILED, "console", failure=FailureClass.PERMANENT)],
        ["0.7-1/failed", "0.7-2/failed", "0.7-2/escalated"],
    ),
    "a decision not to send is no event": (
        [planned("slack:ops"), skip_record("skip:2:1", "slack:ops", at=BEGUN, why="open breaker")],
        [],
    ),
    "nor does it hide what comes before and after it": (
        [planned("slack:ops"), opened(1), settled(1, FAILED),
         skip_record("skip:1", "slack:ops", at=BEGUN, why="held"), opened(2), settled(2, SUCCESS)],
        ["0.7-1/failed", "0.7-2/sent", "0.7-2/acknowledged"],
    ),
    "an attempt of an earlier owner settles after the end": (
        [planned("slack:ops"), opened(1), opened(2), settled(1, SUCCESS), settled(2, UNKNOWN),
         settled(2, SUCCESS)],
        ["0.7-1/sent", "0.7-1/acknowledged", "0.7-2/sent"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("records", "expected"), TABLE.values(), ids=TABLE.keys())
def test_which_record_yields_which_event(records: list[Record], expected: list[str]) -> None:
    """A log yields these ids in this order, each at the record that it states."""
    assert ids(events_of(log_of(*records), notification())) == expected


@pytest.mark.parametrize("failure", [f for f in FailureClass if f != "superseded"])
def test_the_error_type_is_the_class(failure: FailureClass) -> None:
    """`error_type` names the recorded class and is never read from a text."""
    state = UNKNOWN if failure is FailureClass.UNCERTAIN else FAILED
    records = log_of(
        planned("slack:ops"), opened(1), settled(1, state, failure=failure, error="permanent")
    )
    assert body(events_of(records, notification())[0])["event_data"]["error_type"] == failure.value


def test_at_most_once_ends_at_an_unknown_result() -> None:
    """Where nothing is sent again, an unknown result ends the notification and escalates."""
    records = log_of(planned("slack:ops"), opened(1), settled(1, UNKNOWN))
    told = events_of(records, notification(), at_most_once=True)
    assert ids(told) == ["0.7-1/failed", "0.7-1/escalated"]


def test_only_what_lies_above_the_mark_is_told() -> None:
    """The mark cuts by position, and a correction above it is told although the failure was."""
    records = log_of(planned("slack:ops"), opened(1), settled(1, UNKNOWN), settled(1, SUCCESS))
    assert ids(events_of(records, notification(), after=3)) == ["0.7-1/sent", "0.7-1/acknowledged"]
    assert events_of(records, notification(), after=4) == ()


def test_secrets_do_not_get_into_an_event() -> None:
    """A secret in any text of the object or of an error is masked."""
    canary = "ghp_" + "c4n4ry" * 6
    request = notification(
        subject=f"token={canary}",
        body=f"password: {canary}",
        context={"analysis": {"rootCause": f"api_key={canary}"}},
        extensions={"note": f"Bearer {canary}", "password": canary},
    )
    records = log_of(
        planned("slack:ops"), opened(1), settled(1, FAILED, error=f"token={canary}"),
        opened(2), settled(2, SUCCESS),
    )  # fmt: skip
    told = events_of(records, request)
    assert [e.kind for e in told] == [EventKind.FAILED, EventKind.SENT, EventKind.ACKNOWLEDGED]
    for event in told:
        assert canary.encode() not in event.line
        assert b"[REDACTED]" in event.line


def test_texts_that_stores_refuse_are_replaced() -> None:
    """NUL and lone surrogates do not reach a store; whole characters beyond the BMP do."""
    request = notification(subject="a\0b\ud800c\U0001f600")
    records = log_of(planned("slack:ops"), opened(1), settled(1, SUCCESS))
    event = events_of(records, request)[0]
    assert b"\\u0000" not in event.line
    assert b"\\ud800" not in event.line
    subject = body(event)["event_data"]["subject"]
    assert subject.startswith("a\ufffdb\ufffd")
    assert subject.endswith("c\U0001f600")
    assert b"\n" not in event.line


def test_a_deleted_object_is_audited_without_its_content() -> None:
    """What only the log remembers is told with identity, channel and class."""
    records = log_of(planned("slack:ops"), opened(1), settled(1, FAILED))
    gone = NotificationRequest("uid-1", "ops", "disk-full", resource_version="", deleting=True)
    told = body(events_of(records, gone)[0])
    assert (told["resource_id"], told["namespace"]) == ("disk-full", "ops")
    assert told["correlation_id"] == "uid-1"
    assert told["event_data"]["channel"] == "slack:ops"
    assert "subject" not in told["event_data"]


def test_a_refusal_for_good_after_a_verdict_of_failure_is_told() -> None:
    """The receiver's word takes the place of the operator's, and ends the notification."""
    verdict = Record(Kind.RESOLVE_FAILED, "resolve:0.7-1:failed", "slack:ops", {
        "at": BEGUN + 9_000, "class": "transient",
    })  # fmt: skip
    refused = settled(1, FAILED, failure=FailureClass.PERMANENT)
    records = log_of(planned("slack:ops"), opened(1), settled(1, UNKNOWN), verdict, refused)
    assert ids(events_of(records[:-1], notification())) == ["0.7-1/failed"]
    told = events_of(records, notification())
    assert ids(told) == ["0.7-1/failed", "0.7-1/escalated"]
    assert [e.position for e in told] == [5, 5]
    assert body(told[0])["event_data"]["error_type"] == "permanent"


def test_an_operators_verdict_is_told() -> None:
    """A verdict on an unknown attempt is told as the attempt's result."""
    verdict = Record(
        Kind.RESOLVE_SUCCESS, "resolve:0.7-1:1", "slack:ops", {"at": BEGUN + 9_000, "by": "ann"}
    )
    records = log_of(planned("slack:ops"), opened(1), settled(1, UNKNOWN), verdict)
    told = events_of(records, notification())
    assert ids(told) == ["0.7-1/sent", "0.7-1/acknowledged"]
    assert evidence(told) == ["resolved by ann"] * 2


def evidence(events: Sequence[AuditEvent]) -> list[str]:
    """Whose word each event is, empty for what the controller has seen."""
    return [body(e)["event_data"].get("evidence", "") for e in events]


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("seed", ["restored", "", "restored"]), ("adopted", ["", "adopted"]), ("own", ["", "", ""]),
    ],
)  # fmt: skip
def test_what_nobody_here_has_seen_is_no_plain_success(first: str, words: list[str]) -> None:
    """An event says so, and the end that rests on it."""
    own = settled(1, SUCCESS, identity="0-0" if first == "adopted" else "")
    made = attempt_record(read_attempt(own), seed=True) if first == "seed" else own
    records = log_of(
        planned("slack:ops", "log"), made, opened(2, "log"), settled(2, SUCCESS, "log")
    )
    assert evidence(events_of(records, notification())) == words


def test_an_end_without_a_time_has_that_of_the_object() -> None:
    """A store wants a time with each event."""
    (event,) = events_of(log_of(plan_record(Plan((), "r", "m", 0))), notification())
    assert event.kind is EventKind.ESCALATED
    assert (event.at, event.position) == (0, 1)
    assert body(event)["event_timestamp"] == "2023-11-14T22:13:00.000Z"


def test_what_was_journaled_is_told_once_and_in_order() -> None:
    """The log gets it as seeds after the outage; its events follow those that were handed over before."""
    before = [planned("slack:ops"), opened(1), settled(1, FAILED)]
    seeds = [
        attempt_record(read_attempt(settled(n, state)), seed=True)
        for n, state in ((2, UNKNOWN), (3, SUCCESS))
    ]
    whole = log_of(*before, *seeds)
    assert [r.kind.value for r in whole[3:]] == ["seed.unknown", "seed.success"]
    request = notification(retryPolicy={"maxAttempts": 4})
    assert ids(events_of(whole[:3], request)) == ["0.7-1/failed"]
    joined = ["0.7-2/failed", "0.7-3/sent", "0.7-3/acknowledged"]
    assert ids(events_of(whole, request, after=3)) == joined
    # A Redis that came back empty: the status gives all of it, and nothing is audited twice by id.
    assert ids(events_of(log_of(before[0], *seeds), request)) == joined
    # Its owner learns the result later, or records the outcome of what was seeded as well.
    late = log_of(*before, *seeds, settled(2, SUCCESS), settled(3, SUCCESS))
    assert ids(events_of(late, request, after=5)) == ["0.7-2/sent"]
    assert ids(events_of(late, request, after=6)) == []


def test_an_attempt_that_was_left_without_a_result_is_told_once() -> None:
    """It is written ahead as unknown, and an owner that finds it so adds nothing but words."""
    ahead = attempt_record(read_attempt(settled(1, UNKNOWN, error="not known yet")), seed=True)
    left = attempt_record(read_attempt(settled(1, UNKNOWN, error="the sender ended")), seed=True)
    whole = log_of(planned("slack:ops"), ahead, left)
    assert ids(events_of(whole, notification())) == ["0.7-1/failed"]
    assert ids(events_of(whole, notification(), after=2)) == []
