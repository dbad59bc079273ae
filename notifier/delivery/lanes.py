"""
Lanes: how many attempts run at once, per receiver and in all.

Each channel has a lane with room for a few attempts, so a receiver that hangs fills its own lane and
nobody else's. What does not fit waits in the lane as a small job, ordered by due time, then by
priority; a task exists only for an attempt that runs. The whole is bounded by what is live, since a
(notification, channel) pair waits at most once.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

logger = logging.getLogger("ledger.delivery")

_PRIORITY: Final = {"Critical": 0, "High": 1, "Medium": 2, "Low": 3}


@dataclass(order=True, slots=True)
class Job:
    """One attempt that waits for room; ordered by due time, priority, arrival."""

    due: float
    rank: int
    ticket: int
    uid: str = field(compare=False)
    channel: str = field(compare=False)


@dataclass(slots=True)
class _Lane:
    waiting: list[Job] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    running: int = 0


class Lanes:
    """Runs attempts within bounds."""

    def __init__(
        self,
        run: Callable[[str, str], Awaitable[None]],
        *,
        per_channel: int,
        total: int,
    ) -> None:
        """
        Args:
            run: Carries out one attempt (uid, channel); must not raise.
            per_channel: Attempts of one channel at once.
            total: Attempts at once in all.
        """  # noqa: D205, D212, D415 - the class says what it is
        self._run = run
        self._per_channel = per_channel
        self._total = total
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticket = 0
        self._closed = False

    @property
    def running(self) -> int:
        """Attempts that run now."""
        return len(self._tasks)

    def submit(self, uid: str, channel: str, *, due: float, priority: str) -> None:
        """Have an attempt made as soon as its lane has room; a waiting one is left as it is."""
        lane = self._lanes.setdefault(channel, _Lane())
        if self._closed or uid in lane.keys:
            return
        self._ticket += 1
        lane.keys.add(uid)
        heapq.heappush(
            lane.waiting, Job(due, _PRIORITY.get(priority, 2), self._ticket, uid, channel)
        )
        if self._has_room(lane) and len(self._tasks) < self._total:
            self._start(channel, lane)

    def _has_room(self, lane: _Lane) -> bool:
        return bool(lane.waiting) and lane.running < self._per_channel

    def _start(self, channel: str, lane: _Lane) -> None:
        job = heapq.heappop(lane.waiting)
        lane.running += 1
        task = asyncio.create_task(self._job(job, lane), name=f"attempt-{job.uid}")
        self._tasks.add(task)
        task.add_done_callback(lambda t: self._done(t, channel, lane))

    def _fill(self) -> None:
        """Give free room to who waits longest, whatever the lane; a busy one starves nobody."""
        while len(self._tasks) < self._total and not self._closed:
            able = [(lane.waiting[0], c) for c, lane in self._lanes.items() if self._has_room(lane)]
            if not able:
                return
            _, channel = min(able)
            self._start(channel, self._lanes[channel])

    async def _job(self, job: Job, lane: _Lane) -> None:
        # From here on the same pair may be submitted again: it is decided anew by the work queue.
        lane.keys.discard(job.uid)
        await self._run(job.uid, job.channel)

    def _done(self, task: asyncio.Task[None], channel: str, lane: _Lane) -> None:
        self._tasks.discard(task)
        lane.running -= 1
        if not task.cancelled() and task.exception() is not None:
            logger.error("an attempt ended unexpectedly", exc_info=task.exception())
        self._fill()
        # A lane that was emptied meanwhile may already have a successor of the same name.
        if not lane.running and not lane.waiting and self._lanes.get(channel) is lane:
            del self._lanes[channel]

    def close(self) -> None:
        """Start nothing more; waiting jobs are dropped, the log still knows that they are due."""
        self._closed = True
        for lane in self._lanes.values():
            lane.waiting.clear()
            lane.keys.clear()

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
