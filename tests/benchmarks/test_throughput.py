"""The throughput benchmark counts what it says: smoke on real servers, and arithmetic without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.throughput import Run, Scale, Way, measure, told
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary

SMALL = Scale(notifications=12, rounds=1)


def test_a_report_of_some_runs() -> None:
    """Ratios are taken within each round; the benchmark's own CPU is no cost of a notification."""

    def run(rate: float, controller: float, server: float, **others: float) -> Run:
        cpu = {
            "controller": controller, "kube-apiserver": server, "etcd": 1.0, "redis": 0.25,
            "load": 5.0, **others,
        }  # fmt: skip
        writes = {"PATCH notificationrequests/status": 1.0, "POST events": 3.0}
        return Run(rate, [0.1, 0.2, 0.3], cpu, writes, {"evalsha": 5.0, "rpush": 4.0}, 2000)

    rounds: list[dict[Way, Run]] = [
        {
            "off": run(280, 2.0, 6.0),
            "on": run(266, 3.0, 9.0),
            "null": run(400, 0.5, 4.0),
            "reference": run(350, 0.6, 5.0),
        },
        {
            "off": run(140, 2.0, 6.0),
            "on": run(112, 3.0, 9.0),
            "null": run(140, 0.5, 4.0),
            "reference": run(140, 0.6, 5.0),
        },
        {
            "off": run(300, 2.0, 6.0),
            "on": run(150, 3.0, 9.0),
            "null": run(100, 0.5, 4.0),
            "reference": run(300, 0.6, 5.0),
        },
    ]
    report = told(rounds, [run(200, 2.0, 7.6, standby=0.4)], SMALL)
    found = {f.name: (f.median, f.verdict) for f in report.figures}
    assert found["notifications/s, product / null"] == (1.0, "met")
    assert found["notifications/s, product / upstream"] == (8.0, "met")
    assert found["notifications/s, Events on / off"] == (0.8, "missed")
    assert found["controller CPU per notification"] == (2.0, "missed")
    assert found["notifications/s, product / reference"] == (1.0, "met")
    assert found["reference: controller CPU per notification"] == (0.6, "")
    assert found["all CPU per notification"] == (9.25, "")
    assert found["all CPU per notification, product / upstream"] == (0.25, "missed")
    assert found["Events on: Event writes per notification"] == (3.0, "")
    assert found["Redis commands per notification"] == (9.0, "")
    assert found["a replica's CPU per notification of another's"] == (0.4, "")
    assert found["API server CPU per notification and further watch"][0] == pytest.approx(0.2)
    assert found["cores busy, with creator, receiver and watch"][0] == pytest.approx(3.99)


async def test_what_is_counted_on_real_servers(control_plane: ControlPlane, tmp_path: Path) -> None:
    """One status write each; Events and scripts only where they belong; every wait is timed."""
    async with RedisServer(find_binary("redis-server")) as redis:
        null = await measure(control_plane, redis, tmp_path / "null", "null", SMALL)
        on = await measure(control_plane, redis, tmp_path / "on", "on", SMALL)
        reference = await measure(
            control_plane, redis, tmp_path / "reference", "reference", SMALL, on.status
        )
    assert null.requests == reference.requests == {"PATCH notificationrequests/status": 1.0}
    assert reference.status == on.status
    assert abs(reference.object_bytes - on.object_bytes) < 20
    assert null.status == {"phase": "Sent"}
    assert null.commands.keys().isdisjoint({"evalsha", "rpush"})
    assert on.requests["PATCH notificationrequests/status"] >= 1.0
    assert on.requests["POST events"] == 3.0
    assert on.commands["evalsha"] >= 4
    for run in (null, on, reference):
        assert len(run.waits) == SMALL.notifications
        assert all(0 < wait < 60 for wait in run.waits)
        assert run.cpu.keys() == {"controller", "kube-apiserver", "etcd", "redis", "load"}
        assert run.cpu["controller"] > 0
