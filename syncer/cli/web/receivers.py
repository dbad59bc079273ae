"""
The state of each channel: how much is sent there, how much fails, and what has waited longest.

Everything is counted over the index, that is, over statuses. A circuit breaker is in the memory of its
controller, but leaves a reason in the log of each attempt that it holds back. So the logs of the few
notifications that have waited longest on a channel are read.

No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from syncer.cli.web.entries import Entry
from syncer.cli.web.index import WINDOW, RecentAttempt
from syncer.model.attempt import AttemptState, receiver_of

#: Channels that are listed one by one; a route may name as many as there are recipients.
MOST: Final = 500
#: Notifications that wait longest, whose logs are read for each channel; and for all channels together.
SAMPLES: Final = 3
READ: Final = 100


@dataclass(slots=True)
class Receiver:
    """
    One channel.

    Attributes:
        waiting: Notifications for it that are not finished there.
        failed: Notifications of which it got nothing for good.
        due: When the longest overdue attempt was due, or the next one will be; 0 without one.
        error: The latest failure that is known of a notification for it.
        error_at: When that was.
        tried: Attempts of the last hour.
        refused: Of these, those that failed.
        unknown: Of these, those whose result is not known.
        oldest: Those that wait longest, as far as their logs are to be read.
        skip: Why the last due attempt was not made, empty if it was.
    """

    channel: str
    waiting: int = 0
    failed: int = 0
    due: int = 0
    error: str = ""
    error_at: int = 0
    tried: int = 0
    refused: int = 0
    unknown: int = 0
    oldest: list[tuple[int, Entry]] = field(default_factory=list)
    skip: str = ""

    @property
    def name(self) -> str:
        """The receiver."""
        return receiver_of(self.channel)

    def take(self, entry: Entry, state: str, due: int) -> None:
        """Count a notification."""
        self.failed += state in {"Failed", "Exhausted"}
        if state in {"Pending", "Sending", "Retrying"} and not entry.finished:
            self.waiting += 1
            moment = due or entry.created
            if due and (not self.due or due < self.due):
                self.due = due
            self.oldest.append((moment, entry))
            self.oldest.sort(key=lambda pair: pair[0])
            del self.oldest[SAMPLES:]
        failure = entry.failure
        if failure and failure.channel == self.channel and entry.last >= self.error_at:
            self.error, self.error_at = failure.error, entry.last


async def count(
    entries: AsyncIterator[Entry], recent: Iterable[RecentAttempt], *, now: int
) -> tuple[dict[str, Receiver], bool]:
    """
    Count over all entries.

    Args:
        entries: All of them.
        recent: Attempts of the recent past.
        now: Unix milliseconds.

    Returns:
        By channel; and whether there are more channels than that.
    """
    found: dict[str, Receiver] = {}
    more = False
    async for entry in entries:
        for channel in entry.channels:
            receiver = found.get(channel.name)
            if receiver is None:
                if len(found) >= MOST:
                    more = True
                    continue
                receiver = found[channel.name] = Receiver(channel.name)
            receiver.take(entry, channel.state, channel.due)
    for attempt in recent:
        receiver = found.get(attempt.channel)
        if receiver is None or attempt.ended < now - WINDOW:
            continue
        receiver.tried += 1
        receiver.refused += attempt.state is AttemptState.FAILED
        receiver.unknown += attempt.state is AttemptState.UNKNOWN
    return found, more


def to_read(found: Mapping[str, Receiver]) -> list[str]:
    """Return the uids of the notifications whose logs show why a channel is not served."""
    waiting = sorted((r for r in found.values() if r.oldest), key=lambda r: r.oldest[0][0])
    uids = [entry.uid for r in waiting for _, entry in r.oldest]
    return list(dict.fromkeys(uids))[:READ]
