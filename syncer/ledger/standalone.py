"""
One server at a time: a Redis of its own, or the master that Sentinels name.

One pipeline. Another process, history, role or store is found on the next new connection, and every ten
seconds on the one that is up. A server that goes away while there are no calls is found by the
subscriber's connection: when that one cannot be made again, the server is probed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError, ResponseError

from syncer.ledger.connection import connection_options
from syncer.ledger.pipeline import Call, Pipeline
from syncer.ledger.replies import Redirected, classify_reply, parse_version
from syncer.ledger.store import RedisState, Server
from syncer.ledger.url import RedisTarget, Topology, place_of
from syncer.model.errors import ConfigError, LedgerError
from syncer.runtime.supervise import elapse

if TYPE_CHECKING:
    from syncer.ledger.sentinel import Master

_PROBE_SECONDS: Final = 10.0
_PROBE_TROUBLED: Final = 2.0
_CONFIRM_SECONDS: Final = 2.0


class Standalone:
    """One pipeline to one server."""

    layout = 0

    def __init__(self, target: RedisTarget, redis: RedisState, *, timeout: float) -> None:
        """Prepare, and connect to nothing yet; ConfigError if the URL cannot be used."""
        self._redis = redis
        self._timeout = timeout
        self._master: Master | None = None

        def plain(on_connect: Callable[[AbstractConnection], Awaitable[None]]) -> ConnectionPool:
            options = connection_options(timeout)
            if target.server.startswith("unix:"):
                # Of TCP, and the vendor refuses it for a socket.
                del options["socket_keepalive"]
            return ConnectionPool.from_url(target.server, redis_connect_func=on_connect, **options)

        def named(on_connect: Callable[[AbstractConnection], Awaitable[None]]) -> ConnectionPool:
            # Clients and commands of the vendor come with it, which a server of its own needs none of.
            from syncer.ledger.sentinel import Master  # noqa: PLC0415 (0.2 s of CPU)

            self._master = Master(target, on_connect, timeout=timeout)
            return self._master.pool

        self._pipeline = Pipeline(
            named if target.topology is Topology.SENTINEL else plain,
            self,
            timeout=timeout,
            current=lambda connection: self._master is None or self._master.current(connection),
            place=lambda: self._place(target),
        )
        self._pipeline.pool.make_connection()  # type: ignore[no-untyped-call]  # vendor; refuses options

    def _place(self, target: RedisTarget) -> str:
        named = self._master.pool.master_address if self._master is not None else None
        return f"{named[0]}:{named[1]}" if named else place_of(target)

    def submit(self, call: Call, at: str | None) -> Coroutine[Any, Any, Any]:  # noqa: ARG002 - there is one
        """Run a command."""
        return self._pipeline.submit(call)

    def primary_of(self, key: str) -> str:  # noqa: ARG002 - there is one
        """The one server, without a name."""
        return ""

    def known(self) -> tuple[str, ...]:
        """The same, without asking anybody."""
        return ("",)

    async def primaries(self) -> tuple[str, ...]:
        """The one server, without a name."""
        return ("",)

    async def open(self) -> None:
        """Connect again, so that the store is checked with the installation known."""
        await self._pipeline.reset()
        await self._pipeline.look()

    async def probe(self) -> None:
        """Ask the server who it is now; a change raises the generation."""
        begun = asyncio.get_running_loop().time()
        await self._pipeline.look()
        self._redis.looked_at = begun

    async def connect_subscriber(self) -> AbstractConnection:
        """Make one more connection to the server; it is identified like every other."""
        connection: AbstractConnection = self._pipeline.pool.make_connection()  # type: ignore[no-untyped-call]  # vendor
        try:
            async with asyncio.timeout(self._timeout * 3):
                await connection.connect()  # type: ignore[no-untyped-call]  # vendor
        except (RedisError, OSError, TimeoutError):
            self._redis.probe_now.set()
            raise
        return connection

    def serves_subscriber(self, connection: AbstractConnection) -> bool:
        """Whether it goes to the server that is named now."""
        return self._master is None or self._master.current(connection)

    async def run(self) -> None:
        """Serve calls and watch the server until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pipeline.serve(), name="redis-pipeline")
            group.create_task(self._watch(), name="redis-watch")
            if self._master is not None:
                group.create_task(self._follow(self._master), name="redis-sentinels")

    async def close(self) -> None:
        """Close connections; calls that wait fail as not executed."""
        await self._pipeline.close()
        if self._master is not None:
            await self._master.close()

    async def _watch(self) -> None:
        while True:
            calm = self._redis.problem is None and self._redis.unfit is None
            await elapse(_PROBE_SECONDS if calm else _PROBE_TROUBLED, self._redis.probe_now)
            self._redis.probe_now.clear()
            with contextlib.suppress(LedgerError):
                await self.probe()

    async def _follow(self, master: Master) -> None:
        while True:
            await asyncio.sleep(_CONFIRM_SECONDS)
            known = master.pool.master_address
            await master.confirm()
            if self._redis.problem is not None or master.pool.master_address != known:
                # A failover, and its end, are noticed without traffic.
                with contextlib.suppress(LedgerError):
                    await self.probe()

    # -- what the pipeline reports -------------------------------------------------------------

    async def on_connect(
        self,
        pipeline: Pipeline,  # noqa: ARG002 - there is one
        connection: AbstractConnection,
        info: dict[str, str],
    ) -> None:
        """Read, or write, the metadata of the store, and compare."""
        redis = self._redis
        try:
            store = await redis.read_store(connection)
        except ResponseError as error:
            if isinstance(classify_reply(error), Redirected):
                raise ConfigError(
                    "the server is one of several of a Redis Cluster; begin with redis+cluster://",
                    path="redis.url",
                ) from error
            raise
        redis.replicas.observe(info)
        server = Server(
            info.get("run_id", ""),
            info.get("master_replid", ""),
            info.get("role", ""),
            store,
            parse_version(info),
        )
        changed = redis.server is not None and redis.server.replaced_by(server)
        redis.settle(
            server,
            info,
            unfit=redis.fitness(info),
            changed=changed,
            run_ids=(info.get("run_id", ""),),
        )

    def on_problem(self, pipeline: Pipeline) -> None:
        """Note why Redis cannot be used, and ask another Sentinel first."""
        self._redis.problem = pipeline.problem
        self._redis.writes.on_lost("")
        if self._master is not None:
            self._master.distrust()

    def on_unconfirmed(self, pipeline: Pipeline) -> None:  # noqa: ARG002 - there is one
        """Hold attempts until a replica has caught up, and probe at once whether it has."""
        redis = self._redis
        redis.lag(redis.server.run_id if redis.server else "")
        redis.probe_now.set()
