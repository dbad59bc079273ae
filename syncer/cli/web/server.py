"""
The explorer's HTTP server: pages, two assets, a stream of changes.

Anybody who reaches the port can read everything, so the server listens on loopback only, and the Kubernetes
right to forward ports decides who has access. A browser there also runs the pages of other sites. So a
request whose Host is not this machine is refused (a name that was rebound to 127.0.0.1 is another one), and
so is a request from another site unless somebody follows a link (the site could take all streams). No other
site may frame a page or read an answer, and the policy lets a page load nothing but this server's own style
and script. There is no method but GET and HEAD, and no body is read.

An event of the stream has no content: a page that receives one fetches itself again. Changes are gathered
for a moment, so a burst costs each page at most two fetches a second. A page whose stream is refused
retries every few seconds. The bound on silent connections disconnects a client that does not read.

Bounds: connections (`syncer.runtime.connections`), pages rendered at once, seconds for each, open streams,
characters of a filter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

from aiohttp import web

from syncer.cli.access import Access
from syncer.cli.doctor import Grade, Result, examine
from syncer.cli.installation import read_holds
from syncer.cli.known import API, REDIS, Asker, Missing, know
from syncer.cli.output import in_words
from syncer.cli.receivers import Overview, read_skips
from syncer.cli.rows import Head, Placed, Row
from syncer.cli.status import Line, report
from syncer.cli.times import now_here
from syncer.cli.web import pages
from syncer.cli.web.index import Follower, Index
from syncer.cli.web.pages import tell
from syncer.cli.web.search import Search, position_of, search_of
from syncer.model.errors import ContractError
from syncer.runtime.connections import Connections, Handler, Listener, listen
from syncer.runtime.supervise import elapse, end

#: Pages that may follow changes at the same time.
MOST: Final = 32
#: Seconds for which changes are gathered, between two changes that are sent, and until a heartbeat is sent.
GATHERED: Final = 0.25
PAUSE: Final = 0.5
HEARTBEAT: Final = 15.0


async def _events_of(changed: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield the events for an open page, without end; `changed` is set when something has changed."""
    yield b"retry: 3000\nevent: hello\ndata: {}\n\n"
    while True:
        await elapse(HEARTBEAT, changed)
        if not changed.is_set():
            # Times on a page become outdated, and logs grow without a change of the object.
            yield b"event: tick\ndata: {}\n\n"
            continue
        await asyncio.sleep(GATHERED)
        changed.clear()
        yield b"event: change\ndata: {}\n\n"
        await asyncio.sleep(PAUSE - GATHERED)


class Updates:
    """The open pages, each with the key of the notification that it shows, empty for all."""

    def __init__(self) -> None:
        """Begin without open pages."""
        self._pages: dict[asyncio.Event, str] = {}

    def tell(self, key: str) -> None:
        """Notify the pages that show a notification of a change; with an empty key, all pages."""
        for changed, about in self._pages.items():
            if not (about and key) or key == about:
                changed.set()

    @contextmanager
    def join(self, key: str) -> Iterator[AsyncIterator[bytes] | None]:
        """Yield the events for a page while the block runs; None if there are too many pages."""
        if len(self._pages) >= MOST:
            yield None
            return
        changed = asyncio.Event()
        self._pages[changed] = key
        try:
            yield _events_of(changed)
        finally:
            del self._pages[changed]


T = TypeVar("T")

ADDRESS: Final = "127.0.0.1"
#: Rows of a page of the list.
ROWS: Final = 50
#: Namespaces that the list offers to choose from.
_OFFERED: Final = 200
#: Seconds for an answer of a server, and for the checks of `doctor`; seconds for which the shared report
#: and the shared checks count as fresh.
_ANSWER: Final = 3.0
_DOCTOR: Final = 20.0
_FRESH: Final = 2.0
_EXAMINED: Final = 30.0
#: The page that a line of the status links to.
_PAGES: Final = {
    "REPLICAS": "/health", "REDIS": "/health", "ROUTING": "/health", "RECEIVERS": "/receivers",
    "STUCK": "/list?state=unfinished", "UNKNOWN": "/list?state=unknown",
    "FAILED": "/list?state=lost&since=1d", "QUARANTINED": "/list?state=quarantined",
    "JOURNALED": "/list?state=journaled", "HELD BACK": "/list?state=held",
}  # fmt: skip
#: Pages rendered at once, while others wait; seconds for a page, including that wait.
_TOGETHER: Final = 8
_SECONDS: Final = 25.0
_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_ORDER: Final = (Grade.FAIL, Grade.WARN, Grade.UNKNOWN, Grade.OK)
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

