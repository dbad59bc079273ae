"""A term of a lease, and a reporter, as tests have them."""

from __future__ import annotations

from typing import Any, cast

from notifier.reporter import EventReporter
from syncer.model.attempt import Attempt, Epoch
from syncer.model.resource import NotificationRequest

NOW = 100.0


class LeaseTerm:
    """The time under one epoch."""

    def __init__(self, epoch: str, *, holds: bool = True) -> None:
        self.epoch = Epoch(epoch)
        self.since = 0
        self.holds = holds

    def valid(self, now: float) -> bool:
        """Whether the lease holds."""
        return self.holds

    def may_send(self, now: float, send_timeout: float) -> bool:
        """As above."""
        return self.holds


class Calls:
    """A reporter that remembers its calls."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.before: list[Attempt | None] = []
        self.failures: list[Attempt] = []
        self.holds: list[tuple[str, str]] = []

    def started(self, request: NotificationRequest) -> None:
        """Nothing."""

    def recorded(self, *said: Any) -> None:
        """Say what a reporter says of it."""
        EventReporter.recorded(cast("Any", self), *said)

    def attempted(
        self, request: NotificationRequest, attempt: Attempt, before: Attempt | None
    ) -> None:
        """Remember."""
        self.attempts.append(attempt)
        self.before.append(before)

    def failed(self, request: NotificationRequest, attempt: Attempt) -> None:
        """Remember."""
        self.failures.append(attempt)

    def held(self, request: NotificationRequest, channel: str, reason: str) -> None:
        """Remember."""
        self.holds.append((channel, reason))
