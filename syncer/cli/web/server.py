"""
The explorer's HTTP server: pages, two assets, a stream of changes.

Whoever reaches the port reads everything, so it listens on loopback alone, and Kubernetes's own right to
forward ports decides who does. A browser there also runs the pages of other sites, so what does not name
this machine as its host is refused (a name that was rebound to 127.0.0.1 is another one), what another
site asks for is refused unless somebody follows a link (it could take all streams), none may frame a page
or read an answer, and the policy lets a page load nothing but this server's own style
and script. There is no method but GET and HEAD, and no body is read.

Bounds: connections (`syncer.runtime.connections`), pages that are being made at once, seconds for each,
open streams, characters of a filter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from syncer.cli.output import in_words
from syncer.cli.web import pages
from syncer.cli.web.entries import Placed, Query
from syncer.cli.web.follow import Follower
from syncer.cli.web.index import Index
from syncer.cli.web.layout import link
from syncer.cli.web.source import Source
from syncer.cli.web.updates import Updates
from syncer.runtime.connections import Connections, Handler, Listener, listen

ADDRESS: Final = "127.0.0.1"
#: Rows of a page of the list.
ROWS: Final = 50
#: Pages that are made at once; others wait, and all have so many seconds.
_TOGETHER: Final = 8
_SECONDS: Final = 25.0
_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_METHODS: Final = frozenset({"GET", "HEAD"})
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ASSETS: Final = {
    "explorer.css": "text/css", "explorer.js": "text/javascript", "icon.svg": "image/svg+xml",
}  # fmt: skip

logger = logging.getLogger("ledger.explorer")


def host_allowed(host: str | None) -> bool:
    """Whether a Host header names this machine's loopback, with any port: a forwarded one is arbitrary."""
    try:
        return urlsplit(f"//{host}").hostname in _HOSTS and "@" not in (host or "")
    except ValueError:
        return False


def asked_from_here(headers: Mapping[str, str]) -> bool:
    """
    Whether a request comes from our own pages, from a person, or from what is no browser.

    Another port of this machine is another origin, whose pages are as foreign as any. A browser that does
    not tell where a request comes from tells its origin with all that a script or a stream asks for.
    """
    origin, host = headers.get("Origin"), headers.get("Host")
    if origin is not None and origin not in {f"http://{host}", f"https://{host}"}:
        return False
    if headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}:
        return True
    return (
        headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    )


