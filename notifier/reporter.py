"""
The event reporter: Kubernetes Events and upstream's metrics for each step of a delivery.

Both follow the record and can never affect it. An event's discriminator is taken from the record
(uid, attempt id, phase), so a step that is reported twice, after a restart or by another replica, is one
event.
"""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

from notifier.content.sanitise import sanitise
from notifier.contract import Outcome
from notifier.dispatch.breaker import kind_of
from notifier.metrics import DeliveryMetrics
from notifier.routing.attributes import disguised
from syncer.kube.events import EventRecorder
from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.conditions import LOG_UNAVAILABLE, QUARANTINED, find_condition
from syncer.model.resource import (
    FAILED,
    PARTIALLY_SENT,
    RETRYING,
    NotificationRequest,
    Status,
)
from syncer.rules.channel_state import State
from syncer.rules.journal import WAITS
from syncer.rules.merge import ALL_FAILED, Merged
from syncer.rules.text import go_duration, neutral
from syncer.sync.notifications import Notification

#: Most channels that an event names.
_SHOWN: Final = 3
#: Classes of attempts without a call to the receiver.
_NO_CALL: Final = frozenset({FailureClass.NOT_SENT, FailureClass.SUPERSEDED})


class EventReporter:
    """Turns steps of the delivery into events and upstream's metrics."""

    def __init__(self, recorder: EventRecorder | None, metrics: DeliveryMetrics) -> None:
        """Without a recorder, events are switched off."""
        self._recorder = recorder
        self._metrics = metrics
        # A look-up by labels costs as much as counting; these caches have one item per channel or phase.
        self._attempts = cache(metrics.attempts.labels)
        self._durations = cache(metrics.duration.labels)
        self._completions = cache(metrics.completion.labels)

    def _emit(
        self,
        request: NotificationRequest,
        kind: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        discriminator: str,
    ) -> None:
        """Emit an event; secrets and control characters in its text are replaced."""
        if self._recorder is not None:
            shown = neutral(sanitise(message))
            self._recorder.emit(request, kind, reason, shown, discriminator=discriminator)

    def started(self, request: NotificationRequest) -> None:
        """Report that a notification is claimed for the first time in this lease term."""
        self._emit(
            request, "Normal", "ReconcileStarted",
            f"Started reconciling notification {request.name}", "",
        )  # fmt: skip
        own = {"namespace": request.namespace, "name": request.name}
        # Most objects have no extensions, and a search in the raw bytes is quicker than parsing.
        extensions = request.spec().extensions if b'"extensions"' in request.raw else {}
        if set_by_author := disguised(extensions, **own):
            self._emit(
                request, "Warning", "ReservedAttribute",
                f"spec.extensions sets {' and '.join(set_by_author)}, which routing takes from the"
                " object itself; choose another key", "",
            )  # fmt: skip
        if not request.status.phase or request.status.phase == "Pending":
            self._emit(
                request, "Normal", "PhaseTransition", "Transitioned to Sending phase", "Sending"
            )

    def recorded(
        self,
        request: NotificationRequest,
        attempt: Attempt,
        outcome: Outcome,
        before: Attempt | None,
    ) -> None:
        """Report an attempt whose outcome is on record; `before` is the channel's earlier one."""
        if outcome.failure not in _NO_CALL:
            self.attempted(request, attempt, before)
        if outcome.by_rule:
            self.denied(request, attempt.channel, attempt.error)
        elif attempt.failure not in {None, FailureClass.NOT_SENT}:
            self.failed(request, attempt)

    def attempted(
        self, request: NotificationRequest, attempt: Attempt, before: Attempt | None
    ) -> None:
        """Report a call to a receiver; `before` is the channel's earlier one."""
        success = attempt.state is AttemptState.SUCCESS
        channel = attempt.channel
        self._attempts(channel, "success" if success else "failed").inc()
        self._durations(channel).observe(attempt.duration / 1000)
        if before is not None:
            reason = before.failure.value if before.failure else "none"
            self._metrics.retries.labels(channel, reason).inc()
        if attempt.state is AttemptState.UNKNOWN:
            self._metrics.uncertain.inc()
        if success:
            self._emit(
                request, "Normal", "NotificationSent",
                f"Successfully delivered to channel {channel}", channel,
            )  # fmt: skip

    def failed(self, request: NotificationRequest, attempt: Attempt) -> None:
        """Report why an attempt did not succeed, or that its result cannot be known."""
        channel, error = attempt.channel, attempt.error or "no reason was given"
        if attempt.state is AttemptState.UNKNOWN:
            self._emit(
                request, "Warning", "DeliveryUnknown",
                f"Attempt on channel {channel} may or may not have been delivered: {error}", attempt.id,
            )  # fmt: skip
            return
        if attempt.failure is FailureClass.SUPERSEDED:
            text = f"Not sent to channel {channel}: {error}"
            self._emit(request, "Normal", "DeliverySuperseded", text, attempt.id)
            return
        then = "it is not tried again"
        if attempt.due:
            then = f"next attempt in {go_duration(attempt.due - attempt.ended)}"
        self._emit(
            request, "Warning", "DeliveryFailed", f"Attempt on channel {channel} failed, {then}: {error}",
            attempt.id,
        )  # fmt: skip

    def held(self, request: NotificationRequest, channel: str, reason: str) -> None:
        """Report that a due attempt is on hold, by an annotation, a DeliveryHold or the pause of all."""
        self._emit(
            request, "Warning", "DeliveryHeld", f"Channel {channel} is due and {reason}",
            f"{channel}/{reason}",
        )  # fmt: skip

    def routed_in_doubt(
        self, request: NotificationRequest, channels: tuple[str, ...], doubts: tuple[str, ...]
    ) -> None:
        """Report a notification that may have been routed differently than the routing file intends."""
        self._emit(
            request, "Warning", "RoutingDoubtful",
            f"Routed to {', '.join(channels[:_SHOWN])}, perhaps by mistake: {'; '.join(doubts)}", "",
        )  # fmt: skip

    def denied(self, request: NotificationRequest, channel: str, reason: str) -> None:
        """Report that the receiver of a channel does not accept the notification's namespace."""
        self._emit(
            request, "Warning", "ReceiverRefused", f"Not sent to {channel}, {reason}", channel
        )

    def rejected(self, request: NotificationRequest, channel: str, reason: str, made: int) -> None:
        """
        Report a due attempt that waits for its receiver's circuit breaker.

        Args:
            request: The notification.
            channel: Full channel name, for example `slack:ops`.
            reason: Upstream's text for an open breaker.
            made: Number of earlier attempts on the channel.
        """
        self._metrics.postponed.labels(channel).inc()
        self._emit(
            request, "Warning", "CircuitBreakerOpen",
            f"{kind_of(channel)} channel circuit breaker is open: {reason}", f"{channel}/{made}",
        )  # fmt: skip

    def status_written(self, notification: Notification, before: Status, merged: Merged) -> None:
        """
        Report what a written status shows for the first time: a wait, or the end of the notification.

        Args:
            notification: The notification, with the object as stored by the write.
            before: The status before the write.
            merged: The status that was written.
        """
        request = notification.request
        after = request.status
        if after.phase == RETRYING and len(after.attempts) > len(before.attempts):
            waits = [
                s.last.due - s.last.ended
                for s in merged.channel_states
                if s.last and s.last.due and not s.state.finished
            ]
            self._emit(
                request, "Normal", "NotificationRetrying",
                f"Retrying failed channels with backoff {go_duration(min(waits, default=0))}",
                str(len(after.attempts)),
            )  # fmt: skip
        self._outage(request, before, after)
        held, known = (find_condition(s.conditions, QUARANTINED) for s in (after, before))
        if held is not None and held.status == "True" and (known is None or known.status != "True"):
            self._emit(
                request, "Warning", "Quarantined", f"Nothing is sent: {held.message}", held.reason
            )
        if not after.terminal or before.terminal:
            return
        superseded = after.phase == FAILED and after.reason == State.SUPERSEDED
        if request.created and after.completed_at:
            took = max(0.0, (after.completed_at - request.created) / 1000)
            self._completions(State.SUPERSEDED.value if superseded else after.phase).observe(took)
        if after.phase == PARTIALLY_SENT:
            self._emit(request, "Normal", "NotificationPartiallySent", after.message, "")
        elif after.phase == FAILED and not superseded:
            self._emit(request, "Warning", "NotificationFailed", ALL_FAILED, "")

    def _outage(self, request: NotificationRequest, before: Status, after: Status) -> None:
        """Report, once for each outage, that attempts are journaled, or why an attempt waits."""
        if after.journal and after.journal != before.journal:
            self._emit(
                request, "Normal", "DeliveryJournaled",
                "Redis is away: attempts are recorded in the status before they are sent",
                after.journal,
            )  # fmt: skip
        held, known = (find_condition(s.conditions, LOG_UNAVAILABLE) for s in (after, before))
        if held is None or held.reason == WAITS:
            # Every due attempt waits for Redis. An alert reports that, not an Event per notification.
            return
        if known is None or known.reason != held.reason:
            self._emit(
                request, "Warning", "DeliveryHeld", held.message,
                f"{held.reason}/{held.transition}",
            )  # fmt: skip
