"""
Metrics of the record, prefix `notification_ledger_`.

Labels come from enums only: no uid, object name, URL or text. Upstream's own series live in
`notifier.metrics`.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX: Final = "notification_ledger"
_FAST: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
_SIZES: Final = (1, 2, 3, 5, 8, 13, 21, 50, 100)


class SyncMetrics:
    """Every series of the syncer, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create the series; a registry of its own keeps tests apart."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"{PREFIX}_{name}", text, registry=registry)

        self.intents = counter("intents", "Attempts opened in the log.")
        self.outcomes = counter("outcomes", "Results recorded in the log.", "state")
        self.append_seconds = Histogram(
            f"{PREFIX}_append_seconds",
            "Time of one append to the log, retries included.",
            ("script",),
            buckets=_FAST,
            registry=registry,
        )
        self.claims = counter("claims", "Logs claimed, by the table's row.", "row")
        self.reclaims = counter("reclaim", "Claims found stale.", "cause")
        self.fenced = counter("fenced", "Claims refused because a later owner exists.")
        self.recovered = counter("recovered", "Open attempts of an earlier owner marked unknown.")
        self.loss = counter(
            "log_loss_ledger", "Attempts that the status showed and the log had lost."
        )
        self.repaired = counter("log_repaired", "Logs restored from the status.")
        self.quarantined = gauge("quarantined", "Notifications whose log cannot be read.")
        self.conflicts = counter(
            "status_conflicts", "Status writes answered 409, by what came of them.", "result"
        )
        self.patches = counter("sync_patch", "Status writes, by answer.", "result")
        self.batch_records = Histogram(
            f"{PREFIX}_sync_batch_attempts",
            "Attempts newly shown by one status write.",
            buckets=_SIZES,
            registry=registry,
        )
        self.dirty_oldest = gauge(
            "dirty_oldest_seconds", "Age of the oldest change that no status shows yet."
        )
        self.live = gauge("live_notifications", "Notifications held in full in memory.")
        self.finished = gauge("finished_notifications", "Finished notifications held as stubs.")
        self.conflicting = counter(
            "conflicting_outcome", "Attempts with two definite results; impossible by rule."
        )
        self.orphans = counter("orphans_retired", "Logs of deleted objects given an expiry.")
        self.deleted = counter(
            "objects_deleted", "Finished notifications deleted after their retention time."
        )
