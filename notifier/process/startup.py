"""
Startup: waits for each server that the product depends on, with the reason in `/readyz`.

Nothing is sent before a Lease is held and the store is known to belong to this installation; if Redis is
away and attempts are journaled, the store is checked later. Shards are acquired first, then their objects
are listed: no others are requested, and a due notification need not wait until a hundred thousand others
are listed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Literal, TypeVar

from notifier.app import Parts
from notifier.process.sweeps import Sweeps
from syncer.ledger.preflight import Severity, preflight
from syncer.model.errors import ConfigError, ContractError, PortError
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.runtime.supervise import critical

logger = logging.getLogger("ledger")
T = TypeVar("T")

#: Seconds between tries to reach a server, and between checks whether objects are listed.
_CONNECT_PAUSE: Final = 1.0
_LIST_POLL: Final = 0.05
#: Seconds between checks of the start-up reconciliation, and after which it is late.
_RECONCILED_POLL: Final = 0.25
_RECONCILED_LATE: Final = 600.0


class StartUp:
    """Brings the process up."""

    def __init__(self, parts: Parts, sweeps: Sweeps) -> None:
        """Nothing is connected yet; the first rounds of `sweeps` are part of the startup."""
        self._parts = parts
        self._sweeps = sweeps
        self._started = parts.monotonic()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """
        Wait for the servers one after the other, and start the tasks that can run once each answers.

        Raises:
            ConfigError: the store or the lease map belongs to another installation. If attempts are
                journaled, and so may be under way by then, the process is asked to end instead.
        """
        installation = await self._answered("cluster", self._parts.installation.found)
        self._parts.shards.sharding = self._parts.installation.sharding
        if self._parts.journal.enabled:
            await self._open_redis_or_go_on(installation, group)
        else:
            await self._open_redis(installation)
        group.create_task(critical("reflector", self._parts.reflector.run), name="reflector")
        self._parts.progress.cluster = None
        while not self._parts.reflector.answered:
            await asyncio.sleep(_LIST_POLL)
        failpoint(Failpoint.LISTED)
        # A status proves nothing until it is known that nobody else may write statuses.
        await self._parts.status_policy.look()
        group.create_task(self._parts.manager.run(), name="shards")
        group.create_task(self._report_reconciled(), name="reconciled")
        await self._parts.takeover.owning.wait()
        while not self._parts.reflector.synced:
            await asyncio.sleep(_LIST_POLL)
        self._parts.progress.listed = True
        # Most listed objects stay: later garbage collections need not traverse them.
        gc.freeze()

    async def _answered(
        self, server: Literal["redis", "cluster"], ask: Callable[[], Awaitable[T]]
    ) -> T:
        """Ask a server until it answers; meanwhile readiness shows why it does not."""
        while True:
            try:
                return await ask()
            except (ContractError, PortError, TimeoutError) as error:
                reason = str(error) or "Redis does not answer in time"
            if getattr(self._parts.progress, server) != reason:
                logger.warning("waiting for %s: %s", server, reason)
                setattr(self._parts.progress, server, reason)
            await asyncio.sleep(_CONNECT_PAUSE)

    async def _open_redis_or_go_on(self, installation: str, group: asyncio.TaskGroup) -> None:
        """Wait for Redis until attempts would be journaled, then continue without it."""
        opening = group.create_task(self._open_or_end(installation), name="redis-open")
        await asyncio.wait([opening], timeout=self._parts.journal.after)
        now = self._parts.outside.api_time.now()
        if opening.done():
            if self._parts.outside.stop.requested.is_set():
                # The drain ends this task with all others.
                await asyncio.Event().wait()
            return
        if now is not None:
            # Redis's time is not known yet, and the machine's own clock may be wrong.
            self._parts.claimer.recorder.time.set(now)

    async def _open_or_end(self, installation: str) -> None:
        """Open Redis; if it must not be used, end the process as a signal does: attempts are under way."""
        try:
            await self._open_redis(installation)
        except ConfigError as error:
            self._parts.outside.stop.refuse(error)

    async def _open_redis(self, installation: str) -> None:
        await self._answered("redis", partial(self._parts.client.open, installation))
        findings = preflight(
            self._parts.client.info,
            durability=self._parts.settings.redis.durability,
            ahead=self._parts.clocks.worst,
        )
        for finding in findings:
            if finding.severity is Severity.REFUSE:
                raise ConfigError(f"{finding.text}; {finding.fix}", path="redis")
            logger.warning("Redis: %s; %s", finding.text, finding.fix)
        self._parts.progress.redis = None

    async def _report_reconciled(self) -> None:
        """
        Log once that everything that existed at startup has been checked.

        Then every unfinished notification of this replica is claimed, or it was logged why it cannot be;
        every finished one was compared with its log; logs without an object are retired.
        """
        await self._parts.takeover.owning.wait()
        late = self._parts.monotonic() + _RECONCILED_LATE
        holds = self._parts.controller.holds
        # The sweeps usually end last, so they are checked first: `unclaimed` visits every notification.
        while not self._sweeps.through or holds.unclaimed():
            if self._parts.monotonic() > late:
                logger.warning(
                    "start-up reconciliation is not done yet",
                    extra={"unclaimed": holds.unclaimed()},
                )
                return
            await asyncio.sleep(_RECONCILED_POLL)
        logger.info(
            "start-up reconciliation done",
            extra={
                "seconds": round(self._parts.monotonic() - self._started, 2),
                "unfinished": len(self._parts.cache.entries),
                **self._sweeps.looked_at,
            },
        )
