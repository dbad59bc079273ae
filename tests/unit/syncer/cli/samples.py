"""Logs and objects that tests of the operators' command share."""

from __future__ import annotations

from typing import Any

from syncer.ledger.codec import encode_log
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, FailureClass
from syncer.model.carried import fold
from syncer.model.record import (
    Header,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
)
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules.verification import Bounds

NOW = 1_800_000_000_000
C = "slack:ops"
A1, A2 = AttemptId("0.7-1"), AttemptId("0.7-2")
PLAN = plan_record(Plan((C,), "RoutingRuleMatched", "rule 1 matched", at=NOW - 60_000))
BOUNDS = Bounds(NOW, latest=Epoch("0.1000"))


def elements(*records: Record, header: Header | None = None) -> tuple[bytes, ...]:
    """A log as stored."""
    return tuple(encode_log(header or Header("ns/n", Epoch("0.7")), records))


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


def tried(state: str, number: int, clock: str, channel: str = C, **more: Any) -> dict[str, Any]:
    """The same at a time of 15 January 2027, of which NOW is the eighth hour."""
    return entry(state, number, f"0.7-{number}") | {
        "channel": channel, "timestamp": f"2027-01-15T{clock}Z", **more,
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
            "status": fold({
                "phase": phase, "deliveryAttempts": list(attempts),
                "log": {"position": 1, "epoch": "0.7", "store": "s"}, **status,
            }),
        }
    )  # fmt: skip
