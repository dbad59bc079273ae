"""
The operators' holds, as this process knows them, and which channels they hold back.

Every decision asks this module, with the current time: a hold applies as soon as it is known, and ends by
itself. The time is `LedgerTime.certain`, which a clock that is ahead cannot advance, so such a clock ends
no hold early. `notifier.reconciler.hold_reader` reads the holds from Redis, and restores them there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from notifier.content.sanitise import sanitise
from syncer.model.hold import Hold
from syncer.model.resource import NotificationRequest
from syncer.rules.holds import Held, held_channels
from syncer.rules.plan import NO_HOLDS
from syncer.runtime.clock import LedgerTime, MonotonicClock

#: The priority of notifications that must not wait unnoticed.
_CRITICAL: Final = "Critical"


@dataclass(eq=False)
class PlacedHolds:
    """The holds of the installation."""

    time: LedgerTime
    monotonic: MonotonicClock
    #: All holds on record, as stored.
    known: tuple[Hold, ...] = field(default=(), init=False)
    #: Holds that were not released, without secrets that somebody has typed into a reason.
    _clean: tuple[Hold, ...] = field(default=(), init=False)
    #: Ids of the holds that were in force at the last call of `take`.
    _acting: frozenset[str] = field(default=frozenset(), init=False)

    def take(self, holds: Iterable[Hold]) -> tuple[tuple[Hold, ...], tuple[Hold, ...]]:
        """Replace the known holds; returns the holds that have begun, and those that have ended."""
        before = {h.id: h for h in self.known}
        self.known = tuple(holds)
        now = self.time.certain()
        acting = frozenset(h.id for h in self.known if h.in_force(now))
        if self.known != tuple(before.values()):
            self._clean = tuple(
                replace(h, reason=sanitise(h.reason), by=sanitise(h.by))
                for h in self.known
                if not h.released
            )
        everything = before | {h.id: h for h in self.known}
        begun, ended = acting - self._acting, self._acting - acting
        self._acting = acting
        return (
            tuple(everything[i] for i in sorted(begun)),
            tuple(everything[i] for i in sorted(ended)),
        )

    def of(self, request: NotificationRequest, channels: Iterable[str]) -> Mapping[str, Held]:
        """Which of the channels of a notification are held back now."""
        if not self._clean:
            return NO_HOLDS
        return held_channels(
            request, channels, self._clean, now=self.time.certain(), clock=self.monotonic()
        )

    def in_force(self) -> int:
        """How many holds are in force."""
        now = self.time.certain()
        return sum(h.in_force(now) for h in self._clean)

    def critical(self, request: NotificationRequest, channels: Iterable[str]) -> float:
        """Seconds for which a critical notification has been held, 0 for any other."""
        if request.priority != _CRITICAL:
            return 0.0
        held = self.of(request, channels)
        if not held:
            return 0.0
        begun = min(h.since for h in held.values())
        return (self.time.now() - max(begun, request.created)) / 1000
