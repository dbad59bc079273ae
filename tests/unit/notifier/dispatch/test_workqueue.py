"""The work queue: client-go's semantics, and no wake-up lost or multiplied."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from notifier.dispatch.workqueue import WorkQueue
from tests.beside import beside, eventually


class Clock:
    """A boot clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock at 100 s."""
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    """A queue on that clock."""
    return WorkQueue(clock)


async def take(queue: WorkQueue) -> str | None:
    """The next key, None if there is none now."""
    try:
        async with asyncio.timeout(0.02):
            return await queue.get()
    except TimeoutError:
        return None


async def test_a_delay_that_is_over(queue: WorkQueue) -> None:
    """A key that is due already is ready at once."""
    queue.add_at("a", 100.0)
    assert queue.delayed == 0
    assert await take(queue) == "a"


async def test_a_timer_is_set_for_the_earliest_delay(queue: WorkQueue) -> None:
    """While a worker waits: for the time that is left of it, however short."""
    async with beside(queue.get()):
        await asyncio.sleep(0)
        for at, wait in ((103.0, 3.0), (100.5, 0.5), (102.0, 0.5), (100.001, 0.001)):
            queue.add_at(f"at-{at}", at)
            assert queue._alarm.timer is not None
            left = queue._alarm.timer.when() - asyncio.get_running_loop().time()
            assert wait - 0.4 < left <= wait


async def test_a_key_that_is_added_before_its_time_leaves_nothing_behind(
    queue: WorkQueue, clock: Clock
) -> None:
    """An object that is changed all day, with a back-off of an hour, does not fill the memory."""
    queue.add_at("other", 150.0)
    for _ in range(5_000):
        queue.add("a")
        assert await queue.get() == "a"
        queue.add_at("a", 3600.0)
        queue.done("a")
    assert queue.delayed == 2
    assert len(queue._heap) < 2_000
    clock.now = 150.0
    assert await queue.get() == "other"
    clock.now = 3600.0
    assert await queue.get() == "a"


async def test_a_cancelled_worker_loses_nothing(queue: WorkQueue) -> None:
    """A worker that is cancelled while a key arrives leaves it to the others."""
    first, second = (asyncio.create_task(queue.get()) for _ in range(2))
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    async with asyncio.timeout(20):
        assert await second == "a"
    await asyncio.gather(first, return_exceptions=True)


async def test_no_wake_up_is_lost_or_shared() -> None:
    """Under random adds, no key is in two hands at once, and each add is followed by a look."""
    rng = random.Random(7)  # noqa: S311 - a seed, so that a failure repeats
    queue = WorkQueue()
    keys = [f"k{n}" for n in range(5)]
    version: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    in_hand: set[str] = set()

    async def work() -> None:
        while True:
            key = await queue.get()
            assert key not in in_hand
            in_hand.add(key)
            seen[key] = version[key]
            await asyncio.sleep(rng.choice((0, 0, 0.001)))
            in_hand.discard(key)
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(3)]
    try:
        for _ in range(400):
            key = rng.choice(keys)
            version[key] += 1
            if rng.random() < 0.3:
                queue.add_at(key, queue.monotonic() + rng.random() * 0.002)
            else:
                queue.add(key)
            await asyncio.sleep(0)
        await eventually(lambda: not len(queue) and not queue.delayed)
        assert seen == version
        assert not [w for w in workers if w.done()]
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
