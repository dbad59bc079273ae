"""Checks of Redis: `read_redis` reads and never decides, `check_redis` is pure."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from syncer.cli.access import Access
from syncer.cli.doctor.result import Grade, Result, clock, passes
from syncer.cli.exits import message_of
from syncer.ledger.answers import Answer
from syncer.ledger.preflight import Severity, preflight
from syncer.ledger.replies import WrongType, number_of, parse_meta
from syncer.ledger.url import parse_redis_url, split_redis_url
from syncer.model.attempt import Epoch, epoch_key
from syncer.model.errors import ContractError, LedgerError, Rejected, Unauthorised
from syncer.model.record import repair_record

_PINGS: Final = 9
#: Logs whose epochs are compared.
_SOME: Final = 1000


@dataclass(slots=True)
class RedisFacts:
    """
    What was read of a server; every member but `error` means nothing if that is set.

    Attributes:
        error: Why there is no connection.
        info: Members of INFO, of CONFIG GET appendfsync and the like, where they may be asked.
        meta: The store metadata, empty without them.
        offset: Its clock minus ours in milliseconds.
        tried: Why each thing that was tried did not work, empty if it did; by its check.
        epoch: The highest epoch of the logs that were read.
    """

    error: str = ""
    info: dict[str, str] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    offset: int = 0
    tried: dict[str, str] = field(default_factory=dict)
    epoch: Epoch | None = None


#: The commands with which scripts write, on a key that is gone again at the end.
_WRITING: Final[tuple[tuple[Any, ...], ...]] = (
    ("PERSIST",), ("EXPIRE", 5), ("DEL",), ("SET", "1", "EX", 5), ("RPUSH", "1"), ("LSET", 0, "1"),
    ("LRANGE", 0, 0),
)  # fmt: skip
#: Commands that cannot be tried if the user may run none of these: the key would stay, or there is none.
_NEEDED: Final[dict[str, frozenset[str]]] = {
    "RPUSH": frozenset({"EXPIRE", "DEL", "SET"}), "LSET": frozenset({"SET", "RPUSH"}),
}  # fmt: skip
#: What an error says of a command that is allowed, on a key that is not.
_KEY: Final = "may not use this key"


async def read_redis(at: Access, *, writes: bool) -> RedisFacts:
    """Read everything that is checked, with `writes` as what may write; never raises for an answer."""
    facts, client = RedisFacts(), at.client
    try:
        await client.command("PING")
        await client.probe()
        facts.info = at.settings.redis.seen_in(client.info)
        facts.meta = parse_meta(await client.command("GET", client.meta_key))
        facts.offset = await _offset(at)
    except (LedgerError, TimeoutError) as error:
        facts.error = message_of(error)
        return facts
    for trial in TRIALS:
        if writes or not trial.writes:
            try:
                await trial.call(at, facts)
                facts.tried[trial.check] = ""
            except (LedgerError, TimeoutError) as error:
                facts.tried[trial.check] = message_of(error)
    return facts


async def _offset(at: Access) -> int:
    """Return its clock minus ours, in milliseconds."""
    offsets = []
    for _ in range(_PINGS):
        began = time.time()
        offsets.append(await at.now() - (began + time.time()) * 500)
    return round(statistics.median(offsets))


async def _run_script(at: Access, _facts: RedisFacts) -> None:
    # On a key that is not there the script writes nothing.
    unknown = f"doctor-{secrets.token_hex(8)}"
    answer = await at.log.note(unknown, repair_record("repair:0", at=0, by="", what="", did=""))
    if answer.answer is not Answer.NOOP:
        raise ContractError("a script gave an unexpected answer")
    # Servers forget scripts when they restart.
    await at.client.command("SCRIPT", "LOAD", "return 1")


async def _write(at: Access, _facts: RedisFacts) -> None:
    key = f"{at.client.prefix}:doctor:{secrets.token_hex(8)}"
    tried, lacking, unwritable = set[str](), [], False
    for name, *args in _WRITING:
        if name in _NEEDED and not (unwritable or _NEEDED[name] & tried):
            continue
        try:
            await at.client.command(name, key, *args)
            tried.add(name)
        except WrongType:
            # The user may run it: it is for lists, and the key holds none.
            continue
        except Rejected as error:
            if _KEY in str(error):
                unwritable = True
            else:
                lacking.append(name)
    for name, *args in (("EXPIRE", 5), ("DEL",)):
        if name in tried:
            await at.client.command(name, key, *args)
    problems = [f"run {', '.join(lacking)}"] if lacking else []
    if unwritable:
        problems.append(f"write keys that begin with {at.client.prefix}:")
    if problems:
        raise Unauthorised(f"the user may not {', nor '.join(problems)}", reason="NOPERM")


async def _scan(at: Access, facts: RedisFacts) -> None:
    """Read the epochs of some logs."""
    epochs: list[Epoch] = []
    async for uids in at.log.scan():
        heads = await at.log.read_headers(uids)
        epochs += [head.header.epoch for head in heads if head.header is not None]
        if len(epochs) >= _SOME:
            break
    facts.epoch = max(epochs, key=epoch_key, default=None)


class Trial(NamedTuple):
    """What is tried: its check, whether it writes, the call, and what is said of it."""

    check: str
    writes: bool
    call: Callable[[Access, RedisFacts], Awaitable[object]]
    passed: str
    fix: str
    bad: Grade = Grade.FAIL


TRIALS: Final = (
    Trial("redis-scripts", True, _run_script, "scripts run",
          "let the user run EVALSHA, SCRIPT LOAD, LRANGE and TIME"),
    Trial("redis-write", True, _write, "keys can be written",
          "give the user the permissions that docs/install.md lists; look at disk, maxmemory and"
          " min-replicas-to-write"),
    Trial("redis-poke", True,
          lambda at, _: at.client.command("PUBLISH", at.client.wake_ups, "doctor"), "owners can be woken",
          "let the user run PUBLISH and SUBSCRIBE on the channel <prefix>:poke (ACL: &<prefix>:poke);"
          " without it, owners find what others append by a sweep every 30 s", Grade.WARN),
    Trial("redis-scan", False, _scan, "logs can be found",
          "let the user run SCAN, LINDEX, LLEN and TTL"),
)  # fmt: skip
_LOG_IN: Final = (
    "put the right user and password into redis.url, or into the file of redis.passwordFile"
)
_CONNECT_FIXES: Final[tuple[tuple[str, str], ...]] = (
    ("this is a Sentinel", "write the URL as redis+sentinel://host:port,.../SERVICE"),
    ("redis+cluster", "write the URL as redis+cluster://host:port,..."),
    ("redis://", "write the URL as redis://host:port/0"),
    ("READONLY", "name the primary, not a replica; or let Sentinels name it (redis+sentinel://)"),
    ("belong to installation", "set another redis.keyPrefix"),
    ("have format", "use the version that wrote them, or set another redis.keyPrefix"),
    ("NOAUTH", _LOG_IN),
    ("WRONGPASS", _LOG_IN),
    ("NOPERM", "give the user the permissions that docs/install.md lists"),
    ("credentials", _LOG_IN),
    ("no database", "correct the number after the last / of redis.url"),
    ("name does not resolve", "correct the host in redis.url, or the DNS of this machine"),
    ("LOADING", "wait until the server has read its data"),
    ("MISCONF", "free space on the server's disk, or enlarge it; the server then continues by itself"),
    (
        "CLUSTERDOWN",
        "make sure that every slot has a primary, and write the URL as redis+cluster://host:port,...",
    ),
    ("", "start the server, or correct host and port in redis.url and the network policy"),
)  # fmt: skip


def check_redis(
    facts: RedisFacts, *, url: str, durability: str, installation: str = ""
) -> list[Result]:
    """
    Check what was read of a server.

    Args:
        facts: What was read.
        url: Its address; only scheme and host are used, nothing of it is shown.
        durability: `relaxed` or `strict`.
        installation: Id of this installation, empty if it is not known.
    """
    if facts.error:
        fix = next(fix for word, fix in _CONNECT_FIXES if word in facts.error)
        return [Result("redis-connect", Grade.FAIL, facts.error, fix)]
    info, tried = facts.info, facts.tried
    served = info.get("valkey_version") or info.get("redis_version", "?")
    return [
        Result("redis-connect", Grade.OK, f"answers, version {served}, role {info.get('role', '?')}"),
        *_fitness(info, durability=durability),
        _memory(info),
        _replicas(info, durability=durability),
        _transport(url),
        *(passes(t.check, not tried[t.check], t.passed, tried[t.check], t.fix, bad=t.bad)
          for t in TRIALS if t.check in tried),
        _metadata(facts.meta.get("installation", ""), installation),
        clock("redis-clock", facts.offset, "Redis"),
    ]  # fmt: skip


def _fitness(info: Mapping[str, str], *, durability: str) -> list[Result]:
    """Return the checks that the controller makes itself at its start, those that pass included."""
    passed = {
        "version": "knows script flags",
        "replid": "tells by its master_replid whether it may have lost records",
        "eviction": "never evicts a key",
        "persistence": "keeps an append-only file",
        "appendfsync": f"appendfsync {info.get('appendfsync', 'not known')}",
        "disk": "the append-only file is written",
    }
    found = {name: Result(f"redis-{name}", Grade.OK, text) for name, text in passed.items()}
    for one in preflight(info, durability=durability):
        grade = Grade.FAIL if one.severity is Severity.REFUSE else Grade.WARN
        found[one.name] = Result(f"redis-{one.name}", grade, one.text, one.fix)
    return list(found.values())


def _memory(info: Mapping[str, str]) -> Result:
    limit, used = number_of(info.get("maxmemory")), number_of(info.get("used_memory"))
    share = used / limit if limit else 0.0
    text = f"{share:.0%} of maxmemory is used" if limit else "no limit is set"
    fix = "raise maxmemory, or shorten spec.retentionDays: at the limit, nothing new is sent"
    bad = Grade.FAIL if share >= 0.95 else Grade.WARN
    return passes("redis-memory", share < 0.8, text, text, fix, bad=bad)


def _replicas(info: Mapping[str, str], *, durability: str) -> Result:
    # INFO has this member only where a number of replicas is demanded.
    count, demanded = number_of(info.get("connected_slaves")), "min_slaves_good_slaves" in info
    if demanded and not count:
        return Result(
            "redis-replicas", Grade.FAIL, "no replica, and the server accepts no writes without one",
            "bring a replica back, or set min-replicas-to-write 0 on the server",
        )  # fmt: skip
    return passes(
        "redis-replicas", not count or demanded or durability == "strict",
        f"{count} replica(s), of which some must confirm" if count
        else "no replica: there is no failover, and so none that loses records",
        f"{count} replica(s), and none must confirm: a failover may lose the newest records",
        "set redis.durability: strict, or min-replicas-to-write 1 on the server",
        bad=Grade.WARN,
    )  # fmt: skip


def _transport(url: str) -> Result:
    parts, target = split_redis_url(url), parse_redis_url(url)
    host = (parts.netloc.rpartition("@")[2]).partition(",")[0].partition(":")[0]
    if target.unverified:
        return Result(
            "redis-transport", Grade.WARN, "TLS without verification of the certificate",
            "remove ssl_cert_reqs=none from redis.url, and name the authority in ssl_ca_certs",
        )  # fmt: skip
    here = host in {"localhost", "127.0.0.1", "[", "::1"}
    return passes(
        "redis-transport", here or parts.scheme.startswith(("rediss", "unix")),
        "encrypted, or on this machine",
        "the password travels unencrypted" if "@" in parts.netloc
        else "neither encrypted nor with a password",
        "use rediss:// and an ACL user (a Redis of your own: the chart's has no TLS, only a NetworkPolicy)",
        bad=Grade.WARN,
    )  # fmt: skip


def _metadata(owner: str, installation: str) -> Result:
    """Compare whose the store is, empty without metadata, with who we are, empty if that is not known."""
    if not owner:
        who = f"installation {installation!r}" if installation else "no controller"
        return Result(
            "redis-stamp", Grade.FAIL if installation else Grade.WARN,
            f"{who} has {'never' if installation else 'yet'} used this store under this prefix",
            "start the controller; if one runs, compare redis.url and redis.keyPrefix with its own",
        )  # fmt: skip
    if not installation:
        return Result(
            "redis-stamp", Grade.UNKNOWN,
            f"the store belongs to installation {owner!r}; which one this is was not compared",
            "give access to the API server and get on Leases, or name the controller's namespace"
            " ($KUBERNAUT_CONTROLLER_NAMESPACE)",
        )  # fmt: skip
    text = f"the store belongs to installation {owner!r}"
    fix = "set another redis.keyPrefix: two installations must not share one"
    return passes("redis-stamp", owner == installation, text, text, fix)
