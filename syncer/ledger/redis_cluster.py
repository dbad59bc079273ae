"""
Redis Cluster: a pipeline per primary, and the map that says which one holds a key.

Every script has one key, so it runs on one node. The map comes from CLUSTER SLOTS of the node that
answered last; a node whose own state is `fail` is believed only if all nodes are in that state. The map
is read again after a MOVED, after a pipeline has lost its server (a dead primary sends no MOVED), and
every ten seconds, but at most five times a second.

All logs are looked at again once a primary has lost all its slots (it may have failed, and its records with
it), a node is another process or has another history, or the store id is another. A log whose slot moved is
claimed again at its next INTENT, which its new server refuses.

One primary that is down stops all new attempts: as long as the map has a hole, or a primary does not
answer, `problem` is set. Keys of the other primaries can still be read and written.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, ConnectionPool, parse_url
from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from syncer.ledger.cluster_map import Layout, Primary, key_of, name_of, parse_layout, weakest
from syncer.ledger.connection import ask, connection_options, lost_connection, once_open
from syncer.ledger.pipeline import PATIENCE, Call, Pipeline
from syncer.ledger.replies import (
    Redirected,
    Refused,
    classify_reply,
    parse_info,
    parse_version,
    text_of,
)
from syncer.ledger.store import RedisState, Server
from syncer.ledger.url import Address, RedisTarget
from syncer.model.errors import ConfigError, LedgerError, Unavailable

_PROBE_SECONDS: Final = 10.0
#: The same while something is wrong.
_PROBE_TROUBLED: Final = 1.0
#: Seconds between two readings of the map; calls that need a newer one wait as long.
_READ_PAUSE: Final = 0.2
#: Redirections of one call; a map that is right needs one.
_HOPS: Final = 5
#: Nodes that are tried for the map before giving up.
_ASKED: Final = 16
#: Seconds for one of them.
_ASK_SECONDS: Final = 1.0
_NO_NODE: Final = "the server is not a node of a Redis Cluster; begin with redis://"
#: Connections to nodes without slots are closed after this.
_IDLE_SECONDS: Final = 30.0


class Cluster:
    """A router over one pipeline per primary; `run()` must be running for calls to be answered."""

    def __init__(self, target: RedisTarget, redis: RedisState, *, timeout: float) -> None:
        """Prepare, and connect to nothing yet; ValueError or TypeError if an option cannot be used."""
        self._redis = redis
        self._timeout = timeout
        self._seeds = target.nodes
        options = dict(parse_url(target.server))
        for name in ("host", "port", "db"):
            options.pop(name, None)
        self._options = connection_options(timeout) | options
        self._map = Layout()
        #: Counts readings of the map, so that a caller can ask for a newer one than it used.
        self._readings = 0
        self._read_at = -math.inf
        self._reading = asyncio.Lock()
        self._failure: LedgerError | None = None
        self._doubted = True
        self._map_problem: str | None = None
        self._pipelines: dict[Address, Pipeline] = {}
        self._tasks: dict[Address, asyncio.Task[None]] = {}
        self._used: dict[Address, float] = {}
        self._infos: dict[Address, dict[str, str]] = {}
        #: Process and history of each node ever seen here, by node id.
        self._runs: dict[str, str] = {}
        self._store = ""
        self._group: asyncio.TaskGroup | None = None
        self._closed = False
        #: Raised whenever slots are held by other nodes than before.
        self.layout = 0
        self._pool(self._seeds[0]).make_connection()  # type: ignore[no-untyped-call]  # vendor; refuses options

    # -- calls --------------------------------------------------------------------------------

    async def submit(self, call: Call, at: str | None) -> Any:
        """Run a command where its key is, or `at` a primary; errors as of `Pipeline.submit`."""
        key = key_of(call.command)
        with once_open():
            async with asyncio.timeout(self._timeout * PATIENCE):
                for hop in range(_HOPS):
                    if hop > 1:
                        # The nodes do not agree yet; they will within a second.
                        await asyncio.sleep(_READ_PAUSE)
                    pipeline = await self._pipeline_for(key, at)
                    readings = self._readings
                    try:
                        return await self._follow(pipeline, call)
                    except Redirected as moved:
                        await self._read_map(readings, hint=self._resolve(pipeline, moved.address))
                    except Refused as refused:
                        if refused.word == "CLUSTERDOWN":
                            self._map_problem = str(refused)
                            self._doubted = True
                            self._update_problem()
                        raise
        raise Unavailable("the nodes of the Redis Cluster do not agree about a slot")

    async def _follow(self, pipeline: Pipeline, call: Call) -> Any:
        try:
            return await pipeline.submit(call)
        except Redirected as redirected:
            if redirected.word != "ASK":
                raise
            other = self._pipeline_at(self._resolve(pipeline, redirected.address))
            asked = Call(call.command, call.script, call.wait, asking=True)
            return await other.submit(asked)

    async def _pipeline_for(self, key: bytes | None, at: str | None) -> Pipeline:
        # In doubt, one call waits for a new reading and the others use the map as it is.
        age = asyncio.get_running_loop().time() - self._read_at
        if not self._map.primaries or (self._doubted and age >= _READ_PAUSE):
            await self._read_map(self._readings)
        primaries = self._map.primaries
        if at is not None:
            named = next((p for p in primaries if name_of(p.address) == at), None)
            if named is None:
                raise Unavailable("the node is no longer a primary of the Redis Cluster")
            return self._pipeline_at(named.address)
        if key is None:
            if not primaries:
                raise Unavailable("no node of the Redis Cluster holds a slot")
            return self._pipeline_at(primaries[0].address)
        owner = self._map.slots[key_slot(key)]
        if owner is None:
            self._doubted = True
            raise Unavailable("no node of the Redis Cluster serves the slot")
        return self._pipeline_at(owner.address)

    def _resolve(self, pipeline: Pipeline, address: Address) -> Address:
        """Complete a redirection, which may leave out the host: then it is the same host."""
        if address[0]:
            return address
        return ((self._address_of(pipeline) or self._seeds[0])[0], address[1])

    def _address_of(self, pipeline: Pipeline) -> Address | None:
        """The address of a pipeline, None if it was dropped."""
        return next((a for a, known in self._pipelines.items() if known is pipeline), None)

    def primary_of(self, key: str) -> str:
        """The primary that holds a key, as far as is known; empty if none is."""
        return name_of(owner.address) if (owner := self._map.slots[key_slot(key.encode())]) else ""

    def known(self) -> tuple[str, ...]:
        """Names of all primaries, as the map was read last."""
        return tuple(name_of(p.address) for p in self._map.primaries)

    async def primaries(self) -> tuple[str, ...]:
        """Names of all primaries, newly read."""
        with once_open():
            await self._read_map(self._readings)
        return tuple(name_of(p.address) for p in self._map.primaries)

    async def connect_subscriber(self) -> AbstractConnection:
        """Connect to a primary, or a node named at the start; what is published reaches every node."""
        primaries = [p.address for p in self._map.primaries]
        pool = self._pool(random.choice(primaries or list(self._seeds)))  # noqa: S311 - no secret
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # vendor
        async with asyncio.timeout(self._timeout * 3):
            await connection.connect()  # type: ignore[no-untyped-call]  # vendor
        return connection

    def serves_subscriber(self, connection: AbstractConnection) -> bool:
        """Whether it goes to a primary; a node that left the cluster receives nothing more."""
        where = (getattr(connection, "host", None), getattr(connection, "port", None))
        return any(p.address == where for p in self._map.primaries) or where in self._seeds

    # -- pipelines ----------------------------------------------------------------------------

    def _pool(
        self,
        address: Address,
        on_connect: Callable[[AbstractConnection], Awaitable[None]] | None = None,
    ) -> ConnectionPool:
        hook: dict[str, Any] = {"redis_connect_func": on_connect} if on_connect is not None else {}
        return ConnectionPool(host=address[0], port=address[1], **self._options, **hook)

    def _pipeline_at(self, address: Address) -> Pipeline:
        if self._closed:
            raise Unavailable("the Redis client is closed")
        self._used[address] = asyncio.get_running_loop().time()
        pipeline = self._pipelines.get(address)
        if pipeline is None:
            pipeline = Pipeline(
                lambda on_connect: self._pool(address, on_connect),
                self,
                timeout=self._timeout,
                place=lambda: name_of(address),
            )
            self._pipelines[address] = pipeline
            self._start(address)
        return pipeline

    def _start(self, address: Address) -> None:
        if self._group is not None:
            name = f"redis-pipeline-{name_of(address)}"
            self._tasks[address] = self._group.create_task(
                self._pipelines[address].serve(), name=name
            )

    async def _drop_idle(self) -> None:
        wanted = {p.address for p in self._map.primaries}
        now = asyncio.get_running_loop().time()
        for address in [a for a in self._pipelines if a not in wanted]:
            if now - self._used[address] < _IDLE_SECONDS:
                continue
            pipeline, task = self._pipelines.pop(address), self._tasks.pop(address, None)
            self._infos.pop(address, None)
            del self._used[address]
            if task is not None:
                task.cancel()
            await pipeline.close()

    # -- the map ------------------------------------------------------------------------------

    async def _read_map(self, seen: int, *, hint: Address | None = None) -> None:
        """
        Read the map, unless it was read again after reading number `seen`.

        Raises:
            Unavailable: no node answers.
            Unauthorised: the credentials are refused.
            ConfigError: this is not Redis Cluster.
        """
        async with self._reading:
            if self._readings > seen:
                if self._failure is not None:
                    raise self._failure
                return
            loop = asyncio.get_running_loop()
            await asyncio.sleep(max(0.0, self._read_at + _READ_PAUSE - loop.time()))
            self._read_at = loop.time()
            self._failure = None
            try:
                layout = await self._find_map(hint)
            except LedgerError as error:
                # Callers that wait for this reading need not wait for another one that fails too.
                self._failure = error
                self._map_problem = str(error)
                self._update_problem()
                raise
            else:
                await self._adopt(layout)
            finally:
                self._readings += 1

    async def _find_map(self, hint: Address | None) -> Layout:
        known = [p.address for p in self._map.primaries]
        # A primary that does not answer comes last: it would cost a timeout.
        known.sort(key=lambda a: a in self._pipelines and self._pipelines[a].problem is not None)
        nodes = dict.fromkeys([*([hint] if hint else []), *known, *self._seeds])
        found: list[Layout] = []
        errors: list[LedgerError] = []
        for address in list(nodes)[:_ASKED]:
            try:
                layout = await self._ask_for_map(address)
            except LedgerError as error:
                errors.append(error)
                continue
            if layout.healthy:
                return layout
            found.append(layout)
        if found:
            return min(found, key=lambda layout: layout.holes)
        worse = next((e for e in errors if not isinstance(e, Unavailable)), None)
        if worse is not None:
            raise worse
        raise Unavailable("no node of the Redis Cluster answers")

    async def _ask_for_map(self, address: Address) -> Layout:
        # Not over a pipeline: a replica knows the map as well, and pipelines refuse replicas.
        pool = self._pool(address)
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # vendor
        try:
            async with asyncio.timeout(min(_ASK_SECONDS, self._timeout)):
                await connection.connect()  # type: ignore[no-untyped-call]  # vendor
                reply = await ask(connection, "CLUSTER", "SLOTS")
                state = parse_info(await ask(connection, "CLUSTER", "INFO")).get("cluster_state")
            return parse_layout(reply, address, healthy=state == "ok")
        except ResponseError as error:
            if "cluster support disabled" in str(error):
                raise ConfigError(_NO_NODE, path="redis.url") from error
            raise classify_reply(error) from error
        except (RedisError, OSError, TimeoutError) as error:
            raise lost_connection(error, name_of(address), type(connection)) from error
        except ValueError as error:
            raise Unavailable(str(error)) from error
        finally:
            await connection.disconnect(nowait=True)

    async def _adopt(self, layout: Layout) -> None:
        earlier = self._map
        merged = layout.over(earlier)
        self._map = merged
        self._doubted = not layout.healthy or layout.holes > 0
        if layout.holes:
            self._map_problem = f"Redis Cluster: {layout.holes} slots are served by no node"
        elif not layout.healthy:
            self._map_problem = "Redis Cluster is down (cluster_state fail)"
        else:
            self._map_problem = None
        if merged.slots != earlier.slots:
            self.layout += 1
        new = [p for p in merged.primaries if p.address not in self._pipelines]
        holding = {p.node for p in merged.primaries}
        self._settle(changed=any(p.node not in holding for p in earlier.primaries))
        await self._look_at(new)
        await self._drop_idle()

    async def _look_at(self, primaries: Iterable[Primary]) -> bool:
        """See who answers on these; True if all do."""
        looks = (self._pipeline_at(p.address).look() for p in primaries)
        results = await asyncio.gather(*looks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, LedgerError):
                raise result
        return not any(results)

    # -- life ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read the map and connect to every primary; connections that are up are made again."""
        await self._read_map(self._readings)
        for pipeline in list(self._pipelines.values()):
            await pipeline.reset()
        for primary in self._map.primaries:
            await self._pipeline_at(primary.address).look()
        if self._map_problem is not None:
            raise Unavailable(self._map_problem)
        if not self._store:
            raise Unavailable("the Redis Cluster did not say whose it is")

    async def probe(self) -> None:
        """Read the map, and ask every primary who it is now."""
        begun = asyncio.get_running_loop().time()
        await self._read_map(self._readings)
        if await self._look_at(self._map.primaries):
            self._redis.looked_at = begun
        self._update_problem()

    async def run(self) -> None:
        """Serve calls and watch the cluster until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for address in self._pipelines:
                    self._start(address)
                await self._watch()
            finally:
                self._group = None

    async def close(self) -> None:
        """Close connections; calls that wait fail as not executed."""
        self._closed = True
        for pipeline in list(self._pipelines.values()):
            await pipeline.close()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(_PROBE_TROUBLED)
            opened = self._redis.server is not None
            troubled = self._redis.problem or self._redis.unfit or self._redis.probe_now.is_set()
            if loop.time() - last < _PROBE_SECONDS and not (opened and troubled):
                continue
            self._redis.probe_now.clear()
            with contextlib.suppress(LedgerError, TimeoutError):
                await self.probe()
            last = loop.time()

    # -- what pipelines report ----------------------------------------------------------------

    async def on_connect(
        self, pipeline: Pipeline, connection: AbstractConnection, info: dict[str, str]
    ) -> None:
        """Note the node's process; read, or write, the store's metadata where this node holds it."""
        if info.get("cluster_enabled") != "1":
            raise ConfigError(_NO_NODE, path="redis.url")
        address = self._address_of(pipeline)
        if address is None:
            raise ResponseError("ERR the pipeline is closed")
        node = text_of(await ask(connection, "CLUSTER", "MYID"))
        self._infos[address] = info
        self._redis.replicas.observe(info)
        run = f"{info.get('run_id', '')} {info.get('master_replid', '')}"
        before, self._runs[node] = self._runs.get(node), run
        changed = before is not None and before != run
        owner = self._map.slots[key_slot(self._redis.meta_key.encode())]
        if owner is not None and owner.address == address:
            if owner.node != node:
                self._doubted = True
            # Moved, or not served: the next reading of the map shows it.
            with contextlib.suppress(ResponseError):
                store = await self._redis.read_store(connection)
                was, self._store = self._store, store
                changed |= was not in ("", self._store)
        self._settle(changed=changed)

    def on_problem(self, pipeline: Pipeline) -> None:
        """Read the map before the next call: another node may hold the slots now."""
        self._doubted = True
        if address := self._address_of(pipeline):
            self._redis.writes.on_lost(name_of(address))
        self._update_problem()

    def on_unconfirmed(self, pipeline: Pipeline) -> None:
        """Hold attempts until a replica of that primary has caught up, which is checked within a second."""
        info = self._infos.get(self._address_of(pipeline) or ("", 0), {})
        self._redis.lag(info.get("run_id", ""))

    def _settle(self, *, changed: bool) -> None:
        redis = self._redis
        primaries = self._map.primaries
        infos = [self._infos[p.address] for p in primaries if p.address in self._infos]
        digest = hashlib.sha256()
        for node in sorted(p.node for p in primaries):
            digest.update(f"{node} {self._runs.get(node, '')}\n".encode())
        reasons = (redis.fitness(info) for info in infos)
        version = min((parse_version(i) for i in infos), default=())
        server = Server(digest.hexdigest()[:40], "", "cluster", self._store, version)
        redis.settle(
            server,
            weakest(infos),
            unfit=next((r for r in reasons if r), None),
            changed=changed,
            run_ids=[info.get("run_id", "") for info in infos],
        )
        self._update_problem()

    def _update_problem(self) -> None:
        pipelines = [self._pipelines.get(p.address) for p in self._map.primaries]
        down = [p.problem for p in pipelines if p is not None and p.problem is not None]
        self._redis.problem = self._map_problem or (
            f"{len(down)} of {len(pipelines)} primaries of the Redis Cluster: {down[0]}"
            if down
            else None
        )
