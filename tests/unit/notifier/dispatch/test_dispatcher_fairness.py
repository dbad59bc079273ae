"""The dispatcher with breakers, a rate, and many receivers that hang."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable

import pytest

from notifier.contract import Outcome
from notifier.dispatch.breaker import OPEN_FIRST, OPEN_MOST, Breakers, State
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.receiver_queue import Job, _NamespaceQueue
from notifier.settings import Settings
from syncer.configfile import build
from syncer.model.errors import ConfigError
from syncer.yamlfile import read_document

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


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that real time brings, five seconds at most."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come in five seconds")


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


async def test_an_open_breaker_holds_the_queue() -> None:
    """Nothing is called while it is open; what is submitted then is rejected with the reason."""
    bench = Bench(lambda _uid, _n: DOWN)
    await opened(bench)
    assert bench.openings == [SLACK]
    assert [bench.submit(f"n{n}") for n in range(5)] == ["open"] * 5
    assert bench.submit("n0") == "open", "submitting again changes nothing"
    bench.clock.skip(OPEN_FIRST / 2)
    assert bench.submit("n5") == "open"
    await settle()
    assert bench.receiver.calls == []
    bench.dispatcher.close()


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


async def test_after_two_successes_everything_goes() -> None:
    """Half-open lets one through, then another; their successes free the queue for all at once."""
    down = True
    bench = Bench(lambda _uid, _n: DOWN if down else UP)
    await opened(bench)
    for n in range(30):
        bench.submit(f"n{n}")
    down = False
    bench.receiver.most = 0
    bench.clock.skip(OPEN_MOST)
    bench.submit("poke")
    await asyncio.sleep(0)
    assert bench.dispatcher.running == 1
    await settle()
    assert len(bench.receiver.calls) == 31
    assert bench.receiver.most == 4
    assert bench.state() is State.CLOSED


async def test_a_timer_starts_the_probes() -> None:
    """No submission is needed: the queue wakes by itself when the breaker may half-open."""
    bench = Bench(lambda _uid, _n: UP)
    breaker = bench.breakers.of(SLACK)
    assert breaker is not None
    breaker.until = bench.clock() + 0.05
    assert bench.submit("waiting") == "open"
    await asyncio.sleep(0.02)
    assert bench.receiver.calls == []
    await until(lambda: bench.receiver.calls == ["waiting"])


async def test_who_was_refused_probes_first() -> None:
    """The first probe is one of those with most attempts, whatever waits longer."""
    bench = Bench(lambda _uid, _n: DOWN)
    await opened(bench)
    for uid, tried in (("new", 0), ("once", 1), ("twice", 2), ("thrice", 3)):
        bench.submit(uid, tried=tried)
    bench.clock.skip(OPEN_MOST)
    bench.submit("poke")
    await settle()
    assert bench.receiver.calls == ["thrice"]
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


async def test_a_first_attempt_waits_a_moment_for_a_refused_one() -> None:
    """Whose back-off ends just after the breaker's time probes before a message never tried."""
    bench = Bench(lambda _uid, _n: DOWN)
    await opened(bench)
    bench.submit("new")
    bench.clock.skip(OPEN_FIRST + 0.1)
    bench.submit("poke")
    await settle()
    assert bench.receiver.calls == []
    bench.submit("refused", tried=1)
    await settle()
    assert bench.receiver.calls == ["refused"]
    bench.dispatcher.close()


async def test_a_first_attempt_probes_where_nobody_was_refused() -> None:
    """No submission is needed: the queue wakes by itself once the time is over."""
    bench = Bench(lambda _uid, _n: DOWN)
    await opened(bench)
    bench.submit("new")
    await until(lambda: bench.receiver.calls == ["new"])
    bench.dispatcher.close()


#: Messages that always fail, by namespace; how often the others were tried.
POISON: dict[str, tuple[list[str], int]] = {
    "one message": (["a"], 0),
    "a crowd of one author": (["a"] * 40, 0),
    "many authors": ([f"author-{n}" for n in range(12)], 0),
    "one message, and all were refused before": (["a"], 1),
    "a crowd, and all were refused before": (["a"] * 40, 1),
}


