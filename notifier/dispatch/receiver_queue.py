"""
The attempts that wait and run for one receiver, and which one is next.

The namespace with the fewest attempts under way goes first, and namespaces with equally many take turns;
within a namespace, attempts are ordered by due time (to the second), then by priority. A priority
expresses what its author wants first; it takes no turn away from another namespace, or one author could
delay all others by marking everything critical.

While the receiver's circuit breaker is not closed, candidates for its probes are also kept in order. The
breaker asks for one of two kinds of probe: a retry of the notification that has failed most often,
because such notifications opened the breaker, or the one that has failed least, preferably a first
attempt. It comes from the namespace whose turn it is. Only attempts that are due by their own back-off
serve as probes, so none is made earlier than it would be without a breaker.

`Pace` says when a receiver may be called next: the operators' rate, and what its answers 429 ask for. A
receiver that limits its rate takes some calls and refuses the rest, so its circuit breaker stays closed.
Without a limit on this side a burst would use up the attempts of everything that waits there, and an
author who sends the most would have the others' messages fail. So an answer 429 concerns the whole queue:

- No call begins before the time that Retry-After names; at least a second, at most `QUIET_MOST`.
- From then on calls keep an interval, which doubles with each further 429 and shrinks by a twentieth with
  each message that is accepted, until it no longer matters. It settles a little above what the receiver
  takes.

An answer to a call that began before the interval was last lengthened says nothing about the new one.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from notifier.contract import Outcome
from notifier.dispatch.breaker import Breaker, Evidence
from syncer.model.attempt import AttemptState

#: Status code by which a receiver says that it is called too often.
TOO_MANY: Final = 429
#: Seconds without calls after that answer, at least and at most.
QUIET_LEAST: Final = 1.0
QUIET_MOST: Final = 30.0
#: Seconds between two calls: after the first such answer, at most, and when they no longer matter.
INTERVAL_FIRST: Final = 0.1
INTERVAL_MOST: Final = 4.0
INTERVAL_LEAST: Final = 0.002
_FASTER: Final = 0.95


@dataclass(slots=True)
class Pace:
    """
    The pace of one receiver; all times in boot-clock seconds.

    Attributes:
        least: Seconds between two calls by the operators' rate; 0 without one.
        interval: Seconds between two calls that the receiver's answers ask for; 0 if they ask for none.
    """

    least: float = 0.0
    interval: float = 0.0
    _called: float = -math.inf
    _quiet: float = -math.inf
    _lengthened: float = -math.inf

    @property
    def at(self) -> float:
        """When the next call may begin."""
        return max(self._quiet, self._called + max(self.least, self.interval))

    def on_call(self, now: float) -> None:
        """Note that a call begins."""
        self._called = now

    def on_unsent(self) -> None:
        """Note that nothing was sent: a call that was denied must not delay those that are allowed."""
        self._called = -math.inf

    def on_outcome(self, outcome: Outcome, began: float, now: float) -> None:
        """Process the result of a call that began at `began`."""
        if outcome.code == TOO_MANY:
            asked = max(QUIET_LEAST, outcome.retry_after or 0.0)
            self._quiet = max(self._quiet, now + min(asked, QUIET_MOST))
            if began >= self._lengthened:
                self.interval = min(max(INTERVAL_FIRST, 2 * self.interval), INTERVAL_MOST)
                self._lengthened = now
        elif outcome.state is AttemptState.SUCCESS and began >= self._lengthened:
            shorter = self.interval * _FASTER
            self.interval = shorter if shorter >= INTERVAL_LEAST else 0.0


#: Namespaces with nothing under way or waiting that a receiver remembers.
_KNOWN: Final = 256


@dataclass(order=True, slots=True)
class Job:
    """
    One waiting attempt; those of a namespace are ordered by due second, priority, arrival.

    Attributes:
        due: Boot-clock second since which it may be made, rounded down.
        rank: Rank of its priority, 0 first.
        arrival: Number of the submission.
        uid: The notification.
        namespace: The notification's namespace.
        tried: Attempts made before on the channel.
        notified: An Event reports that the notification waits for a breaker.
        started: It runs or has run, and still has to be dropped from the heaps.
    """

    due: int
    rank: int
    arrival: int  # noqa: V107 (orders jobs of the same second and priority)
    uid: str
    namespace: str = ""
    tried: int = 0
    notified: bool = False
    started: bool = False


class _NamespaceQueue:
    """Waiting attempts of one namespace for one receiver: a heap, and two more while probes are chosen."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        #: Retries, the most often tried first.
        self.retries: list[tuple[int, Job]] = []
        #: All, the least often tried first.
        self.fresh: list[tuple[int, Job]] = []

    def head(self) -> Job | None:
        """The next in order."""
        while self.jobs and self.jobs[0].started:
            heapq.heappop(self.jobs)
        return self.jobs[0] if self.jobs else None

    def add_candidate(self, job: Job) -> None:
        """Make a job a candidate for a probe."""
        heapq.heappush(self.fresh, (job.tried, job))
        if job.tried:
            heapq.heappush(self.retries, (-job.tried, job))


