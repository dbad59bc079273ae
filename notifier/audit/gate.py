"""
Readiness by the audit store: closed until its health endpoint has answered 2xx.

A store without such an endpoint gates nothing: none is set, or the answer is 404, as from stores of before
there was one. What is not known about such a store is a remark.

A task of its own asks every few seconds; `/readyz` only looks at the answer. Once open, the gate
closes again only after several failures in a row: a lost packet is no reason to call a controller
unready that delivers all the while. Nothing else depends on the gate. Deliveries never wait for the
audit store, and liveness does not know it.
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
    Asks for the health of the audit store.

    Args:
        http_client: Whose TLS and guard apply.
        url: Answered with 2xx by a store that is well; empty if it is not asked.
        timeout_s: Of one question.
        period: Seconds between an answer and the next question.
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
        #: Why nothing is known of its health, although the gate is open.
        self.remark = (
            None if url else "its health is not asked for: datastorage.healthUrl is not set"
        )

    @property
    def problem(self) -> str | None:
        """What keeps the gate closed, None while it is open."""
        if self._failures < PATIENCE:
            return None
        return f"the audit store is not healthy: {self._why}"

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(self._period)

    async def ask(self) -> None:
        """Ask once, and note the answer."""
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
