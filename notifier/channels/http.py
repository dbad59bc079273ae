"""
The only client for outbound HTTP.

Every request to a receiver goes through `HttpClient.post`, which returns an `Outcome`; nothing here raises
for what a receiver, a name server or a proxy did. Guarantees:

- Each request is sent once: no redirect is followed, nothing is re-sent.
- A connection is reused only within half a second, after a short rest, and while its socket has nothing to
  read: if the peer closes it just as it is reused, the outcome is unknown, and the message may be sent
  twice. docs/adr/0007 gives the reasons for these bounds.
- One deadline covers everything: waiting for a connection, resolving, dialling, TLS, sending, reading. Data
  that has not reached the receiver's machine by then is never delivered.
- Whether bytes were sent decides between *failed* and *unknown*. The request is marked as written when its
  head is handed to the socket, right after `may_leave` has been called. A status line that was read is an
  answer, whatever happens to the body.
- Answers are bounded: 64 KiB of body are read, a compressed body is inflated to at most as much, and
  1 KiB, sanitised and without the target's secrets, is kept as the excerpt. After 256 KiB on the wire the
  connection is closed, whatever the bytes are: heads of interim answers, or a body in chunks of one byte.
- Credentials (`Authorization`, a user in the URL) are sent over https or to this machine; over http only if
  the target allows it.
- Every address is checked after resolution and again at the socket (`egress`).
- TLS 1.2 or newer, the system's roots (`SSL_CERT_FILE` is honoured) and an optional bundle. The only TLS
  error that is permanent is a rejected certificate, recognised by the exception's type.
- Error texts consist of fixed phrases, error numbers and class names. The HTTP library's own texts contain
  the URL, which for most receivers is the credential, so they are never used.

Proxies come from the environment, but not through the library's `trust_env`, which also reads `.netrc` and
would send the credentials that it finds there.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from notifier.channels.base import Judge, Withheld, broken_off, classify_http, drop
from notifier.channels.dialling import Names, socket_for, tls_context
from notifier.channels.egress import EgressDenied, EgressGuard
from notifier.channels.http_answers import BODY_BYTES, parse_retry_after, status_of, text_of
from notifier.channels.targets import Target, parse_target, secrets_of
from notifier.channels.transport_errors import chain_of, describe, excerpt, lasting_fault
from notifier.contract import Outcome
from notifier.version import USER_AGENT
from syncer.runtime.proxies import in_clear, literal, proxy_for

_log = logging.getLogger("ledger.delivery")

#: Seconds for which an idle connection is kept: less than any usual server keeps one.
IDLE_SECONDS: Final = 0.5
#: Seconds of silence before a connection is reused: a peer that closes does so right after the answer.
REST_SECONDS: Final = 0.005
#: Seconds for a second look-up, in the rare case that the answer of the first is no longer cached.
_AGAIN_SECONDS: Final = 10.0
#: Largest body in bytes that is handed to the library in one piece.
_PIECE_BYTES: Final = 1 << 20


@dataclass(slots=True)
class _RequestState:
    """The state of one request; filled in while it runs."""

    may_leave: Callable[[], bool] = lambda: True
    written: bool = False
    resolved: bool = False
    code: int = 0
    retry_after: float | None = None
    encoding: str = ""
    body: bytearray = field(default_factory=bytearray)
    seen: bytearray = field(default_factory=bytearray)


_REQUEST_STATE: ContextVar[_RequestState] = ContextVar("request state")
#: Bytes of an answer that are searched for its status line, and bytes that are parsed at most.
_SEEN_BYTES: Final = 8 * 1024
_WIRE_BYTES: Final = 256 * 1024


class _BoundedAnswer(ResponseHandler):
    """
    Keeps the first bytes of an answer, limits its size, and decides whether its connection can be reused.

    The library's parser reports head and body together: if both arrive at once and the body is broken, the
    status line is lost, although the receiver has answered.

    The parser also accepts any number of interim answers, and chunks of any size. A small one costs as much
    as a large one, so a receiver could keep the event loop busy until the deadline.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._seen, self._taken = bytearray(), 0
        self._body: aiohttp.StreamReader | None = None
        self._heard = loop.time()

    def set_response_params(self, **params: Any) -> None:
        """Begin a request; called for every request, on a new connection or a reused one."""
        self._seen, self._taken, self._body = bytearray(), 0, None
        if request_state := _REQUEST_STATE.get(None):
            # With a proxy, the tunnel's protocol is called first; the receiver's comes last and counts.
            request_state.seen = self._seen
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Keep the body of a final answer; called with each head that was parsed, and its body."""
        self._body = data[1] if data[0].code >= 200 else None
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._seen += data[: max(0, _SEEN_BYTES - len(self._seen))]
        self._taken += len(data)
        if self._taken > _WIRE_BYTES:
            self.set_exception(HttpProcessingError(message="an answer without an end"))
            if self.transport is not None:
                self.transport.abort()
            return
        # The parser does not report where an answer ends. So the last byte is fed separately: if the answer
        # has ended before it, there is extra data.
        for part in (data[:-1], data[-1:]) if len(data) > 1 else (data,):
            if part and self._body is not None and self._body.is_eof():
                self.force_close()  # unsolicited data, and its rest may follow later
            if self.exception() is None:
                super().data_received(part)

    def close(self) -> None:
        """Close the connection; an abandoned request without an answer is not delivered later."""
        if self.transport is not None and not status_of(self._seen):
            drop(self.transport)
        super().close()

    def is_connected(self) -> bool:
        """
        Whether an idle connection may be reused; the pool calls this, and closes the connection if not.

        Unsolicited bytes would be taken for the next answer; an unread close makes the socket readable.
        """
        if not super().is_connected() or self.should_close:
            return False
        if self._loop.time() - self._heard < REST_SECONDS:
            return False
        return self.transport is not None and not _readable(self.transport)


def _readable(transport: asyncio.Transport) -> bool:
    """Whether a socket has something to read, including the end of the stream."""
    watch = select.poll()
    watch.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(watch.poll(0))


class HttpClient:
    """
    Sends requests; one per process, owned by the composition root.

    Create it in the running loop, and call `aclose` in the end.

    Args:
        guard: Checks every address before it is dialled.
        ca_file: PEM bundle trusted besides the system's roots; empty for none.
        tls: Context to use instead, for a peer with special requirements.
        clock: Unix milliseconds, to read dates in `Retry-After`.
        environment: Where proxies are looked up; the process's by default.
        connections: Maximum number of connections; further requests wait within their deadlines.

    Raises:
        OSError: the bundle cannot be read, or (`ssl.SSLError`) it holds no certificate.
    """

    def __init__(
        self,
        *,
        guard: EgressGuard | None = None,
        ca_file: str = "",
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        environment: Mapping[str, str] | None = None,
        connections: int = 256,
    ) -> None:
        self._guard = guard or EgressGuard()
        self._clock = clock
        self._environment = os.environ if environment is None else environment
        self._resolver = _GuardedResolver(self._guard)
        tls = tls or tls_context(ca_file)
        tls.set_alpn_protocols(["http/1.1"])
        trace = aiohttp.TraceConfig()
        # Called before the headers are written, despite its name.
        trace.on_request_headers_sent.append(_mark_written)
        connector = aiohttp.TCPConnector(
            ssl=tls,
            resolver=self._resolver,
            use_dns_cache=False,  # `Names` caches answers
            limit=connections,
            keepalive_timeout=IDLE_SECONDS,
            socket_factory=self._socket,
        )
        # There is no public way to set the protocol class.
        connector._factory = cast(  # noqa: SLF001, V101 - see above
            "partial[ResponseHandler]", partial(_BoundedAnswer, asyncio.get_running_loop())
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            # `_exchange` enforces the deadline: the library rounds its own timeouts up to whole seconds.
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_read=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            trust_env=False,
            trace_configs=[trace],
            read_bufsize=16 * 1024,
            max_line_size=8 * 1024,
            max_field_size=8 * 1024,
            max_headers=100,
        )

    async def aclose(self) -> None:
        """Close all connections; requests still running fail."""
        await self._session.close()
        await self._resolver.close()

    async def post(
        self,
        target: Target,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        timeout_s: float,
        kind: str,
        may_leave: Callable[[], bool] = lambda: True,
        method: str = "POST",
        judge: Judge | None = None,
    ) -> Outcome:
        """
        Send one request and return its outcome.

        Args:
            target: Where the request goes.
            body: Sent unchanged; None for no body.
            headers: Headers besides User-Agent, Host and Content-Length.
            timeout_s: Deadline in seconds for the whole exchange.
            kind: Channel type as the texts name it (`slack`).
            may_leave: Called right before the head is written; if false, nothing is sent.
            method: Method of the request.
            judge: Revises the outcome that follows from the code alone, given the answer's bounded text.
        """
        state = _RequestState(may_leave)
        outcome = await self._exchange(
            method, target, body, headers, state, timeout_s=timeout_s, kind=kind
        )
        if judge is None or not outcome.code:
            return outcome
        return judge(outcome, text_of(bytes(state.body), state.encoding))

    async def _exchange(
        self,
        method: str,
        target: Target,
        body: bytes | None,
        headers: Mapping[str, str],
        request_state: _RequestState,
        *,
        timeout_s: float,
        kind: str,
    ) -> Outcome:
        try:
            url = parse_target(target.url)
            proxy = self._route(url)
            dialled = URL(proxy) if proxy else url
        except EgressDenied as exc:
            return Outcome.permanent(f"egress denied: {exc}")
        except ValueError as exc:
            return Outcome.mistaken(f"{kind} webhook URL is not usable: {exc}")
        credentials = "Authorization" in headers or url.raw_user or url.raw_password
        if credentials and in_clear(str(url)) and not target.in_clear:
            return Outcome.mistaken(f"{kind} credentials are not sent over http://: use https://")
        token = _REQUEST_STATE.set(request_state)
        try:
            async with asyncio.timeout(timeout_s):
                await self._look_up(dialled, timeout_s, proxy=bool(proxy))
                request_state.resolved = True
                async with self._session.request(
                    method,
                    url,
                    # The library warns about raw bytes beyond 1 MiB; a file object is sent in pieces.
                    data=body if body is None or len(body) <= _PIECE_BYTES else io.BytesIO(body),
                    headers=headers,
                    allow_redirects=False,
                    proxy=proxy,
                ) as response:
                    request_state.code = response.status
                    request_state.encoding = response.headers.get("Content-Encoding", "")
                    request_state.retry_after = parse_retry_after(
                        response.headers.get("Retry-After", ""), self._clock() / 1000
                    )
                    while len(request_state.body) < BODY_BYTES:
                        chunk = await response.content.read(BODY_BYTES - len(request_state.body))
                        if not chunk:
                            break
                        request_state.body += chunk
        except Exception as exc:  # noqa: BLE001 - what a receiver does is an outcome, never an error
            if not request_state.code and request_state.written:
                request_state.code = status_of(request_state.seen)
            if not request_state.code:
                return _failure(exc, request_state, kind, timeout_s)
            _log.debug("%s answered %d, then %s", kind, request_state.code, type(exc).__name__)
        finally:
            _REQUEST_STATE.reset(token)
        shown = ""
        if not 200 <= request_state.code <= 299:
            answer = text_of(bytes(request_state.body), request_state.encoding)
            shown = excerpt(answer, secrets_of(target))
        return classify_http(
            kind,
            request_state.code,
            shown,
            retry_after=request_state.retry_after,
        )

    def _route(self, url: URL) -> str | None:
        """
        Check a literal host, and find the proxy.

        The connector does not ask the resolver about literals, so they are checked here.
        """
        host = url.raw_host or ""
        if literal(host):
            self._guard.check(host)
        proxy = proxy_for(url.scheme, host, url.port or 0, self._environment)
        if not proxy:
            return None
        try:
            proxy_host = parse_target(proxy).raw_host or ""
        except ValueError:
            raise ValueError("the proxy in the environment is not a URL") from None
        self._resolver.proxies.add(proxy_host)
        return proxy

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        # Defence in depth: every dialled address passes here, wherever it came from. The guard's mode was
        # applied where the name was known.
        self._guard.check(str(info[-1][0]), proxy=True)
        return socket_for(*info[:3])

    async def _look_up(self, url: URL, timeout_s: float, *, proxy: bool) -> None:
        """Resolve the dialled host before waiting for a connection, so that a hanging name holds none."""
        host = url.raw_host or ""
        if not literal(host):
            await self._resolver.names.look_up(
                host, url.port or 0, timeout_s=timeout_s, proxy=proxy
            )


class _GuardedResolver(AbstractResolver):
    """Resolves names for the library; knows which hosts are proxies."""

    def __init__(self, guard: EgressGuard) -> None:
        self.names = Names(guard, "resolve")
        #: Hosts of proxies; the process's environment limits their number.
        self.proxies: set[str] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """
        Return the addresses of a host.

        Raises:
            OSError: the name did not resolve, or (EgressDenied) one address is refused.
        """
        # The client has already looked the name up, within the timeout of its request.
        found = await self.names.look_up(
            host, port, timeout_s=_AGAIN_SECONDS, family=family, proxy=host in self.proxies
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=answer_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for answer_family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Let the threads end, without waiting for a look-up that hangs."""
        self.names.close()


