"""Work that must go on: what ends it, and when it is tried again, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from unittest.mock import AsyncMock

import pytest

from syncer.runtime import supervise
from syncer.runtime.supervise import TaskEndedError, critical, restarting
from tests.beside import beside
from tests.simulation.loop import SimLoop, simulate
from tests.virtual import on_virtual_time


def begins(outcomes: list[bool], every: float, *, seconds: float) -> list[float]:
    """When each round begins; a round fails where its outcome is False, and where there is none left."""
    found: list[float] = []

    async def main(loop: SimLoop) -> None:
        began = loop.time()

        async def work() -> None:
            found.append(round(loop.time() - began, 6))
            if not (outcomes and outcomes.pop(0)):
                raise ValueError("not now")

        async with beside(restarting("sweep", work, every=every)):
            await asyncio.sleep(seconds)

    simulate(1, main)
    return found


@pytest.mark.parametrize(
    ("every", "seconds", "begun"),
    [
        (5.0, 20.0, [0, 1, 3, 7, 12, 17]), (0.2, 3.5, [0, 1, 2, 3]),
        (0.0, 200.0, [0, 1, 3, 7, 15, 31, 63, 123, 183]),
    ],
)  # fmt: skip
def test_a_round_that_fails_is_tried_again_later_each_time(
    every: float, seconds: float, begun: list[float]
) -> None:
    """Nobody else does its work; not more seldom than its rounds are, nor than every minute."""
    assert begins([], every, seconds=seconds) == begun


def test_a_round_that_passes_ends_the_growth_of_the_wait() -> None:
    """What fails now and then is tried again as soon as at first."""
    assert begins([False, False, True, False, True], 5.0, seconds=12) == [0, 1, 3, 8, 9]


def test_a_failure_is_logged_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    """Each one: the metrics do not tell which work it is."""
    caplog.set_level(logging.INFO, "ledger.supervise")
    begins([True], 1.0, seconds=1.5)
    (line,) = caplog.records
    assert line.getMessage() == "sweep failed and will be retried"
    assert (vars(line)["error"], vars(line)["seconds"]) == ("ValueError: not now", 1.0)


@on_virtual_time
async def test_a_round_that_is_wanted_sooner_begins_at_once() -> None:
    """Once for each time that it is asked for, and by the clock afterwards."""
    found: list[float] = []
    loop = asyncio.get_running_loop()
    began, sooner = loop.time(), asyncio.Event()

    async def work() -> None:
        found.append(round(loop.time() - began, 6))

    async with beside(restarting("sweep", work, every=10.0, sooner=sooner)):
        await asyncio.sleep(4)
        sooner.set()
        await asyncio.sleep(12)
    assert found == [0, 4, 14]


async def test_what_must_not_end_is_an_error_when_it_does() -> None:
    """Its own errors pass: they say more."""
    ends, fails = AsyncMock(), AsyncMock(side_effect=ValueError("broken"))
    with pytest.raises(TaskEndedError, match="task redis ended"):
        await critical("redis", ends)
    with pytest.raises(ValueError, match="broken"):
        await critical("redis", fails)


async def test_what_runs_beside_a_block_has_ended_when_that_has() -> None:
    """It is cancelled, and waited for."""
    ended: list[bool] = []

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async with supervise.beside(run()):
        await asyncio.sleep(0)
    assert ended == [True]
