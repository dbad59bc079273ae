"""
Metrics of the record, prefix `notification_ledger_`.

Labels come from enums only: no uid, object name, URL or text. Upstream's own series live in
`notifier.metrics`.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from syncer.model.attempt import AttemptState
from syncer.rules.divergence import AUDITED
from syncer.rules.journal import INCOMPLETE

PREFIX: Final = "notification_ledger"
_FAST: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
_SIZES: Final = (1, 2, 3, 5, 8, 13, 21, 50, 100)
_LAGS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

_STALLS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
#: Why a notification is held; values of a label.
QUARANTINED: Final = "quarantined"
SELF_AUDIT: Final = "self-audit"
NO_LOG: Final = "log-unavailable"
FENCED: Final = "fenced"
EPOCH_AHEAD: Final = "epoch-ahead"
NOT_SENT: Final = "not-sent"
ON_HOLD: Final = "hold"
PAUSED: Final = "paused"
PLACED: Final = "operator"
#: The first that applies counts.
HOLDS: Final = (
    QUARANTINED,
    SELF_AUDIT,
    FENCED,
    EPOCH_AHEAD,
    NO_LOG,
    NOT_SENT,
    ON_HOLD,
    PAUSED,
    PLACED,
)


class SyncMetrics:
    """Every series of the syncer, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create the series; a registry of its own keeps tests apart."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"{PREFIX}_{name}", text, labels, registry=registry)

        self.intents = counter("intents", "Attempts opened in the log.")
        self.outcomes = counter(
            "outcomes",
            "Results recorded in the log by this process, including those of abandoned attempts.",
            "state",
        )
        for state in (AttemptState.UNKNOWN, AttemptState.FAILED, AttemptState.SUCCESS):
            self.outcomes.labels(state.word)
        self.not_sent = counter(
            "not_sent",
            "Attempts opened by this process and not sent; they use up nothing and are repeated.",
        )
        self.append_seconds = Histogram(
            f"{PREFIX}_append_seconds",
            "Duration of one append to the log, including retries.",
            ("script",),
            buckets=_FAST,
            registry=registry,
        )
        self.claims = counter("claims", "Logs claimed, by the row of the decision table.", "row")
        self.reclaims = counter(
            "reclaim", "Claims found stale, by cause; the log is claimed again.", "cause"
        )
        self.fenced = counter("fenced", "Claims refused because a later owner exists.")
        self.recovered = counter(
            "recovered", "Open attempts of an earlier owner recorded as unknown."
        )
        self.loss = counter(
            "log_loss_ledger", "Attempts that the status showed and the log had lost."
        )
        self.repaired = counter("log_repaired", "Logs restored from the status.")
        self.quarantined = gauge("quarantined", "Notifications whose log cannot be read.")
        self.conflicts = counter(
            "status_conflicts", "Status writes answered with 409, by what followed.", "result"
        )
        self.patches = counter("sync_patch", "Status writes, by result.", "result")
        for result in ("written", "conflict", "unclear", "refused", "gone", "unavailable"):
            self.patches.labels(result)
        self.batch_records = Histogram(
            f"{PREFIX}_sync_batch_attempts",
            "Attempts that one status write shows for the first time.",
            buckets=_SIZES,
            registry=registry,
        )
        self.dirty_oldest = gauge(
            "dirty_oldest_seconds", "Age of the oldest change that its status does not show yet."
        )
        self.unchecked = gauge(
            "unlooked_notifications",
            "Notifications of this replica that needed a check in the last two rounds of the "
            "resync and got none that ended with a decision.",
        )
        self.unchecked_seconds = gauge(
            "unlooked_seconds",
            "Longest time for which a notification of this replica may have needed a check "
            "without getting one, including the time since the last round of the resync.",
        )
        self.live = gauge(
            "live_notifications",
            "Notifications kept in full in memory: unfinished, or not yet published and audited.",
        )
        self.finished = gauge(
            "finished_notifications", "Finished notifications kept as summaries in memory."
        )
        self.conflicting = counter(
            "conflicting_outcome",
            "Attempts with two definite results, which the protocol excludes.",
        )
        self.orphans = counter("orphans_retired", "Logs of deleted objects given an expiry.")
        self.held = gauge(
            "held_notifications",
            "Notifications of this replica for which nothing is sent, by reason; finished ones "
            "only if their log cannot be read.",
            "reason",
        )
        for reason in HOLDS:
            self.held.labels(reason)
        self.holds = gauge("holds", "Operators' holds in force.")
        self.held_critical = gauge(
            "held_critical_seconds",
            "Longest time for which an operator's hold has kept back a due attempt of a "
            "notification of priority Critical.",
        )
        self.journaling = gauge(
            "journaling", "1 while this replica journals attempts in the status, else 0."
        )
        self.not_journaled = gauge(
            "not_journaled_notifications",
            "Notifications of this replica that cannot be journaled while others are, by reason.",
            "basis",
        )
        for basis in INCOMPLETE:
            self.not_journaled.labels(basis.value)
        self.log_available = gauge(
            "log_available",
            "1 while Redis answers, accepts writes and is fit for attempts, else 0.",
        )
        self.clock_offset = gauge(
            "clock_offset_seconds",
            "How far Redis's clock is ahead of the API server's; with several servers, the worst.",
        )
        self.shards = gauge("shards", "Shards of the installation.")
        self.shards_owned = gauge("shards_owned", "Shards that this replica owns.")
        self.sessions = gauge("sessions", "Replicas with a session, as this one sees them.")
        self.server_selects = gauge(
            "server_selects_shards",
            "1 if the API server sends this replica only the notifications of its own shards; 0 "
            "if it also sends others, or has not been asked to select, as when one replica owns "
            "all shards.",
        )
        self.lease_margin = gauge(
            "lease_margin_seconds",
            "Time left in which sends may begin without another renewal of the session; 0 without "
            "a shard.",
        )
        self.loop_lag = Histogram(
            f"{PREFIX}_loop_lag_seconds",
            "How much later than requested the event loop wakes a sleeper.",
            buckets=_LAGS,
            registry=registry,
        )
        self.loop_stalls = Histogram(
            f"{PREFIX}_loop_stall_seconds",
            "Stalls of the event loop longer than 10 ms.",
            buckets=_STALLS,
            registry=registry,
        )
        self.loop_stall = Gauge(
            f"{PREFIX}_loop_longest_stall_seconds",
            "Longest stall of the event loop within the last five to ten minutes.",
            registry=registry,
        )
        self.scrub_looks = counter(
            "scrub_looks", "Checks by the self-audit, by result.",
            "result",
        )  # fmt: skip
        for result in ("agrees", "diverges", "passed", "unanswered"):
            self.scrub_looks.labels(result)
        self.divergences = counter(
            "scrub_divergence", "Divergences that the self-audit found.", "class"
        )
        for divergence in AUDITED:
            self.divergences.labels(divergence.value)
        self.scrub_coverage = gauge(
            "scrub_coverage_ratio",
            "Share of this replica's live notifications that the self-audit has checked in this "
            "round.",
        )
        self.scrub_age = gauge(
            "scrub_age_seconds", "Time since the self-audit completed a round, or since the start."
        )
        self.deleted = counter(
            "objects_deleted", "Finished notifications deleted after their retention time."
        )
