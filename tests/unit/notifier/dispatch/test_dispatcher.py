"""The dispatcher: bounds per receiver and in all, and the order in which places are given."""

from __future__ import annotations

import asyncio
import logging

import pytest

from notifier.contract import Outcome
from notifier.dispatch.breaker import Breaker, Breakers
from notifier.dispatch.dispatcher import Dispatcher

SLACK = "slack:ops"


class Sends:
    """Attempts that run until a test lets them end."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str]] = []
        self.most = 0
        self._running: dict[tuple[str, str], asyncio.Event] = {}

    async def __call__(self, uid: str, channel: str) -> None:
        self.started.append((uid, channel))
        event = self._running[uid, channel] = asyncio.Event()
        self.most = max(self.most, len(self._running))
        try:
            await event.wait()
        finally:
            del self._running[uid, channel]

    @property
    def running(self) -> set[str]:
        """Uids under way."""
        return {uid for uid, _ in self._running}

    async def end(self, uid: str, channel: str = "a") -> None:
        """Let an attempt end, and what follows start."""
        self._running[uid, channel].set()
        await settle()

    async def end_all(self) -> None:
        """Let everything end, one after the other."""
        while self._running:
            await self.end(*next(iter(self._running)))


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def sends() -> Sends:
    """What the dispatcher runs."""
    return Sends()


async def test_places_per_channel(sends: Sends) -> None:
    """A channel runs as many attempts as it has places; the rest waits its turn."""
    dispatcher = Dispatcher(sends, per_channel=2, total=10)
    for uid in ("1", "2", "3", "4"):
        dispatcher.submit(uid, "a", due=0, priority="Medium")
    await settle()
    assert sends.running == {"1", "2"}
    await sends.end("1")
    assert sends.running == {"2", "3"}
    await sends.end_all()
    assert [uid for uid, _ in sends.started] == ["1", "2", "3", "4"]
    assert (sends.most, dispatcher.running) == (2, 0)


async def test_a_hanging_receiver_blocks_nobody_else(sends: Sends) -> None:
    """A receiver whose places are taken leaves the others alone."""
    dispatcher = Dispatcher(sends, per_channel=2, total=10)
    for n in range(9):
        dispatcher.submit(f"hung-{n}", "a", due=0, priority="Critical")
    dispatcher.submit("free", "b", due=0, priority="Low")
    await settle()
    assert sends.running == {"hung-0", "hung-1", "free"}
    await sends.end_all()


async def test_total(sends: Sends) -> None:
    """All receivers together never have more than the total under way."""
    dispatcher = Dispatcher(sends, per_channel=2, total=3)
    for channel in ("a", "b", "c"):
        for n in range(2):
            dispatcher.submit(f"{channel}{n}", channel, due=0, priority="Medium")
    await settle()
    assert dispatcher.running == 3
    await sends.end_all()
    assert sends.most == 3
    assert len(sends.started) == 6


async def test_a_freed_place_goes_to_who_waits_longest(sends: Sends) -> None:
    """Where the total is the limit, a busy receiver does not starve the others."""
    dispatcher = Dispatcher(sends, per_channel=2, total=2)
    for n in range(20):
        dispatcher.submit(f"busy-{n}", "a", due=float(n), priority="Medium")
    dispatcher.submit("patient", "b", due=2.5, priority="Medium")
    await settle()
    for n in range(4):
        await sends.end(f"busy-{n}")
        if "patient" in sends.running:
            break
    assert "patient" in sends.running
    await sends.end_all()


async def test_order(sends: Sends) -> None:
    """Who waits is taken by due time, then by priority, then by arrival."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    dispatcher.submit("first", "a", due=0, priority="Low")
    for uid, due, priority in (
        ("late-critical", 20.0, "Critical"),
        ("medium", 10.0, "Medium"),
        ("odd", 10.0, "Sometimes"),
        ("low", 10.0, "Low"),
        ("high", 10.0, "High"),
        ("critical", 10.0, "Critical"),
    ):
        dispatcher.submit(uid, "a", due=due, priority=priority)
    await settle()
    await sends.end_all()
    assert [uid for uid, _ in sends.started] == [
        "first", "critical", "high", "medium", "odd", "low", "late-critical",
    ]  # fmt: skip


