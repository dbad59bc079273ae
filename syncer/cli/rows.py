"""
`syncer list`: which notifications there are, and which need attention; its rows serve the explorer too.

A row is made of the object alone, and holds what is shown and what a filter needs: a few hundred bytes, so
that the explorer keeps all of them. What repeats (phases, namespaces, channels, errors) is shared. What
only a log says, its head, is read for the rows that are shown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple, TypeVar

from syncer.cli.access import access
from syncer.cli.exits import NOT_COMPARED, OK, SILENT, reason_of
from syncer.cli.installation import (
    StoreState,
    namespaces_of,
    read_holds,
    trusted_store,
)
from syncer.cli.output import Columns, Table, age, cut, translated, write_remark
from syncer.cli.scan import Scan, objects, problem_of
from syncer.cli.times import moment_of, now_here
from syncer.kube.notification_requests import Unreadable
from syncer.ledger.answers import LogHead
from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.conditions import LOG_UNAVAILABLE, QUARANTINED, true_condition
from syncer.model.event import EVENT, event_label, event_text
from syncer.model.hold import Hold
from syncer.model.resource import TERMINAL_PHASES, NotificationRequest
from syncer.model.times import format_time
from syncer.rules.holds import keep_back, on_channel

T = TypeVar("T")

#: Characters that are kept of an error, a subject and an event; channels and attempts of one row.
_ERROR: Final = 200
_SUBJECT: Final = 120
_EVENT: Final = 160
_CHANNELS: Final = 20
_TRIES: Final = 50
#: Values that are shared; what comes after them is not.
_SHARED: Final = 8_192
#: Characters of a filter.
_TEXT: Final = 253
#: Receivers that a row names.
_NAMED: Final = 2


class Channel(NamedTuple):
    """One channel of a notification as its status shows it; `due` is the next attempt, 0 without one."""

    name: str
    state: str
    due: int


class Try(NamedTuple):
    """One attempt as a status shows it; `sent` is false where it was only opened, None where superseded."""

    channel: str
    at: int
    state: AttemptState
    error: str
    sent: bool | None


class Head(NamedTuple):
    """Of a log: records that are not published, -1 where none is known; and whether it is illegible."""

    unsynced: int = -1
    unreadable: bool = False

    @classmethod
    def of(cls, head: LogHead) -> Head:
        """Read the head of a log."""
        header = head.header
        unsynced = -1 if header is None else max(0, head.length - 1 - header.acked)
        return cls(unsynced, header is None and head.element is not None)


UNREAD: Final = Head()


class Placed(NamedTuple):
    """What operators hold, and the time in Unix milliseconds."""

    holds: tuple[Hold, ...] = ()
    now: int = 0


@dataclass(slots=True, eq=False)
class Row:
    """
    One notification.

    Attributes:
        created: Unix milliseconds.
        phase: Of the status, empty before there is one.
        attempts: How many the status counts; `unknown` of these have a result that is not known.
        annotated: Its author holds it.
        journal: The outage in which its attempts were journaled, empty without one.
        completed: When it ended, 0 before.
        event: What the gateway made it of, in its sender's words, cut; empty without one.
        listing: Number of the list that has shown it last.
    """

    namespace: str
    name: str
    uid: str
    created: int
    phase: str
    priority: str
    severity: str
    type: str
    subject: str
    event: str
    attempts: int
    unknown: int
    completed: int
    annotated: bool
    quarantined: bool
    deleting: bool
    waits_for_log: bool
    journal: str
    channels: tuple[Channel, ...]
    tries: tuple[Try, ...]
    listing: int = 0

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def finished(self) -> bool:
        """Whether nothing more is sent."""
        return self.phase in TERMINAL_PHASES

    @property
    def due(self) -> int:
        """When the next attempt is due by the status, 0 if nothing is planned."""
        return min((c.due for c in self.channels if c.due), default=0)

    @property
    def failure(self) -> Try | None:
        """The latest attempt with an error, None if there is none."""
        return max((t for t in self.tries if t.error), key=lambda t: t.at, default=None)

    @property
    def receivers(self) -> str:
        """Its channels, the first of many."""
        names = [c.name for c in self.channels]
        more = [f"+{len(names) - _NAMED}"] if len(names) > _NAMED else []
        return ", ".join([*names[:_NAMED], *more])

    def held(self, placed: Placed) -> bool:
        """Whether an operator, or its annotation, holds back a notification or a channel of it."""
        if self.finished or not (self.annotated or placed.holds):
            return False
        channels = [(c.name, c.state) for c in self.channels]
        return self.annotated or keep_back(placed.holds, self, channels, now=placed.now)

    def next(self, placed: Placed) -> str:
        """When the next attempt comes, in words; empty once it has ended."""
        if self.finished:
            return ""
        if self.held(placed):
            return "held"
        return "due" if self.due <= placed.now else f"in {age(self.due - placed.now)}"

    def states(self, placed: Placed, head: Head = UNREAD) -> set[str]:
        """The states that a filter can ask for."""
        quarantined = self.quarantined or head.unreadable
        found = {
            "unsynced": head.unsynced > 0, "unknown": self.unknown > 0, "held": self.held(placed),
            "quarantined": quarantined, "journaled": bool(self.journal),
            "unfinished": not self.finished,
        }  # fmt: skip
        found["attention"] = (
            quarantined
            or bool(self.unknown)
            or found["held"]
            or self.phase in {"Failed", "PartiallySent", "Retrying"}
        )
        return {name for name, is_so in found.items() if is_so}

    def notes(self, placed: Placed, head: Head = UNREAD) -> list[str]:
        """What deserves attention, the worst first."""
        notes = ["quarantined"] if self.quarantined or head.unreadable else []
        notes += ["held"] if self.held(placed) else []
        notes += ["being deleted"] if self.deleting else []
        notes += ["journaled"] if self.journal else []
        notes += ["waits for the log"] if self.waits_for_log else []
        notes += [f"{self.unknown} unknown"] if self.unknown else []
        notes += [f"{head.unsynced} unsynced"] if head.unsynced > 0 else []
        if self.phase != "Sent" and (last := self.failure) is not None:
            notes.append(f"{last.channel}: {translated(last.error)}")
        return notes

    def as_json(self, placed: Placed, head: Head = UNREAD) -> dict[str, Any]:
        """Return the row as one JSON object; the keys are an interface."""
        last = self.failure
        error = last and {
            "channel": last.channel, "error": last.error, "at": format_time(last.at),
        }  # fmt: skip
        return {
            "namespace": self.namespace, "name": self.name, "uid": self.uid, "phase": self.phase,
            "created": format_time(self.created), "priority": self.priority,
            "severity": self.severity or None, "subject": self.subject,
            "receivers": [c.name for c in self.channels], "next": format_time(self.due) or None,
            "attempts": self.attempts, "unsynced": None if head.unsynced < 0 else head.unsynced,
            "unknown": self.unknown, "quarantined": self.quarantined or head.unreadable,
            "held": self.held(placed), "journaled": self.journal or None,
            "waitsForLog": self.waits_for_log, "lastError": error,
        }  # fmt: skip


def columns_of(placed: Placed) -> Columns:
    """Return the columns of a list of rows, each with its head."""
    return {
        "NOTIFICATION": lambda pair: pair[0].key,
        "PHASE": lambda pair: pair[0].phase or "-",
        "AGE": lambda pair: age(placed.now - pair[0].created),
        "SEVERITY": lambda pair: pair[0].severity or "-",
        "RECEIVERS": lambda pair: pair[0].receivers or "-",
        "NEXT": lambda pair: pair[0].next(placed) or "-",
        "SUBJECT": lambda pair: cut(pair[0].subject, 60),
        "NOTES": lambda pair: ", ".join(pair[0].notes(placed, pair[1])),
    }


class Position(NamedTuple):
    """Where a row stands among all: by its age, then by its name."""

    created: int
    namespace: str
    name: str

    @property
    def token(self) -> str:
        """Its text in a page's address."""
        return f"{self.created}.{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Read a token, None if it is none."""
        created, _, key = text.partition(".")
        namespace, _, name = key.partition("/")
        if not (created.isascii() and created.isdigit() and len(created) <= 15 and name):
            return None
        return cls(int(created), namespace, name)


