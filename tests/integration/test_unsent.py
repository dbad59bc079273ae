"""
Attempts that were opened and did not leave: controller, recorder and log on real servers.

What must hold is the same throughout: a notification whose receiver is well is delivered once Redis is
back, however few attempts it may have, and what was not sent is on record as that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from notifier.channels.egress import EgressGuard
from notifier.channels.http import HttpDoor
from syncer.api.attempt import Attempt
from syncer.ledger.client import LedgerClient
from syncer.ledger.lua import INTENT
from tests.fakes.proxy import DropReply, Fault, Proxy
from tests.integration.test_breaker import OPS, Delivery, Receiver
from tests.servers.redis import RedisServer
from tests.servers.topology import port_of, until

#: Seconds for which a call to Redis is repeated here.
PATIENCE = 1.0


@contextlib.asynccontextmanager
async def delivering(client: LedgerClient) -> AsyncIterator[tuple[Delivery, Receiver]]:
    """A delivery that runs, and a receiver that is well."""
    receiver = Receiver()
    async with receiver.server, HttpDoor(guard=EgressGuard()) as door:
        made = Delivery(client, door, receiver.server.url)
        made.log._patience = PATIENCE
        tasks = [asyncio.create_task(client.run())]
        tasks += [asyncio.create_task(made.controller.work()) for _ in range(4)]
        try:
            yield made, receiver
        finally:
            made.controller.draining = True
            made.controller.lanes.close()
            await made.controller.lanes.drain(5)
            await made.controller.settle(5)
            for task in reversed(tasks):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def attempts(delivery: Delivery, name: str) -> list[Attempt]:
    """Attempts that the view knows."""
    return delivery.cache.entries[name].view.of_channel(OPS)


def results(delivery: Delivery, name: str) -> list[str]:
    """What became of them: the class of a failure, else the state."""
    return [a.failure.value if a.failure else a.state.word for a in attempts(delivery, name)]


async def test_the_only_attempt_survives_an_intent_without_an_answer(
    redis_server: RedisServer, redis_url: str
) -> None:
    """INTENT is carried out, its reply is lost, and Redis stays away for longer than anybody asks."""
    del redis_url
    async with Proxy("127.0.0.1", port_of(redis_server)) as proxy:
        client = LedgerClient(f"redis://127.0.0.1:{proxy.port}", prefix="unsent", timeout=1.0)
        await client.open("test")
        async with delivering(client) as (here, receiver):
            # Loaded before, so that the one that is struck is carried out.
            here.create("first", OPS, attempts=1)
            await until(lambda: results(here, "first") == ["success"], what="the first is sent")
            proxy.faults.append(Fault(DropReply(), INTENT.sha.encode()))
            here.create("second", OPS, attempts=1)
            await until(lambda: proxy.struck == ["DropReply"], what="the reply is lost")
            await proxy.refuse()
            # No call to Redis is under way any more: the attempt has been given up.
            await until(
                lambda: here.cache.entries["second"].claim is None, what="the attempt is given up"
            )
            assert receiver.calls["/ops"] == 1
            await proxy.accept()
            await until(
                lambda: results(here, "second") == ["notSent", "success"], what="it is sent"
            )
            assert receiver.calls["/ops"] == 2
            assert not here.cache.entries["second"].never_sent
