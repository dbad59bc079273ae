"""
Counts over all notifications: how many need a person, and how each receiver is doing.

Statuses are read page by page, and only counts are kept. A receiver is bad since the first failure after
its last success, whichever notifications these belong to. A single attempt that was not sent says nothing
about the receiver; several do, for example if its credential is missing or its host name unknown. Dropped
messages, and attempts whose sender ended before it recorded the result, say nothing about it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from syncer.cli.access import Access, access
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK, SILENT, reason_of
from syncer.cli.installation import namespaces_of
from syncer.cli.output import Columns, Table, age, translated, write_remark
from syncer.cli.rows import Placed, Row, row_of
from syncer.cli.scan import problem_of, read_logs, walk
from syncer.cli.times import moment_of, now_here
from syncer.kube.notification_requests import Unreadable
from syncer.ledger.reading import read_log
from syncer.model.attempt import AttemptState
from syncer.model.record import BY_OPERATOR
from syncer.model.times import format_time
from syncer.rules.channel_state import NOTHING_DUE
from syncer.rules.merge import SENDER_ENDED, WRITTEN_AHEAD

#: So many attempts in a row that were not sent count as failures of the receiver; fewer do not.
UNSENT: Final = 3
#: Milliseconds after its due time from which a notification counts as stuck.
LATE: Final = 60_000
#: Channels that are counted individually; a route may name as many as there are recipients.
MOST: Final = 500
#: Prefixes of errors that say nothing about a receiver, because its answer was not seen.
_UNSEEN: Final = (SENDER_ENDED, WRITTEN_AHEAD, BY_OPERATOR)
#: Times of failures that are kept for a channel, to determine since when it fails.
_KEPT: Final = 1000


@dataclass(slots=True)
class Receiver:
    """
    One channel over all notifications.

    Attributes:
        attempts: Attempts since the requested time; `failed` and `unknown` are among them.
        waiting: Notifications not finished on this channel; `oldest` is the one that waits longest.
        success: When it last accepted a message, 0 if that is not known.
        failures: Times of failed attempts; `unsent` has those of attempts that were not sent.
        error: Error of the newest of these.
        skip: Why due attempts are not made, from the log of `oldest`; empty if they are.
    """

    channel: str
    attempts: int = 0
    failed: int = 0
    unknown: int = 0
    waiting: int = 0
    oldest: Row | None = None
    success: int = 0
    failures: list[int] = field(default_factory=list)
    unsent: list[int] = field(default_factory=list)
    error: str = ""
    skip: str = ""

    @property
    def since(self) -> int:
        """When it began to fail, 0 if its newest attempt was a success."""
        unsent = [at for at in self.unsent if at > self.success]
        times = self.failures + (unsent if len(unsent) >= UNSENT else [])
        return min((at for at in times if at > self.success), default=0)

    def as_json(self) -> dict[str, Any]:
        """Return the receiver as one JSON object; the keys are an interface."""
        return {
            "channel": self.channel, "badSince": format_time(self.since) or None,
            "attempts": self.attempts, "failed": self.failed, "unknown": self.unknown,
            "waiting": self.waiting, "lastSuccess": format_time(self.success) or None,
            "lastError": self.error or None, "notTried": self.skip or None,
        }  # fmt: skip


def columns_of(now: int) -> Columns:
    """Return the columns of a list of receivers; `now` is in Unix milliseconds."""
    return {
        "RECEIVER": lambda r: r.channel,
        "STATE": lambda r: f"bad for {age(now - r.since)}" if r.since else "good",
        "ATTEMPTS": lambda r: str(r.attempts),
        "FAILED": lambda r: str(r.failed),
        "UNKNOWN": lambda r: str(r.unknown),
        "WAITING": lambda r: str(r.waiting),
        "SUCCESS": lambda r: f"{age(now - r.success)} ago" if r.success else "-",
        "LAST ERROR": lambda r: "; ".join(filter(None, [r.skip, r.error if r.since else ""])),
    }


@dataclass(slots=True)
class Overview:
    """
    Counts over all notifications; attempts count since `since`, in Unix milliseconds.

    Attributes:
        states: Number of notifications in each of `Row.states`; also `failed`, lost since then, and
            `stuck`, overdue although not held.
    """

    placed: Placed
    since: int
    notifications: int = 0
    states: Counter[str] = field(default_factory=Counter)
    receivers: dict[str, Receiver] = field(default_factory=dict)

    @property
    def bad(self) -> list[Receiver]:
        """Receivers that fail, the one that has been failing longest first."""
        return sorted((r for r in self.receivers.values() if r.since), key=lambda r: r.since)

    @property
    def worst_first(self) -> list[Receiver]:
        """All receivers: the bad ones, then the others by name."""
        good = (r for r in self.receivers.values() if not r.since)
        return [*self.bad, *sorted(good, key=lambda r: r.channel)]

    def take(self, row: Row) -> None:
        """Count one notification."""
        states, overdue = row.states(self.placed), self.placed.now - LATE
        self.notifications += 1
        self.states.update(states)
        self.states["failed"] += row.lost and row.completed >= self.since
        waits = "unfinished" in states and "held" not in states
        self.states["stuck"] += waits and (row.due or row.created) < overdue
        for channel in row.channels:
            found = self._of(channel.name)
            if not (row.finished or channel.state in NOTHING_DUE):
                found.waiting += 1
                found.oldest = min(found.oldest or row, row, key=lambda r: r.created)
        for one in (t for t in row.tries if t.sent is not None):
            found, late = self._of(one.channel), one.at < self.since
            found.attempts += not late
            found.unknown += one.state is AttemptState.UNKNOWN and not late
            found.failed += bool(one.sent) and one.state is AttemptState.FAILED and not late
            if one.state is AttemptState.SUCCESS:
                found.success = max(found.success, one.at)
            elif one.state is not AttemptState.INTENT and not one.error.startswith(_UNSEEN):
                times = found.failures if one.sent else found.unsent
                times.append(one.at)
                counted = one.sent or len(times) >= UNSENT
                if counted and one.at == max(found.failures + found.unsent):
                    found.error = translated(one.error)
                if len(times) > _KEPT:
                    times.sort()
                    # Keep the oldest that count (since when it fails) and the newest (its error).
                    times[:-1] = [t for t in times[:-1] if t > found.success][: _KEPT - 1]

    def _of(self, channel: str) -> Receiver:
        """Return the counts of a channel; those of channels beyond the limit are not kept."""
        found = self.receivers.get(channel) or Receiver(channel)
        if len(self.receivers) < MOST:
            self.receivers[channel] = found
        return found


async def run(options: argparse.Namespace) -> int:
    """Show every receiver, the bad ones first; returns the exit code."""
    now, silent = now_here(), ""
    async with access(options) as at:
        counts = Overview(Placed(now=now), moment_of(options.since, "--since", now))
        unread = await count(at, counts, namespaces_of(at, options))
        try:
            await read_skips(at, counts)
        except SILENT as error:
            silent = reason_of(error)
            write_remark(
                f"logs could not be read, so the reasons why attempts wait are missing: {silent}"
            )
    Table(columns_of(now), json=options.json).write(counts.worst_first)
    if len(counts.receivers) >= MOST:
        write_remark(f"only {MOST} receivers are counted")
    for text in unread:
        write_remark(f"not counted: {text}")
    if not counts.receivers:
        write_remark(f"none of {counts.notifications} notification(s) names a receiver")
    return NOT_COMPARED if unread or silent else DIFFERENT if counts.bad else OK


async def count(at: Access, counts: Overview, namespaces: Sequence[str]) -> list[str]:
    """
    Count every notification; returns a line for each that cannot be read.

    Args:
        at: Open connections.
        counts: The counts, updated in place.
        namespaces: Only these; empty for all.

    Raises:
        ConfigError: the API server is not available.
        PortError: the API server does not answer, or refuses.
    """
    unread = []
    async for one in walk(at, namespaces):
        if isinstance(one, Unreadable):
            unread.append(f"{one.key}: {problem_of(one)}")
        else:
            counts.take(row_of(one))
    return unread


async def read_skips(at: Access, counts: Overview) -> None:
    """Read why the oldest notification of each receiver is not tried: a breaker, a credential, a hold."""
    waiting = [(r, r.oldest.uid) for r in counts.receivers.values() if r.oldest is not None]
    logs = await read_logs(at, [(uid, None) for _, uid in waiting]) if waiting else []
    for (receiver, _), log in zip(waiting, logs, strict=True):
        receiver.skip = read_log(log.elements).view.last_skip.get(receiver.channel, "")
