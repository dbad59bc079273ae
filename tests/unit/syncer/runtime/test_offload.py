"""Work beside the loop, and the rests in it."""

from __future__ import annotations

import time

import pytest

from syncer.runtime.offload import Breath, offload


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
