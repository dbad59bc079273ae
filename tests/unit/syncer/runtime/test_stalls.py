"""The watch on the event loop: every stall is seen, the longest is kept for a while, the place is named."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from types import SimpleNamespace

import pytest

from syncer.runtime.stalls import _LONG, _LOOK, _PULSE, NOTICE, WINDOW, LoopWatch, place_of
from tests.beside import beside


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _hold(seconds: float) -> None:
    """Keep the loop busy, in Python code, so that a look from outside can be taken."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_longest_stall_is_forgotten_after_a_while() -> None:
    """A stall is shown for one window at least, and for two at most."""
    clock = Clock()
    watch = LoopWatch(clock)
    watch.late(3.0)
    clock.now += WINDOW - 1
    watch.late(0.1)
    assert watch.longest() == 3.0
    clock.now += 2
    assert watch.longest() == 3.0
    clock.now += WINDOW
    assert watch.longest() < 3.0
    watch.late(2.0)
    clock.now += 10 * WINDOW
    assert watch.longest() == 0.0


def test_long_stall_is_said_with_its_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log line names the function that held the loop; uvloop's loop is used where it is installed."""
    made: list[asyncio.AbstractEventLoop] = []

    def uvloop() -> asyncio.AbstractEventLoop:
        made.append(asyncio.new_event_loop())
        return made[0]

    monkeypatch.setitem(sys.modules, "uvloop", SimpleNamespace(new_event_loop=uvloop))
    watch = LoopWatch()

    async def work() -> None:
        watch.look_from_outside()
        async with beside(watch.pulse()):
            await asyncio.sleep(0)
            _hold(NOTICE * 4)
            await asyncio.sleep(0.01)

    with caplog.at_level(logging.WARNING), asyncio.Runner(loop_factory=watch.loop) as runner:
        runner.run(work())
    watch.close()
    assert len(made) == 1
    (record,) = caplog.records
    assert "_hold" in record.__dict__["where"]
    assert record.__dict__["seconds"] >= NOTICE * 4 - _PULSE - 0.01
    assert watch.longest() == pytest.approx(record.__dict__["seconds"], abs=0.001)


def test_stalls_in_a_row_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that is held again and again does not fill the log."""
    clock = Clock()
    watch = LoopWatch(clock)
    with caplog.at_level(logging.WARNING):
        watch.late(NOTICE / 2)
        assert not caplog.records
        for _ in range(50):
            watch.late(1.0)
            clock.now += 1.0
    assert len(caplog.records) == 5


def test_place_names_no_folder() -> None:
    """A place is the end of a path, a line and a function, innermost first."""
    place = place_of(sys._getframe())
    assert place.startswith("syncer/runtime/test_stalls.py:")
    assert "test_place_names_no_folder" in place
    assert place_of(None) == ""


def test_which_stalls_are_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """Each lag is counted, and said from a quarter of a second on."""
    clock, counted = Clock(), list[float]()
    watch = LoopWatch(clock)
    watch.late(1.0)
    watch.on_lag(counted.append)
    clock.now += 10
    with caplog.at_level(logging.WARNING):
        for seconds in (0.0099, 0.01, 0.2499):
            watch.late(seconds)
        assert counted == [0.0099, 0.01, 0.2499]
        caplog.clear()
        watch.late(0.25)
    (record,) = caplog.records
    assert (record.__dict__["seconds"], record.__dict__["where"]) == (0.25, "not seen")


def test_a_stall_is_said_again_after_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """And not a moment before; its length is said to the millisecond."""
    clock = Clock()
    watch = LoopWatch(clock)
    with caplog.at_level(logging.WARNING):
        for step in (0.0, 9.99, 0.01):
            clock.now += step
            watch.late(1.23456)
    assert [r.__dict__["seconds"] for r in caplog.records] == [1.235, 1.235]


def test_a_stall_of_the_window_before_is_forgotten_when_the_next_comes() -> None:
    """What is reported first turns the window, so that it is not counted into the one before."""
    clock = Clock()
    watch = LoopWatch(clock)
    watch.late(3.0)
    clock.now += 2 * WINDOW
    watch.late(1.0)
    assert watch.longest() == 1.0
    clock.now += WINDOW
    assert watch.longest() == 1.0
    clock.now += WINDOW
    assert watch.longest() == 0.0


def test_a_place_has_three_functions_at_most() -> None:
    """Enough to find it; the innermost comes first."""

    def one() -> str:
        return place_of(sys._getframe())

    def two() -> str:
        return one()

    def three() -> str:
        return two()

    assert [part.split(" ")[1] for part in three().split(" < ")] == ["one", "two", "three"]


def test_every_stall_that_is_logged_is_met_by_a_look() -> None:
    """Wherever between two looks it begins, one of them finds it long enough before it is worth a line."""
    assert _LOOK + _LONG < NOTICE