def _best(candidates: list[tuple[int, Job]], suspect: str) -> Job | None:
    """The first job of a heap that still waits, preferably not one of the suspect."""
    while candidates and candidates[0][1].started:
        heapq.heappop(candidates)
    if not candidates or candidates[0][1].uid != suspect:
        return candidates[0][1] if candidates else None
    passed = heapq.heappop(candidates)
    found = _best(candidates, "")
    heapq.heappush(candidates, passed)
    return found


class ReceiverQueue:
    """The queue of one receiver."""

    def __init__(self, channel: str, breaker: Breaker, pace: Pace) -> None:
        """Start empty."""
        self.channel = channel
        self.breaker = breaker
        self.pace = pace
        #: Uids of waiting attempts.
        self.keys: set[str] = set()
        self.running = 0
        #: Running attempts by namespace, for namespaces seen since the queue was last idle (a bounded
        #: number).
        self.busy: dict[str, int] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = math.inf
        #: Waiting attempts by namespace, in the order of their turns; none is empty.
        self._namespaces: OrderedDict[str, _NamespaceQueue] = OrderedDict()
        #: Whether candidates for probes are kept.
        self._choosing = False

    def push(self, job: Job) -> None:
        """Add a job that waits for its turn."""
        self.keys.add(job.uid)
        self.busy.setdefault(job.namespace, 0)
        queue = self._namespaces.setdefault(job.namespace, _NamespaceQueue())
        heapq.heappush(queue.jobs, job)
        if self.breaker.until is not None:
            # Jobs that waited when the breaker opened are candidates already.
            self._choosing = True
            queue.add_candidate(job)

    def waiting(self) -> Iterator[Job]:
        """The waiting jobs, in no particular order."""
        return (job for queue in self._namespaces.values() for job in queue.jobs if not job.started)

    def head(self, below: float = math.inf) -> Job | None:
        """The next job in order, from the namespaces with fewer than `below` running attempts."""
        least, fewest = None, math.inf
        # The first of those with the fewest; namespaces with equally many thus take turns. Those with any
        # stand at the end, so the search is short however many wait.
        for namespace in self._namespaces:
            if (running := self.busy[namespace]) < fewest:
                least, fewest = namespace, running
                if not running:
                    break
        if least is None or fewest >= below:
            return None
        return self._namespaces[least].head()

    def probe(self) -> Job | None:
        """The next probe: of the kind that the breaker wants, if possible, and not of the suspect."""
        queues, suspect = list(self._namespaces.values()), self.breaker.suspect
        retries = [j for q in queues if (j := _best(q.retries, suspect)) is not None]
        fresh = [j for q in queues if (j := _best(q.fresh, suspect)) is not None]
        if self.breaker.wants_retry and retries:
            return retries[0]
        first = [j for j in fresh if not j.tried]
        return next(iter(first or fresh), None) or self.head()

    def start(self, job: Job) -> None:
        """Note that a job runs; its namespace has had its turn."""
        job.started = True
        self.running += 1
        self.busy[job.namespace] += 1
        self._namespaces.move_to_end(job.namespace)
        if self._namespaces[job.namespace].head() is None:
            del self._namespaces[job.namespace]

    def end(self, job: Job) -> None:
        """Note that a job has ended."""
        self.running -= 1
        self.busy[job.namespace] -= 1
        waits = job.namespace in self._namespaces
        if len(self.busy) > _KNOWN and not self.busy[job.namespace] and not waits:
            # Otherwise a queue that is never idle would remember every namespace it has ever seen.
            del self.busy[job.namespace]

    def on_evidence(self, job: Job, evidence: Evidence) -> None:
        """Adapt to the breaker's state after it has processed an outcome."""
        if self.breaker.until is None:
            if self._choosing:
                self._choosing = False
                for queue in self._namespaces.values():
                    queue.retries.clear()
                    queue.fresh.clear()
        elif not self._choosing:
            self._choose()
        elif evidence is Evidence.UP and job.namespace in self._namespaces:
            # The second probe should resemble the first one, which succeeded.
            self._namespaces.move_to_end(job.namespace, last=False)

    def _choose(self) -> None:
        self._choosing = True
        for queue in self._namespaces.values():
            for job in queue.jobs:
                if not job.started:
                    queue.add_candidate(job)

    def clear(self) -> None:
        """Drop all waiting jobs."""
        self._namespaces.clear()
        self.keys.clear()
        self.stop_timer()

    def stop_timer(self) -> None:
        """Cancel the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
