"""The dispatcher with breakers, a rate, and many receivers that hang."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable

import pytest

from notifier.contract import Outcome
from notifier.dispatch.breaker import OPEN_MOST, Breakers, State
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.receiver_queue import Job, ReceiverQueue

UP = Outcome.success(200)
DOWN = Outcome.transient("slack webhook returned 503 (retryable): ", code=503)
SLACK = "slack:ops"


class Clock:
    """Seconds that pass when a test says so, and by themselves where it matters."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.skipped

    def skip(self, seconds: float) -> None:
        """Let time pass at once."""
        self.skipped += seconds

    def skip_to(self, moment: float) -> float:
        """Let time pass up to a moment, if it is not over; returns what was skipped in all."""
        self.skipped += max(0.0, moment - self()) + 0.001
        return self.skipped


class Receiver:
    """Answers as the test says, and keeps a book."""

    def __init__(self, answer: Callable[[str, int], Outcome | None]) -> None:
        self.answer = answer
        self.calls: list[str] = []
        self.made: Counter[str] = Counter()
        self.running = 0
        self.most = 0

    async def __call__(self, uid: str, channel: str) -> Outcome | None:
        self.calls.append(uid)
        self.made[uid] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        return self.answer(uid, self.made[uid])


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(60):
        await asyncio.sleep(0)


class Bench:
    """A dispatcher over one receiver, with a clock to turn."""

    def __init__(
        self,
        answer: Callable[[str, int], Outcome | None],
        *,
        per_channel: int = 4,
        total: int = 64,
        rate: float = 0.0,
    ) -> None:
        self.clock = Clock()
        self.receiver = Receiver(answer)
        self.breakers = Breakers()
        self.rejected: list[str] = []
        self.openings: list[str] = []
        self.dispatcher = Dispatcher(
            self.receiver,
            per_channel=per_channel,
            total=total,
            rate=rate,
            breakers=self.breakers,
            on_rejected=self.rejected.append,
            on_opened=self.openings.append,
            monotonic=self.clock,
        )

    def submit(
        self, uid: str, channel: str = SLACK, *, tried: int = 0, namespace: str = "",
        priority: str = "Medium", due: float = 0,
    ) -> str | None:  # fmt: skip
        """Submit; returns why it waits."""
        held = self.dispatcher.submit(
            uid, channel, due=due, priority=priority, namespace=namespace, tried=tried
        )
        return held.reason if held is not None else None

    def state(self, channel: str = SLACK) -> State:
        """Where the breaker stands."""
        breaker = self.breakers.of(channel)
        assert breaker is not None
        return breaker.state(self.clock())


async def opened(bench: Bench) -> None:
    """Open the breaker of a receiver that is down."""
    for uid in ("x", "y", "z"):
        bench.submit(uid)
    await settle()
    assert bench.state() is State.OPEN
    bench.receiver.calls.clear()


async def test_those_in_the_queue_are_notified_once() -> None:
    """Notifications that wait when it opens are reconciled once; no turn is taken for it."""
    bench = Bench(lambda _uid, _n: DOWN)
    for n in range(20):
        assert bench.submit(f"n{n}") is None
    await settle()
    # Two had taken the places of the first two failures when the third one opened it.
    assert bench.receiver.calls == [f"n{n}" for n in range(6)]
    assert sorted(bench.rejected) == sorted(f"n{n}" for n in range(6, 20))
    bench.clock.skip(OPEN_MOST)
    bench.submit("poke")
    await settle()
    assert len(bench.receiver.calls) == 7, "one probe"
    assert sorted(bench.rejected) == sorted(f"n{n}" for n in range(6, 20)), "notified once"
    assert bench.openings == [SLACK, SLACK]
    bench.dispatcher.close()


async def test_what_waited_when_it_opened_may_probe_as_well() -> None:
    """The first probe is of those with most attempts, also among what came before the outage."""
    bench = Bench(lambda _uid, _n: DOWN, per_channel=3)
    made = {"x": 0, "y": 0, "z": 0, "f": 0, "g": 0, "new": 0, "twice": 2, "once": 1}
    for uid, tried in made.items():
        bench.submit(uid, tried=tried)
    await settle()
    assert bench.state() is State.OPEN
    bench.receiver.calls.clear()
    bench.clock.skip(OPEN_MOST)
    bench.dispatcher.refill()
    await settle()
    assert bench.receiver.calls == ["twice"]
    bench.dispatcher.close()


