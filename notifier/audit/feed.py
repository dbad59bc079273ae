"""
The audit feed: hands what the logs say above `audited` to the sinks, and moves the mark.

The log is the queue. The feed holds one batch in memory, and everything else it needs it reads
again: the cache names the notifications to look at (`Cache.unaudited`), the header of each log
says how far it was handed over, `events` makes the rest. The mark moves after every sink has
taken an event, never before; so an event is sent at least once, whoever crashes, and its id tells
a repeat. There is one request at a time, therefore the events of a notification arrive in order.

Nothing waits for the feed. A sink that is away or slow holds up the feed alone: deliveries,
statuses and acknowledgements do not know of it, and what waits is bounded by the cache. What
follows from each verdict of a sink:

- stored: the mark is moved; where the notification is finished as well, its log may expire now;
- retry: the same batch again, with growing pauses, `max_retries` times; then it is dropped from
  memory and read from the logs anew after a longer pause;
- refused: the batch is halved until the notification at fault stands alone. That one waits by
  itself, the others go on.

An event that is still refused or held up at `max_age` is given up: counted, logged, and marked as
handed over, since a log that is never audited would never expire.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from notifier.audit.events import AuditEvent, events_of
from notifier.audit.metrics import AuditMetrics
from notifier.audit.sinks import Sink, Verdict, Written
from syncer.ledger.log import AUDITED, Mark, RedisLog, Snapshot
from syncer.model.errors import ContractError, PortError
from syncer.model.ports import Ownership
from syncer.rules.backoff import exponential
from syncer.rules.fold import ROOT_CHAIN
from syncer.rules.retention import retention_seconds
from syncer.runtime.offload import offload
from syncer.sync.cache import Cache, Entry

logger = logging.getLogger("ledger.audit")

#: Logs that are read at a time, and thereby held in memory.
_READ_AHEAD: Final = 16
#: Seconds before what a sink could not take is offered again, at first and at most.
_PAUSE_FIRST: Final = 1.0
_PAUSE_MOST: Final = 30.0
#: Seconds in which the events of a large notification must be written.
_WRITE: Final = 60.0
#: Seconds before a refused notification is offered again, at first and at most.
_REFUSED_FIRST: Final = 2.0
_REFUSED_MOST: Final = 300.0


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """
    Bounds of the feed.

    Attributes:
        batch_events: Events in one request.
        batch_bytes: Bytes in one request, unless a single event is larger.
        flush_interval: Seconds between two looks at what waits.
        max_retries: How often a batch is sent again before it is read anew.
        max_age: Seconds after which an event that cannot be handed over is given up.
    """

    batch_events: int = 100
    batch_bytes: int = 4 << 20
    flush_interval: float = 1.0
    max_retries: int = 3
    max_age: float = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """
    Events of one notification that travel together.

    Attributes:
        entry: The notification.
        events: In the order of the log; empty where only the mark is to be moved.
        position: Where the mark may stand once they are stored.
        chain: Of the record there.
    """

    entry: Entry
    events: tuple[AuditEvent, ...]
    position: int
    chain: str

    @property
    def size(self) -> int:
        """Bytes of its lines."""
        return sum(len(e.line) + 1 for e in self.events)


@dataclass(slots=True)
class Postponed:
    """A refused notification: how often, when it is due again (boot clock), its oldest event."""

    refusals: int
    due: float
    oldest: int


class AuditFeed:
    """Reads logs, writes events, moves marks."""

    def __init__(  # noqa: PLR0913 (wiring: each is a part or a number of its own)
        self,
        *,
        cache: Cache,
        log: RedisLog,
        ownership: Ownership,
        sinks: Sequence[Sink],
        metrics: AuditMetrics,
        now: Callable[[], int],
        limits: FeedLimits | None = None,
        at_most_once: bool = False,
        jitter: Callable[[], float] = lambda: random.uniform(0.9, 1.1),  # noqa: S311 - pauses
    ) -> None:
        """
        Args:
            cache: Names what is to be looked at.
            log: Where the records and the marks are.
            ownership: Only what is ours is audited by us.
            sinks: Each of them gets every event, the first one first.
            metrics: Series of the feed.
            now: Ledger time in Unix milliseconds.
            limits: Bounds.
            at_most_once: As for the delivery: an unknown result ends a channel.
            jitter: Factor of a pause.
        """  # noqa: D205 - the class says what it is
        self.cache = cache
        self.log = log
        self.ownership = ownership
        self.sinks = tuple(sinks)
        self.metrics = metrics
        self.limits = limits or FeedLimits()
        self._now = now
        self._at_most_once = at_most_once
        self._jitter = jitter
        self._lock = asyncio.Lock()
        self._draining = asyncio.Event()
        self._failures = 0
        self._held_since = 0
        self._postponed: dict[str, Postponed] = {}
        #: What one sink has taken of a notification while another one holds it up.
        self._taken: dict[tuple[str, str], int] = {}

    # -- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled; nothing that goes wrong ends it."""
        while not self._draining.is_set():
            held_up = False
            try:
                async with self._lock:
                    held_up = not await self.round()
            except asyncio.CancelledError:
                raise
            except Exception:
                # Audit must not take the process down: it is said, and tried again.
                logger.exception("a round of the audit feed failed")
                held_up = True
            self._failures = self._failures + 1 if held_up else 0
            await self._pause(
                exponential(_PAUSE_FIRST, _PAUSE_MOST, self._failures + 1)
                if held_up
                else self.limits.flush_interval
            )
        # The drain has the last word; this task ends with the process.
        await asyncio.Event().wait()

    async def drain(self, seconds: float) -> int:
        """
        Hand over what can be, once, within some seconds; how many notifications still wait.

        They are not lost: their logs say so to the next process.
        """
        self._draining.set()
        try:
            async with asyncio.timeout(seconds), self._lock:
                await self.round()
        except TimeoutError:
            pass
        except Exception:
            logger.exception("the last round of the audit feed failed")
        return len(self.cache.unaudited)

    def close(self) -> None:
        """Close the sinks."""
        for sink in self.sinks:
            sink.close()

    def refresh(self) -> None:
        """Bring the gauges up to date."""
        oldest = [p.oldest for p in self._postponed.values() if p.oldest]
        if self._held_since:
            oldest.append(self._held_since)
        self.metrics.lag.set(max(0.0, (self._now() - min(oldest)) / 1000) if oldest else 0.0)
        self.metrics.waiting.set(len(self.cache.unaudited))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._draining.wait()

    # -- one round ------------------------------------------------------------------------------

    async def round(self) -> bool:
        """Look once at everything that waits; False if a sink or Redis held it up."""
        self._forget_the_gone()
        waiting = [e for e in self.cache.unaudited.values() if not self._is_postponed(e)]
        batch: list[Parcel] = []
        for start in range(0, len(waiting), _READ_AHEAD):
            if not self.log.available:
                return False
            for parcels in await self._read_some(waiting[start : start + _READ_AHEAD]):
                for parcel in parcels:
                    if batch and not self._fits(batch, parcel):
                        if not await self._deliver(batch):
                            await self._give_up_some(waiting[start:])
                            return False
                        batch = []
                    batch.append(parcel)
        if batch and not await self._deliver(batch):
            return False
        self._held_since = 0
        return True

    async def _read_some(self, entries: Sequence[Entry]) -> list[list[Parcel]]:
        """What some logs hold above their marks, log by log."""
        snapshots = await asyncio.gather(*map(self._read, entries))
        out: list[list[Parcel]] = []
        for entry, snapshot in zip(entries, snapshots, strict=True):
            if snapshot is not None:
                try:
                    out.append(await self._parcels(entry, snapshot))
                except TimeoutError:
                    # It stays among those to look at.
                    logger.info("audit waits for large notifications", extra={"uid": entry.uid})
                # Making events takes a millisecond or more: let a delivery have its turn between.
                await asyncio.sleep(0)
        return out

    async def _give_up_some(self, waiting: Sequence[Entry]) -> None:
        """While the sinks are away, look for what is too old, until there is nothing of that."""
        for start in range(0, len(waiting), _READ_AHEAD):
            some = await self._read_some(waiting[start : start + _READ_AHEAD])
            parcels = [p for of_one in some for p in of_one]
            if len(await self._without_the_old(parcels)) == len(parcels):
                return

    def _forget_the_gone(self) -> None:
        unaudited = self.cache.unaudited
        self._postponed = {u: p for u, p in self._postponed.items() if u in unaudited}
        self._taken = {k: p for k, p in self._taken.items() if k[1] in unaudited}

    def _is_postponed(self, entry: Entry) -> bool:
        postponed = self._postponed.get(entry.uid)
        return postponed is not None and postponed.due > self.cache.monotonic()

    def _fits(self, batch: Sequence[Parcel], parcel: Parcel) -> bool:
        events = sum(len(p.events) for p in batch) + len(parcel.events)
        size = sum(p.size for p in batch) + parcel.size
        return events <= self.limits.batch_events and size <= self.limits.batch_bytes

    async def _read(self, entry: Entry) -> Snapshot | None:
        """The log of an entry; None if it is not ours, or not to be had now or ever."""
        if self.ownership.term_of(entry.uid) is None:
            # Its owner looks at it; should we get it back, a claim or a sweep marks it again.
            self.cache.unaudited.pop(entry.uid, None)
            held = self.cache.entries.get(entry.uid) is entry
            if held and entry.request.status.terminal and not entry.busy:
                self.cache.retire(entry)
            return None
        snapshot: Snapshot | None = None
        try:
            snapshot = await self.log.read(entry.uid)
        except PortError as error:
            logger.info("audit waits for a log", extra={"uid": entry.uid, "error": str(error)})
            return None
        except ContractError:
            # Quarantined by whoever claims it; read again once somebody has mended it.
            pass
        if snapshot is None:
            self.cache.unaudited.pop(entry.uid, None)
        return snapshot

    async def _parcels(self, entry: Entry, snapshot: Snapshot) -> list[Parcel]:
        """What a log holds above its mark; empty if there is nothing to do."""
        entry.audited = max(entry.audited, snapshot.header.audited)
        last = len(snapshot.records)
        events = await self._events(entry, snapshot)
        if events:
            return parcels_of(entry, snapshot, events, self.limits)
        if entry.view.position <= last:
            if entry.ends_at(last) and not entry.deleted and last:
                return [Parcel(entry, (), last, snapshot.records[-1].chain)]
            self.cache.unaudited.pop(entry.uid, None)
        return []

    async def _events(self, entry: Entry, snapshot: Snapshot) -> tuple[AuditEvent, ...]:
        after = snapshot.header.audited
        request = entry.request
        write = partial(
            events_of, snapshot.records, request, after=after, at_most_once=self._at_most_once
        )
        try:
            return await offload(write, size=len(request.raw), seconds=_WRITE)
        except ValueError:
            logger.exception("audited without its content", extra={"uid": entry.uid})
            return events_of(
                snapshot.records,
                replace(request, raw=b""),
                after=after,
                at_most_once=self._at_most_once,
            )

    # -- one batch ------------------------------------------------------------------------------

    async def _deliver(self, batch: Sequence[Parcel]) -> bool:
        """Have some parcels stored and marked; False if that must wait for a sink."""
        # What was refused earlier in this round must not be overtaken by its own later events.
        parcels = [p for p in batch if not self._is_postponed(p.entry)]
        if not parcels:
            return True
        written = Written(Verdict.STORED)
        for retry in range(self.limits.max_retries + 1):
            if retry:
                await self._pause(exponential(_PAUSE_FIRST, _PAUSE_MOST, retry) * self._jitter())
            written = await self._write(parcels)
            if written.verdict is Verdict.STORED:
                self._failures, self._held_since = 0, 0
                await self._stored(parcels)
                return True
            if written.verdict is Verdict.REFUSED:
                return await self._refused(parcels, written.why)
            self._held_since = min(e.at for p in parcels for e in p.events)
            if self._draining.is_set():
                break
        logger.warning(
            "audit events wait", extra={"why": written.why, "notifications": len(parcels)}
        )
        await self._without_the_old(parcels)
        return False

    async def _write(self, parcels: Sequence[Parcel]) -> Written:
        for sink in self.sinks:
            lines = [
                e.line
                for p in parcels
                for e in p.events
                if e.position > self._taken.get((sink.name, p.entry.uid), 0)
            ]
            written = await sink.write(lines) if lines else Written(Verdict.STORED)
            if written.verdict is not Verdict.STORED:
                self.metrics.failures.labels(sink.name, written.verdict.value).inc()
                return Written(written.verdict, f"{sink.name}: {written.why}")
            if len(self.sinks) > 1:
                self._taken |= {(sink.name, p.entry.uid): p.position for p in parcels}
        return Written(Verdict.STORED)

    async def _refused(self, parcels: Sequence[Parcel], why: str) -> bool:
        if len(parcels) > 1:
            half = len(parcels) // 2
            first = await self._deliver(parcels[:half])
            return first and await self._deliver(parcels[half:])
        (parcel,) = parcels
        uid = parcel.entry.uid
        oldest = min(e.at for e in parcel.events)
        if not await self._without_the_old(parcels):
            return True
        refusals = self._postponed[uid].refusals + 1 if uid in self._postponed else 1
        wait = exponential(_REFUSED_FIRST, _REFUSED_MOST, refusals) * self._jitter()
        self._postponed[uid] = Postponed(refusals, self.cache.monotonic() + wait, oldest)
        logger.warning(
            "audit events of a notification are refused",
            extra={"uid": uid, "why": why, "refusals": refusals, "seconds": round(wait)},
        )
        return True

    async def _stored(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            for event in parcel.events:
                self.metrics.sent.labels(event.kind.value).inc()
        await self._mark(parcels)

    async def _without_the_old(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        """Give up parcels that are wholly beyond `max_age`; what is left."""
        horizon = self._now() - self.limits.max_age * 1000
        old: list[Parcel] = []
        kept: list[Parcel] = []
        for parcel in parcels:
            # A mark must not jump over events that are still to be told.
            stays = any(k.entry is parcel.entry for k in kept)
            young = not parcel.events or any(e.at >= horizon for e in parcel.events)
            (kept if stays or young else old).append(parcel)
        if not old:
            return kept
        marked = await self._mark(old)
        # What could not be marked comes up again, and is counted then.
        count = sum(len(p.events) for p in old if p.entry.uid in marked)
        self.metrics.dropped.inc(count)
        logger.error(
            "audit events are given up after audit.maxAge",
            extra={"events": count, "notifications": len(marked)},
        )
        return kept

    # -- the mark -------------------------------------------------------------------------------

    async def _mark(self, parcels: Sequence[Parcel]) -> set[str]:
        """Move the marks of what was handed over; uids of those that could be moved."""
        furthest = {p.entry.uid: p for p in parcels}
        moved = await asyncio.gather(*map(self._mark_one, furthest.values()))
        return {uid for uid, done in zip(furthest, moved, strict=True) if done}

    async def _mark_one(self, parcel: Parcel) -> bool:
        """Move one mark; False if that was not possible, so that its events are sent again."""
        entry, position = parcel.entry, parcel.position
        final = entry.ends_at(position) and not entry.deleted
        ttl = retention_seconds(entry.request.retention_days) if final else 0
        try:
            answer = await self.log.ack(entry.uid, position, parcel.chain, ttl=ttl, marks=AUDITED)
        except PortError as error:
            logger.info("an audit mark waits", extra={"uid": entry.uid, "error": str(error)})
            return False
        if answer is Mark.STALE:
            logger.warning("the log changed under the audit feed", extra={"uid": entry.uid})
            return False
        self._postponed.pop(entry.uid, None)
        self.cache.mark_audited(entry, position)
        entry.expiring = entry.expiring or answer is Mark.EXPIRING
        if not entry.deleted and entry.ends_at(position):
            self._let_go(entry, position)
        return True

    def _let_go(self, entry: Entry, position: int) -> None:
        if self.cache.entries.get(entry.uid) is not entry or entry.quarantine:
            return
        if not entry.expiring and entry.acked >= position:
            # The status was published while the mark was under way: its writer has to ask again.
            self.cache.mark_dirty(entry)
        elif entry.expiring and not entry.busy and entry.dirty_since is None:
            self.cache.retire(entry)


def parcels_of(
    entry: Entry, snapshot: Snapshot, events: Sequence[AuditEvent], limits: FeedLimits
) -> list[Parcel]:
    """
    Cut the events of one log into parcels that fit a request.

    The mark of a parcel stands right before the first event that it leaves out, that of the last
    one at the end of the log.
    """
    parcels: list[Parcel] = []
    rest = list(events)
    while rest:
        count, size = 0, 0
        for event in rest[: limits.batch_events]:
            size += len(event.line) + 1
            if count and size > limits.batch_bytes:
                break
            count += 1
        taken, rest = tuple(rest[:count]), rest[count:]
        position = rest[0].position - 1 if rest else len(snapshot.records)
        chain = snapshot.records[position - 1].chain if position else ROOT_CHAIN
        parcels.append(Parcel(entry, taken, position, chain))
    return parcels
