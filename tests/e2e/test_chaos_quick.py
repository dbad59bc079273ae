"""
Chaos in short: what `scripts/chaos` does for minutes, within the budget of every test run.

A storm with a fixed seed must leave nothing to complain about, and must have hit: every kind of
fault has landed, or the run is void. And the run must be able to fail: two protections are switched
off in turn, under trouble that the sound product survives at the same time. All breaks are tried by
`scripts/chaos --try-breaks`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.broken import BREAKS
from tests.chaos.faults import KINDS
from tests.chaos.report import DROPPED, REFUSED
from tests.chaos.run import EVIDENCE, chaos, noticed, run_schedule
from tests.chaos.targeted import SCHEDULES
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary

pytestmark = pytest.mark.timeout(500)

_SECONDS = 25.0
_SEED = 4


async def test_a_storm_leaves_record_and_receivers_agreed(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Under faults of every kind nothing is lost, repeated without reason or taken back."""
    async with RedisServer(find_binary("redis-server"), others=True) as redis:
        report = await chaos(
            control_plane, redis, tmp_path / "run", seconds=_SECONDS, seed=_SEED, pause=1.5
        )
    left = "\n".join(report.left)
    kept = tmp_path / "run" / EVIDENCE
    seen = kept.read_text()[:20_000] if kept.exists() else ""
    assert report.sound, f"{report.table()}\n{report.verdict()}\n{left}\n{report.findings}\n{seen}"
    assert set(report.wanted) == {*KINDS, DROPPED, REFUSED}
    assert report.expired, "no log has expired: the short time to live was not in force"


@pytest.mark.parametrize("name", ["no-fence", "send-before-intent"])
async def test_a_protection_that_is_off_is_noticed(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, name: str
) -> None:
    """With one protection off the invariant is named; with it on the same trouble does no harm."""
    async with RedisServer(find_binary("redis-server"), others=True) as redis:
        off, on = await asyncio.gather(
            run_schedule(control_plane, redis, tmp_path / "off", name, broken=True),
            run_schedule(control_plane, redis, tmp_path / "on", name, broken=False),
        )
    assert noticed(name, off), off.verdict()
    assert on.sound, f"{on.verdict()}\n{on.findings}"


def test_every_break_has_its_trouble() -> None:
    """Each protection that can be switched off has a schedule, and an invariant that it guards."""
    assert BREAKS.keys() == SCHEDULES.keys()
    assert all(s.names for s in SCHEDULES.values())
    assert all((f.__doc__ or "").strip() for f in BREAKS.values())