@pytest.mark.parametrize("case", POISON)
async def test_messages_that_always_fail_do_not_hold_the_others(case: str) -> None:
    """Whoever probes in vain leaves the next probe to others: the receiver is found to be well."""
    down = True
    bench = Bench(lambda uid, _n: DOWN if down or uid.startswith("poison") else UP)
    await opened(bench)
    down = False
    namespaces, tried = POISON[case]
    good = {f"n{n}" for n in range(5)}
    waited = 0.0

    def come_again() -> None:
        for n, namespace in enumerate(namespaces):
            bench.submit(f"poison-{n}", namespace=namespace, tried=4)

    come_again()
    for uid in sorted(good):
        bench.submit(uid, namespace="good", tried=tried)
    while not good <= set(bench.receiver.calls):
        breaker = bench.breakers.of(SLACK)
        assert breaker is not None
        assert breaker.until is not None
        waited = bench.clock.skip_to(breaker.until)
        come_again()
        bench.submit(f"n-{waited}", namespace="good", tried=tried)
        await settle()
    assert waited < 4, "the second probe has found out"
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


async def test_a_receiver_that_is_down_gets_one_call_per_probe() -> None:
    """However much waits; over ten minutes one a half minute, and five before."""
    bench = Bench(lambda _uid, _n: DOWN, per_channel=32)
    await opened(bench)
    for n in range(300):
        bench.submit(f"n{n}", tried=n % 3)
    breaker = bench.breakers.of(SLACK)
    assert breaker is not None
    began, times = bench.clock(), []
    while bench.clock() < began + 600:
        assert breaker.until is not None
        bench.clock.skip_to(breaker.until)
        times.append(bench.clock() - began)
        bench.submit(f"poke-{len(times)}", tried=1)
        await settle()
        assert len(bench.receiver.calls) == len(times)
    assert [round(t) for t in times[:7]] == [1, 3, 7, 15, 31, 61, 91]
    assert len(times) <= 25
    bench.dispatcher.close()


async def test_namespaces_take_turns_at_a_receiver() -> None:
    """A crowd that came first, and calls everything critical, leaves each other one its turn."""
    bench = Bench(lambda _uid, _n: UP, per_channel=1)
    for n in range(50):
        bench.submit(f"crowd-{n}", namespace="crowd", priority="Critical")
    for namespace in ("b", "c"):
        for n in range(3):
            bench.submit(f"{namespace}-{n}", namespace=namespace, priority="Low", due=5)
    await until(lambda: len(bench.receiver.calls) == 56)
    assert [uid.partition("-")[0] for uid in bench.receiver.calls[1:10]] == ["crowd", "b", "c"] * 3


async def test_slow_calls_of_one_namespace_leave_places_to_the_others() -> None:
    """Once a second namespace is known, an eighth is for those with less than their share."""
    never = asyncio.Event()
    started: list[str] = []

    async def run(uid: str, _channel: str) -> None:
        started.append(uid)
        await never.wait()

    dispatcher = Dispatcher(run, per_channel=16, total=256, breakers=Breakers())

    numbers = itertools.count()

    def submit(namespace: str, number: int) -> None:
        for n in itertools.islice(numbers, number):
            uid = f"{namespace}-{n}"
            dispatcher.submit(uid, SLACK, due=0, priority="Critical", namespace=namespace)

    def running() -> Counter[str]:
        return Counter(uid.partition("-")[0] for uid in started)

    submit("crowd", 13)
    submit("b", 1)
    submit("crowd", 50)
    await settle()
    assert running() == {"crowd": 13, "b": 1}, "two of sixteen are not the crowd's"
    submit("c", 3)
    await settle()
    assert running() == {"crowd": 13, "b": 1, "c": 2}
    never.set()
    await until(lambda: dispatcher.running == 0)
    assert running() == {"crowd": 63, "b": 1, "c": 3}


