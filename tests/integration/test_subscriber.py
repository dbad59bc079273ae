"""Hearing of records that others appended, on every topology and through what happens to servers."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from itertools import chain, repeat
from typing import Any
from unittest.mock import DEFAULT, Mock

import pytest

from syncer.ledger import standalone as single
from syncer.ledger import subscriber
from syncer.ledger.client import LedgerClient
from syncer.ledger.subscriber import LISTENING
from syncer.runtime import supervise
from tests.beside import beside, eventually
from tests.servers.redis import RedisServer
from tests.servers.topology import RedisCluster, SentinelSet, call, port_of


class Heard:
    """A client that listens, another that pokes, and what was heard."""

    def __init__(self, url: str) -> None:
        self.uids: list[str] = []
        self.listener = LedgerClient(url, timeout=1.0)
        self.listener.on_wake_up = self.uids.append
        self.poker = LedgerClient(url, timeout=1.0)

    async def poke_until_heard(self, uid: str) -> None:
        """Poke again and again: the subscription may be on its way."""
        async with asyncio.timeout(40):
            while uid not in self.uids:
                with contextlib.suppress(Exception):
                    await self.poker.wake_up(uid)
                await asyncio.sleep(0.05)


def subscribers(server: RedisServer) -> set[str]:
    """Ids of connections that listen."""
    lines = str(call(port_of(server), "CLIENT", "LIST", "TYPE", "pubsub"))
    return set(re.findall(r"\bid=(\d+)", lines))


@contextlib.asynccontextmanager
async def heard(url: str) -> AsyncIterator[Heard]:
    """Both clients, served."""
    both = Heard(url)
    async with beside(both.listener.run(), both.poker.run()):
        yield both


async def test_each_new_subscription_is_reported(redis_url: str, redis_server: RedisServer) -> None:
    """Before anything is heard on it: what was published while there was none is looked for."""
    async with heard(redis_url) as both:
        await both.poke_until_heard("first")
        await redis_server.kill()
        await redis_server.start()
        await both.poke_until_heard("second")
        # Whoever may publish must not have everything looked at.
        await both.poker.wake_up(LISTENING)
        await both.poke_until_heard("third")
    assert list(dict.fromkeys(both.uids[both.uids.index("first") :])) == [
        "first",
        LISTENING,
        "second",
        "third",
    ]
    assert both.uids[0] == LISTENING
    assert both.uids.count(LISTENING) == 2


async def test_an_idle_client_notices_that_its_server_is_gone(
    redis_url: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody calls, and no probe is due: the end of the listening connection tells."""
    monkeypatch.setattr(single, "_PROBE_SECONDS", 3600.0)
    async with heard(redis_url) as both:
        await both.poke_until_heard("first")
        await eventually(lambda: both.listener.problem is None)
        await redis_server.kill()
        await eventually(lambda: both.listener.problem)
        await redis_server.start()
        await eventually(lambda: both.listener.problem is None)


@pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)
async def test_a_silent_server_is_left(
    redis_url: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that falls silent is connected to anew, and heard when it speaks again."""
    monkeypatch.setattr(subscriber, "_BEAT", 0.2)
    monkeypatch.setattr(subscriber, "_SILENCE", 1.0)
    async with heard(redis_url) as both:
        await both.poke_until_heard("first")
        before = subscribers(redis_server)
        await redis_server.pause()
        subscription = both.listener._listener
        assert subscription is not None
        await eventually(lambda: not subscription.listening)
        await redis_server.resume()
        await both.poke_until_heard("second")
        assert len(before) == 1
        assert not before & subscribers(redis_server)


@pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)
async def test_a_user_that_may_not_listen_harms_nothing(
    redis_url: str, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the right to subscribe the client works, says so once, and hears nothing."""
    caplog.set_level("INFO", "ledger.redis")
    port = port_of(redis_server)
    call(port, "ACL", "SETUSER", "deaf", "on", ">p", "~*", "resetchannels", "+@all")
    async with heard(f"redis://deaf:p@127.0.0.1:{port}/0") as both:
        assert await both.listener.command("PING") == b"PONG"
        await eventually(lambda: "only sweeps find records" in caplog.text)
        assert await both.listener.command("PING") == b"PONG"
        assert both.uids == []


@pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)
async def test_an_error_that_nobody_expected_is_said_and_survived(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever ends listening is logged at once, and listening is begun again."""
    monkeypatch.setattr(supervise, "_PAUSE_FIRST", 0.05)
    async with heard(redis_url) as both:
        fault = LookupError("a fault of the hearer")
        broken = Mock(wraps=both.uids.append, side_effect=chain([fault] * 2, repeat(DEFAULT)))
        # Both clients begin with the first await below.
        both.listener.on_wake_up = broken
        await both.poke_until_heard("first")
        assert await both.listener.command("PING") == b"PONG"
        said = [r for r in caplog.records if r.name == "ledger.supervise"]
        assert [r.getMessage() for r in said] == ["redis-subscriber failed and will be retried"] * 2
        assert {r.__dict__["error"] for r in said} == {"LookupError: a fault of the hearer"}


async def test_what_is_no_uid_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty and endless messages, and replies of other kinds, are not handed on."""
    told: list[str] = []
    servers: Any = None
    listener = subscriber.Subscriber(servers, "c", told.append, timeout=1.0)
    for reply in ([b"pong", b""], [b"message", b"c", b""], [b"message", b"c", b"x" * 129], b"PONG"):
        listener._take(reply)
    assert told == []
    listener._take([b"message", b"c", b"uid"])
    assert told == ["uid"]


async def test_sentinels_through_a_failover() -> None:
    """After a failover the new master is listened to."""
    async with SentinelSet() as servers, heard(servers.url) as both:
        await both.poke_until_heard("first")
        await servers.fail_over()
        await both.poke_until_heard("second")


async def test_cluster() -> None:
    """What is published at any node is heard."""
    async with RedisCluster() as cluster, heard(cluster.url) as both:
        await both.poke_until_heard("first")
        for number, port in enumerate(cluster.ports):
            call(port, "PUBLISH", "nl:poke", f"node-{number}")
        await eventually(lambda: len(set(both.uids) - {LISTENING}) >= 4)
        assert set(both.uids) - {LISTENING} == {"first", "node-0", "node-1", "node-2"}
