"""The benchmark of replicas measures what it says: smoke on real servers, and arithmetic without."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncer.rules.shards import Sharding
from tests.benchmarks.replicas import (
    FULL,
    SHARDS,
    SHORT,
    Case,
    Load,
    Scale,
    measure,
    told,
    uids_of,
    watched_bytes,
)
from tests.servers.controlplane import ControlPlane

#: Until a killed one is taken over, nobody serves what arrives: it need not be much.
SMALL = Scale((2,), 30, 1, 1, 1.0, 12.0, SHORT)
LOAD = Load(100.0, 2.0, (0.02, 0.03), 5.0, 4000.0, (0.0, 200.0), (60.0, 62.0))


def test_all_uids_belong_to_the_replica() -> None:
    """Whatever a load costs another replica is for notifications of another's."""
    sharding = Sharding(SHARDS)
    uids = list(uids_of(sharding, {3, 5}, 50))
    assert len(set(uids)) == 50
    assert {sharding.of(uid) for uid in uids} == {3, 5}


def test_a_watch_is_a_connection_on_which_nothing_is_asked() -> None:
    """A connection with a request is none, nor one that is new or gone."""
    before = {1: (500, 1000), 2: (300, 100), 3: (400, 50), 4: (9, 9)}
    after = {1: (500, 1700), 2: (350, 900), 3: (400, 80), 5: (200, 5000)}
    assert watched_bytes(before, after) == 700 + 30


@pytest.mark.parametrize(
    ("sharded", "judged"),
    [pytest.param(True, "missed", id="gate on"), pytest.param(False, "", id="gate off")],
)
def test_a_report_of_an_installation(*, sharded: bool, judged: str) -> None:
    """A goal for others' CPU where the server selects, for takeover and loss everywhere."""
    dear = Load(100.0, 2.0, (0.03, 0.05), 5.0, 4000.0, (0.0, 200.0), (60.0, 62.0))
    case = Case(sharded, 3, (LOAD, dear, dear), (19.0, 22.5), 100, 0, 1, 4)
    label = f"gate {'on' if sharded else 'off'}, 3 replicas: "
    found = {f.name.removeprefix(label): f for f in told([case], FULL).figures}
    others = found["CPU of a replica per notification of another's"]
    assert others.median == pytest.approx(0.04)
    assert others.verdict == judged
    assert found["bytes on a replica's watches per notification of another's"].median == 100
    assert found["one killed, until all its shards are served"].verdict == "missed"
    assert found["notifications not sent, or not on record"].verdict == "met"
    assert found["what book and record do not agree on"].verdict == "missed"


def test_a_single_replica_has_no_others() -> None:
    """It is started again, which no goal is about, and pays for nobody."""
    report = told([Case(False, 1, (LOAD,), (3.0,), 10, 0, 0, 0)], FULL)
    assert not any("another" in f.name for f in report.figures)
    restart = report.find(
        "gate off, 1 replica: killed and started again, until all shards are served"
    )
    assert restart is not None
    assert (restart.median, restart.goal) == (3.0, None)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
@pytest.mark.parametrize(
    ("plane", "replicas"),
    [
        pytest.param("control_plane", 1, id="gate off, 1"),
        pytest.param("control_plane", 2, id="gate off, 2"),
        pytest.param(
            "sharded_control_plane", 2, id="gate on, 2",
            # Where the other tests of that API server run: no process starts a second one.
            marks=pytest.mark.xdist_group("selecting by shard"),
        ),
    ],
)  # fmt: skip
async def test_replicas_on_real_servers(
    request: pytest.FixtureRequest, redis_url: str, tmp_path: Path, plane: str, replicas: int
) -> None:
    """Others are sent what is not theirs, a killed one is taken over, and nothing is lost."""
    servers: ControlPlane = request.getfixturevalue(plane)
    servers.heal()
    case = await measure(servers, redis_url, tmp_path / "stage", replicas, SMALL)
    assert (case.sharded, case.replicas) == (plane == "sharded_control_plane", replicas)
    assert (len(case.loads), len(case.takeovers)) == (1, 1)
    (load,) = case.loads
    assert len(load.others) == len(load.other_bytes) == len(load.resident) == replicas - 1
    assert load.owner_bytes > 1000, "a notification comes at least twice"
    # With the gate next to nothing of another's arrives: the watch of Leases alone.
    assert all((each > 1000) is not case.sharded for each in load.other_bytes)
    assert case.created > 30 + 20
    assert (case.unsent, case.violations) == (0, 0)
