"""Deliveries to a receiver over a log in Redis."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from notifier.channels.egress import EgressGuard
from notifier.channels.http import HttpClient
from syncer.ledger.client import LedgerClient
from syncer.model.attempt import Attempt
from tests.beside import beside
from tests.integration.broken_receiver import OPS, Delivery, Receiver

#: Seconds for which a call to Redis is repeated here.
PATIENCE = 1.0


@contextlib.asynccontextmanager
async def delivering(client: LedgerClient) -> AsyncIterator[tuple[Delivery, Receiver]]:
    """A delivery that runs, and a receiver that is well."""
    receiver = Receiver()
    async with receiver.server, HttpClient(guard=EgressGuard()) as http_client:
        made = Delivery(client, http_client, receiver.server.url)
        made.log._patience = PATIENCE
        workers = [made.controller.reconciler.work() for _ in range(4)]
        async with beside(client.run()), beside(*workers):
            try:
                yield made, receiver
            finally:
                await made.controller.drain(sending=5, recording=5)


def attempts(delivery: Delivery, name: str) -> list[Attempt]:
    """Attempts that the view knows."""
    return delivery.cache.entries[name].view.of_channel(OPS)


def results(delivery: Delivery, name: str) -> list[str]:
    """What became of them: the class of a failure, else the state."""
    return [a.failure.value if a.failure else a.state.word for a in attempts(delivery, name)]
