"""The benchmark of tenants measures what it says: smoke, and no figure is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.tenants import Block, Kind, Scale, measure, told
from tests.servers.controlplane import ControlPlane

SMALL = Scale(rounds=1, crowd=20, seconds=2.0, rate=10.0)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_a_crowd_is_served_here_elsewhere_or_not_at_all(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """The crowd that nobody serves reaches nobody, the others do, and so does everybody else."""
    (found,) = await measure(control_plane, redis_url, tmp_path / "stage", SMALL)
    assert set(found) == set(Kind)
    assert found[Kind.ELSEWHERE].served == 0
    assert all(0 < found[kind].served <= SMALL.crowd for kind in (Kind.ANOTHER, Kind.BESIDE))
    for block in found.values():
        assert len(block.delays) == len(block.shown) == 20
        assert 0 <= block.p50 <= block.p99 < 60_000
        assert 0 < block.created <= SMALL.crowd
    assert [f.name for f in told([found], SMALL).figures if f.goal] == [
        "p99, crowd beside / elsewhere"
    ]


@pytest.mark.parametrize(
    ("slower", "verdict"),
    [pytest.param(1.4, "met", id="40 % slower"), pytest.param(1.7, "missed", id="70 % slower")],
)
def test_the_verdict_is_that_of_the_ratio(slower: float, verdict: str) -> None:
    """Half as much again is the limit, for the median of the rounds; others only inform."""
    delays = [n / 1000 for n in range(1, 201)]
    factors = {Kind.ELSEWHERE: 1.0, Kind.ANOTHER: 9.0, Kind.BESIDE: slower}
    found = {
        kind: Block(kind, [d * factor for d in delays], [d / 2 for d in delays])
        for kind, factor in factors.items()
    }
    report = told([found], SMALL)
    (judged,) = [f for f in report.figures if f.goal]
    assert judged.verdict == verdict
    assert judged.median == pytest.approx(slower)


def test_a_delay_is_divided_where_the_api_server_has_shown_the_object() -> None:
    """What passes before is not the controller's; a call before the watch leaves it nothing."""
    block = Block(Kind.BESIDE, [0.010, 0.030, 0.004], [0.004, 0.010, 0.005])
    assert block.p99_shown == pytest.approx(10, abs=0.5)
    assert block.p99_after == pytest.approx(20, abs=0.5)
