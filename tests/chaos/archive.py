"""
Logs as they were, for a checker that comes after some of them have expired.

A log lives as long as its notification needs it, and a while longer. What was in it must outlive
it here, so every dump is kept: the newest one of a log, and what an earlier log of the same
notification held (one that expired or was lost, and was made anew by a late fact).

Pure but for the samples it holds; who reads Redis hands the dumps in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from syncer.model.record import Record
from tests.e2e.checker import Json, Log, Sample


@dataclass(slots=True)
class Archive:
    """
    Every log seen so far.

    Attributes:
        newest: The newest dump of each log that was ever seen, by uid.
        samples: Logs with the status that was read after each; no two alike.
        earlier: What earlier logs of a notification held.
    """

    newest: dict[str, Log] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    earlier: dict[str, list[Record]] = field(default_factory=dict)
    _sampled: set[tuple[str, int, int, str]] = field(default_factory=set)

    def note(self, uid: str, log: Log) -> None:
        """Take a dump; what the dump before held and this one does not is kept."""
        before = self.newest.get(uid)
        if before is not None and not _continues(before, log):
            self.earlier.setdefault(uid, []).extend(before.records)
        self.newest[uid] = log

    def sample(self, uid: str, log: Log, status: Json, version: str) -> None:
        """Take a log and the status that was read after it."""
        key = (uid, log.header.acked, len(log.records), version)
        if key not in self._sampled:
            self._sampled.add(key)
            self.samples.append(Sample(uid, log, status))

    def whole(self, uid: str, *, expired: bool) -> Log | None:
        """
        Everything that was ever seen of a notification's log, oldest first, as one log.

        Args:
            uid: Of the notification.
            expired: The log is gone. Only an acknowledgement of its last record lets it expire,
                so it counts as acknowledged, whatever the last dump says.
        """
        last = self.newest.get(uid)
        if last is None:
            return None
        earlier = self.earlier.get(uid, [])
        seen = {(r.kind, r.id) for r in earlier}
        records = (*earlier, *(r for r in last.records if (r.kind, r.id) not in seen))
        open_end = len(last.records) - last.header.acked
        acked = len(records) if expired else len(records) - open_end
        return Log(replace(last.header, acked=max(0, acked)), records)


def _continues(before: Log, log: Log) -> bool:
    """Whether a dump holds all of an earlier one, at the same places."""
    n = len(before.records)
    if not n:
        return True
    return len(log.records) >= n and log.records[n - 1].chain == before.records[n - 1].chain
