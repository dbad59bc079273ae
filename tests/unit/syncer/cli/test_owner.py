"""Who holds a Lease."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from syncer.cli.owner import holder_of, read_holder
from syncer.kube.client import Json
from syncer.kube.leases import LeaseRecord, lease_path
from syncer.sharding.view import FOREVER, SESSION, session_name
from tests.fakes.apistate import ApiState
from tests.fakes.directkube import DirectKube
from tests.unit.syncer.cli.samples import NOW


@pytest.mark.parametrize(
    ("renewed", "holder", "held"),
    [
        pytest.param("2027-01-15T08:00:00.000000Z", "a", "a", id="renewed"),
        pytest.param("2027-01-15T07:59:20.000000Z", "a", "", id="run out"),
        pytest.param("2027-01-15T08:00:00.000000Z", "", "", id="released"),
        pytest.param(None, "a", "", id="never renewed"),
    ],
)
def test_who_holds_a_lease(renewed: str | None, holder: str, held: str) -> None:
    """A Lease that has run out is nobody's, by a clock that may differ by its own duration."""
    lease = LeaseRecord("n", "u", "1", holder=holder, duration=15.0, renew_time=renewed or "")
    assert holder_of(lease, now=NOW / 1000) == held


def lease_of(name: str, holder: str, duration: int, renewed: float, **annotations: str) -> Json:
    """Return a Lease that is to be created."""
    time = datetime.fromtimestamp(renewed, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": duration, "renewTime": time},
    }


@pytest.mark.parametrize(
    ("session", "names", "held"),
    [
        pytest.param(0.0, "it", "a", id="its session is renewed"),
        pytest.param(-60.0, "it", "", id="its session has run out"),
        pytest.param(0.0, "another", "", id="its session was another one"),
        pytest.param(None, "it", "", id="its session is gone"),
    ],
)
async def test_who_holds_a_shard(session: float | None, names: str, held: str) -> None:
    """By the session that its Lease names, however old that Lease is."""
    state = ApiState(install=False)
    kube = DirectKube(state)
    path = lease_path("default")
    uid = "gone"
    if session is not None:
        body = lease_of(session_name("nl", "a"), "a", 15, time.time() + session)
        made = await kube.request("POST", path, body=body, timeout=1)
        uid = made["metadata"]["uid"] if names == "it" else "another"
    shard = lease_of("nl-0", "a", FOREVER, time.time() - 9999, **{SESSION: uid})
    lease = await kube.request("POST", path, body=shard, timeout=1)
    assert await read_holder(kube, "default", "nl", lease) == held


async def test_who_holds_a_shard_without_a_session() -> None:
    """By its own times, as a version without sessions renews it; nobody once it is released."""
    kube = DirectKube(ApiState(install=False))
    path = lease_path("default")
    for n, (holder, ago, held) in enumerate([("old", 0, "old"), ("old", 60, ""), ("", 0, "")]):
        body = lease_of(f"nl-{n}", holder, 15, time.time() - ago, **{SESSION: "left-behind"})
        lease = await kube.request("POST", path, body=body, timeout=1)
        assert await read_holder(kube, "default", "nl", lease) == held
