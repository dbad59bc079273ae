"""
`syncer list`: which notifications there are, and which need attention; its rows serve the explorer too.

A row is made from the object alone and holds only the fields that are shown or filtered by: a few hundred
bytes, so that the explorer can keep all rows. Values that repeat (phases, namespaces, channels, errors) are
shared. Facts that only a log has (`Head`) are read for the rows that are shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from syncer.cli.access import access
from syncer.cli.exits import NOT_COMPARED, OK, SILENT, reason_of
from syncer.cli.installation import (
    StoreState,
    check_names,
    namespaces_of,
    read_holds,
    trusted_store,
)
from syncer.cli.output import Columns, Table, age, translated, write_remark
from syncer.cli.scan import Scan, objects, problem_of
from syncer.cli.times import moment_of, now_here
from syncer.kube.notification_requests import Unreadable
from syncer.ledger.answers import LogHead
from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.conditions import LOG_UNAVAILABLE, QUARANTINED, true_condition
from syncer.model.hold import Hold
from syncer.model.resource import SENT, TERMINAL_PHASES, NotificationRequest
from syncer.model.times import format_time
from syncer.rules.channel_state import State
from syncer.rules.holds import DROPPED, keep_back, on_channel
from syncer.rules.plan import given_up
from syncer.rules.text import cut

#: Characters kept of an error, a subject and an event; channels and attempts kept in one row.
_ERROR: Final = 200
_SUBJECT: Final = 120
EVENT: Final = 160
_CHANNELS: Final = 20
_TRIES: Final = 50
#: Channels that the column of receivers names.
_NAMED: Final = 2


class Channel(NamedTuple):
    """One channel of a notification as its status shows it; `due` is the next attempt, 0 without one."""

    name: str
    state: str
    due: int


class Try(NamedTuple):
    """
    One attempt as a status shows it.

    `sent` is false if the attempt was opened and nothing was sent. It is None if no attempt was to be made:
    a message that was superseded, dropped or too old is recorded as an attempt, although its receiver had
    no part in it.
    """

    channel: str
    at: int
    state: AttemptState
    error: str
    sent: bool | None


class Head(NamedTuple):
    """State of a log: number of unpublished records, -1 if not known; and whether it is illegible."""

    unsynced: int = -1
    unreadable: bool = False

    @classmethod
    def of(cls, head: LogHead) -> Head:
        """Return the state that the head of a log shows."""
        header = head.header
        unsynced = -1 if header is None else max(0, head.length - 1 - header.acked)
        return cls(unsynced, header is None and head.element is not None)


UNREAD: Final = Head()


class Placed(NamedTuple):
    """The operators' holds, and the time in Unix milliseconds."""

    holds: tuple[Hold, ...] = ()
    now: int = 0


