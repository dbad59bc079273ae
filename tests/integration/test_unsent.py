"""
Attempts that do not leave, and those that cannot be opened: controller and log on real servers.

What must hold is the same throughout: a notification whose receiver is well is delivered once Redis
takes writes again, however few attempts it may have; what was opened and not sent is on record as that;
and as long as nothing can be opened, whoever looks is told so.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import pytest

from syncer.ledger.client import LedgerClient
from syncer.ledger.lua import INTENT
from tests.fakes.proxy import DropReply, Fault, Proxy
from tests.integration.delivering import Delivery, delivering
from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import call, port_of, until
from tests.servers.users import acl_rule, url_of


@pytest.mark.usefixtures("redis_url")
async def test_the_only_attempt_survives_an_intent_without_an_answer(
    redis_server: RedisServer,
) -> None:
    """INTENT is carried out, its reply is lost, and Redis stays away for longer than anybody asks."""
    async with Proxy(port_of(redis_server)) as proxy:
        client = LedgerClient(f"redis://127.0.0.1:{proxy.port}", prefix="unsent", timeout=1.0)
        await client.open("test")
        async with delivering(client) as (here, calls):
            # Loaded before, so that the one that is struck is carried out.
            here.create("first", attempts=1)
            await until(lambda: here.results("first") == ["success"], what="the first is sent")
            proxy.faults.append(Fault(DropReply(refuse=True), INTENT.sha.encode()))
            here.create("second", attempts=1)
            await until(lambda: proxy.struck == ["DropReply"], what="the reply is lost")
            # No call to Redis is under way any more: the attempt has been given up.
            await until(
                lambda: here.cache.entries["second"].claim is None, what="the attempt is given up"
            )
            assert calls["/ops"] == 1
            await proxy.accept()
            await until(lambda: here.results("second") == ["notSent", "success"], what="it is sent")
            assert calls["/ops"] == 2
            assert not here.cache.entries["second"].in_flight.never_sent


# -- refused writes -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """How to have a server refuse writes and take them again, and the word that it refuses with."""

    word: str
    begin: tuple[tuple[str, ...], ...]
    end: tuple[tuple[str, ...], ...]


REFUSALS = {
    "out of memory": Refusal(
        "OOM", (("CONFIG", "SET", "maxmemory", "1"),), (("CONFIG", "SET", "maxmemory", "0"),)
    ),
    "without the replicas that it wants": Refusal(
        "NOREPLICAS",
        (("CONFIG", "SET", "min-replicas-to-write", "1"),),
        (("CONFIG", "SET", "min-replicas-to-write", "0"),),
    ),
    "refused by the ACL": Refusal(
        "NOPERM", (("ACL", "SETUSER", "default", "-evalsha"),),
        (("ACL", "SETUSER", "default", "+evalsha"),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refused_write_is_unavailability(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Readiness, gauges, condition and log say so while it lasts, and that it is over afterwards."""
    refusal = REFUSALS[case]
    async with RedisServer(find_binary("redis-server")) as server:
        client = LedgerClient(server.url, prefix="refused", timeout=1.0, probing=True)
        await client.open("test")
        with caplog.at_level(logging.WARNING, "ledger.redis"):
            async with delivering(client) as (here, calls):
                here.create("first")
                await until(lambda: here.results("first") == ["success"], what="one is sent")
                # Claimed and planned, and due only when the test says so.
                here.controller.holds.paused = True
                here.create("second")
                await until(lambda: "second" in planned(here), what="the second is planned")
                await _do(server, refusal.begin)
                here.controller.pause(False)
                await until(
                    lambda: refusal.word in (client.unavailable_reason or ""), what="it is refused"
                )
                await until(
                    lambda: here.controller.overdue.oldest(here.cache.entries.values()) > 2,
                    what="it is overdue",
                )
                here.controller.overdue.mark_without_log(
                    here.cache.entries.values(),
                    available=here.log.client.unavailable_reason is None,
                    notice=0.0,
                )
                assert here.cache.entries["second"].outage.shown
                assert here.controller.holds.by_reason(here.cache.entries.values()) == {
                    "log-unavailable": 1
                }
                await until(lambda: len(said(caplog)) == 1, what="the outage is said")
                await _do(server, refusal.end)
                await until(lambda: here.results("second") == ["success"], what="it is sent")
                await until(lambda: client.unavailable_reason is None, what="a probe shows it")
                assert here.controller.overdue.oldest(here.cache.entries.values()) == 0
                await until(lambda: len(said(caplog)) == 2, what="its end is said")
                assert calls["/ops"] == 2
    begun, over = said(caplog)
    assert begun.getMessage() == "the log is unavailable; no attempt is opened in it"
    assert over.getMessage() == "the log is available again"
    for line in (begun, over):
        assert vars(line)["redis"] == server.url.removeprefix("redis://")
    assert refusal.word in vars(begun)["reason"]
    assert vars(over)["seconds"] >= 1


