"""
The gateway's server: webhooks in, objects out, and an answer that works with the sender's own retries.

A request waits here until the API server has its objects; the answer is 200 then, and only then. A request
that can never become a notification gets a 4xx that names the member at fault. Any other request gets 503
with `Retry-After`: not 429, which Alertmanager and Grafana treat as final, except above a rate for programs
that retry after it; and never 202, which would confirm something that is not stored. GET on the path of a
notification returns its result (`notifier.gateway.asking`) to the source that created it.

Limits keep one sender from using up the gateway: on connections, requests in flight, bytes of bodies that
are being read or translated and of objects that wait for the API server, and the time for headers and for
a body. Large bodies are translated one after the other, at most one of each source at a time. A sender that
has not proven anything yet occupies neither a slot among the requests in flight nor a kept connection: if
bytes run short, the body that has been arriving longest is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import orjson
from aiohttp import web

from notifier.gateway.access import Access
from notifier.gateway.asking import Asking
from notifier.gateway.draft import ALERTS, Incoming, Refused
from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.rating import OverRateError, Rating
from notifier.gateway.settings import LimitSettings
from notifier.gateway.submit import Submitted, Submitter
from notifier.gateway.tls import certificate_of
from notifier.gateway.translation import Conditional, Desired, translate
from syncer.model.errors import Unavailable
from syncer.model.resource import Json
from syncer.runtime.connections import Connections, Listener, listen
from syncer.runtime.offload import offload

logger = logging.getLogger("ledger.gateway")

_METHODS: Final = ("POST", "PUT")
#: Bytes of a body that are read before its bounds are checked.
_READ_AHEAD: Final = 1 << 14
#: Seconds for the translation of a large body, including the wait for those before it.
_TRANSLATION: Final = 8.0
#: Bytes of memory for each byte of a body that is kept while the API server is asked about open incidents.
_PARSED: Final = 8
#: Share of the buffered bytes that the objects of one source may take while they wait for the API server;
#: and of the requests in flight, if there are other sources.
_SHARE: Final = 0.5
#: Seconds between two log lines about refusals of one source with one status.
_LOG_EVERY: Final = 10.0
#: Key that is set in a request once all proofs of its source hold.
_PROVEN: Final = web.RequestKey("proven", bool)
_NOWHERE: Final = Refused("there is no source of this name; the path is /v1/<name>", status=404)
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Gateway:
    """Accepts webhooks."""

    def __init__(
        self,
        sources: Mapping[str, Access],
        submitter: Submitter,
        metrics: GatewayMetrics,
        limits: LimitSettings,
        *,
        tls: Callable[[], ssl.SSLContext] | None,
        now: Callable[[], float],
        heard: Callable[[str], None],
    ) -> None:
        """
        Prepare a gateway; it does not listen yet.

        `tls` returns the context for a new connection; None means HTTP without TLS. `now` gives Unix
        seconds. `heard` is called with the name of a source for each of its valid requests, even if no
        notification can be created.
        """
        self._sources = sources
        self._asking = Asking(submitter.objects)
        self._tls = tls
        self._heard = heard
        self._ratings = {
            name: Rating(access.source, submitter, metrics, time.monotonic)
            for name, access in sources.items()
        }
        self._metrics = metrics
        self._limits = limits
        self._now = now
        self._connections = Connections(limits.connections)
        #: Requests that wait for the API server, by source.
        self._in_flight = dict.fromkeys(sources, 0)
        self._buffered = 0
        #: By source, the part of those bytes that is for objects waiting for the API server.
        self._waiting = dict.fromkeys(sources, 0)
        #: Bodies that are arriving, the oldest first.
        self._arriving: dict[asyncio.Transport, bytearray] = {}
        #: Bytes of bodies that were dropped, until their readers notice.
        self._leaving: dict[asyncio.Transport, int] = {}
        self._quiet: dict[tuple[str, int], tuple[float, int]] = {}
        self._listener: Listener | None = None
        for name in sources:
            metrics.last.labels(name)
        metrics.in_flight.set_function(lambda: self.in_flight)

    @property
    def in_flight(self) -> int:
        """Requests that wait for the API server."""
        return sum(self._in_flight.values())

    async def bind(self, host: str, port: int) -> int:
        """Listen; returns the port. OSError if the address cannot be bound."""
        app = web.Application()
        app.router.add_route("*", "/v1/{source}", self._serve)
        app.router.add_route("*", "/v1/{source}/{namespace}/{name}", self._serve)
        app.router.add_route("*", "/{path:.*}", self._serve)
        patience = max(access.source.patience for access in self._sources.values())
        self._listener = await listen(
            app,
            host,
            port,
            self._connections,
            shutdown_seconds=patience + _TRANSLATION,
            read_buffer=_READ_AHEAD,
            tls=self._tls,
        )
        return self._listener.port

    async def close(self) -> None:
        """Stop listening; requests in flight are answered."""
        self._asking.close()
        if self._listener is not None:
            await self._listener.close()
        for rating in self._ratings.values():
            await rating.close()

    async def _serve(self, request: web.Request) -> web.Response:
        began = asyncio.get_running_loop().time()
        self._connections.on_request(request.transport)
        name = request.match_info.get("source", "")
        access = self._sources.get(name)
        label = name if access else "none"
        asks = "name" in request.match_info
        try:
            if access is None:
                answer = self._refused(label, _NOWHERE, request)
            elif asks:
                answer = _json(200, await self._ask(access, request))
            else:
                answer = self._done(label, await self._take(access, request, began))
            if access and (origin := request.headers.get("WebHook-Request-Origin")):
                answer.headers["WebHook-Allowed-Origin"] = origin[:256]
                answer.headers["Allow"] = ", ".join(_METHODS)
        except Refused as error:
            answer = self._refused(label, error, request)
        except Unavailable as error:
            status = error.status if isinstance(error, OverRateError) else 503
            answer = self._later(access, label, str(error), status)
        finally:
            self._connections.on_request(request.transport)
        if not request.get(_PROVEN):
            answer.force_close()
        self._metrics.requests.labels(label, str(answer.status)).inc()
        if not asks:
            self._metrics.seconds.labels(label).observe(asyncio.get_running_loop().time() - began)
        return answer

    async def _ask(self, access: Access, request: web.Request) -> Json:
        """Return the result of a notification to the source that created it."""
        if request.method != "GET":
            raise Refused(f"the method must be GET; it is {request.method[:10]}", status=405)
        headers = await _proven(access, request)
        # There is no body; a signature covers the path, so that it is valid for this question only.
        access.check_body(Incoming(headers, request.path_qs.encode()), self._now())
        request[_PROVEN] = True
        with self._place(access.source.name, 0, request):
            return await self._asking.answer(
                access.source,
                request.match_info["namespace"],
                request.match_info["name"],
                request.query.get("wait", ""),
            )

    async def _take(self, access: Access, request: web.Request, began: float) -> list[Submitted]:
        if request.method == "OPTIONS" and access.source.kind.handshake:
            return []
        if request.method not in _METHODS:
            raise Refused(f"the method must be POST; it is {request.method[:10]}", status=405)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused("compressed bodies are not accepted", status=415)
        source = access.source
        # After this, only ends still refer to the body, and `size` accounts for that.
        wanted, ends, size = await self._translated(access, request)
        self._heard(source.name)
        with self._place(source.name, size, request):
            return await self._submit(source.name, wanted, ends, began + source.patience)

    @contextmanager
    def _place(self, name: str, size: int, request: web.Request) -> Iterator[None]:
        """Occupy a slot among the requests in flight, and `size` bytes; Unavailable beyond the limits."""
        most = self._limits.buffered_bytes * _SHARE
        # A source's only request is accepted whatever its size: a retry would be just as large.
        full = size and self._waiting[name] and self._waiting[name] + size > most
        places, own = self._limits.requests, self._in_flight[name]
        # If a source's namespace accepts no objects, each of its requests waits for as long as it may.
        full = full or (own >= places * _SHARE and own and len(self._sources) > 1)
        if full or self.in_flight >= places:
            raise Unavailable("too many requests are in flight")
        self._in_flight[name] += 1
        self._waiting[name] += size
        self._buffered += size
        self._connections.hold(request.transport)
        try:
            yield
        finally:
            self._in_flight[name] -= 1
            self._waiting[name] -= size
            self._buffered -= size

    async def _translated(
        self, access: Access, request: web.Request
    ) -> tuple[tuple[Desired, ...], tuple[Conditional, ...], int]:
        """
        Read and translate a request after checking its sender; returns the objects, the ends, their bytes.

        Raises:
            Refused: the request never becomes a notification.
            Unavailable: too much is being read.
        """
        headers = await _proven(access, request)
        body, taken = bytearray(), 0
        try:
            await self._read(request, body, access.source.kind.max_body)
            taken, incoming = len(body), Incoming(headers, bytes(body))
            # Otherwise the body would be in memory twice while it waits for its translation.
            body.clear()
            now = self._now()

            def work() -> tuple[tuple[Desired, ...], tuple[Conditional, ...], int]:
                access.check_body(incoming, now)
                request[_PROVEN] = True
                found, ends = translate(access.source, incoming, now)
                bytes_ = sum(len(orjson.dumps(desired.manifest)) for desired in found)
                return found, ends, bytes_ + (_PARSED * taken if ends else 0)

            # For each alert, a mapping may look at all alerts.
            size = taken * (ALERTS if access.source.options.each else 1)
            return await offload(work, size=size, seconds=_TRANSLATION, author=access.source.name)
        except TimeoutError:
            raise Unavailable("earlier large requests are still being processed") from None
        finally:
            self._buffered -= taken or len(body)
            # The error of a lost connection keeps the body in a reference cycle until garbage collection.
            body.clear()

    async def _read(self, request: web.Request, body: bytearray, most: int) -> None:
        """
        Read the body of a request into `body`, whose bytes all count as buffered.

        Raises:
            Refused: the body is too large, or ends early.
            Unavailable: it takes too long, or too much is being read.
        """
        if (request.content_length or 0) > most:
            raise Refused(f"the body is larger than {most} bytes", status=413)
        transport = request.transport
        if transport is not None:
            self._arriving[transport] = body
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    before = len(body)
                    body += await request.content.readany()
                    if len(body) == before:
                        break
                    self._buffered += len(body) - before
                    if len(body) > most:
                        raise Refused(f"the body is larger than {most} bytes", status=413)
                    self._make_space(transport)
        except TimeoutError:
            # Not 408, which Alertmanager treats as final: a retry may be faster.
            raise Unavailable(
                f"the body did not arrive within {self._limits.body_seconds:g} s"
            ) from None
        except (web.RequestPayloadError, ConnectionError):
            raise Refused("the body ended early", status=400) from None
        finally:
            if transport is not None:
                self._arriving.pop(transport, None)
                self._leaving.pop(transport, None)

    def _make_space(self, own: asyncio.Transport | None) -> None:
        """Drop the body that has been arriving longest, if too much is buffered."""
        # A dropped body counts until its reader notices; no other body is dropped because of it.
        if self._buffered - sum(self._leaving.values()) <= self._limits.buffered_bytes:
            return
        oldest = next(iter(self._arriving), None)
        if oldest is None or oldest is own:
            raise Unavailable("too many bodies are being read")
        self._leaving[oldest] = len(self._arriving.pop(oldest))
        oldest.abort()

    async def _submit(
        self,
        label: str,
        wanted: tuple[Desired, ...],
        ends: tuple[Conditional, ...],
        until: float,
    ) -> list[Submitted]:
        results = await self._ratings[label].submit_all(wanted, ends, until)
        made = [result for result in results if isinstance(result, Submitted)]
        errors = [result for result in results if not isinstance(result, Submitted)]
        if errors:
            self._count(label, made)
            # Report an error that may pass, if there is one: a retry finds the objects that exist already.
            raise min(errors, key=lambda error: isinstance(error, Refused))
        return made

    def _count(self, label: str, made: list[Submitted]) -> None:
        for one in made:
            self._metrics.notifications.labels(label, one.result).inc()
            if one.taken:
                place = f"{one.namespace}/{one.name}"
                self._log(label, 200, "an event has no object, another one has its name", place)
            logger.debug(
                "a webhook became a notification",
                extra={
                    "source": label, "namespace": one.namespace, "name_of": one.name,
                    "uid": one.uid, "result": one.result,
                },
            )  # fmt: skip
        if made:
            self._metrics.last.labels(label).set(self._now())

    def _done(self, label: str, made: list[Submitted]) -> web.Response:
        self._count(label, made)
        answer = _json(
            200,
            {
                "notifications": [
                    {
                        "name": one.name, "namespace": one.namespace, "uid": one.uid,
                        "duplicate": one.duplicate,
                        **({"taken": True} if one.taken else {}),
                    }
                    for one in made
                ]
            },
        )  # fmt: skip
        if len(made) == 1:
            answer.headers["Location"] = f"/v1/{label}/{made[0].namespace}/{made[0].name}"
        return answer

    def _refused(self, label: str, error: Refused, request: web.Request) -> web.Response:
        self._log(label, error.status, "a request was refused", str(error), request.remote)
        headers = {}
        if error.status == 405:
            headers["Allow"] = "GET" if "name" in request.match_info else ", ".join(_METHODS)
        elif error.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="notifications"'
        return _json(error.status, {"error": error.reason, "path": error.path}, headers)

    def _later(self, access: Access | None, label: str, reason: str, status: int) -> web.Response:
        self._log(label, status, "a request was not accepted, its sender should try again", reason)
        most = access.source.retry_after if access else 10
        # Random, so that senders do not come back all at once; bounded, as some senders wait no longer.
        seconds = random.randint((most + 1) // 2, most)  # noqa: S311 (no secret)
        return _json(status, {"error": reason, "path": ""}, {"Retry-After": str(seconds)})

    def _log(
        self, label: str, status: int, event: str, error: str, peer: str | None = None
    ) -> None:
        """Log a refusal; many of one source and status are one line, with the number of those left out."""
        now = asyncio.get_running_loop().time()
        last, left_out = self._quiet.get((label, status), (-_LOG_EVERY, 0))
        if now - last < _LOG_EVERY:
            self._quiet[label, status] = (last, left_out + 1)
            return
        self._quiet[label, status] = (now, 0)
        logger.warning(
            event,
            extra={
                "source": label, "status": status, "error": error[:500], "peer": peer,
                "left_out": left_out or None,
            },
        )  # fmt: skip


async def _proven(access: Access, request: web.Request) -> dict[str, str]:
    """Return the headers of a request by lower-case name, after checking the proofs that need no body."""
    headers = {key.lower(): value for key, value in request.headers.items()}
    transport = request.transport
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    await access.check_sender(Incoming(headers, b"", certificate_of(connection)))
    return headers


def _json(status: int, content: object, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(content) + b"\n",
        content_type="application/json",
        headers={**_HEADERS, **(headers or {})},
    )
