"""An order in the hands of its owner: due at once, and no log expires over it."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from syncer.ledger.answers import Snapshot
from syncer.ledger.codec import stored
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch, FailureClass
from syncer.model.record import Header, Plan, Record, attempt_record, plan_record, resend_record
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules.fold import ROOT_CHAIN, fold
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification
from syncer.sync.recorder import Recorder

NONE: Any = None
C, D = "slack:ops", "slack:dev"


def failed(number: int, channel: str) -> Record:
    """A failure whose wait is long."""
    return attempt_record(
        Attempt(
            AttemptId(f"0.7-{number}"), channel, AttemptState.FAILED, ended=1_000, due=900_000,
            failure=FailureClass.TRANSIENT, error="e",
        )
    )  # fmt: skip


def snapshot(*records: Record) -> Snapshot:
    """A log as read."""
    out, chain = [], ROOT_CHAIN
    for position, record in enumerate(records, 1):
        placed = stored(record, chain, position)
        out.append(placed)
        chain = placed.chain
    return Snapshot(Header("n/a", Epoch("0.7")), out, fold(out))


def request(phase: str) -> NotificationRequest:
    """An object in a phase."""
    return parse_object(
        {
            "metadata": {"uid": "u", "namespace": "n", "name": "a", "resourceVersion": "1"},
            "spec": {"type": "Simple"},
            "status": {"phase": phase},
        }
    )


ORDER = resend_record(f"order:{C}:2", C, at=2_000, by="me", why="w")
LOG = (plan_record(Plan((C, D))), failed(1, C), failed(2, D))


def test_what_is_ordered_is_due_at_once() -> None:
    """A new order takes the wait of its channel away and of no other; known ones change nothing."""
    cache = Cache(window=1.0, monotonic=lambda: 100.0)
    recorder = Recorder(
        NONE, cache, LedgerTime(lambda: 100.0), SyncMetrics(CollectorRegistry()), identity="t"
    )
    notification = Notification(request("Sending"))
    notification.waits({C: 900.0, D: 900.0})
    recorder.adopt(notification, snapshot(*LOG))
    assert notification.due == {C: 900.0, D: 900.0}
    recorder.adopt(notification, snapshot(*LOG, ORDER))
    assert notification.due == {D: 900.0}
    # A hold of a few seconds, for a missing credential, stands against reading the log again.
    notification.wait(C, 105.0)
    recorder.adopt(notification, snapshot(*LOG, ORDER))
    assert notification.due == {C: 105.0, D: 900.0}