def position_of(row: Row) -> Position:
    """Where a row stands."""
    return Position(row.created, row.namespace, row.name)


class RowMaker:
    """Makes rows of objects, and shares what repeats."""

    def __init__(self) -> None:
        """Nothing is shared yet."""
        self._shared: dict[Any, Any] = {}

    def row(self, request: NotificationRequest, listing: int = 0) -> Row:
        """Return the row of an object."""
        status = request.status
        channels = tuple(
            self._share(Channel(c.name, c.state, 0 if status.terminal else c.next_retry))
            for c in status.channels[:_CHANNELS]
        )
        return Row(
            sys.intern(request.namespace), request.name, request.uid, request.created,
            sys.intern(status.phase), request.priority, self._share(request.severity),
            self._share(request.type), request.spec().subject[:_SUBJECT],
            self._share(request.event[:_EVENT]), status.total_attempts, status.uncertain,
            status.completed_at, request.hold is not None,
            true_condition(status.conditions, QUARANTINED) is not None, request.deleting,
            true_condition(status.conditions, LOG_UNAVAILABLE) is not None,
            sys.intern(status.journal or ""), self._share(channels),
            tuple(self._try(a) for a in status.attempts[-_TRIES:]), listing,
        )  # fmt: skip

    def _try(self, attempt: Attempt) -> Try:
        error = self._share(attempt.error[:_ERROR])
        superseded = attempt.failure is FailureClass.SUPERSEDED
        sent = None if superseded else attempt.failure is not FailureClass.NOT_SENT
        channel = self._share(attempt.channel)
        return Try(channel, attempt.ended or attempt.started, attempt.state, error, sent)

    def _share(self, value: T) -> T:
        if len(self._shared) < _SHARED:
            return self._shared.setdefault(value, value)  # type: ignore[no-any-return]  # of its own type
        return self._shared.get(value, value)  # type: ignore[no-any-return]  # likewise


