"""The dispatcher: bounds per receiver and in all, in which order places are given, breakers and rates."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from unittest.mock import AsyncMock, call

import pytest

from notifier.contract import Outcome
from notifier.dispatch.breaker import OPEN_MOST, Breaker, Breakers, State
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.receiver_queue import Job, ReceiverQueue

SLACK = "slack:ops"
UP = Outcome.success(200)
DOWN = Outcome.transient("slack webhook returned 503 (retryable): ", code=503)


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
    for _ in range(60):
        await asyncio.sleep(0)


async def submit(
    dispatcher: Dispatcher, channel: str, *uids: str, due: float = 0, priority: str = "Medium",
    namespace: str = "",
) -> None:  # fmt: skip
    """Submit attempts on a channel, and let start what may."""
    for uid in uids:
        dispatcher.submit(uid, channel, due=due, priority=priority, namespace=namespace)
    await settle()


@pytest.fixture
def sends() -> Sends:
    """What the dispatcher runs."""
    return Sends()


async def test_places_per_channel(sends: Sends) -> None:
    """A channel runs as many attempts as it has places; the rest waits its turn."""
    dispatcher = Dispatcher(sends, per_channel=2, total=10)
    await submit(dispatcher, "a", "1", "2", "3", "4")
    assert sends.running == {"1", "2"}
    await sends.end("1")
    assert sends.running == {"2", "3"}
    await sends.end_all()
    assert [uid for uid, _ in sends.started] == ["1", "2", "3", "4"]
    assert (sends.most, dispatcher.running) == (2, 0)


async def test_total(sends: Sends) -> None:
    """All receivers together never have more than the total under way."""
    dispatcher = Dispatcher(sends, per_channel=2, total=3)
    for channel in ("a", "b", "c"):
        await submit(dispatcher, channel, f"{channel}0", f"{channel}1")
    assert dispatcher.running == 3
    await sends.end_all()
    assert (sends.most, len(sends.started)) == (3, 6)


async def test_a_freed_place_goes_to_who_waits_longest(sends: Sends) -> None:
    """Where the total is the limit, a busy receiver does not starve the others."""
    dispatcher = Dispatcher(sends, per_channel=2, total=1)
    for n in range(9):
        await submit(dispatcher, "a", f"busy-{n}", due=float(n))
    await submit(dispatcher, "b", "patient", due=2.5)
    for n in range(3):
        await sends.end(f"busy-{n}")
    assert sends.running == {"patient"}
    await sends.end_all()


async def test_order(sends: Sends) -> None:
    """Who waits is taken by due time, then by priority, then by arrival."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    for uid, due, priority in (
        ("first", 0, "Low"),
        ("late-critical", 20.0, "Critical"),
        ("medium", 10.0, "Medium"),
        ("odd", 10.0, "Sometimes"),
        ("low", 10.0, "Low"),
        ("high", 10.0, "High"),
        ("critical", 10.0, "Critical"),
    ):
        await submit(dispatcher, "a", uid, due=due, priority=priority)
    await sends.end_all()
    assert [uid for uid, _ in sends.started] == [
        "first", "critical", "high", "medium", "odd", "low", "late-critical",
    ]  # fmt: skip


async def test_a_pair_waits_once(sends: Sends) -> None:
    """A notification waits at most once for a channel, but may wait for several channels."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    await submit(dispatcher, "a", "x")
    await submit(dispatcher, "b", "x")
    await submit(dispatcher, "a", "y", "z", "z", "z")
    await sends.end_all()
    assert sorted(sends.started) == [("x", "a"), ("x", "b"), ("y", "a"), ("z", "a")]


async def test_a_running_pair_may_be_submitted_again(sends: Sends) -> None:
    """Once it runs, the same pair may wait again: whether it is needed is decided elsewhere."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    await submit(dispatcher, "a", "x")
    await submit(dispatcher, "a", "x")
    await sends.end("x")
    assert sends.started == [("x", "a"), ("x", "a")]
    await sends.end_all()


