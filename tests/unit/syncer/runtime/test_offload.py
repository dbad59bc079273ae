"""Work beside the loop, and the rests in it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from syncer.runtime.offload import SMALL, SWITCH_INTERVAL, Breath, end, offload


@pytest.mark.parametrize(("size", "rests"), [(16_384, 0), (16_385, 1)])
async def test_work_rests_beside_the_loop_and_never_on_it(
    monkeypatch: pytest.MonkeyPatch, size: int, rests: int
) -> None:
    """Small work that takes its time, on a busy machine, stops the loop for no longer than that."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)

    def work() -> str:
        breath = Breath()
        began = time.monotonic()
        while time.monotonic() - began < 0.005:
            pass
        breath()
        return "done"

    assert await offload(work, size=size, seconds=30.0) == "done"
    assert len(slept) == rests


class Clock:
    """Seconds that a test sets, and how long was slept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_work_rests_for_as_long_as_it_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two milliseconds, for ten at most; a rest begins the next stint."""
    clock = Clock(monkeypatch)
    breath = Breath()
    for worked in (0.0019, 0.002, 0.0015, 0.5, 0.0):
        clock.now += worked
        breath()
    first, second = clock.slept
    assert first == pytest.approx(0.0039)
    assert second == 0.01


async def test_what_work_raises_and_how_long_it_is_waited_for() -> None:
    """An error passes, small work or not; who is tired of waiting leaves."""

    def fail() -> None:
        raise LookupError("no")

    for size in (0, SMALL + 1):
        with pytest.raises(LookupError):
            await offload(fail, size=size, seconds=30.0)
    end = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            await offload(lambda: end.wait(30), size=SMALL + 1, seconds=0.01)
    finally:
        end.set()


async def test_authors_take_turns() -> None:
    """Whoever has much done delays another by what the thread has begun, and each has its own order."""
    begun, go, done = threading.Event(), threading.Event(), list[str]()

    async def ask(author: str, n: int, wait: threading.Event) -> None:
        def work() -> None:
            begun.set()
            wait.wait(30)
            done.append(f"{author}{n}")

        await offload(work, size=SMALL + 1, seconds=30.0, author=author)

    async with asyncio.TaskGroup() as tasks:
        for n in range(4):
            tasks.create_task(ask("a", n, go))
        assert await asyncio.to_thread(begun.wait, 30)
        for n in range(2):
            tasks.create_task(ask("b", n, go))
        await asyncio.sleep(0)
        go.set()
    assert done == ["a0", "b0", "a1", "b1", "a2", "a3"]


async def test_who_leaves_while_others_have_their_turn_leaves_nothing() -> None:
    """Neither its work is done, nor does its author lose a turn."""
    hold, done = threading.Event(), list[int]()
    first = asyncio.create_task(
        offload(lambda: hold.wait(30), size=SMALL + 1, seconds=30.0, author="a")
    )
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await offload(lambda: done.append(1), size=SMALL + 1, seconds=0.01, author="a")
    hold.set()
    assert await first
    await offload(lambda: done.append(2), size=SMALL + 1, seconds=30.0, author="a")
    assert done == [2]


def test_the_thread_gives_the_interpreter_back_sooner_than_by_default() -> None:
    """A fifth of Python's own interval."""
    assert pytest.approx(0.005) == SWITCH_INTERVAL * 5


async def test_a_thread_without_work_ends() -> None:
    """At the end of a process it is none that hangs; whoever has work afterwards has another one."""
    for _ in range(2):
        thread = await offload(threading.current_thread, size=SMALL + 1, seconds=30.0)
        end()
        thread.join(30.0)
        assert not thread.is_alive()
