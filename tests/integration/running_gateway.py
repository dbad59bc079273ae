"""A gateway that runs, and requests to it."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from notifier.gateway.access import Access
from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.process import tls_of
from notifier.gateway.reviews import Reviews
from notifier.gateway.server import Gateway
from notifier.gateway.settings import of_document
from notifier.gateway.submit import KubeObjects, Submitter
from syncer.kube.client import KubeClient
from syncer.model.resource import Json
from tests.fakes.apiserver import FakeApiServer

TOKEN: Final = "s3cret-token"


def group(*alerts: tuple[str, str, str], **more: Any) -> Json:
    """Return Alertmanager's payload; each alert is its fingerprint, status and start."""
    status = "firing" if any(a[1] == "firing" for a in alerts) else "resolved"
    return {
        "version": "4", "receiver": "gw", "status": status,
        "groupKey": '{}:{alertname="Disk"}', "truncatedAlerts": 0,
        "groupLabels": {"alertname": "Disk"},
        "commonLabels": {"alertname": "Disk", "severity": "critical", "team": "storage"},
        "commonAnnotations": {"summary": "disk is full"},
        "externalURL": "http://am-0:9093",
        "alerts": [
            {
                "status": status_of, "labels": {"alertname": "Disk", "instance": fingerprint},
                "annotations": {}, "startsAt": starts, "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prom/graph", "fingerprint": fingerprint,
            }
            for fingerprint, status_of, starts in alerts
        ],
        **more,
    }  # fmt: skip


def stamp(ago: float = 0.0) -> str:
    """Return a time before now as Alertmanager writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(time.time() - ago))


class Running:
    """A gateway and what its senders see."""

    def __init__(
        self,
        port: int,
        registry: CollectorRegistry,
        session: aiohttp.ClientSession,
        serving: Gateway,
    ) -> None:
        self.port = port
        self.serving = serving
        self.registry = registry
        self.session = session

    async def send(
        self, source: str, payload: Any, *, method: str = "POST", **headers: str
    ) -> tuple[int, Json, dict[str, str]]:
        """Send a webhook; returns the status, the answer, and its headers."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        given = {"Authorization": f"Bearer {TOKEN}"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        async with self.session.request(
            method,
            f"http://127.0.0.1:{self.port}/v1/{source}",
            data=io.BytesIO(body),  # aiohttp wants no large body as bytes
            headers={"Content-Length": str(len(body))} | given,
        ) as answer:
            return answer.status, json.loads(await answer.read()), dict(answer.headers)

    def count(self, name: str, **labels: str) -> float:
        """Return a counter, 0 if it has not been written."""
        full = f"notification_ledger_gateway_{name}"
        return self.registry.get_sample_value(full, labels) or 0.0


@contextlib.asynccontextmanager
async def gateway(
    kubeconfig: str | Path,
    document: Json,
    now: Callable[[], float] = time.time,
    heard: Callable[[str], None] = lambda _source: None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Running]:
    """Run a gateway with a file."""
    loaded = of_document(document, constants=document)
    registry = CollectorRegistry()
    tls = tls_of(loaded, clock)
    async with (
        await KubeClient.connect(str(kubeconfig), user_agent="gateway-test/1") as client,
        aiohttp.ClientSession() as session,
    ):
        reviews = Reviews(client, clock)
        sources = {
            name: Access(auth, name, time.monotonic, source=source, review=reviews.check, tls=tls)
            for name, (source, auth) in loaded.sources.items()
        }
        serving = Gateway(
            sources,
            Submitter(KubeObjects(client), now),
            GatewayMetrics(registry),
            loaded.settings.limits,
            tls=tls.context if tls is not None else None,
            now=now,
            heard=heard,
        )
        port = await serving.bind("127.0.0.1", 0)
        try:
            yield Running(port, registry, session, serving)
        finally:
            await session.close()
            await serving.close()
            await reviews.close()


@pytest.fixture
def token(tmp_path: Path) -> str:
    """A file with the token of the sources."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return str(file)


def source(token: str, **more: Any) -> Json:
    """One source of Alertmanager's kind."""
    return {
        "name": "am", "kind": "alertmanager", "namespace": "alerts",
        "auth": {"bearer": {"tokenFiles": [token]}}, **more,
    }  # fmt: skip


def stored(server: FakeApiServer) -> list[str]:
    """Names of the notifications that exist."""
    return sorted(o["metadata"]["name"] for o in server.state.objects("notificationrequests"))