@pytest.mark.parametrize("refused", [1, 2, 3])
async def test_a_receiver_that_refuses_each_message_several_times(refused: int) -> None:
    """It is found to be well as soon as one message has had its refusals."""
    bench = Bench(lambda _uid, n: DOWN if n <= refused else UP, per_channel=32)
    names = [f"n{n}" for n in range(30)]
    for uid in names:
        bench.submit(uid)
    await settle()
    breaker = bench.breakers.of(SLACK)
    assert breaker is not None
    waited = 0.0
    while breaker.until is not None:
        waited = bench.clock.skip_to(breaker.until)
        for uid in names:
            bench.submit(uid, tried=bench.receiver.made[uid])
        await settle()
    assert waited < (2, 8, 40)[refused - 1]
    bench.dispatcher.close()


@pytest.mark.parametrize("hanging", [1, 8, 40])
async def test_hanging_receivers_leave_places(hanging: int) -> None:
    """However many receivers hang, the total is never theirs alone: others find a place at once."""
    never = asyncio.Event()
    done: list[str] = []
    most = 0

    async def run(uid: str, channel: str) -> None:
        nonlocal most
        most = max(most, dispatcher.running)
        if channel.startswith("slack:hangs"):
            await never.wait()
        done.append(uid)

    dispatcher = Dispatcher(run, per_channel=32, total=256, breakers=Breakers())
    for n in range(100):
        for k in range(hanging):
            dispatcher.submit(f"h{k}-{n}", f"slack:hangs-{k}", due=0, priority="Critical")
    await settle()
    free = 256 - dispatcher.running
    assert free >= 256 // (hanging + 1) - 32
    assert free >= 2
    for n in range(300):
        dispatcher.submit(f"{n}", "slack:well", due=1000, priority="Low")
    for _ in range(40):
        await settle()
    assert len(done) == 300, "served completely while the others hang"
    assert most <= 256
    never.set()
    await dispatcher.drain(5)


@pytest.mark.parametrize("rate", [0.0, 0.1])
async def test_what_is_held_costs_attempts_elsewhere_nothing(
    monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    """Who is next of a receiver that is down, or has its rate used up, is not asked meanwhile."""
    bench = Bench(lambda uid, _n: UP if rate or uid == "other" else DOWN, rate=rate)
    for uid in ("x", "y", "z"):
        bench.submit(uid)
    await settle()
    assert rate or bench.state() is State.OPEN
    looks = 0
    head = ReceiverQueue.head

    def counted(queue: ReceiverQueue, below: float = math.inf) -> Job | None:
        nonlocal looks
        looks += 1
        return head(queue, below)

    monkeypatch.setattr(ReceiverQueue, "head", counted)
    for n in range(200):
        bench.submit(f"n{n}", namespace=f"namespace-{n}")
    bench.submit("other", "slack:other")
    await settle()
    assert "other" in bench.receiver.calls
    assert looks < 100, "each that waits was looked at for one that does not"
    bench.dispatcher.close()


async def test_a_queue_that_is_never_idle_forgets_namespaces() -> None:
    """One attempt hangs all the time; thousands of namespaces come and go beside it."""
    bench = Bench(lambda _uid, _n: UP)
    hanging = asyncio.Event()
    run = bench.dispatcher._run

    async def hangs(uid: str, channel: str) -> Outcome | None:
        if uid == "hangs":
            await hanging.wait()
        return await run(uid, channel)

    bench.dispatcher._run = hangs
    bench.submit("hangs", namespace="slow")
    for n in range(1_000):
        bench.submit(f"n{n}", namespace=f"namespace-{n}")
        bench.submit(f"m{n}", namespace=f"namespace-{n}")
        if not n % 10:
            await settle()
    await settle()
    assert len(bench.receiver.calls) == 2_000
    (receiver_queue,) = bench.dispatcher._queues.values()
    assert len(receiver_queue.busy) < 300
    assert receiver_queue.busy["slow"] == 1
    hanging.set()
    await settle()
    bench.dispatcher.close()
