"""
From a real Prometheus by two real Alertmanagers to a page that is proven.

The Alertmanagers know nothing of each other, as the peers of a cluster that has come apart: both deliver
everything. Those of a cluster are in `test_alertmanager_pair.py`.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.alertmanagers import Alertmanager, grouped, pagerduty, prometheus, webhook
from tests.e2e.gateway import GatewayProcess
from tests.e2e.harness import stage, until
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.new_processes("one test of gateway and controller"),
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

#: Answers of PagerDuty, by call; the last one repeats.
SCRIPT: Final = (503, 503, 202)


async def test_an_alert_becomes_one_proven_page(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    An alert that fires while the API server is away becomes one notification with three attempts.

    Both Alertmanagers send it, and send it again until it is taken; PagerDuty answers 503, 503, 202. When
    the alert is over there is a second notification, and no third.
    """
    async with (
        stage(control_plane, redis_url, tmp_path / "stage", sampled=False) as here,
        pagerduty(SCRIPT) as outside,
    ):
        source = {
            "name": "am", "kind": "alertmanager", "namespace": here.namespace, "patience": "1s",
            "retryPolicy": {
                "maxAttempts": 5, "initialBackoffSeconds": 1, "backoffMultiplier": 1,
            },
        }  # fmt: skip
        gateway = GatewayProcess(tmp_path / "gw", control_plane.kubeconfig, [source])
        notifier = here.notifier()
        pager = {"credentialRef": "pager", "url": f"http://127.0.0.1:{outside.port}/v2/enqueue"}
        (here.folder / "credentials" / "pager").write_text("R" * 32)
        (here.folder / "routing.yaml").write_text(
            json.dumps({
                "route": {"receiver": "pager"},
                "receivers": [{"name": "pager", "pagerdutyConfigs": [pager]}],
            })
        )  # fmt: skip
        config = {"route": grouped("ledger"), "receivers": [webhook("ledger", gateway.url("am"))]}
        pair = [Alertmanager(tmp_path / f"alertmanager-{n}", config) for n in range(2)]
        server = prometheus(tmp_path / "prometheus", outside.port, [am.port for am in pair])
        notifier.start()
        gateway.start()
        try:
            await notifier.wait_ready()
            await gateway.wait_ready()
            for am in pair:
                await am.begin()
            await asyncio.to_thread(server.start, lambda: True, timeout=20.0)

            # It fires, and nobody can take it: both are told to come again.
            await control_plane.pause("kube-apiserver")
            outside.full = 1
            requests = "notification_ledger_gateway_requests_total"

            async def refused() -> bool:
                return await gateway.metric(requests, source="am", code="503") >= 3

            await until(refused, lambda: f"503 is answered; {gateway.tail()}", within=60)
            await control_plane.resume("kube-apiserver")

            async def taken(twice: int) -> bool:
                return await gateway.metric(requests, source="am", code="200") >= twice

            def what() -> str:
                return f"paged: {outside.calls}; {gateway.tail()}; {notifier.tail()}"

            await until(lambda: len(outside.calls) == 3, what, within=60)
            await until(lambda: taken(2), what, within=30)
            assert outside.calls == [("[FIRING:1] Disk: disk is full", code) for code in SCRIPT]

            # It is over: a second notification, by both, delivered once.
            outside.full = 0
            await until(lambda: len(outside.calls) == 4, what, within=60)
            await until(lambda: taken(4), what, within=30)
            assert "[RESOLVED:1] Disk" in outside.calls[3][0]

            created = "notification_ledger_gateway_notifications_total"
            assert await gateway.metric(created, source="am", result="duplicate") >= 2
            _, listed = await control_plane.request(
                "GET",
                f"/apis/kubernaut.ai/v1alpha1/namespaces/{here.namespace}/notificationrequests",
            )
            assert len(listed["items"]) == 2
            (first,) = [o for o in listed["items"] if o["spec"]["subject"].startswith("[FIRING:1]")]
            await here.wait_phase(first["metadata"]["uid"])
            version = here.watcher.last(first["metadata"]["uid"])
            assert version is not None
            attempts = version.status["deliveryAttempts"]
            assert [a["status"] for a in attempts] == ["failed", "failed", "success"]
        finally:
            control_plane.heal()
            for process in (*pair, server):
                await asyncio.to_thread(process.kill)
            gateway.kill()
