"""
A plain client for a real API server and for the stand-in, and the questions that both are asked.

It sends what it is told and shows what came back: no retries, no error mapping. Everything that
could differ by chance (uids, resourceVersions, namespaces) is left to the caller.
"""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from syncer.model.resource import Json
from tests.servers.definition import load_crd

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: parsed if it is JSON, else text."""

    code: int
    body: Any
    headers: dict[str, str]

    @property
    def reason(self) -> str:
        """Machine word of a failure, empty if it has none."""
        return str(self.body.get("reason", "")) if isinstance(self.body, dict) else ""

    @property
    def message(self) -> str:
        """Text of a failure."""
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else self.body

    @property
    def revision(self) -> str:
        """The resourceVersion of the object or list in the answer."""
        return str(self.body["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch."""

    type: str
    object: Json


@dataclass(slots=True)
class Api:
    """
    A client; `ca` is the certificate file of a server that speaks TLS.

    It waits for an answer for `seconds`, at most a minute.
    """

    url: str
    token: str = ""
    ca: Path | None = None
    namespace: str = "default"
    seconds: float = 20.0
    _session: aiohttp.ClientSession = field(init=False)

    async def __aenter__(self) -> Self:
        """Open the session."""
        context = ssl.create_default_context(cafile=str(self.ca)) if self.ca else None
        self._session = aiohttp.ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {self.token}"} if self.token else {},
            connector=aiohttp.TCPConnector(ssl=context or True),
            timeout=aiohttp.ClientTimeout(total=self.seconds),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the session."""
        await self._session.close()

    @property
    def requests(self) -> str:
        """Path of the NotificationRequests in this client's namespace."""
        return f"/apis/kubernaut.ai/v1alpha1/namespaces/{self.namespace}/notificationrequests"

    @property
    def leases(self) -> str:
        """Path of the Leases."""
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    @property
    def events(self) -> str:
        """Path of the Events."""
        return f"/api/v1/namespaces/{self.namespace}/events"

    async def ask(
        self,
        method: str,
        path: str,
        body: Json | list[Any] | str | None = None,
        *,
        form: str = "",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """
        Send one request; a patch is a merge patch unless `form` says otherwise.

        A real server that fills its watch cache once more, which it may do at any time, is asked again.
        """
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = form or (MERGE if method == "PATCH" else "application/json")
        text = body if body is None or isinstance(body, str) else _as_json(body)
        async with asyncio.timeout(60):
            while True:
                data = None if text is None else io.BytesIO(text.encode())
                async with self._session.request(method, path, data=data, headers=sent) as answer:
                    said = await answer.text()
                    if not _fills_its_cache(answer.status, said):
                        parsed = (
                            json.loads(said) if answer.content_type == "application/json" else said
                        )
                        return Reply(answer.status, parsed, dict(answer.headers))
                await asyncio.sleep(0.2)

    @asynccontextmanager
    async def watch(self, path: str, **query: str) -> AsyncIterator[AsyncIterator[Event]]:
        """Open a watch; its iteration ends when the server ends the stream."""
        params = {"watch": "true", **query}
        async with self._session.get(path, params=params) as answer:
            assert answer.status == 200, await answer.text()

            async def lines() -> AsyncIterator[Event]:
                async for line in answer.content:
                    event = json.loads(line)
                    event["object"].get("metadata", {}).pop("managedFields", None)
                    yield Event(event["type"], event["object"])

            yield lines()

    async def until_served(self, path: str) -> Reply:
        """Ask for a collection until its type is served; definitions take effect after a moment."""
        async with asyncio.timeout(20):
            while (answer := await self.ask("GET", path)).code != 200:  # no event
                await asyncio.sleep(0.05)
        return answer

    async def create(self, name: str = "a", **spec: Any) -> Json:
        """Create a NotificationRequest and return it."""
        answer = await self.ask("POST", self.requests, notification(name, **spec))
        assert answer.code == 201, answer.body
        created: Json = answer.body
        return created


def _as_json(body: Json | list[Any]) -> str:
    """JSON in as few bytes as clients usually send, which escape what has no UTF-8 and nothing else."""
    text = json.dumps(body, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(body)
    return text


def _fills_its_cache(code: int, said: str) -> bool:
    return code == 429 and "storage is (re)initializing" in said


def notification(name: str = "a", *, group: str = "kubernaut.ai", **spec: Any) -> Json:
    """Return a small NotificationRequest."""
    return {
        "apiVersion": f"{group}/v1alpha1",
        "kind": "NotificationRequest",
        "metadata": {"name": name},
        "spec": {"type": "Simple", "subject": "s", "body": "b", **spec},
    }


def definition(group: str) -> Json:
    """Return our definition under another group, to be installed and deleted at will."""
    crd = load_crd()
    crd["metadata"]["name"] = f"notificationrequests.{group}"
    crd["spec"]["group"] = group
    return crd


def attempt(status: str, *, id: str | None = "0.7-1", channel: str = "console") -> Json:  # noqa: A002 - the field's name
    """Return one entry of deliveryAttempts, as upstream writes it if it has no id."""
    entry: Json = {
        "channel": channel,
        "attempt": 1,
        "timestamp": "2026-01-01T00:00:01Z",
        "status": status,
    }
    return entry if id is None else {**entry, "id": id}