#: Title and text for a request that gets no page, by status code.
_NOTHING: Final = ("No such page", "There is nothing at this address.")
_PROBLEMS: Final = {
    403: ("Not for other sites", "Open this page by its address."),
    405: ("Read only", "Nothing can be changed here."),
    421: ("Not here", "This server answers to 127.0.0.1 and localhost."),
    500: ("Internal error", "This page could not be rendered; the log says why."),
    503: ("Not in time", f"There was no answer within {_SECONDS:g} s."),
}

logger = logging.getLogger("ledger.explorer")


def host_allowed(host: str | None) -> bool:
    """Whether a Host header names this machine's loopback, with any port: forwarded ports are arbitrary."""
    try:
        return urlsplit(f"//{host}").hostname in _HOSTS and "@" not in (host or "")
    except ValueError:
        return False


def asked_from_here(headers: Mapping[str, str]) -> bool:
    """
    Whether a request comes from our own pages, from a person, or from a client that is no browser.

    Another port of this machine is another origin, whose pages are as foreign as any. A browser that sends
    no `Sec-Fetch-Site` still sends `Origin` with every request of a script or a stream.
    """
    origin, host = headers.get("Origin"), headers.get("Host")
    if origin is not None and origin not in {f"http://{host}", f"https://{host}"}:
        return False
    if headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}:
        return True
    return (
        headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    )


class Shared(Generic[T]):
    """A value that is read once and shared by all callers for some seconds."""

    def __init__(self, read: Callable[[], Awaitable[T]], fresh: float) -> None:
        """Read nothing yet; the result of `read` is used for `fresh` seconds."""
        self._read = read
        self._fresh = fresh
        self._task: asyncio.Future[T] | None = None
        self._until = 0.0

    async def get(self) -> T:
        """Return the value, and read it unless it is fresh; raises what the read raises."""
        now = time.monotonic()
        if self._task is None or (self._task.done() and now >= self._until):
            self._task = asyncio.ensure_future(self._read())
            self._task.add_done_callback(self._stamp)
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """Cancel a read that is under way."""
        if self._task is not None:
            await end(self._task)

    def _stamp(self, task: asyncio.Future[T]) -> None:
        self._until = time.monotonic() + self._fresh
        if not task.cancelled():
            task.exception()  # the callers raise it; without callers, asyncio need not report it