async def test_drain_waits_no_longer_than_needed(sends: Sends) -> None:
    """Not where nothing runs; the end of the last attempt ends the wait, and its result is asked then."""
    dispatcher = Dispatcher(sends, per_channel=2, total=10)
    async with asyncio.timeout(5):
        await dispatcher.drain(60)
        await submit(dispatcher, "a", "1", "2")
        dispatcher.close()
        waiting = asyncio.create_task(dispatcher.drain(60))
        await sends.end("1")
        assert not waiting.done()
        await sends.end("2")
        await waiting


async def test_what_does_not_end_in_time_is_cancelled(sends: Sends) -> None:
    """And its end is waited for."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    await submit(dispatcher, "a", "1")
    dispatcher.close()
    await dispatcher.drain(0.01)
    assert (dispatcher.running, sends.running) == (0, set())


async def test_an_error_takes_no_place_away(caplog: pytest.LogCaptureFixture) -> None:
    """An attempt that raises is logged, and its place is free again."""
    done: list[str] = []

    async def run(uid: str, channel: str) -> None:
        await asyncio.sleep(0)
        if uid == "bad":
            raise RuntimeError("unforeseen")
        done.append(uid)

    dispatcher = Dispatcher(run, per_channel=1, total=1)
    await submit(dispatcher, "a", "bad", "good")
    assert done == ["good"]
    assert [r.message for r in caplog.records] == ["an attempt ended unexpectedly"]
    assert dispatcher.running == 0


@pytest.mark.parametrize("channel", ["console", "file", "log"])
async def test_failures_of_a_local_channel_hold_nothing_back(channel: str) -> None:
    """They are this process's own: no circuit breaker opens, and a rate is for receivers."""
    run = AsyncMock(return_value=Outcome.transient("the disk is full"))
    dispatcher = Dispatcher(run, per_channel=1, total=4, rate=0.01)
    rejections = [dispatcher.submit(f"n{n}", channel, due=0, priority="Medium") for n in range(8)]
    await settle()
    assert rejections == [None] * 8
    assert run.await_args_list == [call(f"n{n}", channel) for n in range(8)]


async def test_idle_queues_are_forgotten(sends: Sends) -> None:
    """A channel that has nothing to do costs nothing, and starts afresh."""
    dispatcher = Dispatcher(sends, per_channel=1, total=10)
    for round_ in range(3):
        await submit(dispatcher, f"channel-{round_}", f"{round_}")
        await sends.end_all()
    assert dispatcher._queues == {}


# -- timers and bounds ------------------------------------------------------------------------------


class Timed:
    """A dispatcher on a clock that a test turns, over a receiver that answers as it says."""

    def __init__(
        self, answer: Callable[[str, int], Outcome] = lambda _uid, _n: UP, *, per_channel: int = 8,
        rate: float = 0.0,
    ) -> None:  # fmt: skip
        self.now = 1000.0
        #: What the n-th call for a notification comes to; other outcomes come first.
        self.answer = answer
        self.outcomes: list[Outcome] = []
        self.calls: list[str] = []
        self.rejected: list[str] = []
        self.openings: list[str] = []
        self.breakers = Breakers()
        self.dispatcher = Dispatcher(
            self._run, per_channel=per_channel, total=64, rate=rate, breakers=self.breakers,
            on_rejected=self.rejected.append, on_opened=self.openings.append,
            monotonic=lambda: self.now,
        )  # fmt: skip

    async def _run(self, uid: str, _channel: str) -> Outcome:
        self.calls.append(uid)
        await asyncio.sleep(0)
        return self.outcomes.pop(0) if self.outcomes else self.answer(uid, self.calls.count(uid))

    async def submit(
        self, *uids: str, channel: str = SLACK, tried: int = 0, namespace: str = ""
    ) -> None:
        """Submit attempts, and let start what may."""
        for uid in uids:
            self.dispatcher.submit(
                uid, channel, due=0, priority="Medium", tried=tried, namespace=namespace
            )
        await settle()

    @property
    def breaker(self) -> Breaker:
        return self.breakers.of(SLACK)

    @property
    def opened(self) -> bool:
        return self.breaker.state(self.now) is State.OPEN

    def wakes_in(self) -> float:
        """Seconds until its queue wakes by itself."""
        timer = self.dispatcher._queues[SLACK].alarm.timer
        assert timer is not None
        return timer.when() - asyncio.get_running_loop().time()


