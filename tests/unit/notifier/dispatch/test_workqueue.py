"""The work queue: client-go's semantics, and no wake-up lost or multiplied."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from notifier.dispatch.workqueue import WorkQueue


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


async def test_keys_come_in_order(queue: WorkQueue) -> None:
    """Keys are handled in the order in which they were added."""
    for key in ("a", "b", "c"):
        queue.add(key)
    assert [await take(queue) for _ in range(4)] == ["a", "b", "c", None]


async def test_adding_a_waiting_key(queue: WorkQueue) -> None:
    """A key that waits already is not queued twice."""
    queue.add("a")
    queue.add("a")
    assert len(queue) == 1
    assert [await take(queue), await take(queue)] == ["a", None]


async def test_adding_a_key_in_hand(queue: WorkQueue) -> None:
    """A key that is being handled waits again once that is done, once however often it came."""
    queue.add("a")
    assert await take(queue) == "a"
    queue.add("a")
    queue.add("a")
    assert await take(queue) is None
    queue.done("a")
    assert await take(queue) == "a"
    queue.done("a")
    assert await take(queue) is None
    assert len(queue) == 0


async def test_done_without_news(queue: WorkQueue) -> None:
    """A key that was handled does not come back by itself."""
    queue.add("a")
    await take(queue)
    queue.done("a")
    assert await take(queue) is None


async def test_delay(queue: WorkQueue, clock: Clock) -> None:
    """A delayed key comes when its time has come, not before."""
    queue.add_at("a", 130.0)
    assert (queue.delayed, len(queue)) == (1, 0)
    clock.now = 129.9
    assert await take(queue) is None
    clock.now = 130.0
    assert await take(queue) == "a"
    assert queue.delayed == 0


async def test_a_delay_that_is_over(queue: WorkQueue) -> None:
    """A key that is due already is ready at once."""
    queue.add_at("a", 100.0)
    assert queue.delayed == 0
    assert await take(queue) == "a"


@pytest.mark.parametrize("times", [(130.0, 160.0), (160.0, 130.0), (130.0, 130.0)])
async def test_earliest_delay_counts(
    queue: WorkQueue, clock: Clock, times: tuple[float, float]
) -> None:
    """Of two delays of a key the earlier one counts, and the key comes once."""
    for at in times:
        queue.add_at("a", at)
    assert queue.delayed == 1
    clock.now = 130.0
    assert await take(queue) == "a"
    queue.done("a")
    clock.now = 200.0
    assert await take(queue) is None


async def test_an_add_overtakes_a_delay(queue: WorkQueue, clock: Clock) -> None:
    """A key that was added meanwhile is not handled again for its old delay."""
    queue.add_at("a", 130.0)
    queue.add("a")
    assert await take(queue) == "a"
    queue.done("a")
    clock.now = 130.0
    assert await take(queue) is None


async def test_a_delay_that_ripens_in_hand(queue: WorkQueue, clock: Clock) -> None:
    """A delay that ends while its key is being handled brings the key back afterwards."""
    queue.add("a")
    await take(queue)
    queue.add_at("a", 130.0)
    clock.now = 131.0
    assert await take(queue) is None
    queue.done("a")
    assert await take(queue) == "a"


async def test_delays_of_many_keys(queue: WorkQueue, clock: Clock) -> None:
    """Delayed keys come in the order of their times."""
    for key, at in (("c", 130.0), ("a", 110.0), ("b", 120.0)):
        queue.add_at(key, at)
    clock.now = 140.0
    assert [await take(queue) for _ in range(3)] == ["a", "b", "c"]


async def test_retries_slow_down(queue: WorkQueue, clock: Clock) -> None:
    """A key that fails waits longer each time, up to a bound, until it succeeds."""
    waits = [queue.retry("a") for _ in range(12)]
    assert waits[:4] == [0.2, 0.4, 0.8, 1.6]
    assert waits == sorted(waits)
    assert waits[-1] == 30.0
    queue.succeeded("a")
    assert queue.retry("a") == 0.2
    assert queue.retry("b") == 0.2


async def test_a_retry_comes_back(queue: WorkQueue, clock: Clock) -> None:
    """A key that failed is handled again once its wait is over, and not before."""
    wait = queue.retry("a")
    assert await take(queue) is None
    clock.now += wait
    assert await take(queue) == "a"


async def test_namespaces_take_turns(clock: Clock) -> None:
    """A crowd that came first leaves each other group its turn; within a group the first is first."""
    queue = WorkQueue(clock, group=lambda key: key.partition("-")[0])
    for n in range(1000):
        queue.add(f"crowd-{n}")
    for key in ("b-0", "b-1", "c-0"):
        queue.add(key)
    got = [await queue.get() for _ in range(8)]
    assert got == [
        "crowd-0", "b-0", "c-0", "crowd-1", "b-1", "crowd-2", "crowd-3", "crowd-4",
    ]  # fmt: skip
    queue.add("b-2")
    assert [await queue.get(), await queue.get()] == ["crowd-5", "b-2"]


async def test_delays_that_end_together_take_turns(clock: Clock) -> None:
    """Retries of a crowd that come due at once leave the others theirs."""
    queue = WorkQueue(clock, group=lambda key: key.partition("-")[0])
    for n in range(1000):
        queue.add_at(f"crowd-{n}", 110.0 + n / 1000)
    queue.add_at("b-0", 115.0)
    clock.now = 120.0
    assert [await queue.get(), await queue.get()] == ["crowd-0", "b-0"]


async def test_a_delay_that_was_set_before_anybody_waits() -> None:
    """Whoever waits first sets the timer for what is delayed already, on the real clock."""
    queue = WorkQueue()
    queue.add_at("a", queue.monotonic() + 0.02)
    async with asyncio.timeout(20):
        assert await queue.get() == "a"


async def test_no_sleep_outlasts_a_pause_of_the_machine(queue: WorkQueue) -> None:
    """The loop's clock stands still while the machine sleeps: a timer is set for seconds at most."""
    queue.add_at("a", queue.monotonic() + 3600)
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert queue._timer is not None
    assert 4 < queue._timer.when() - asyncio.get_running_loop().time() <= 5
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def test_a_waiting_worker_is_woken(queue: WorkQueue) -> None:
    """A worker that waits gets a key that is added later."""
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    async with asyncio.timeout(20):
        assert await worker == "a"


