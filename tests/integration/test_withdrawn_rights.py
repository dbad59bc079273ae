"""The right to Redis is withdrawn while a result is on its way: the result waits for it to return."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis_asyncio

from syncer.ledger.answers import Answer
from syncer.model.errors import Unauthorised
from tests.fakes.claimedlog import ClaimedLog
from tests.integration.ledger_client import (
    EPOCH,
    NAME,
    admin,
    claimed,
    kinds,
    open_attempt,
    opening,
    running,
    success,
    tell,
)
from tests.servers.users import url_of

__all__ = ["admin"]

GRANTED = ("on", ">first", "~nl:*", "&*", "+@all")
#: How an operator takes a right away: by another password, or by fewer commands.
WITHDRAWN = {"password": ("resetpass", ">second"), "commands": ("-evalsha",)}


@pytest.fixture
async def log(redis_url: str, admin: redis_asyncio.Redis) -> AsyncIterator[ClaimedLog]:
    """A log of a user of its own, with one attempt open."""
    await tell(admin, "ACL", "SETUSER", "keeper", "reset", *GRANTED)
    async with running(url_of(redis_url, "keeper", "first")) as client:
        log = ClaimedLog(client, patience=0.3)
        await claimed(log)
        assert (await open_attempt(log)).answer is Answer.OK
        yield log
    await tell(admin, "ACL", "DELUSER", "keeper")


@pytest.mark.parametrize("how", WITHDRAWN)
async def test_a_result_waits_for_the_right_to_record_it(
    admin: redis_asyncio.Redis, log: ClaimedLog, how: str
) -> None:
    """What is refused now is refused to nobody else: the attempt would be repeated as unknown."""
    await tell(admin, "ACL", "SETUSER", "keeper", *WITHDRAWN[how])
    if how == "password":
        await tell(admin, "CLIENT", "KILL", "USER", "keeper")
    with pytest.raises(Unauthorised):
        await log.claim("u", EPOCH, name=NAME)
    begun = time.monotonic()
    with pytest.raises(Unauthorised):
        await log.outcome("u", success(), opening(), name=NAME, patience=0.3)
    assert time.monotonic() - begun >= 0.3
    recording = asyncio.create_task(log.outcome("u", success(), opening(), name=NAME, patience=30))
    await asyncio.sleep(0.2)
    assert not recording.done()
    await tell(admin, "ACL", "SETUSER", "keeper", "reset", *GRANTED)
    assert (await recording).answer is Answer.OK
    assert await kinds(log) == ["intent", "success"]
