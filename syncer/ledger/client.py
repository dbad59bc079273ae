"""
The connection to Redis: one ordered lane of pipelined commands, and what is known of the server.

Why not the vendor's command methods: a write whose reply is lost must not be repeated by a library
(redis-py would, ten times by default), and an INTENT must be able to say "not on this server any
more" *after* a connection is up and *before* a byte of it leaves. So the lane takes a connection
from the vendor's pool, checks each waiting call's guard, sends what is left in one pipeline and hands
every reply to its caller. Commands issued in the same tick share one round trip.

What a failure means is decided here: before the pipeline is written, nothing was executed
(`Unavailable`); afterwards every call without a reply is `Ambiguous`. Error replies are classified by
their first word (`_NOT_EXECUTED`, `_REFUSED`).

Every new connection is asked who it is before its first command: role, run id and the store id under
`<prefix>:meta`. A change raises `generation`; every claim made in an older generation is stale. The
same question is asked every ten seconds, so that a store swapped under a live connection shows too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import redis.asyncio as redis_asyncio
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError as RedisConnectionError,
    RedisError,
    ResponseError,
    TimeoutError as RedisTimeoutError,
)

from syncer.api.errors import (
    Ambiguous,
    ConfigError,
    ContractError,
    LedgerError,
    Rejected,
    Unauthorised,
    Unavailable,
)

logger = logging.getLogger("ledger.redis")

#: Calls in one pipeline; a claim's reply holds a whole log.
_BATCH: Final = 128
#: Calls waiting for the lane; callers beyond it are told that Redis is unavailable.
_QUEUE: Final = 8192
_PROBE_SECONDS: Final = 10.0

#: First words of error replies after which nothing was executed and a retry may help.
_NOT_EXECUTED: Final = frozenset(
    {
        "LOADING", "BUSY", "OOM", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "READONLY",
        "MASTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOSCRIPT",
    }
)  # fmt: skip
_UNAUTHORISED: Final = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})


class Script:
    """A Lua script, its text with the shared prelude in front, and its digest."""

    def __init__(self, name: str, *, allow_oom: bool) -> None:
        folder = resources.files("syncer.ledger") / "scripts"
        body = "\n".join((folder / f"{part}.lua").read_text() for part in ("prelude", name))
        flags = " flags=allow-oom" if allow_oom else ""
        self.name = name
        #: Without the first line, for servers that know no script flags.
        self.plain = body
        self.source = f"#!lua{flags}\n{body}"
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


CLAIM: Final = Script("claim", allow_oom=True)
INTENT: Final = Script("intent", allow_oom=False)
OUTCOME: Final = Script("outcome", allow_oom=True)
RECOVER: Final = Script("recover", allow_oom=True)
NOTE: Final = Script("note", allow_oom=True)
ACK: Final = Script("ack", allow_oom=True)
RETIRE: Final = Script("retire", allow_oom=True)
SCRIPTS: Final = (CLAIM, INTENT, OUTCOME, RECOVER, NOTE, ACK, RETIRE)


@dataclass(frozen=True, slots=True)
class Server:
    """Who answered: the process, its role, and the store behind it."""

    run_id: str
    role: str
    store: str
    version: tuple[int, ...]


class StaleGuard(LedgerError):
    """The caller's guard no longer held when the connection was ready; nothing was sent."""


@dataclass(slots=True)
class _Call:
    command: tuple[Any, ...]
    future: asyncio.Future[Any]
    guard: Callable[[], bool] | None
    script: Script | None
    #: Replicas that must confirm, and milliseconds to wait for them; the result is then a pair.
    wait: tuple[int, int] | None = None

    @property
    def commands(self) -> list[tuple[Any, ...]]:
        """What goes on the wire, in order, on one connection."""
        return [self.command, ("WAIT", *self.wait)] if self.wait else [self.command]


