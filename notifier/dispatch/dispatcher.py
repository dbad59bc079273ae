"""
The dispatcher: which attempts run now, per receiver and in total.

Each channel has its own queue, which runs a few attempts at once, so a receiver that hangs occupies only
its own slots. A waiting attempt is a small job in that queue (`notifier.dispatch.receiver_queue`); only a
running attempt has a task. The number of jobs is bounded by the number of live notifications, because a
pair of notification and channel waits at most once.

Two rules keep slots free for others. In total: a receiver with n running attempts starts another only
while more than n slots are free. So k hanging receivers leave a share of 1/(k + 1) to the others, and a
receiver without running attempts gets a slot as long as one is free. Within a receiver: if several
namespaces use it, an eighth of its slots is reserved for those that use less than an equal share of it,
because taking turns helps little while slow calls of one author occupy all slots.

While a receiver's circuit breaker is open, nothing leaves its queue, and waiting costs nothing: one timer
starts the probe, whose end starts the next probe or everything else, or sets the timer again. The same
timer keeps the receiver's pace (`notifier.dispatch.receiver_queue`).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final

from notifier.contract import Outcome
from notifier.dispatch.breaker import (
    LOCAL,
    Breakers,
    Reject,
    State,
    evidence_of,
    kind_of,
)
from notifier.dispatch.receiver_queue import Job, Pace, ReceiverQueue
from syncer.model.resource import rank_of
from syncer.runtime.alarm import Alarm
from syncer.runtime.clock import MonotonicClock, monotonic_clock
from syncer.runtime.supervise import end

logger = logging.getLogger("ledger.delivery")

#: One in this many slots of a receiver is reserved for namespaces that use less than their share.
_RESERVED: Final = 8


class Dispatcher:
    """Runs attempts within bounds."""

    def __init__(
        self,
        run: Callable[[str, str], Awaitable[Outcome | None]],
        *,
        per_channel: int,
        total: int,
        rate: float = 0.0,
        breakers: Breakers | None = None,
        on_rejected: Callable[[str], None] = lambda _: None,
        on_opened: Callable[[str], None] = lambda _: None,
        monotonic: MonotonicClock = monotonic_clock,
    ) -> None:
        """
        Args:
            run: Makes one attempt (uid, channel) and returns its outcome, None if it was not made; must
                not raise.
            per_channel: Maximum of concurrent attempts of one channel.
            total: Maximum of concurrent attempts.
            rate: Attempts per second of one receiver, 0 for no limit. Local channels have none.
            breakers: One per receiver; new ones by default.
            on_rejected: Called with the uid of each notification that waits when a breaker opens.
            on_opened: Called with the channel whose breaker opens.
            monotonic: Returns the seconds of the monotonic clock.
        """  # noqa: D205 - the class says what it is
        self._run = run
        self._per_channel = per_channel
        self._total = total
        self._interval = 1.0 / rate if rate > 0 else 0.0
        self._breakers = breakers or Breakers()
        self._on_rejected = on_rejected
        self._on_opened = on_opened
        self._monotonic = monotonic
        self._queues: dict[str, ReceiverQueue] = {}
        self._tasks: set[asyncio.Task[Outcome | None]] = set()
        #: The pace of each receiver; a queue is dropped when it is empty, its pace is kept.
        self._paces: dict[str, Pace] = {}
        self._arrivals = count()
        self._closed = False

    @property
    def running(self) -> int:
        """Number of running attempts."""
        return len(self._tasks)

    def submit(
        self,
        uid: str,
        channel: str,
        *,
        due: float,
        priority: str,
        namespace: str = "",
        tried: int = 0,
    ) -> Reject | None:
        """
        Queue an attempt, which starts as soon as a slot is free; does nothing if it is already queued.

        Args:
            uid: The notification.
            channel: The channel.
            due: Second of the monotonic clock since which it may be made.
            priority: Critical, High, Medium or Low.
            namespace: The notification's namespace.
            tried: Number of attempts already made.

        Returns:
            The breaker's rejection, if the attempt waits for the breaker. It stays queued and need not be
            submitted again.
        """
        if self._closed:
            return None
        queue = self._queues.get(channel)
        if queue is None:
            interval = 0.0 if kind_of(channel) in LOCAL else self._interval
            pace = self._paces.setdefault(channel, Pace(interval))
            alarm = Alarm(self._monotonic, self.refill)
            queue = ReceiverQueue(channel, self._breakers.of(channel), pace, alarm)
            self._queues[channel] = queue
        if uid not in queue.keys:
            job = Job(
                math.floor(due), rank_of(priority), next(self._arrivals), uid, namespace, tried
            )
            queue.push(job)
            now = self._monotonic()
            while (first := self._next(queue, now)) is not None:
                self._start(queue, first, now)
            if job.started:
                return None
            job.notified = queue.breaker.check(now) is not None
        return queue.breaker.check(self._monotonic())

    def waits(self, uid: str, channel: str) -> bool:
        """Whether an attempt waits in its receiver's queue."""
        queue = self._queues.get(channel)
        return queue is not None and uid in queue.keys

    def _next(self, queue: ReceiverQueue, now: float) -> Job | None:
        """Return the job that may start now, or None; sets a timer if the queue only waits for a time."""
        if queue.running >= self._per_channel or queue.running >= self._total - len(self._tasks):
            return None
        # Check first what stops the whole queue: finding the next job means looking at every namespace.
        paced = queue.pace.at
        breaker = queue.breaker
        # If no retry waits, any job is a first attempt, which for a while has to leave the probe to a
        # retry.
        rejection = breaker.check(now, first=not queue.retries)
        if rejection is not None or paced > now:
            at = paced if rejection is None else rejection.until
            if at is not None and queue.keys:
                queue.alarm.set(at)
            return None
        reserved = self._per_channel // _RESERVED
        fair = max(1, self._per_channel // max(1, len(queue.busy)))
        job = queue.head(fair if self._per_channel - queue.running <= reserved else math.inf)
        if job is None:
            return None
        if breaker.until is not None:
            job = queue.probe(job)
            rejection = breaker.check(now, first=not job.tried)
        if rejection is not None:
            if rejection.until is not None:
                queue.alarm.set(rejection.until)
            return None
        return job

    def _start(self, queue: ReceiverQueue, job: Job, now: float) -> None:
        generation = queue.breaker.begin()
        queue.pace.on_call(now)
        queue.start(job)
        task = asyncio.create_task(self._run_job(job, queue), name=f"attempt-{job.uid}")
        self._tasks.add(task)
        task.add_done_callback(lambda t: self._done(t, queue, job, generation, now))

    def refill(self) -> None:
        """
        Give free slots to the attempts that have waited longest, whatever their receiver.

        The resync calls this as well, so that nothing depends on timers alone.
        """
        while len(self._tasks) < self._total:
            now = self._monotonic()
            able = [
                (job, queue.channel)
                for queue in self._queues.values()
                if (job := self._next(queue, now)) is not None
            ]
            if not able:
                return
            job, channel = min(able)
            self._start(self._queues[channel], job, now)

    async def _run_job(self, job: Job, queue: ReceiverQueue) -> Outcome | None:
        # From here on the same pair may be submitted again; the reconciler decides whether it is.
        queue.keys.discard(job.uid)
        return await self._run(job.uid, queue.channel)

    def _done(
        self,
        task: asyncio.Task[Outcome | None],
        queue: ReceiverQueue,
        job: Job,
        generation: int,
        began: float,
    ) -> None:
        self._tasks.discard(task)
        queue.end(job)
        outcome = None
        if not task.cancelled():
            if task.exception() is not None:
                logger.error(
                    "an attempt ended unexpectedly",
                    exc_info=task.exception(),
                    extra={"uid": job.uid, "channel": queue.channel},
                )
            else:
                outcome = task.result()
        if outcome is not None:
            self._adapt(queue, outcome, began)
        self._release(queue, generation, job, outcome)
        self.refill()
        if not queue.running and queue.head() is None:
            queue.alarm.cancel()
            del self._queues[queue.channel]

    def _adapt(self, queue: ReceiverQueue, outcome: Outcome, began: float) -> None:
        """Adapt the pace of a receiver to the result of a call that began at `began`."""
        pace, slowed = queue.pace, bool(queue.pace.interval)
        pace.on_outcome(outcome, began, self._monotonic())
        if slowed != bool(pace.interval):
            logger.warning(
                "a receiver no longer limits the rate; calls are made at once again"
                if slowed
                else "a receiver limits the rate; fewer calls are made",
                extra={"channel": queue.channel, "waiting": len(queue.keys)},
            )

    def _release(
        self, queue: ReceiverQueue, generation: int, job: Job, outcome: Outcome | None
    ) -> None:
        """Report the end of a call to the breaker, and act on its decision."""
        evidence = evidence_of(queue.channel, outcome)
        retry_after = outcome.retry_after if outcome is not None else None
        change = queue.breaker.release(
            generation, job.uid, evidence, self._monotonic(),
            first=not job.tried, retry_after=retry_after,
        )  # fmt: skip
        queue.on_evidence(job, evidence)
        if change is None:
            return
        logger.warning(
            "a receiver's circuit breaker changed its state",
            extra={
                "channel": queue.channel,
                "state": change.state.name.lower(),
                "reason": change.reason,
                "waiting": len(queue.keys),
            },
        )
        if change.state is State.OPEN:
            self._on_opened(queue.channel)
            for waiting in queue.waiting():
                if not waiting.notified:
                    waiting.notified = True
                    self._on_rejected(waiting.uid)

    def close(self) -> None:
        """Start nothing more and drop waiting jobs; the log still shows that they are due."""
        self._closed = True
        for queue in self._queues.values():
            queue.clear()

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for running attempts, then cancel the rest and wait for their end."""
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=seconds)
            await end(*late)
