"""What the reconciler needs from others, and the bounds that it works within."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from syncer.model.attempt import Attempt
from syncer.model.resource import NotificationRequest


class Reporter(Protocol):
    """Reports steps of the delivery to users: Events, and metrics with upstream's names."""

    def started(self, request: NotificationRequest) -> None:
        """Report that a notification is claimed for the first time in this lease term."""
        ...

    def attempted(
        self, request: NotificationRequest, attempt: Attempt, before: Attempt | None
    ) -> None:
        """Report an attempt whose outcome is recorded; `before` is the channel's previous attempt."""
        ...

    def failed(self, request: NotificationRequest, attempt: Attempt) -> None:
        """Report why an attempt did not succeed, or that its result cannot be known."""
        ...

    def held(self, request: NotificationRequest, channel: str, reason: str) -> None:
        """Report that a due attempt is held back, by an annotation or for all notifications."""
        ...

    def routed_in_doubt(
        self, request: NotificationRequest, channels: tuple[str, ...], doubts: tuple[str, ...]
    ) -> None:
        """Report a notification that may not have been routed as the routing file intends."""
        ...

    def denied(self, request: NotificationRequest, channel: str, reason: str) -> None:
        """Report that the receiver of a channel accepts nothing from the notification's namespace."""
        ...

    def rejected(self, request: NotificationRequest, channel: str, reason: str, made: int) -> None:
        """
        Report a due attempt that waits for its receiver's circuit breaker.

        Args:
            request: The notification.
            channel: Full channel name, for example `slack:ops`.
            reason: Upstream's text for it.
            made: Attempts made on the channel before.
        """
        ...


@dataclass(frozen=True, slots=True)
class DeliveryBounds:
    """
    Bounds of delivery.

    Attributes:
        at_most_once: Stop at an attempt whose result is unknown.
        max_age: Seconds after which a notification is no longer sent, 0 for no limit.
        outcome_patience: Seconds for which an outcome is kept in memory while Redis is away.
    """

    at_most_once: bool
    max_age: float
    outcome_patience: float = 7 * 86400.0
