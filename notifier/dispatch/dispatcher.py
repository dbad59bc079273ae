"""
Lanes: which attempts run now, per receiver and in all.

Each channel has a lane with room for a few attempts, so a receiver that hangs fills its own lane
and nobody else's. What does not fit waits in the lane as a small job; a task exists only for an
attempt that runs. The whole is bounded by what is live, since a (notification, channel) pair waits at
most once.

Within a lane the namespace goes first that has fewest attempts under way, and those that have as many
take turns; what waits of one namespace is ordered by due time (to the second), then by priority. A
priority says what its author wants first; it takes no turn away from another namespace, or one author
could hold up all others by calling everything critical. A turn is of little use while all places hang on
slow calls of one author, so where several namespaces use a receiver, an eighth of its places goes only to
those with less than their equal share under way there.

The total is shared with foresight: a lane that runs n attempts starts another only while more than
n places are free. So k lanes that hang leave one part in k + 1 to the others instead of nothing,
and a lane that runs nothing finds a place as long as there is one.

A lane stands still while its breaker is open. Who waits there costs nothing: one timer per lane
starts the probe, its end starts the next one, or the rest, or sets the timer anew. A probe is of the
kind that the breaker wants: an attempt of those refused most often, since they caused the opening, or
of those refused least; and of the namespace whose turn it is. After a success both stay, after a
failure both change. Either way only what is due by its own back-off probes, so no attempt is used up
earlier than without a breaker.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from notifier.contract import Outcome
from notifier.dispatch.breaker import (
    Allow,
    Breaker,
    Breakers,
    Evidence,
    Reject,
    State,
    evidence_of,
)
from syncer.runtime.clock import MonotonicClock, monotonic_clock

logger = logging.getLogger("ledger.delivery")

_PRIORITY: Final = {"Critical": 0, "High": 1, "Medium": 2, "Low": 3}
#: One place in so many of a receiver is for namespaces with less than their share under way there.
_KEPT: Final = 8
#: Namespaces with nothing under way or waiting that a receiver remembers.
_KNOWN: Final = 256
#: Sleeps are cut to this many seconds: the loop's clock stands still while the machine sleeps.
_NAP: Final = 5.0


@dataclass(order=True, slots=True)
class Job:
    """One attempt that waits for room; those of a namespace by due second, priority, arrival."""

    due: int
    rank: int
    ticket: int
    uid: str = field(compare=False)
    namespace: str = field(compare=False, default="")
    tried: int = field(compare=False, default=0)
    #: Its notification was told that the breaker holds it.
    told: bool = field(compare=False, default=False)
    #: It was started out of turn and only has to be dropped from the heap.
    taken: bool = field(compare=False, default=False)


class _Share:
    """What waits of one namespace for one channel: a heap, and two more while probes are chosen."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        #: Who was refused before, most often first.
        self.refused: list[tuple[int, Job]] = []
        #: All, who was refused least first.
        self.spared: list[tuple[int, Job]] = []

    def head(self) -> Job | None:
        """Who is next."""
        while self.jobs and self.jobs[0].taken:
            heapq.heappop(self.jobs)
        return self.jobs[0] if self.jobs else None

    def note(self, job: Job) -> None:
        """Have a job found as a candidate for a probe."""
        heapq.heappush(self.spared, (job.tried, job))
        if job.tried:
            heapq.heappush(self.refused, (-job.tried, job))


def _best(candidates: list[tuple[int, Job]], suspect: str) -> Job | None:
    """The first of a heap that is still to be had and is not the suspect."""
    while candidates and candidates[0][1].taken:
        heapq.heappop(candidates)
    if not candidates or candidates[0][1].uid != suspect:
        return candidates[0][1] if candidates else None
    passed = heapq.heappop(candidates)
    found = _best(candidates, "")
    heapq.heappush(candidates, passed)
    return found