async def test_the_end_of_a_refusal_is_seen_without_traffic() -> None:
    """Nothing is due any more, so nobody opens an attempt; Redis takes writes, and that is noticed."""
    async with RedisServer(find_binary("valkey")) as server:
        client = LedgerClient(server.url, prefix="refused", timeout=1.0, probing=True)
        await client.open("test")
        async with delivering(client) as (here, _):
            here.create("first")
            await until(lambda: here.results("first") == ["success"], what="one is sent")
            await _do(server, REFUSALS["out of memory"].begin)
            here.create("second")
            await until(lambda: "OOM" in (client.unavailable_reason or ""), what="it is refused")
            here.controller.notifications.delete("second", "ops", "second")
            await until(lambda: "second" not in here.cache.entries, what="nothing is due")
            await _do(server, REFUSALS["out of memory"].end)
            await until(lambda: client.unavailable_reason is None, what="it is seen")
            # The probes have opened nothing, and what they leave goes by itself.
            keys = await asyncio.to_thread(call, port_of(server), "KEYS", "refused:*")
            probed = "refused:{0}:able"
            assert sorted(keys) == ["refused:meta", probed, "refused:{first}", "refused:{second}"]
            assert 0 < await asyncio.to_thread(call, port_of(server), "TTL", probed) <= 10


async def test_an_outage_is_said_with_its_address_and_its_length(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once when nobody answers, once when somebody does; never a credential."""
    rule = acl_rule("ledger", "canary-1", prefix="outage")
    async with RedisServer(find_binary("redis-server"), users=[rule]) as server:
        where = server.url.removeprefix("redis://")
        url = url_of(server.url, "ledger", "canary-1")
        client = LedgerClient(url, prefix="outage", timeout=1.0)
        await client.open("test")
        with caplog.at_level(logging.INFO, "ledger.redis"):
            async with delivering(client):
                await server.kill()
                await until(lambda: len(said(caplog)) == 1, what="the outage is said")
                await server.start()
                await until(lambda: len(said(caplog)) == 2, what="its end is said")
    begun, over = said(caplog)
    assert vars(begun)["reason"] == f"Redis cannot be reached at {where} (ECONNREFUSED)"
    assert (vars(begun)["redis"], vars(over)["redis"]) == (where, where)
    assert vars(over)["seconds"] >= 1
    assert "canary" not in caplog.text


def planned(delivery: Delivery) -> set[str]:
    """Notifications whose channels are on record."""
    return {e.uid for e in delivery.cache.entries.values() if e.view.plan is not None}


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was said of outages."""
    return [r for r in caplog.records if r.getMessage().startswith("the log is ")]


async def _do(server: RedisServer, commands: tuple[tuple[str, ...], ...]) -> None:
    for command in commands:
        await asyncio.to_thread(call, port_of(server), *command)
