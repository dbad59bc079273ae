"""The latency benchmark measures what it says: smoke, and no figure is judged."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.benchmarks.latency import (
    SHARES,
    Bench,
    ClockedReceiver,
    Level,
    Round,
    Scale,
    measure,
    told,
)
from tests.benchmarks.watching import FinalWatcher
from tests.servers.controlplane import ControlPlane

SMALL = Scale(rounds=1, burst=20, seconds=1.0)


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_each_moment_is_taken_for_each_notification(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """Creation, first byte, answer and final phase, in this order, at each share of the rate."""
    (found,) = await measure(control_plane, redis_url, tmp_path / "stage", SMALL)
    assert found.most > 0
    assert len(found.shown) == 20
    assert set(found.levels) == set(SHARES)
    for share, level in found.levels.items():
        assert level.rate == pytest.approx(found.most * share)
        n = max(1, round(level.rate * SMALL.seconds))
        columns = (level.created, level.first, level.final, level.shown)
        assert [len(c) for c in columns] == [n] * 4
        for first, final, shown in zip(level.first, level.final, level.shown, strict=True):
            # The answer comes 5 ms after the call, and the phase after the answer.
            assert 0 < first < first + 0.005 <= final - shown + 0.001
            assert shown > 0
    assert found.levels[0.9].rate > found.levels[0.1].rate


@dataclass
class Slow:
    """
    An API server, a controller and a receiver that do all at once, after some seconds.

    Attributes:
        stall: Seconds for which the first creation keeps everybody from running.
        takes: Seconds of every creation.
    """

    watcher: FinalWatcher
    receiver: ClockedReceiver
    stall: float = 0.0
    takes: float = 0.0

    @property
    def api(self) -> Slow:
        """Itself."""
        return self

    async def create(self, name: str, **_spec: Any) -> None:
        """Create it, and have it delivered and seen."""
        time.sleep(self.stall)  # noqa: ASYNC251 - that nobody can run is the point
        self.stall = 0.0
        await asyncio.sleep(self.takes)
        now = time.monotonic()
        self.receiver.first[name] = self.receiver.answered[name] = self.watcher.ended[name] = now


def bench_with(**slowness: float) -> Bench:
    """A bench that knows nothing but a slow server."""
    watcher, receiver = FinalWatcher(cast("Any", None)), ClockedReceiver()
    return Bench(
        cast("Any", Slow(watcher, receiver, **slowness)), watcher, receiver, cast("Any", None)
    )


async def test_a_slow_server_does_not_thin_out_the_load() -> None:
    """The loop is open: each is created at its moment, however long those before it take."""
    level = await bench_with(takes=0.5).level("slow", 50, 0.4)
    assert len(level.first) == 20
    # One after the other, the last would come after ten seconds.
    assert all(0.5 <= delay < 5 for delay in level.first)


async def test_what_holds_everything_up_is_in_the_figures() -> None:
    """The clock runs from the moment at which each was to be created, not from the creation."""
    level = await bench_with(stall=0.4).level("stalled", 50, 0.4)
    for n, delay in enumerate(level.first):
        assert delay >= 0.4 - n / 50 - 0.001


def test_the_goals_are_those_of_half_and_of_full_load() -> None:
    """Median and p99 of the first byte at half load; p99 of the status at 90 % and in the burst."""
    quick = Level(10.0, [0.005], [0.01], [0.03], [0.02])
    slow = Level(90.0, [0.5], [1.0], [5.0], [3.5])
    report = told([Round(100.0, [2.0], {0.1: slow, 0.5: quick, 0.9: slow})], SMALL)
    verdicts = {f.name: f.verdict for f in report.figures if f.goal}
    assert verdicts == {
        "50 %: create to first byte, p50": "met",
        "50 %: create to first byte, p99": "met",
        "90 %: answer to status, p99": "missed",
        "at once: answer to status, p99": "met",
    }
