"""
The audit feed: sends each log's records above `audited` to the sinks as events, then moves `audited`.

The log is the queue. The feed keeps one batch in memory and reads everything else again: the cache
names the notifications with unaudited records (`Cache.unaudited`), the header of each log says how far
it has been audited, and `events` makes the events. `audited` moves after every sink has stored an event,
never before. So an event is sent at least once whatever crashes, and its id identifies a repeat. One
request is in progress at a time, so the events of a notification arrive in order.

Nothing waits for the feed. A sink that is down or slow delays the feed alone: deliveries, statuses and
acknowledgements do not depend on it, and the backlog is bounded by the cache. Each result of a sink has
one consequence:

- stored: `audited` moves; if the notification has finished as well, its log may expire now;
- retry: the same batch is sent again, with growing pauses, `max_retries` times; then it is dropped from
  memory and read from the logs again after a longer pause;
- refused: the batch is halved until the refused notification is alone. That one backs off by itself,
  the others continue.

An event that is still refused or delayed at `max_age` is given up: it is counted, logged and skipped,
because a log that is never audited would never expire.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from notifier.audit.events import AuditEvent, events_of
from notifier.audit.metrics import AuditMetrics
from notifier.audit.sinks import Result, Sink, Written
from notifier.settings import BufferSettings
from syncer.ledger.answers import AUDITED, Mark, Snapshot
from syncer.ledger.log import RedisLog
from syncer.model.errors import ContractError, PortError
from syncer.model.ports import Ownership
from syncer.rules.backoff import exponential
from syncer.rules.fold import chain_at
from syncer.rules.retention import retention_seconds
from syncer.runtime.offload import offload
from syncer.runtime.supervise import elapse
from syncer.sync.notifications import Cache, Notification

logger = logging.getLogger("ledger.audit")

#: Logs that are read, and so kept in memory, at a time.
_READ_AHEAD: Final = 16
#: Seconds before a batch that a sink could not take is sent again, at first and at most.
_PAUSE_FIRST: Final = 1.0
_PAUSE_MOST: Final = 30.0
#: Seconds within which the events of a large notification must be made.
_WRITE: Final = 60.0
#: Seconds before a refused notification is sent again, at first and at most.
_REFUSED_FIRST: Final = 2.0
_REFUSED_MOST: Final = 300.0


@dataclass(frozen=True, slots=True)
class LogPart:
    """
    A part of one log that fits in one request, so that its events are stored together.

    Attributes:
        notification: The notification.
        events: In the order of the log; empty if only `audited` has to move.
        position: Position to which `audited` may move once the events are stored.
        chain: Chain of the record at that position.
    """

    notification: Notification
    events: tuple[AuditEvent, ...]
    position: int
    chain: str

    @property
    def size(self) -> int:
        """Bytes of the events' lines."""
        return sum(len(e.line) + 1 for e in self.events)


@dataclass(slots=True)
class Backoff:
    """
    The back-off of a refused notification.

    Attributes:
        refusals: Number of refusals in a row.
        due: When it is sent again, in seconds of the monotonic clock.
        oldest: When its oldest refused event happened, in Unix milliseconds.
    """

    refusals: int
    due: float
    oldest: int


