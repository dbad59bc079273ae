"""
A Redis in memory for the ledger: the scripts in a Lua of this process, a client with faults, a log on top.

`ServerTwin` has the few commands that the scripts use, on lists of bytes, and runs the scripts themselves;
a table of calls has the same answers of it and of the real servers. `MemoryRedis` is the one server of a
simulated world, with the faults that a world may show. `MemoryClient` is one process's pipeline to it and
decides about generations and guards as the real client does; `MemoryLog` is the real `RedisLog` over such a
pipeline, so that parsing and repeating are the code under test and not a copy.

Nothing here blocks, reads a clock or draws a random number: time comes from the world.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final, cast

from lupa.lua51 import LuaRuntime, lua_type
from redis.exceptions import ResponseError

from syncer.ledger import lua
from syncer.ledger.client import LedgerClient
from syncer.ledger.lua import Script
from syncer.ledger.replies import Refused, classify_reply
from syncer.ledger.store import Server
from syncer.ledger.writes import Writes
from syncer.model.errors import Ambiguous, ConfigError, PortError, Unavailable
from tests.fakes.claimedlog import ClaimedLog

Argument = bytes | str | int
Reply = list[Any]

BY_NAME: Final = {each.name: each for each in vars(lua).values() if isinstance(each, Script)}
_WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"


class ServerTwin:
    """
    Lists by key, and the ledger's scripts, which run in a Lua of this process.

    Attributes:
        logs: The lists; a key without elements is absent.
        expires: Unix milliseconds at which a key goes, for keys that will.
        strings: Values that are no lists.
        stamp: What INFO within a script shows of the server.
    """

    def __init__(self, stamp: bytes = b"master:" + b"0" * 40) -> None:
        self.stamp = stamp
        self.logs: dict[str, list[bytes]] = {}
        self.expires: dict[str, int] = {}
        self.strings: dict[str, bytes] = {}
        self._now = 0

    def run(self, script: str, key: str, args: Sequence[Argument], now: int) -> Reply:
        """
        Run a script by its name; `now` is the server's time in Unix milliseconds.

        Raises:
            ResponseError: the reply is an error.
        """
        self.purge(now)
        reply: Reply = _LUA.run(BY_NAME[script], self, key, [_bytes(a) for a in args])
        return reply

    def purge(self, now: int) -> None:
        """Drop every key whose time has come."""
        self._now = now
        for key in [k for k, at in self.expires.items() if at <= now]:
            self.delete(key)

    def delete(self, key: str) -> None:
        """Drop a key."""
        self.logs.pop(key, None)
        self.expires.pop(key, None)

    def command(self, name: str, key: str = "", *args: Any) -> Any:
        """
        Run one command of those that scripts use.

        Raises:
            ResponseError: the key holds something else, or the command is not known here.
        """
        if key in self.strings:
            raise ResponseError(_WRONG_TYPE)
        log = self.logs.get(key, [])
        match name:
            case "LINDEX":
                index = int(args[0])
                return log[index] if -len(log) <= index < len(log) else None
            case "LRANGE":
                first, last = int(args[0]), int(args[1])
                return log[first : None if last == -1 else last + 1]
            case "LLEN":
                return len(log)
            case "LSET":
                log[int(args[0])] = args[1]
            case "RPUSH":
                self.logs.setdefault(key, []).append(args[0])
            case "DEL":
                self.delete(key)
            case "PERSIST":
                self.expires.pop(key, None)
            case "EXPIRE":
                self.expires[key] = self._now + int(args[0]) * 1000
                self.purge(self._now)
            case "TIME":
                return [b"%d" % (self._now // 1000), b"%d" % (self._now % 1000 * 1000)]
            case "INFO":
                return b"role:%s\r\nmaster_replid:%s" % (*self.stamp.split(b":"),)
            case _:
                raise ResponseError(f"ERR unknown command '{name}'")
        return None


class _Lua:
    """The Lua of this process, in which a script is compiled once, and the server that one runs on now."""

    def __init__(self) -> None:
        self._runtime = LuaRuntime(encoding=None)
        self._redis = self._runtime.table_from({
            b"call": self._call,
            b"pcall": self._call,
            b"error_reply": self._runtime.eval("function(text) return {err = text} end"),
        })  # fmt: skip
        self._compiled: dict[str, Any] = {}
        self._server = ServerTwin()

    def run(self, script: Script, server: ServerTwin, key: str, args: list[bytes]) -> Any:
        """Run a script on a server; ResponseError if that is its reply."""
        if script.plain not in self._compiled:
            text = f"local KEYS, ARGV, redis = ... {script.plain}"
            self._compiled[script.plain] = self._runtime.compile(text)
        table, self._server = self._runtime.table_from, server
        reply = self._compiled[script.plain](table([key.encode()]), table(args), self._redis)
        return self._plain(reply)

    def _call(self, name: bytes, key: bytes = b"", *args: Any) -> Any:
        reply = self._server.command(name.decode(), key.decode(), *args)
        return self._runtime.table_from(reply) if isinstance(reply, list) else reply

    def _plain(self, reply: Any) -> Any:
        if lua_type(reply) != "table":
            return reply
        if (error := reply[b"err"]) is not None:
            raise ResponseError(error.decode())
        return [self._plain(reply[n]) for n in range(1, len(reply) + 1)]


_LUA: Final = _Lua()


def _bytes(value: Argument) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


# -- the world -------------------------------------------------------------------------------------


class Mishap(StrEnum):
    """What may happen to one call."""

    LOSE_REQUEST = "the request is lost: nothing is executed, and the caller cannot know"
    LOSE_REPLY = "the reply is lost: it is executed, and the caller cannot know"
    REFUSE = "the connection is refused: nothing is executed, and the caller knows"


@dataclass(slots=True)
class Fault:
    """
    One thing that goes wrong.

    Attributes:
        mishap: What happens.
        call: Script name (`intent`) or command (`LRANGE`) that it strikes; `*` for any.
        times: How often.
    """

    mishap: Mishap
    call: str = "*"
    times: int = 1


@dataclass(slots=True)
class MemoryRedis:
    """
    One server, shared by every client of a world.

    Attributes:
        clock: The server's time in Unix milliseconds.
        faults: Taken in order by the calls that they fit.
        delay: Seconds that a call needs, asked for each: half before it is executed, half after.
        down: Connections are refused while set.
        replicas: How many replicas confirm a write.
        calls: Every executed call by name, for counting.
        struck: What went wrong, for the message of a failing test.
    """

    clock: Callable[[], int]
    faults: list[Fault] = field(default_factory=list)
    delay: Callable[[], float] = lambda: 0.0
    down: bool = False
    role: str = "master"
    replicas: int = 0
    twin: ServerTwin = field(default_factory=ServerTwin)
    calls: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    starts: int = 1
    histories: int = 1
    stores: int = 0

    def __post_init__(self) -> None:
        """Have the scripts see the server's state from the beginning."""
        self._stamp()

    def _stamp(self) -> None:
        self.twin.stamp = f"{self.role}:{self.replid}".encode()

    @property
    def strings(self) -> dict[str, bytes]:
        """Values that are no lists."""
        return self.twin.strings

    @property
    def run_id(self) -> str:
        """Changes with every start of the server."""
        return f"{self.starts:040x}"

    @property
    def replid(self) -> str:
        """Changes with every start, promotion and demotion of the server."""
        return f"{self.histories:040x}"

    def restart(self) -> None:
        """Another process answers, on the same data."""
        self.starts += 1
        self.turn("master")

    def turn(self, role: str) -> None:
        """The same process is demoted, or promoted."""
        self.role = role
        self.histories += 1
        self._stamp()

    def flush(self) -> None:
        """Everything is gone, the store id included; the process lives on."""
        self.twin = ServerTwin(self.twin.stamp)

    def lose(self, key: str, n: int) -> int:
        """A failover forgets the last n elements of a log; returns how many it had."""
        log = self.twin.logs.get(key, [])
        lost = min(n, len(log))
        del log[len(log) - lost :]
        if not log:
            self.twin.delete(key)
        self.restart()
        return lost

    def strike(self, name: str) -> Mishap | None:
        """Take the first fault that fits a call."""
        for fault in self.faults:
            if fault.times > 0 and fnmatchcase(name, fault.call):
                fault.times -= 1
                self.struck.append(f"{name}: {fault.mishap}")
                return fault.mishap
        return None

    def info(self) -> str:
        """What INFO says."""
        return "\r\n".join(
            (
                "redis_version:7.0.15", f"run_id:{self.run_id}", f"role:{self.role}",
                f"master_replid:{self.replid}",
                "maxmemory_policy:noeviction", "aof_enabled:1", "aof_last_write_status:ok",
                f"connected_slaves:{self.replicas}",
            )
        )  # fmt: skip

    def execute(self, *args: Argument) -> Any:
        """
        Run one plain command of those that the ledger uses.

        Raises:
            ResponseError: the command is not known here.
        """
        now = self.clock()
        self.twin.purge(now)
        name, *rest = (_bytes(a).decode() for a in args)
        key = rest[0] if rest else ""
        match name:
            case "PING":
                return b"PONG"
            case "INFO":
                return self.info().encode()
            case "GET":
                return self.strings.get(key)
            case "TTL":
                return self._ttl(key, now)
            case "SCAN":
                return self._scan(rest)
            case "PUBLISH":
                self.published.append((key, rest[1].encode()))
                return 0
            case _:
                return self.twin.command(name, *rest)

    def _ttl(self, key: str, now: int) -> int:
        if key not in self.twin.logs and key not in self.strings:
            return -2
        at = self.twin.expires.get(key)
        return -1 if at is None else round((at - now) / 1000)

    def _scan(self, rest: list[str]) -> list[Any]:
        # Sorted, so that a run can be repeated; a real server promises no order.
        cursor, pattern, count = int(rest[0]), rest[rest.index("MATCH") + 1], 10
        if "COUNT" in rest:
            count = int(rest[rest.index("COUNT") + 1])
        keys = sorted([*self.twin.logs, *self.strings])
        wanted = _glob(pattern)
        page = [k.encode() for k in keys[cursor : cursor + count] if wanted.fullmatch(k)]
        following = cursor + count
        return [b"%d" % (following if following < len(keys) else 0), page]


