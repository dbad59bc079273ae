"""What is kept of a finished notification: a hundred thousand of them cost megabytes, not gigabytes."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from syncer.model.resource import NotificationRequest


@dataclass(frozen=True, slots=True)
class Finished:
    """Summary of a notification whose final phase is published."""

    uid: str
    namespace: str
    name: str
    resource_version: str
    phase: str
    retention_days: int
    #: Unix milliseconds, as `ended` has them.
    ended: int
    #: When the object was created, Unix milliseconds.
    created: int = 0
    #: Its attempts may be in no log yet.
    journaled: bool = False


def ended(request: NotificationRequest) -> int:
    """When a finished object ended, by its status; not before the API server has created it."""
    return max(request.status.completed_at, request.created)


def summary(request: NotificationRequest) -> Finished:
    """The summary of a finished object; namespaces and phases are few, and each is kept once."""
    return Finished(
        request.uid,
        sys.intern(request.namespace),
        request.name,
        request.resource_version,
        sys.intern(request.status.phase),
        request.retention_days,
        ended(request),
        request.created,
        request.status.journal is not None,
    )
