"""A gateway is killed, the API server is away, Alertmanager retries: nothing is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.gateway_outage import play
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(300),
]


async def test_every_group_is_delivered_and_none_twice(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """Sixty groups over ten seconds without an API server; `scripts/bench gateway` has 600 and a minute."""
    tale = await play(control_plane, redis_url, tmp_path, groups=60, away=10)
    assert (tale.lost, tale.twice, tale.objects) == (0, 0, 60), tale
    assert tale.kills >= 3, "one in each part"
    assert tale.failed >= 20, "the outage met nobody"
