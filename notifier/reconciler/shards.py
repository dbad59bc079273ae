"""Competing for shards, and what begins and ends with the ownership of one."""

from __future__ import annotations

from collections.abc import Callable

from notifier.outside import Outside
from notifier.progress import Takeover
from notifier.reconciler.controller import Controller
from notifier.settings import Loaded
from syncer.kube.lease_term import LeaseTimings
from syncer.kube.leases import Leases
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.sharding.installation import Installation
from syncer.sharding.manager import Owner, ShardManager
from syncer.sharding.neighbours import namespaces_shown
from syncer.sharding.ownership import Shards
from syncer.sharding.sessions import Place
from syncer.sharding.view import LABEL


class ShardWork:
    """Begins and ends the work on a shard; see `syncer.sharding.manager.Owner`."""

    def __init__(self, shards: Shards, controller: Controller, takeover: Takeover) -> None:
        """
        Wire; nothing is owned yet.

        Args:
            shards: Tell which notifications belong to a shard.
            controller: Works on them.
            takeover: Starts sweeps for each acquired shard.
        """
        self._shards = shards
        self._controller = controller
        self._takeover = takeover

    def begin(self, shard: int) -> None:
        """Reconcile the notifications of a shard that are already known."""
        failpoint(Failpoint.LEASE_ACQUIRED)
        self._takeover.owning.set()
        self._takeover.start_sweeps()
        self._controller.on_started_leading(lambda uid: self._shards.covers(shard, uid))

    async def quiesce(self, shard: int, seconds: float) -> bool:
        """Let work in a shard end and be published; False if that took longer than `seconds`."""
        return await self._controller.quiesce(lambda uid: self._shards.covers(shard, uid), seconds)


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
        without_writes: Whether it could do some of that while no replica has a write executed.
        problem: Why it opens no attempt now, empty if it does.
        store: Names the store and its history, empty while unknown.

    Returns:
        The installation, which the startup looks up first, and the manager.
    """
    sharding, namespace = loaded.settings.sharding, loaded.environment.namespace
    timings = LeaseTimings(
        renew_deadline=sharding.renew_deadline,
        retry_period=sharding.retry_period,
        margin=sharding.margin,
        send_timeout=loaded.settings.delivery.largest_timeout,
    )
    installation = Installation(
        outside.leases, namespace, sharding.lease_name, shards=sharding.shards
    )
    manager = ShardManager(
        shards,
        installation,
        owner,
        Leases(outside.leases, namespace, (LABEL, sharding.lease_name)),
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
