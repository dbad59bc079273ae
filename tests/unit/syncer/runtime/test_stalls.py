"""The watch on the event loop: every stall is seen, the longest is kept for a while, the place is named."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from types import SimpleNamespace
from typing import Final
from unittest.mock import Mock

import pytest

from syncer.runtime.stalls import _LONG, _LOOK, _PULSE, NOTICE, WINDOW, LoopWatch, place_of
from tests.beside import beside


def _hold(seconds: float) -> None:
    """Keep the loop busy, in Python code, so that a look from outside can be taken."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


#: Seconds that pass, a stall then, if there is one, and the longest that is shown from then on.
LONGEST: Final[dict[str, list[tuple[float, float | None, float]]]] = {
    "a stall is shown for one window at least, and for two at most": [
        (0, 3.0, 3.0), (WINDOW - 1, 0.1, 3.0), (2, None, 3.0), (WINDOW, None, 0.0),
        (0, 2.0, 2.0), (10 * WINDOW, None, 0.0),
    ],
    "what is reported first turns the window": [
        (0, 3.0, 3.0), (2 * WINDOW, 1.0, 1.0), (WINDOW, None, 1.0), (WINDOW, None, 0.0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", LONGEST)
def test_the_longest_stall_is_forgotten_after_a_while(case: str) -> None:
    """Not before whoever asks once a window has seen it."""
    clock = SimpleNamespace(now=1_000.0)
    watch = LoopWatch(lambda: clock.now)
    for passes, late, longest in LONGEST[case]:
        clock.now += passes
        if late is not None:
            watch.late(late)
        assert watch.longest() == longest


def test_long_stall_is_said_with_its_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log line names the function that held the loop; uvloop's loop is used where it is installed."""
    uvloop = Mock(new_event_loop=Mock(wraps=asyncio.new_event_loop))
    monkeypatch.setitem(sys.modules, "uvloop", uvloop)
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
    uvloop.new_event_loop.assert_called_once_with()
    (record,) = caplog.records
    assert "_hold" in record.__dict__["where"]
    assert record.__dict__["seconds"] >= NOTICE * 4 - _PULSE - 0.01
    assert watch.longest() == pytest.approx(record.__dict__["seconds"], abs=0.001)


def test_place_names_no_folder() -> None:
    """A place is the end of a path, a line and a function, innermost first."""
    place = place_of(sys._getframe())
    assert place.startswith("syncer/runtime/test_stalls.py:")
    assert "test_place_names_no_folder" in place
    assert place_of(None) == ""


def test_which_stalls_are_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """Each lag is counted, and said from a quarter of a second on."""
    clock, counted = SimpleNamespace(now=1_000.0), list[float]()
    watch = LoopWatch(lambda: clock.now)
    watch.late(1.0)
    watch.observe = counted.append
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
    clock = SimpleNamespace(now=1_000.0)
    watch = LoopWatch(lambda: clock.now)
    with caplog.at_level(logging.WARNING):
        for step in (0.0, 9.99, 0.01):
            clock.now += step
            watch.late(1.23456)
    assert [r.__dict__["seconds"] for r in caplog.records] == [1.235, 1.235]


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