async def test_who_has_fewest_under_way_goes_first() -> None:
    """Places that end are not shared by turns alone: slow calls of a crowd count as what it has."""
    ends: dict[str, asyncio.Event] = {}
    started: list[str] = []

    async def run(uid: str, _channel: str) -> None:
        started.append(uid)
        ends[uid] = asyncio.Event()
        await ends[uid].wait()

    dispatcher = Dispatcher(run, per_channel=4, total=256, breakers=Breakers())
    for n in range(20):
        dispatcher.submit(f"crowd-{n}", SLACK, due=0, priority="Critical", namespace="crowd")
    for n in range(3):
        dispatcher.submit(f"b-{n}", SLACK, due=9, priority="Low", namespace="b")
    await settle()
    for n in range(3):
        ends[f"crowd-{n}"].set()
        await settle()
    assert started[4:] == ["b-0", "b-1", "crowd-4"], "b has as many by then"
    for _ in range(40):
        for event in list(ends.values()):
            event.set()
        await settle()
    assert len(started) == 23


async def test_one_namespace_alone_has_all_places() -> None:
    """Nothing is kept for others where there are none."""
    never = asyncio.Event()

    async def run(_uid: str, _channel: str) -> None:
        await never.wait()

    dispatcher = Dispatcher(run, per_channel=16, total=256, breakers=Breakers())
    for n in range(40):
        dispatcher.submit(f"{n}", SLACK, due=0, priority="Medium", namespace="a")
    await settle()
    assert dispatcher.running == 16
    never.set()
    await until(lambda: dispatcher.running == 0)


async def test_priority_orders_what_one_namespace_waits_for() -> None:
    """Within a namespace the priority decides, from turn to turn."""
    bench = Bench(lambda _uid, _n: UP, per_channel=1)
    bench.submit("first", namespace="a")
    for namespace in ("a", "b"):
        for priority in ("Low", "Medium", "Critical"):
            bench.submit(f"{namespace}-{priority}", namespace=namespace, priority=priority)
    await settle()
    assert [c for c in bench.receiver.calls if c.startswith("a-")] == [
        "a-Critical", "a-Medium", "a-Low",
    ]  # fmt: skip
    assert [c for c in bench.receiver.calls if c.startswith("b-")] == [
        "b-Critical", "b-Medium", "b-Low",
    ]  # fmt: skip


async def test_probes_that_were_not_made_are_replaced() -> None:
    """A probe whose notification is gone frees its place at once."""
    gone = False
    bench = Bench(lambda uid, _n: (None if uid.startswith("gone") else UP) if gone else DOWN)
    await opened(bench)
    gone = True
    for n in range(6):
        bench.submit(f"gone-{n}", tried=5)
    bench.submit("a")
    bench.submit("b")
    bench.clock.skip(OPEN_MOST)
    bench.submit("c")
    await settle()
    assert {"a", "b", "c"} <= set(bench.receiver.calls)
    assert bench.state() is State.CLOSED


async def test_five_hundred_that_fail_once() -> None:
    """
    A receiver that refuses the first call of each message is cut off once and then served.

    The probes are second calls, which succeed; after that no burst of first calls opens it again.
    """
    bench = Bench(lambda _uid, n: DOWN if n == 1 else UP, per_channel=32, total=256)
    waiting = {f"n{n}" for n in range(500)}
    for uid in waiting:
        bench.submit(uid)
    rounds = 0
    while waiting and rounds < 200:
        rounds += 1
        await settle()
        bench.clock.skip(1.0)
        for uid in sorted(waiting):
            if bench.receiver.made[uid] >= 2:
                waiting.discard(uid)
            elif bench.receiver.made[uid] == 1:
                bench.submit(uid, tried=1)
        bench.submit(f"poke-{rounds}")
        waiting.add(f"poke-{rounds}") if rounds < 30 else None
    assert not waiting
    assert set(bench.receiver.made.values()) <= {1, 2}
    assert bench.openings == [SLACK]


async def test_a_dead_receiver_leaves_the_others_alone() -> None:
    """One breaker is open; another receiver of the same kind, and local channels, go on."""
    bench = Bench(lambda uid, _n: UP if uid.startswith("other") else DOWN)
    await opened(bench)
    assert bench.submit("other-1", "slack:dev") is None
    assert bench.submit("other-2", "console") is None
    await settle()
    assert bench.receiver.calls == ["other-1", "other-2"]


async def test_local_channels_never_open() -> None:
    """Console, file and log fail as often as they like."""
    bench = Bench(lambda _uid, _n: DOWN)
    for n in range(10):
        assert bench.submit(f"n{n}", "file") is None
    await settle()
    assert len(bench.receiver.calls) == 10
    assert bench.openings == []


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