async def test_a_waiting_worker_is_woken_for_an_earlier_delay() -> None:
    """A worker that sleeps until a late delay notices an earlier one, on the real clock."""
    queue = WorkQueue()
    queue.add_at("late", queue.monotonic() + 60)
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add_at("early", queue.monotonic() + 0.02)
    async with asyncio.timeout(20):
        assert await worker == "early"


async def test_a_timer_is_set_for_the_earliest_delay(queue: WorkQueue) -> None:
    """While a worker waits: for the time that is left of it, however short."""
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    for at, wait in ((103.0, 3.0), (100.5, 0.5), (102.0, 0.5), (100.001, 0.001)):
        queue.add_at(f"at-{at}", at)
        assert queue._timer is not None
        left = queue._timer.when() - asyncio.get_running_loop().time()
        assert wait - 0.4 < left <= wait
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def test_a_delay_that_is_set_again_takes_no_more_memory(queue: WorkQueue) -> None:
    """Each look at a notification may set its alarm anew."""
    for _ in range(100):
        queue.add_at("a", 130.0)
    assert len(queue._heap) == 1


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


async def test_two_workers_two_keys(queue: WorkQueue) -> None:
    """Two keys that are added at once wake two workers."""
    workers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("b")
    async with asyncio.timeout(20):
        assert set(await asyncio.gather(*workers)) == {"a", "b"}


async def test_a_key_wakes_one_worker(queue: WorkQueue, clock: Clock) -> None:
    """Of many idle workers one is woken for a key, also for one whose delay is over."""
    workers = [asyncio.create_task(queue.get()) for _ in range(8)]
    await asyncio.sleep(0)
    queue.add("a")
    assert len(queue._idle) == 7
    queue.add_at("b", 100.001)
    clock.now = 101.0
    async with asyncio.timeout(20):
        while sum(w.done() for w in workers) < 2:
            await asyncio.sleep(0.001)
    assert len(queue._idle) == 6
    for worker in workers:
        worker.cancel()
    assert {w.result() for w in workers if w.done()} == {"a", "b"}
    await asyncio.gather(*workers, return_exceptions=True)
    assert not queue._idle


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
        async with asyncio.timeout(20):
            while len(queue) or queue.delayed:
                await asyncio.sleep(0.005)
        assert seen == version
        assert not [w for w in workers if w.done()]
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def test_what_is_superseded_is_cleared_away_seldom() -> None:
    """Each time costs as much as all that is delayed: not for a key that is added."""
    queue = WorkQueue(lambda: 0.0)
    heap = queue._heap
    for n in range(100):
        queue.add_at(f"k{n}", 50.0)
        queue.add_at(f"k{n}", 40.0)
    assert queue._heap is heap
