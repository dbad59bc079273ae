"""Logs of which the audit feed tells."""

from __future__ import annotations

from typing import Any

from syncer.ledger.codec import stored
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.record import (
    Fallback,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
)
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules.fold import ROOT_CHAIN

INTENT, UNKNOWN, FAILED, SUCCESS = AttemptState


BEGUN = 1_700_000_000_000


def log_of(*records: Record) -> list[Record]:
    """The records as they stand in a log, one after the other."""
    out: list[Record] = []
    chain = ROOT_CHAIN
    for position, record in enumerate(records, 1):
        out.append(stored(record, chain, position))
        chain = out[-1].chain
    return out


def planned(*channels: str, stands_by: bool = False) -> Record:
    """A plan for some channels; the last may stand by for the others."""
    fallbacks = (Fallback(channels[-1], channels[:-1]),) if stands_by else ()
    plan = Plan(channels, "RoutingRuleMatched", "rule r1", BEGUN, fallbacks=fallbacks)
    return plan_record(plan)


def opened(n: int, channel: str = "slack:ops") -> Record:
    """The intent of the n-th attempt."""
    return intent_record(AttemptId(f"0.7-{n}"), channel, at=BEGUN + n * 1000, by="a")


def settled(
    n: int,
    state: AttemptState,
    channel: str = "slack:ops",
    *,
    failure: FailureClass | None = FailureClass.TRANSIENT,
    error: str = "slack webhook returned 503 (retryable): ",
    identity: str = "",
) -> Record:
    """The outcome of the n-th attempt."""
    success = state is SUCCESS
    return attempt_record(
        Attempt(
            AttemptId(identity or f"0.7-{n}"),
            channel,
            state,
            ended=BEGUN + n * 1000 + 250,
            failure=None if success else failure,
            error="" if success else error,
        )
    )


def notification(**spec: Any) -> NotificationRequest:
    """An object with every member that an event shows."""
    return parse_object(
        {
            "metadata": {
                "name": "disk-full",
                "namespace": "ops",
                "uid": "uid-1",
                "creationTimestamp": "2023-11-14T22:13:00Z",
            },
            "spec": {
                "type": "Escalation",
                "priority": "Critical",
                "subject": "disk full",
                "body": "node 7",
                "retryPolicy": {"maxAttempts": 2},
                **spec,
            },
        }
    )