async def test_a_pair_waits_once(sends: Sends) -> None:
    """A notification waits at most once for a channel, but may wait for several channels."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    dispatcher.submit("x", "a", due=0, priority="Medium")
    dispatcher.submit("x", "b", due=0, priority="Medium")
    dispatcher.submit("y", "a", due=0, priority="Medium")
    for _ in range(3):
        dispatcher.submit("z", "a", due=0, priority="Medium")
    await settle()
    await sends.end_all()
    assert sorted(sends.started) == [("x", "a"), ("x", "b"), ("y", "a"), ("z", "a")]


async def test_a_running_pair_may_be_submitted_again(sends: Sends) -> None:
    """Once it runs, the same pair may wait again: whether it is needed is decided elsewhere."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    dispatcher.submit("x", "a", due=0, priority="Medium")
    await settle()
    dispatcher.submit("x", "a", due=0, priority="Medium")
    await sends.end("x")
    assert sends.started == [("x", "a"), ("x", "a")]
    await sends.end_all()


async def test_close_and_drain(sends: Sends) -> None:
    """After closing nothing starts any more; what runs may end."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    for uid in ("1", "2"):
        dispatcher.submit(uid, "a", due=0, priority="Medium")
    await settle()
    dispatcher.close()
    dispatcher.submit("3", "b", due=0, priority="Critical")
    assert await dispatcher.drain(0.01) is False
    await sends.end("1")
    assert await dispatcher.drain(1) is True
    assert sends.started == [("1", "a")]


async def test_drain_of_nothing(sends: Sends) -> None:
    """Where nothing runs there is nothing to wait for."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    async with asyncio.timeout(5):
        assert await dispatcher.drain(60) is True


async def test_drain_waits_no_longer_than_needed(sends: Sends) -> None:
    """The end of the last attempt ends the wait, and its result is asked for then."""
    dispatcher = Dispatcher(sends, per_channel=2, total=10)
    for uid in ("1", "2"):
        dispatcher.submit(uid, "a", due=0, priority="Medium")
    await settle()
    dispatcher.close()
    waiting = asyncio.create_task(dispatcher.drain(60))
    await sends.end("1")
    assert not waiting.done()
    await sends.end("2")
    async with asyncio.timeout(5):
        assert await waiting is True


async def test_abort(sends: Sends) -> None:
    """What does not end in time is cancelled and waited for."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    dispatcher.submit("1", "a", due=0, priority="Medium")
    await settle()
    dispatcher.close()
    await dispatcher.abort()
    assert dispatcher.running == 0
    assert sends.running == set()


async def test_an_error_takes_no_place_away(caplog: pytest.LogCaptureFixture) -> None:
    """An attempt that raises is logged, and its place is free again."""
    done: list[str] = []

    async def run(uid: str, channel: str) -> None:
        await asyncio.sleep(0)
        if uid == "bad":
            raise RuntimeError("unforeseen")
        done.append(uid)

    dispatcher = Dispatcher(run, per_channel=1, total=1)
    for uid in ("bad", "good"):
        dispatcher.submit(uid, "a", due=0, priority="Medium")
    with caplog.at_level(logging.ERROR, logger="ledger.delivery"):
        await settle()
        await settle()
    assert done == ["good"]
    assert [r.message for r in caplog.records] == ["an attempt ended unexpectedly"]
    assert dispatcher.running == 0


@pytest.mark.parametrize("channel", ["console", "file", "log"])
async def test_failures_of_a_local_channel_hold_nothing_back(channel: str) -> None:
    """They are this process's own: no circuit breaker opens, and a rate is for receivers."""
    made: list[str] = []

    async def run(uid: str, _channel: str) -> Outcome:
        made.append(uid)
        return Outcome.transient("the disk is full")

    dispatcher = Dispatcher(run, per_channel=1, total=4, rate=0.01)
    rejections = [dispatcher.submit(f"n{n}", channel, due=0, priority="Medium") for n in range(8)]
    for _ in range(8):
        await settle()
    assert (rejections, made) == ([None] * 8, [f"n{n}" for n in range(8)])