@dataclass(eq=False, kw_only=True)
class AuditFeed:
    """Reads logs, writes events, moves `audited`."""

    #: Names the notifications with unaudited records.
    cache: Cache
    #: Holds the records and `audited`.
    log: RedisLog
    #: Only notifications of owned shards are audited.
    ownership: Ownership
    #: Each gets every event, in this order.
    sinks: Sequence[Sink]
    metrics: AuditMetrics
    #: Ledger time in Unix milliseconds.
    now: Callable[[], int]
    #: Events per request, retries per batch, seconds between two rounds.
    buffer: BufferSettings
    #: Seconds after which an event that cannot be handed over is given up.
    max_age: float
    #: As for delivery: whether an unknown outcome ends a channel.
    at_most_once: bool
    #: Bytes in one request, unless a single event is larger.
    batch_bytes: int = 4 << 20
    #: Returns the factor by which a pause is multiplied.
    jitter: Callable[[], float] = lambda: random.uniform(0.9, 1.1)  # noqa: S311 - pauses
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _draining: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _failures: int = field(default=0, init=False)
    _held_since: int = field(default=0, init=False)
    _backing_off: dict[str, Backoff] = field(default_factory=dict, init=False)
    #: By sink and uid: how far one sink has stored a notification's events while another one lags.
    _taken: dict[tuple[str, str], int] = field(default_factory=dict, init=False)

    # -- life cycle -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run rounds until cancelled; no error ends the feed."""
        while not self._draining.is_set():
            try:
                async with self._lock:
                    held_up = not await self.round()
            except Exception:
                # Audit must not end the process: the error is logged and the round repeated.
                logger.exception("a round of the audit feed failed")
                held_up = True
            self._failures = self._failures + 1 if held_up else 0
            await self._pause(
                exponential(_PAUSE_FIRST, _PAUSE_MOST, self._failures + 1)
                if held_up
                else self.buffer.flush_interval
            )
        # `drain` sends what is left; this task ends with the process.
        await asyncio.Event().wait()

    async def drain(self, seconds: float) -> int:
        """
        Process the backlog once, within some seconds; returns how many notifications are left.

        Those are not lost: the headers of their logs show the next process which records are unaudited.
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

    def refresh(self) -> None:
        """Update the gauges."""
        oldest = [p.oldest for p in self._backing_off.values() if p.oldest]
        if self._held_since:
            oldest.append(self._held_since)
        self.metrics.lag.set(max(0.0, (self.now() - min(oldest)) / 1000) if oldest else 0.0)
        self.metrics.waiting.set(len(self.cache.unaudited))

    async def _pause(self, seconds: float) -> None:
        await elapse(seconds, self._draining)

    # -- one round ------------------------------------------------------------------------------

    async def round(self) -> bool:
        """Process the backlog once; False if a sink or Redis stopped it."""
        unaudited = self.cache.unaudited
        self._backing_off = {u: p for u, p in self._backing_off.items() if u in unaudited}
        self._taken = {k: p for k, p in self._taken.items() if k[1] in unaudited}
        waiting = [e for e in unaudited.values() if not self._backs_off(e)]
        batch: list[LogPart] = []
        for start in range(0, len(waiting), _READ_AHEAD):
            if not self.log.available:
                return False
            for parts in await self._read_some(waiting[start : start + _READ_AHEAD]):
                for part in parts:
                    if batch and not self._fits(batch, part):
                        if not await self._deliver(batch):
                            await self._give_up_old(waiting[start:])
                            return False
                        batch = []
                    batch.append(part)
        if batch and not await self._deliver(batch):
            return False
        self._held_since = 0
        return True

    async def _read_some(self, notifications: Sequence[Notification]) -> list[list[LogPart]]:
        """Unaudited parts of some logs, log by log."""
        snapshots = await asyncio.gather(*map(self._read, notifications))
        out: list[list[LogPart]] = []
        for notification, snapshot in zip(notifications, snapshots, strict=True):
            if snapshot is not None:
                try:
                    out.append(await self._parts(notification, snapshot))
                except TimeoutError:
                    # It stays in the backlog.
                    logger.info(
                        "a large notification is not audited yet; others are read first",
                        extra={"uid": notification.uid},
                    )
                # Making events takes a millisecond or more: let other tasks run in between.
                await asyncio.sleep(0)
        return out

    async def _give_up_old(self, waiting: Sequence[Notification]) -> None:
        """While the sinks are down, give up expired events; stop at the first group of logs without any."""
        for start in range(0, len(waiting), _READ_AHEAD):
            some = await self._read_some(waiting[start : start + _READ_AHEAD])
            parts = [p for of_one in some for p in of_one]
            if len(await self._give_up_expired(parts)) == len(parts):
                return

    def _backs_off(self, notification: Notification) -> bool:
        backoff = self._backing_off.get(notification.uid)
        return backoff is not None and backoff.due > self.cache.monotonic()

    def _fits(self, batch: Sequence[LogPart], part: LogPart) -> bool:
        events = sum(len(p.events) for p in batch) + len(part.events)
        size = sum(p.size for p in batch) + part.size
        return events <= self.buffer.batch_size and size <= self.batch_bytes

    async def _read(self, notification: Notification) -> Snapshot | None:
        """Return a notification's log; None if its shard is not owned, or the log is gone or unreadable."""
        if self.ownership.term_of(notification.uid) is None:
            # The owner of the shard audits it. If this replica owns the shard again, a claim or a sweep
            # adds it to the backlog.
            self.cache.unaudited.pop(notification.uid, None)
            return None
        try:
            snapshot = await self.log.read(notification.uid)
        except PortError as error:
            logger.info(
                "a log could not be read for the audit feed and is read again",
                extra={"uid": notification.uid, "error": str(error)},
            )
            return None
        except ContractError:
            # The next claim quarantines the log; it is read again once it has been repaired.
            snapshot = None
        if snapshot is None:
            self.cache.unaudited.pop(notification.uid, None)
        return snapshot

    async def _parts(self, notification: Notification, snapshot: Snapshot) -> list[LogPart]:
        """Unaudited parts of a log; empty if there is nothing to do."""
        notification.audit(snapshot.header.audited)
        last = len(snapshot.records)
        events = await self._events(notification, snapshot)
        if events:
            most = self.buffer.batch_size
            return parts_of(notification, snapshot, events, most, self.batch_bytes)
        if notification.view.position <= last:
            if notification.ends_at(last) and not notification.deleted and last:
                return [LogPart(notification, (), last, snapshot.records[-1].chain)]
            self.cache.unaudited.pop(notification.uid, None)
        return []

    async def _events(
        self, notification: Notification, snapshot: Snapshot
    ) -> tuple[AuditEvent, ...]:
        write = partial(
            events_of,
            snapshot.records,
            after=snapshot.header.audited,
            at_most_once=self.at_most_once,
        )
        request = notification.request
        try:
            return await offload(lambda: write(request), size=len(request.raw), seconds=_WRITE)
        except ValueError:
            logger.exception(
                "a notification is audited without its content", extra={"uid": notification.uid}
            )
            return write(replace(request, raw=b""))

    # -- one batch ------------------------------------------------------------------------------

    async def _deliver(self, batch: Sequence[LogPart]) -> bool:
        """Store some parts and move `audited`; False if a sink cannot take them now."""
        # Later events of a notification refused in this round must not overtake the refused ones.
        parts = [p for p in batch if not self._backs_off(p.notification)]
        if not parts:
            return True
        written = Written(Result.STORED)
        for retry in range(self.buffer.max_retries + 1):
            if retry:
                await self._pause(exponential(_PAUSE_FIRST, _PAUSE_MOST, retry) * self.jitter())
            written = await self._write(parts)
            if written.result is Result.STORED:
                self._failures, self._held_since = 0, 0
                for part in parts:
                    for event in part.events:
                        self.metrics.sent.labels(event.kind.value).inc()
                await self._mark(parts)
                return True
            if written.result is Result.REFUSED:
                return await self._refused(parts, written.reason)
            self._held_since = min(e.at for p in parts for e in p.events)
            if self._draining.is_set():
                break
        logger.warning(
            "audit events were not accepted and are sent again",
            extra={"reason": written.reason, "notifications": len(parts)},
        )
        await self._give_up_expired(parts)
        return False

    async def _write(self, parts: Sequence[LogPart]) -> Written:
        for sink in self.sinks:
            lines = [
                e.line
                for p in parts
                for e in p.events
                if e.position > self._taken.get((sink.name, p.notification.uid), 0)
            ]
            written = await sink.write(lines) if lines else Written(Result.STORED)
            if written.result is not Result.STORED:
                self.metrics.failures.labels(sink.name, written.result.value).inc()
                return Written(written.result, f"{sink.name}: {written.reason}")
            if len(self.sinks) > 1:
                self._taken |= {(sink.name, p.notification.uid): p.position for p in parts}
        return Written(Result.STORED)

    async def _refused(self, parts: Sequence[LogPart], reason: str) -> bool:
        if len(parts) > 1:
            half = len(parts) // 2
            first = await self._deliver(parts[:half])
            return first and await self._deliver(parts[half:])
        (part,) = parts
        uid = part.notification.uid
        oldest = min(e.at for e in part.events)
        if not await self._give_up_expired(parts):
            return True
        refusals = self._backing_off[uid].refusals + 1 if uid in self._backing_off else 1
        wait = exponential(_REFUSED_FIRST, _REFUSED_MOST, refusals) * self.jitter()
        self._backing_off[uid] = Backoff(refusals, self.cache.monotonic() + wait, oldest)
        logger.warning(
            "audit events of a notification are refused and sent again",
            extra={"uid": uid, "reason": reason, "refusals": refusals, "seconds": round(wait)},
        )
        return True

    async def _give_up_expired(self, parts: Sequence[LogPart]) -> list[LogPart]:
        """Give up parts whose events are all older than `max_age`; returns the other parts."""
        horizon = self.now() - self.max_age * 1000
        old: list[LogPart] = []
        kept: list[LogPart] = []
        for part in parts:
            # `audited` must not pass events that are still to be sent.
            stays = any(k.notification is part.notification for k in kept)
            young = not part.events or any(e.at >= horizon for e in part.events)
            (kept if stays or young else old).append(part)
        if not old:
            return kept
        marked = await self._mark(old)
        # If `audited` of a log could not be moved, its parts are read again, and counted then.
        count = sum(len(p.events) for p in old if p.notification.uid in marked)
        self.metrics.dropped.inc(count)
        logger.error(
            "audit events older than a week are dropped",
            extra={
                "events": count,
                "notifications": len(marked),
                "objects": sorted(
                    {p.notification.request.key for p in old if p.notification.uid in marked}
                ),
            },
        )
        return kept

    # -- audited --------------------------------------------------------------------------------

    async def _mark(self, parts: Sequence[LogPart]) -> set[str]:
        """Move `audited` of each log past its parts; returns the uids of the logs where it moved."""
        furthest = {p.notification.uid: p for p in parts}
        moved = await asyncio.gather(*map(self._mark_one, furthest.values()))
        return {uid for uid, done in zip(furthest, moved, strict=True) if done}

    async def _mark_one(self, part: LogPart) -> bool:
        """Move `audited` of one log; False if it could not be moved, so that the events are sent again."""
        notification, position = part.notification, part.position
        final = notification.ends_at(position) and not notification.deleted
        ttl = retention_seconds(notification.request.retention_days) if final else 0
        try:
            answer = await self.log.ack(
                notification.uid, position, part.chain, ttl=ttl, marks=AUDITED
            )
        except PortError as error:
            logger.info(
                "audited events could not be marked in the log and are sent again",
                extra={"uid": notification.uid, "error": str(error)},
            )
            return False
        if answer is Mark.STALE:
            logger.warning("a log changed while it was audited", extra={"uid": notification.uid})
            return False
        self._backing_off.pop(notification.uid, None)
        self.cache.mark_audited(notification, position)
        final = (
            final
            and notification.ends_at(position)
            and self.cache.entries.get(notification.uid) is notification
        )
        if final and answer is Mark.EXPIRING:
            notification.audit(position, expiring=True)
        if (
            final
            and not notification.expiring
            and notification.acked >= position
            and not notification.quarantine
        ):
            # The status was published while this write was in progress: the status writer has to
            # acknowledge again, so that the log gets its expiry.
            self.cache.mark_dirty(notification)
        self.cache.retire_if_settled(notification)
        return True


def parts_of(
    notification: Notification,
    snapshot: Snapshot,
    events: Sequence[AuditEvent],
    most: int,
    most_bytes: int,
) -> list[LogPart]:
    """
    Cut the events of one log into parts that fit a request.

    The position of a part is right before the first event that it leaves out; for the last part it is the
    end of the log.

    Args:
        notification: The notification.
        snapshot: Its log.
        events: Events of the records above `audited`, in order.
        most: Maximum number of events in a request.
        most_bytes: Maximum bytes of a request, unless a single event is larger.
    """
    parts: list[LogPart] = []
    rest = list(events)
    while rest:
        count, size = 0, 0
        for event in rest[:most]:
            size += len(event.line) + 1
            if count and size > most_bytes:
                break
            count += 1
        taken, rest = tuple(rest[:count]), rest[count:]
        position = rest[0].position - 1 if rest else len(snapshot.records)
        parts.append(LogPart(notification, taken, position, chain_at(snapshot.records, position)))
    return parts