class Explorer:
    """The HTTP server of the explorer."""

    def __init__(
        self, at: Access, index: Index, follower: Follower, *, namespaces: Sequence[str], home: str
    ) -> None:
        """
        Prepare; `listen` opens the port. Open pages follow changes of the index.

        Without `namespaces` all are shown; `home` is the controller's namespace, empty if not known.
        """
        self._at = at
        self._index = index
        self._follower = follower
        self._namespaces = namespaces
        self._home = home
        self._asker = Asker(_ANSWER)
        self._report = Shared(self._read_report, _FRESH)
        self._examination = Shared(self._examine, _EXAMINED)
        self._updates = Updates()
        self._making = asyncio.Semaphore(_TOGETHER)
        self._assets = {
            name: files("syncer.cli.web").joinpath("assets", name).read_bytes() for name in _ASSETS
        }
        index.on_change = self._updates.tell
        self._app = web.Application(middlewares=[self._guard])
        self._connections = Connections()
        self._listeners: list[Listener] = []
        handlers: dict[str, Handler] = {
            "/": self._page(self._now), "/list": self._page(self._list),
            "/n/{namespace}/{name}": self._page(self._notification),
            "/receivers": self._page(self._receivers), "/health": self._page(self._health),
            "/events": self._events, **{f"/assets/{name}": self._asset for name in _ASSETS},
        }  # fmt: skip
        self._app.add_routes([web.get(path, handler) for path, handler in handlers.items()])

    async def listen(self, port: int) -> int:
        """Listen on loopback; returns the port. OSError if it cannot be bound."""
        return await self._open(self._app, ADDRESS, port, self._connections)

    async def listen_for_probes(self, host: str, port: int) -> int:
        """Serve only `/healthz` on an address; returns the port. OSError if it cannot be bound."""
        connections = Connections()
        app = web.Application(middlewares=[connections.counted])
        app.router.add_get("/healthz", self._healthz)
        return await self._open(app, host, port, connections)

    async def _open(
        self, app: web.Application, host: str, port: int, connections: Connections
    ) -> int:
        # Cancel work for a client that has gone; it would take the place of another request.
        listener = await listen(app, host, port, connections, cancels=True)
        self._listeners.append(listener)
        return listener.port

    async def close(self) -> None:
        """Stop listening, and cancel reads that are under way."""
        while self._listeners:
            await self._listeners.pop().close()
        for shared in (self._report, self._examination):
            await shared.close()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_HEADERS)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._connections.on_request(request.transport)
        code = 0
        if not host_allowed(request.headers.get("Host")):
            code = 421
        elif not asked_from_here(request.headers):
            code = 403
        elif request.method not in _METHODS:
            code = 405
        try:
            if not code:
                return await handler(request)
        except web.HTTPException as error:
            code = error.status
        answer = _problem(code)
        if code == 405:
            answer.headers["Allow"] = "GET, HEAD"
        # The body of the request is not read, so the connection cannot be reused.
        answer.force_close()
        return answer

    def _page(self, make: Callable[[web.Request], Awaitable[str | None]]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                async with asyncio.timeout(_SECONDS), self._making:
                    text = await make(request)
            except TimeoutError:
                return _problem(503)
            except Exception:
                # An error in one page must not affect the others; it is logged.
                logger.exception("a page could not be rendered: %s", request.path)
                return _problem(500)
            if text is None:
                return _problem(
                    404, "No such notification", "There is no notification of this name."
                )
            return _html(200, text)

        return handle

    # -- pages ------------------------------------------------------------------------------------

    async def _now(self, _request: web.Request) -> str:
        missing: list[str] = []
        (lines, _), placed = await self._report.get(), await self._placed(missing)
        # Bad lines come first, then unknown ones.
        lines = sorted(lines, key=lambda line: 1 if line.good is None else 2 * line.good)
        missing += self._missing(placed.now)
        query = Search(states=("attention",))
        found, more = await self._index.page(query, ROWS, placed)
        return pages.page(
            "now", title="Now", here="/", lines=lines, pages=_PAGES, found=found, more=more,
            heads=await self._heads(found, missing), placed=placed, missing=missing, events="/events",
            holds=[h for h in placed.holds if placed.now < h.until], complete=self._follower.complete,
        )  # fmt: skip

    async def _list(self, request: web.Request) -> str:
        missing: list[str] = []
        placed = await self._placed(missing)
        missing += self._missing(placed.now)
        words = {name: text.strip() for name, text in request.query.items()}
        query, by = search_of(words, placed.now), words.get("group", "")
        groups, found, more = None, list[Row](), False
        if by in {"event", "receiver"}:
            groups = await self._index.groups(query, placed, by)
        else:
            found, more = await self._index.page(query, ROWS, placed)
        return pages.page(
            "list", title="Notifications", here="/list", words=words, groups=groups, found=found, more=more,
            last=position_of(found[-1]).token if found else "", counts=self._index.phases,
            heads=await self._heads(found, missing), placed=placed, missing=missing, events="/events",
            namespaces=self._index.namespaces[:_OFFERED], complete=self._follower.complete,
            cut=self._index.cut,
        )  # fmt: skip

    async def _notification(self, request: web.Request) -> str | None:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        key, row = f"{namespace}/{name}", self._index.get(namespace, name)
        found = await know(self._at, key, self._asker, uid=row.uid if row else "", home=self._home)
        if found is None:
            return None
        missing = list(found.missing)
        if found.gone:
            missing.append("The object no longer exists: this is its log.")
        return pages.page(
            "notification", title=key, here="", known=found, story=tell(found.request, found.log),
            missing=missing, events=pages.link("/events", {"key": key}),
        )  # fmt: skip

    async def _receivers(self, _request: web.Request) -> str:
        _, counts = await self._report.get()
        missing = self._missing(counts.placed.now)
        try:
            await self._asker.ask(REDIS, lambda: read_skips(self._at, counts))
        except (Missing, ContractError) as error:
            missing.append(f"{error}: whether a breaker is open is not known")
        return pages.page(
            "receivers", title="Receivers", here="/receivers", counts=counts, missing=missing,
            events="/events",
        )  # fmt: skip

    async def _health(self, _request: web.Request) -> str:
        missing = self._missing(now_here())
        results: Sequence[Result] = ()
        owners: Mapping[str, Sequence[int]] = {}
        try:
            results, owners = await self._examination.get()
        except TimeoutError:
            missing.append("The checks did not end in time.")
        return pages.page(
            "health", title="Health", here="/health", owners=owners, missing=missing,
            results=sorted(results, key=lambda r: _ORDER.index(r.grade)),
        )  # fmt: skip

    # -- what pages show --------------------------------------------------------------------------

    async def _read_report(self) -> tuple[list[Line], Overview]:
        """Read the lines of `syncer status`; the counts come from the index."""
        counts = Overview(Placed(now=now_here()), 0)

        async def counted(fresh: Overview) -> list[str]:
            nonlocal counts
            counts = fresh
            async for row in self._index.walk():
                counts.take(row)
            return []

        return await report(self._at, counted, home=self._home), counts

    async def _examine(self) -> tuple[list[Result], Mapping[str, Sequence[int]]]:
        async with asyncio.timeout(_DOCTOR):
            return await examine(
                self._at, namespaces=self._namespaces, home=self._home, account="", reader=True
            )

    async def _placed(self, missing: list[str]) -> Placed:
        """Return the operators' holds, and the time."""
        try:
            holds, problem = await self._asker.ask(API, lambda: read_holds(self._at))
        except Missing as error:
            holds, problem = (), str(error)
        if problem:
            missing.append(f"The holds are not known: {problem}")
        return Placed(holds, now_here())

    async def _heads(self, found: Sequence[Row], missing: list[str]) -> dict[str, Head]:
        """Read the heads of the logs of rows, by uid."""
        uids = [row.uid for row in found]
        try:
            heads = await self._asker.ask(REDIS, lambda: self._at.log.read_headers(uids))
        except (Missing, ContractError) as error:
            missing.append(f"{error}: whether everything is published is not known")
            return {}
        return {uid: Head.of(head) for uid, head in zip(uids, heads, strict=True)}

    def _missing(self, now: int) -> list[str]:
        """Return why the rows may be out of date; empty if they are not."""
        if not self._follower.problem:
            return []
        ago = in_words(now - round(self._follower.since * 1000))
        return [f"Notifications are as they were {ago} ago: {self._follower.problem}"]

    # -- the rest ---------------------------------------------------------------------------------

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        headers = {**_HEADERS, "Content-Type": _ASSETS[name]}
        return web.Response(body=self._assets[name], headers=headers)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        with self._updates.join(request.query.get("key", "")) as events:
            if events is None:
                return _problem(503, "Too many pages", "This one is not live.")
            answer = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
            await answer.prepare(request)
            if request.method == "HEAD":
                return answer
            try:
                async for event in events:
                    await answer.write(event)
                    self._connections.on_request(request.transport)
            except ConnectionError:
                pass  # the page was closed
            return answer


def _problem(code: int, title: str = "", text: str = "") -> web.Response:
    said = (title, text) if title else _PROBLEMS.get(code, _NOTHING)
    return _html(code, pages.page("problem", title=said[0], here="", text=said[1]))


def _html(code: int, text: str) -> web.Response:
    return web.Response(
        status=code, text=text, headers={**_HEADERS, "Content-Type": "text/html; charset=utf-8"}
    )