#: What a page can be limited to besides phases, with the words that it shows.
STATES: Final = {
    "attention": "needs attention",
    "unfinished": "not finished",
    "held": "held",
    "quarantined": "quarantined",
    "unknown": "result unknown",
    "journaled": "journaled",
}
PHASES: Final = ("none", "pending", "sending", "retrying", "sent", "partiallysent", "failed")


@dataclass(frozen=True, slots=True)
class Query:
    """
    The conditions of a list; a row must meet each that is set.

    Attributes:
        phases: Any of `PHASES`.
        states: Any of `Row.states`.
        unfinished: Only what is still to be sent.
        receivers: Any of these patterns of channels, or of receivers.
        since: Created, or attempted there, at this time or later; Unix milliseconds.
        before: Created before this time; 0 for any.
        event: What it was made of, in its sender's words.
        text: In the name, a channel, an error, the subject or what it was made of, in any case.
        namespace: Of the object.
        after: Only what stands behind this in the list, None from its beginning.
    """

    phases: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    unfinished: bool = False
    receivers: tuple[str, ...] = ()
    since: int = 0
    before: int = 0
    event: str = ""
    text: str = ""
    namespace: str = ""
    after: Position | None = None

    @property
    def labels(self) -> str:
        """The selector by which the API server finds what may match; empty for all."""
        return f"{EVENT}={event_label(self.event)}" if self.event else ""

    def matches(self, row: Row, placed: Placed, head: Head = UNREAD) -> bool:
        """Whether a row meets every condition."""
        return (
            (not self.namespace or row.namespace == self.namespace)
            and (not self.phases or (row.phase.lower() or "none") in self.phases)
            and not (self.unfinished and row.finished)
            and (not self.before or row.created < self.before)
            and (not self.event or row.event == event_text(self.event)[:_EVENT])
            and (not self.states or not row.states(placed, head).isdisjoint(self.states))
            and self._attempted(row)
            and (not self.text or self._has_text(row))
        )

    def _attempted(self, row: Row) -> bool:
        """Whether its channels and attempts are those that are wanted."""
        if any(t.at >= self.since and on_channel(t.channel, self.receivers) for t in row.tries):
            return True
        names = [*(c.name for c in row.channels), *(t.channel for t in row.tries)]
        known = not self.receivers or any(on_channel(name, self.receivers) for name in names)
        return known and row.created >= self.since

    def _has_text(self, row: Row) -> bool:
        part = self.text.casefold()
        named, errors = (c.name for c in row.channels), (t.error for t in row.tries)
        return (
            # Names of objects are in lower case.
            part in row.key
            or ("*" in part and fnmatchcase(row.name, part))
            # Of a longer one so much is compared as is kept.
            or any(part[:_EVENT] in t.casefold() for t in (row.subject, row.event, *named, *errors))
        )