def _glob(pattern: str) -> re.Pattern[str]:
    out, escaped = "", False
    for character in pattern:
        if escaped or character not in "*?\\":
            out += re.escape(character)
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            out += ".*" if character == "*" else "."
    return re.compile(out, re.DOTALL)


class MemoryClient:
    """
    One process's pipeline to a `MemoryRedis`, with the members of `LedgerClient` that others use.

    Every call looks at who answers before it asks its guard, as the real client does on each new
    connection, so the world needs no connections.
    """

    #: Raised whenever another server or store answers.
    generation = 0

    def __init__(
        self,
        redis: MemoryRedis,
        *,
        prefix: str = "nl",
        fitness: Callable[[dict[str, str]], str | None] = lambda _info: None,
        on_change: Callable[[], None] = lambda: None,
        on_wake_up: Callable[[str], None] | None = None,
    ) -> None:
        self.redis = redis
        self.prefix = prefix
        self.meta_key = f"{prefix}:meta"
        self.probe_now = asyncio.Event()
        self.layout = 0
        self.server: Server | None = None
        self.problem: str | None = "not connected yet"
        self.replicas_wanted = 0
        self.fitness = fitness
        self.on_change = on_change
        self.on_wake_up = on_wake_up
        self.unfit: str | None = None
        self.writes = Writes()
        self.unheard = False
        self.subscriptions = 1
        self.info: dict[str, str] = {}
        self._installation = ""
        self._closed = False

    async def evaluate(
        self,
        script: Script,
        key: str,
        args: Sequence[Argument],
        *,
        wait: tuple[int, int] | None = None,
    ) -> Any:
        """Run a script; see `LedgerClient.evaluate`."""

        def execute() -> Any:
            reply = self.redis.twin.run(script.name, key, args, self.redis.clock())
            return (reply, self.redis.replicas) if wait else reply

        return await self._call(script.name, execute)

    async def command(self, *args: Argument, at: str | None = None) -> Any:
        """Run one command; see `LedgerClient.command`."""
        return await self._call(_bytes(args[0]).decode(), lambda: self.redis.execute(*args))

    async def wake_up(self, what: str) -> None:
        """Tell the owners; see `LedgerClient.wake_up`."""
        with suppress(PortError, TimeoutError):
            await self.command("PUBLISH", f"{self.prefix}:poke", what)

    async def gather(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Run many reads; see `LedgerClient.gather`."""
        return await asyncio.gather(*(self.command(*c) for c in commands))

    async def _call(self, name: str, execute: Callable[[], Any]) -> Any:
        mishap = self.redis.strike(name)
        pause = self.redis.delay() / 2
        await asyncio.sleep(pause)
        if self._closed or self.redis.down or mishap is Mishap.REFUSE:
            self.problem = "Redis cannot be reached"
            raise Unavailable(self.problem)
        self._meet()
        if mishap is Mishap.LOSE_REQUEST:
            await asyncio.sleep(pause)
            raise Ambiguous("no reply from Redis (ConnectionError)")
        try:
            reply = execute()
        except ResponseError as error:
            raise classify_reply(error) from error
        self.redis.calls.append(name)
        await asyncio.sleep(pause)
        if mishap is Mishap.LOSE_REPLY:
            raise Ambiguous("no reply from Redis (ConnectionError)")
        return reply

    def _meet(self) -> None:
        if self.redis.role != "master":
            self.problem = str(Refused("READONLY"))
            raise Unavailable(self.problem)
        key = f"{self.prefix}:meta"
        meta = self.redis.strings.get(key)
        if meta is None and self._installation:
            self.redis.stores += 1
            text = f"format=1 installation={self._installation} store={self.redis.stores:016x}"
            meta = self.redis.strings[key] = text.encode()
        stamp = dict(m.split("=", 1) for m in (meta or b"").decode().split(" ") if "=" in m)
        if self._installation and stamp.get("installation") != self._installation:
            raise ConfigError("the keys belong to another installation", path="redis.keyPrefix")
        self.info = dict(line.split(":", 1) for line in self.redis.info().splitlines())
        server = Server(
            self.redis.run_id,
            self.redis.replid,
            self.redis.role,
            stamp.get("store", ""),
            (7, 0, 15),
        )
        before, self.server = self.server, server
        self.problem = None
        self.unfit = self.fitness(self.info)
        if before != server:
            self.generation += 1
            if before is not None:
                self.on_change()

    @property
    def unavailable_reason(self) -> str | None:
        """Why no attempt can be opened; see `RedisState.trouble`."""
        return self.problem or self.writes.silence or self.writes.refusal or self.unfit

    @property
    def able(self) -> bool:
        """Whether attempts may be opened; see `LedgerClient.able`."""
        return self.unavailable_reason is None

    @property
    def looked_at(self) -> float:
        """Every call looks."""
        return asyncio.get_running_loop().time()

    async def primaries(self) -> tuple[str, ...]:
        """The one server; see `LedgerClient.primaries`."""
        return ("",)

    async def probe(self) -> Server:
        """Ask the server who it is now."""
        await self.command("INFO")
        if self.server is None:
            raise Unavailable("Redis did not identify itself")
        return self.server

    async def open(self, installation: str) -> Server:
        """Stamp a new store, refuse another installation's; see `LedgerClient.open`."""
        self._installation = installation
        return await self.probe()

    async def run(self) -> None:
        """Nothing to serve: calls execute themselves. Ends when cancelled."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Refuse every further call."""
        self._closed = True


class MemoryLog(ClaimedLog):
    """`RedisLog` over a `MemoryRedis`."""

    client: MemoryClient  # type: ignore[assignment]  # stands for a LedgerClient

    def __init__(self, redis: MemoryRedis, *, prefix: str = "nl", patience: float = 15.0) -> None:
        client = MemoryClient(redis, prefix=prefix)
        super().__init__(cast("LedgerClient", client), patience=patience)

    @property
    def stamp(self) -> str:
        """What a CLAIM is answered now."""
        return self.client.redis.twin.stamp.decode()
