"""
The stand-in for an API server, over real HTTP on a loopback port.

`ApiState` decides what is answered; this shell adds sockets, time and the fault script, so that a
client can be shown what a real server cannot be made to show: a reply that is lost after the write.
State and port stay over `stop` and `start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from email.utils import formatdate
from typing import Self

from aiohttp import web

from syncer.model.resource import Json
from tests.fakes.apianswers import Request, Response, failure
from tests.fakes.apistate import ApiState, Watch
from tests.fakes.faults import Answer, ApplyThen, DropReply, Faults

#: Seconds between bookmarks on a watch that asked for them.
_BOOKMARK_EVERY = 60.0


class FakeApiServer:
    """
    One server.

    Attributes:
        state: What it knows; tests may look into it and write through `state.answer`.
        faults: What goes wrong.
    """

    def __init__(
        self,
        state: ApiState | None = None,
    ) -> None:
        """
        Describe a server; nothing listens yet.

        Args:
            state: What it starts with; an empty cluster with our definition by default.
        """
        self.state = state or ApiState()
        self.faults = Faults()
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._streams: set[asyncio.Event] = set()
        self._closing = asyncio.Event()
        self.state.listeners.append(self._wake)

    @property
    def url(self) -> str:
        """Address without a path; stays over a restart."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen: on a free port first, on the same one later."""
        self._closing.clear()
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End every stream and stop listening."""
        self._closing.set()
        self._wake()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    def _wake(self) -> None:
        for event in self._streams:
            event.set()

    async def _serve(self, incoming: web.Request) -> web.StreamResponse:
        answer = await self._handle(incoming)
        if not answer.prepared:
            answer.headers["Date"] = formatdate(self.state.now, usegmt=True)
        return answer

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        request = Request(
            incoming.method,
            incoming.path,
            dict(incoming.query),
            await incoming.read(),
            incoming.headers.get("Content-Type", ""),
            incoming.headers.get("Accept", ""),
        )
        target, verb = self.state.classify(request)
        action = self.faults.request(request.method, request.path, verb)
        if isinstance(action, Answer):
            self.state.count(verb, target, action.code)
            return _send(_answer(action))
        if verb == "watch":
            opened = self.state.watch(request)
            if isinstance(opened, Watch):
                return await self._stream(incoming, opened, request)
            return _send(opened)
        response = self.state.answer(request)
        if isinstance(action, ApplyThen):
            return _send(_answer(action.answer))
        if isinstance(action, DropReply) and incoming.transport:
            incoming.transport.abort()
        return _send(response)

    async def _stream(
        self, incoming: web.Request, watch: Watch, request: Request
    ) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        date = formatdate(self.state.now, usegmt=True)
        out = web.StreamResponse(headers={"Content-Type": "application/json", "Date": date})
        out.enable_chunked_encoding()
        await out.prepare(incoming)
        end = loop.time() + float(request.query.get("timeoutSeconds") or 1800)
        bookmark = loop.time() + _BOOKMARK_EVERY
        wake = asyncio.Event()
        self._streams.add(wake)
        try:
            while not self._closing.is_set():
                wake.clear()
                for event in watch.take():
                    await _say(out, event)
                if watch.closed or loop.time() >= end:
                    break
                if watch.bookmarks and loop.time() >= bookmark:
                    bookmark = loop.time() + _BOOKMARK_EVERY
                    await _say(out, watch.bookmark())
                until = min(end, bookmark) if watch.bookmarks else end
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), max(0.0, until - loop.time()))
            await out.write_eof()
        except ConnectionError:
            pass  # the client went away, as watchers do
        finally:
            self._streams.discard(wake)
        return out


async def _say(out: web.StreamResponse, event: Json) -> None:
    await out.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")


def _answer(action: Answer) -> Response:
    headers = {}
    if action.retry_after is not None:
        headers["Retry-After"] = str(action.retry_after)
    if action.body is None:
        details = {"retryAfterSeconds": action.retry_after} if action.retry_after else None
        made = failure(action.code, action.reason, action.message, details)
        return Response(action.code, made.body, headers)
    return Response(action.code, action.body, headers)


def _send(response: Response) -> web.Response:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    body = response.body
    if not isinstance(body, str):
        headers["Content-Type"] = "application/json"
        body = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return web.Response(
        status=response.code,
        body=body.encode("utf-8", "surrogatepass"),
        headers={**headers, **response.headers},
    )
