"""A gateway that runs, and requests to it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
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
from tests.integration.scripted import write_kubeconfig

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


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Monotonic seconds."""
        return self.now

    def wall(self) -> float:
        """Unix seconds."""
        return 1_795_752_000.0 + self.now


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

    async def raw(self, said: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection that says so much."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(said)
        return reader, writer

    def count(self, name: str, **labels: str) -> float:
        """Return a counter, 0 if it has not been written."""
        full = f"notification_ledger_gateway_{name}"
        return self.registry.get_sample_value(full, labels) or 0.0


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until a connection has ended, however it does."""
    with contextlib.suppress(ConnectionError):
        await reader.read()


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


@dataclass(frozen=True, slots=True)
class Outside:
    """What a gateway stands between: senders with a token, and a stand-in for the API server."""

    server: FakeApiServer
    kubeconfig: str
    token: str

    def source(self, **more: Any) -> Json:
        """One source that writes to a namespace which is there."""
        return source(self.token, **{"namespace": "default"} | more)

    def gateway(
        self, *sources: Json, more: Json | None = None, **parts: Any
    ) -> AbstractAsyncContextManager[Running]:
        """Run a gateway with these sources, or with one; `more` are further members of its file."""
        document = {"sources": list(sources) or [self.source()]} | (more or {})
        return gateway(self.kubeconfig, document, **parts)


@pytest.fixture
async def outside(tmp_path: Path, token: str) -> AsyncIterator[Outside]:
    """A stand-in for the API server that listens, and what senders have."""
    async with FakeApiServer() as server:
        yield Outside(server, write_kubeconfig(tmp_path / "kubeconfig", server.url), token)
