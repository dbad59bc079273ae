"""
Is everything in place? Checks of Redis, API server, rights, definition, leases and clocks.

Looking and judging are apart: `read_redis` and `read_cluster` ask and never judge, `check_redis` and
`check_cluster` are pure and never ask. A check that could not be made says so instead of passing, and one
that did not pass names its fix. What is asked leaves nothing behind but one key that expires after seconds.

The rights are those of the account that runs this, or, if one is named, of the controller's account.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote, urlsplit

from syncer.cli.access import Access
from syncer.cli.owner import holder_of
from syncer.cli.store import Whose, check_store
from syncer.kube.client import KubeClient
from syncer.kube.crd import missing_fields, missing_rules, refused_values
from syncer.ledger.codec import decode_header
from syncer.ledger.log import Answer, wake_up_channel
from syncer.ledger.preflight import CLOCK_FIX, CLOCK_LIMIT, CLOCK_ODD, Severity, apart, preflight
from syncer.ledger.replies import parse_meta
from syncer.ledger.url import parse_redis_url
from syncer.model.attempt import Epoch, epoch_key, make_epoch
from syncer.model.errors import (
    ConfigError,
    ContractError,
    Gone,
    KindMissing,
    LedgerError,
    PortError,
    Unauthorised,
)
from syncer.model.record import repair_record
from syncer.model.resource import GROUP, PLURAL, parse_time

_PINGS: Final = 21
_TIMEOUT: Final = 10.0
#: Milliseconds: what is odd, and what breaks something.
_CLOCK_ODD: Final = 2_000
_CLOCK_BAD: Final = 60_000
_SLOW_REDIS: Final = 20.0
_SLOW_CLUSTER: Final = 500.0
_SPARE_CLIENTS: Final = 50

Json = dict[str, Any]


class Grade(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    #: It could not be made.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was found, and what to do about it (empty where nothing is to be done)."""

    name: str
    grade: Grade
    text: str
    fix: str = ""


def _ok(name: str, text: str) -> Check:
    return Check(name, Grade.OK, text)


def _warn(name: str, text: str, fix: str) -> Check:
    return Check(name, Grade.WARN, text, fix)


def _fail(name: str, text: str, fix: str) -> Check:
    return Check(name, Grade.FAIL, text, fix)


def _unknown(name: str, text: str, fix: str = "") -> Check:
    return Check(name, Grade.UNKNOWN, text, fix)


# -- Redis: looking -------------------------------------------------------------------------------