async def test_idle_queues_are_forgotten(sends: Sends) -> None:
    """A channel that has nothing to do costs nothing, and starts afresh."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    for round_ in range(3):
        dispatcher.submit(f"{round_}", f"channel-{round_}", due=0, priority="Medium")
        await settle()
        await sends.end_all()
    assert dispatcher._queues == {}


# -- timers and bounds ------------------------------------------------------------------------------


class Timed:
    """A dispatcher on a clock that stands still, over a receiver that takes everything."""

    def __init__(self, *, rate: float = 0.0) -> None:
        self.now = 1000.0
        self.calls: list[str] = []
        #: What calls come to; a success without.
        self.outcomes: list[Outcome] = []
        self.breakers = Breakers()
        self.dispatcher = Dispatcher(
            self._run, per_channel=8, total=64, rate=rate, breakers=self.breakers,
            monotonic=lambda: self.now,
        )  # fmt: skip

    async def _run(self, uid: str, _channel: str) -> Outcome:
        self.calls.append(uid)
        return self.outcomes.pop(0) if self.outcomes else Outcome.success(200)

    def submit(self, uid: str, *, tried: int = 0) -> None:
        """Submit an attempt on the one receiver."""
        self.dispatcher.submit(uid, SLACK, due=0, priority="Medium", tried=tried)

    @property
    def breaker(self) -> Breaker:
        """Of the receiver."""
        found = self.breakers.of(SLACK)
        assert found is not None
        return found

    def wakes_in(self) -> float:
        """Seconds until the queue wakes by itself."""
        timer = self.dispatcher._queues[SLACK].alarm.timer
        assert timer is not None
        return timer.when() - asyncio.get_running_loop().time()


async def test_no_sleep_outlasts_a_pause_of_the_machine() -> None:
    """The loop's clock stands still while the machine sleeps: a timer is set for seconds at most."""
    timed = Timed()
    timed.breaker.until = timed.now + 30
    timed.submit("a")
    assert 4 < timed.wakes_in() <= 5
    timed.dispatcher.close()


async def test_a_queue_wakes_for_the_earliest_reason() -> None:
    """A first attempt leaves the probe to others for a while; the rate has its time before that."""
    timed = Timed(rate=10.0)
    timed.breaker.until = timed.now
    timed.submit("new")
    assert 0.4 < timed.wakes_in() <= 0.5
    timed.submit("again", tried=1)
    await settle()
    assert timed.calls == ["again"]
    assert 0.4 < timed.wakes_in() <= 0.5
    timed.submit("once more", tried=1)
    assert 0.05 < timed.wakes_in() <= 0.1
    timed.dispatcher.close()


async def test_a_receiver_may_be_called_at_the_end_of_its_interval() -> None:
    """Not a moment later."""
    timed = Timed(rate=8.0)
    timed.submit("a")
    await settle()
    timed.now += 0.125
    timed.submit("b")
    await settle()
    assert timed.calls == ["a", "b"]


def too_many(seconds: float) -> Outcome:
    """Return what a call comes to that the receiver refuses as one too many."""
    return Outcome.transient("slow down", code=429, retry_after=seconds)


async def test_a_receiver_that_refuses_calls_as_too_many_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """For everybody, and as long as it asks; the queue's timer goes on. Its wish outlives the queue."""
    timed = Timed()
    timed.outcomes = [too_many(3.0)]
    timed.submit("a")
    await settle()
    assert timed.dispatcher._queues == {}
    timed.submit("b")
    timed.submit("c")
    await settle()
    assert timed.calls == ["a"]
    assert 2.9 < timed.wakes_in() <= 3.0
    timed.now += 3.0
    timed.dispatcher.refill()
    await settle()
    assert timed.calls == ["a", "b"]
    timed.now += 0.1
    timed.dispatcher.refill()
    await settle()
    assert timed.calls == ["a", "b", "c"]
    (line,) = [r for r in caplog.records if "limits the rate" in r.getMessage()]
    assert (line.levelname, line.__dict__["channel"]) == ("WARNING", SLACK)
    timed.dispatcher.close()


