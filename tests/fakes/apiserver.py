"""
The stand-in for an API server, over real HTTP on a loopback port.

`ApiState` decides what is answered; this shell adds sockets, time and the fault script, so that a
client can be shown what a real server cannot be made to show: a reply that is lost after the write,
a watch that falls silent, a list from the past. State and port stay over `stop` and `start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from email.utils import formatdate
from typing import Self

from aiohttp import web

from syncer.model.resource import Json
from tests.fakes.apianswers import Request, Response, expired, failure
from tests.fakes.apistate import ApiState, Watch
from tests.fakes.faults import (
    Answer,
    ApplyThen,
    CloseWatch,
    Delay,
    DropEvent,
    DropReply,
    DuplicateEvent,
    ExpireWatch,
    Faults,
    Hang,
    HoldEvent,
    Reset,
    SendLine,
    StaleRead,
    StallWatch,
)


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
        *,
        token: str | None = None,
        bookmark_every: float = 60.0,
    ) -> None:
        """
        Describe a server; nothing listens yet.

        Args:
            state: What it starts with; an empty cluster with our definition by default.
            token: The only bearer token that is accepted; None accepts everybody.
            bookmark_every: Seconds between bookmarks on a watch that asked for them.
        """
        self.state = state or ApiState()
        self.faults = Faults(on_add=self._wake)
        self._token = token
        self._bookmark_every = bookmark_every
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._streams: set[asyncio.Event] = set()
        self._connections: set[asyncio.Transport] = set()
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

    async def kill(self) -> None:
        """Break every connection, in the middle of a line if need be, and stop listening."""
        for transport in list(self._connections):
            transport.abort()
        await self.stop()

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
        transport = incoming.transport
        if transport:
            self._connections.add(transport)
        try:
            answer = await self._handle(incoming)
            if not answer.prepared:
                answer.headers["Date"] = formatdate(self.state.now, usegmt=True)
            return answer
        finally:
            if transport:
                self._connections.discard(transport)

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:  # noqa: PLR0911 (one answer for each fault)
        request = Request(
            incoming.method,
            incoming.path,
            dict(incoming.query),
            await incoming.read(),
            incoming.headers.get("Content-Type", ""),
            incoming.headers.get("Accept", ""),
        )
        target, verb = self.state.classify(request)
        if self._token and incoming.headers.get("Authorization") != f"Bearer {self._token}":
            self.state.count(verb, target, 401)
            return _send(failure(401, "Unauthorized", "Unauthorized"))
        action = self.faults.request(request.method, request.path, verb)
        if isinstance(action, Delay):
            await self._pause(action.seconds)
            action = None
        if isinstance(action, Answer):
            self.state.count(verb, target, action.code)
            return _send(_answer(action))
        if isinstance(action, Reset) or (isinstance(action, Hang) and not action.applied):
            self.state.count(verb, target, 0)
            return await self._no_answer(incoming, action)
        if isinstance(action, StaleRead) and verb in {"get", "list"}:
            return _send(self.state.read_at(request, action.revision))
        if verb == "watch":
            opened = self.state.watch(request)
            if isinstance(opened, Watch):
                return await self._stream(incoming, opened, request)
            return _send(opened)
        response = self.state.answer(request)
        if isinstance(action, ApplyThen):
            return _send(_answer(action.answer))
        if isinstance(action, DropReply | Hang):
            return await self._no_answer(incoming, action)
        return _send(response)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _no_answer(
        self, incoming: web.Request, action: Reset | Hang | DropReply
    ) -> web.StreamResponse:
        if isinstance(action, Hang):
            await self._closing.wait()
        if incoming.transport:
            incoming.transport.abort()
        return web.Response(status=500)  # never seen: the connection is gone

    async def _stream(
        self, incoming: web.Request, watch: Watch, request: Request
    ) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        date = formatdate(self.state.now, usegmt=True)
        out = web.StreamResponse(headers={"Content-Type": "application/json", "Date": date})
        out.enable_chunked_encoding()
        await out.prepare(incoming)
        seconds = float(request.query.get("timeoutSeconds") or 1800)
        end = loop.time() + seconds
        stream = _Stream(self.faults, request.path, watch, out)
        wake = asyncio.Event()
        self._streams.add(wake)
        try:
            bookmark = loop.time() + self._bookmark_every
            while not self._closing.is_set():
                wake.clear()
                if not await stream.advance(incoming) or watch.closed:
                    break
                if watch.bookmarks and loop.time() >= bookmark:
                    bookmark = loop.time() + self._bookmark_every
                    await stream.send(watch.bookmark())
                if loop.time() >= end:
                    # A real server sends the last one a moment before, if the watch is long enough.
                    if watch.bookmarks and seconds > self._bookmark_every:
                        await stream.send(watch.bookmark())
                    break
                until = min(end, bookmark) if watch.bookmarks else end
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), max(0.0, until - loop.time()))
            if incoming.transport and not stream.broken:
                await out.write_eof()
        except ConnectionError:
            pass  # the client went away, as watchers do
        finally:
            self._streams.discard(wake)
        return out


class _Stream:
    """The sending side of one watch, with the faults that strike it."""

    def __init__(self, faults: Faults, path: str, watch: Watch, out: web.StreamResponse) -> None:
        self.broken = False
        self._stalled = False
        self._faults = faults
        self._path = path
        self._watch = watch
        self._out = out
        self._held: list[Json] = []

    async def advance(self, incoming: web.Request) -> bool:
        """Send what there is to send; False ends the stream."""
        for event in self._watch.take():
            action = self._faults.stream(self._path, event=True)
            if not await self._strike(action, incoming):
                return False
            if self._stalled or isinstance(action, DropEvent):
                continue
            if isinstance(action, HoldEvent):
                self._held.append(event)
                continue
            for _ in range(2 if isinstance(action, DuplicateEvent) else 1):
                await self.send(event)
            while self._held:
                await self.send(self._held.pop(0))
        while (action := self._faults.stream(self._path, event=False)) is not None:
            if not await self._strike(action, incoming):
                return False
        return True

    async def send(self, event: Json) -> None:
        """Write one line, unless the stream has been stalled."""
        if not self._stalled:
            await self._out.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")

    async def _strike(self, action: object, incoming: web.Request) -> bool:
        match action:
            case StallWatch():
                self._stalled = True
            case SendLine(line):
                await self._out.write(line)
            case ExpireWatch():
                await self.send(expired(self._watch.revision, self._watch.revision + 1))
                return False
            case CloseWatch(abruptly):
                if abruptly:
                    await self._out.write(b'{"type":"MODI')
                    self.broken = True
                    if incoming.transport:
                        incoming.transport.abort()
                return False
            case _:
                pass
        return True


def _answer(action: Answer) -> Response:
    headers = {}
    if action.retry_after is not None:
        headers["Retry-After"] = str(action.retry_after)
    if action.body is None:
        details = {"retryAfterSeconds": action.retry_after} if action.retry_after else None
        made = failure(action.code, action.reason, action.message, details)
        return Response(action.code, made.body, headers)
    if isinstance(action.body, str):
        headers["Content-Type"] = action.content_type
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
