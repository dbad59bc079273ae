"""
Rows of a list of notifications, page by page; nothing is claimed.

Only headers and lengths of logs are read: a list shows what status and header hold.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from syncer.cli.access import Access
from syncer.cli.attempts import last_failure, on_channel, translated
from syncer.cli.holding import is_held
from syncer.cli.output import Progress, age
from syncer.cli.overview import next_due
from syncer.cli.scan import Problem, Scan, objects
from syncer.cli.screen import cut
from syncer.ledger.answers import LogHead
from syncer.model.conditions import LOG_UNAVAILABLE, QUARANTINED, true_condition
from syncer.model.event import EVENT, event_label, event_text
from syncer.model.hold import Hold
from syncer.model.resource import NotificationRequest, Status
from syncer.model.times import format_time

#: A log that was not read.
_UNREAD: Final = LogHead(None, 0, -2)
HEAD: Final = (
    "NOTIFICATION", "PHASE", "AGE", "SEVERITY", "RECEIVERS", "NEXT", "SUBJECT", "NOTES",
)  # fmt: skip
FLEXIBLE: Final = {"NOTIFICATION": 12, "RECEIVERS": 8, "SUBJECT": 8, "SEVERITY": 4, "NOTES": 10}
#: Receivers that a row names.
_NAMED: Final = 2
#: Columns of a subject.
_SUBJECT: Final = 60
COLOURS: Final = {
    "Sent": "green", "Failed": "red", "PartiallySent": "red", "Retrying": "yellow",
    "Sending": "yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """
    One notification.

    Attributes:
        unsynced: Records of its log that are not marked as published; -1 where it has none.
        quarantined: Its log cannot be read, or the self-audit holds it.
        held: An operator holds it back, or a channel of it.
    """

    request: NotificationRequest
    unsynced: int
    quarantined: bool
    held: bool = False

    def cells(self, now: int) -> tuple[str, ...]:
        """Return the row as cells of a table."""
        r, s = self.request, self.request.status
        due = next_due(r)
        coming = "" if s.terminal else "due" if due <= now else f"in {age(due - now)}"
        return (
            r.key, s.phase or "-", age(now - r.created), r.severity or "-", self.receivers or "-",
            "held" if self.held else coming or "-", cut(r.spec().subject, _SUBJECT),
            ", ".join(self.notes),
        )  # fmt: skip

    @property
    def receivers(self) -> str:
        """Its channels, the first of many."""
        names = [c.name for c in self.request.status.channels]
        more = [f"+{len(names) - _NAMED}"] if len(names) > _NAMED else []
        return ", ".join([*names[:_NAMED], *more])

    @property
    def states(self) -> set[str]:
        """The states that `--state` can ask for."""
        status = self.request.status
        found = {
            "unsynced": self.unsynced > 0, "unknown": status.uncertain > 0, "held": self.held,
            "quarantined": self.quarantined, "journaled": status.journal is not None,
        }  # fmt: skip
        return {name for name, is_so in found.items() if is_so}

    @property
    def notes(self) -> list[str]:
        """What deserves attention, the worst first."""
        status = self.request.status
        notes = ["quarantined"] if self.quarantined else []
        notes += ["held"] if self.held else []
        notes += ["journaled"] if status.journal else []
        notes += ["waits for the log"] if waits_for_log(status) else []
        notes += [f"{status.uncertain} unknown"] if status.uncertain else []
        notes += [f"{self.unsynced} unsynced"] if self.unsynced > 0 else []
        if status.phase != "Sent" and (attempt := last_failure(status.attempts)) is not None:
            notes.append(f"{attempt.channel}: {translated(attempt.error)}")
        return notes

    def as_json(self) -> dict[str, Any]:
        """Return the row as one JSON object; the keys are an interface."""
        r, s = self.request, self.request.status
        return {
            "namespace": r.namespace,
            "name": r.name,
            "uid": r.uid,
            "phase": s.phase,
            "created": format_time(r.created),
            "priority": r.priority,
            "severity": r.severity or None,
            "subject": r.spec().subject,
            "receivers": [c.name for c in s.channels],
            "next": format_time(next_due(r)) or None,
            "attempts": s.total_attempts,
            "unsynced": None if self.unsynced < 0 else self.unsynced,
            "unknown": s.uncertain,
            "quarantined": self.quarantined,
            "held": self.held,
            "journaled": s.journal,
            "waitsForLog": waits_for_log(s),
            "lastError": None
            if (last := last_failure(s.attempts)) is None
            else {"channel": last.channel, "error": last.error, "at": format_time(last.ended)},
        }


def waits_for_log(status: Status) -> bool:
    """Whether a due attempt is held because the log is away, as the status shows it."""
    return true_condition(status.conditions, LOG_UNAVAILABLE) is not None


@dataclass(frozen=True, slots=True)
class Filter:
    """
    Conditions of a list; a row must meet each that is set.

    Attributes:
        phases: Any of these, `none` for no phase yet; empty for all.
        name: Pattern of the name, `*` and `?`.
        older: Milliseconds of age, at least.
        states: Any of `Row.states`; empty for all.
        unfinished: Only what is still to be sent.
        channel: Pattern of a channel.
        receiver: Pattern of a receiver.
        error: Part of the error of an attempt, on that channel and since then.
        since: Created, or attempted on that channel, at this time or later; Unix milliseconds.
        event: What it was made of, in its sender's words.
    """

    phases: tuple[str, ...] = ()
    name: str = ""
    older: int = 0
    states: tuple[str, ...] = ()
    unfinished: bool = False
    channel: str = ""
    receiver: str = ""
    error: str = ""
    since: int = 0
    event: str = ""

    @property
    def labels(self) -> str:
        """The selector by which the API server finds what may match; empty for all."""
        return f"{EVENT}={event_label(self.event)}" if self.event else ""

    def matches(self, row: Row, now: int) -> bool:
        """Whether a row meets every condition."""
        request, status = row.request, row.request.status
        return (
            (not self.phases or (status.phase.lower() or "none") in self.phases)
            and (not self.name or fnmatchcase(request.name, self.name))
            and (not self.event or request.event == event_text(self.event))
            and now - request.created >= self.older
            and not (self.unfinished and status.terminal)
            and (not self.states or not row.states.isdisjoint(self.states))
            and self._attempted(request)
        )

    def _attempted(self, request: NotificationRequest) -> bool:
        """Whether its channels and attempts are those that are wanted."""
        if not (self.channel or self.receiver or self.error or self.since):
            return True
        status = request.status
        attempts = [
            a for a in status.attempts if on_channel(a.channel, self.channel, self.receiver)
        ]
        recent = [a for a in attempts if (a.ended or a.started) >= self.since]
        if self.error:
            part = self.error.casefold()
            return any(part in a.error.casefold() for a in recent)
        on = attempts or any(
            on_channel(c.name, self.channel, self.receiver) for c in status.channels
        )
        anywhere = not (self.channel or self.receiver)
        return bool(recent) or (bool(on or anywhere) and request.created >= self.since)


async def rows(
    at: Access,
    wanted: Filter,
    namespaces: Sequence[str],
    progress: Progress,
    *,
    now: int,
    unread: list[str],
    holds: Sequence[Hold] = (),
    silent: bool = False,
) -> AsyncGenerator[list[Row], None]:
    """
    List matching rows, page by page.

    Args:
        at: Open connections.
        wanted: Which rows.
        namespaces: Only these; empty for all.
        progress: Counts each object.
        now: Redis time in milliseconds.
        unread: Gets a line for each object that exists and cannot be shown.
        holds: All on record.
        silent: Redis does not answer, and is not asked: rows are by the objects alone.

    Raises:
        PortError: a server does not answer, or refuses.
    """
    async with aclosing(objects(at, Scan(), namespaces, labels=wanted.labels)) as pages:
        async for page in pages:
            unread += [f"{o.key}: {o.text}" for o in page if isinstance(o, Problem)]
            requests = [o for o in page if not isinstance(o, Problem)]
            uids = [r.uid for r in requests]
            heads = [_UNREAD] * len(uids) if silent else await at.log.read_headers(uids)
            found = []
            for request, head in zip(requests, heads, strict=True):
                row = row_of(request, head, holds, now=now)
                if wanted.matches(row, now):
                    found.append(row)
            progress.step(len(page))
            yield found


def row_of(
    request: NotificationRequest,
    head: LogHead,
    holds: Sequence[Hold],
    *,
    now: int,
) -> Row:
    """
    Return the row of an object and its log.

    Args:
        request: The object.
        head: Of its log.
        holds: All on record.
        now: Redis time in milliseconds.
    """
    quarantined = true_condition(request.status.conditions, QUARANTINED) is not None
    unsynced, unreadable = unpublished(head)
    held = request.hold is not None or is_held(request, holds, now=now)
    return Row(request, unsynced, quarantined or unreadable, held)


def unpublished(head: LogHead) -> tuple[int, bool]:
    """How many records of a log are not published, -1 if unknown, and whether it is illegible."""
    if head.header is None:
        return -1, head.element is not None
    return max(0, head.length - 1 - head.header.acked), False
