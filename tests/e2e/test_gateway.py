"""`notifier gateway` as a process: start, outage, end, and what it prints of a payload."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from syncer.model.resource import Json
from tests.e2e.gateway import TOKEN, GatewayProcess
from tests.e2e.harness import until
from tests.servers import starts
from tests.servers.controlplane import ControlPlane
from tests.unit.notifier.gateway.payloads import FLUX

pytestmark = pytest.mark.timeout(120)


async def _post(url: str, payload: object) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=payload, headers={"Authorization": f"Bearer {TOKEN}"}) as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.new_processes("about the end of a process")
async def test_the_process_outlives_the_api_server_and_ends_in_order(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Requests wait while the API server is frozen, also over SIGTERM; no secret is logged."""
    sources: list[Json] = [
        {"name": "flux", "kind": "flux", "namespace": namespace, "patience": "30s"},
        {"name": "dog", "kind": "heartbeat", "namespace": namespace, "expectEvery": "10m"},
    ]
    process = GatewayProcess(
        tmp_path / "gw", control_plane.kubeconfig, sources, leases={"namespace": namespace},
        shutdownDelay="5s",
    )  # fmt: skip
    process.start()
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/notification-gateway-dog"

    async def expected() -> bool:
        return (await control_plane.request("GET", lease))[0] == 200

    try:
        await process.wait_ready()
        await until(expected, process.tail)
        code, text = await _post(process.url("flux"), FLUX)
        assert code == 200, text
        await control_plane.pause("kube-apiserver")
        waiting = asyncio.create_task(_post(process.url("flux"), {**FLUX, "reason": "Other"}))
        await process.wait_metric("gateway_requests_in_flight", 1)
        assert (await process.ask("/readyz"))[0] == 200
        process.sigterm()
        await until(
            lambda: bool(process.lines("the gateway is shutting down")), process.tail, within=10
        )
        code, text = await process.ask("/readyz")
        assert (code, "draining" in text) == (503, True), text
        # Who has not heard yet that it goes still sends to it.
        late = asyncio.create_task(_post(process.url("flux"), {**FLUX, "reason": "Late"}))
        await process.wait_metric("gateway_requests_in_flight", 2, within=20)
        await control_plane.resume("kube-apiserver")
        for code, text in await asyncio.gather(waiting, late):
            assert code == 200, text
        assert await process.wait_exit() == 0
    finally:
        control_plane.heal()
        process.kill()
    assert TOKEN not in process.log.read_text()
    (line,) = process.lines("the gateway listens")
    assert line["sources"] == ["dog", "flux"]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"sources": []}, "sources: is required"),
        (
            {"sources": [{
                "name": "a", "kind": "flux", "namespace": "n",
                "auth": {"bearer": {"tokenFiles": ["/none"]}},
            }]},
            "sources[0].auth.bearer.tokenFiles: cannot be read",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_ends_the_start(
    document: Json, text: str, tmp_path: Path
) -> None:
    """Exit code 1, and one line with the path."""
    (tmp_path / "gateway.yaml").write_text(json.dumps({"listen": "127.0.0.1:0", **document}))
    run = starts.run(["notifier", "gateway", "--config", str(tmp_path / "gateway.yaml")])
    assert run.returncode == 1
    assert text in json.loads(run.stderr.splitlines()[-1])["error"]
