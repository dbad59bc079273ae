"""
The admin server: liveness, readiness with reasons, metrics.

`/healthz` is 200 while the event loop turns. `/readyz` is 200 only when no check has a reason against it;
otherwise it lists the reasons, one per line. Checks are plain functions that read state and never use the
network: a probe must not hang.

The health port is bound before anything else. It is part of this process's identity: the process that
holds the port is alive, so a lease under the same identity belongs to a predecessor.

Any client that reaches the port may open connections and send nothing: `syncer.runtime.connections` bounds
them, so that a probe is answered whatever else is open. A client may also ask for the metrics again and
again, on all its connections. So each format may take only a share of the process's time; more frequent
requests get the last result. Metrics are written in a thread, one answer at a time: those of a thousand
receivers take a third of a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from syncer.rules.text import escaped
from syncer.runtime.connections import Connections, Listener, listen
from syncer.runtime.offload import SMALL, offload

#: Returns what is missing, None if nothing is.
Check = Callable[[], "str | None"]
#: Returns for how many seconds it blocked the event loop.
Refresh = Callable[[], Awaitable[float]]

#: Share of the time that metrics of one format may take, and seconds that may be used in advance.
_SHARE: Final = 0.1
_AHEAD: Final = 0.2
#: Seconds within which metrics must be written, including the thread's other work.
_WRITE: Final = 60.0
_OPEN_METRICS: Final = "application/openmetrics-text"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def process_registry() -> CollectorRegistry:
    """Return a registry with the metrics that every process exports about itself."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


class AdminServer:
    """Serves health and metrics on one or two addresses."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        connections: Callable[[], Connections] = Connections,
    ) -> None:
        """Serve the metrics of a registry; `connections` makes the limit of each address."""
        self._registry = registry
        #: Brings gauges up to date right before they are scraped.
        self.refresh: Refresh | None = None
        self._checks: dict[str, Check] = {}
        self._details: dict[str, Check] = {}
        self._connections = connections
        #: By content type: until when its share is used up, by the loop's clock, and the last metrics.
        self._made: dict[str, tuple[float, bytes]] = {}
        self._making = asyncio.Lock()
        self._listeners: list[Listener] = []

    def check(self, name: str, check: Check) -> None:
        """Add a check that readiness depends on; it replaces one of the same name."""
        self._checks[name] = check

    def detail(self, name: str, check: Check) -> None:
        """Add a check that readiness mentions but does not depend on."""
        self._details[name] = check

    def problems(self) -> Mapping[str, str]:
        """What keeps the process from being ready, by check."""
        found = {name: check() for name, check in self._checks.items()}
        return {name: problem for name, problem in found.items() if problem}

    async def bind(self, host: str, port: int, *, health: bool, metrics: bool) -> int:
        """Listen for health, metrics or both; returns the port. OSError if the address cannot be bound."""
        connections = self._connections()
        app = web.Application(middlewares=[connections.counted])
        if health:
            app.router.add_get("/healthz", self._healthz)
            app.router.add_get("/readyz", self._readyz)
        if metrics:
            app.router.add_get("/metrics", self._metrics)
        listener = await listen(app, host, port, connections)
        self._listeners.append(listener)
        return listener.port

    async def close(self) -> None:
        """Stop listening."""
        await asyncio.gather(*(listener.close() for listener in self._listeners))
        self._listeners.clear()

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
        # Not the header itself: the library fails on a version that is not a number, and echoes any other.
        accepted = _OPEN_METRICS if _OPEN_METRICS in request.headers.get("Accept", "") else ""
        encode, content_type = choose_encoder(accepted)
        clock = asyncio.get_running_loop().time
        async with self._making:
            used, body = self._made.get(content_type, (0.0, b""))
            began = clock()
            if used - began <= _AHEAD:
                took = await self.refresh() if self.refresh else 0.0
                # The wait for other work of the thread does not count towards the share.
                write = partial(_timed, partial(encode, self._registry))
                body, wrote = await offload(write, size=SMALL + 1, seconds=_WRITE)
                self._made[content_type] = max(used, began) + (took + wrote) / _SHARE, body
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})


def _timed(write: Callable[[], bytes]) -> tuple[bytes, float]:
    """Return the written metrics, and the seconds of CPU that they took."""
    began = time.thread_time()
    return write(), time.thread_time() - began
