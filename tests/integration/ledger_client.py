"""A client of a real Redis, behind a proxy."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio as redis_asyncio

from syncer.ledger.answers import Answer, Appended
from syncer.ledger.client import LedgerClient
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch
from syncer.model.record import Record, attempt_record, intent_record
from tests.beside import beside
from tests.fakes.claimedlog import ClaimedLog
from tests.fakes.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.servers.topology import port_of

EPOCH = Epoch("0.7")
FIRST = AttemptId("0.7-1")
CHANNEL = "slack:ops"
NAME = "ns/n"
HOME = "one"


def opening(attempt: AttemptId = FIRST) -> Record:
    """An intent."""
    return intent_record(attempt, CHANNEL, at=1, by="p")


def success(attempt: AttemptId = FIRST, *, seed: bool = False) -> Record:
    """A success, as an outcome or as restored from the object."""
    return attempt_record(Attempt(attempt, CHANNEL, AttemptState.SUCCESS, ended=2), seed=seed)


@contextlib.asynccontextmanager
async def running(
    url: str, *, installation: str = HOME, timeout: float = 1.0, **more: Any
) -> AsyncIterator[LedgerClient]:
    """A client that is open and served."""
    client = LedgerClient(url, timeout=timeout, **more)
    async with beside(client.run()):
        if installation:
            await client.open(installation)
        yield client


@pytest.fixture
async def admin(redis_url: str) -> AsyncIterator[redis_asyncio.Redis]:
    """A plain client past the proxy."""
    async with redis_asyncio.Redis.from_url(redis_url, socket_timeout=5) as client:
        yield client


@pytest.fixture
async def proxy(redis_url: str, redis_server: RedisServer) -> AsyncIterator[Proxy]:
    """A proxy before the server."""
    async with Proxy(port_of(redis_server)) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[LedgerClient]:
    """A client behind the proxy."""
    async with running(f"redis://127.0.0.1:{proxy.port}") as client:
        yield client


@pytest.fixture
def log(client: LedgerClient) -> ClaimedLog:
    """A log on that client."""
    return ClaimedLog(client, patience=5)


async def claimed(log: ClaimedLog, uid: str = "u") -> None:
    """Claim a log."""
    answer = await log.claim(uid, EPOCH, name=NAME)
    assert answer.answer is Answer.OK


async def open_attempt(
    log: ClaimedLog, *, guard: Callable[[], bool] = lambda: True, uid: str = "u"
) -> Appended:
    """Open the first attempt."""
    return await log.open(uid, EPOCH, opening(), limit=5, guard=guard)


async def ids(log: ClaimedLog, uid: str = "u") -> list[str]:
    """What a log holds: kind and id of each record."""
    snapshot = await log.read(uid)
    return [f"{r.kind} {r.id}" for r in snapshot.records] if snapshot else []


async def kinds(log: ClaimedLog, uid: str = "u") -> list[str]:
    """What a log holds."""
    snapshot = await log.read(uid)
    return [str(r.kind) for r in snapshot.records] if snapshot else []


async def tell(admin: redis_asyncio.Redis, *words: str) -> None:
    """Give the server a command for which the vendor has no method."""
    await admin.execute_command(*words)  # type: ignore[no-untyped-call]  # vendor
