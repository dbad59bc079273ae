"""
A stand-in for Kubernaut's data store: whom it lets in is decided as there, and it keeps what it is sent.

The token of a request goes to the API server in a TokenReview *without audiences*, its user in a
SubjectAccessReview for `get` on the Service `data-storage-service`, and `create` to write; both with the
ServiceAccount and rights of Kubernaut's chart. The release 1.5.7 has `/api/v1` alone on this port; later
ones answer `/readyz` too.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from tests.servers.controlplane import ControlPlane

SERVICE: Final = "data-storage-service"
ACCOUNT: Final = "data-storage-sa"
Json = dict[str, Any]


@dataclass
class Store:
    """
    The store, once started.

    Attributes:
        token: gives a token of a ServiceAccount, once somebody has made that; else the
            administrator asks.
        events: what was accepted, with its id, in order.
        answers: method, path and status of each request to `/api/v1`, with the reason of a refusal.
    """

    plane: ControlPlane
    namespace: str
    token: Callable[[str], Awaitable[str]] | None
    readyz: bool
    events: list[Json] = field(default_factory=list)
    answers: list[tuple[str, str, int, str]] = field(default_factory=list)
    _own: str = ""

    @asynccontextmanager
    async def listening(
        self, tls: ssl.SSLContext, *addresses: tuple[str, int]
    ) -> AsyncIterator[None]:
        """Listen there meanwhile."""
        app = web.Application(middlewares=[self._admit])
        app.router.add_post("/api/v1/audit/events/batch", self._batch)
        app.router.add_post("/api/v1/audit/events", self._one)
        app.router.add_get("/api/v1/audit/events", self._query)
        app.router.add_get("/readyz", self._ready)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        for host, port in addresses:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        try:
            yield
        finally:
            await runner.cleanup()

    def refused(self) -> list[tuple[str, str, int, str]]:
        """Requests that were not accepted."""
        return [a for a in self.answers if a[2] >= HTTPStatus.BAD_REQUEST]

    @web.middleware
    async def _admit(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if not request.path.startswith("/api/v1"):
            answer: web.StreamResponse = await handler(request)
            return answer
        code, reason = await self._judge(request)
        if reason:
            answer = web.json_response({"title": reason, "status": code}, status=code)
        else:
            answer = await handler(request)
        self.answers.append((request.method, request.path, answer.status, reason))
        return answer

    async def _judge(self, request: web.Request) -> tuple[int, str]:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return 401, "no bearer token"
        status = await self._ask("authentication", "tokenreviews", {"token": token})
        if not status.get("authenticated"):
            return 401, f"token rejected: {status.get('error', '')}"
        for verb in ("get", "create")[: 1 + (request.method == "POST")]:
            asked = {
                "namespace": self.namespace, "resource": "services", "name": SERVICE, "verb": verb,
            }  # fmt: skip
            user = status["user"]["username"]
            status_of = await self._ask(
                "authorization", "subjectaccessreviews", {"user": user, "resourceAttributes": asked}
            )
            if not status_of["allowed"]:
                return 403, f"{user} may not {verb}"
        return 0, ""

    async def _ask(self, group: str, resource: str, spec: Json) -> Json:
        path = f"/apis/{group}.k8s.io/v1/{resource}"
        if self.token and not self._own:
            self._own = await self.token(ACCOUNT)
        code, answer = await self.plane.request(
            "POST", path, {"spec": spec}, token=self._own or None
        )
        if code != HTTPStatus.CREATED:
            raise web.HTTPInternalServerError(text=f"{resource}: {code} {answer}")
        status: Json = answer["status"]
        return status

    async def _batch(self, request: web.Request) -> web.Response:
        events = await request.json()
        if not isinstance(events, list) or not events:
            return web.json_response({"title": "the body is no array of events"}, status=400)
        ids = [self._keep(e) for e in events]
        return web.json_response({"event_ids": ids, "message": "created"}, status=201)

    async def _one(self, request: web.Request) -> web.Response:
        event = await request.json()
        times = {"event_timestamp": event["event_timestamp"], "message": "created"}
        return web.json_response({"event_id": self._keep(event), **times}, status=201)

    def _keep(self, event: Json) -> str:
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        self.events.append({**event, "event_id": str(uuid.uuid4()), "event_date": day})
        return str(self.events[-1]["event_id"])

    async def _query(self, request: web.Request) -> web.Response:
        members = ("event_type", "event_category", "event_outcome", "correlation_id")
        found = [
            e for e in self.events
            if all(e.get(m) == request.query[m] for m in members if m in request.query)
        ]  # fmt: skip
        limit, offset = int(request.query.get("limit", "50")), int(request.query.get("offset", "0"))
        page = found[::-1][offset : offset + limit]  # newest first
        more = offset + limit < len(found)
        pagination = {"limit": limit, "offset": offset, "total": len(found), "has_more": more}
        return web.json_response({"data": page, "pagination": pagination})

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.Response(status=200 if self.readyz else 404)
