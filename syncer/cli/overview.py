"""
What all notifications together say: how many need a person, and how each receiver does.

Counted over statuses, page by page; nothing is kept of a notification but what is counted. A receiver is
bad since the first failure behind its last success, whichever notification these were of. One attempt that
was not sent says nothing of the receiver; several do, as where its credential is missing or its host name
unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from syncer.cli.attempts import translated
from syncer.cli.output import age
from syncer.cli.rows import Placed, Row
from syncer.model.attempt import AttemptState
from syncer.model.resource import FAILED, PARTIALLY_SENT
from syncer.model.times import format_time
from syncer.rules.channel_state import NOTHING_DUE

#: Attempts in a row that were not sent, from which on they count as failures of the receiver.
UNSENT: Final = 3
#: Milliseconds that what is due may take before it counts as stuck.
LATE: Final = 60_000
#: Channels that are counted one by one; a route may name as many as there are recipients.
MOST: Final = 500
#: Failures of a channel whose times are kept, to tell since when it fails.
_KEPT: Final = 1000


@dataclass(slots=True)
class Receiver:
    """
    One channel over all notifications.

    Attributes:
        attempts: Since the time that was asked for; `failed` and `unknown` are of these.
        waiting: Notifications that are not finished there; `oldest` is the one that waits longest.
        success: When it last took a message, 0 if that is not known.
        failures: When attempts failed; `unsent` when they were not sent.
        error: Of the newest of these.
        skip: Why what is due is not tried, by the log of the oldest; empty if it is.
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

    def cells(self, now: int) -> tuple[str, ...]:
        """Return it as cells of a table."""
        since, success = self.since, self.success
        return (
            self.channel, f"bad for {age(now - since)}" if since else "good", str(self.attempts),
            str(self.failed), str(self.unknown), str(self.waiting),
            f"{age(now - success)} ago" if success else "-",
            "; ".join(filter(None, [self.skip, self.error if since else ""])),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return it as one JSON object; the keys are an interface."""
        return {
            "channel": self.channel, "badSince": format_time(self.since) or None,
            "attempts": self.attempts, "failed": self.failed, "unknown": self.unknown,
            "waiting": self.waiting, "lastSuccess": format_time(self.success) or None,
            "lastError": self.error or None, "notTried": self.skip or None,
        }  # fmt: skip


HEAD: Final = (
    "RECEIVER", "STATE", "ATTEMPTS", "FAILED", "UNKNOWN", "WAITING", "SUCCESS", "LAST ERROR",
)  # fmt: skip
FLEXIBLE: Final = {"RECEIVER": 12, "LAST ERROR": 20}


@dataclass(slots=True)
class Overview:
    """
    Counts over all notifications; attempts count since `since`, in Unix milliseconds.

    What operators hold is not stuck.
    """

    placed: Placed
    since: int
    notifications: int = 0
    unfinished: int = 0
    stuck: int = 0
    unknown: int = 0
    failed: int = 0
    quarantined: int = 0
    journaled: int = 0
    held: int = 0
    receivers: dict[str, Receiver] = field(default_factory=dict)

    @property
    def now(self) -> int:
        """Unix milliseconds."""
        return self.placed.now

    @property
    def bad(self) -> list[Receiver]:
        """Receivers that fail, the one that has failed longest first."""
        return sorted((r for r in self.receivers.values() if r.since), key=lambda r: r.since)

    @property
    def worst_first(self) -> list[Receiver]:
        """All receivers: the bad ones, then the others by name."""
        good = (r for r in self.receivers.values() if not r.since)
        return [*self.bad, *sorted(good, key=lambda r: r.channel)]

    def take(self, row: Row) -> None:
        """Count one notification."""
        self.notifications += 1
        self.unknown += row.unknown > 0
        self.quarantined += row.quarantined
        self.journaled += bool(row.journal)
        if row.finished:
            ended = row.phase in {FAILED, PARTIALLY_SENT}
            self.failed += ended and row.completed >= self.since
        else:
            self.unfinished += 1
            held = row.held(self.placed)
            self.held += held
            self.stuck += not held and (row.due or row.created) < self.now - LATE
        for channel in row.channels:
            found = self._of(channel.name)
            if found is not None and not (row.finished or channel.state in NOTHING_DUE):
                found.waiting += 1
                if found.oldest is None or row.created < found.oldest.created:
                    found.oldest = row
        for one in row.tries:
            found = self._of(one.channel)
            if found is None:
                continue
            late = one.at < self.since
            found.attempts += not late
            if one.state is AttemptState.SUCCESS:
                found.success = max(found.success, one.at)
            elif one.sent is not None and one.state is not AttemptState.INTENT:
                found.unknown += one.state is AttemptState.UNKNOWN and not late
                found.failed += one.sent and one.state is AttemptState.FAILED and not late
                times = found.failures if one.sent else found.unsent
                times.append(one.at)
                newest = one.at == max(found.failures + found.unsent)
                if newest and (one.sent or len(times) >= UNSENT):
                    found.error = translated(one.error)
                if len(times) > _KEPT:
                    times.sort()
                    # The oldest that counts, and the newest.
                    times[:] = [t for t in times if t > found.success][:_KEPT] or [one.at]

    def _of(self, channel: str) -> Receiver | None:
        found = self.receivers.get(channel)
        if found is None and len(self.receivers) < MOST:
            found = self.receivers[channel] = Receiver(channel)
        return found