class LedgerClient:
    """
    One lane to one Redis.

    `run()` must be running for calls to be answered. All calls are safe to cancel; a cancelled call
    may still be executed.
    """

    def __init__(self, url: str, *, prefix: str = "nl", timeout: float = 3.0) -> None:
        """
        Prepare a client; nothing is connected yet.

        Args:
            url: `redis://`, `rediss://` or `unix://`; never appears in a text.
            prefix: Of every key.
            timeout: Seconds for connecting, and for each reply.

        Raises:
            ConfigError: the URL cannot be used.
        """
        self.prefix = prefix
        self.generation = 0
        self.server: Server | None = None
        self.problem: str | None = "not connected yet"
        #: Called after another server or store has answered; claims of before are stale by then.
        self.on_change: Callable[[], None] = lambda: None
        #: Says from the members of INFO why this server must not be given attempts, or None.
        self.judge: Callable[[dict[str, str]], str | None] = lambda _info: None
        #: What `judge` said last.
        self.unfit: str | None = None
        #: Newest reply of INFO, as members.
        self.info: dict[str, str] = {}
        self._installation = ""
        self._timeout = timeout
        self._waiting: deque[_Call] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        try:
            client = redis_asyncio.Redis.from_url(
                url,
                protocol=2,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
                retry_on_error=[],
                health_check_interval=0,
                redis_connect_func=self._greet,
                max_connections=4,
            )
        except (ValueError, RedisError) as error:
            raise ConfigError(
                "not a usable Redis URL (redis://, rediss:// or unix:// expected)",
                path="redis.url",
            ) from error
        self._pool: ConnectionPool = client.connection_pool

    # -- calls --------------------------------------------------------------------------------

    async def evaluate(
        self,
        script: Script,
        key: str,
        args: Sequence[bytes | str | int],
        *,
        guard: Callable[[], bool] | None = None,
        wait: tuple[int, int] | None = None,
    ) -> Any:
        """
        Run a script on one key.

        Args:
            guard: Asked right before the command is written, with the connection up; False means
                that it is not sent.
            wait: Replicas that must have the write, and milliseconds to wait for them. The result
                is then a pair: the reply, and how many replicas confirmed. WAIT speaks of its own
                connection's writes, so it follows on the same one.

        Raises:
            StaleGuard: the guard said no.
            Unavailable: not executed.
            Ambiguous: may have been executed.
            Rejected: refused for good (wrong type, no permission).
            ContractError: the key holds something that is not a log of this format.
        """
        command = ("EVALSHA", script.sha, 1, key, *args)
        return await self._submit(command, guard, script, wait)

    async def command(self, *args: bytes | str | int) -> Any:
        """Run one command; errors as for `evaluate`."""
        return await self._submit(args, None, None)

    async def _submit(
        self,
        command: tuple[Any, ...],
        guard: Callable[[], bool] | None,
        script: Script | None,
        wait: tuple[int, int] | None = None,
    ) -> Any:
        if self._closed:
            raise Unavailable("the Redis client is closed")
        if len(self._waiting) >= _QUEUE:
            raise Unavailable("too many calls are waiting for Redis")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(command, future, guard, script, wait))
        self._wake.set()
        # The lane answers within connect + send + reply; the factor covers a queue before us.
        async with asyncio.timeout(self._timeout * 6):
            try:
                return await future
            except asyncio.CancelledError:
                future.cancel()
                raise

    # -- the lane -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve calls and watch the server until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._serve(), name="redis-lane")
                group.create_task(self._watch(), name="redis-watch")
        finally:
            await self.close()

    async def close(self) -> None:
        """Close connections; calls still waiting are told that nothing was executed."""
        self._closed = True
        while self._waiting:
            self._fail([self._waiting.popleft()], Unavailable("the Redis client is closed"))
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(2):
                await self._pool.disconnect(inuse_connections=True)

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                size = min(len(self._waiting), _BATCH)
                batch = [self._waiting.popleft() for _ in range(size)]
                try:
                    await self._round(batch)
                except asyncio.CancelledError:
                    self._fail(batch, Ambiguous("interrupted while waiting for Redis"))
                    raise

    async def _round(self, batch: list[_Call]) -> None:
        try:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # vendor
        except (RedisError, OSError, TimeoutError) as error:
            self._fail(batch, self._lost(error))
            return
        try:
            batch = [c for c in batch if not c.future.done()]
            ready = [c for c in batch if self._guarded(c)]
            if ready:
                await self._exchange(connection, ready)
        finally:
            await self._pool.release(connection)

    @staticmethod
    def _guarded(call: _Call) -> bool:
        if call.guard is None or call.guard():
            return True
        call.future.set_exception(StaleGuard("the claim is stale"))
        return False

    async def _exchange(self, connection: AbstractConnection, calls: list[_Call]) -> None:
        packed = connection.pack_commands([c for call in calls for c in call.commands])
        try:
            await connection.send_packed_command(packed, check_health=False)
            missing: list[_Call] = []
            for call in calls:
                reply = await self._reply(connection, call)
                if isinstance(reply, ResponseError) and _word(reply) == "NOSCRIPT" and call.script:
                    missing.append(call)
                else:
                    self._answer(call, reply)
            if missing:
                await self._load(connection, missing)
        except (RedisError, OSError, TimeoutError, asyncio.CancelledError) as error:
            # A reply may still be on its way: the connection must not serve anyone else.
            await connection.disconnect(nowait=True)
            self._lost(error)
            self._fail(calls, Ambiguous(f"no reply from Redis ({type(error).__name__})"))
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _load(self, connection: AbstractConnection, calls: list[_Call]) -> None:
        for script in {c.script for c in calls if c.script}:
            await connection.send_packed_command(
                connection.pack_command("SCRIPT", "LOAD", script.source), check_health=False
            )
            await connection.read_response()
        for call in calls:
            await connection.send_packed_command(
                connection.pack_commands(call.commands), check_health=False
            )
            self._answer(call, await self._reply(connection, call))

    @staticmethod
    async def _reply(connection: AbstractConnection, call: _Call) -> Any:
        """The reply to a call, error replies as values; of a pair, both must be read."""
        replies: list[Any] = []
        for _ in call.commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
        failed = next((r for r in replies if isinstance(r, ResponseError)), None)
        if failed is not None:
            return failed
        return tuple(replies) if call.wait else replies[0]

    @staticmethod
    def _answer(call: _Call, reply: Any) -> None:
        if call.future.done():
            return
        if isinstance(reply, ResponseError):
            call.future.set_exception(classify_reply(reply))
        else:
            call.future.set_result(reply)

    @staticmethod
    def _fail(calls: list[_Call], error: LedgerError) -> None:
        for call in calls:
            if not call.future.done():
                call.future.set_exception(error)

    def _lost(self, error: BaseException) -> LedgerError:
        if isinstance(error, ResponseError | AuthenticationError | AuthorizationError):
            mapped = classify_reply(error)
            self.problem = str(mapped)
            return mapped
        if isinstance(error, RedisConnectionError) and isinstance(error.__cause__, LedgerError):
            self.problem = str(error.__cause__)
            return error.__cause__
        if isinstance(error, RedisTimeoutError | TimeoutError):
            self.problem = "Redis does not answer in time"
        else:
            self.problem = "Redis cannot be reached"
        return Unavailable(self.problem)

    # -- who is there -------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            with contextlib.suppress(LedgerError, TimeoutError):
                await self.probe()

    async def probe(self) -> Server:
        """Ask the server who it is now; a change raises the generation."""
        reply, meta = await asyncio.gather(
            self.command("INFO"), self.command("GET", self._meta_key)
        )
        info = _parse_info(reply)
        with contextlib.suppress(Rejected):
            info |= _parse_pairs(await self.command("CONFIG", "GET", "appendfsync"))
        return self._note(info, meta)

    @property
    def _meta_key(self) -> str:
        return f"{self.prefix}:meta"

    async def _greet(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        await connection.send_command("INFO", check_health=False)
        info = _parse_info(await connection.read_response())
        with contextlib.suppress(ResponseError):
            # Refused by an ACL: then the setting is not known, which strict durability refuses.
            await connection.send_command("CONFIG", "GET", "appendfsync", check_health=False)
            info |= _parse_pairs(await connection.read_response())
        await connection.send_command("GET", self._meta_key, check_health=False)
        meta = await connection.read_response()
        if info.get("role") == "slave":
            raise ResponseError("READONLY connected to a replica")
        if meta is None and self._installation:
            # The store is new or was emptied. SET NX, then read: two replicas may race here.
            text = f"format=1 installation={self._installation} store={secrets.token_hex(8)}"
            await connection.send_command("SET", self._meta_key, text, "NX", check_health=False)
            await connection.read_response()
            await connection.send_command("GET", self._meta_key, check_health=False)
            meta = await connection.read_response()
        try:
            self._note(info, meta)
        except ConfigError as error:
            raise RedisConnectionError(str(error)) from error

    def _note(self, info: dict[str, str], meta: bytes | None) -> Server:
        fields = _parse_meta(meta)
        owner = fields.get("installation", "")
        if self._installation and owner and owner != self._installation:
            raise ConfigError(
                f"keys with prefix {self.prefix!r} belong to installation {owner!r}, this is"
                f" {self._installation!r}; set another redis.keyPrefix (or, if the Lease that names"
                f" the installation was re-created, delete the key {self._meta_key!r})",
                path="redis.keyPrefix",
            )
        if fields and fields.get("format") != "1":
            raise ConfigError(
                f"logs with prefix {self.prefix!r} have format {fields.get('format')!r}, this"
                " version reads format 1; use the version that wrote them, or another prefix",
                path="redis.keyPrefix",
            )
        server = Server(
            info.get("run_id", ""),
            info.get("role", ""),
            fields.get("store", ""),
            parse_version(info),
        )
        changed = False
        if self.server != server:
            if self.server is not None:
                logger.warning(
                    "another Redis server or store answers; all logs are claimed anew",
                    extra={"run_id": server.run_id, "role": server.role, "store": server.store},
                )
                changed = True
            self.generation += 1
            self.server = server
        self.problem = None
        self.info = info
        self.unfit = self.judge(info)
        if changed:
            self.on_change()
        return server

    async def open(self, installation: str) -> Server:
        """
        Connect, check that the store is ours, and stamp a new one.

        Args:
            installation: Names this installation of the controller; no blanks.

        Raises:
            ConfigError: the store belongs to another installation or another format.
            Unavailable: not reachable yet; call again.
            Unauthorised: the credentials are refused.
        """
        self._installation = installation
        await self._pool.disconnect()
        try:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # vendor
        except (RedisError, OSError, TimeoutError) as error:
            raise self._lost(error) from error
        await self._pool.release(connection)
        if self.server is None:
            raise Unavailable("Redis did not say who it is")
        return self.server


def _word(error: BaseException) -> str:
    # redis-py strips the first word of some replies and turns it into the type.
    name = type(error).__name__
    known = {
        "NoScriptError": "NOSCRIPT", "BusyLoadingError": "LOADING", "ReadOnlyError": "READONLY",
        "OutOfMemoryError": "OOM", "NoPermissionError": "NOPERM", "AuthenticationError": "NOAUTH",
        "AuthenticationWrongNumberOfArgsError": "NOAUTH", "ClusterDownError": "CLUSTERDOWN",
        "MasterDownError": "MASTERDOWN", "TryAgainError": "TRYAGAIN", "MovedError": "MOVED",
        "AskError": "ASK",
    }  # fmt: skip
    if name in known:
        return known[name]
    match = re.match(r"(?:-)?([A-Z]{2,})\b", str(error))
    return match[1] if match else "ERR"


def classify_reply(error: BaseException) -> LedgerError:
    """
    Map an error reply of the server.

    Only the reply's first word is kept: the rest may quote keys or arguments.
    """
    word = _word(error)
    text = str(error)
    if "NLFORMAT" in text:
        return ContractError("the key holds no log of this format")
    if word in _UNAUTHORISED or "AUTH" in text[:24]:
        return Unauthorised(f"Redis refuses the credentials or the command ({word})", reason=word)
    if "-OOM" in text or "OOM command" in text:
        word = "OOM"
    if word in _NOT_EXECUTED:
        return Unavailable(f"Redis answers {word}")
    return Rejected(f"Redis refuses the command ({word})", reason=word)


def _parse_info(reply: Any) -> dict[str, str]:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {k: v.strip() for k, v in pairs if not k.startswith("#")}


def _parse_pairs(reply: Any) -> dict[str, str]:
    texts = [r.decode("utf-8", "replace") if isinstance(r, bytes) else str(r) for r in reply or []]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _parse_meta(meta: bytes | None) -> dict[str, str]:
    text = (meta or b"").decode("utf-8", "replace")
    return dict(part.split("=", 1) for part in text.split(" ") if "=" in part)


def parse_version(info: dict[str, str]) -> tuple[int, ...]:
    """Version that decides about script flags; Valkey reports its Redis compatibility."""
    text = info.get("redis_version", "0")
    return tuple(int(p) for p in re.findall(r"\d+", text)[:3])