async def _mark_written(*_: object) -> None:
    request_state = _REQUEST_STATE.get()
    if not request_state.may_leave():
        raise Withheld
    request_state.written = True


def _failure(exc: Exception, request_state: _RequestState, kind: str, timeout_s: float) -> Outcome:
    """Outcome of a request that got no status line."""
    chain = chain_of(exc)
    if fault := lasting_fault(chain, written=request_state.written):
        return fault
    if not request_state.written and isinstance(exc, (aiohttp.InvalidURL, ValueError, TypeError)):
        return Outcome.mistaken(f"{kind} webhook request could not be built")
    text = f"{kind} webhook request failed: {_describe(exc, chain, request_state, timeout_s)}"
    return broken_off(text, chain, written=request_state.written)


def _describe(
    exc: Exception, chain: list[BaseException], request_state: _RequestState, timeout_s: float
) -> str:
    """Describe the failure in fixed phrases, error numbers and class names."""
    if isinstance(exc, TimeoutError) and not isinstance(exc, aiohttp.ClientOSError):
        if request_state.written:
            return f"timeout: no answer within {timeout_s:g} s"
        if not request_state.resolved:
            return f"timeout: the host name did not resolve within {timeout_s:g} s"
        return f"timeout: not connected within {timeout_s:g} s"
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return f"the proxy refused with {exc.status}"
    if isinstance(exc, aiohttp.ClientResponseError):
        return "malformed answer"
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "connection closed without an answer (EOF)"
    return describe(chain) or type(exc).__name__