async def test_no_sleep_outlasts_a_pause_of_the_machine() -> None:
    """The loop's clock stands still while the machine sleeps: a timer is set for seconds at most."""
    timed = Timed()
    timed.breaker.until = timed.now + 30
    await timed.submit("a")
    assert 4 < timed.wakes_in() <= 5


async def test_a_queue_wakes_for_the_earliest_reason() -> None:
    """A first attempt leaves the probe to others for a while; the rate has its time before that."""
    timed = Timed(rate=10.0)
    timed.breaker.until = timed.now
    await timed.submit("new")
    assert 0.4 < timed.wakes_in() <= 0.5
    await timed.submit("again", tried=1)
    assert timed.calls == ["again"]
    assert 0.4 < timed.wakes_in() <= 0.5
    await timed.submit("once more", tried=1)
    assert 0.05 < timed.wakes_in() <= 0.1


async def test_a_receiver_may_be_called_at_the_end_of_its_interval() -> None:
    """Not a moment later."""
    timed = Timed(rate=8.0)
    await timed.submit("a")
    timed.now += 0.125
    await timed.submit("b")
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
    await timed.submit("a")
    assert timed.dispatcher._queues == {}
    await timed.submit("b", "c")
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


async def test_a_denied_attempt_ends_no_wait(caplog: pytest.LogCaptureFixture) -> None:
    """An author who may not use a receiver neither delays the others nor has it called too soon."""
    timed = Timed(rate=0.5)
    timed.outcomes = [Outcome.denied("not for this namespace"), too_many(5.0)]
    await timed.submit("stranger")
    await timed.submit("a")
    assert timed.calls == ["stranger", "a"]
    timed.now += 4.0
    await timed.submit("b")
    assert timed.calls == ["stranger", "a"]
    assert "a receiver limits the rate" in caplog.text