def query_of(words: Mapping[str, str], now: int) -> Query:
    """Read the query of an address; parts that make no sense are ignored."""

    def word(name: str, known: Iterable[str] | None = None) -> str:
        found = words.get(name, "").strip()[:_TEXT]
        return found if known is None else found.lower() if found.lower() in known else ""

    phase, state = word("phase", PHASES), word("state", STATES)
    span = RANGES.get(word("since"), 0)
    return Query(
        phases=(phase,) if phase else (), states=(state,) if state else (),
        receivers=(word("receiver"),) if word("receiver") else (), text=word("q"),
        namespace=word("namespace"), since=now - span if span else 0,
        after=Position.parse(words.get("after", "")[:600]),
    )  # fmt: skip


#: Ranges of time that a page offers, in milliseconds.
RANGES: Final = {
    "15m": 900_000, "1h": 3_600_000, "6h": 21_600_000, "1d": 86_400_000, "7d": 604_800_000,
}  # fmt: skip


#: Of the newest at most so many are shown.
_MOST = 10_000


async def run(options: argparse.Namespace) -> int:
    """List what matches; returns the exit code."""
    unread: list[str] = []
    async with access(options) as at:
        placed, compared, silent = Placed(now=now_here()), True, ""
        try:
            store = await trusted_store(at, new=True)
            compared, now = store.state is not StoreState.NEW, await at.now()
            holds, problem = await read_holds(at)
            placed = Placed(holds, now)
            if problem:
                write_remark(f"operators' holds are not shown: {problem}")
        except SILENT as error:
            silent = reason_of(error)
            if "unsynced" in options.state or at.kube is None:
                # What is asked for is in the logs.
                raise
            write_remark(f"logs are not read, the rows come from the objects alone: {silent}")
        wanted = Query(
            phases=tuple(options.phase or ()), states=options.state, unfinished=options.unfinished,
            receivers=tuple(options.receiver or ()), event=(options.event or "").strip(),
            since=moment_of(options.since, "--since", placed.now) if options.since else 0,
        )  # fmt: skip
        table = Table(
            columns_of(placed), json=options.json,
            as_json=lambda pair: pair[0].as_json(placed, pair[1]),
        )  # fmt: skip
        namespaces = namespaces_of(at, options)
        count, maker, scan = 0, RowMaker(), Scan()
        newest: list[tuple[Row, Head]] = []
        async with aclosing(objects(at, scan, namespaces, labels=wanted.labels)) as pages:
            async for page in pages:
                unread += [f"{o.key}: {problem_of(o)}" for o in page if isinstance(o, Unreadable)]
                rows = [maker.row(o) for o in page if not isinstance(o, Unreadable)]
                heads = [UNREAD] * len(rows)
                if not silent:
                    found = await at.log.read_headers([row.uid for row in rows])
                    heads = [Head.of(head) for head in found]
                some = [
                    pair
                    for pair in zip(rows, heads, strict=True)
                    if wanted.matches(pair[0], placed, pair[1])
                ]
                count += len(some)
                if options.unfinished:
                    newest = sorted([*newest, *some], key=lambda pair: -pair[0].created)[:_MOST]
                else:
                    table.write(some)
        table.write(newest)
        if not count:
            among = f" in {', '.join(namespaces)}" if namespaces else ""
            write_remark(f"none of {scan.objects} notification(s){among} matches")
            if options.event:
                write_remark("--event is an event's whole text; `explain` finds one by a part")
        for text in unread:
            write_remark(f"not listed: {text}")
    return NOT_COMPARED if unread or silent or not compared else OK
