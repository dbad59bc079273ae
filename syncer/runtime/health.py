"""
The admin server: liveness, readiness with reasons, metrics.

`/healthz` is 200 while the event loop turns. `/readyz` is 200 only when every check has nothing to
say; otherwise it lists, one a line, what is missing, so that the person who asks first is told why.
Checks are plain functions that look at state, never at the network: a probe must not hang.

The health port is bound before anything else. It is part of this process's identity: whoever holds
the port is the living one, so a lease under the same identity belongs to a predecessor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

#: Says what is missing, None if nothing is.
Check = Callable[[], "str | None"]

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class AdminServer:
    """Serves health and metrics on one or two addresses."""

    def __init__(
        self, registry: CollectorRegistry, *, refresh: Callable[[], None] = lambda: None
    ) -> None:
        """`refresh` brings gauges up to date right before they are scraped."""
        self._registry = registry
        self._refresh = refresh
        self._checks: dict[str, Check] = {}
        self._details: dict[str, Check] = {}
        self._runners: list[web.AppRunner] = []

    def check(self, name: str, check: Check) -> None:
        """Add something that readiness depends on."""
        self._checks[name] = check

    def detail(self, name: str, check: Check) -> None:
        """Add something that readiness mentions but does not depend on."""
        self._details[name] = check

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
        app = web.Application()
        if health:
            app.router.add_get("/healthz", self._healthz)
            app.router.add_get("/readyz", self._readyz)
        if metrics:
            app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, host or None, port, reuse_address=True)
        await site.start()
        addresses = runner.addresses
        return int(addresses[0][1]) if addresses else port

    async def close(self) -> None:
        """Stop listening."""
        while self._runners:
            await self._runners.pop().cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_HEADERS)

    async def _readyz(self, _request: web.Request) -> web.Response:
        problems = self.problems()
        lines = [f"[-] {name}: {problem}" for name, problem in problems.items()]
        lines += [f"[+] {name}: ok" for name in self._checks if name not in problems]
        notes = {name: check() for name, check in self._details.items()}
        lines += [f"[!] {name}: {note}" for name, note in notes.items() if note]
        return web.Response(
            status=503 if problems else 200, text="\n".join(lines) + "\n", headers=_HEADERS
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        self._refresh()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(
            body=encode(self._registry), headers={**_HEADERS, "Content-Type": content_type}
        )
