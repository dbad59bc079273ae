"""
Servers that misbehave on purpose, over real sockets.

`ScriptedServer` answers each request as a function of the test says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Self

import yaml
from aiohttp import web

from tests.fakes.proxy import Proxy
from tests.servers.ports import free_port


def always(
    make: Callable[[], web.StreamResponse],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that answers everything alike."""

    async def handle(_: web.Request) -> web.StreamResponse:
        return make()

    return handle


async def hang(_: web.Request) -> web.StreamResponse:
    """Answer nothing."""
    await asyncio.sleep(60)
    return web.Response()


async def abort(request: web.Request) -> web.StreamResponse:
    """Break the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class ScriptedServer:
    """
    An HTTP server with one handler for everything.

    Attributes:
        url: Where it listens.
        seen: Method and path with query of each request, in order of arrival.
        bodies: Its body, at the same index.
        headers: Its headers, at the same index.
    """

    def __init__(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        """Choose a port; entering the context starts."""
        self._handler = handler
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.seen: list[str] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(f"{request.method} {request.path_qs}")
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        return await self._handler(request)

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, hanging requests included."""
        await self._runner.cleanup()


def write_kubeconfig(
    path: Path,
    server: str,
    *,
    user: dict[str, Any] | None = None,
    cluster: dict[str, Any] | None = None,
) -> str:
    """Write a kubeconfig for a server and return its path."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


def through(proxy: Proxy, kubeconfig: Path, path: Path) -> str:
    """Write a copy of a kubeconfig that goes through a proxy and return its path."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def status(code: int, reason: str = "", message: str = "", **details: Any) -> web.Response:
    """Return a Status object as an answer."""
    return web.json_response(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
            "details": details,
        },
        status=code,
    )


async def send_lines(request: web.Request, lines: Iterable[Any]) -> web.StreamResponse:
    """Begin a watch and send lines: objects as JSON, bytes as they are. The caller goes on."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for line in lines:
        raw = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
        await response.write(raw)
    return response


def end(*lines: Any) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a watch that sends lines and then ends in an orderly way."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await send_lines(request, lines)

    return answer
