"""How long the ledger waits, and what it leaves to another replica that was quicker."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from syncer.ledger.answers import Answer, Proof
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.ledger.store import RedisState
from syncer.ledger.subscriber import Servers, Subscriber
from syncer.model.attempt import AttemptId, Epoch
from syncer.model.record import intent_record
from tests.beside import beside
from tests.fakes.memorylog import MemoryClient, MemoryRedis
from tests.virtual import on_virtual_time


class Raced:
    """A connection to a server on which another replica writes just after the first answer."""

    def __init__(self) -> None:
        self.value: bytes | None = None
        self._replies: list[Any] = []

    async def send_command(self, word: str, *words: str, check_health: bool) -> None:
        if word == "GET":
            self._replies.append(self.value)
            self.value = self.value or b"format=1 installation=here store=00000000000000aa"
        elif words[2:] == ("NX",) and self.value:
            self._replies.append(None)
        else:
            self.value = words[1].encode()
            self._replies.append(b"OK")

    async def read_response(self) -> Any:
        return self._replies.pop(0)


async def test_the_quicker_replica_names_an_empty_store() -> None:
    """The other one takes that id, else all claims made under it would be stale."""
    state, connection = RedisState("nl"), Raced()
    state.installation = "here"
    assert await state.read_store(cast("Any", connection)) == "00000000000000aa"


@on_virtual_time
async def test_a_subscription_that_ends_again_and_again_is_made_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that ends after a second has not lasted: with each, everything is compared anew."""
    began: list[float] = []
    loop = asyncio.get_running_loop()

    async def listen(_: Subscriber) -> None:
        began.append(loop.time())
        await asyncio.sleep(1)

    monkeypatch.setattr(Subscriber, "_listen", listen)
    subscriber = Subscriber(cast("Servers", None), "nl:poke", lambda _: None, timeout=1.0)
    async with beside(subscriber.run()):
        await asyncio.sleep(20)
    waits = [later - sooner - 1 for sooner, later in pairwise(began)]
    assert waits[:4] == pytest.approx([0.5, 1.0, 2.0, 4.0])


async def test_a_slow_replica_has_time_to_confirm() -> None:
    """On a slow link a shorter wait would leave every intent unconfirmed, and hold all delivery."""
    client = MemoryClient(MemoryRedis(lambda: 1000, replicas=1))
    await client.open("here")
    client.replicas_wanted = 1
    log = RedisLog(cast("LedgerClient", client), patience=0.5)
    client.evaluate = noted = AsyncMock(wraps=client.evaluate)  # type: ignore[method-assign] # watched by this test alone
    epoch = Epoch("0.1")
    claimed = await log.claim("u", epoch, name="ns/n")
    record = intent_record(AttemptId("0.1-1"), "console", at=1, by="t")
    answer = await log.intent("u", Proof(epoch, claimed.stamp), record, limit=1, guard=lambda: True)
    assert answer.answer is Answer.OK
    replicas, milliseconds = noted.await_args_list[-1].kwargs["wait"]
    assert replicas == 1
    assert 500 <= milliseconds <= 2000