@dataclass(slots=True, eq=False)
class Row:
    """
    One notification.

    Attributes:
        created: Unix milliseconds.
        phase: Phase in the status, empty before the first status.
        attempts: Number of attempts in the status; `unknown` of these have a result that is not known.
        annotated: Held by the hold annotation of its object.
        journal: Name of the outage in which its attempts were journaled, empty if none were.
        completed: When it ended, 0 before.
        lost: It failed, and at least one channel was neither delivered since nor dropped by an operator.
        event: The event that the gateway made it from, in its sender's words, cut; empty without one.
        listing: Number of the list that contained it last.
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
    lost: bool
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
        """When the next attempt is due according to the status, 0 if nothing is planned."""
        return min((c.due for c in self.channels if c.due), default=0)

    @property
    def failure(self) -> Try | None:
        """The latest attempt with an error on a channel that was not delivered, None if there is none."""
        delivered = {t.channel for t in self.tries if t.state is AttemptState.SUCCESS}
        failed = (t for t in self.tries if t.error and t.channel not in delivered)
        return max(failed, key=lambda t: t.at, default=None)

    @property
    def receivers(self) -> str:
        """Names of its channels; of many, the first ones and how many more."""
        names = [c.name for c in self.channels]
        more = [f"+{len(names) - _NAMED}"] if len(names) > _NAMED else []
        return ", ".join([*names[:_NAMED], *more])

    def held(self, placed: Placed) -> bool:
        """Whether a hold or the annotation keeps back the notification or one of its channels."""
        if self.finished or not (self.annotated or placed.holds):
            return False
        return self.annotated or keep_back(
            placed.holds, self, [(c.name, c.state) for c in self.channels], now=placed.now
        )

    def next(self, placed: Placed) -> str:
        """When the next attempt comes, in words; empty once the notification has ended."""
        if self.finished:
            return ""
        if self.held(placed):
            return "held"
        return "due" if self.due <= placed.now else f"in {age(self.due - placed.now)}"

    def states(self, placed: Placed, head: Head = UNREAD) -> set[str]:
        """The states of the row that a filter can ask for."""
        quarantined = self.quarantined or head.unreadable
        found = {
            "unsynced": head.unsynced > 0, "unknown": self.unknown > 0, "held": self.held(placed),
            "quarantined": quarantined, "journaled": bool(self.journal),
            "unfinished": not self.finished, "lost": self.lost,
        }  # fmt: skip
        found["attention"] = (
            quarantined
            or bool(self.unknown)
            or found["held"]
            or self.lost
            or self.phase == "Retrying"
        )
        return {name for name, is_so in found.items() if is_so}

    def notes(self, placed: Placed, head: Head = UNREAD) -> list[str]:
        """Remarks that deserve attention, the worst first."""
        last, late = self.failure, self.finished and not self.lost
        delivered = (t.at for t in self.tries if t.state is AttemptState.SUCCESS)
        at = format_time(max(delivered, default=self.completed), millis=False)
        said = [
            "quarantined" if self.quarantined or head.unreadable else "",
            "held" if self.held(placed) else "",
            "being deleted" if self.deleting else "",
            "journaled" if self.journal else "",
            "waits for the log" if self.waits_for_log else "",
            f"{self.unknown} unknown" if self.unknown else "",
            f"{head.unsynced} unsynced" if head.unsynced > 0 else "",
            "" if self.phase == SENT
            else f"{last.channel}: {translated(last.error)}" if last is not None
            else f"delivered later, recorded at {at}" if late else "",
        ]  # fmt: skip
        return list(filter(None, said))

    def as_json(self, placed: Placed, head: Head = UNREAD) -> dict[str, Any]:
        """Return the row as one JSON object; the keys are an interface."""
        last = self.failure
        return {
            "namespace": self.namespace, "name": self.name, "uid": self.uid, "phase": self.phase,
            "created": format_time(self.created), "priority": self.priority,
            "severity": self.severity or None, "subject": self.subject,
            "receivers": [c.name for c in self.channels], "next": format_time(self.due) or None,
            "attempts": self.attempts, "unsynced": None if head.unsynced < 0 else head.unsynced,
            "unknown": self.unknown, "quarantined": self.quarantined or head.unreadable,
            "held": self.held(placed), "journaled": self.journal or None,
            "waitsForLog": self.waits_for_log, "lost": self.lost,
            "lastError": last and {
                "channel": last.channel, "error": last.error, "at": format_time(last.at),
            },
        }  # fmt: skip


def columns_of(placed: Placed) -> Columns:
    """Return the columns of a table whose items are pairs of a row and its head."""
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


def row_of(
    request: NotificationRequest,
    share: Callable[[Any], Any] = lambda value: value,
    listing: int = 0,
) -> Row:
    """
    Return the row of an object.

    Args:
        request: The object.
        share: Returns one object for equal values, for a caller that keeps many rows.
        listing: Number of the list that contained it.
    """
    status = request.status

    def tried(attempt: Attempt) -> Try:
        unmade = attempt.failure is FailureClass.SUPERSEDED or bool(given_up(attempt.error))
        return Try(
            share(attempt.channel), attempt.ended or attempt.started, attempt.state,
            share(attempt.error[:_ERROR]),
            None if unmade else attempt.failure is not FailureClass.NOT_SENT,
        )  # fmt: skip

    channels = tuple(
        share(Channel(c.name, c.state, 0 if status.terminal else c.next_retry))
        for c in status.channels[:_CHANNELS]
    )
    last = {a.channel: a.error for a in status.attempts}
    lost = not status.channels or any(
        c.state not in {State.DELIVERED, State.SUPERSEDED, State.STANDBY, State.NOT_NEEDED}
        and not given_up(last.get(c.name, "")).startswith(DROPPED)
        for c in status.channels
    )
    return Row(
        share(request.namespace), request.name, request.uid, request.created, share(status.phase),
        request.priority, share(request.severity), share(request.type),
        request.spec().subject[:_SUBJECT], share(request.event[:EVENT]), status.total_attempts,
        status.uncertain, status.completed_at,
        lost and status.phase in TERMINAL_PHASES - {SENT}, request.hold is not None,
        true_condition(status.conditions, QUARANTINED) is not None, request.deleting,
        true_condition(status.conditions, LOG_UNAVAILABLE) is not None,
        share(status.journal or ""), share(channels),
        tuple(map(tried, status.attempts[-_TRIES:])), listing,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query:
    """
    The conditions of a list; a row must meet each that is set.

    Attributes:
        phases: Any of these, in lower case; `none` for no phase yet.
        states: Any of `Row.states`.
        unfinished: Only what is still to be sent.
        receivers: Any of these patterns of channels, or of receivers.
        since: Unix milliseconds: created, or attempted on such a channel, at this time or later.
        event: A part of the event that it was made from, in its sender's words.
    """

    phases: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    unfinished: bool = False
    receivers: tuple[str, ...] = ()
    since: int = 0
    event: str = ""

    def matches(self, row: Row, placed: Placed, head: Head = UNREAD) -> bool:
        """Whether a row meets every condition."""
        return (
            (not self.phases or (row.phase.lower() or "none") in self.phases)
            and not (self.unfinished and row.finished)
            and self.event[:EVENT] in row.event
            and (not self.states or not row.states(placed, head).isdisjoint(self.states))
            and self._attempted(row)
        )

    def _attempted(self, row: Row) -> bool:
        """Whether a row meets the conditions on receivers and time."""
        if any(t.at >= self.since and on_channel(t.channel, self.receivers) for t in row.tries):
            return True
        names = [*(c.name for c in row.channels), *(t.channel for t in row.tries)]
        known = not self.receivers or any(on_channel(name, self.receivers) for name in names)
        return known and row.created >= self.since


#: Rows that are collected and sorted, the newest first, before they are written.
_MOST = 10_000


async def run(options: argparse.Namespace) -> int:
    """List the matching notifications; returns the exit code."""
    unread, silent, now = list[str](), "", now_here()
    async with access(options) as at:
        try:
            store = await trusted_store(at, new=True)
            silent, now = store.text if store.state is StoreState.NEW else "", await at.now()
        except SILENT as error:
            silent = reason_of(error)
            if "unsynced" in options.state or at.kube is None:
                # `unsynced` is known only from logs; without the API server there is nothing to list.
                raise
            write_remark(f"logs are not read, the rows come from the objects alone: {silent}")
        holds, problem = await read_holds(at)
        if problem:
            write_remark(f"operators' holds are not shown: {problem}")
        placed = Placed(holds, now)
        wanted = Query(
            phases=tuple(options.phase or ()), states=options.state, unfinished=options.unfinished,
            receivers=tuple(options.receiver or ()), event=(options.event or "").strip(),
            since=moment_of(options.since, "--since", now) if options.since else 0,
        )  # fmt: skip
        table = Table(
            columns_of(placed), json=options.json,
            as_json=lambda pair: pair[0].as_json(placed, pair[1]),
        )  # fmt: skip
        namespaces, scan, count = namespaces_of(at, options), Scan(), 0
        newest: list[tuple[Row, Head]] = []
        async for page in objects(at, scan, namespaces):
            unread += [f"{o.key}: {problem_of(o)}" for o in page if isinstance(o, Unreadable)]
            rows = [row_of(o) for o in page if not isinstance(o, Unreadable)]
            found = [] if silent else await at.log.read_headers([row.uid for row in rows])
            heads = [Head.of(head) for head in found] or [UNREAD] * len(rows)
            some = [p for p in zip(rows, heads, strict=True) if wanted.matches(p[0], placed, p[1])]
            count += len(some)
            newest = sorted([*newest, *some], key=lambda pair: -pair[0].created)
            if len(newest) >= _MOST:
                table.write(newest)
                newest = []
        table.write(newest)
        if not count:
            among = f" in {', '.join(namespaces)}" if namespaces else ""
            write_remark(f"none of {scan.objects} notification(s){among} matches")
        for text in unread:
            write_remark(f"not listed: {text}")
        await check_names(at, options, scan)
    return NOT_COMPARED if unread or silent else OK
