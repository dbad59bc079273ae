"""The comparison of strategies can see a loss, and sees none where there is none."""

from __future__ import annotations

import pytest

from tests.benchmarks.strategies import (
    Case,
    Forgetful,
    Naive,
    Optimistic,
    Serialised,
    Strategy,
    measure,
    product,
)
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane

pytestmark = pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)


@pytest.fixture
async def api(control_plane: ControlPlane, namespace: str) -> Api:
    """A client in a namespace of its own."""
    return Api(
        control_plane.server, control_plane.admin_token, control_plane.ca_file, namespace=namespace
    )


async def test_one_in_a_thousand_is_noticed(
    control_plane: ControlPlane, api: Api, redis_url: str
) -> None:
    """A strategy that drops every thousandth attempt is told from one that drops none."""
    case = Case(5, 10)
    async with api, product(control_plane, redis_url) as own:
        sound = await measure(api, own, case, 5, "sound")
        assert (sound.lost, len(sound.waits)) == (0, 250)
        forgetful = Forgetful(own, every=1000)
        dropped = await measure(api, forgetful, case, 20, "forgetful")
        assert (dropped.lost, len(dropped.waits)) == (1, 1000)


@pytest.mark.parametrize("way", [Naive, Optimistic, Serialised])
async def test_what_each_way_costs(api: Api, redis_url: str, way: type[Naive]) -> None:
    """Only the naive way loses; locking optimistically is paid for in refused writes."""
    async with api:
        strategy: Strategy = way(api)
        run = await measure(api, strategy, Case(5, 2), 3, "way")
    if way is Naive:
        assert run.lost > 0
        assert run.writes == 1
    else:
        assert run.lost == 0
        assert run.writes == pytest.approx(1 + run.conflicts)
        assert (run.conflicts > 0) is (way is Optimistic)
