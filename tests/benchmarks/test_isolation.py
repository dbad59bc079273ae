"""The isolation benchmark measures what it says: smoke, and no figure is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.isolation import PER_RECEIVER, Block, Scale, measure, told
from tests.servers.controlplane import ControlPlane

SMALL = Scale(rounds=1, turns=1, seconds=2.0, rate=15.0, first=34, others=4.0)


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_a_receiver_hangs_in_one_block_of_two(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """As many calls hang as one receiver may have, and everything else is received."""
    ((without, hung),) = await measure(control_plane, redis_url, tmp_path / "stage", SMALL)
    assert (without.hung, hung.hung) == (False, True)
    assert (without.hanging, hung.hanging) == (0, PER_RECEIVER)
    for block in (without, hung):
        assert len(block.delays) == 30
        assert 0 < block.p50 <= block.p99 < 20_000
    assert [f.name for f in told([(without, hung)], SMALL).figures if f.goal] == [
        "p99, one hangs / nothing hangs"
    ]


@pytest.mark.parametrize(
    ("slower", "verdict"),
    [pytest.param(1.05, "met", id="5 % slower"), pytest.param(1.3, "missed", id="30 % slower")],
)
def test_the_verdict_is_that_of_the_ratio(slower: float, verdict: str) -> None:
    """Ten per cent are the limit, for the median of the pairs."""
    delays = [n / 1000 for n in range(1, 201)]
    without = Block(hung=False, delays=delays)
    hung = Block(hung=True, delays=[d * slower for d in delays])
    outlier = Block(hung=True, delays=[d * 5 for d in delays])
    report = told([(without, hung), (without, outlier), (without, hung)], SMALL)
    (judged,) = [f for f in report.figures if f.goal]
    assert judged.verdict == verdict
    assert judged.median == pytest.approx(slower)
