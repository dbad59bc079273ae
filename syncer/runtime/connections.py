"""
Listening on ports that anybody may connect to: how many connections are allowed, and which one is closed.

Any client that reaches a port may open connections and send nothing. Each costs a descriptor, which the
rest of the process needs as well. So a connection ends if no request arrives in time, and their number
is bounded: a new one replaces the one that has been silent longest. Thus a well-behaved client is always
answered, which would not be the case if connections beyond the bound were refused.
"""

from __future__ import annotations

import asyncio
import asyncio.selector_events
import asyncio.sslproto
import logging
import math
import os
import resource
import ssl
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from syncer.model.errors import ConfigError, reason_of
from syncer.runtime.places import own

#: Maximum of open connections of one address, if nothing else is set.
_CONNECTIONS: Final = 64
#: Seconds within which the first request of a connection must arrive.
_FIRST: Final = 5.0
#: Seconds for which a connection may be silent between requests; also the time allowed to read an answer.
_IDLE: Final = 75.0
#: Connections that may wait to be accepted; in a larger burst, a probe would wait for a second SYN.
_BACKLOG: Final = 1024
#: Connections accepted in one turn of the loop: each takes a descriptor before another one is closed.
_ACCEPTED_AT_ONCE: Final = 16
#: Seconds for which the rest of a refused body is read, so that its sender gets to read the answer.
_LINGER: Final = 3.0
#: Seconds for a TLS handshake, and for a TLS shutdown.
_HANDSHAKE: Final = 5.0
_SHUTDOWN: Final = 2.0
#: Maximum of open descriptors that a process can use, with some to spare.
_DESCRIPTORS: Final = 65_536
#: Seconds between two log lines that say that no connection can be accepted.
_SELDOM: Final = 60.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _is_fit(record: logging.LogRecord) -> bool:
    """Drop records about requests that are not HTTP: the sender is answered; they may hold a secret."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, HttpProcessingError) or _expected(error))


def _expected(error: BaseException | None) -> bool:
    """Whether the error is what aiohttp raises for an `Expect` header that is not UTF-8."""
    if not isinstance(error, UnicodeEncodeError):
        return False
    steps = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == "_default_expect_handler" for frame, _ in steps)


class _Seldom(logging.Filter):
    """Passes the line that no connection can be accepted only once a minute; the loop logs it each time."""

    _said = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.getMessage().startswith("socket.accept() out of system resource"):
            return True
        again = record.created >= self._said + _SELDOM
        self._said = record.created if again else self._said
        return again


_logger: Final = logging.getLogger("ledger.http")
_logger.addFilter(_is_fit)
logging.getLogger("asyncio").addFilter(_Seldom())


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


class Connections:
    """
    The open connections of one address: without a request yet, with one, and kept open by `hold`.

    At the bound, the connection that has been silent longest is closed: one with a request if these take
    more than half of the places, else one without. So neither clients that send one request and stay nor
    clients that send none can take all places. A connection kept by `hold` is not closed for another one;
    the caller of `hold` bounds their number.
    """

    def __init__(
        self, most: int = _CONNECTIONS, first: float = _FIRST, idle: float = _IDLE
    ) -> None:
        self._most, self._first, self.idle = most, first, idle
        #: When each connection is closed, by the loop's clock.
        self._silent: OrderedDict[asyncio.Transport, float] = OrderedDict()
        self._active: OrderedDict[asyncio.Transport, float] = OrderedDict()
        self._held: set[asyncio.Transport] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, transport: asyncio.Transport) -> None:
        """Add a connection; at the bound another one is closed for it."""
        self._forget_closed()
        while self._silent or self._active:
            if len(self._silent) + len(self._active) + len(self._held) < self._most:
                break
            group = self._active if len(self._active) > self._most // 2 else self._silent
            group = group or self._active
            group.popitem(last=False)[0].abort()
        loop = asyncio.get_running_loop()
        self._silent[transport] = loop.time() + self._first
        if self._timer is None:
            self._timer = loop.call_later(self._first / 2, self._sweep)

    def on_request(self, transport: asyncio.Transport | None) -> None:
        """Note that a request arrived on a connection."""
        if transport is None or transport.is_closing():
            return
        self._silent.pop(transport, None)
        self._held.discard(transport)
        self._active[transport] = asyncio.get_running_loop().time() + self.idle
        self._active.move_to_end(transport)

    @web.middleware
    async def counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note each request of an application, before it is handled."""
        self.on_request(request.transport)
        return await handler(request)

    def replace(self, before: asyncio.Transport, transport: asyncio.Transport) -> None:
        """Replace a connection by the one that a handshake has turned it into."""
        until = self._silent.pop(before, None)
        if until is not None:
            self._silent[transport] = until

    def hold(self, transport: asyncio.Transport | None) -> None:
        """Keep a connection open while its request is being handled; `on_request` ends that."""
        if transport is not None and self._active.pop(transport, None) is not None:
            self._held.add(transport)

    def close(self) -> None:
        """Stop closing connections."""
        if self._timer is not None:
            self._timer.cancel()

    def _forget_closed(self) -> None:
        for group in (self._silent, self._active):
            for transport in [t for t in group if t.is_closing()]:
                del group[transport]
        self._held = {t for t in self._held if not t.is_closing()}

    def _sweep(self) -> None:
        self._timer = None
        self._forget_closed()
        loop = asyncio.get_running_loop()
        now = loop.time()
        for group in (self._silent, self._active):
            for transport in [t for t, until in group.items() if until <= now]:
                transport.abort()
        if self._silent or self._active or self._held:
            self._timer = loop.call_later(self._first / 2, self._sweep)


