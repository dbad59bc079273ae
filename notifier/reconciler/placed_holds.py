"""
The operators' holds, as this process knows them, which channels they hold back, and what they let go.

Every decision asks this module, with the current time: a hold applies as soon as it is known, and ends by
itself. The time is `LedgerTime.certain`, which a clock that is ahead cannot advance, so such a clock ends
no hold early. `syncer.kube.delivery_holds` follows the holds.

A hold with a rate lets go what it holds, the oldest first, so many a second over all replicas: each owner
lets go the share of its shards, and remembers what it has let go. The next owner lets the rest go anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from notifier.content.sanitise import sanitise
from syncer.model.hold import Hold
from syncer.model.resource import NotificationRequest
from syncer.rules.holds import Held, concerns, held_channels, holds_channel
from syncer.rules.plan import NO_HOLDS
from syncer.rules.recurrence import currently
from syncer.runtime.clock import LedgerTime, MonotonicClock
from syncer.sync.notification import Notification

#: The priority of notifications that must not wait unnoticed.
CRITICAL: Final = "Critical"


@dataclass(eq=False)
class PlacedHolds:
    """The holds of the installation."""

    time: LedgerTime
    monotonic: MonotonicClock
    #: Why it is not known what is held, None if it is: nothing may be sent then.
    unknown: Callable[[], str | None] = lambda: None
    #: All holds that exist.
    known: tuple[Hold, ...] = field(default=(), init=False)
    #: The same without secrets that somebody has typed into a reason; each with its present or next window.
    _clean: tuple[Hold, ...] = field(default=(), init=False)
    _typed: tuple[Hold, ...] = field(default=(), init=False)
    #: The holds that were in force at the last call of `take`, by key.
    _acting: dict[tuple[str, str], Hold] = field(default_factory=dict, init=False)
    #: Uids that holds have let go, and how many more each may let go, by key; and since when.
    _let_go: dict[tuple[str, str], set[str]] = field(default_factory=dict, init=False)
    _allowed: dict[tuple[str, str], float] = field(default_factory=dict, init=False)
    _at: float = field(default=0.0, init=False)

    def take(self, holds: Iterable[Hold]) -> tuple[tuple[Hold, ...], tuple[Hold, ...]]:
        """Replace the known holds; returns those that have begun, or hold less now, and that have ended."""
        before, now = self.known, self.time.certain()
        self.known = tuple(holds)
        if self.known != before:
            self._typed = tuple(
                replace(h, reason=sanitise(h.reason), author=sanitise(h.author)) for h in self.known
            )
        self._clean = currently(self._typed, now)
        acting = {h.key: h for h in self._clean if h.in_force(now)}
        was, self._acting = self._acting, acting
        for key in [k for k in self._let_go if k not in acting]:
            del self._let_go[key]
        begun = [
            h for k, h in acting.items() if k not in was or h.drop_before != was[k].drop_before
        ]
        return tuple(begun), tuple(h for k, h in was.items() if k not in acting)

    def of(self, request: NotificationRequest, channels: Iterable[str]) -> Mapping[str, Held]:
        """Which of the channels of a notification are held back now."""
        if not self._clean:
            return NO_HOLDS
        holds = [h for h in self._clean if request.uid not in self._let_go.get(h.key, ())]
        return held_channels(
            request, channels, holds, now=self.time.certain(), clock=self.monotonic()
        )

    def let_go(self, entries: Mapping[str, Notification], share: float) -> list[str]:
        """
        Let go what may go since the last call; returns the uids.

        Args:
            entries: All live ones, by uid.
            share: Of the installation's notifications that are ours.
        """
        now = self.monotonic()
        passed, self._at = min(now - self._at, 2.0), now
        gone: list[str] = []
        for hold in self._acting.values():
            if not hold.rate:
                continue
            let_go = self._let_go.setdefault(hold.key, set())
            let_go.intersection_update(entries)
            waiting = [
                e
                for e in entries.values()
                if e.withheld
                and e.uid not in let_go
                and concerns(hold, e.request)
                and any(holds_channel(hold, c) for c in e.withheld)
            ]
            each = hold.rate * share
            # What is not used is not saved up: newcomers go at the rate as well.
            allowed = min(self._allowed.get(hold.key, 0.0) + each * passed, max(1.0, 2 * each))
            oldest = heapq.nsmallest(int(allowed), waiting, key=lambda e: e.request.created)
            self._allowed[hold.key] = allowed - len(oldest)
            let_go.update(e.uid for e in oldest)
            gone += [e.uid for e in oldest]
        return gone

    def in_force(self) -> int:
        """How many holds are in force."""
        now = self.time.certain()
        return sum(h.in_force(now) for h in self._clean)

    def critical(self, request: NotificationRequest, channels: Iterable[str]) -> float:
        """Seconds for which a critical notification has been held, 0 for any other."""
        if request.priority != CRITICAL:
            return 0.0
        held = self.of(request, channels)
        if not held:
            return 0.0
        begun = min(h.since for h in held.values())
        return (self.time.now() - max(begun, request.created)) / 1000
