"""The benchmark at rest counts what it says: smoke on real servers, and arithmetic without."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.idle import Scale, Window, measure, told
from tests.benchmarks.report import cpu_seconds
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary

SMALL = Scale((1, 2), 1, 5.0, 1.0)
BARE = Window(
    9.99, {"PUT leases": 1, "GET pods": 1}, {"pods": 3}, {"ping": 10}, (), (),
    {"etcd": 2.0, "redis": 0.5},
)  # fmt: skip


def test_cpu_is_told_finer_than_in_ticks() -> None:
    """What a replica takes at rest in some seconds is two ticks of the kernel: those would tell nothing."""
    used = [time.process_time(), cpu_seconds(os.getpid()), time.process_time()]
    assert used == sorted(used)


def test_a_report_of_some_windows() -> None:
    """What the servers do without a replica is taken away; the busiest replica counts."""
    requests = {
        "PUT leases": 1, "PATCH leases": 8, "WATCH leases": 1, "POST leases": 2, "GET pods": 1,
        "LIST notificationrequests": 1,
    }  # fmt: skip
    one = Window(
        10.0, requests, {"pods": 3, "leases": 2}, {"ping": 30, "evalsha": 5}, (0.25, 0.75),
        (50.0, 59.0), {"etcd": 2.5, "redis": 0.5},
    )  # fmt: skip
    reading = replace(one, requests={**requests, "GET leases": 1}, replicas=(0.5, 0.25))
    report = told({0: [BARE], 2: [one, reading, one]}, SMALL)
    figures = {f.name.removeprefix("2 replicas: "): f for f in report.figures}
    found = {name: (f.median, f.verdict) for name, f in figures.items()}
    assert figures["API writes per second and replica"].median == pytest.approx(0.5)
    assert figures["API writes per second and replica"].verdict == "met"
    assert found["API reads per second"] == (0.0, "missed"), "one window of three had a read"
    quiet = told({0: [BARE], 2: [one, one]}, SMALL).find("2 replicas: API reads per second")
    assert quiet is not None
    assert quiet.verdict == "met", "windows are not equally long to the millisecond"
    assert found["open watches of a replica"] == (1.0, "")
    assert found["CPU of the busiest replica"] == (0.75, "missed")
    assert found["resident memory of the largest replica"] == (59.0, "met")
    assert found["Redis commands per second"] == (2.5, "")
    assert found["CPU of etcd for it"] == (0.5, "")
    assert (
        "2 replicas, API requests per second: PATCH leases 0.80, POST leases 0.20,"
        " LIST notificationrequests 0.10, GET leases" in str(report.notes)
    )
    assert "2 replicas, Redis commands per second: ping 2.00, evalsha 0.50" in report.notes


async def test_what_is_counted_on_real_servers(control_plane: ControlPlane, tmp_path: Path) -> None:
    """Replicas renew Leases and keep watches open; without one, nobody does."""
    async with RedisServer(find_binary("redis-server")) as redis:
        found = await measure(control_plane, redis, tmp_path / "stage", SMALL)
    assert list(found) == [0, 1, 2]
    ((bare,), *others) = found.values()
    assert not any("notificationrequests" in name for name in bare.requests)
    assert bare.watches["notificationrequests"] == 1, "the stage's own"
    for n, (window,) in enumerate(others, 1):
        assert len(window.replicas) == len(window.resident) == n
        assert all(10 < mib < 1000 for mib in window.resident)
        assert window.requests["PATCH leases"] > 0
        assert window.watches["notificationrequests"] > bare.watches["notificationrequests"]
        assert window.commands
        assert window.servers.keys() == {"etcd", "kube-apiserver", "redis"}
    assert len([f for f in told(found, SMALL).figures if f.goal]) == 8