@contextmanager
def binding(address: object, path: str) -> Iterator[None]:
    """Raise ConfigError, which names the setting (`path`), for the OSError of an unusable address."""
    try:
        yield
    except OSError as error:
        # Not asyncio's text, which repeats the address in its own words.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else reason_of(error)
        raise ConfigError(f"cannot listen on {own(str(address))}: {reason}", path=path) from error


class _Arrival(asyncio.Protocol):
    """
    Counts a new connection, does the TLS handshake if TLS is wanted, and passes it to its protocol.

    A connection is counted before its handshake, so one that never ends its handshake takes a place, and is
    closed, as a silent connection.
    """

    def __init__(
        self,
        connections: Connections,
        protocol: asyncio.Protocol,
        tls: Callable[[], ssl.SSLContext] | None,
        tasks: set[asyncio.Task[None]],
    ) -> None:
        self._connections = connections
        self._protocol = protocol
        self._tls = tls
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, then pass it on or begin the handshake."""
        stream = cast("asyncio.Transport", transport)
        self._connections.add(stream)
        if self._tls is None:
            stream.set_protocol(self._protocol)
            self._protocol.connection_made(transport)
            return
        # Data that has arrived belongs to the handshake.
        stream.pause_reading()
        task = asyncio.get_running_loop().create_task(self._secure(stream, self._tls))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _secure(self, stream: asyncio.Transport, tls: Callable[[], ssl.SSLContext]) -> None:
        try:
            secured = await asyncio.get_running_loop().start_tls(
                stream, self._protocol, tls(), server_side=True,
                ssl_handshake_timeout=_HANDSHAKE, ssl_shutdown_timeout=_SHUTDOWN,
            )  # fmt: skip
        except (OSError, ssl.SSLError):
            # A stranger, a port scan, or a client that rejects the certificate; its own log says which.
            stream.abort()
            return
        if secured is None:  # it was closed meanwhile
            stream.abort()
            return
        self._connections.replace(stream, secured)
        self._protocol.connection_made(secured)


@dataclass(frozen=True, slots=True)
class Listener:
    """An application that is served on an address."""

    runner: web.AppRunner
    server: asyncio.Server
    connections: Connections

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self.server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and let requests under way end."""
        self.server.close()
        await self.runner.cleanup()
        self.connections.close()


async def listen(
    app: web.Application,
    host: str,
    port: int,
    connections: Connections,
    *,
    shutdown_seconds: float = 1.0,
    read_buffer: int = 1 << 16,
    cancels: bool = False,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> Listener:
    """
    Serve an application on an address.

    Args:
        app: The application, which must tell `connections` of each request.
        host: Address to listen on; empty for every interface.
        port: Port to listen on; 0 for any free one.
        connections: Bounds the open connections.
        shutdown_seconds: Seconds for requests that are under way when the runner is cleaned up.
        read_buffer: Bytes of a body that are read ahead of the handler.
        cancels: Whether the handler of a request is cancelled when its client has gone.
        tls: Returns the TLS context for a new connection; None for no TLS.

    Raises:
        OSError: the address cannot be bound.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_logger,
        shutdown_timeout=shutdown_seconds,
        keepalive_timeout=connections.idle,
        read_bufsize=read_buffer,
        lingering_time=_LINGER,
        handler_cancellation=cancels,
        # A few bytes could expand to any size, and a signature covers the bytes as they arrived.
        auto_decompress=False,
    )
    await runner.setup()
    serve = cast("web.Server", runner.server)
    tasks: set[asyncio.Task[None]] = set()
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: _Arrival(connections, serve(), tls, tasks),
            host or None,
            port,
            reuse_address=True,
            backlog=_ACCEPTED_AT_ONCE,
        )
    except OSError:
        await runner.cleanup()
        raise
    for listening in server.sockets:
        # asyncio uses `backlog` both for how many may wait and for how many it accepts in one go.
        with listening.dup() as same:
            same.listen(_BACKLOG)
    return Listener(runner, server, connections)
