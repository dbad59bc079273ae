"""
Ordered, pipelined commands to one server.

The vendor's command methods do not serve here: a library must not repeat a write whose reply was lost
(redis-py does, ten times by default), and calls that come together are to share a round trip. The pipeline
therefore takes a connection from the vendor's pool, sends the calls whose callers still wait in one round
trip, and passes each reply to its caller. Calls that arrive meanwhile share the next round trip; a caller
that finds the pipeline idle makes the round trip itself, which saves two rounds of the event loop. The
pipeline keeps the connection between rounds, because taking and returning one costs as much as a record.

The pipeline also decides what a failure means: before it has written, nothing was executed (`Unavailable`);
afterwards, every call without a reply is `Ambiguous`.

Calls that replicas must confirm (`Call.wait`) have their own queue, rounds and connection: WAIT blocks
its connection, and no other call should wait with it. One WAIT at the end of a round covers all writes
before it on its connection, so it confirms the whole round; calls that arrive meanwhile share the next
one.

A new connection is looked at before its first command, and the one that is up when its owner asks
(`look`), in one way: a replica and the store of another installation are refused, and the owner compares
who answers. No safety of a send hangs on it; that is in the scripts.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from syncer.ledger.connection import ask, lost_connection, refuse_sentinel, with_clock
from syncer.ledger.lua import Script
from syncer.ledger.replicas import NO_WAIT
from syncer.ledger.replies import (
    MALFORMED,
    classify_reply,
    is_malformed,
    parse_info,
    parse_pairs,
    word_of,
)
from syncer.model.errors import (
    Ambiguous,
    ConfigError,
    LedgerError,
    PortError,
    Unavailable,
)

#: Calls in one round trip; a claim's reply holds a log.
_BATCH: Final = 128
#: Calls that may wait; more are refused as unavailable.
_QUEUE: Final = 8192
#: How many timeouts a call may take: connecting, sending, its reply, and the queue before it.
PATIENCE: Final = 6
#: Share of a timeout by which a reply may exceed it.
_STEP: Final = 0.1


@dataclass(frozen=True, slots=True)
class Call:
    """
    A command and what goes with it.

    Attributes:
        script: The script that the command runs, loaded where the server does not have it.
        wait: Replicas that must confirm, and milliseconds to wait for them. The result is then a pair:
            the reply, and how many replicas have confirmed.
        more: Commands that are executed after the first one; the result is then the tuple of all replies.
        asking: Whether to send ASKING first, so that a node serves a slot that is moving to it.
    """

    command: tuple[Any, ...]
    script: Script | None = None
    wait: tuple[int, int] | None = None
    more: tuple[tuple[Any, ...], ...] = ()
    asking: bool = False

    @property
    def commands(self) -> list[tuple[Any, ...]]:
        """What is written, in order, on one connection."""
        return [*([("ASKING",)] if self.asking else ()), self.command, *self.more]


#: Makes of a command what is written.
pack: Final[Callable[[tuple[Any, ...]], bytes]] = hiredis.pack_command


async def read_reply(connection: AbstractConnection, call: Call) -> Any:
    """Read the reply to a call, error replies as values; every reply must be read."""
    replies: list[Any] = []
    for _ in call.commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    failed = next((r for r in replies if isinstance(r, ResponseError)), None)
    if failed is not None:
        return failed
    return tuple(replies) if call.more else replies[-1]


@dataclass(slots=True)
class _Waiting:
    call: Call
    future: asyncio.Future[Any]
    #: Second of the loop's clock at which it fails.
    until: float = math.inf


class Owner(Protocol):
    """Is called when the state of a server changes."""

    async def on_connect(
        self, pipeline: Pipeline, connection: AbstractConnection, info: dict[str, str]
    ) -> None:
        """
        Check a connection to a master before anything else uses it.

        Raises:
            ConfigError: it must not be used.
            ResponseError: as the server answered.
        """

    def on_problem(self, pipeline: Pipeline) -> None:
        """Note that `problem` of the pipeline is set."""

    def on_unconfirmed(self, pipeline: Pipeline) -> None:
        """Note that fewer replicas than requested have confirmed a round in time."""


PoolMaker = Callable[[Callable[[AbstractConnection], Awaitable[None]]], ConnectionPool]


class Pipeline:
    """
    Calls to one server, in order.

    `serve()` must be running for calls to be answered. All calls are safe to cancel; a cancelled call may
    still be executed. `_round_lock` allows one round at a time.
    `problem` is why the server cannot be used now, None if it can or was not called yet.
    """

    def __init__(
        self,
        pool: PoolMaker,
        owner: Owner,
        *,
        timeout: float,
        current: Callable[[AbstractConnection], bool] = lambda _connection: True,
        place: Callable[[], str] = lambda: "",
        confirms_for: Pipeline | None = None,
    ) -> None:
        """
        Prepare; nothing is connected yet.

        Args:
            pool: Makes the pool of connections from a function to be called on each new one.
            owner: Called for new connections and for transport errors.
            timeout: Seconds for connecting, and for each reply.
            current: Whether the address of a connection is still the right one.
            place: Host and port of the server, as far as known, for error texts.
            confirms_for: The pipeline whose confirmed calls are made here, on its pool.
        """
        self.problem: str | None = None
        self.pool = pool(self._identify)
        self._owner = owner
        self._timeout = timeout
        self._current = current
        self._place = place
        self._main = confirms_for or self
        #: Makes the calls that replicas must confirm.
        self._confirming: Pipeline | None = None
        if confirms_for is None:
            self._confirming = Pipeline(
                lambda _identify: self.pool, owner, timeout=timeout, current=current, place=place,
                confirms_for=self,
            )  # fmt: skip
        self._waiting: deque[_Waiting] = deque()
        #: Calls with a limited wait, in the order of their limits; those at the head may have ended.
        self._limited: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._round_lock = asyncio.Lock()
        #: The connection that rounds use; taken from the pool.
        self._open_connection: AbstractConnection | None = None
        #: Whether the server allowed CONFIG GET on the newest connection.
        self._settings_readable = True
        #: Whether the server refused WAIT to the user, as far as is known.
        self.wait_refused = False
        self._closed = False

    # -- calls --------------------------------------------------------------------------------

    async def submit(self, call: Call) -> Any:
        """Run one command; errors as for `LedgerClient.evaluate`. TimeoutError: may have been executed."""
        if call.wait and self._confirming is not None:
            return await self._confirming.submit(call)
        if self._closed:
            raise Unavailable("the Redis client is closed")
        if len(self._waiting) >= _QUEUE:
            raise Unavailable("too many calls are waiting for Redis")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(call, loop.create_future())
        if not self._waiting and not self._round_lock.locked():
            async with self._round_lock:
                try:
                    await self._round([waiting])
                except asyncio.CancelledError:
                    # The call has failed already, and no task awaits it.
                    waiting.future.exception()
                    raise
            return waiting.future.result()
        waiting.until = loop.time() + self._timeout * PATIENCE
        self._waiting.append(waiting)
        self._limit(waiting)
        self._wake.set()
        return await waiting.future

    def _limit(self, waiting: _Waiting) -> None:
        """Let a call fail if it waits too long; one timer serves all waiting calls."""
        while self._limited and self._limited[0].future.done():
            self._limited.popleft()
        self._limited.append(waiting)
        if self._timer is None:
            self._give_up()

    def _give_up(self) -> None:
        loop, limited = asyncio.get_running_loop(), self._limited
        while limited and (limited[0].future.done() or limited[0].until <= loop.time()):
            if not (over := limited.popleft().future).done():
                over.set_exception(TimeoutError())
        self._timer = loop.call_at(limited[0].until, self._give_up) if limited else None

    async def look(self) -> None:
        """Have the owner see who answers on the connection that calls use, or raise a LedgerError."""
        async with self._round_lock:
            kept = self._open_connection
            try:
                connection = await self._connection()
                if connection is kept:
                    await self._look(connection)
            except (RedisError, OSError, TimeoutError, *MALFORMED) as error:
                raise self._lost(error) from error

    async def _look(self, connection: AbstractConnection) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._check(connection)
        except BaseException:
            # A reply may still be on its way, or the server is one that must not be used.
            await connection.disconnect(nowait=True)
            raise

    async def reset(self) -> None:
        """Connect again for the next call, and drop calls under way."""
        # A server that does not answer the end of TLS is given up after a while.
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await self.pool.disconnect(inuse_connections=True)

    async def close(self) -> None:
        """Close the connections; waiting calls fail as not executed."""
        self._closed = True
        if self._confirming is not None:
            await self._confirming.close()
        while self._waiting:
            self._fail([self._waiting.popleft()], Unavailable("the Redis client is closed"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self.reset()

    async def serve(self) -> None:
        """Serve calls until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve())
            if self._confirming is not None:
                group.create_task(self._confirming.serve())

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                async with self._round_lock:
                    if batch := self._next_batch():
                        await self._round(batch)

    def _next_batch(self) -> list[_Waiting]:
        """The calls still waiting; nothing is sent, and nobody connects, for callers that have given up."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < _BATCH:
            waiting = self._waiting.popleft()
            if not waiting.future.done():
                batch.append(waiting)
        return batch

    # -- one round ----------------------------------------------------------------------------

    async def _acquire(self) -> AbstractConnection:
        # Connecting, identifying and, with Sentinels, finding the master, each within its own limit.
        async with asyncio.timeout(self._timeout * 3):
            connection: AbstractConnection = await self.pool.get_connection()  # type: ignore[no-untyped-call]  # vendor
            if not self._current(connection):
                try:
                    await connection.disconnect(nowait=True)
                    await connection.connect()  # type: ignore[no-untyped-call]  # vendor
                except BaseException:
                    await self.pool.release(connection)
                    raise
            return connection

    async def _connection(self) -> AbstractConnection:
        """The connection for one round, usable as far as is known without a call."""
        kept = self._open_connection
        if kept is not None and self._current(kept):
            # An error means not connected. With something to read, or its end, it is unusable, too.
            with contextlib.suppress(RedisError):
                if not await kept.can_read():
                    return kept
        if kept is not None:
            self._open_connection = None
            await kept.disconnect(nowait=True)
            await self.pool.release(kept)
        self._open_connection = await self._acquire()
        return self._open_connection

    async def _round(self, batch: list[_Waiting]) -> None:
        try:
            connection = await self._connection()
        except (RedisError, OSError, TimeoutError, *MALFORMED) as error:
            mapped = self._lost(error)
            # The store of another installation ends a startup; a caller waits for its own store.
            self._fail(batch, mapped if isinstance(mapped, PortError) else Unavailable(str(mapped)))
            return
        except asyncio.CancelledError:
            self._fail(batch, Unavailable("interrupted while connecting to Redis"))
            raise
        if self._closed:
            # Closed while connecting: nothing else would close this connection.
            await connection.disconnect(nowait=True)
            self._fail(batch, Unavailable("the Redis client is closed"))
            return
        await self._send(connection, batch)

    async def _send(
        self, connection: AbstractConnection, batch: list[_Waiting], *, loaded: bool = False
    ) -> None:
        """Send what is ready; a script that the server lacks is loaded, and sent once more."""
        if ready := [w for w in batch if not w.future.done()]:
            await self._exchange(connection, ready, loaded=loaded)

    async def _exchange(
        self, connection: AbstractConnection, batch: list[_Waiting], *, loaded: bool
    ) -> None:
        packed = [pack(c) for w in batch for c in w.call.commands]
        wait = max((w.call.wait for w in batch if w.call.wait), default=None)
        if wait is not None:
            packed.append(pack(("WAIT", *wait)))
        demoted, missing = False, list[_Waiting]()
        loop = asyncio.get_running_loop()
        #: Replies that callers get only once replicas have confirmed them.
        written: list[tuple[_Waiting, Any]] = []
        try:
            async with asyncio.timeout(self._timeout * (1 + _STEP)) as limit:
                await connection.send_packed_command(packed, check_health=False)
                for n, waiting in enumerate(batch):
                    if n:
                        self._extend(limit, loop.time())
                    reply = await read_reply(connection, waiting.call)
                    word = word_of(reply) if isinstance(reply, ResponseError) else ""
                    demoted = demoted or word == "READONLY"
                    if word == "NOSCRIPT" and waiting.call.script and not loaded:
                        missing.append(waiting)
                    elif waiting.call.wait and not word:
                        written.append((waiting, reply))
                    else:
                        self._answer(waiting, reply)
                if wait is not None:
                    await self._confirm(connection, written, wait, limit)
                for script in {w.call.script for w in missing if w.call.script}:
                    limit.reschedule(loop.time() + self._timeout)
                    try:
                        await ask(connection, "SCRIPT", "LOAD", script.source)
                    except ResponseError as error:
                        # The script is not there, so nothing was executed.
                        lacking = [w for w in missing if w.call.script is script]
                        self._fail(lacking, classify_reply(error))
        except (RedisError, OSError, TimeoutError, *MALFORMED, asyncio.CancelledError) as error:
            # A reply may still be on its way: the connection must not serve anyone else.
            await connection.disconnect(nowait=True)
            self._lost(error)
            word = "another program answers" if is_malformed(error) else type(error).__name__
            self._fail(batch, Ambiguous(f"no reply from Redis ({word})"))
            if isinstance(error, asyncio.CancelledError):
                raise
        await self._send(connection, missing, loaded=True)
        if demoted:
            self._lost(ResponseError("READONLY"))
            await connection.disconnect(nowait=True)

    def _extend(self, limit: asyncio.Timeout, now: float) -> None:
        """Give each reply as much time as the first; in steps, because replies mostly come together."""
        when = now + self._timeout
        if (limit.when() or 0.0) < when:
            limit.reschedule(when + self._timeout * _STEP)

    async def _confirm(
        self,
        connection: AbstractConnection,
        written: list[tuple[_Waiting, Any]],
        wait: tuple[int, int],
        limit: asyncio.Timeout,
    ) -> None:
        """Read how many replicas have all writes of the round, and answer the callers."""
        replicas, milliseconds = wait
        now = asyncio.get_running_loop().time()
        limit.reschedule(now + milliseconds / 1000 + self._timeout)
        try:
            count = int(await connection.read_response())
        except ResponseError:
            # Refused by an ACL: the round is written, and no replica has confirmed it.
            count, self._main.wait_refused = 0, True
        for waiting, reply in written:
            self._answer(waiting, (reply, count))
        if written and count < replicas:
            self._owner.on_unconfirmed(self._main)

    @staticmethod
    def _answer(waiting: _Waiting, reply: Any) -> None:
        if waiting.future.done():
            return
        if isinstance(reply, ResponseError):
            waiting.future.set_exception(classify_reply(reply))
        else:
            waiting.future.set_result(reply)

    @staticmethod
    def _fail(batch: list[_Waiting], error: LedgerError) -> None:
        for waiting in batch:
            if not waiting.future.done():
                waiting.future.set_exception(error)

    # -- identity of the server ---------------------------------------------------------------

    async def _identify(self, connection: AbstractConnection) -> None:
        self._settings_readable = True
        try:
            await connection.on_connect()
            await self._check(connection)
        except MALFORMED as error:
            # The vendor closes the connection only after errors of its own.
            raise RedisConnectionError(str(error)) from error

    async def _check(self, connection: AbstractConnection) -> None:
        info = with_clock(parse_info(await ask(connection, "INFO")))
        if self.wait_refused:
            with contextlib.suppress(ResponseError):
                await ask(connection, "WAIT", 0, 0)
                self.wait_refused = False
        if self.wait_refused:
            info[NO_WAIT] = "1"
        if self._settings_readable:
            try:
                info |= parse_pairs(await ask(connection, "CONFIG", "GET", "appendfsync"))
            except ResponseError:
                # Refused by an ACL. Sent once a connection, since a server counts and logs what it refuses.
                self._settings_readable = False
        if info.get("role") == "slave":
            raise ResponseError("READONLY connected to a replica")
        self.problem = None
        try:
            refuse_sentinel(info)
            await self._owner.on_connect(self, connection, info)
        except ConfigError as error:
            raise RedisConnectionError(str(error)) from error

    def _lost(self, error: BaseException) -> LedgerError:
        mapped = lost_connection(error, self._place(), self.pool.connection_class)
        self._main.problem = str(mapped)
        self._owner.on_problem(self._main)
        return mapped
