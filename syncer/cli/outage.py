"""
What the operators' command shows while Redis does not answer: the contents of objects and Leases.

The log is not read, so nothing is compared and nothing is presented as complete. If attempts are
journaled (`docs/adr/0016-the-status-as-journal.md`), the shard's Lease has a note and the object has a
mark: then the status holds everything that was recorded, and shows what comes next.

This applies only if Redis does not answer. A Redis that refuses the account, or that belongs to another
installation, is an error as usual.
"""

from __future__ import annotations

import time
from typing import Final

from syncer.cli.access import Access
from syncer.cli.exits import message_of
from syncer.cli.owner import Owner
from syncer.cli.store import Store, StoreState, read_map
from syncer.model.conditions import LOG_UNAVAILABLE, find_condition
from syncer.model.errors import Ambiguous, PortError, Unavailable
from syncer.model.journal import Note
from syncer.model.record import read_plan
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.fold import LogView, ReadLog
from syncer.rules.journal import BORN_MARGIN
from syncer.rules.restore import missing_plan

#: Errors of a Redis that does not answer.
SILENT: Final = (Unavailable, Ambiguous, TimeoutError)


def reason_of(error: Exception) -> str:
    """Return in words that Redis does not answer, and which one."""
    where = "".join(f" ({line})" for line in getattr(error, "__notes__", ()))
    return f"{message_of(error)}{where}"


def now_here() -> int:
    """Return this machine's time in Unix milliseconds, because Redis's is not available."""
    return time.time_ns() // 1_000_000


async def store_without_redis(at: Access, *, home: str, reason: str) -> Store:
    """
    Return what the settings or their defaults say of the installation, because its store cannot be read.

    Args:
        at: Open connections.
        home: Namespace of the controller, empty if that is not known.
        reason: Why Redis was not read.
    """
    name = at.settings.sharding.lease_name
    if not home or at.kube is None:
        text = at.problem or "the controller's namespace is not known"
        return Store(StoreState.UNCHECKED, text, lease=name)
    try:
        found = await read_map(at.kube, home, name)
    except PortError as error:
        return Store(StoreState.UNCHECKED, str(error), home, name, error=error)
    text = reason if found else f"there is no Lease {home}/{name}-map"
    return Store(StoreState.UNCHECKED, text, home, name, found)


def log_by_status(request: NotificationRequest) -> ReadLog:
    """Return what the status shows as if it had been read from the log: no records, and no header."""
    view = LogView()
    for shown in request.status.attempts:
        view.learn(shown)
    plan = missing_plan(view, request.status)
    if plan is not None:
        view.plan = read_plan(plan)
    return ReadLog(None, (), view)


def held_back(request: NotificationRequest, owner: Owner) -> str:
    """Return why nothing comes before Redis is back, empty if attempts go on without it."""
    if owner.note is None:
        if owner.holder is None:
            return "Redis does not answer, and whether attempts are journaled is not known"
        return (
            "Redis does not answer, and attempts are not journaled (according to its shard's Lease)"
        )
    if complete(request, owner.note):
        return ""
    held = find_condition(request.status.conditions, LOG_UNAVAILABLE)
    return held.message if held is not None else ""


def complete(request: NotificationRequest, note: Note) -> bool:
    """Whether the status shows everything that was recorded, whoever owns the shard."""
    created = request.created
    marked = request.status.journal == note.name
    return marked or bool(created and created >= note.since + BORN_MARGIN)


def remarks(request: NotificationRequest, owner: Owner, reason: str) -> list[str]:
    """
    Return remarks for the reader of an answer that was made without the log.

    Args:
        request: The object.
        owner: Who works on it.
        reason: Why the log was not read, empty if it was.
    """
    out = [f"its log was not read, so this comes from its status alone: {reason}"] if reason else []
    mark, note = request.status.journal, owner.note
    if note is not None:
        out.append(
            f"attempts of its shard are journaled in the status since {format_time(note.since)}"
            f" (outage {note.name})"
        )
        if reason and not complete(request, note):
            out.append(
                "it is older than the outage: it continues only if its owner has read its log since it"
                " took the shard"
            )
    if mark and (note is None or note.name != mark):
        out.append(f"attempts were journaled in its status in the outage {mark}")
    return out
