"""
The delivery controller: the parts of one delivery, wired, and what concerns all notifications at once.

A version of an object arrives at `watch`, which puts its uid into the work queue. A worker (`work`) has
`reconciler` decide and submit due attempts to `dispatcher`, which runs them by `attempts`; `outcomes`
records what they come to and has the notification reconciled again. `holds` and `overdue` answer what
readiness, metrics and the resync ask. docs/architecture.md follows one attempt through all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet

from notifier.content.sanitise import sanitise
from notifier.contract import Outcome
from notifier.dispatch.dispatcher import Dispatcher
from notifier.reconciler.attempt import Attempts
from notifier.reconciler.decisions import Decisions
from notifier.reconciler.holds import Holds
from notifier.reconciler.outcomes import Outcomes
from notifier.reconciler.overdue import Overdue, expected
from notifier.reconciler.placed_holds import PlacedHolds
from notifier.reconciler.ports import Ports
from notifier.reconciler.reconciler import Reconciler
from notifier.reconciler.sending import Composer, Sender
from notifier.reconciler.watch_handlers import WatchHandlers
from syncer.model.attempt import AttemptId
from syncer.model.hold import Hold
from syncer.model.times import format_time
from syncer.rules.holds import concerns, selector_of
from syncer.sync.notification import Notification

logger = logging.getLogger("ledger.delivery")

#: Makes one attempt of a notification (uid) on a channel; see `Attempts.run`.
Run = Callable[[str, str], Awaitable[Outcome | None]]


class Controller:
    """Delivers every notification in the cache that is ours."""

    def __init__(self, ports: Ports, dispatcher: Callable[[Run], Dispatcher]) -> None:
        """Wire the parts; the dispatcher is made with the function that makes one attempt."""
        self.queue, self.recorder = ports.queue, ports.recorder
        recorder, ownership = ports.recorder, ports.ownership
        self.cache = cache = ports.cache
        cache.check = ports.queue.add
        self.placed = PlacedHolds(recorder.time, cache.monotonic)
        self.holds = Holds(cache, ownership, self.placed)
        self.watch = WatchHandlers(cache, ports.queue, recorder, ownership)
        self.decisions = Decisions(cache, recorder.time, self.holds, ports.bounds)
        self.overdue = Overdue(cache, ownership, recorder.time, self.decisions, self.holds)
        self.outcomes = Outcomes(ports)
        composer = Composer(recorder.time, self.decisions, ports.installation, ports.explorer)
        sender = Sender(ports.router, composer, cache.monotonic)
        self.attempts = Attempts(ports, self.holds, self.decisions, sender, self.outcomes)
        self.dispatcher = dispatcher(self.attempts.run)
        self.reconciler = Reconciler(
            ports, self.holds, self.decisions, self.attempts, self.dispatcher
        )

    def on_started_leading(self, ours: Callable[[str], bool]) -> None:
        """
        Reconcile our notifications that are already known, under a new epoch.

        Others may have published meanwhile what an earlier lease term saw for the first time.
        """
        mine = [e for e in self.cache.entries.values() if ours(e.uid)]
        # The longest waiting first: after a long absence, thousands may have to be claimed.
        for entry in sorted(mine, key=expected):
            entry.lead()
            self.queue.add(entry.uid)

    def waits(self, uid: str, channel: str) -> bool:
        """Whether an attempt waits for its receiver, or for its turn to be journaled."""
        return self.dispatcher.waits(uid, channel) or self.attempts.waits(uid, channel)

    def reconcile_all(self) -> None:
        """Reconcile every live notification, after a change that concerns all of them."""
        for uid in self.cache.entries:
            self.queue.add(uid)

    def pause(self, paused: bool) -> None:
        """Hold back all deliveries, or resume them; attempts under way finish."""
        if paused != self.holds.paused:
            self.holds.paused = paused
            logger.warning("deliveries are paused" if paused else "deliveries are resumed")
            self.reconcile_all()

    def take_holds(self, holds: Sequence[Hold]) -> None:
        """Obey these holds of operators, and reconcile the notifications that a change concerns."""
        begun, ended = self.placed.take(holds)
        for hold in begun:
            logger.warning("a hold is in force: %s", selector_of(hold), extra=_about(hold))
        for hold in ended:
            logger.warning("a hold has ended: %s", selector_of(hold), extra=_about(hold))
        changed = (*begun, *ended)
        for uid, entry in self.cache.entries.items() if changed else ():
            if any(concerns(hold, entry.request) for hold in changed):
                self.queue.add(uid)

    def let_go(self, share: float) -> None:
        """Let go what holds with a rate may let go now, of a share of all notifications that is ours."""
        if any(hold.rate for hold in self.placed.known):
            for uid in self.placed.let_go(self.cache.entries, share):
                self.queue.add(uid)

    async def quiesce(self, ours: Callable[[str], bool], seconds: float) -> bool:
        """
        Wait until none of our work is under way that can end; False if that takes longer than `seconds`.

        Then no send is on the wire, all outcomes are in the log, and the statuses are written. It does not
        wait for what backs off: a status that the API server refuses or has no time for, or an outcome that
        cannot be written to Redis. The next owner learns of these from the log, or from the outcome once it
        is written. A log that lost what no status shows yet is given it again.

        New work must have been stopped before (`Ownership.accepts`).
        """
        deadline = self.cache.monotonic() + seconds
        while (left := deadline - self.cache.monotonic()) > 0:
            mine = [e for e in self.cache.entries.values() if ours(e.uid)]
            for entry in mine:
                if entry.publication.pending and not (
                    entry.publication.failures or entry.publication.urgent
                ):
                    self.cache.mark_dirty(entry, urgent=True)
            available = self.recorder.log.available
            held_up = frozenset() if available else {*self.outcomes.recording.values()}
            paused = self.cache.monotonic() < self.cache.paused_until
            if not any(_under_way(e, held_up, paused=paused) for e in mine):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self.outcomes.settle(mine)
                return True
            await asyncio.sleep(0.05)
        return False

    async def drain(self, *, sending: float, recording: float) -> int:
        """
        Start nothing more, and let attempts under way end; returns how many outcomes were not recorded.

        Sends are cancelled after `sending` seconds; the rest has `recording` seconds after that.
        """
        self.holds.draining = True
        self.dispatcher.close()
        # An attempt that waits for its turn to be journaled has begun nothing, and gives up.
        self.attempts.ports.journal.allowance.open()
        if not await self.dispatcher.drain(sending):
            await self.dispatcher.abort()
        return await self.outcomes.drain(recording)


def _under_way(entry: Notification, held_up: AbstractSet[AttemptId], *, paused: bool) -> bool:
    """
    Whether work on an entry is under way that will end.

    Attempts that are `held_up` cannot be recorded in Redis, and while writers are `paused` no status can be
    written.
    """
    if any(attempt not in held_up for attempt in entry.in_flight.executing):
        return True
    return not entry.publication.failures and (
        entry.publication.writing or (entry.publication.pending and not paused)
    )


def _about(hold: Hold) -> dict[str, object]:
    """Members of a log line about a hold."""
    return {
        "hold": hold.name, "by": sanitise(hold.author), "reason": sanitise(hold.reason),
        "until": format_time(hold.until), "dropped_before": format_time(hold.drop_before),
    }  # fmt: skip