async def test_a_denied_attempt_ends_no_wait(caplog: pytest.LogCaptureFixture) -> None:
    """An author who may not use a receiver neither delays the others nor has it called too soon."""
    timed = Timed(rate=0.5)
    timed.outcomes = [Outcome.denied("not for this namespace")]
    timed.submit("stranger")
    await settle()
    timed.outcomes = [too_many(5.0)]
    timed.submit("a")
    await settle()
    assert timed.calls == ["stranger", "a"]
    timed.now += 4.0
    timed.submit("b")
    await settle()
    assert timed.calls == ["stranger", "a"]
    assert "a receiver limits the rate" in caplog.text
    timed.dispatcher.close()


async def test_it_is_called_at_once_again_when_it_takes_what_it_gets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The end of the slow pace is said, too."""
    timed = Timed()
    timed.outcomes = [too_many(0.0)]
    timed.submit("a")
    await settle()
    for n in range(100):
        timed.now += 1.0
        timed.submit(f"later-{n}")
        await settle()
    assert len(timed.calls) == 101
    assert [r.getMessage().partition(";")[0] for r in caplog.records] == [
        "a receiver limits the rate", "a receiver no longer limits the rate",
    ]  # fmt: skip
    for n in range(8):
        timed.submit(f"at-once-{n}")
    await settle()
    assert len(timed.calls) == 109


async def test_the_last_place_is_for_who_has_none(sends: Sends) -> None:
    """Where more namespaces are known than there are places, one attempt is more than a share."""
    dispatcher = Dispatcher(sends, per_channel=8, total=64)

    def submit(uid: str, namespace: str) -> None:
        dispatcher.submit(uid, "a", due=0, priority="Medium", namespace=namespace)

    for namespace in "abcdefghi":
        submit(f"{namespace}1", namespace)
    await settle()
    assert dispatcher.running == 8
    for uid in ("g1", "h1"):
        await sends.end(uid)
    assert sends.running == {"a1", "b1", "c1", "d1", "e1", "f1", "i1"}
    submit("a2", "a")
    await settle()
    assert "a2" not in sends.running
    submit("g2", "g")
    await settle()
    assert "g2" in sends.running
    await sends.end_all()


async def test_but_for_the_last_places_nobody_keeps_to_a_share(sends: Sends) -> None:
    """As long as more than an eighth of the places is free, whoever comes takes one."""
    dispatcher = Dispatcher(sends, per_channel=16, total=64)
    for namespace, count in (("b", 1), ("a", 20)):
        for n in range(count):
            dispatcher.submit(f"{namespace}{n}", "a", due=0, priority="Medium", namespace=namespace)
    await settle()
    assert sends.running == {"b0", *(f"a{n}" for n in range(13))}
    await sends.end_all()


async def test_whose_turn_it_is_costs_the_same_for_any_number_of_namespaces(sends: Sends) -> None:
    """Looking at each of them for each attempt took 2 ms where ten thousand wait."""

    class Counted(dict[str, int]):
        looks = 0

        def __getitem__(self, key: str) -> int:
            Counted.looks += 1
            return super().__getitem__(key)

    dispatcher = Dispatcher(sends, per_channel=4, total=64)
    dispatcher.submit("first", "a", due=0, priority="Medium", namespace="first")
    queue = dispatcher._queues["a"]
    queue.busy = Counted(queue.busy)
    for n in range(1000):
        dispatcher.submit(f"{n}", "a", due=0, priority="Medium", namespace=f"ns-{n}")
    await settle()
    Counted.looks = 0
    await sends.end_all()
    assert len(sends.started) == 1001
    assert Counted.looks < 1001 * 12


async def test_nothing_waits_after_closing(sends: Sends) -> None:
    """What is due is on record, and nobody has to ask for it here; no timer is left."""
    dispatcher = Dispatcher(sends, per_channel=1, total=4)
    for uid in ("1", "2"):
        dispatcher.submit(uid, "a", due=0, priority="Medium")
    await settle()
    assert dispatcher.waits("2", "a")
    dispatcher.close()
    assert not dispatcher.waits("2", "a")
    await sends.end_all()
    assert dispatcher.running == 0
    timed = Timed()
    timed.breaker.until = timed.now + 30
    timed.submit("a")
    timer = timed.dispatcher._queues[SLACK].alarm.timer
    assert timer is not None
    timed.dispatcher.close()
    assert timer.cancelled()
