"""
From a real Prometheus by two real Alertmanagers to a page that is proven.

The Alertmanagers know nothing of each other, as the peers of a cluster that has come apart: both deliver
everything. The stand-in for PagerDuty keeps its own book.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from syncer.model.resource import Json
from tests.e2e.gateway import TOKEN, GatewayProcess
from tests.e2e.harness import stage, until
from tests.servers.controlplane import ControlPlane
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

#: Answers of PagerDuty, by call; the last one repeats.
SCRIPT: Final = (503, 503, 202)


class World:
    """What Prometheus scrapes, and the PagerDuty that is paged."""

    def __init__(self) -> None:
        self.full = 0
        self.calls: list[tuple[str, int]] = []
        self.port = 0

    async def page(self, request: web.Request) -> web.Response:
        """Book a call and answer as the script says."""
        event = await request.json()
        code = SCRIPT[min(len(self.calls), len(SCRIPT) - 1)]
        self.calls.append((event["payload"]["summary"], code))
        return web.json_response({"status": "success", "dedup_key": "k"}, status=code)

    async def metrics(self, _request: web.Request) -> web.Response:
        """How full the disk is."""
        return web.Response(text=f"disk_full {self.full}\n")


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Serve it on a loopback port."""
    here = World()
    app = web.Application()
    app.router.add_post("/v2/enqueue", here.page)
    app.router.add_get("/metrics", here.metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    here.port = free_port()
    await web.TCPSite(runner, "127.0.0.1", here.port).start()
    try:
        yield here
    finally:
        await runner.cleanup()


def program(name: str, folder: Path, config: Json, *arguments: str) -> ServerProcess:
    """One of Prometheus's programs with its configuration."""
    found = shutil.which(name)
    assert found, f"{name} is missing; `. scripts/lib.sh; ensure_alertmanager` installs it"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return ServerProcess(
        name,
        [found, f"--config.file={folder / 'config.json'}", *arguments],
        log=folder / "log",
    )


def alertmanager(folder: Path, port: int, url: str) -> ServerProcess:
    """One that belongs to no cluster and flushes every second."""
    return program(
        "prometheus-alertmanager", folder,
        {
            "route": {
                "receiver": "ledger", "group_by": ["alertname"], "group_wait": "1s",
                "group_interval": "1s", "repeat_interval": "1h",
            },
            "receivers": [{
                "name": "ledger",
                "webhook_configs": [{
                    "url": url,
                    "http_config": {"authorization": {"credentials": TOKEN}},
                }],
            }],
        },
        f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    )  # fmt: skip


def prometheus(folder: Path, target: int, alertmanagers: list[int]) -> ServerProcess:
    """One that scrapes, decides and tells both Alertmanagers, twice a second."""
    rules = folder.with_name("rules.json")
    rule = {
        "alert": "Disk", "expr": "disk_full > 0", "labels": {"severity": "critical"},
        "annotations": {"summary": "disk is full"},
    }  # fmt: skip
    rules.write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    return program(
        "prometheus", folder,
        {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(rules)],
            "scrape_configs": [{
                "job_name": "disk", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
            }],
            "alerting": {"alertmanagers": [{
                "static_configs": [{"targets": [f"127.0.0.1:{p}" for p in alertmanagers]}],
            }]},
        },
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{free_port()}",
    )  # fmt: skip


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
        world() as outside,
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
        ports = [free_port(), free_port()]
        servers = [
            alertmanager(tmp_path / f"am-{n}", port, gateway.url("am"))
            for n, port in enumerate(ports)
        ]
        servers.append(prometheus(tmp_path / "prometheus", outside.port, ports))
        notifier.start()
        gateway.start()
        try:
            await notifier.wait_ready()
            await gateway.wait_ready()
            for server in servers:
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
            summary = "[FIRING:1] Disk: disk is full"
            assert [(s.removeprefix("Escalation: "), c) for s, c in outside.calls] == [
                (summary, code) for code in SCRIPT
            ]

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
            for server in servers:
                await asyncio.to_thread(server.kill)
            gateway.kill()
