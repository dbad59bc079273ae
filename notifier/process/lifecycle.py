"""
The life of the process: which tasks there are, and who owns them.

Loops must never end: if one does, the process ends. Rounds are repeated, whatever error one of
them raises. Startup and drain are tasks like any other, so a signal also ends a startup.

The process ends within its grace period: no new work begins, attempts under way end and are recorded,
statuses are written, Leases are released.

Each step has all the seconds that it may need or, if the grace period is shorter than their sum, its share
of the remaining time. Sends that have not ended by then are given up and recorded as unknown. An attempt
whose outcome cannot be recorded in time stays open in the log, where the next owner finds it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from notifier.app import Parts
from notifier.audit.gate import HealthGate
from notifier.process.gauges import refresh
from notifier.process.pause import PauseSwitch
from notifier.process.startup import StartUp
from notifier.process.sweeps import Sweep, Sweeps
from syncer.runtime.failpoints import armed
from syncer.runtime.supervise import critical, restarting
from syncer.sharding.neighbours import Neighbours

logger = logging.getLogger("ledger")

#: Seconds for attempts under way, in addition to the longest send.
DRAIN_SENDS: Final = 2.0
#: Seconds for recording outcomes, and for writing statuses, after the sends have ended.
DRAIN_RECORD: Final = 5.0
DRAIN_SYNC: Final = 8.0
#: Seconds for Events and for audit, which are drained at the same time.
DRAIN_EVENTS: Final = 2.0
DRAIN_AUDIT: Final = 3.0
#: Seconds for each of the two steps in which the Leases are released.
RELEASE: Final = 2.0
#: Seconds for the end of the process itself.
EXIT: Final = 2.0


class Stopped(Exception):
    """The process was asked to end and has drained."""


async def drain(parts: Parts) -> None:
    """
    Wait for a signal, or for another reason to end, then bring all work to an end.

    Raises:
        Stopped: always, after the drain.
    """
    await parts.outside.stop.requested.wait()
    parts.progress.draining = True
    logger.info("draining")
    sending = parts.settings.delivery.largest_timeout + DRAIN_SENDS
    budget = Budget(parts.monotonic, parts.loaded.environment.grace_period, sending)
    unrecorded = await parts.controller.drain(
        sending=budget.of(sending), recording=budget.of(DRAIN_RECORD)
    )
    unsynced = await parts.status_writer.drain(parts.monotonic() + budget.of(DRAIN_SYNC))
    shared = budget.of(DRAIN_AUDIT)
    unaudited, _ = await asyncio.gather(
        _drain_audit(parts, shared), parts.events.drain(min(DRAIN_EVENTS, shared))
    )
    released = await parts.manager.release(timeout=budget.of(2 * RELEASE) / 2)
    logger.info(
        "drained",
        extra={
            "unrecorded": unrecorded,
            "unsynced": unsynced,
            "unaudited": unaudited,
            "released": released,
        },
    )
    raise Stopped


class Budget:
    """The seconds of the drain's steps; in a short grace period, each gets a share of the time left."""

    def __init__(self, monotonic: Callable[[], float], grace: float | None, sending: float) -> None:
        """The grace period begins now; sends may need `sending` seconds."""
        self._monotonic = monotonic
        self._until = math.inf if grace is None else monotonic() + grace - EXIT
        self._needed = sending + DRAIN_RECORD + DRAIN_SYNC + DRAIN_AUDIT + 2 * RELEASE

    def of(self, seconds: float) -> float:
        """Return a step's share of the seconds that it may need; call this once for each step, in order."""
        share = (self._until - self._monotonic()) / self._needed
        self._needed -= seconds
        return seconds * max(0.0, min(1.0, share))


async def _drain_audit(parts: Parts, seconds: float) -> int:
    return await parts.audit.drain(seconds) if parts.audit else 0


#: Enough that the claims of a start share round trips: 500 took half the time that 16 need.
WORKERS: Final = 64
#: Most receivers that readiness names.
_SHOWN: Final = 5

Loop = tuple[str, Callable[[], Awaitable[None]]]


