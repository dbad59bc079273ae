"""
A Redis in memory for the ledger: the scripts as Python, a client with faults, a log on top.

`ScriptTwin` does what the scripts do, on lists of bytes, with the same replies; a test of
differences holds it against the real servers. `MemoryRedis` is the one server of a simulated world,
with the faults that a world may show. `MemoryClient` is one process's pipeline to it and decides about
generations and guards as the real client does; `MemoryLog` is the real `RedisLog` over such a pipeline,
so that parsing and repeating are the code under test and not a copy.

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
from itertools import zip_longest
from typing import Any, Final, cast

from redis.exceptions import ResponseError

from syncer.ledger.client import LedgerClient
from syncer.ledger.lua import Script
from syncer.ledger.replies import Refused, classify_reply
from syncer.ledger.store import Server
from syncer.ledger.writes import Writes
from syncer.model.errors import Ambiguous, ConfigError, PortError, Unavailable
from tests.fakes.claimedlog import ClaimedLog

Argument = bytes | str | int
Reply = list[Any]

ROOT: Final = b"00000000"
RANK: Final = {
    b"intent": 0, b"unknown": 1, b"failed": 2, b"success": 3,
    b"seed.intent": 0, b"seed.unknown": 1, b"seed.failed": 2, b"seed.success": 3,
    b"resolve.failed": 2, b"resolve.success": 3,
}  # fmt: skip
_FIELDS = re.compile(rb"(\S+) (\S+) (\S+) ([0-9a-fA-F]+) ([0-9a-fA-F]+) ")
_TEXT = re.compile(rb"\S+ \S+ \S+ [0-9a-fA-F]+ ")
_NAMED = re.compile(rb"(\S+) (\S+) ")
_VERDICT = re.compile(rb"resolve:(.*?):", re.DOTALL)
_HEADER = re.compile(
    rb"nl1 object=[^ /]+/[^ /]+ epoch=([0-9]+\.[0-9]+) acked=[0-9]+ audited=[0-9]+", re.DOTALL
)
_WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
_FOREIGN: Final = "NLFORMAT the first element is not a header of this format"


class ScriptTwin:
    """
    Lists by key, and the scripts that change them.

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
        self._scripts: dict[str, Callable[[str, list[bytes], int], Reply]] = {
            "claim": self._claim,
            "intent": self._intent,
            "outcome": self._outcome,
            "recover": self._recover,
            "note": self._note,
            "ack": self._ack,
            "retire": self._retire,
            "probe": self._probe,
            "keep": self._keep,
            "rebuild": self._rebuild,
        }

    def run(self, script: str, key: str, args: Sequence[Argument], now: int) -> Reply:
        """
        Run a script by its name; `now` is the server's time in Unix milliseconds.

        Raises:
            ResponseError: the reply is an error.
        """
        self.purge(now)
        if key in self.strings:
            raise ResponseError(_WRONG_TYPE)
        return self._scripts[script](key, [_bytes(a) for a in args], now)

    def purge(self, now: int) -> None:
        """Drop every key whose time has come."""
        for key in [k for k, at in self.expires.items() if at <= now]:
            self.delete(key)

    def delete(self, key: str) -> None:
        """Drop a key."""
        self.logs.pop(key, None)
        self.expires.pop(key, None)

    # -- the scripts --------------------------------------------------------------------------

    def _probe(self, key: str, args: list[bytes], now: int) -> Reply:
        padding, writing = args
        if int(writing):
            self.logs.setdefault(key, []).append(b"x")
            self._expire(key, 10, now)
        return [b"OK", padding]

    def _claim(self, key: str, args: list[bytes], now: int) -> Reply:
        epoch, header, *seeds = args
        changed = key not in self.logs
        log = self.logs.setdefault(key, [header])
        stored = _epoch_of(log[0])
        if stored is None:
            raise ResponseError(_FOREIGN)
        if _order(epoch) < _order(stored):
            return [b"FENCED", stored]
        if _order(epoch) > _order(stored):
            log[0] = re.sub(rb"epoch=\S+", b"epoch=" + epoch, log[0], count=1)
        known: dict[bytes, int] = {}
        sound = True
        for element in log[1:]:
            match = _FIELDS.match(element)
            if not match:
                sound = False
                break
            rank = RANK.get(match[1])
            identity = match[2] if rank is None else _attempt_of(match[2])
            known[identity] = 99 if rank is None else max(rank, known.get(identity, -1))
        for seed in seeds if sound else []:
            named = _NAMED.match(seed)
            assert named, "a seed is an encoded record"
            rank = RANK.get(named[1], 99)
            if rank > known.get(named[2], -1):
                self._append(key, seed)
                known[named[2]] = rank
                changed = True
        if changed:
            self.expires.pop(key, None)
        time = [b"%d" % (now // 1000), b"%d" % (now % 1000 * 1000)]
        return [b"OK", list(log), time, self.stamp]

    def _intent(self, key: str, args: list[bytes], now: int) -> Reply:
        epoch, identity, channel, record, most, position, chain, stamp = args
        log = self.logs.get(key, [])
        known, ids, done = self._attempts(log, channel)
        if done:
            return [b"DONE"]
        if identity in known:
            return [b"DUP", known[identity]]
        if not log:
            return [b"RECLAIM"]
        refusal = self._not_owner(log, epoch) or self._fallen(log, int(position), chain, stamp)
        if refusal is not None:
            return refusal
        for attempt in ids:
            if known[attempt] == 0:
                return [b"OPEN", attempt]
        if len(ids) >= int(most):
            return [b"EXHAUSTED", len(ids)]
        return self._appended(key, [record])

    def _fallen(self, log: list[bytes], position: int, chain: bytes, stamp: bytes) -> Reply | None:
        if stamp != self.stamp:
            return [b"RECLAIM", b"server"]
        if position >= len(log) or _chain_at(log[: position + 1]) != chain:
            return [b"RECLAIM", b"history"]
        return None

    @staticmethod
    def _attempts(log: list[bytes], channel: bytes) -> tuple[dict[bytes, int], list[bytes], bool]:
        """Ranks by attempt, the attempts of the channel, and whether one of them succeeded."""
        known: dict[bytes, int] = {}
        ids: list[bytes] = []
        done = False
        for element in log[1:]:
            # A record that is damaged behind its first three words counts: it can only refuse.
            words = element.split(b" ", 3)
            rank = RANK.get(words[0]) if len(words) == 4 else None
            if rank is None:
                continue
            attempt, where = _attempt_of(words[1]), words[2]
            if where == channel:
                if attempt not in known:
                    ids.append(attempt)
                done = done or rank == 3
            known[attempt] = max(rank, known.get(attempt, -1))
        return known, ids, done

    def _outcome(self, key: str, args: list[bytes], now: int) -> Reply:
        identity, _, rank, record, intent, header = args
        if key not in self.logs and not header:
            return [b"RECLAIM"]
        log = self.logs.setdefault(key, [header])
        if _epoch_of(log[0]) is None:
            raise ResponseError(_FOREIGN)
        # An operator's `failed` is below the sender's.
        known = _rank_of(log, identity)
        own = max((r for k, r in _ranks_of(log, identity) if k != b"resolve.failed"), default=-1)
        if own >= int(rank) or int(rank) < known:
            return [b"NOOP", own if own >= int(rank) else known]
        return self._appended(key, [intent, record] if known < 0 and intent else [record])

    def _recover(self, key: str, args: list[bytes], now: int) -> Reply:
        epoch, identity, record = args
        log = self.logs.get(key, [])
        if not log:
            return [b"RECLAIM"]
        if (refusal := self._not_owner(log, epoch)) is not None:
            return refusal
        known = _rank_of(log, identity)
        if known != 0:
            return [b"NOOP", known]
        return self._appended(key, [record])

    def _note(self, key: str, args: list[bytes], now: int) -> Reply:
        identity, record = args
        log = self.logs.get(key, [])
        if not log:
            return [b"NOOP", -1]
        if _epoch_of(log[0]) is None:
            raise ResponseError(_FOREIGN)
        for position, element in enumerate(log[1:], 1):
            match = _FIELDS.match(element)
            if match and match[2] == identity:
                return [b"NOOP", position]
        rank = RANK.get(record.split(b" ", 1)[0])
        known = _rank_of(log, _attempt_of(identity))
        if rank is not None and known >= rank:
            return [b"DUP", known]
        return self._appended(key, [record])

    def _ack(self, key: str, args: list[bytes], now: int) -> Reply:
        position, ttl = int(args[0]), int(args[2])
        log = self.logs.get(key, [])
        if not log:
            return [b"STALE"]
        if _epoch_of(log[0]) is None:
            raise ResponseError(_FOREIGN)
        match = _FIELDS.match(log[position]) if 0 < position < len(log) else None
        if not match or match[5] != args[1]:
            return [b"STALE"]
        for mark in re.findall(rb"[a-zA-Z]+", args[3]):
            if _mark(log[0], mark) < position:
                pattern = rb" " + mark + rb"=[0-9]+"
                log[0] = re.sub(pattern, b" %s=%d" % (mark, position), log[0], count=1)
        last = len(log) - 1
        marks = (_mark(log[0], b"acked"), _mark(log[0], b"audited"))
        if ttl > 0 and position == last and marks == (last, last):
            self._expire(key, ttl, now)
            return [b"OK", 1]
        return [b"OK", 0]

    def _retire(self, key: str, args: list[bytes], now: int) -> Reply:
        epoch, ttl, *audited = args
        log = self.logs.get(key, [])
        if not log:
            return [b"OK", 0]
        if (refusal := self._not_owner(log, epoch)) is not None:
            return refusal
        known: dict[bytes, int] = {}
        for kind, rid, _ in _fields(log):
            if (rank := RANK.get(kind)) is not None:
                attempt = _attempt_of(rid)
                known[attempt] = max(rank, known.get(attempt, -1))
        if 0 in known.values():
            stored = _epoch_of(log[0])
            return [b"RECLAIM", stored]
        if audited == [b"1"] and int(log[0].rpartition(b"=")[2]) < len(log) - 1:
            return [b"STALE", _epoch_of(log[0])]
        self._expire(key, int(ttl), now)
        return [b"OK", 1]

    # -- for operators ------------------------------------------------------------------------

    def _keep(self, key: str, args: list[bytes], now: int) -> Reply:
        ttl, elements = int(args[0]), args[1:]
        kept = self.logs.get(key, [])
        if not kept:
            self.logs[key] = elements
            self._expire(key, ttl, now)
            return [b"OK", len(elements)]
        for n, (ours, theirs) in enumerate(zip_longest(kept, elements)):
            if ours != theirs:
                return [b"APART", n]
        return [b"NOOP", len(kept)]

    def _rebuild(self, key: str, args: list[bytes], now: int) -> Reply:
        length, last, elements = int(args[0]), args[1], args[2:]
        log = self.logs.get(key, [])
        if not log or len(log) != length or log[-1] != last:
            return [b"STALE"]
        if _epoch_of(elements[0]) is None:
            raise ResponseError(_FOREIGN)
        self.delete(key)
        self.logs[key] = elements
        return [b"OK", len(elements) - 1]

    # -- parts --------------------------------------------------------------------------------

    @staticmethod
    def _not_owner(log: list[bytes], epoch: bytes) -> Reply | None:
        stored = _epoch_of(log[0])
        if stored is None:
            raise ResponseError(_FOREIGN)
        return None if stored == epoch else [b"RECLAIM", stored]

    def _appended(self, key: str, records: list[bytes]) -> Reply:
        log = self.logs[key]
        before = _chain_at(log)
        if before is None:
            raise ResponseError(_FOREIGN)
        for record in records:
            self._append(key, record)
        self.expires.pop(key, None)
        return [b"OK", len(log) - 1, before, _chain_at(log), len(records)]

    def _append(self, key: str, record: bytes) -> None:
        log = self.logs[key]
        match = _TEXT.match(record)
        before = _chain_at(log)
        assert match, "an encoded record"
        assert before, "a sound last element"
        value = int(before, 16)
        for byte in match[0]:
            value = (value * 65599 + byte) % 4294967291
        log.append(match[0] + b"%08x " % value + record[match.end() :])

    def _expire(self, key: str, ttl: int, now: int) -> None:
        if ttl > 0:
            self.expires[key] = now + ttl * 1000
        else:
            self.delete(key)


def _bytes(value: Argument) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _fields(log: list[bytes]) -> list[tuple[bytes, bytes, bytes]]:
    matches = (_FIELDS.match(e) for e in log[1:])
    return [(m[1], m[2], m[3]) for m in matches if m]


def _attempt_of(identity: bytes) -> bytes:
    match = _VERDICT.match(identity)
    return match[1] if match else identity


def _rank_of(log: list[bytes], identity: bytes) -> int:
    return max((r for _, r in _ranks_of(log, identity)), default=-1)


def _ranks_of(log: list[bytes], identity: bytes) -> list[tuple[bytes, int]]:
    fields = _fields(log)
    return [(k, RANK[k]) for k, rid, _ in fields if k in RANK and _attempt_of(rid) == identity]


def _epoch_of(header: bytes) -> bytes | None:
    match = _HEADER.fullmatch(header)
    return match[1] if match else None


def _order(epoch: bytes) -> list[tuple[int, bytes]]:
    return [(len(part), part) for part in epoch.split(b".")]


def _chain_at(log: list[bytes]) -> bytes | None:
    if len(log) == 1:
        return ROOT
    match = _FIELDS.match(log[-1])
    return match[5] if match else None


def _mark(header: bytes, name: bytes) -> int:
    match = re.search(rb" " + name + rb"=([0-9]+)", header)
    assert match, "the header has both marks"
    return int(match[1])


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
    twin: ScriptTwin = field(default_factory=ScriptTwin)
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
        self.twin = ScriptTwin(self.twin.stamp)

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

    def execute(self, *args: Argument) -> Any:  # noqa: PLR0911 (a table of commands)
        """
        Run one plain command of those that the ledger uses.

        Raises:
            ResponseError: the command is not known here.
        """
        now = self.clock()
        self.twin.purge(now)
        name, *rest = (_bytes(a).decode() for a in args)
        key = rest[0] if rest else ""
        log = self.twin.logs.get(key, [])
        if key in self.strings and name in {"LRANGE", "LINDEX", "LLEN"}:
            raise ResponseError(_WRONG_TYPE)
        match name:
            case "PING":
                return b"PONG"
            case "INFO":
                return self.info().encode()
            case "TIME":
                return [b"%d" % (now // 1000), b"%d" % (now % 1000 * 1000)]
            case "GET":
                return self.strings.get(key)
            case "LRANGE":
                first, last = int(rest[1]), int(rest[2])
                return log[first : None if last == -1 else last + 1]
            case "LINDEX":
                index = int(rest[1])
                return log[index] if -len(log) <= index < len(log) else None
            case "LLEN":
                return len(log)
            case "TTL":
                return self._ttl(key, now)
            case "SCAN":
                return self._scan(rest)
            case "PUBLISH":
                self.published.append((key, rest[1].encode()))
                return 0
            case _:
                raise ResponseError(f"ERR unknown command '{name}'")

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
        self.generation = 0
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
        """Run a script's twin; see `LedgerClient.evaluate`."""

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
    """`RedisLog` over a `MemoryRedis`; `client` is its pipeline."""

    def __init__(self, redis: MemoryRedis, *, prefix: str = "nl", patience: float = 15.0) -> None:
        self.client = MemoryClient(redis, prefix=prefix)
        super().__init__(cast("LedgerClient", self.client), patience=patience)

    @property
    def stamp(self) -> str:
        """What a CLAIM is answered now."""
        return self.client.redis.twin.stamp.decode()
