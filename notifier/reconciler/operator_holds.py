"""
The operators' holds that this process knows: the channels that they hold back, and those they let go.

Every decision asks this module, with the current time: a hold applies as soon as it is known, and ends by
itself. The time is `LedgerTime.certain`, which a clock that is ahead cannot advance, so such a clock ends
no hold early. `syncer.kube.delivery_holds` follows the holds.

A hold with a rate lets its notifications go at that rate over all replicas, the oldest first. Each owner
lets go the share of its shards, and remembers which ones it has let go. The next owner starts again with
the rest.

`HoldKeeper` follows the holds, and shows on each whether anything known matches it. Nothing is sent while
the holds are not known (`HoldWatch.problem`). A pattern with a typo holds nothing, without an error. So the
owner of the first shard writes the condition `Matched`. All receivers and types are known, but only the
namespaces that the settings name. The condition is written when it changes; a failed write is tried again
in the next round.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from notifier.content.sanitise import sanitise
from notifier.outside import Outside
from notifier.settings import Loaded
from syncer.kube.delivery_holds import DeliveryHolds, HoldWatch
from syncer.model.errors import Conflict, Gone
from syncer.model.hold import Hold
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.holds import Held, concerns, held_channels, on_channel, selector_of, unmatched
from syncer.rules.plan import NO_HOLDS
from syncer.rules.recurrence import currently
from syncer.runtime.clock import LedgerTime
from syncer.sharding.ownership import Shards
from syncer.sync.notifications import Cache

logger = logging.getLogger("ledger.delivery")

#: The priority of notifications that must not wait unnoticed.
CRITICAL: Final = "Critical"


@dataclass(eq=False)
class PlacedHolds:
    """The holds of the installation."""

    cache: Cache
    time: LedgerTime
    #: Why the holds are not known, so that nothing may be sent; None if they are known.
    unknown: Callable[[], str | None] = lambda: None
    #: All holds that exist.
    known: tuple[Hold, ...] = field(default=(), init=False)
    #: The same, sanitised because a reason may contain a secret, and each with its present or next window.
    _clean: tuple[Hold, ...] = field(default=(), init=False)
    _typed: tuple[Hold, ...] = field(default=(), init=False)
    #: The holds that were in force at the last call of `obey`, by key.
    _acting: dict[tuple[str, str], Hold] = field(default_factory=dict, init=False)
    #: Holds that were in force at a decision since then: if a clock is set back, an ended one holds again.
    _seen: dict[tuple[str, str], Hold] = field(default_factory=dict, init=False)
    #: Uids that each hold has let go, and how many more it may let go, by key; and the second of the last
    #: step.
    _let_go: dict[tuple[str, str], set[str]] = field(default_factory=dict, init=False)
    _allowed: dict[tuple[str, str], float] = field(default_factory=dict, init=False)
    _at: float = field(default=0.0, init=False)

    def obey(self, holds: Iterable[Hold]) -> None:
        """
        Apply these holds, and reconcile the notifications that a change concerns.

        A change is a hold that has begun, has ended (also by itself), or drops other notifications than
        before.
        """
        before, now = self.known, self.time.certain()
        self.known = tuple(holds)
        if self.known != before:
            self._typed = tuple(
                replace(h, reason=sanitise(h.reason), author=sanitise(h.author)) for h in self.known
            )
        self._clean = currently(self._typed, now)
        acting = {h.key: h for h in self._clean if h.in_force(now)}
        was, self._acting = self._acting, acting
        over, self._seen = {**self._seen, **was}, {}
        self._let_go = {k: uids for k, uids in self._let_go.items() if k in acting}
        begun = [
            h for k, h in acting.items() if k not in was or h.drop_before != was[k].drop_before
        ]
        ended = [h for k, h in over.items() if k not in acting]
        for hold in begun:
            logger.warning("a hold is in force: %s", selector_of(hold), extra=_about(hold))
        for hold in ended:
            logger.warning("a hold has ended: %s", selector_of(hold), extra=_about(hold))
        changed = (*begun, *ended)
        for uid, notification in self.cache.entries.items() if changed else ():
            if any(concerns(hold, notification.request) for hold in changed):
                self.cache.check(uid)

    def of(self, request: NotificationRequest, channels: Iterable[str]) -> Mapping[str, Held]:
        """Return the channels of a notification that are held back now."""
        if not self._clean:
            return NO_HOLDS
        now = self.time.certain()
        holds = [h for h in self._clean if request.uid not in self._let_go.get(h.key, ())]
        self._seen.update((h.key, h) for h in holds if h.in_force(now))
        return held_channels(request, channels, holds, now=now, clock=self.cache.monotonic())

    def let_go(self, share: float) -> None:
        """Let go the notifications that may go since the last call; `share` is our share of all of them."""
        notifications = self.cache.entries
        now = self.cache.monotonic()
        passed, self._at = min(now - self._at, 2.0), now
        for hold in self._acting.values():
            if not hold.rate:
                continue
            let_go = self._let_go.setdefault(hold.key, set())
            let_go.intersection_update(notifications)
            waiting = [
                e
                for e in notifications.values()
                if e.withheld
                and e.uid not in let_go
                and concerns(hold, e.request)
                and any(on_channel(c, hold.receivers) for c in e.withheld)
            ]
            each = hold.rate * share
            # Unused allowance is not saved up, so that new notifications also go at the rate.
            allowed = min(self._allowed.get(hold.key, 0.0) + each * passed, max(1.0, 2 * each))
            oldest = heapq.nsmallest(int(allowed), waiting, key=lambda e: e.request.created)
            self._allowed[hold.key] = allowed - len(oldest)
            let_go.update(e.uid for e in oldest)
            for notification in oldest:
                self.cache.check(notification.uid)

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


#: Seconds between rounds, and between steps of letting go.
PERIOD: Final = 5.0
STEP: Final = 1.0
_MATCHES: Final = "something known matches each pattern"


class HoldKeeper:
    """Makes the process obey the holds, and writes the condition of each."""

    def __init__(
        self,
        loaded: Loaded,
        outside: Outside,
        placed: PlacedHolds,
        shards: Shards,
        *,
        idle: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wire; nothing is sent before `watch` has run, nor while the process is `idle`."""
        self._holds = DeliveryHolds(outside.objects, loaded.environment.namespace)
        self._placed = placed
        self._router = outside.router
        self._namespaces = loaded.namespaces
        self._shards = shards
        self._idle = idle
        self.watch: Final = HoldWatch(self._holds, placed.obey, outside.monotonic)
        placed.unknown = lambda: self.watch.problem

    async def let_go(self) -> None:
        """Let go the notifications that holds with a rate allow by now, unless they could not be sent."""
        if not (self._idle() or self.watch.problem is not None):
            self._placed.let_go(len(self._shards.owned) / self._shards.sharding.shards)

    async def round(self) -> None:
        """
        Apply holds that have begun or ended by themselves; the owner of the first shard writes conditions.

        Raises:
            PortError: a condition was not written.
        """
        placed = self._placed
        placed.obey(placed.known)
        now = placed.time.certain()
        for hold in placed.known if 0 in self._shards.owned else ():
            if now >= hold.until:
                continue
            strange = unmatched(hold, self._router.channels, self._namespaces)
            found = ("False", "; ".join(strange)) if strange else ("True", _MATCHES)
            if found != hold.matched:
                try:
                    await self._holds.put_matched(hold, *found, format_time(now, millis=False))
                except (Conflict, Gone):
                    continue  # the watch shows why


def _about(hold: Hold) -> dict[str, object]:
    """Members of a log line about a hold."""
    return {
        "hold": hold.name, "by": sanitise(hold.author), "reason": sanitise(hold.reason),
        "until": format_time(hold.until), "dropped_before": format_time(hold.drop_before),
    }  # fmt: skip
