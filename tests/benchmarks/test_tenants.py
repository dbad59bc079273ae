"""The benchmark of tenants measures what it says: smoke, and no figure is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.tenants import Block, Scale, measure, told
from tests.servers.controlplane import ControlPlane

SMALL = Scale(rounds=1, crowd=60, seconds=2.0, rate=10.0)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_a_crowd_is_served_in_one_block_of_two(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """The crowd elsewhere reaches nobody, the one beside is served, and so are all others."""
    ((without, beside),) = await measure(control_plane, redis_url, tmp_path / "stage", SMALL)
    assert (without.beside, beside.beside) == (False, True)
    assert without.served == 0
    assert 0 < beside.served <= 60
    for block in (without, beside):
        assert len(block.delays) == 20
        assert 0 <= block.p50 <= block.p99 < 60_000
    assert [f.name for f in told([(without, beside)], SMALL).figures if f.goal] == [
        "p99, crowd beside / elsewhere"
    ]


@pytest.mark.parametrize(
    ("slower", "verdict"),
    [pytest.param(1.4, "met", id="40 % slower"), pytest.param(1.7, "missed", id="70 % slower")],
)
def test_the_verdict_is_that_of_the_ratio(slower: float, verdict: str) -> None:
    """Half as much again is the limit, for the median of the pairs."""
    delays = [n / 1000 for n in range(1, 201)]
    without = Block(beside=False, delays=delays)
    beside = Block(beside=True, delays=[d * slower for d in delays])
    report = told([(without, beside)], SMALL)
    (judged,) = [f for f in report.figures if f.goal]
    assert judged.verdict == verdict
    assert judged.median == pytest.approx(slower)
