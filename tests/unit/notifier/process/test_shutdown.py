"""The end of the process: what it waits for, for how long, and what it says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from notifier.app import Parts
from notifier.outside import Stop
from notifier.process.lifecycle import EXIT, RELEASE, Budget, Stopped, drain
from notifier.progress import Progress
from notifier.settings import LEAST_GRACE, Environment


class Process:
    """What a shutdown works with; notes what it is asked for, in order."""

    def __init__(self, *, audit: bool, grace: float | None = None) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.progress, self.stop = Progress(), Stop()
        feed = SimpleNamespace(drain=lambda seconds: self._answer("audit", seconds, 4))
        self.parts = SimpleNamespace(
            outside=SimpleNamespace(stop=self.stop),
            loaded=SimpleNamespace(environment=Environment("n", Path("r"), grace_period=grace)),
            progress=self.progress,
            settings=SimpleNamespace(delivery=SimpleNamespace(largest_timeout=10.0)),
            controller=SimpleNamespace(drain=lambda **given: self._answer("controller", given, 1)),
            status_writer=SimpleNamespace(drain=lambda until: self._answer("sync", until, 2)),
            monotonic=lambda: 100.0,
            events=SimpleNamespace(drain=lambda seconds: self._answer("events", seconds, None)),
            audit=feed if audit else None,
            manager=SimpleNamespace(release=lambda **given: self._answer("release", given, 3)),
        )

    async def _answer(self, what: str, given: object, answer: object) -> object:
        assert self.progress.draining
        self.asked.append((what, given))
        await asyncio.sleep(0)
        return answer


#: Whether there is a feed, the grace of the environment, and the seconds of sends, results and writes.
BOUNDS: Final[dict[str, tuple[bool, float | None, tuple[float, float, float]]]] = {
    "without a feed": (False, None, (12.0, 5.0, 8.0)),
    "with a feed": (True, None, (12.0, 5.0, 8.0)),
    "ten seconds": (True, 10.0, (3.0, 2.0, 8.0 * 8.0 / 15.0)),
}


@pytest.mark.parametrize("case", BOUNDS)
async def test_a_shutdown_has_an_order_and_bounds(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Sends end within the longest send, or their share; each step has its time; Leases go last."""
    caplog.set_level("INFO", "ledger")
    audit, grace, (sending, recording, writing) = BOUNDS[case]
    process = Process(audit=audit, grace=grace)
    process.stop.requested.set()
    with pytest.raises(Stopped):
        await drain(cast("Parts", process.parts))
    assert process.asked == [
        ("controller", {"sending": sending, "recording": pytest.approx(recording)}),
        ("sync", pytest.approx(100.0 + writing)),
        *([("audit", 3.0)] if audit else []),
        ("events", 2.0),
        ("release", {"timeout": 2.0}),
    ]
    first, last = caplog.records
    assert (first.message, last.message) == ("draining", "drained")
    shown = [last.__dict__[n] for n in ("unrecorded", "unsynced", "unaudited", "released")]
    assert shown == [1, 2, 4 if audit else 0, 3]


STEPS: Final = (12.0, 5.0, 8.0, 3.0, 2 * RELEASE)


@pytest.mark.parametrize("spent", [1.0, 0.0, 2.0], ids=["all", "nothing", "too much"])
@pytest.mark.parametrize("grace", [LEAST_GRACE, 10.0, 33.9, 34.0, 60.0, None])
def test_a_short_grace_is_shared(grace: float | None, spent: float) -> None:
    """Sends get their share, the rest what is left, so that all of them and the end itself fit."""
    now = 100.0
    budget = Budget(lambda: now, grace, STEPS[0])
    given = []
    for seconds in STEPS:
        given.append(budget.of(seconds))
        assert 0 <= given[-1] <= seconds
        now += given[-1] * spent
    whole = sum(STEPS)
    share = 1.0 if grace is None else min(1.0, (grace - EXIT) / whole)
    assert given[0] == pytest.approx(STEPS[0] * share)
    if spent == 1.0:
        assert given == pytest.approx([seconds * share for seconds in STEPS])
    elif spent == 0.0 and grace is not None:
        # Whoever comes last may have all that is left.
        assert given[-1] == pytest.approx(min(STEPS[-1], grace - EXIT))


async def test_nothing_is_drained_before_it_is_asked_for() -> None:
    """The task waits for a signal, or for a reason to leave without one."""
    process = Process(audit=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(drain(cast("Parts", process.parts)), 0.01)
    assert process.asked == []
    assert not process.progress.draining
