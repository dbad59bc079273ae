"""
Metrics of the attempt log and its publication, prefix `notification_ledger_`.

Labels come from enums only: no uid, object name, URL or text. Upstream's own series live in
`notifier.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import partial
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from syncer.model.attempt import AttemptState, FailureClass
from syncer.rules.divergence import AUDITED
from syncer.rules.journal import INCOMPLETE
from syncer.rules.status_policy import State

M = TypeVar("M", Counter, Gauge)

PREFIX: Final = "notification_ledger"
_FAST: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
_SIZES: Final = (1, 2, 3, 5, 8, 13, 21, 50, 100)
_LAGS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class HoldReason(StrEnum):
    """Why nothing is sent for a notification; values of a label. The first that applies counts."""

    QUARANTINED = "quarantined"
    SELF_AUDIT = "self-audit"
    FENCED = "fenced"
    EPOCH_AHEAD = "epoch-ahead"
    UNTRUSTED = "record-untrusted"
    NO_LOG = "log-unavailable"
    NOT_SENT = "not-sent"
    ON_HOLD = "hold"
    PAUSED = "paused"
    PLACED = "operator"


class SyncMetrics:
    """Every series of the syncer, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create the series; a test passes a registry of its own."""

        def series(
            kind: type[M], name: str, text: str, label: str = "", values: Iterable[str] = ()
        ) -> M:
            made = kind(f"{PREFIX}_{name}", text, [label] if label else (), registry=registry)
            for value in values:
                made.labels(value)
            return made

        counter, gauge = partial(series, Counter), partial(series, Gauge)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"{PREFIX}_{name}", text, labels, buckets=buckets, registry=registry)

        self.intents = counter("intents", "Attempts opened in the log.")
        self.outcomes = counter(
            "outcomes",
            "Results recorded in the log by this process, including those of abandoned attempts. "
            "Superseded attempts were not sent and have not failed.",
            "state",
            (
                *(s.word for s in AttemptState if s is not AttemptState.INTENT),
                FailureClass.SUPERSEDED.value,
            ),
        )
        self.not_sent = counter(
            "not_sent",
            "Attempts opened by this process and not sent; they count towards no limit and are repeated.",
        )
        self.append_seconds = histogram(
            "append_seconds",
            "Duration of one append to the log, including retries.",
            _FAST,
            "script",
        )
        self.other_installations = gauge(
            "other_installations", "Signs of other installations that send the same notifications."
        )
        self.watch_missed = counter(
            "watch_missed", "Objects that existed and that no watch had shown; they were read."
        )
        self.claims = counter("claims", "Logs claimed, by the row of the decision table.", "row")
        self.reclaims = counter(
            "reclaim", "Claims found stale, by cause; the log is claimed again.", "cause"
        )
        self.fenced, self.fenced_notifications = (
            counter("fenced", "Claims refused because a later owner exists."),
            counter(
                "fenced_notifications",
                "Checks of a notification whose log belongs to a later epoch.",
            ),
        )
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
        self.patches = counter(
            "sync_patch",
            "Status writes, by result.",
            "result",
            ("written", "conflict", "unclear", "refused", "gone", "unavailable"),
        )
        self.batch_records = histogram(
            "sync_batch_attempts",
            "Attempts that one status write shows for the first time.",
            _SIZES,
        )
        self.dirty_oldest = gauge(
            "dirty_oldest_seconds",
            "Age of the oldest change that the object's status does not show yet.",
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
            HoldReason,
        )
        self.holds = gauge("holds", "Operators' holds in force.")
        self.held_critical = gauge(
            "held_critical_seconds",
            "Longest time for which an operator's hold has kept back a due attempt of a "
            "notification of priority Critical.",
        )
        self.undelivered_critical = gauge(
            "undelivered_critical_seconds",
            "Age of this replica's oldest notification of priority Critical that has not ended.",
        )
        self.journaling = gauge(
            "journaling", "1 while this replica journals attempts in the status, else 0."
        )
        self.not_journaled = gauge(
            "not_journaled_notifications",
            "Notifications of this replica that cannot be journaled while others are, by reason.",
            "basis",
            INCOMPLETE,
        )
        self.log_available = gauge(
            "log_available",
            "1 while Redis answers, accepts writes and is fit for attempts, else 0.",
        )
        self.status_policy = gauge(
            "status_policy",
            "Whether an admission policy lets nobody but the controller write statuses; 1 for the state "
            "that was found last, else 0.",
            "state",
            State,
        )
        self.clock_offset = gauge(
            "clock_offset_seconds",
            "How far Redis's clock is ahead of the API server's; with several servers, the worst.",
        )
        self.shards = gauge("shards", "Shards of the installation.")
        self.shards_owned = gauge("shards_owned", "Shards that this replica owns.")
        self.sessions = gauge("sessions", "Replicas with a session, as this one sees them.")
        self.lease_margin = gauge(
            "lease_margin_seconds",
            "Time left in which sends may begin without another renewal of the session; 0 without "
            "a shard.",
        )
        self.loop_lag = histogram(
            "loop_lag_seconds",
            "How much later than requested the event loop wakes a sleeper.",
            _LAGS,
        )
        self.loop_stall = gauge(
            "loop_longest_stall_seconds",
            "Longest stall of the event loop within the last five to ten minutes.",
        )
        self.scrub_looks = counter(
            "scrub_looks",
            "Checks by the self-audit, by result.",
            "result",
            ("agrees", "diverges", "passed", "unanswered"),
        )
        self.divergences = counter(
            "scrub_divergence", "Divergences that the self-audit found.", "class", AUDITED
        )
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
