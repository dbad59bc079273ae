"""Checks of Redis: `read_redis` reads and never decides, `check_redis` is pure."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from syncer.cli.access import Access
from syncer.cli.doctor.clocks import clock
from syncer.cli.doctor.result import Grade, Result, fail, ok, unknown, warn
from syncer.cli.exits import message_of
from syncer.ledger.answers import Answer
from syncer.ledger.preflight import Severity, preflight
from syncer.ledger.replies import WrongType, number_of, parse_meta, parse_pairs
from syncer.ledger.url import parse_redis_url, split_redis_url
from syncer.model.attempt import Epoch, epoch_key
from syncer.model.errors import ContractError, LedgerError, Rejected, Unauthorised
from syncer.model.record import repair_record

_PINGS: Final = 21
#: Milliseconds of a round trip beyond which attempts are noticeably slow.
_SLOW: Final = 20.0
_SPARE_CLIENTS: Final = 50


@dataclass(slots=True)
class RedisFacts:
    """
    What was read of a server; every member but `error` means nothing if that is set.

    Attributes:
        error: Why there is no connection.
        refused: The credentials were not accepted.
        info: Members of INFO, of CONFIG GET appendfsync and the like, where they may be asked.
        settings: Members of CONFIG GET that were asked for, empty where that is refused.
        meta: The store metadata, None without them.
        offset: Its clock minus ours in milliseconds.
        latency: Median of a round trip in milliseconds.
        script: Why a script does not run, empty if it does.
        write: Why a key cannot be written, empty if it can.
        wake_owner: Why owners cannot be woken, empty if they can.
        scan: Why logs cannot be found, empty if they can.
        epoch: The highest epoch of the logs that were read.
        logs: How many were read.
        others: How many keys under our prefix are not logs.
    """

    error: str = ""
    refused: bool = False
    info: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    meta: dict[str, str] | None = None
    offset: int = 0
    latency: float = 0.0
    script: str = ""
    write: str = ""
    wake_owner: str = ""
    scan: str = ""
    epoch: Epoch | None = None
    logs: int = 0
    others: int = 0


_SETTINGS: Final = (
    "min-replicas-to-write", "maxmemory", "maxmemory-policy", "appendfsync", "appendonly", "timeout",
)  # fmt: skip


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
    facts = RedisFacts()
    client = at.client
    try:
        await client.command("PING")
        await client.probe()
    except (LedgerError, TimeoutError) as error:
        facts.error = message_of(error)
        facts.refused = isinstance(error, Unauthorised) or "credentials" in facts.error
        return facts
    facts.info = at.settings.redis.seen_in(client.info)
    for name in _SETTINGS:
        try:
            reply = await client.command("CONFIG", "GET", name)
        except (LedgerError, TimeoutError):
            break
        facts.settings |= parse_pairs(reply)
    try:
        facts.meta = parse_meta(await client.command("GET", client.meta_key)) or None
        facts.offset, facts.latency = await _measure(at)
    except (LedgerError, TimeoutError) as error:
        facts.error = message_of(error)
        return facts
    if writes:
        facts.script = await _why_not(_run_script(at))
        facts.write = await _why_not(_write(at))
        facts.wake_owner = await _why_not(_wake_up(at))
    facts.scan = await _why_not(_first_page(at, facts))
    return facts


async def _measure(at: Access) -> tuple[int, float]:
    """Return clock offset and median round trip, in milliseconds."""
    spans, offsets = [], []
    for _ in range(_PINGS):
        began, wall = time.perf_counter(), time.time()
        there = await at.now()
        span = time.perf_counter() - began
        spans.append(span * 1000)
        offsets.append(there - (wall + span / 2) * 1000)
    return round(statistics.median(offsets)), statistics.median(spans)


async def _why_not(call: Coroutine[Any, Any, None]) -> str:
    """Return why a call failed, empty if it succeeded."""
    try:
        await call
    except (LedgerError, TimeoutError) as error:
        return message_of(error)
    return ""


async def _run_script(at: Access) -> None:
    # On a key that is not there the script writes nothing.
    unknown = f"doctor-{secrets.token_hex(8)}"
    answer = await at.log.note(unknown, repair_record("repair:0", at=0, by="", what="", did=""))
    if answer.answer is not Answer.NOOP:
        raise ContractError("a script gave an unexpected answer")
    # Servers forget scripts when they restart.
    await at.client.command("SCRIPT", "LOAD", "return 1")


async def _write(at: Access) -> None:
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


async def _wake_up(at: Access) -> None:
    await at.client.command("PUBLISH", at.client.wake_ups, "doctor")


async def _first_page(at: Access, facts: RedisFacts) -> None:
    async for uids in at.log.scan():
        epochs = []
        for head in await at.log.read_headers(uids):
            if head.element is None:
                # It expired since the scan saw it.
                continue
            if head.header is None:
                facts.others += 1
            else:
                epochs.append(head.header.epoch)
        facts.logs += len(epochs)
        facts.epoch = max(
            [*epochs, *([facts.epoch] if facts.epoch else [])], key=epoch_key, default=None
        )
        if facts.logs >= 1000:
            return


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
        fix = next(
            (fix for word, fix in _CONNECT_FIXES if word in facts.error),
            "start the server, or correct host and port in redis.url and the network policy",
        )
        return [fail("redis-connect", facts.error, fix)]
    info = facts.info
    served = info.get("valkey_version") or info.get("redis_version", "?")
    checks = [ok("redis-connect", f"answers, version {served}, role {info.get('role', '?')}")]
    checks += _fitness(info, durability=durability)
    checks += [
        _memory(info),
        _replicas(info, facts.settings, durability=durability),
        _clients(info),
        _idle(facts.settings),
        _transport(url),
        _done("redis-scripts", facts.script, "scripts run",
              "let the user run EVALSHA, SCRIPT LOAD, LRANGE and TIME"),
        _done("redis-write", facts.write, "keys can be written",
              "give the user the permissions that docs/install.md lists; look at disk, maxmemory and"
              " min-replicas-to-write"),
        _done("redis-scan", facts.scan, f"logs can be found ({facts.logs} read)",
              "let the user run SCAN, LINDEX, LLEN and TTL"),
        _wake_ups(facts),
        _metadata(facts.meta, installation),
        _keys(facts),
        clock("redis-clock", facts.offset, "Redis"),
        ok("redis-latency", f"{facts.latency:.1f} ms for a round trip")
        if facts.latency <= _SLOW
        else warn("redis-latency", f"{facts.latency:.0f} ms for a round trip, and each attempt waits"
                   " for two", "run Redis closer to the controller"),
    ]  # fmt: skip
    return checks


def _done(name: str, problem: str, text: str, fix: str) -> Result:
    return fail(name, problem, fix) if problem else ok(name, text)


def _fitness(info: Mapping[str, str], *, durability: str) -> list[Result]:
    """Return the checks that the controller makes itself at its start, those that pass included."""
    found = {f.name: f for f in preflight(info, durability=durability)}
    passed = {
        "version": "knows script flags",
        "replid": "tells by its master_replid whether it may have lost records",
        "eviction": "never evicts a key",
        "persistence": "keeps an append-only file",
        "appendfsync": f"appendfsync {info.get('appendfsync', 'not known')}",
        "disk": "the append-only file is written",
    }
    checks = []
    for name, text in passed.items():
        finding = found.get(name)
        if finding is None:
            checks.append(ok(f"redis-{name}", text))
        else:
            refuse = finding.severity is Severity.REFUSE
            grade = Grade.FAIL if refuse else Grade.WARN
            checks.append(Result(f"redis-{name}", grade, finding.text, finding.fix))
    return checks


def _memory(info: Mapping[str, str]) -> Result:
    limit, used = number_of(info.get("maxmemory")), number_of(info.get("used_memory"))
    if not limit:
        return ok("redis-memory", "no limit is set")
    share = used / limit
    text = f"{share:.0%} of maxmemory is used"
    if share < 0.8:
        return ok("redis-memory", text)
    fix = "raise maxmemory, or shorten spec.retentionDays: at the limit, nothing new is sent"
    return fail("redis-memory", text, fix) if share >= 0.95 else warn("redis-memory", text, fix)


def _replicas(info: Mapping[str, str], settings: Mapping[str, str], *, durability: str) -> Result:
    count = number_of(info.get("connected_slaves"))
    if not count and "min_slaves_good_slaves" in info:
        return fail(
            "redis-replicas", "no replica, and the server accepts no writes without one",
            "bring a replica back, or set min-replicas-to-write 0 on the server",
        )  # fmt: skip
    if not count:
        text = "no replica: there is no failover, and so none that loses records"
        return ok("redis-replicas", text)
    if durability == "strict":
        return ok("redis-replicas", f"{count} replica(s); each attempt waits for one to confirm")
    floor = settings.get("min-replicas-to-write", "")
    # INFO has this member only where a number of replicas is demanded.
    if (floor and floor != "0") or "min_slaves_good_slaves" in info:
        text = f"{count} replica(s), at least {floor or 'one'} needed to write"
        return ok("redis-replicas", text)
    text = f"{count} replica(s), and none must confirm: a failover may lose the newest records"
    fix = "set redis.durability: strict, or min-replicas-to-write 1 on the server"
    return warn("redis-replicas", text, fix)


def _clients(info: Mapping[str, str]) -> Result:
    most, now = number_of(info.get("maxclients")), number_of(info.get("connected_clients"))
    if not most:
        return unknown("redis-clients", "the server does not show its limit")
    text = f"{now} of {most} connections are taken"
    if most - now >= _SPARE_CLIENTS:
        return ok("redis-clients", text)
    return warn("redis-clients", text, "raise maxclients, or find out who holds them")


def _idle(settings: Mapping[str, str]) -> Result:
    seconds = settings.get("timeout", "")
    if not seconds:
        return unknown(
            "redis-timeout", "not visible: CONFIG GET is refused, as it should be",
            "make sure that the server has timeout 0, so that it does not close idle connections",
        )  # fmt: skip
    if seconds == "0" or int(seconds) >= 60:
        return ok("redis-timeout", "idle connections stay open")
    return warn(
        "redis-timeout", f"idle connections are closed after {seconds} s",
        "set timeout 0: each new connection is checked before use, and claims wait meanwhile",
    )  # fmt: skip


def _transport(url: str) -> Result:
    parts = split_redis_url(url)
    target = parse_redis_url(url)
    if target.unverified:
        return warn(
            "redis-transport", "TLS without verification of the certificate",
            "remove ssl_cert_reqs=none from redis.url, and name the authority in ssl_ca_certs",
        )  # fmt: skip
    host = (parts.netloc.rpartition("@")[2]).partition(",")[0].partition(":")[0]
    if parts.scheme.startswith(("rediss", "unix")):
        return ok("redis-transport", "encrypted, or on this machine")
    if host in {"localhost", "127.0.0.1", "[", "::1"}:
        return ok("redis-transport", "on this machine")
    if "@" not in parts.netloc:
        return warn(
            "redis-transport", "neither encrypted nor with a password",
            "use rediss:// and an ACL user; what is in the logs may not be for everybody",
        )  # fmt: skip
    return warn(
        "redis-transport", "the password travels unencrypted",
        "use rediss:// (a Redis of your own: the chart's has no TLS, only a NetworkPolicy)",
    )  # fmt: skip


def _wake_ups(facts: RedisFacts) -> Result:
    if not facts.wake_owner:
        return ok("redis-poke", "owners can be woken")
    return warn(
        "redis-poke", f"owners cannot be woken: {facts.wake_owner}",
        "let the user run PUBLISH and SUBSCRIBE on the channel <prefix>:poke (ACL: &<prefix>:poke);"
        " without it, owners find what others append by a sweep every 30 s",
    )  # fmt: skip


def _metadata(meta: Mapping[str, str] | None, installation: str) -> Result:
    if meta is None and installation:
        return fail(
            "redis-stamp", f"installation {installation!r} has never used this store under this prefix",
            "compare redis.url and redis.keyPrefix with the controller's own",
        )  # fmt: skip
    if meta is None:
        return warn(
            "redis-stamp", "no controller has used this store under this prefix yet",
            "start the controller; if one runs, compare redis.url and redis.keyPrefix with its own",
        )  # fmt: skip
    if meta.get("format") != "1":
        return fail(
            "redis-stamp", f"the logs have format {meta.get('format', '?')}",
            "use the version that wrote them, or another redis.keyPrefix",
        )  # fmt: skip
    owner = meta.get("installation", "")
    if not installation:
        return unknown(
            "redis-stamp", f"the store belongs to installation {owner!r}; which one this is was not"
            " compared",
            "give access to the API server and get on Leases, or name the controller's namespace"
            " ($KUBERNAUT_CONTROLLER_NAMESPACE)",
        )  # fmt: skip
    if owner != installation:
        return fail(
            "redis-stamp", f"the store belongs to installation {owner!r}",
            "set another redis.keyPrefix: two installations must not share one",
        )  # fmt: skip
    return ok("redis-stamp", f"belongs to installation {owner!r}")


def _keys(facts: RedisFacts) -> Result:
    if not facts.others:
        return ok("redis-keys", "no foreign key under the prefix")
    return warn(
        "redis-keys", f"{facts.others} key(s) under the prefix are not logs",
        "`syncer verify` names them; another program should use another prefix",
    )  # fmt: skip
