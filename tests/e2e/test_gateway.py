"""`notifier gateway` as a process: start, outage, end, and what it prints of a payload."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from pathlib import Path

import aiohttp
import pytest

from syncer.model.resource import Json
from tests.e2e.gateway import TOKEN, GatewayProcess
from tests.e2e.harness import until
from tests.servers import starts
from tests.servers.controlplane import ControlPlane
from tests.unit.notifier.gateway.payloads import FLUX, alert, alertmanager

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
        await until(expected, process.tail, within=30)
        code, text = await _post(process.url("flux"), FLUX)
        assert code == 200, text
        await control_plane.pause("kube-apiserver")
        waiting = asyncio.create_task(_post(process.url("flux"), {**FLUX, "reason": "Other"}))
        async with asyncio.timeout(20):
            while not await process.metric("notification_ledger_gateway_requests_in_flight"):
                await asyncio.sleep(0.05)
        assert (await process.ask("/readyz"))[0] == 200
        process.sigterm()

        async def draining() -> bool:
            return bool(process.lines("the gateway is shutting down"))

        await until(draining, process.tail, within=10)
        code, text = await process.ask("/readyz")
        assert (code, "draining" in text) == (503, True), text
        await control_plane.resume("kube-apiserver")
        code, text = await waiting
        assert code == 200, text
        # Who has not heard yet that it goes still sends to it.
        code, text = await _post(process.url("flux"), {**FLUX, "reason": "Late"})
        assert code == 200, text
        assert await process.wait_exit() == 0
    finally:
        control_plane.heal()
        process.kill()
    assert TOKEN not in process.log.read_text()
    (line,) = process.lines("the gateway listens")
    assert line["sources"] == ["dog", "flux"]


async def test_a_gateway_that_is_killed_loses_and_doubles_nothing(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Sixty groups, sent until they are answered 200, over two SIGKILLs: sixty notifications."""
    source = {"name": "am", "kind": "alertmanager", "namespace": namespace}
    process = GatewayProcess(tmp_path / "gw", control_plane.kubeconfig, [source])
    process.start()
    tries = []

    async def send(number: int) -> None:
        payload = alertmanager(alert(f"{number:04}"), groupKey=f"group {number}")
        while True:
            tries.append(number)
            with contextlib.suppress(aiohttp.ClientError, OSError):
                code, _ = await _post(process.url("am"), payload)
                if code == 200:
                    return
            await asyncio.sleep(0.2)

    try:
        await process.wait_ready()
        for first in (0, 20, 40):
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for number in range(first, first + 20):
                    group.create_task(send(number))
                if first:
                    # Some have been created by now, and few have been answered.
                    await asyncio.sleep(0.03)
                    process.kill()
                    process.start()
        _, listed = await control_plane.request(
            "GET", f"/apis/kubernaut.ai/v1alpha1/namespaces/{namespace}/notificationrequests"
        )
    finally:
        process.kill()
    assert len(tries) > 60, "a kill met nothing"
    events = [o["metadata"]["annotations"]["notification-ledger/event"] for o in listed["items"]]
    assert sorted(events) == sorted(f"alertmanager:group {n}" for n in range(60))


def _trial(*arguments: str, payload: object) -> subprocess.CompletedProcess[str]:
    given = payload if isinstance(payload, str) else json.dumps(payload)
    return starts.run(["notifier", "gateway", "test", *arguments], given=given)


def test_a_payload_is_tried_without_a_server(tmp_path: Path) -> None:
    """The object and its receivers are printed; a payload that becomes none is exit code 1 and says why."""
    config, routes = tmp_path / "gateway.yaml", tmp_path / "routing.yaml"
    source = {
        "name": "am", "kind": "alertmanager", "namespace": "alerts", "auth": {"insecure": True},
    }  # fmt: skip
    config.write_text(json.dumps({"sources": [source]}))
    routes.write_text(
        "route:\n  receiver: all\n  routes:\n"
        "    - {match: {severity: critical}, receiver: pager}\n"
        "receivers:\n  - {name: all, consoleConfigs: [{enabled: true}]}\n"
        "  - {name: pager, slackConfigs: [{credentialRef: x}]}\n"
    )
    given = ("--config", str(config), "--source", "am")
    run = _trial(*given, "--routing", str(routes), payload=alertmanager())
    assert run.returncode == 0, run.stderr
    assert "subject: '[FIRING:1] Disk: disk is full'" in run.stdout
    assert "# receivers: pager\n" in run.stdout
    for arguments, payload, text in (
        (given, "{", "the payload becomes no notification: the body is not JSON"),
        (given, alertmanager(version="3"), "version: must be 4"),
        (("--config", str(config), "--source", "x"), {}, "there is no source x; the file has am"),
        (("--config", "/none", "--source", "x"), {}, "cannot read /none"),
    ):
        run = _trial(*arguments, payload=payload)
        assert run.returncode == 1
        assert text in run.stderr
        assert run.stdout == ""


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
