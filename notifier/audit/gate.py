"""
Readiness depends on the audit store: the gate is closed until the store's health endpoint answers 2xx.

The gate is open for a store without a health endpoint: no URL is set, or the answer is 404, as from stores
that are older than the endpoint. A remark then says that the store's health is not known.

A task of its own asks every few seconds; `/readyz` only looks at the last answer. Once open, the gate
closes again only after several failures in a row: a lost packet is no reason to declare a controller
unready that is still delivering. Nothing else depends on the gate. Deliveries never wait for the
audit store, and liveness ignores it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from notifier.channels.http import HttpClient
from notifier.channels.targets import Target
from syncer.model.attempt import AttemptState

#: Failures in a row that close an open gate.
PATIENCE: Final = 3
PERIOD: Final = 2.0


class HealthGate:
    """
    Checks the health of the audit store.

    Args:
        http_client: Sends the requests, with its TLS context and egress guard.
        url: Health endpoint, which a healthy store answers with 2xx; empty to send no requests.
        timeout_s: Seconds for one request.
        period: Seconds between an answer and the next request.
    """

    def __init__(
        self, http_client: HttpClient, url: str, *, timeout_s: float, period: float = PERIOD
    ) -> None:
        self._http_client = http_client
        self.asking = bool(url)
        self._target = Target(url)
        self._timeout_s = timeout_s
        self._period = period
        self._failures = PATIENCE if url else 0
        self._why = "not asked yet"
        #: Why the store's health is not known although the gate is open; None if it is known.
        self.remark = (
            None if url else "its health is not asked for: datastorage.healthUrl is not set"
        )

    @property
    def problem(self) -> str | None:
        """Why the gate is closed, None while it is open."""
        if self._failures < PATIENCE:
            return None
        return f"the audit store is not healthy: {self._why}"

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(self._period)

    async def ask(self) -> None:
        """Ask once, and remember the answer."""
        outcome = await self._http_client.post(
            self._target, None, {}, timeout_s=self._timeout_s, kind="audit health", method="GET"
        )
        absent = outcome.code == 404
        self.remark = (
            "its health is not known: datastorage.healthUrl answers 404" if absent else None
        )
        if absent or outcome.state is AttemptState.SUCCESS:
            self._failures, self._why = 0, ""
            return
        self._failures = min(PATIENCE, self._failures + 1)
        self._why = f"HTTP {outcome.code}" if outcome.code else outcome.error
