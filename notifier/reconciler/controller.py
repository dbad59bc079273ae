"""
The delivery controller: wires the parts of a delivery, and acts on all notifications at once.

A version of an object arrives at `notifications`, which put its uid into the work queue. A worker calls
`reconciler`, which decides and submits due attempts to `dispatcher`, which runs them with `attempts`. Once
their outcomes are recorded, the notification is reconciled again. `holds` and `overdue` answer questions of
readiness, metrics and the resync. docs/architecture.md follows one attempt through all of these.

As the `Owner` of shards the controller begins and ends the work on a shard; `make_manager` makes the
process compete for shards.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet

from notifier.contract import Outcome
from notifier.dispatch.dispatcher import Dispatcher
from notifier.outside import Outside
from notifier.progress import Takeover
from notifier.reconciler.attempt import Attempts, Ports, Sender
from notifier.reconciler.decisions import Decisions, Overdue, expected
from notifier.reconciler.holds import Holds
from notifier.reconciler.operator_holds import PlacedHolds
from notifier.reconciler.reconciler import Reconciler
from notifier.settings import Loaded
from syncer.kube.lease_term import LeaseTimings
from syncer.kube.leases import Leases
from syncer.model.attempt import AttemptId
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.sharding.installation import Installation
from syncer.sharding.manager import Owner, ShardManager
from syncer.sharding.neighbours import namespaces_shown
from syncer.sharding.ownership import Shards
from syncer.sharding.sessions import Place
from syncer.sharding.view import LABEL
from syncer.sync.notifications import Notification

logger = logging.getLogger("ledger.delivery")

#: Makes one attempt of a notification (uid) on a channel; see `Attempts.run`.
Run = Callable[[str, str], Awaitable[Outcome | None]]


class Controller:
    """Delivers the notifications of our shards in the cache; see `syncer.sharding.manager.Owner`."""

    def __init__(
        self,
        ports: Ports,
        dispatcher: Callable[[Run], Dispatcher],
        shards: Shards,
        takeover: Takeover,
    ) -> None:
        """
        Wire the parts; nothing is owned yet.

        Args:
            ports: The shared parts.
            dispatcher: Makes the dispatcher from the function that makes one attempt.
            shards: Tells which notifications belong to a shard.
            takeover: Starts sweeps for each acquired shard.
        """
        self.queue, self.notifications = ports.queue, ports.notifications
        self.shards, self.takeover = shards, takeover
        time, ownership = ports.notifications.time, ports.notifications.ownership
        self.cache = cache = ports.notifications.cache
        cache.check, cache.check_at = ports.queue.add, ports.queue.add_at
        cache.retry = ports.queue.retry
        self.placed = PlacedHolds(cache, time)
        self.holds = Holds(cache, ownership, self.placed)
        self.decisions = Decisions(cache, time, self.holds, ports.bounds)
        self.overdue = Overdue(self.decisions, ownership)
        self.attempts = Attempts(ports, self.decisions, Sender(ports, self.decisions))
        self.dispatcher = dispatcher(self.attempts.run)
        self.reconciler = Reconciler(ports, self.decisions, self.attempts, self.dispatcher)

    def begin(self, shard: int) -> None:
        """
        Reconcile the known notifications of a shard under a new epoch.

        Others may since have published a notification that an earlier lease term saw for the first time.
        """
        failpoint(Failpoint.LEASE_ACQUIRED)
        self.takeover.owning.set()
        self.takeover.start_sweeps()
        # The longest waiting first: after a long absence, thousands may have to be claimed.
        for notification in sorted(self._known_of(shard), key=expected):
            notification.lead()
            self.queue.add(notification.uid)

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

    def _known_of(self, shard: int) -> list[Notification]:
        of = self.shards.sharding.of
        return [e for e in self.cache.entries.values() if of(e.uid) == shard]

    async def quiesce(self, shard: int, seconds: float) -> bool:
        """
        Wait until no work in a shard that can end is under way; False if that takes longer than `seconds`.

        Then no send is on the wire, all outcomes are in the log, and the statuses are written. Work that
        backs off is not waited for: a status that the API server refuses or has no time for, or an outcome
        that cannot be written to Redis. The next owner learns of these from the log, or from the outcome
        once it is written. A log that has lost records that no status shows yet gets them again.

        New work must have been stopped before (`Ownership.accepts`).
        """
        deadline = self.cache.monotonic() + seconds
        while (left := deadline - self.cache.monotonic()) > 0:
            mine = self._known_of(shard)
            for notification in mine:
                if notification.publication.pending and not (
                    notification.publication.failures or notification.publication.urgent
                ):
                    self.cache.mark_dirty(notification, urgent=True)
            available = self.notifications.recorder.log.available
            held_up = (
                frozenset() if available else {*self.notifications.outcomes.recording.values()}
            )
            paused = self.cache.monotonic() < self.cache.paused_until
            if not any(_under_way(e, held_up, paused=paused) for e in mine):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self.notifications.claimer.settle(mine)
                return True
            await asyncio.sleep(0.05)
        return False

    async def drain(self, *, sending: float, recording: float) -> int:
        """
        Start nothing more, and let attempts under way end; returns how many outcomes were not recorded.

        Sends are cancelled after `sending` seconds; the rest has `recording` seconds after that.
        """
        self.notifications.claimer.draining = True
        self.dispatcher.close()
        # An attempt that waits for its turn to be journaled has not begun, and gives up.
        self.notifications.journal.allowance.open()
        await self.dispatcher.drain(sending)
        return await self.notifications.outcomes.drain(recording)


def _under_way(
    notification: Notification, held_up: AbstractSet[AttemptId], *, paused: bool
) -> bool:
    """
    Whether work on a notification that will end is under way.

    Attempts that are `held_up` cannot be recorded in Redis, and while writers are `paused` no status can be
    written.
    """
    if any(attempt not in held_up for attempt in notification.in_flight.executing):
        return True
    return not notification.publication.failures and (
        notification.publication.writing or (notification.publication.pending and not paused)
    )


def make_manager(
    loaded: Loaded,
    outside: Outside,
    shards: Shards,
    *,
    owner: Owner,
    able: Callable[[], bool],
    without_writes: Callable[[], bool],
    problem: Callable[[], str],
    store: Callable[[], str],
) -> tuple[Installation, ShardManager]:
    """
    Make the manager of the shards.

    Args:
        loaded: The settings.
        outside: Has the client of Leases, the clocks, and the identity of this process.
        shards: Updated with each change of ownership.
        owner: Works on the shards.
        able: Whether this process could work on a shard now.
        without_writes: Whether it could do part of that work while no replica's Redis executes writes.
        problem: Why this process opens no attempt now, empty if it does.
        store: Names the store and its history, empty while unknown.

    Returns:
        The installation, which is looked up first at startup, and the manager.
    """
    sharding, namespace = loaded.settings.sharding, loaded.environment.namespace
    timings = LeaseTimings(
        renew_deadline=sharding.renew_deadline,
        retry_period=sharding.retry_period,
        margin=sharding.margin,
        send_timeout=loaded.settings.delivery.largest_timeout,
    )
    leases = Leases(outside.leases, namespace, (LABEL, sharding.lease_name))
    installation = Installation(leases, namespace, sharding.lease_name, shards=sharding.shards)
    manager = ShardManager(
        shards,
        installation,
        owner,
        leases,
        Place(
            sharding.lease_name,
            outside.identity,
            sharding.incarnation,
            outside.monotonic,
            outside.wall,
            outside.api_time.now,
            namespaces_shown(loaded.namespaces),
            lambda: (outside.router.in_force, outside.router.problem or ""),
        ),
        timings=timings,
        able=able,
        without_writes=without_writes,
        problem=problem,
        store=store,
        refused=outside.stop.refuse,
    )
    return installation, manager
