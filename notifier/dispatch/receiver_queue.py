"""
The attempts that wait and run for one receiver, and which one is next.

The namespace with the fewest attempts under way goes first, and namespaces with equally many take turns;
within a namespace, attempts are ordered by due time (to the second), then by priority. A priority
expresses what its author wants first; it takes no turn away from another namespace, or one author could
delay all others by marking everything critical.

A circuit breaker that is not closed asks for one of two kinds of probe: a retry of the notification that
has failed most often, because such notifications opened it, or the one that has failed least, preferably
a first attempt. It comes from the namespace whose turn it is. Only attempts that are due by their own
back-off serve as probes, so none is made earlier than it would be without a breaker.

`Pace` says when a receiver may be called next: by the operators' rate, and by the receiver's 429 answers. A
receiver that limits its rate takes some calls and refuses the rest, so its circuit breaker stays closed.
Without a limit on this side a burst would use up the attempts of every notification that waits there, and
the author who sends the most would make the messages of the others fail. So a 429 concerns the whole queue:

- No call begins before the time that Retry-After names; at least a second, at most `QUIET_MOST`.
- From then on calls keep an interval, which doubles with each further 429 and shrinks by a twentieth with
  each accepted message, until it no longer matters. The rate settles a little above what the receiver
  takes.

An answer to a call that began before the interval was last lengthened says nothing about the new one.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Final

from notifier.contract import Outcome
from notifier.dispatch.breaker import Breaker, Evidence
from syncer.model.attempt import AttemptState
from syncer.runtime.alarm import Alarm

#: Status code with which a receiver says that it is called too often.
TOO_MANY: Final = 429
#: Seconds without calls after that answer, at least and at most.
QUIET_LEAST: Final = 1.0
QUIET_MOST: Final = 30.0
#: Seconds between two calls: after the first such answer, at most, and below which the interval is dropped.
INTERVAL_FIRST: Final = 0.1
INTERVAL_MOST: Final = 4.0
INTERVAL_LEAST: Final = 0.002
_FASTER: Final = 0.95


@dataclass(slots=True)
class Pace:
    """
    The pace of one receiver; all times in seconds of the monotonic clock.

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

    def on_outcome(self, outcome: Outcome, began: float, now: float) -> None:
        """Process the result of a call that began at `began`."""
        if outcome.by_rule:
            # Nothing was sent: a denied call must not delay allowed ones.
            self._called = -math.inf
        if outcome.code == TOO_MANY:
            asked = max(QUIET_LEAST, outcome.retry_after or 0.0)
            self._quiet = max(self._quiet, now + min(asked, QUIET_MOST))
            if began >= self._lengthened:
                self.interval = min(max(INTERVAL_FIRST, 2 * self.interval), INTERVAL_MOST)
                self._lengthened = now
        elif outcome.state is AttemptState.SUCCESS and began >= self._lengthened:
            shorter = self.interval * _FASTER
            self.interval = shorter if shorter >= INTERVAL_LEAST else 0.0


#: Orders jobs by earlier attempts, then as usual; comparing the jobs themselves takes three times as long.
_LEAST_TRIED: Final = attrgetter("tried", "due", "rank", "arrival")
#: Number of known namespaces above which a queue forgets those without running or waiting attempts.
_KNOWN: Final = 256


@dataclass(order=True, slots=True)
class Job:
    """
    One waiting attempt; those of a namespace are ordered by due second, priority, arrival.

    Attributes:
        due: Second of the monotonic clock since which it may be made, rounded down.
        rank: Rank of its priority, 0 first.
        arrival: Number of the submission.
        uid: The notification.
        namespace: The notification's namespace.
        tried: Attempts made before on the channel.
        notified: An Event has reported that the notification waits for a breaker.
        started: It runs or has run.
    """

    due: int
    rank: int
    arrival: int  # noqa: V107 (orders jobs of the same second and priority)
    uid: str
    namespace: str = ""
    tried: int = 0
    notified: bool = False
    started: bool = False


@dataclass(eq=False)
class ReceiverQueue:
    """The queue of one receiver."""

    channel: str
    breaker: Breaker
    pace: Pace
    alarm: Alarm
    #: Uids of waiting attempts.
    keys: set[str] = field(default_factory=set, init=False)
    running: int = field(default=0, init=False)
    #: Waiting attempts that are not their notification's first.
    retries: int = field(default=0, init=False)
    #: Running attempts by namespace, for namespaces seen since the queue was last idle (a bounded number).
    busy: dict[str, int] = field(default_factory=dict, init=False)
    #: A heap of the waiting attempts of each namespace, in the order of their turns; none is empty.
    _namespaces: OrderedDict[str, list[Job]] = field(default_factory=OrderedDict, init=False)

    def push(self, job: Job) -> None:
        """Add a job that waits for its turn."""
        self.keys.add(job.uid)
        self.retries += bool(job.tried)
        self.busy.setdefault(job.namespace, 0)
        heapq.heappush(self._namespaces.setdefault(job.namespace, []), job)

    def waiting(self) -> Iterator[Job]:
        """The waiting jobs, in no particular order."""
        return chain.from_iterable(self._namespaces.values())

    def head(self, below: float = math.inf) -> Job | None:
        """The next job in order, from the namespaces with fewer than `below` running attempts."""
        least, fewest = None, math.inf
        # Take the first namespace with the fewest running attempts, so that those with equally many take
        # turns. Namespaces with running attempts are at the end, so the search is short however many wait.
        for namespace in self._namespaces:
            if (running := self.busy[namespace]) < fewest:
                least, fewest = namespace, running
                if not running:
                    break
        if least is None or fewest >= below:
            return None
        return self._namespaces[least][0]

    def probe(self, usual: Job) -> Job:
        """
        Return the next probe: if possible of the kind that the breaker wants, and not of the suspect.

        `usual` is the next job in order, used if there is no choice. All waiting jobs are looked at, once
        for each probe; keeping them in this order as well took five times the code.
        """
        waiting = [
            [job for job in jobs if job.uid != self.breaker.suspect]
            for jobs in self._namespaces.values()
        ]
        if self.breaker.wants_retry:
            for jobs in waiting:
                if retries := [job for job in jobs if job.tried]:
                    return min(retries, key=lambda job: (-job.tried, job))
        least = [min(jobs, key=_LEAST_TRIED) for jobs in waiting if jobs]
        return next((job for job in least if not job.tried), least[0] if least else usual)

    def start(self, job: Job) -> None:
        """Note that a job runs; its namespace has had its turn."""
        job.started = True
        self.running += 1
        self.retries -= bool(job.tried)
        self.busy[job.namespace] += 1
        self._namespaces.move_to_end(job.namespace)
        jobs = self._namespaces[job.namespace]
        if jobs[0] is job:
            heapq.heappop(jobs)
        else:
            jobs.remove(job)
            heapq.heapify(jobs)
        if not jobs:
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
        """After a successful probe, prefer its namespace: the second probe should resemble the first."""
        probing = self.breaker.until is not None and evidence is Evidence.UP
        if probing and job.namespace in self._namespaces:
            self._namespaces.move_to_end(job.namespace, last=False)

    def clear(self) -> None:
        """Drop all waiting jobs."""
        self._namespaces.clear()
        self.keys.clear()
        self.alarm.cancel()
