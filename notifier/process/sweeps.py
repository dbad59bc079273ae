"""
Sweeps over everything that this process owns; they find changes whose events were lost.

There are sweeps of live logs, of finished notifications and of logs without an object, the resync, the
retention and the self-audit. Sweeps of logs wait until this process has owned a shard. A takeover starts
two of them at once, because the last owner may have left work undone: finished notifications whose log is
not marked, and logs of deleted objects that are not retired.

A wake-up says that another process has appended to a log. Anybody may publish one, so it only
causes a reconciliation of a notification that is already known, or starts a sweep. Wake-ups that are
published while this process does not listen are lost, so all sweeps of logs start as soon as it listens.

Finished notifications are not deleted where Kubernaut would treat each deletion as a cancellation: its
webhook records every deletion as a cancellation by the account that deletes, and its orchestrator then
calls the notification cancelled. The webhook itself cannot be seen without a right that neither chart
gives. Discovery is open to every account, and Kubernaut is installed wherever the API group serves its
other kinds. Discovery is queried before each round, because Kubernaut may be installed later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from notifier.app import Parts
from notifier.reconciler.operator_holds import PERIOD, STEP
from syncer.kube.status_policy import PERIOD as POLICY_PERIOD
from syncer.ledger.subscriber import LISTENING
from syncer.model.errors import ContractError, Gone, PortError
from syncer.model.resource import GROUP, VERSION
from syncer.runtime.slices import slices

logger = logging.getLogger("ledger")
_deletions = logging.getLogger("ledger.retention")

#: Discovery path of the API group, and a resource in it that Kubernaut installs.
SERVED: Final = f"/apis/{GROUP}/{VERSION}"
OTHER: Final = "remediationrequests"
REFUSED: Final = (
    "retention.deleteObjects deletes nothing: Kubernaut is installed here, and its webhook would record"
    " each deletion as a cancellation by this controller; set it to asCancelled if that is wanted, or to"
    " false"
)
#: Most journaled finished notifications that are claimed at once, the seconds that each may take before
#: another one begins, and the seconds between rounds.
_JOURNALED: Final = 64
_JOURNALED_PATIENCE: Final = 30.0
_JOURNALED_PAUSE: Final = 1.0
#: Seconds between checks whether the objects of all owned shards are listed.
_LISTED_POLL: Final = 0.1
#: Kinds of the two sweeps that a takeover starts; fields of a log line.
_FINISHED: Final = "finished"
_LOGS: Final = "logs"


@dataclass(frozen=True, slots=True)
class Sweep:
    """Periodic work: its name, one round, seconds between rounds, and the event that starts one early."""

    name: str
    work: Callable[[], Awaitable[None]]
    every: float
    sooner: asyncio.Event | None = None


@dataclass(eq=False)
class Sweeps:
    """The periodic work of the process, and the handling of wake-ups."""

    _parts: Parts
    #: Why deleting finished notifications is refused, None if it is not.
    not_deleted: str | None = field(default=None, init=False)
    #: How many objects or logs each of these two sweeps has compared, by kind; set when it completes.
    looked_at: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def through(self) -> bool:
        """Whether both sweeps have been completed since the last takeover."""
        return not self._parts.takeover.waiting and self.looked_at.keys() == {_FINISHED, _LOGS}

    def rounds(self) -> list[Sweep]:
        """All periodic work of the process."""
        parts, sync, takeover = self._parts, self._parts.settings.sync, self._parts.takeover
        rounds = [
            Sweep("resync", self.resync, sync.resync),
            Sweep("live-sweep", self.live, sync.live_sweep, takeover.live),
            Sweep("journaled", self.journaled, _JOURNALED_PAUSE),
            Sweep("finished-sweep", self.finished, sync.finished_sweep, takeover.finished),
            Sweep("orphan-sweep", self.orphans, sync.finished_sweep, takeover.orphans),
            Sweep("let-go", parts.hold_keeper.let_go, STEP),
            Sweep("operator-holds", parts.hold_keeper.round, PERIOD),
            Sweep("status-policy", parts.status_policy.look, POLICY_PERIOD),
            Sweep("holds", self.note_log_outage, min(5.0, sync.hold_notice / 2)),
        ]
        if parts.settings.retention.delete_objects:
            rounds.insert(0, Sweep("retention-sweep", self.expired, sync.finished_sweep))
        if parts.scrubber is not None:
            rounds.append(Sweep("self-audit", parts.scrubber.round, sync.scrub_pause))
        return rounds

    # -- the sweeps -----------------------------------------------------------------------------

    async def resync(self) -> None:
        """Request a check of every notification that needs one and has not had it in time."""
        await self._parts.resync.round()
        self._parts.controller.dispatcher.refill()

    async def note_log_outage(self) -> None:
        """Make the statuses show that attempts wait for the log."""
        async for notifications in slices(self._parts.cache.entries.values()):
            self._parts.controller.overdue.mark_without_log(
                notifications,
                available=self._parts.client.unavailable_reason is None,
                notice=self._parts.settings.sync.hold_notice,
            )

    async def live(self) -> None:
        """Find records that other processes have appended to live logs."""
        await self._parts.takeover.owning.wait()
        self._parts.takeover.live.clear()
        found = await self._parts.sweeper.live()
        if found:
            logger.info("found records that another process appended", extra={"logs": found})

    async def _begin(self, kind: str, wanted: asyncio.Event) -> None:
        """Begin a round once this process has owned a shard and knows the objects of all its shards."""
        await self._parts.takeover.owning.wait()
        while not self._parts.reflector.synced:
            await asyncio.sleep(_LISTED_POLL)
        # The round covers every shard acquired so far; a later one starts another round.
        wanted.clear()
        self.looked_at.pop(kind, None)

    async def finished(self) -> None:
        """Compare finished notifications with their logs."""
        await self._begin(_FINISHED, self._parts.takeover.finished)
        summaries = [s for s in self._parts.cache.finished.values() if not s.journaled]
        lost = await self._parts.sweeper.finished(summaries, self._reopen)
        logger.debug("finished objects checked", extra={"objects": len(summaries), "no_log": lost})
        self.looked_at[_FINISHED] = len(summaries)

    async def journaled(self) -> None:
        """Claim finished notifications that were journaled, a few at a time: each is loaded in full."""
        parts, cache = self._parts, self._parts.cache
        begun: dict[str, float] = {}
        for summary in cache.journaled() if parts.client.able else ():
            uid = summary.uid
            if parts.journal.blocks(uid) or parts.shards.term_of(uid) is None:
                continue
            while len(begun := self._unfinished(begun)) >= _JOURNALED:
                await asyncio.sleep(_LISTED_POLL)
            if not parts.client.able:
                return
            await self._reopen(uid)
            if uid in cache.entries:
                begun[uid] = cache.monotonic()
            else:
                # The object was not read: the next round tries again, and this one goes on slowly.
                await asyncio.sleep(_LISTED_POLL)

    def _unfinished(self, begun: Mapping[str, float]) -> dict[str, float]:
        """Return those that are still in memory in full and began less than `_JOURNALED_PATIENCE` ago."""
        cache = self._parts.cache
        late = cache.monotonic() - _JOURNALED_PATIENCE
        return {uid: at for uid, at in begun.items() if uid in cache.entries and at > late}

    async def orphans(self) -> None:
        """Retire logs whose objects are gone."""
        await self._begin(_LOGS, self._parts.takeover.orphans)
        cache, reflector = self._parts.cache, self._parts.reflector

        def known(uid: str) -> bool:
            # The objects of a shard that was just acquired are not known yet; another round follows.
            return uid in cache.entries or uid in cache.finished or not reflector.follows(uid)

        namespaces = self._parts.loaded.namespaces

        def watched(namespace: str) -> bool:
            wanted = namespaces is None or namespace in namespaces
            return wanted and namespace not in reflector.refused

        compared, retired = await self._parts.sweeper.orphans(self._parts.shards, known, watched)
        self.looked_at[_LOGS] = compared
        if retired:
            logger.info("logs of deleted objects retired", extra={"logs": retired})

    async def expired(self) -> None:
        """Delete finished objects whose retention time is over."""
        await self._parts.takeover.owning.wait()
        if not await self._may_delete():
            return
        deleted = await self._parts.retention.sweep(list(self._parts.cache.finished.values()))
        if deleted:
            logger.info("finished objects deleted", extra={"objects": deleted})

    async def _may_delete(self) -> bool:
        """Whether finished notifications may be deleted now; a refusal is logged once."""
        if self._parts.settings.retention.delete_objects == "asCancelled":
            return True
        try:
            served = await self._parts.outside.objects.request("GET", SERVED, timeout=5.0)
        except PortError as error:
            _deletions.info(
                "finished objects were not deleted; the next round tries again",
                extra={"error": str(error)},
            )
            return False
        found = any(kind.get("name") == OTHER for kind in served.get("resources") or ())
        if found and self.not_deleted is None:
            _deletions.error(REFUSED)
        self.not_deleted = REFUSED if found else None
        return not found

    # -- wake-ups -------------------------------------------------------------------------------

    async def follow_wake_ups(self) -> None:
        """Handle wake-ups until cancelled."""
        while True:
            await self.wake_up(await self._parts.wake_ups.get())

    async def wake_up(self, uid: str) -> None:
        """Have an owned log read again, because a wake-up says that it has a new record."""
        if uid == LISTENING:
            # As after a takeover: former owners append their outcomes as soon as Redis is back.
            self._parts.takeover.start_sweeps()
            # Until the logs are compared, the cached state of a log proves nothing (`Journal.basis`).
            self._parts.takeover.live.set()
            # Redis may have been away: logs that could not be marked as published are marked now.
            self._parts.cache.retry_marks()
            return
        if self._parts.shards.term_of(uid) is None:
            return
        notification = self._parts.cache.entries.get(uid)
        if notification is not None:
            notification.news()
            self._parts.cache.mark_dirty(notification)
            self._parts.queue.add(uid)
        elif uid in self._parts.cache.finished:
            await self._reopen(uid)
        else:
            with contextlib.suppress(PortError):
                ((_, length, ttl),) = await self._parts.log.read_headers([uid])
                if length and ttl < 0:
                    # The log belongs to an object that is not known here, and is not retired yet.
                    self._parts.takeover.orphans.set()

    async def _reopen(self, uid: str) -> None:
        summary = self._parts.cache.finished.get(uid)
        if summary is None or self._parts.shards.term_of(uid) is None:
            return
        # An object that does not parse has no status to compare with its log.
        with contextlib.suppress(PortError, ContractError):
            try:
                request = await self._parts.objects.get(summary.namespace, summary.name)
            except Gone:
                request = None
            if request is not None and request.uid == uid:
                self._parts.cache.reopen(request)
                self._parts.queue.add(uid)
            elif self._parts.cache.finished.get(uid) is summary:
                # Its deletion was missed; the orphan sweep retires the log.
                del self._parts.cache.finished[uid]