class Lifecycle:
    """Starts the product, keeps it running, and ends it."""

    def __init__(self, parts: Parts) -> None:
        """Nothing runs yet; readiness and gauges are available."""
        self._parts = parts
        self._sweeps = Sweeps(parts)
        self._start_up = StartUp(parts, self._sweeps)
        self._neighbours = _neighbours_of(parts)
        _register(parts, self._neighbours)
        parts.outside.admin.detail("retention", lambda: self._sweeps.not_deleted)
        parts.outside.admin.refresh = partial(refresh, parts)

    def loops(self) -> list[Loop]:
        """Loops that must never end, with their names."""
        parts = self._parts
        loops: list[Loop] = [
            ("redis", parts.client.run),
            ("sync", parts.status_writer.run),
            ("journal", parts.journal.run),
            ("routing", parts.outside.router.run),
            ("events", parts.events.run),
            ("hold-watch", parts.hold_keeper.watch.run),
            *((f"worker-{n}", parts.controller.reconciler.work) for n in range(WORKERS)),
            ("wake-ups", self._sweeps.follow_wake_ups),
        ]
        if parts.loaded.path is not None:
            switch = PauseSwitch(parts.loaded.path, parts.controller.pause)
            loops.append(("pause-switch", switch.run))
        if parts.audit is not None:
            loops.append(("audit", parts.audit.run))
        gate = _gate_of(parts)
        if gate is not None and gate.asking:
            loops.append(("audit-gate", gate.run))
        return loops

    def start(self, group: asyncio.TaskGroup) -> None:
        """Start everything; one of the tasks of the group ends with `Stopped` after the drain."""
        for name, work in self.loops():
            group.create_task(critical(name, work), name=name)
        others = Sweep(
            "neighbours", self._neighbours.round, self._parts.settings.sync.finished_sweep
        )
        for sweep in (*self._sweeps.rounds(), others):
            group.create_task(
                restarting(sweep.name, sweep.work, every=sweep.every, sooner=sweep.sooner),
                name=sweep.name,
            )
        group.create_task(self._start_up.run(group), name="bring-up")
        group.create_task(drain(self._parts), name="end")

    async def run(self) -> None:
        """
        Run until the process has to end, and has drained.

        Raises:
            ConfigError: a fault that is found only now, such as a store of another installation.
        """
        parts = self._parts
        try:
            async with asyncio.TaskGroup() as group:
                self.start(group)
        except BaseExceptionGroup as ended:
            # `Stopped` cancels all other tasks; any other error on the way still counts.
            _, others = ended.split(Stopped)
            if others is not None:
                raise others from None
        if parts.outside.stop.refusal is not None:
            raise parts.outside.stop.refusal


def _objects_problem(parts: Parts) -> str | None:
    """Why not all objects are known, or why they may be outdated; called for every probe."""
    progress, reflector = parts.progress, parts.reflector
    owning = bool(parts.shards.owned)
    # Before the first shard is owned, `synced` does not prove that anything was listed.
    progress.listed = progress.listed or (owning and reflector.synced)
    unlisted = not progress.listed and (owning or not reflector.answered)
    waiting = "objects are not listed yet" if unlisted else None
    return reflector.problem or parts.claimer.permissions.problem or waiting


def _gate_of(parts: Parts) -> HealthGate | None:
    return parts.outside.audit.gate if parts.outside.audit else None


def _refusing(channels: Sequence[str]) -> str | None:
    shown = ", ".join(channels[:_SHOWN]) + (" and others" if channels[_SHOWN:] else "")
    return f"notifications wait: {shown} reject what is configured for them" if channels else None


def _neighbours_of(parts: Parts) -> Neighbours:
    """Create the part that looks out for other installations, and connect it."""
    loaded, outside = parts.loaded, parts.outside
    made = Neighbours(
        outside.leases,
        loaded.environment.namespace,
        loaded.settings.sharding.lease_name,
        namespaces=loaded.namespaces,
        api_time=outside.api_time.now,
        clock=parts.monotonic,
    )
    parts.notifications.on_shown = lambda request: made.compare(request, parts.log.store)
    parts.metrics.other_installations.set_function(lambda: len(made.seen))
    return made


def _register(parts: Parts, neighbours: Neighbours) -> None:
    """Register the readiness checks: how far the startup is, and what keeps the process from working."""
    admin, progress = parts.outside.admin, parts.progress
    admin.check("shutdown", lambda: "draining" if progress.draining else None)
    admin.check("redis", lambda: progress.redis or parts.client.unavailable_reason)
    admin.check("cluster", lambda: progress.cluster or _objects_problem(parts))
    unexamined = "shards are not examined yet"
    admin.check("shards", lambda: unexamined if progress.cluster else parts.manager.problem)
    if (gate := _gate_of(parts)) is not None:
        admin.check("datastorage", lambda: gate.problem)
        admin.detail("datastorage", lambda: gate.remark)
    admin.check("status", lambda: parts.status_writer.refusals.problem)
    patience = parts.settings.lease_duration
    admin.check("epoch", lambda: parts.controller.holds.fence_problem(patience))
    admin.detail("routing", lambda: parts.outside.router.problem)
    admin.detail("receivers", lambda: _refusing(parts.breakers.refused()))
    admin.check("holds", lambda: parts.hold_keeper.watch.problem)
    admin.detail("holds", lambda: parts.hold_keeper.watch.remark)
    admin.detail("status-policy", lambda: parts.status_policy.problem)
    admin.detail("installation", lambda: parts.installation.problem or neighbours.problem)
    admin.detail("failpoints", armed)
