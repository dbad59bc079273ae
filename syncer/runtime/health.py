"""
The admin server: liveness, readiness with reasons, metrics.

`/healthz` is 200 while the event loop turns. `/readyz` is 200 only when no check has a reason against it;
otherwise it lists the reasons, one a line. Checks are plain functions that read state and never use the
network: a probe must not hang.

The health port is bound before anything else. It is part of this process's identity: the process that
holds the port is alive, so a lease under the same identity belongs to a predecessor.

Any client that reaches the port may open connections and send nothing. Each costs a descriptor, and
deliveries need those as well. So a connection ends if no request arrives in time, and their number is
bounded: the one that has been silent longest is closed for a new one. A probe is then answered whatever
else is open, which would not be so if connections beyond the bound were refused.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, cast

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from syncer.rules.text import escaped

#: Returns what is missing, None if nothing is.
Check = Callable[[], "str | None"]

#: Connections of one address at once.
CONNECTIONS: Final = 64
#: Seconds within which the first request of a connection must have come.
FIRST_SECONDS: Final = 5.0
#: Seconds for which a connection may be silent between requests; also what an answer may take to be read.
IDLE_SECONDS: Final = 75.0
#: Connections that wait to be accepted; a burst beyond it would have a probe wait for a second SYN.
_BACKLOG: Final = 1024
#: Connections accepted in one turn of the loop: each has its descriptor before another one is closed.
_ACCEPTED_AT_ONCE: Final = 16
#: Open descriptors that a process of ours can use at most, with some to spare.
_DESCRIPTORS: Final = 65_536
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def raise_descriptor_limit() -> int:
    """
    Raise the soft limit of open descriptors to what the hard one allows; returns what it is now.

    Shells and container runtimes start processes with 1,024, a number for programs that use `select`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class _Connections:
    """
    The open connections of one address: those without a request yet, and those with one.

    Of each kind the one that has been silent longest comes first. Those with a request may hold half of the
    places, so that neither many that send one and stay, nor many that send none, take all of them.
    """

    def __init__(self, most: int, first: float, idle: float) -> None:
        self._most, self._first, self._idle = most, first, idle
        #: When each is ended, by the loop's clock.
        self._silent: OrderedDict[asyncio.Transport, float] = OrderedDict()
        self._active: OrderedDict[asyncio.Transport, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, transport: asyncio.Transport) -> None:
        """Take a new one; at the bound another one is closed for it."""
        self._forget_closed()
        while len(self._silent) + len(self._active) >= self._most:
            group = self._active if len(self._active) > self._most // 2 else self._silent
            group.popitem(last=False)[0].abort()
        loop = asyncio.get_running_loop()
        self._silent[transport] = loop.time() + self._first
        if self._timer is None:
            self._timer = loop.call_later(self._first / 2, self._sweep)

    def on_request(self, transport: asyncio.Transport | None) -> None:
        """Note that a request arrived over one."""
        if transport is None or transport.is_closing():
            return
        self._silent.pop(transport, None)
        self._active[transport] = asyncio.get_running_loop().time() + self._idle
        self._active.move_to_end(transport)

    def close(self) -> None:
        """Forget all of them."""
        self._silent.clear()
        self._active.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _forget_closed(self) -> None:
        for group in (self._silent, self._active):
            for transport in [t for t in group if t.is_closing()]:
                del group[transport]

    def _sweep(self) -> None:
        self._timer = None
        self._forget_closed()
        loop = asyncio.get_running_loop()
        now = loop.time()
        for group in (self._silent, self._active):
            for transport in [t for t, until in group.items() if until <= now]:
                del group[transport]
                transport.abort()
        if self._silent or self._active:
            self._timer = loop.call_later(self._first / 2, self._sweep)


class _Arrival(asyncio.Protocol):
    """Counts a new connection and passes it to its protocol."""

    def __init__(self, connections: _Connections, protocol: asyncio.Protocol) -> None:
        self._connections = connections
        self._protocol = protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count, and step aside."""
        stream = cast("asyncio.Transport", transport)
        self._connections.add(stream)
        stream.set_protocol(self._protocol)
        self._protocol.connection_made(transport)


class AdminServer:
    """Serves health and metrics on one or two addresses."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        connections: int = CONNECTIONS,
        first_seconds: float = FIRST_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """
        Args:
            registry: What is scraped.
            connections: As `CONNECTIONS`.
            first_seconds: As `FIRST_SECONDS`.
            idle_seconds: As `IDLE_SECONDS`.
        """  # noqa: D205 - the class says what it is
        self._registry = registry
        self._refresh: Callable[[], None] = lambda: None
        self._checks: dict[str, Check] = {}
        self._details: dict[str, Check] = {}
        self._bounds = connections, first_seconds, idle_seconds
        self._runners: list[web.AppRunner] = []
        self._servers: list[tuple[asyncio.Server, _Connections]] = []

    def check(self, name: str, check: Check) -> None:
        """Add something that readiness depends on, in the place of one of that name."""
        self._checks[name] = check

    def detail(self, name: str, check: Check) -> None:
        """Add something that readiness mentions but does not depend on."""
        self._details[name] = check

    def on_scrape(self, refresh: Callable[[], None]) -> None:
        """Have gauges brought up to date right before they are scraped."""
        self._refresh = refresh

    def problems(self) -> Mapping[str, str]:
        """What keeps the process from being ready, by check."""
        found = {name: check() for name, check in self._checks.items()}
        return {name: problem for name, problem in found.items() if problem}

    async def bind(self, host: str, port: int, *, health: bool, metrics: bool) -> int:
        """
        Listen on an address, for health, metrics or both; returns the port.

        Raises:
            OSError: the address cannot be bound.
        """
        connections = _Connections(*self._bounds)

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            connections.on_request(request.transport)
            return await handler(request)

        app = web.Application(middlewares=[count])
        if health:
            app.router.add_get("/healthz", self._healthz)
            app.router.add_get("/readyz", self._readyz)
        if metrics:
            app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=self._bounds[2]
        )
        await runner.setup()
        self._runners.append(runner)
        serve = cast("web.Server", runner.server)
        server = await asyncio.get_running_loop().create_server(
            lambda: _Arrival(connections, serve()),
            host or None,
            port,
            reuse_address=True,
            backlog=_ACCEPTED_AT_ONCE,
        )
        for listening in server.sockets:
            # What asyncio takes for both: how many wait, and how many it accepts in one go.
            with listening.dup() as same:
                same.listen(_BACKLOG)
        self._servers.append((server, connections))
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening."""
        while self._servers:
            server, connections = self._servers.pop()
            server.close()
            connections.close()
        while self._runners:
            await self._runners.pop().cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_HEADERS)

    async def _readyz(self, _request: web.Request) -> web.Response:
        problems = self.problems()
        lines = [f"[-] {name}: {escaped(problem)}" for name, problem in problems.items()]
        lines += [f"[+] {name}: ok" for name in self._checks if name not in problems]
        notes = {name: check() for name, check in self._details.items()}
        lines += [f"[!] {name}: {escaped(note)}" for name, note in notes.items() if note]
        return web.Response(
            status=503 if problems else 200, text="\n".join(lines) + "\n", headers=_HEADERS
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        self._refresh()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(
            body=encode(self._registry), headers={**_HEADERS, "Content-Type": content_type}
        )