class _ReceiverQueue:
    """What waits and runs for one channel."""

    def __init__(self, channel: str, breaker: Breaker | None) -> None:
        self.channel = channel
        self.breaker = breaker
        self.keys: set[str] = set()
        self.running = 0
        #: Attempts under way by namespace, of those since the lane began to work; of many, some.
        self.busy: dict[str, int] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = math.inf
        #: By namespace, in the order of their turns.
        self._shares: OrderedDict[str, _Share] = OrderedDict()
        #: Candidates for probes are kept.
        self._choosing = False

    def push(self, job: Job) -> None:
        """Have a job wait for its turn."""
        self.keys.add(job.uid)
        self.busy.setdefault(job.namespace, 0)
        share = self._shares.setdefault(job.namespace, _Share())
        heapq.heappush(share.jobs, job)
        if self.breaker is not None and self.breaker.until is not None:
            if self._choosing:
                share.note(job)
            else:
                self._choose()

    def waiting(self) -> Iterator[Job]:
        """Who waits, in no order."""
        return (job for share in self._shares.values() for job in share.jobs if not job.taken)

    def head(self, below: float = math.inf) -> Job | None:
        """Whose turn it is, among the namespaces with fewer than `below` attempts under way."""
        for namespace in [n for n, share in self._shares.items() if share.head() is None]:
            del self._shares[namespace]
        # The first of those with fewest, and so in turns where all have as many.
        least = min(self._shares, key=self.busy.__getitem__, default=None)
        if least is None or self.busy[least] >= below:
            return None
        return self._shares[least].head()

    def probe(self, breaker: Breaker) -> Job | None:
        """Who is fit to probe: of the kind that the breaker wants, if there is one; not the suspect."""
        shares, suspect = list(self._shares.values()), breaker.suspect
        refused = [j for s in shares if (j := _best(s.refused, suspect)) is not None]
        spared = [j for s in shares if (j := _best(s.spared, suspect)) is not None]
        if breaker.wants_refused and refused:
            return refused[0]
        first = [j for j in spared if not j.tried]
        return next(iter(first or spared), None) or self.head()

    def take(self, job: Job) -> None:
        """Let a job go; its namespace has had its turn."""
        job.taken = True
        self.running += 1
        self.busy[job.namespace] += 1
        self._shares.move_to_end(job.namespace)

    def give_back(self, job: Job) -> None:
        """Note that a job has ended."""
        self.running -= 1
        self.busy[job.namespace] -= 1
        share = self._shares.get(job.namespace)
        waits = share is not None and share.head() is not None
        if len(self.busy) > _KNOWN and not self.busy[job.namespace] and not waits:
            # A lane that is never idle would else remember each namespace that ever was.
            del self.busy[job.namespace]

    def settled(self, breaker: Breaker, job: Job, evidence: Evidence) -> None:
        """Note what a call came to, after the breaker has."""
        if breaker.until is None:
            if self._choosing:
                self._choosing = False
                for share in self._shares.values():
                    share.refused.clear()
                    share.spared.clear()
        elif not self._choosing:
            self._choose()
        elif evidence is Evidence.UP and job.namespace in self._shares:
            # The second probe is to be like the first one that was not in vain.
            self._shares.move_to_end(job.namespace, last=False)

    def _choose(self) -> None:
        self._choosing = True
        for share in self._shares.values():
            for job in share.jobs:
                if not job.taken:
                    share.note(job)

    def clear(self) -> None:
        """Drop everything that waits."""
        self._shares.clear()
        self.keys.clear()
        self.stop_timer()

    def stop_timer(self) -> None:
        """Have nobody woken."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


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
        postponed: Callable[[str], None] = lambda _: None,
        opened: Callable[[str], None] = lambda _: None,
        monotonic: MonotonicClock = monotonic_clock,
    ) -> None:
        """
        Args:
            run: Carries out one attempt (uid, channel) and says what it came to, None if it was not
                made; must not raise.
            per_channel: Attempts of one channel at once.
            total: Attempts at once in all.
            rate: Attempts per second of one receiver, 0 for no limit. Local channels have none.
            breakers: One per receiver; none of its own if left out.
            postponed: Told the uid of each notification that is waiting when its breaker opens.
            opened: Told the channel whose breaker opens.
            monotonic: Seconds.
        """  # noqa: D205 - the class says what it is
        self._run = run
        self._per_channel = per_channel
        self._total = total
        self._interval = 1.0 / rate if rate > 0 else 0.0
        self._breakers = breakers
        self._postponed = postponed
        self._opened = opened
        self._monotonic = monotonic
        self._queues: dict[str, _ReceiverQueue] = {}
        self._tasks: set[asyncio.Task[Outcome | None]] = set()
        #: Boot-clock second before which a receiver must not be called again, by its rate.
        self._paced: dict[str, float] = {}
        self._ticket = 0
        self._closed = False

    @property
    def running(self) -> int:
        """Attempts that run now."""
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
        Have an attempt made as soon as its lane has room; a waiting one is left as it is.

        Args:
            uid: The notification.
            channel: Where to.
            due: Boot-clock second since when it may be made.
            priority: Critical, High, Medium or Low.
            namespace: Of the notification.
            tried: Attempts already made.

        Returns:
            Why it waits, if a breaker makes it wait. It stays in the lane and need not be submitted
            again.
        """
        if self._closed:
            return None
        receiver_queue = self._queues.get(channel)
        if receiver_queue is None:
            breaker = self._breakers.of(channel) if self._breakers is not None else None
            receiver_queue = self._queues[channel] = _ReceiverQueue(channel, breaker)
        if uid not in receiver_queue.keys:
            self._ticket += 1
            rank = _PRIORITY.get(priority, _PRIORITY["Medium"])
            job = Job(math.floor(due), rank, self._ticket, uid, namespace, tried)
            receiver_queue.push(job)
            now = self._monotonic()
            while (first := self._next(receiver_queue, now)) is not None:
                self._start(receiver_queue, first, now)
            if job.taken:
                return None
            job.told = self._held(receiver_queue) is not None
        return self._held(receiver_queue)

    def waits(self, uid: str, channel: str) -> bool:
        """Whether an attempt waits for its receiver."""
        receiver_queue = self._queues.get(channel)
        return receiver_queue is not None and uid in receiver_queue.keys

    def refill(self) -> None:
        """Start what may start now; for whoever does not rely on the timers alone."""
        self._fill()

    def _held(self, receiver_queue: _ReceiverQueue) -> Reject | None:
        now = self._monotonic()
        if receiver_queue.breaker is None or receiver_queue.breaker.state(now) is State.CLOSED:
            return None
        return receiver_queue.breaker.look(now)

    def _next(self, receiver_queue: _ReceiverQueue, now: float) -> Job | None:
        """Who may start now in a lane; whatever only time stands against is looked at in time."""
        if (
            receiver_queue.running >= self._per_channel
            or receiver_queue.running >= self._total - len(self._tasks)
        ):
            return None
        # Whatever holds the whole lane comes first: who is next costs a look at every namespace that waits.
        paced = self._paced.get(receiver_queue.channel, 0.0)
        held = receiver_queue.breaker.look(now) if receiver_queue.breaker is not None else None
        if held is not None or paced > now:
            at = paced if held is None else held.until
            if at is not None and receiver_queue.keys:
                self._wake_at(receiver_queue, at, now)
            return None
        kept = self._per_channel // _KEPT if len(receiver_queue.busy) > 1 else 0
        fair = max(1, self._per_channel // max(1, len(receiver_queue.busy)))
        job = receiver_queue.head(
            fair if self._per_channel - receiver_queue.running <= kept else math.inf
        )
        if job is None:
            return None
        if receiver_queue.breaker is not None and receiver_queue.breaker.until is not None:
            job = receiver_queue.probe(receiver_queue.breaker) or job
            held = receiver_queue.breaker.look(now, first=not job.tried)
        if held is not None:
            if held.until is not None:
                self._wake_at(receiver_queue, held.until, now)
            return None
        return job

    def _start(self, receiver_queue: _ReceiverQueue, job: Job, now: float) -> None:
        permit: Allow | None = None
        if receiver_queue.breaker is not None:
            answer = receiver_queue.breaker.ask(now, first=not job.tried)
            if isinstance(answer, Reject):
                return
            permit = answer
            if self._interval:
                self._paced[receiver_queue.channel] = now + self._interval
        receiver_queue.take(job)
        task = asyncio.create_task(self._job(job, receiver_queue), name=f"attempt-{job.uid}")
        self._tasks.add(task)
        task.add_done_callback(lambda t: self._done(t, receiver_queue, job, permit))

    def _fill(self) -> None:
        """Give free room to who waits longest, whatever the lane; a busy one starves nobody."""
        while len(self._tasks) < self._total and not self._closed:
            now = self._monotonic()
            able = [
                (job, receiver_queue.channel)
                for receiver_queue in self._queues.values()
                if (job := self._next(receiver_queue, now)) is not None
            ]
            if not able:
                return
            job, channel = min(able)
            self._start(self._queues[channel], job, now)

    def _wake_at(self, receiver_queue: _ReceiverQueue, at: float, now: float) -> None:
        if receiver_queue.timer is not None and receiver_queue.timer_at <= at:
            return
        if receiver_queue.timer is not None:
            receiver_queue.timer.cancel()
        receiver_queue.timer_at = at
        wait = min(_NAP, max(0.001, at - now))
        receiver_queue.timer = asyncio.get_running_loop().call_later(
            wait, self._woken, receiver_queue
        )

    def _woken(self, receiver_queue: _ReceiverQueue) -> None:
        receiver_queue.timer = None
        receiver_queue.timer_at = math.inf
        self._fill()

    async def _job(self, job: Job, receiver_queue: _ReceiverQueue) -> Outcome | None:
        # From here on the same pair may be submitted again: it is decided anew by the work queue.
        receiver_queue.keys.discard(job.uid)
        return await self._run(job.uid, receiver_queue.channel)

    def _done(
        self,
        task: asyncio.Task[Outcome | None],
        receiver_queue: _ReceiverQueue,
        job: Job,
        permit: Allow | None,
    ) -> None:
        self._tasks.discard(task)
        receiver_queue.give_back(job)
        outcome = None
        if not task.cancelled():
            if task.exception() is not None:
                logger.error(
                    "an attempt ended unexpectedly",
                    exc_info=task.exception(),
                    extra={"uid": job.uid, "channel": receiver_queue.channel},
                )
            else:
                outcome = task.result()
        if outcome is not None and outcome.by_rule:
            # Nothing was sent, so whoever is not heard there slows down nobody who is.
            self._paced.pop(receiver_queue.channel, None)
        if permit is not None and receiver_queue.breaker is not None:
            self._settle(receiver_queue, receiver_queue.breaker, permit, job, outcome)
        self._fill()
        if not receiver_queue.running and receiver_queue.head() is None:
            self._forget(receiver_queue)

    def _settle(
        self,
        receiver_queue: _ReceiverQueue,
        breaker: Breaker,
        permit: Allow,
        job: Job,
        outcome: Outcome | None,
    ) -> None:
        evidence = evidence_of(outcome)
        wish = outcome.retry_after if outcome is not None else None
        change = breaker.settle(permit, job.uid, evidence, self._monotonic(), retry_after=wish)
        receiver_queue.settled(breaker, job, evidence)
        if change is None:
            return
        logger.warning(
            "a receiver's circuit breaker has changed",
            extra={
                "channel": receiver_queue.channel,
                "state": change.state.name.lower(),
                "why": change.reason,
                "waiting": len(receiver_queue.keys),
            },
        )
        if change.state is State.OPEN:
            self._opened(receiver_queue.channel)
            for waiting in receiver_queue.waiting():
                if not waiting.told:
                    waiting.told = True
                    self._postponed(waiting.uid)

    def _forget(self, receiver_queue: _ReceiverQueue) -> None:
        receiver_queue.stop_timer()
        # A lane that was emptied meanwhile may already have a successor of the same name.
        if self._queues.get(receiver_queue.channel) is receiver_queue:
            del self._queues[receiver_queue.channel]

    def close(self) -> None:
        """Start nothing more; waiting jobs are dropped, the log still knows that they are due."""
        self._closed = True
        for receiver_queue in self._queues.values():
            receiver_queue.clear()

    async def drain(self, seconds: float) -> bool:
        """Wait for running attempts; False if some were still running at the end."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        return not self._tasks

    async def abort(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