async def test_it_is_called_at_once_again_when_it_takes_what_it_gets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The end of the slow pace is said, too."""
    timed = Timed()
    timed.outcomes = [too_many(0.0)]
    await timed.submit("a")
    for n in range(100):
        timed.now += 1.0
        await timed.submit(f"later-{n}")
    assert len(timed.calls) == 101
    assert [r.getMessage().partition(";")[0] for r in caplog.records] == [
        "a receiver limits the rate", "a receiver no longer limits the rate",
    ]  # fmt: skip
    await timed.submit(*(f"at-once-{n}" for n in range(8)))
    assert len(timed.calls) == 109


async def test_the_last_place_is_for_who_has_none(sends: Sends) -> None:
    """Where more namespaces are known than there are places, one attempt is more than a share."""
    dispatcher = Dispatcher(sends, per_channel=8, total=64)
    for namespace in "abcdefghi":
        await submit(dispatcher, "a", f"{namespace}1", namespace=namespace)
    assert dispatcher.running == 8
    for uid in ("g1", "h1"):
        await sends.end(uid)
    assert sends.running == {"a1", "b1", "c1", "d1", "e1", "f1", "i1"}
    await submit(dispatcher, "a", "a2", namespace="a")
    assert "a2" not in sends.running
    await submit(dispatcher, "a", "g2", namespace="g")
    assert "g2" in sends.running
    await sends.end_all()


async def test_but_for_the_last_places_nobody_keeps_to_a_share(sends: Sends) -> None:
    """As long as more than an eighth of the places is free, whoever comes takes one."""
    dispatcher = Dispatcher(sends, per_channel=16, total=64)
    await submit(dispatcher, "a", "b0", namespace="b")
    await submit(dispatcher, "a", *(f"a{n}" for n in range(20)), namespace="a")
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


async def test_nothing_starts_or_waits_after_closing(sends: Sends) -> None:
    """What runs may end. What is due is on record, and nobody has to ask for it here; no timer is left."""
    dispatcher = Dispatcher(sends, per_channel=1, total=4)
    await submit(dispatcher, "a", "1", "2")
    assert dispatcher.waits("2", "a")
    dispatcher.close()
    assert not dispatcher.waits("2", "a")
    await submit(dispatcher, "b", "3", priority="Critical")
    await sends.end_all()
    assert (sends.started, dispatcher.running) == ([("1", "a")], 0)
    timed = Timed()
    timed.breaker.until = timed.now + 30
    await timed.submit("a")
    timer = timed.dispatcher._queues[SLACK].alarm.timer
    assert timer is not None
    timed.dispatcher.close()
    assert timer.cancelled()


# -- breakers and many receivers --------------------------------------------------------------------


async def test_those_in_the_queue_are_notified_once() -> None:
    """Notifications that wait when it opens are reconciled once; no turn is taken for it."""
    timed = Timed(lambda _uid, _n: DOWN, per_channel=4)
    for n in range(20):
        assert timed.dispatcher.submit(f"n{n}", SLACK, due=0, priority="Medium") is None
    await settle()
    # Two had taken the places of the first two failures when the third one opened it.
    assert timed.calls == [f"n{n}" for n in range(6)]
    assert sorted(timed.rejected) == sorted(f"n{n}" for n in range(6, 20))
    timed.now += OPEN_MOST
    await timed.submit("poke")
    assert len(timed.calls) == 7, "one probe"
    assert sorted(timed.rejected) == sorted(f"n{n}" for n in range(6, 20)), "notified once"
    assert timed.openings == [SLACK, SLACK]


async def test_what_waited_when_it_opened_may_probe_as_well() -> None:
    """The first probe is of those with most attempts, also among what came before the outage."""
    timed = Timed(lambda _uid, _n: DOWN, per_channel=3)
    made = {"x": 0, "y": 0, "z": 0, "f": 0, "g": 0, "new": 0, "twice": 2, "once": 1}
    for uid, tried in made.items():
        timed.dispatcher.submit(uid, SLACK, due=0, priority="Medium", tried=tried)
    await settle()
    assert timed.opened
    timed.calls.clear()
    timed.now += OPEN_MOST
    timed.dispatcher.refill()
    await settle()
    assert timed.calls == ["twice"]


@pytest.mark.parametrize(("refused", "most"), [(1, 2), (2, 8), (3, 40)])
async def test_a_receiver_that_refuses_each_message_several_times(refused: int, most: int) -> None:
    """It is found to be well as soon as one message has had its refusals."""
    timed = Timed(lambda _uid, n: DOWN if n <= refused else UP, per_channel=32)
    names = [f"n{n}" for n in range(30)]
    await timed.submit(*names)
    while timed.breaker.until is not None:
        timed.now = max(timed.now, timed.breaker.until) + 0.001
        for uid in names:
            await timed.submit(uid, tried=timed.calls.count(uid))
    assert timed.now - 1000.0 < most


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
    assert free >= max(2, 256 // (hanging + 1) - 32)
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
    timed = Timed(lambda uid, _n: UP if rate or uid == "other" else DOWN, per_channel=4, rate=rate)
    await timed.submit("x", "y", "z")
    assert rate or timed.opened
    looks = 0
    head = ReceiverQueue.head

    def counted(queue: ReceiverQueue, below: float = math.inf) -> Job | None:
        nonlocal looks
        looks += 1
        return head(queue, below)

    monkeypatch.setattr(ReceiverQueue, "head", counted)
    for n in range(200):
        await timed.submit(f"n{n}", namespace=f"namespace-{n}")
    await timed.submit("other", channel="slack:other")
    assert "other" in timed.calls
    assert looks < 100, "each that waits was looked at for one that does not"


async def test_a_queue_that_is_never_idle_forgets_namespaces() -> None:
    """One attempt hangs all the time; thousands of namespaces come and go beside it."""
    timed, hanging = Timed(per_channel=4), asyncio.Event()
    run = timed.dispatcher._run

    async def hangs(uid: str, channel: str) -> Outcome | None:
        if uid == "hangs":
            await hanging.wait()
        return await run(uid, channel)

    timed.dispatcher._run = hangs
    await timed.submit("hangs", namespace="slow")
    for n in range(1_000):
        for uid in (f"n{n}", f"m{n}"):
            timed.dispatcher.submit(
                uid, SLACK, due=0, priority="Medium", namespace=f"namespace-{n}"
            )
        if not n % 10:
            await settle()
    await settle()
    assert len(timed.calls) == 2_000
    (receiver_queue,) = timed.dispatcher._queues.values()
    assert len(receiver_queue.busy) < 300
    assert receiver_queue.busy["slow"] == 1
    hanging.set()
    await settle()
