"""Replicas of a gateway that look out for one source: what they tell, once, through one Lease."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import CollectorRegistry

from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.settings import of_document
from notifier.gateway.silence import SILENT, Expectation, grace
from notifier.gateway.submit import KubeObjects, Submitter
from notifier.gateway.translation import Source
from syncer.kube.client import KubeClient
from syncer.kube.leases import Leases
from syncer.kube.notification_requests import object_path
from syncer.model.errors import PortError
from syncer.model.resource import Json
from syncer.model.times import time_of
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.faults import Answer, ApplyThen, Match
from tests.integration.running_gateway import Clock
from tests.integration.scripted import write_kubeconfig

EVERY: Final = 600.0
PATCH: Final = Match(verb="patch", path="*leases*")


def _source() -> Source:
    given = {
        "name": "watchdog", "kind": "heartbeat", "namespace": "default", "expectEvery": "10m",
        "auth": {"insecure": True}, "retryPolicy": {"maxAttempts": 7},
    }  # fmt: skip
    ((source, _),) = of_document({"sources": [given]}).sources.values()
    assert source.expect_every == 600
    return source


class Replicas:
    """Gateways that look out for one source; `start` makes one that knows nothing yet."""

    def __init__(self, client: KubeClient, server: FakeApiServer) -> None:
        self.client = client
        self.server = server
        self.clock = Clock()

    def start(self) -> Expectation:
        """Start a replica."""
        return Expectation(
            _source(),
            Leases(self.client, "default", ("notification-ledger/gateway", "gw")),
            Submitter(KubeObjects(self.client), self.clock.wall),
            GatewayMetrics(CollectorRegistry()),
            clock=self.clock,
            now=self.clock.wall,
        )

    async def later(self, seconds: float, *replicas: Expectation) -> None:
        """Let time pass, with rounds as often as they are made."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + grace(EVERY) / 2)
            for replica in replicas:
                await replica.round()

    def told(self) -> list[str]:
        """Status of the notifications that exist, in the order in which they were made."""
        found = self.server.state.objects("notificationrequests")
        found = sorted(found, key=lambda o: int(o["metadata"]["resourceVersion"]))
        return [str(o["spec"]["extensions"]["status"]) for o in found]

    def lease(self) -> Json:
        """The Lease of the source."""
        (lease,) = self.server.state.objects("leases")
        return lease


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    """A stand-in for the API server, and replicas of a gateway."""
    async with (
        FakeApiServer() as server,
        await KubeClient.connect(
            write_kubeconfig(tmp_path / "kubeconfig", server.url), user_agent="t/1"
        ) as client,
    ):
        yield Replicas(client, server)


async def test_a_silence_and_the_return_are_told_once(replicas: Replicas) -> None:
    """Two replicas, one of which hears the source: one notification of its silence, one of its return."""
    hearing, other = replicas.start(), replicas.start()
    heard = 0.0
    for _ in range(3):
        hearing.heard()
        heard = replicas.clock.wall()
        await replicas.later(590, hearing, other)
    assert replicas.told() == []
    assert time_of(replicas.lease()["spec"]["renewTime"]) / 1000 == pytest.approx(heard, abs=1)
    await replicas.later(3000, hearing, other)
    assert replicas.told() == ["silent"]
    (told,) = replicas.server.state.objects("notificationrequests")
    assert replicas.lease()["metadata"]["annotations"][SILENT] == told["metadata"]["name"]
    assert replicas.lease()["spec"]["renewTime"] in told["spec"]["body"]
    assert (told["spec"]["priority"], told["spec"]["retryPolicy"]["maxAttempts"]) == ("Critical", 7)
    # Back, by way of the other one.
    other.heard()
    await replicas.later(500, hearing, other)
    assert replicas.told() == ["silent", "heard"]
    assert SILENT not in replicas.lease()["metadata"]["annotations"]
    # And silent once more: another silence.
    await replicas.later(3000, hearing, other)
    assert replicas.told() == ["silent", "heard", "silent"]


async def test_a_restart_neither_forgets_nor_cries_wolf(replicas: Replicas) -> None:
    """After a start the source has its interval; what was told before is not told again, the return is."""
    first = replicas.start()
    first.heard()
    await replicas.later(300, first)
    # Nobody listened for an hour, so nobody can say that the source was silent.
    replicas.clock.now += 3600
    second = replicas.start()
    await replicas.later(590, second)
    assert replicas.told() == []
    await replicas.later(100, second)
    assert replicas.told() == ["silent"]
    # Deleted, and all replicas new: the Lease still knows.
    for told in replicas.server.state.objects("notificationrequests"):
        path = object_path("default", told["metadata"]["name"])
        await replicas.client.request("DELETE", path, timeout=5.0)
    third = replicas.start()
    await replicas.later(3000, third)
    assert replicas.told() == []
    third.heard()
    await replicas.later(60, third)
    assert replicas.told() == ["heard"]


async def test_an_outage_of_the_api_server_is_no_silence(replicas: Replicas) -> None:
    """While replicas cannot read what the others heard, nothing is told; the interval begins anew."""
    hearing, other = replicas.start(), replicas.start()
    await replicas.later(60, hearing, other)
    replicas.server.faults.add(Match(path="*leases*"), Answer(503), times=None)
    for _ in range(40):
        hearing.heard()
        replicas.clock.now += grace(EVERY) / 2
        for replica in (hearing, other):
            with pytest.raises(PortError):
                await replica.round()
    replicas.server.faults.clear()
    # The one that heard nothing comes first.
    await replicas.later(60, other, hearing)
    assert replicas.told() == []


@pytest.mark.parametrize(
    "fault", [Answer(503), ApplyThen()], ids=["the write fails", "its answer is lost"]
)
async def test_a_write_that_fails_doubles_nothing(
    replicas: Replicas, fault: Answer | ApplyThen
) -> None:
    """The notification is there and the Lease does not say so: the next round meets it."""
    one = replicas.start()
    await replicas.later(640, one)
    replicas.server.faults.add(PATCH, fault, times=1)
    with pytest.raises(PortError):
        await replicas.later(60, one)
    assert replicas.told() == ["silent"]
    await replicas.later(60, one)
    assert replicas.told() == ["silent"]
    assert SILENT in replicas.lease()["metadata"]["annotations"]


async def test_a_source_that_comes_while_its_silence_is_told_is_told_back(
    replicas: Replicas,
) -> None:
    """Another replica writes the Lease before the mark of the silence: the return is told all the same."""
    teller, hearing = replicas.start(), replicas.start()
    await replicas.later(630, teller, hearing)
    create = replicas.client.request

    async def between(method: str, path: str, **more: object) -> Json:
        if method == "POST":
            hearing.heard()
            await hearing.round()
            replicas.client.request = create  # type: ignore[method-assign]  # a call in between
        return await create(method, path, **more)  # type: ignore[arg-type]  # as it came

    replicas.client.request = between  # type: ignore[method-assign]  # as above
    await replicas.later(60, teller)
    await replicas.later(60, teller, hearing)
    assert replicas.told() == ["silent", "heard"]
