"""
The log on a Redis Cluster: slots that move under running scripts, and a primary that is away.

Three real nodes without replicas, made once for all tests of this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from redis.crc import key_slot

from syncer.ledger.answers import SERVER, Answer, Appended
from syncer.ledger.client import LedgerClient
from syncer.ledger.cluster_map import key_of, parse_layout, weakest
from syncer.ledger.preflight import unfit
from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.errors import ConfigError, Unauthorised, Unavailable
from syncer.model.record import Record, attempt_record
from tests.fakes.claimedlog import ClaimedLog
from tests.integration import ledger_client
from tests.integration.ledger_client import CHANNEL, EPOCH, FIRST, NAME, ids, opening
from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import SLOTS, RedisCluster, call, port_of, until
from tests.servers.users import acl_rule, url_of

#: A client that is open, served, and probes each node, as the product's does.
running = partial(ledger_client.running, probing=True)


@pytest.fixture(scope="module")
def nodes() -> Iterator[RedisCluster]:
    """The nodes of this file."""
    cluster = RedisCluster()
    try:
        cluster.launch()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
async def cluster(nodes: RedisCluster) -> RedisCluster:
    """A cluster that is whole and empty."""
    for node in nodes.nodes:
        await asyncio.to_thread(node.heal)
    await nodes.well()
    for node in nodes.nodes:
        await asyncio.to_thread(node.flush)
    return nodes


@pytest.fixture
async def client(cluster: RedisCluster) -> AsyncIterator[LedgerClient]:
    """A client of the cluster."""
    async with running(cluster.url) as client:
        yield client


@pytest.fixture
def log(client: LedgerClient) -> ClaimedLog:
    """A log on that client."""
    return ClaimedLog(client, patience=10)


def failed(attempt: AttemptId) -> Record:
    """A failure."""
    return attempt_record(Attempt(attempt, CHANNEL, AttemptState.FAILED, ended=2))


async def intent(
    log: ClaimedLog, attempt: AttemptId = FIRST, *, guard: Callable[[], bool] = lambda: True,
    uid: str = "u", patience: float | None = None,
) -> Appended:  # fmt: skip
    """Open an attempt."""
    return await log.open(uid, EPOCH, opening(attempt), limit=1000, guard=guard, patience=patience)


def slot_of(log: ClaimedLog, uid: str = "u") -> int:
    """Slot of a log."""
    return key_slot(log.key(uid).encode())


async def test_logs_lie_on_every_primary(
    cluster: RedisCluster, client: LedgerClient, log: ClaimedLog
) -> None:
    """Logs are spread over the nodes, and a scan and a sweep find all of them."""
    uids = [f"u{n}" for n in range(60)]
    claims = await asyncio.gather(*(log.claim(u, EPOCH, name=NAME) for u in uids))
    assert {c.answer for c in claims} == {Answer.OK}
    held = {p: call(p, "DBSIZE") for p in cluster.ports}
    assert min(held.values()) > 0
    # And the metadata of the store, and what a probe has left on each.
    assert sum(held.values()) == len(uids) + 1 + len(held)
    assert sorted([u async for page in log.scan(page=7) for u in page]) == sorted(uids)
    heads = await log.read_headers(uids)
    assert [length for _, length, _ in heads] == [1] * len(uids)
    assert client.problem is None
    assert len(await client.primaries()) == 3


async def test_a_log_is_kept_beside_itself(
    cluster: RedisCluster, client: LedgerClient, log: ClaimedLog
) -> None:
    """The copy of a log lies where the log does, expires, and is taken for no log by a scan."""
    for uid in (f"u{n}" for n in range(9)):
        await log.claim(uid, EPOCH, name=NAME)
        elements = await log.elements(uid)
        aside = f"nl:aside:{{{uid}}}:7"
        await log.keep_aside(uid, elements, mark=7, ttl=600)
        assert key_slot(aside.encode()) == slot_of(log, uid)
        assert await client.command("LRANGE", aside, 0, -1) == elements
        assert 590 <= int(await client.command("TTL", aside)) <= 600
        await log.keep_aside(uid, elements, mark=7, ttl=600)
        with pytest.raises(Unavailable, match="holds another log"):
            await log.keep_aside(uid, [*elements, b"x"], mark=7, ttl=600)
    assert len({u async for page in log.scan() for u in page}) == 9


async def test_the_store_has_one_id(cluster: RedisCluster, client: LedgerClient) -> None:
    """Every client of a cluster reads the same store id, and a stranger is refused."""
    assert client.server is not None
    assert len(client.server.store) == 16
    async with running(f"redis+cluster://127.0.0.1:{cluster.ports[2]}") as second:
        assert second.server == client.server
    with pytest.raises(ConfigError, match=r"set another redis\.keyPrefix"):
        async with running(cluster.url, installation="two"):
            pass


async def test_a_client_that_was_never_opened(cluster: RedisCluster, log: ClaimedLog) -> None:
    """Who only reads needs no `open`, and stamps nothing."""
    await log.claim("u", EPOCH, name=NAME)
    async with running(cluster.url, installation="") as reader:
        snapshot = await ClaimedLog(reader, patience=3).read("u")
    assert snapshot is not None
    assert snapshot.header.object == NAME


async def test_a_slot_that_moves(
    cluster: RedisCluster, client: LedgerClient, log: ClaimedLog
) -> None:
    """On the way ASK is followed, to a server that was not claimed on; where it ends the claim holds."""
    await log.claim("u", EPOCH, name=NAME)
    generation, slot = log.client.generation, slot_of(log)
    source = cluster.owner(slot)
    target = next(port for port in cluster.ports if port != source)
    cluster.begin_move(slot, source, target)
    assert (await intent(log)).answer is Answer.OK  # the key is still at the source
    assert cluster.move_keys(slot, source, target) == 1
    outcome = await log.outcome("u", failed(FIRST), opening(FIRST), name=NAME)
    assert outcome.answer is Answer.OK  # by way of ASK
    second = AttemptId("0.7-2")
    elsewhere = await intent(log, second)
    assert (elsewhere.answer, elsewhere.detail) == (Answer.RECLAIM, SERVER)
    await log.claim("u", EPOCH, name=NAME)
    assert (await intent(log, second)).answer is Answer.OK
    assert call(source, "DBSIZE") + call(target, "DBSIZE") >= 1
    assert log.client.generation == generation

    cluster.end_move(slot, target)
    await log.outcome("u", failed(second), opening(second), name=NAME)
    assert log.client.generation == generation
    third = AttemptId("0.7-3")
    assert (await intent(log, third)).answer is Answer.OK
    assert await ids(log) == [
        "intent 0.7-1", "failed 0.7-1", "intent 0.7-2", "failed 0.7-2", "intent 0.7-3",
    ]  # fmt: skip
    assert client.problem is None


async def test_the_documented_user_suffices(cluster: RedisCluster) -> None:
    """With no more rights than the page names, logs are kept, found, told of, and follow their slot."""
    for port in cluster.ports:
        call(port, *acl_rule("ledger", "p", cluster=True))
    try:
        async with running(url_of(cluster.url, "ledger", "p")) as client:
            log = ClaimedLog(client, patience=10)
            await test_a_slot_that_moves(cluster, client, log)
            assert [uid async for page in log.scan(page=10) for uid in page] == ["u"]
            await client.command("PUBLISH", "nl:poke", "u")
            with pytest.raises(Unauthorised):
                await client.command("GET", "other")
    finally:
        for port in cluster.ports:
            call(port, "ACL", "DELUSER", "ledger")


async def test_an_intent_never_follows_moved(
    cluster: RedisCluster, client: LedgerClient, log: ClaimedLog
) -> None:
    """One that is the first to learn of a move is refused; logs in other slots keep their claims."""
    woken: list[int] = []
    client.on_change = lambda: woken.append(client.generation)
    for uid in ("u", "stays"):
        await log.claim(uid, EPOCH, name=NAME)
    generation = log.client.generation
    cluster.move(slot_of(log))
    stale = await intent(log)
    assert (stale.answer, stale.detail) == (Answer.RECLAIM, SERVER)
    assert await ids(log) == []
    assert (await intent(log, uid="stays")).answer is Answer.OK
    assert (log.client.generation, woken) == (generation, [])


async def test_slots_move_while_scripts_run(cluster: RedisCluster, log: ClaimedLog) -> None:
    """Every attempt that was opened is on record once, with its outcome, wherever its log went."""
    uids = [f"u{n}" for n in range(6)]
    stop = asyncio.Event()
    opened: dict[str, list[str]] = {u: [] for u in uids}
    reclaims: list[str] = []

    async def deliver(uid: str) -> None:
        await log.claim(uid, EPOCH, name=NAME)
        n = 0
        while not stop.is_set() or n < 5:
            n += 1
            attempt = AttemptId(f"0.7-{n}")
            answer = await intent(log, attempt, uid=uid)
            if answer.answer is Answer.RECLAIM:
                reclaims.append(uid)
                await log.claim(uid, EPOCH, name=NAME)
                continue
            assert answer.answer is Answer.OK
            opened[uid].append(attempt)
            done = await log.outcome(uid, failed(attempt), opening(attempt), name=NAME)
            assert done.answer is Answer.OK
            await asyncio.sleep(0.005)

    def move_all() -> int:
        return sum(cluster.move(slot_of(log, uid)) for uid in uids)

    async with asyncio.TaskGroup() as group:
        for uid in uids:
            group.create_task(deliver(uid))
        await asyncio.sleep(0.3)
        assert await asyncio.to_thread(move_all) == len(uids)
        await until(lambda: bool(reclaims), what="somebody meets a move")
        stop.set()
    for uid in uids:
        expected = [f"{kind} {a}" for a in opened[uid] for kind in ("intent", "failed")]
        assert await ids(log, uid) == expected


async def test_one_primary_down_holds_everything(
    cluster: RedisCluster, client: LedgerClient, log: ClaimedLog
) -> None:
    """No intent is accepted while a slot has no owner; outcomes wait until it is back."""
    uids = {cluster.owner(slot_of(log, f"u{n}")): f"u{n}" for n in range(30)}
    down = cluster.nodes[1]
    hit, spared = uids[port_of(down)], uids[cluster.ports[0]]
    for uid in (hit, spared):
        await log.claim(uid, EPOCH, name=NAME)
        assert (await intent(log, uid=uid)).answer is Answer.OK
    generation = log.client.generation
    await down.kill()
    await until(lambda: not RedisCluster.whole(cluster.ports[0]), what="the others notice")

    with pytest.raises(Unavailable, match="Redis cannot be reached"):
        await intent(log, AttemptId("0.7-2"), uid=hit, patience=1.0)
    with pytest.raises(Unavailable, match="Redis answers CLUSTERDOWN"):
        await intent(log, AttemptId("0.7-2"), uid=spared, patience=1.0)
    assert client.problem is not None
    assert "Redis Cluster is down" in client.problem or "CLUSTERDOWN" in client.problem
    assert not log.available

    waiting = asyncio.create_task(log.outcome(hit, failed(FIRST), opening(FIRST), name=NAME))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await down.start()
    assert (await waiting).answer is Answer.OK
    await until(lambda: log.available, what="the client sees that all is well")
    assert log.client.generation == generation + 1  # another process of the same node
    stale = await intent(log, AttemptId("0.7-2"), uid=hit)
    assert (stale.answer, stale.detail) == (Answer.RECLAIM, SERVER)
    assert (await intent(log, AttemptId("0.7-2"), uid=spared)).answer is Answer.OPEN
    assert await ids(log, hit) == ["intent 0.7-1", "failed 0.7-1"]


async def test_a_replica_takes_over() -> None:
    """A dead primary sends no MOVED: the client looks for who holds its slots now."""
    async with RedisCluster(replica=True) as cluster, running(cluster.url) as client:
        log = ClaimedLog(client, patience=10)
        dead, heir = cluster.nodes[1], cluster.nodes[3]
        uid = next(u for u in (f"u{n}" for n in range(99))
                   if cluster.owner(slot_of(log, u)) == port_of(dead))  # fmt: skip
        await log.claim(uid, EPOCH, name=NAME)
        assert (await intent(log, uid=uid)).answer is Answer.OK
        await cluster.replicated()
        generation = log.client.generation
        await dead.kill()
        outcome = await log.outcome(uid, failed(FIRST), opening(FIRST), name=NAME)
        assert outcome.answer is Answer.OK
        # The heir itself is asked: another node may hear of the failover after the heir answers.
        assert cluster.owner(slot_of(log, uid), asked=port_of(heir)) == port_of(heir)
        assert log.client.generation == generation + 1
        stale = await intent(log, AttemptId("0.7-2"), uid=uid)
        assert (stale.answer, stale.detail) == (Answer.RECLAIM, SERVER)
        assert await ids(log, uid) == ["intent 0.7-1", "failed 0.7-1"]
        await until(lambda: log.available, what="the client sees that all is well")


async def test_every_primary_is_judged(cluster: RedisCluster, client: LedgerClient) -> None:
    """One primary that may evict makes the whole cluster unfit."""
    client.fitness = lambda info: unfit(info, durability="relaxed")
    await client.probe()
    assert client.unfit is None
    call(cluster.ports[2], "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        await client.probe()
        assert "eviction policy allkeys-lru" in (client.unfit or "")
        assert client.info["maxmemory_policy"] == "allkeys-lru"
    finally:
        call(cluster.ports[2], "CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_one_primary_that_is_full_is_said_while_others_are_not(
    cluster: RedisCluster, client: LedgerClient, log: ClaimedLog
) -> None:
    """Intents that the others execute do not make it look fit: some logs still get none."""
    uids = {cluster.owner(slot_of(log, f"u{n}")): f"u{n}" for n in range(30)}
    for uid in uids.values():
        await log.claim(uid, EPOCH, name=NAME)
    full, spared = cluster.ports[:2]
    call(full, "CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(Unavailable):
            await intent(log, uid=uids[full], patience=0.0)
        for n in range(1, 6):
            attempt = AttemptId(f"0.7-{n}")
            assert (await intent(log, attempt, uid=uids[spared])).answer is Answer.OK
            assert client.unavailable_reason == "Redis answers OOM: it is full (maxmemory)"
            await log.outcome(uids[spared], failed(attempt), None, name=NAME)
    finally:
        call(full, "CONFIG", "SET", "maxmemory", 0)
    await until(lambda: client.unavailable_reason is None, what="the client sees that all is well")
    assert (await intent(log, uid=uids[full])).answer is Answer.OK


async def test_the_wrong_kind_of_url(cluster: RedisCluster) -> None:
    """A cluster where one server is expected, or the reverse, is told with the way out."""
    port = next(p for p in cluster.ports if p != cluster.owner(key_slot(b"nl:meta")))
    with pytest.raises(ConfigError, match=r"begin with redis\+cluster://") as caught:
        async with running(f"redis://127.0.0.1:{port}"):
            pass
    assert caught.value.path == "redis.url"
    async with RedisServer(find_binary("redis-server")) as plain:
        with pytest.raises(ConfigError, match="begin with redis://") as caught:
            async with running(f"redis+cluster://127.0.0.1:{port_of(plain)}"):
                pass
    assert caught.value.path == "redis.url"


async def test_what_is_no_cluster_any_more_is_waited_for() -> None:
    """Once it runs, a call is only ever unavailable: else who records a result would lose it."""
    async with RedisServer(find_binary("redis-server")) as plain:
        client = LedgerClient(f"redis+cluster://127.0.0.1:{port_of(plain)}", timeout=1.0)
        log = ClaimedLog(client, patience=0.2)
        for call in (log.claim("u", EPOCH, name="ns/n"), log.read("u"), anext(log.scan())):
            with pytest.raises(Unavailable, match="not a node of a Redis Cluster"):
                await call
        assert "not a node of a Redis Cluster" in (client.unavailable_reason or "")
        await client.close()


async def test_no_node_answers() -> None:
    """Nodes that are away are named as that, without their addresses or the password."""
    client = LedgerClient("redis+cluster://:c4n4ry@127.0.0.1:1,127.0.0.1:2", timeout=1.0)
    with pytest.raises(Unavailable, match="no node of the Redis Cluster answers") as caught:
        await client.open("one")
    assert "c4n4ry" not in f"{caught.value!r} {client.problem} {client!r}"
    await client.close()


# -- pure parts ------------------------------------------------------------------------------------


def test_an_endpoint_that_the_node_does_not_know() -> None:
    """A node without an endpoint of its own is where it was asked."""
    for unknown in (None, b"", b"?"):
        found = parse_layout([[0, 1, [unknown, 7, b"n"], [b"r", 8, b"m"]]], ("asked", 1),
                             healthy=True)  # fmt: skip
        assert [p.address for p in found.primaries] == [("asked", 7)]
        assert found.holes == SLOTS - 2


def test_the_weakest_of_many() -> None:
    """Of each promise, the one that promises least stands for all."""
    good = {
        "redis_version": "7.2.1", "master_replid": "8f6a", "connected_slaves": "2", "appendfsync": "always",
        "maxmemory_policy": "noeviction", "aof_enabled": "1", "aof_last_write_status": "ok",
    }  # fmt: skip
    assert weakest([good, good]) == good
    assert weakest([]) == {}
    for name, value in (
        ("redis_version", "7.0.15"),
        ("connected_slaves", "0"),
        ("appendfsync", "everysec"),
        ("maxmemory_policy", "allkeys-lru"),
        ("aof_enabled", "0"),
        ("aof_last_write_status", "err"),
        ("master_replid", ""),
    ):
        assert weakest([good, good | {name: value}, good])[name] == value
    assert "appendfsync" not in weakest([good, {k: v for k, v in good.items() if k[:4] != "appe"}])


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("EVALSHA", "sha", 1, "nl:{u}", b"x"), b"nl:{u}"), (("LRANGE", b"k", 0, -1), b"k"),
        (("PUBLISH", "nl:poke", "u"), None),
    ],
)  # fmt: skip
def test_the_key_of_a_command(command: tuple[Any, ...], key: bytes | None) -> None:
    """The key decides where a command runs; commands without one are known by name."""
    assert key_of(command) == key