@dataclass(slots=True)
class RedisFacts:
    """
    What a server says; every member but `error` is worth nothing if that is set.

    Attributes:
        error: Why there is no connection.
        refused: The credentials were not accepted.
        info: Members of INFO, of CONFIG GET appendfsync and the like, where they may be asked.
        settings: Members of CONFIG GET that were asked for, empty where that is refused.
        meta: The stamp of the store, None without one.
        offset: Its clock minus ours in milliseconds.
        latency: Median of a round trip in milliseconds.
        script: Why a script does not run, empty if it does.
        write: Why a key cannot be written, empty if it can.
        wake_owner: Why the owner cannot be poked, empty if it can.
        scan: Why logs cannot be found, empty if they can.
        epoch: The highest epoch of the logs that were looked at.
        logs: How many were looked at.
        others: How many keys under our prefix are no logs.
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


async def read_redis(at: Access) -> RedisFacts:
    """Ask a server everything; never raises for what it answers."""
    look = RedisFacts()
    client = at.client
    try:
        await client.command("PING")
        await client.probe()
    except (LedgerError, TimeoutError) as error:
        look.error = str(error) or "no answer in time"
        look.refused = isinstance(error, Unauthorised) or "credentials" in look.error
        return look
    look.info = at.settings.redis.seen_in(client.info)
    for name in _SETTINGS:
        try:
            reply = await client.command("CONFIG", "GET", name)
        except (LedgerError, TimeoutError):
            break
        pair = [p.decode() if isinstance(p, bytes) else str(p) for p in reply]
        look.settings |= dict(zip(pair[::2], pair[1::2], strict=False))
    try:
        look.meta = parse_meta(await client.command("GET", client.meta_key)) or None
        look.offset, look.latency = await _measure(at)
    except (LedgerError, TimeoutError) as error:
        look.error = str(error) or "no answer in time"
        return look
    look.script = await _why_not(_run_script(at))
    look.write = await _why_not(_write(at))
    look.wake_owner = await _why_not(_wake_up(at))
    look.scan = await _why_not(_first_page(at, look))
    return look


async def _measure(at: Access) -> tuple[int, float]:
    spans, offsets = [], []
    for _ in range(_PINGS):
        began, wall = time.perf_counter(), time.time()
        there = await at.now()
        span = time.perf_counter() - began
        spans.append(span * 1000)
        offsets.append(there - (wall + span / 2) * 1000)
    return round(statistics.median(offsets)), statistics.median(spans)


async def _why_not(call: Any) -> str:
    try:
        await call
    except (LedgerError, TimeoutError) as error:
        return str(error) or "no answer in time"
    return ""


async def _run_script(at: Access) -> None:
    # On a key that is not there the script writes nothing.
    nobody = f"doctor-{secrets.token_hex(8)}"
    answer = await at.log.note(nobody, repair_record("repair:0", at=0, by="", what="", did=""))
    if answer.answer is not Answer.NOOP:
        raise ContractError("a script gave an unexpected answer")


async def _write(at: Access) -> None:
    key = f"{at.client.prefix}:doctor:{secrets.token_hex(8)}"
    await at.client.command("SET", key, "1", "EX", 5)


async def _wake_up(at: Access) -> None:
    await at.client.command("PUBLISH", wake_up_channel(at.client.prefix), "doctor")


async def _first_page(at: Access, look: RedisFacts) -> None:
    async for uids in at.log.scan(page=500):
        epochs = []
        for element, _, _ in await at.log.read_headers(uids):
            if element is None:
                # It was there when the scan came by.
                continue
            try:
                epochs.append(decode_header(element).epoch)
            except ContractError:
                look.others += 1
        look.logs += len(epochs)
        look.epoch = max(
            [*epochs, *([look.epoch] if look.epoch else [])], key=epoch_key, default=None
        )
        if look.logs >= 1000:
            return


# -- Redis: judging -------------------------------------------------------------------------------

_LOG_IN: Final = (
    "put the right user and password into redis.url, or into the file of redis.passwordFile"
)
_CONNECT_FIXES: Final[tuple[tuple[str, str], ...]] = (
    ("Sentinel answers", "write the URL as redis+sentinel://host:port,.../SERVICE"),
    ("redis+cluster", "write the URL as redis+cluster://host:port,..."),
    ("redis://", "write the URL as redis://host:port/0"),
    ("READONLY", "name the primary, not a replica; or let Sentinels name it (redis+sentinel://)"),
    ("belong to installation", "set another redis.keyPrefix"),
    ("have format", "use the version that wrote them, or set another redis.keyPrefix"),
    ("NOAUTH", _LOG_IN),
    ("WRONGPASS", _LOG_IN),
    ("credentials", f"{_LOG_IN}; the user must be allowed to run INFO, GET and PING"),
    ("LOADING", "wait until the server has read its data"),
    (
        "CLUSTERDOWN",
        "see that every slot has a primary, and write the URL as redis+cluster://host:port,...",
    ),
)  # fmt: skip


def check_redis(
    look: RedisFacts, *, url: str, durability: str, installation: str = ""
) -> list[Check]:
    """
    Judge what a server said.

    Args:
        look: What it said.
        url: Its address; only scheme and host are looked at, nothing of it is shown.
        durability: `relaxed` or `strict`.
        installation: Id of this installation, empty if it is not known.
    """
    if look.error:
        fix = next(
            (fix for word, fix in _CONNECT_FIXES if word in look.error),
            "start the server, or correct host and port in redis.url and the network policy",
        )
        return [_fail("redis-connect", look.error, fix)]
    info = look.info
    served = info.get("valkey_version") or info.get("redis_version", "?")
    checks = [_ok("redis-connect", f"answers, version {served}, role {info.get('role', '?')}")]
    checks += _fitness(info, durability=durability)
    checks += [
        _memory(info),
        _replicas(info, look.settings, durability=durability),
        _clients(info),
        _idle(look.settings),
        _transport(url),
        _done("redis-scripts", look.script, "scripts run",
              "let the user run EVALSHA, SCRIPT LOAD and the commands that scripts use (LRANGE,"
              " RPUSH, LSET, EXPIRE, PERSIST, DEL, TIME)"),
        _done("redis-write", look.write, "keys can be written",
              "let the user write keys that begin with the prefix; look at disk, maxmemory and"
              " min-replicas-to-write"),
        _done("redis-scan", look.scan, f"logs can be found ({look.logs} looked at)",
              "let the user run SCAN, LINDEX, LLEN and TTL"),
        _poking(look),
        _stamp(look.meta, installation),
        _keys(look),
        _clock("redis-clock", look.offset, "Redis"),
        _ok("redis-latency", f"{look.latency:.1f} ms a round trip")
        if look.latency <= _SLOW_REDIS
        else _warn("redis-latency", f"{look.latency:.0f} ms a round trip, and each attempt waits"
                   " for two", "bring Redis nearer to the controller"),
    ]  # fmt: skip
    return checks


def _done(name: str, problem: str, text: str, fix: str) -> Check:
    return _fail(name, problem, fix) if problem else _ok(name, text)


def _fitness(info: Mapping[str, str], *, durability: str) -> list[Check]:
    """The checks that the controller makes itself at its start, each of them whatever it comes to."""
    found = {f.name: f for f in preflight(info, durability=durability)}
    told = {
        "version": "knows script flags",
        "eviction": "never evicts a key",
        "persistence": "keeps an append-only file",
        "appendfsync": f"appendfsync {info.get('appendfsync', 'not known')}",
        "disk": "the append-only file is written",
    }
    checks = []
    for name, text in told.items():
        finding = found.get(name)
        if finding is None:
            checks.append(_ok(f"redis-{name}", text))
        else:
            refuse = finding.severity is Severity.REFUSE
            grade = Grade.FAIL if refuse else Grade.WARN
            checks.append(Check(f"redis-{name}", grade, finding.text, finding.fix))
    return checks


def _memory(info: Mapping[str, str]) -> Check:
    limit, used = _int(info, "maxmemory"), _int(info, "used_memory")
    if not limit:
        return _ok("redis-memory", "no limit is set")
    share = used / limit
    text = f"{share:.0%} of maxmemory is used"
    if share < 0.8:
        return _ok("redis-memory", text)
    fix = "raise maxmemory, or shorten spec.retentionDays: at the limit nothing new is sent"
    return _fail("redis-memory", text, fix) if share >= 0.95 else _warn("redis-memory", text, fix)


def _replicas(info: Mapping[str, str], settings: Mapping[str, str], *, durability: str) -> Check:
    count = _int(info, "connected_slaves")
    if not count and "min_slaves_good_slaves" in info:
        return _fail(
            "redis-replicas", "no replica, and the server takes no writes without one",
            "bring a replica back, or set min-replicas-to-write 0 on the server",
        )  # fmt: skip
    if not count:
        return _ok("redis-replicas", "no replica: nothing fails over, and nothing is lost by it")
    if durability == "strict":
        return _ok("redis-replicas", f"{count} replica(s); each attempt waits for one to confirm")
    floor = settings.get("min-replicas-to-write", "")
    # INFO has this member only where a number of replicas is demanded.
    if (floor and floor != "0") or "min_slaves_good_slaves" in info:
        return _ok(
            "redis-replicas", f"{count} replica(s), at least {floor or 'one'} needed to write"
        )
    return _warn(
        "redis-replicas",
        f"{count} replica(s), and none must confirm: a failover may lose the newest records",
        "set redis.durability strict, or min-replicas-to-write 1 on the server",
    )


def _clients(info: Mapping[str, str]) -> Check:
    most, now = _int(info, "maxclients"), _int(info, "connected_clients")
    if not most:
        return _unknown("redis-clients", "the server does not tell its limit")
    text = f"{now} of {most} connections are taken"
    if most - now >= _SPARE_CLIENTS:
        return _ok("redis-clients", text)
    return _warn("redis-clients", text, "raise maxclients, or find out who holds them")


def _idle(settings: Mapping[str, str]) -> Check:
    seconds = settings.get("timeout", "")
    if not seconds:
        return _unknown(
            "redis-timeout", "cannot be seen: CONFIG GET is refused, as it should be",
            "see that the server has timeout 0, so that it does not close idle connections",
        )  # fmt: skip
    if seconds == "0" or int(seconds) >= 60:
        return _ok("redis-timeout", "idle connections are kept")
    return _warn(
        "redis-timeout", f"idle connections are closed after {seconds} s",
        "set timeout 0: each new connection is greeted, and claims are held up meanwhile",
    )  # fmt: skip


def _transport(url: str) -> Check:
    parts = urlsplit(url)
    target = parse_redis_url(url)
    if target.unverified:
        return _warn(
            "redis-transport", "TLS with whoever answers: the certificate is not verified",
            "remove ssl_cert_reqs=none from redis.url, and name the authority in ssl_ca_certs",
        )  # fmt: skip
    host = (parts.netloc.rpartition("@")[2]).partition(",")[0].partition(":")[0]
    if parts.scheme.startswith(("rediss", "unix")):
        return _ok("redis-transport", "encrypted, or on this machine")
    if host in {"localhost", "127.0.0.1", "[", "::1"}:
        return _ok("redis-transport", "on this machine")
    if "@" not in parts.netloc:
        return _warn(
            "redis-transport", "neither encrypted nor with a password",
            "use rediss:// and an ACL user; what is in the logs may not be for everybody",
        )  # fmt: skip
    return _warn("redis-transport", "the password travels unencrypted", "use rediss://")


def _poking(look: RedisFacts) -> Check:
    if not look.wake_owner:
        return _ok("redis-poke", "owners can be told of new records")
    return _warn(
        "redis-poke", f"owners cannot be told of new records: {look.wake_owner}",
        "let the user run PUBLISH and SUBSCRIBE on the channel <prefix>:poke (ACL: &<prefix>:poke);"
        " without it a sweep finds them after 30 s",
    )  # fmt: skip


def _stamp(meta: Mapping[str, str] | None, installation: str) -> Check:
    if meta is None and installation:
        return _fail(
            "redis-stamp", f"installation {installation!r} has never used this store under this prefix",
            "compare redis.url and redis.keyPrefix with the controller's own",
        )  # fmt: skip
    if meta is None:
        return _warn(
            "redis-stamp", "no controller has used this store under this prefix yet",
            "start the controller; if one runs, compare redis.url and redis.keyPrefix with its own",
        )  # fmt: skip
    if meta.get("format") != "1":
        return _fail(
            "redis-stamp", f"the logs have format {meta.get('format', '?')}",
            "use the version that wrote them, or another redis.keyPrefix",
        )  # fmt: skip
    owner = meta.get("installation", "")
    if not installation:
        return _unknown(
            "redis-stamp", f"the store belongs to installation {owner!r}; which one this is was not"
            " compared",
            "give access to the API server and get on Leases, or name the controller's namespace"
            " (--controller-namespace)",
        )  # fmt: skip
    if owner != installation:
        return _fail(
            "redis-stamp", f"the store belongs to installation {owner!r}",
            "set another redis.keyPrefix: two installations must not share one",
        )  # fmt: skip
    return _ok("redis-stamp", f"belongs to installation {owner!r}")


def _keys(look: RedisFacts) -> Check:
    if not look.others:
        return _ok("redis-keys", "no foreign key under the prefix")
    return _warn(
        "redis-keys", f"{look.others} key(s) under the prefix are no logs",
        "`syncer verify` names them; another program should use another prefix",
    )  # fmt: skip


def _clock(name: str, offset: int, whose: str) -> Check:
    text = f"{whose} is {abs(offset) / 1000:.1f} s {'ahead' if offset > 0 else 'behind'}"
    fix = f"run NTP on both machines (here and on that of {whose})"
    if abs(offset) >= _CLOCK_BAD:
        return _fail(name, text, fix)
    return _warn(name, text, fix) if abs(offset) >= _CLOCK_ODD else _ok(name, text)


def _int(info: Mapping[str, str], name: str) -> int:
    text = info.get(name, "")
    return int(text) if text.isdigit() else 0


# -- API server: looking --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Right:
    """One right that the controller needs."""

    check: str
    group: str
    resource: str
    verbs: tuple[str, ...]
    subresource: str = ""
    leases: bool = False


RIGHTS: Final = (
    Right("rbac-objects", GROUP, PLURAL, ("get", "list", "watch")),
    Right("rbac-status", GROUP, PLURAL, ("patch",), "status"),
    Right("rbac-events", "", "events", ("create",)),
    Right("rbac-leases", "coordination.k8s.io", "leases", ("get", "create", "patch"), leases=True),
)


@dataclass(slots=True)
class ClusterFacts:
    """
    What an API server says.

    Attributes:
        error: Why it cannot be asked.
        latency: Milliseconds of a small read.
        version: resourceVersion of a list, empty if the list was refused.
        listing: Why objects cannot be listed, empty if they can.
        crd: The served definition, None if it could not be read.
        crd_problem: Why it could not.
        missing: Rights that are refused, by check.
        rights_problem: Why rights could not be asked, empty if they could.
        shards: Number of shards by the map Lease, 0 without one.
        installation: Id of the installation, empty without a map Lease.
        leases_problem: Why leases could not be read, empty if they could.
        unowned: Shards whose lease is free or has run out.
        offset: Clock of the API server minus ours, None if it could not be asked.
    """

    error: str = ""
    latency: float = 0.0
    version: str = ""
    listing: str = ""
    crd: Json | None = None
    crd_problem: str = ""
    missing: dict[str, list[str]] = field(default_factory=dict)
    rights_problem: str = ""
    shards: int = 0
    installation: str = ""
    leases_problem: str = ""
    unowned: list[int] = field(default_factory=list)
    offset: int | None = None


async def read_cluster(
    at: Access, *, namespaces: Sequence[str], home: str, account: str
) -> ClusterFacts:
    """
    Ask an API server everything; never raises for what it answers.

    Args:
        at: Where.
        namespaces: That are watched; empty for all.
        home: Namespace of the controller, empty if that is not known.
        account: `namespace/name` of the service account whose rights are asked; empty for one's own.
    """
    look = ClusterFacts()
    if at.kube is None:
        look.error = at.problem
        return look
    kube = at.kube
    try:
        began = time.perf_counter()
        await kube.request("GET", "/version", timeout=_TIMEOUT)
        look.latency = (time.perf_counter() - began) * 1000
    except (PortError, TimeoutError) as error:
        look.error = str(error)
        return look
    try:
        page = await at.objects.list_page(namespaces[0] if namespaces else None, limit=1)
        look.version = page.resource_version
    except (LedgerError, TimeoutError) as error:
        look.listing = "not served" if isinstance(error, KindMissing) else str(error)
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
    try:
        look.crd = await kube.request("GET", path, timeout=_TIMEOUT)
    except (PortError, TimeoutError) as error:
        look.crd_problem = "there is none" if isinstance(error, Gone) else str(error)
    await _rights(kube, look, namespaces, home, account)
    if home:
        await _leases(at, kube, look, home)
    return look


async def _rights(
    kube: KubeClient, look: ClusterFacts, namespaces: Sequence[str], home: str, account: str
) -> None:
    for right in RIGHTS:
        where = [home] if right.leases else list(namespaces) or [""]
        if right.leases and not home:
            continue
        for namespace in where:
            for verb in right.verbs:
                try:
                    allowed = await _allowed(kube, right, verb, namespace, account)
                except (PortError, TimeoutError) as error:
                    look.rights_problem = str(error)
                    return
                if not allowed:
                    told = f"{verb} in {namespace or 'all namespaces'}"
                    look.missing.setdefault(right.check, []).append(told)


async def _allowed(kube: KubeClient, right: Right, verb: str, namespace: str, account: str) -> bool:
    attributes: Json = {
        "group": right.group, "resource": right.resource, "verb": verb, "namespace": namespace,
    }  # fmt: skip
    if right.subresource:
        attributes["subresource"] = right.subresource
    spec: Json = {"resourceAttributes": attributes}
    kind = "SelfSubjectAccessReview"
    if account:
        owner, _, name = account.partition("/")
        kind = "SubjectAccessReview"
        spec |= {
            "user": f"system:serviceaccount:{owner}:{name}",
            "groups": [
                "system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{owner}",
            ],
        }  # fmt: skip
    answer = await kube.request(
        "POST",
        f"/apis/authorization.k8s.io/v1/{kind.lower()}s",
        body={"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec},
        timeout=_TIMEOUT,
    )
    return bool((answer.get("status") or {}).get("allowed"))


async def _leases(at: Access, kube: KubeClient, look: ClusterFacts, home: str) -> None:
    sharding = at.settings.sharding
    base = f"/apis/coordination.k8s.io/v1/namespaces/{quote(home, safe='')}/leases"
    try:
        found = await kube.request("GET", f"{base}/{sharding.lease_name}-map", timeout=_TIMEOUT)
        meta = found.get("metadata") or {}
        text = (meta.get("annotations") or {}).get("notification-ledger/shards", "")
        look.shards = int(text) if text.isdigit() else 0
        look.installation = f"{home}/{sharding.lease_name}@{meta.get('uid', '')}"
        states = await asyncio.gather(
            *(_owned(kube, f"{base}/{sharding.lease_name}-{n}") for n in range(look.shards))
        )
        look.unowned = [n for n, owned in enumerate(states) if not owned]
    except Gone:
        look.leases_problem = "there is no Lease of this installation"
    except (PortError, TimeoutError, ValueError) as error:
        look.leases_problem = str(error)
    body = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"generateName": "notification-ledger-doctor-"},
    }  # fmt: skip
    try:
        began = time.time()
        made = await kube.request("POST", f"{base}?dryRun=All", body=body, timeout=_TIMEOUT)
        ours = (began + time.time()) / 2 * 1000
        # It tells whole seconds, rounded down.
        look.offset = round(parse_time(made["metadata"]["creationTimestamp"]) + 500 - ours)
    except (PortError, TimeoutError, KeyError, ValueError):
        look.offset = None


async def _owned(kube: KubeClient, path: str) -> bool:
    try:
        spec = (await kube.request("GET", path, timeout=_TIMEOUT)).get("spec") or {}
    except Gone:
        return False
    return bool(holder_of(spec, now=time.time()))


# -- API server: judging --------------------------------------------------------------------------


def check_cluster(
    look: ClusterFacts,
    *,
    shards: int | None,
    incarnation: int,
    epoch: Epoch | None,
    home: str,
    logs_read: bool = True,
) -> list[Check]:
    """
    Judge what an API server said.

    Args:
        look: What it said.
        shards: As configured, None if that is not known.
        incarnation: As configured.
        epoch: The highest epoch in the logs, None if that is not known.
        home: Namespace of the controller, empty if that is not known.
        logs_read: Whether logs could be looked at, so that there being no epoch means no log.
    """
    if look.error:
        return [
            _fail(
                "api-connect", look.error,
                "name a kubeconfig (--kubeconfig or $KUBECONFIG), or run this in a pod with a service"
                " account",
            )
        ]  # fmt: skip
    checks = [
        _ok("api-connect", "answers"),
        _ok("api-latency", f"{look.latency:.0f} ms a small read")
        if look.latency <= _SLOW_CLUSTER
        else _warn("api-latency", f"{look.latency:.0f} ms a small read",
                   "look at the API server's load; leases are renewed within seconds"),
        _fail("api-objects", f"NotificationRequests cannot be listed: {look.listing}",
              "apply the definition (`notifier crd | kubectl apply --server-side -f -`), and grant"
              " list; with rights in some namespaces only, name them (-n)")
        if look.listing
        else _ok("api-objects", "NotificationRequests can be listed"),
        *_crd(look),
        *_rbac(look, home),
        *_owners(look, shards, home),
        _epoch(look, incarnation, epoch, logs_read=logs_read),
    ]  # fmt: skip
    if look.offset is None:
        checks.append(
            _unknown(
                "api-clock", "the clock could not be asked (a dry run of a Lease)",
                "grant create on Leases, and name the controller's namespace"
                " (--controller-namespace)",
            )
        )  # fmt: skip
    else:
        checks.append(_clock("api-clock", look.offset, "the API server"))
    return checks


def _crd(look: ClusterFacts) -> list[Check]:
    apply = (
        "apply the definition of this version (`notifier crd | kubectl apply --server-side -f -`)"
    )
    if look.crd is None:
        if look.crd_problem == "there is none":
            return [_fail("crd-served", "the definition is not installed", apply)]
        return [
            _unknown(
                "crd-served", f"the definition cannot be read: {look.crd_problem}",
                "grant get on it; the first status write shows what it lacks",
            )
        ]  # fmt: skip
    lost = missing_fields(look.crd) + refused_values(look.crd)
    rules = missing_rules(look.crd)
    return [
        _ok("crd-served", "the definition is installed"),
        _fail("crd-members", f"it drops or refuses {len(lost)} member(s): {', '.join(lost[:5])}", apply)
        if lost
        else _ok("crd-members", "it keeps every member"),
        _warn("crd-rules", f"{len(rules)} server-side rule(s) are missing",
              apply + ", or set the chart's value that leaves them out on purpose")
        if rules
        else _ok("crd-rules", "it has every server-side rule"),
    ]  # fmt: skip


def _rbac(look: ClusterFacts, home: str) -> list[Check]:
    checks = []
    for right in RIGHTS:
        resource = right.resource + (f"/{right.subresource}" if right.subresource else "")
        if look.rights_problem:
            checks.append(
                _unknown(
                    right.check, f"rights cannot be asked: {look.rights_problem}",
                    "grant create on (self)subjectaccessreviews",
                )
            )  # fmt: skip
        elif right.leases and not home:
            checks.append(
                _unknown(
                    right.check, "the controller's namespace is not known",
                    "name it (--controller-namespace)",
                )
            )  # fmt: skip
        elif right.check in look.missing:
            checks.append(
                _fail(
                    right.check, f"{resource}: missing {', '.join(look.missing[right.check])}",
                    "apply the chart's roles; to ask about the controller's account instead of your"
                    " own, name it (--service-account NAMESPACE/NAME)",
                )
            )  # fmt: skip
        else:
            checks.append(_ok(right.check, f"{resource}: {', '.join(right.verbs)}"))
    return checks


def _owners(look: ClusterFacts, shards: int | None, home: str) -> list[Check]:
    if not home:
        name = "name the controller's namespace (--controller-namespace)"
        return [_unknown("shards", "leases were not looked at", name)]
    if look.leases_problem:
        return [
            _warn(
                "shards", look.leases_problem,
                "start the controller; compare sharding.leaseName and the namespace with its own",
            )
        ]  # fmt: skip
    if shards is not None and look.shards != shards:
        return [
            _fail(
                "shards", f"the installation has {look.shards} shard(s), the settings say {shards}",
                "give this command the controller's own settings file, or set sharding.shards back",
            )
        ]  # fmt: skip
    count = look.shards
    checks = [
        _ok("shards", f"{count} shard(s), as configured")
        if shards is not None
        else _unknown(
            "shards", f"the installation has {count} shard(s); no settings file to compare with",
            "name the controller's (--config)",
        )
    ]  # fmt: skip
    if look.unowned:
        told = ", ".join(map(str, look.unowned[:8]))
        checks.append(
            _fail(
                "owners", f"{len(look.unowned)} of {count} shard(s) have no owner: {told}",
                "start a replica of the controller; look at the readiness of those that run",
            )
        )  # fmt: skip
    else:
        checks.append(_ok("owners", "every shard has an owner"))
    return checks


def _epoch(look: ClusterFacts, incarnation: int, epoch: Epoch | None, *, logs_read: bool) -> Check:
    if not logs_read or not look.version.isdigit():
        return _unknown(
            "incarnation", "epochs were not compared: "
            + ("objects cannot be listed" if logs_read else "logs cannot be looked at"),
        )  # fmt: skip
    if epoch is None:
        return _ok("incarnation", "no log to compare with")
    latest = make_epoch(incarnation, look.version)
    if epoch_key(epoch) <= epoch_key(latest):
        return _ok("incarnation", f"the cluster gives out later epochs than {epoch}")
    return _fail(
        "incarnation", f"logs carry epoch {epoch}, later than any the cluster gives out now",
        "after a restore of etcd, or a move to another cluster, raise sharding.incarnation to"
        f" {max(incarnation, int(epoch.partition('.')[0])) + 1}",
    )  # fmt: skip


def check_clocks(redis: RedisFacts, cluster: ClusterFacts) -> Check:
    """Judge whether Redis and the API server agree on the time, whatever ours is."""
    if redis.error or cluster.offset is None:
        return _unknown(
            "clocks", "one of the two clocks could not be asked", "see the other findings"
        )
    ahead = (redis.offset - cluster.offset) / 1000
    if abs(ahead) <= CLOCK_ODD:
        return _ok("clocks", "Redis and the API server agree on the time")
    text = f"Redis: {apart(ahead)}"
    if abs(ahead) > CLOCK_LIMIT:
        return _fail("clocks", f"{text}: every attempt is held", CLOCK_FIX)
    return _warn("clocks", text, CLOCK_FIX)


def check_settings(warnings: Sequence[str], *, given: bool) -> list[Check]:
    """Judge the settings file: what in it means nothing."""
    if not given:
        return [
            _unknown("settings", "no settings file was given", "name the controller's (--config)")
        ]
    if warnings:
        return [_warn("settings", "; ".join(warnings[:5]), "correct or remove these keys")]
    return [_ok("settings", "every key is known")]


async def examine(
    at: Access,
    *,
    warnings: Sequence[str],
    given: bool,
    namespaces: Sequence[str],
    home: str,
    account: str,
) -> list[Check]:
    """Make every check; never raises for what a server answers."""
    cluster = await read_cluster(at, namespaces=namespaces, home=home, account=account)
    redis = await read_redis(at)
    settings = at.settings
    installation = cluster.installation or await _named_by_store(at, redis)
    return [
        *check_settings(warnings, given=given),
        *check_redis(
            redis,
            url=settings.redis.url.get_secret_value(),
            durability=settings.redis.durability,
            installation=installation,
        ),
        *check_cluster(
            cluster,
            shards=settings.sharding.shards if given else None,
            incarnation=settings.sharding.incarnation,
            epoch=redis.epoch,
            home=home,
            logs_read=not (redis.error or redis.scan),
        ),
        check_clocks(redis, cluster),
    ]


async def _named_by_store(at: Access, redis: RedisFacts) -> str:
    """
    Id of the installation, from the Lease that the store names; empty if it could not be compared.

    For who does not tell the controller's namespace.
    """
    if redis.error or redis.meta is None:
        return ""
    try:
        store = await check_store(at)
    except ConfigError:
        # Another one than any of this cluster, whatever its name.
        return "another one of this cluster"
    except (LedgerError, TimeoutError):
        return ""
    return redis.meta.get("installation", "") if store.whose is Whose.OURS else ""


__all__ = [
    "Check",
    "ClusterFacts",
    "ConfigError",
    "Grade",
    "RedisFacts",
    "Right",
    "check_clocks",
    "check_cluster",
    "check_redis",
    "check_settings",
    "examine",
    "read_cluster",
    "read_redis",
]  # fmt: skip