class Explorer:
    """The server."""

    def __init__(self, source: Source, index: Index, follower: Follower) -> None:
        """Prepare; `listen` opens the port. Open pages follow changes of the index."""
        self._source = source
        self._index = index
        self._follower = follower
        self._updates = Updates()
        self._making = asyncio.Semaphore(_TOGETHER)
        self._assets = {
            name: files("syncer.cli.web").joinpath("assets", name).read_bytes() for name in _ASSETS
        }
        index.on_change = self._updates.tell
        app = web.Application(middlewares=[self._guard])
        self._app = app
        self._connections = Connections()
        self._listeners: list[Listener] = []
        app.router.add_get("/", self._page(self._list))
        app.router.add_get("/n/{namespace}/{name}", self._page(self._notification))
        app.router.add_get("/receivers", self._page(self._receivers))
        app.router.add_get("/shards", self._page(self._shards))
        app.router.add_get("/health", self._page(self._health))
        app.router.add_get("/events", self._events)
        app.router.add_get("/assets/{name}", self._asset)

    async def listen(self, port: int) -> int:
        """Listen on loopback; returns the port. OSError if it cannot be bound."""
        return await self._open(self._app, ADDRESS, port, self._connections)

    async def listen_for_probes(self, host: str, port: int) -> int:
        """Answer `/healthz` alone on an address; returns the port. OSError if it cannot be bound."""
        connections = Connections()
        app = web.Application(middlewares=[connections.counted])
        app.router.add_get("/healthz", self._healthz)
        return await self._open(app, host, port, connections)

    async def _open(
        self, app: web.Application, host: str, port: int, connections: Connections
    ) -> int:
        # Work for a client that has gone would take the place of another's.
        listener = await listen(app, host, port, connections, cancels=True)
        self._listeners.append(listener)
        return listener.port

    async def close(self) -> None:
        """Stop listening, and end what is under way."""
        while self._listeners:
            await self._listeners.pop().close()
        await self._source.close()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_HEADERS)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._connections.on_request(request.transport)
        if not host_allowed(request.headers.get("Host")):
            answer = self._problem(
                421, "Not here", "This server answers to 127.0.0.1 and localhost."
            )
        elif not asked_from_here(request.headers):
            answer = self._problem(403, "Not for other sites", "Open this page by its address.")
        elif request.method not in _METHODS:
            answer = self._problem(405, "Read only", "Nothing can be changed here.")
            answer.headers["Allow"] = "GET, HEAD"
        else:
            try:
                return await handler(request)
            except web.HTTPException as error:
                answer = self._problem(
                    error.status, "No such page", "There is nothing at this address."
                )
        # What was sent along is not read, so the connection cannot go on.
        answer.force_close()
        return answer

    def _page(self, make: Callable[[web.Request], Awaitable[str | None]]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                async with asyncio.timeout(_SECONDS), self._making:
                    text = await make(request)
            except TimeoutError:
                return self._problem(
                    503, "Not in time", f"There was no answer within {_SECONDS:g} s."
                )
            except Exception:
                # A page that cannot be made must not end the others; what it was is in the log.
                logger.exception("a page could not be rendered: %s", request.path)
                return self._problem(
                    500, "Internal error", "This page could not be rendered; the log says why."
                )
            if text is None:
                return self._problem(
                    404, "No such notification", "There is no notification of this name."
                )
            return _html(200, text)

        return handle

    @staticmethod
    def _problem(code: int, title: str, text: str) -> web.Response:
        return _html(code, pages.problem(title, text))

    # -- pages ------------------------------------------------------------------------------------

    async def _list(self, request: web.Request) -> str:
        query = Query.of(request.query)
        now = await self._source.now()
        holds, unread = await self._source.holds()
        placed = Placed(tuple(h for h in holds if h.in_force(now)), now)
        entries, more = await self._index.page(query, ROWS, placed)
        heads = await self._source.heads(entries)
        totals = pages.Totals(
            self._index.phases, self._index.namespaces, self._follower.complete, self._index.cut
        )
        missing = self._missing(now)
        if unread:
            missing.append(f"The holds are not known: {unread}")
        return pages.listed(entries, heads, query, totals, placed, more=more, missing=missing)

    async def _notification(self, request: web.Request) -> str | None:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        known = await self._source.known(namespace, name)
        if known is None:
            return None
        return pages.notification(known, events=link("/events", {"key": known.key}))

    async def _receivers(self, _request: web.Request) -> str:
        overview = await self._source.receivers.get()
        return pages.receivers(overview, missing=self._missing(overview.now))

    async def _shards(self, _request: web.Request) -> str:
        return pages.shards(await self._source.leases.get(), missing=())

    async def _health(self, _request: web.Request) -> str:
        missing = self._missing(await self._source.now())
        try:
            results = await self._source.examination.get()
        except TimeoutError:
            return pages.health([], missing=[*missing, "The checks did not end in time."])
        return pages.health(results, missing=missing)

    def _missing(self, now: int) -> list[str]:
        """Say why the entries may be out of date."""
        if not self._follower.problem:
            return []
        ago = in_words(now - round(self._follower.since * 1000))
        return [f"Notifications are as they were {ago} ago: {self._follower.problem}"]

    # -- the rest ---------------------------------------------------------------------------------

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self._assets:
            raise web.HTTPNotFound
        return web.Response(
            body=self._assets[name], headers={**_HEADERS, "Content-Type": _ASSETS[name]}
        )

    async def _events(self, request: web.Request) -> web.StreamResponse:
        with self._updates.join(request.query.get("key", "")) as client:
            if client is None:
                return self._problem(
                    503, "Too many pages", "Too many pages are open; this one is not live."
                )
            answer = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
            await answer.prepare(request)
            if request.method == "HEAD":
                return answer
            try:
                async for event in client.events():
                    await answer.write(event)
                    self._connections.on_request(request.transport)
            except ConnectionError:
                pass  # the page was closed
            return answer


def _html(code: int, text: str) -> web.Response:
    return web.Response(
        status=code, text=text, headers={**_HEADERS, "Content-Type": "text/html; charset=utf-8"}
    )
