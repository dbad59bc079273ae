"""Notifications in a state of a test's choice, reached as a controller reaches it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from syncer.ledger.answers import Snapshot
from syncer.model.attempt import Epoch
from syncer.model.record import Header
from syncer.model.resource import NotificationRequest
from syncer.rules.fold import LogView
from syncer.sync.notification import Claim, Notification


def notification(
    request: NotificationRequest,
    *,
    view: LogView | None = None,
    claim: Claim | None = None,
    audited: int = 0,
    **first: Any,
) -> Notification:
    """One whose log was read, and perhaps claimed; `first` says how it was first seen."""
    made = Notification(request, **first)
    if view is not None:
        read(made, view, audited=audited)
    if claim is not None:
        made.claimed(claim)
    return made


def read(entry: Notification, view: LogView, *, acked: int = 0, audited: int = 0) -> None:
    """Its log was read, and says this."""
    header = Header(entry.request.key, Epoch("0.9"), acked, audited)
    entry.read(Snapshot(header, (), view))


def shows(entry: Notification, request: NotificationRequest | None = None, **changes: Any) -> None:
    """The API server has answered that the object is this one, or has changed so."""
    answer = replace(request or entry.request, **changes)
    entry.take(answer, since=entry.request.resource_version)