async def test_rate() -> None:
    """A receiver is called no faster than its rate; others and local channels are not slowed."""
    now = 1000.0
    calls: list[str] = []
    quick: list[str] = []

    async def run(uid: str, channel: str) -> None:
        (calls if channel == SLACK else quick).append(uid)

    # The clock stands still but for what the test adds, so nothing depends on the machine's speed.
    dispatcher = Dispatcher(
        run, per_channel=32, total=64, rate=50.0, breakers=Breakers(), monotonic=lambda: now
    )
    for n in range(11):
        dispatcher.submit(f"{n}", SLACK, due=0, priority="Medium")
        dispatcher.submit(f"{n}", "console", due=0, priority="Medium")
    await settle()
    assert len(quick) == 11
    for made in range(1, 11):
        now += 0.0195
        dispatcher.refill()
        await settle()
        assert len(calls) == made, "not before its time"
        now += 0.001
        await until(lambda made=made: len(calls) > made)  # type: ignore[misc]  # by a timer
    assert calls == [f"{n}" for n in range(11)]


async def test_what_a_rule_denies_uses_up_no_rate() -> None:
    """A crowd that a receiver does not take is denied at once, and slows down nobody whom it takes."""
    done: list[str] = []

    async def run(uid: str, _channel: str) -> Outcome | None:
        done.append(uid)
        return Outcome.success(200) if uid == "ours" else Outcome.denied("not for this namespace")

    dispatcher = Dispatcher(run, per_channel=32, total=64, rate=0.01, breakers=Breakers())
    for n in range(50):
        dispatcher.submit(f"theirs-{n}", "slack:pay", due=0.0, priority="High", namespace="theirs")
    dispatcher.submit("ours", "slack:pay", due=1.0, priority="Low", namespace="ours")
    async with asyncio.timeout(20):
        while "ours" not in done:
            await asyncio.sleep(0.01)
    await dispatcher.abort()
    assert len(done) > 1, "some of the others were first"


async def test_due_to_the_second_then_priority() -> None:
    """Within a second of due time the priority decides; a retry is not behind later arrivals."""
    order: list[str] = []

    async def run(uid: str, _channel: str) -> None:
        order.append(uid)
        await asyncio.sleep(0)

    dispatcher = Dispatcher(run, per_channel=1, total=8, breakers=Breakers())
    dispatcher.submit("first", SLACK, due=0, priority="Low")
    for uid, due, priority in (
        ("new low", 100.1, "Low"),
        ("new critical", 100.8, "Critical"),
        ("later critical", 101.0, "Critical"),
        ("retry low", 99.9, "Low"),
    ):
        dispatcher.submit(uid, SLACK, due=due, priority=priority)
    await settle()
    assert order == ["first", "retry low", "new critical", "new low", "later critical"]


SIZES: dict[str, tuple[str, object]] = {
    "nothing said": ("{}", (32, 256, 0.0)),
    "all said": ("{perReceiver: 4, total: 16, ratePerSecond: 0.5}", (4, 16, 0.5)),
    "no attempt at all": ("{perReceiver: 0}", "delivery.perReceiver"),
    "no place in all": ("{total: 0}", "delivery.total"),
    "a negative rate": ("{ratePerSecond: -1}", "delivery.ratePerSecond"),
    "a rate without end": ("{ratePerSecond: .inf}", "delivery.ratePerSecond"),
}


@pytest.mark.parametrize("case", SIZES)
def test_settings(case: str) -> None:
    """Sizes and rate come from the settings file; an unusable one is named by its path."""
    text, expected = SIZES[case]
    document = read_document(f"redis: {{url: redis://redis/0}}\ndelivery: {text}\n").values
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            build(Settings, document)
        return
    delivery = build(Settings, document).delivery
    assert (delivery.per_receiver, delivery.total, delivery.rate_per_second) == expected


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
    head = _NamespaceQueue.head

    def counted(queue: _NamespaceQueue) -> Job | None:
        nonlocal looks
        looks += 1
        return head(queue)

    monkeypatch.setattr(_NamespaceQueue, "head", counted)
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
