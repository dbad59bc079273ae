"""
Redis behind Sentinels, and a Redis Cluster, on loopback.

Both are made of `RedisServer`s, so a test freezes, kills and restarts single members as it would
one server. Their times are short: a dead member is noticed within about a second. `launch` and
`close` block; coroutines have the rest, and `async with`.

How to lose the tail of a master's writes for certain: freezing the replica is not enough, since the
kernel takes the bytes for it and it reads them when it wakes. The link must go too, while the
replica cannot notice: see `SentinelSet.cut_off_replica`.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import redis

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess, Started
from tests.servers.redis import RedisServer, find_binary

T = TypeVar("T")

SERVICE: Final = "ledger"
SLOTS: Final = 16_384
#: Of servers that follow one another.
QUICK: Final = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
_START_TIMEOUT: Final = 30.0
_CALL_TIMEOUT: Final = 5.0


async def until(condition: Callable[[], T | None], *, what: str, timeout: float = 45.0) -> T:
    """Poll a blocking condition until it gives something true; its errors count as not yet."""
    last: Exception | None = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    found = await asyncio.to_thread(condition)
                    if found:
                        return found
                except (redis.RedisError, OSError) as error:
                    last = error
                await asyncio.sleep(0.05)
    except TimeoutError:
        msg = f"{what}: not within {timeout:g} s (last error: {last!r})"
        raise AssertionError(msg) from last


def port_of(server: RedisServer) -> int:
    """Port that a server listens on."""
    return int(server.url.rpartition(":")[2])


def call(port: int, *command: str | int, password: str = "") -> Any:
    """Run one command on a server, over a connection of its own; RedisError says why not."""
    with redis.Redis(
        port=port,
        password=password or None,
        socket_timeout=_CALL_TIMEOUT,
        decode_responses=True,
        protocol=2,
    ) as client:
        return client.execute_command(*command)


async def follow(replica: RedisServer, master: RedisServer) -> None:
    """Make a server the replica of another one, and wait until it has what that one has."""
    await asyncio.to_thread(call, port_of(replica), "REPLICAOF", "127.0.0.1", port_of(master))
    await replicated(replica, master)


async def replicated(replica: RedisServer, master: RedisServer) -> None:
    """Wait until a replica has what its master has."""

    def follows() -> bool:
        mine, theirs = (call(port_of(s), "INFO", "replication") for s in (master, replica))
        return bool(
            theirs.get("master_link_status") == "up"
            and mine["master_repl_offset"] == theirs.get("slave_repl_offset")
        )

    await until(follows, what="the replica follows its master")


class Sentinel(Started):
    """One Sentinel; it keeps its state in a directory of its own."""

    def __init__(
        self,
        binary: Path,
        master: int,
        *,
        quorum: int,
        patience_ms: int,
        settings: Sequence[str] = (),
        password: str = "",
    ) -> None:
        """Choose a port; `master` is the port of the server to watch, `password` the own one."""
        self.directory = Path(tempfile.mkdtemp(prefix="sentinel-"))
        self.port = free_port()
        config = self.directory / "sentinel.conf"
        config.write_text(
            f"port {self.port}\n"
            "bind 127.0.0.1\n"
            f"dir {self.directory}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {patience_ms}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
            + (f"requirepass {password}\n" if password else "")
            + "".join(f"{line}\n" for line in settings)
        )
        self._password = password
        self.process = ServerProcess(
            "sentinel",
            [str(binary), str(config), "--sentinel"],
            log=self.directory / "sentinel.log",
        )

    def launch(self) -> None:
        """Start, and wait until it answers."""
        self.process.start(self._answers, timeout=_START_TIMEOUT)

    def close(self) -> None:
        """End it and delete its directory."""
        self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return bool(call(self.port, "PING", password=self._password))
        except (redis.RedisError, OSError):
            return False


class SentinelSet(Started):
    """
    A master, its replica, and three Sentinels that agree by two.

    Attributes:
        one: The first master.
        two: Its replica.
        sentinels: The three.
    """

    def __init__(self, *, patience_ms: int = 600) -> None:
        """Choose addresses; a master that is silent for `patience_ms` is replaced. Nothing runs yet."""
        binary = find_binary("redis-server")
        self.one = RedisServer(binary, settings=QUICK)
        self.two = RedisServer(binary, settings=QUICK)
        self.sentinels = [
            Sentinel(binary, port_of(self.one), quorum=2, patience_ms=patience_ms) for _ in range(3)
        ]

    @property
    def url(self) -> str:
        """Address of the service, by way of all Sentinels."""
        hosts = ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    async def start(self) -> None:
        """Start, and wait until every Sentinel knows the replica and the others."""
        for server in (self.one, self.two):
            await server.start()
        await follow(self.two, self.one)
        for sentinel in self.sentinels:
            await sentinel.start()
        await until(self._known, what="the Sentinels know each other and the replica")

    def close(self) -> None:
        """End everything."""
        for sentinel in self.sentinels:
            sentinel.close()
        for server in (self.one, self.two):
            server.close()

    async def replicated(self) -> None:
        """Wait until the replica has what the master has."""
        await replicated(self.two, self.one)

    async def cut_off_replica(self) -> None:
        """Freeze the replica and drop its link: what is written now never reaches it."""
        await self.two.pause()
        await asyncio.to_thread(call, port_of(self.one), "CLIENT", "KILL", "TYPE", "replica")

    async def fail_over(self) -> None:
        """Kill the master, wake the replica, and wait until all Sentinels name it."""
        await self.one.kill()
        await self.two.resume()
        await self.promoted(self.two)

    async def switch(self) -> None:
        """Have the replica take over; a Sentinel refuses that until it has heard enough of it."""
        sentinel = self.sentinels[0].port
        await until(
            lambda: call(sentinel, "SENTINEL", "FAILOVER", SERVICE), what="the order is taken"
        )

    async def promoted(self, server: RedisServer) -> None:
        """Wait until a server is the master by its own words and by those of every Sentinel."""
        port = port_of(server)
        await until(
            lambda: (
                call(port, "INFO", "replication")["role"] == "master"
                and all(self.named(s) == port for s in self.sentinels)
            ),
            what="the replica is promoted",
            timeout=20,
        )

    @staticmethod
    def named(sentinel: Sentinel) -> int:
        """Port of the master by the words of one Sentinel."""
        return int(call(sentinel.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def _known(self) -> bool:
        for sentinel in self.sentinels:
            told = call(sentinel.port, "SENTINEL", "MASTER", SERVICE)
            state = dict(zip(told[::2], told[1::2], strict=True))
            if (int(state["num-slaves"]), int(state["num-other-sentinels"])) != (1, 2):
                return False
        return True


class RedisCluster(Started):
    """
    Three primaries; every slot must be served for any to be.

    Attributes:
        nodes: The primaries, then the replica of the second, if there is one.
    """

    def __init__(self, *, replica: bool = False) -> None:
        """Choose addresses; nothing runs yet."""
        binary = find_binary("redis-server")
        self.nodes = []
        for _ in range(4 if replica else 3):
            settings = {
                "cluster-enabled": "yes",
                "cluster-node-timeout": "1000",
                "repl-diskless-sync-delay": "0",
            }
            self.nodes.append(RedisServer(binary, settings=settings))

    @property
    def url(self) -> str:
        """Address of the cluster, by way of its first node."""
        return f"redis+cluster://127.0.0.1:{self.ports[0]}"

    @property
    def ports(self) -> list[int]:
        """Ports of the nodes."""
        return [port_of(node) for node in self.nodes]

    def launch(self) -> None:
        """Start the nodes and join them; `well` waits until they agree."""
        for node in self.nodes:
            node.launch()
        self._join()

    def close(self) -> None:
        """End the nodes and delete what they kept."""
        for node in self.nodes:
            node.close()

    def _join(self) -> None:
        addresses = [f"127.0.0.1:{port}" for port in self.ports[:3]]
        done = subprocess.run(
            ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_START_TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            msg = f"redis-cli cannot make a cluster:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            raise RuntimeError(msg)

    async def start(self) -> None:
        """Start, and wait until all is well."""
        await asyncio.to_thread(self.launch)
        await self.well()
        if len(self.nodes) > 3:
            await self._follow()
            await self.well()

    async def _follow(self) -> None:
        master, replica = self.nodes[1], self.nodes[3]
        bus = int(call(port_of(master), "CONFIG", "GET", "cluster-port")[1])
        call(port_of(replica), "CLUSTER", "MEET", "127.0.0.1", port_of(master), bus)
        node = str(call(port_of(master), "CLUSTER", "MYID"))
        await until(
            lambda: call(port_of(replica), "CLUSTER", "REPLICATE", node),
            what="the fourth node follows the second",
        )
        await self.replicated()
        # A replica of which the others have not heard cannot be elected.
        await until(
            lambda: all(
                str(port_of(replica)) in str(call(port, "CLUSTER", "REPLICAS", node))
                for port in self.ports
            ),
            what="all nodes know the replica",
        )

    async def replicated(self) -> None:
        """Wait until the replica has what its master has."""
        await replicated(self.nodes[3], self.nodes[1])

    async def well(self) -> None:
        """Wait until the first three say that the cluster is whole, and name the same owners."""
        ports = self.ports[:3]
        await until(
            lambda: (
                all(self.whole(p) for p in ports) and len({str(self.owners(p)) for p in ports}) == 1
            ),
            what="the cluster is whole",
        )

    @staticmethod
    def whole(port: int) -> bool:
        """Whether every slot is served, by the words of one node."""
        return "cluster_state:ok" in call(port, "CLUSTER", "INFO")

    @staticmethod
    def owners(port: int) -> list[tuple[int, int, int]]:
        """First slot, last slot and owner's port of each range, by the words of one node."""
        return sorted((int(r[0]), int(r[1]), int(r[2][1])) for r in call(port, "CLUSTER", "SLOTS"))

    def owner(self, slot: int, *, asked: int | None = None) -> int:
        """Port of the node that holds a slot, by the words of one node: the first, unless told."""
        ranges = self.owners(asked or self.ports[0])
        return next(port for first, last, port in ranges if first <= slot <= last)

    def begin_move(self, slot: int, source: int, target: int) -> None:
        """Declare that a slot is on its way from one node to another."""
        ids = {port: str(call(port, "CLUSTER", "MYID")) for port in (source, target)}
        call(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        call(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])

    @staticmethod
    def move_keys(slot: int, source: int, target: int) -> int:
        """Move the slot's keys; how many there were."""
        keys = call(source, "CLUSTER", "GETKEYSINSLOT", slot, 1000)
        if keys:
            call(source, "MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, target: int) -> None:
        """Make the target the owner, on every node."""
        node = str(call(target, "CLUSTER", "MYID"))
        for port in sorted(self.ports, key=lambda p: p != target):
            call(port, "CLUSTER", "SETSLOT", slot, "NODE", node)

    def move(self, slot: int) -> int:
        """Move a slot to another node with its keys, and those that come meanwhile; how many there were."""
        source = self.owner(slot)
        target = next(port for port in self.ports if port != source)
        self.begin_move(slot, source, target)
        moved = sum(self.move_keys(slot, source, target) for _ in range(2))
        self.end_move(slot, target)
        return moved
