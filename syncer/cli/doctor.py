"""
`syncer doctor`: check settings, Redis, API server, rights, replicas and routing.

It does not repeat what `/readyz` of a running controller reports (clocks, epochs, rights to record,
commands of Redis). The exception is who may write statuses: without a policy others may have written a
status, and the controller is ready all the same. A check that could not be made is reported as such instead
of passing, and one that did not pass names its fix. Nothing is left behind.

The rights are those of the account that runs the command or, if one is named, of the controller's account.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from enum import StrEnum
from itertools import product
from typing import Final, NamedTuple

from syncer.cli.access import Access, access
from syncer.cli.exits import DIFFERENT, OK, reason_of
from syncer.cli.installation import (
    StoreState,
    check_store,
    controller_namespace,
    namespaces_of,
    read_map,
    watched,
)
from syncer.cli.known import namespace_and_name
from syncer.cli.output import write_answer, write_lines
from syncer.cli.owner import read_shard, sharding_of
from syncer.cli.status import read_replicas
from syncer.cli.times import now_here
from syncer.kube.client import KubeClient
from syncer.kube.status_policy import find
from syncer.ledger.preflight import Severity, preflight
from syncer.ledger.replies import number_of
from syncer.ledger.url import parse_redis_url, split_redis_url
from syncer.model.errors import ConfigError, KindMissing, LedgerError, Unauthorised
from syncer.model.resource import GROUP, PLURAL
from syncer.rules.status_policy import State
from syncer.rules.text import plain
from syncer.sharding.neighbours import living, namespaces_shown, read_sessions

_TIMEOUT: Final = 10.0
#: Objects that are listed to find unwatched namespaces.
_SOME: Final = 500


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    #: The check could not be made.
    UNKNOWN = "unknown"


class Result(NamedTuple):
    """The result of a check: its name (an interface), how it ended, what was found, and what to do."""

    name: str
    grade: Grade
    text: str
    fix: str = ""


def passes(name: str, text: str, problem: str, fix: str, *, bad: Grade = Grade.FAIL) -> Result:
    """
    Return the result of a check that either passes or finds one problem.

    Args:
        name: Name of the check.
        text: Text if it passes.
        problem: Text if it does not pass; empty if it does.
        fix: What to do if it does not pass.
        bad: Grade if it does not pass.
    """
    return Result(name, bad, problem, fix) if problem else Result(name, Grade.OK, text)


async def run(options: argparse.Namespace) -> int:
    """Make every check; returns the exit code."""
    if options.service_account:
        namespace_and_name(options.service_account)
    async with access(options) as at:
        results, _ = await examine(
            at,
            namespaces=namespaces_of(at, options),
            home=controller_namespace(),
            account=options.service_account or "",
        )
    for name, grade, text, fix in results:
        document = {"check": name, "grade": grade.value, "found": text, "fix": fix or None}
        lines = [
            f"{grade.value:<8}{name:<20}{plain(text)}",
            *([f"{'':28}fix: {fix}"] if fix else []),
        ]
        write_answer(document, lines, as_json=options.json)
    grades = Counter(result.grade for result in results)
    if not options.json:
        write_lines([", ".join(f"{grades[g]} {g.value}" for g in Grade)])
    return DIFFERENT if grades[Grade.FAIL] else OK


async def examine(
    at: Access, *, namespaces: Sequence[str], home: str, account: str, reader: bool = False
) -> tuple[list[Result], Mapping[str, Sequence[int]]]:
    """
    Make every check, and return the shards of each replica; never raises, whatever a server answers.

    Args:
        at: Open connections.
        namespaces: Namespaces to check; empty for all.
        home: Namespace of the controller, empty if that is not known.
        account: `namespace/name` of the service account whose rights are checked; empty for one's own.
        reader: Leave out checks that a read-only account cannot make.
    """
    results, store = await _redis(at, home)
    results, home = [_settings(at), *results], home or store
    owners: dict[str, list[int]] = defaultdict(list)
    fix = "make sure that it runs, and that no firewall or policy blocks its address"
    try:
        if (kube := at.kube) is None:
            fix = "name a kubeconfig (--kubeconfig), or run this in a pod with a service account"
            raise ConfigError(at.problem)
        await kube.request("GET", "/version", timeout=_TIMEOUT)
    except (LedgerError, TimeoutError) as error:
        if isinstance(error, Unauthorised):
            fix = "renew the token or certificate in the kubeconfig, or name another (--kubeconfig)"
        return [*results, Result("api-connect", Grade.FAIL, reason_of(error), fix)], owners
    results += [
        Result("api-connect", Grade.OK, "answers"),
        await _objects(at, namespaces),
        *[
            result
            for check in (() if reader else RIGHTS)
            for result in await _made(_right(kube, check, namespaces, home, account), check)
        ],
        *await _made(_replicas(at, home), "replicas"),
        *await _made(_owners(at, kube, home, owners), "owners"),
        *await _made(_others(at, kube, home, namespaces), "other-installations"),
        *(() if reader else await _made(_status_policy(at, kube), "status-policy")),
        *(await _made(_unwatched(at), "namespaces") if watched(at) and not reader else ()),
    ]
    return results, owners


async def _made(work: Awaitable[list[Result]], *names: str) -> list[Result]:
    """Return the results of the checks with these names; each says why if they could not be made."""
    try:
        return await work
    except (LedgerError, TimeoutError) as error:
        fix = "grant the missing permission, or name the namespace ($KUBERNAUT_CONTROLLER_NAMESPACE, -n)"
        return [Result(name, Grade.UNKNOWN, reason_of(error), fix) for name in names]


def _settings(at: Access) -> Result:
    """Check the settings file for keys without a meaning."""
    if not at.configured:
        fix = "name the controller's settings file (--config)"
        return Result("settings", Grade.UNKNOWN, "no settings file was given", fix)
    return passes(
        "settings", "every key is known", "; ".join(at.warnings[:5]), "correct or remove these keys",
        bad=Grade.WARN,
    )  # fmt: skip


# -- Redis ----------------------------------------------------------------------------------------

_LOG_IN: Final = (
    "put the right user and password into redis.url, or into the file of redis.passwordFile"
)
_CONNECT_FIXES: Final[tuple[tuple[str, str], ...]] = (
    ("this is a Sentinel", "write the URL as redis+sentinel://host:port,.../SERVICE"),
    ("redis+cluster", "write the URL as redis+cluster://host:port,..."),
    ("redis://", "write the URL as redis://host:port/0"),
    ("READONLY", "name the primary, not a replica; or let Sentinels name it (redis+sentinel://)"),
    ("belong to installation", "set another redis.keyPrefix: two installations must not share one"),
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
_STORES: Final = {
    StoreState.OURS: (Grade.OK, ""),
    StoreState.NEW: (
        Grade.WARN,
        "start the controller; if one runs, compare redis.url and redis.keyPrefix with its own",
    ),
    StoreState.UNCHECKED: (Grade.UNKNOWN, "give access to the API server, and get on Leases"),
}


async def _redis(at: Access, home: str) -> tuple[list[Result], str]:
    """Check Redis; also returns the controller's namespace that the store names, empty if it names none."""
    settings = at.settings.redis
    try:
        await at.client.command("PING")
        await at.client.probe()
        store = await check_store(at, home=home)
    except (LedgerError, TimeoutError) as error:
        fix = next(fix for word, fix in _CONNECT_FIXES if word in str(error))
        return [Result("redis-connect", Grade.FAIL, reason_of(error), fix)], ""
    info = settings.seen_in(at.client.info)
    served = info.get("valkey_version") or info.get("redis_version", "?")
    grade, fix = _STORES[store.state]
    return [
        Result("redis-connect", Grade.OK, f"answers, version {served}, role {info.get('role', '?')}"),
        Result("redis-store", grade, store.text or f"of installation {store.home}/{store.lease}", fix),
        *check_server(info, settings.url.get_secret_value(), settings.durability),
    ], store.home  # fmt: skip


def check_server(info: Mapping[str, str], url: str, durability: str) -> list[Result]:
    """
    Check how a server is set up.

    Args:
        info: Members of INFO.
        url: URL of the server; no part of it is shown.
        durability: `relaxed` or `strict`.
    """
    grades = {Severity.REFUSE: Grade.FAIL}
    found = [
        Result(f"redis-{one.name}", grades.get(one.severity, Grade.WARN), one.text, one.fix)
        for one in preflight(info, durability=durability)
    ]
    limit, used = number_of(info.get("maxmemory")), number_of(info.get("used_memory"))
    # INFO has this member only if the server is set to require replicas for writes.
    lone = number_of(info.get("connected_slaves")) and "min_slaves_good_slaves" not in info
    parts, target = split_redis_url(url), parse_redis_url(url)
    host = parts.netloc.rpartition("@")[2].partition(",")[0].partition(":")[0]
    near = host in {"localhost", "127.0.0.1", "[", "::1"} or parts.scheme.startswith("unix")
    return [
        *(found or [Result("redis-fitness", Grade.OK, "keeps what it is given, and evicts nothing")]),
        passes(
            "redis-memory", "enough is free",
            f"{used / limit:.0%} of maxmemory is used" if limit and used >= 0.8 * limit else "",
            "raise maxmemory, or shorten spec.retentionDays: at the limit, nothing new is sent",
            bad=Grade.WARN,
        ),
        passes(
            "redis-replicas", "no failover loses what is recorded",
            "no replica must confirm: a failover may lose the newest records"
            if lone and durability != "strict" else "",
            "set redis.durability: strict, or min-replicas-to-write 1 on the server", bad=Grade.WARN,
        ),
        passes(
            "redis-transport", "encrypted, or on this machine",
            "TLS without verification of the certificate" if target.unverified
            else "" if near or parts.scheme.startswith("rediss")
            else "what is sent, passwords included, travels unencrypted",
            "use rediss:// and name the authority in ssl_ca_certs (a Redis of your own: the chart's has no"
            " TLS, only a NetworkPolicy)",
            bad=Grade.WARN,
        ),
    ]  # fmt: skip


# -- the cluster ----------------------------------------------------------------------------------

_LEASES: Final = "rbac-leases"
_REVIEWS: Final = "authorization.k8s.io/v1"
#: The rights that the controller needs, by check: group, resource, verbs.
RIGHTS: Final = {
    "rbac-objects": (GROUP, PLURAL, ("get", "list", "watch")),
    "rbac-status": (GROUP, f"{PLURAL}/status", ("patch",)),
    "rbac-events": ("", "events", ("create",)),
    _LEASES: (
        "coordination.k8s.io", "leases", ("get", "list", "watch", "create", "patch", "delete"),
    ),
}  # fmt: skip
_FIXES: Final = {
    "replicas": "start a replica of the controller; check the readiness of those that run",
    "routing": "correct the routing file or the credentials; `notifier check` says where",
}


async def _objects(at: Access, namespaces: Sequence[str]) -> Result:
    problem = ""
    try:
        await at.objects.list_page(namespaces[0] if namespaces else None, limit=1)
    except (LedgerError, TimeoutError) as error:
        problem = "not served" if isinstance(error, KindMissing) else reason_of(error)
    return passes(
        "api-objects", "NotificationRequests can be listed",
        problem and f"NotificationRequests cannot be listed: {problem}",
        "apply the CRD (`notifier show crd | kubectl apply --server-side -f -`), and grant list; with"
        " permissions in some namespaces only, name them (-n)",
    )  # fmt: skip


async def _right(
    kube: KubeClient, check: str, namespaces: Sequence[str], home: str, account: str
) -> list[Result]:
    """Ask the API server about one of the rights."""
    kind, who = "SelfSubjectAccessReview", dict[str, object]()
    if account:
        owner, _, name = account.partition("/")
        kind, groups = "SubjectAccessReview", ("authenticated", "serviceaccounts")
        who = {
            "user": f"system:serviceaccount:{owner}:{name}",
            "groups": [f"system:{group}" for group in (*groups, f"serviceaccounts:{owner}")],
        }
    (group, resource, verbs), refused = RIGHTS[check], list[str]()
    name, _, part = resource.partition("/")
    where = [_known(home)] if check == _LEASES else namespaces or [""]
    for namespace, verb in product(where, verbs):
        attributes = {
            "group": group, "resource": name, "subresource": part, "verb": verb, "namespace": namespace,
        }  # fmt: skip
        answer = await kube.request(
            "POST", f"/apis/{_REVIEWS}/{kind.lower()}s", timeout=_TIMEOUT,
            body={
                "apiVersion": _REVIEWS, "kind": kind,
                "spec": {"resourceAttributes": attributes, **who},
            },
        )  # fmt: skip
        if not (answer.get("status") or {}).get("allowed"):
            refused.append(f"{verb} in {namespace or 'all namespaces'}")
    return [passes(
        check, f"{resource}: {', '.join(verbs)}",
        f"{resource}: missing {', '.join(refused)}" if refused else "",
        "apply the chart's roles; to ask about the controller's account instead of your own, name it"
        " (--service-account NAMESPACE/NAME)",
    )]  # fmt: skip


def _known(home: str) -> str:
    """Return the controller's namespace; ConfigError if it is not known."""
    if not home:
        raise ConfigError("the controller's namespace is not known")
    return home


async def _replicas(at: Access, home: str) -> list[Result]:
    """Check which replicas are alive, and which routing they have in force."""
    found = [(line, line.name.lower()) for line in await read_replicas(at, home)]
    return [
        passes(name, one.text, "" if one.good else one.text, _FIXES[name]) for one, name in found
    ]


async def _owners(
    at: Access, kube: KubeClient, home: str, owners: dict[str, list[int]]
) -> list[Result]:
    """Check that each shard has an owner; adds the shards of each holder to `owners`."""
    name = at.settings.sharding.lease_name
    sharding = sharding_of(await read_map(kube, _known(home), name))
    numbers = range(sharding.shards if sharding else 0)
    for number, shard in zip(
        numbers,
        await asyncio.gather(*(read_shard(kube, home, name, n) for n in numbers)),
        strict=True,
    ):
        owners[shard.holder or ""].append(number)
    unowned = owners.get("", ())
    text = f"{len(unowned)} of {len(numbers)} shard(s) have no owner: {', '.join(map(str, unowned[:8]))}"
    problem = text if unowned else "" if numbers else "there is no Lease of this installation"
    return [passes(
        "owners", f"each of {len(numbers)} shard(s) has an owner", problem,
        f"{_FIXES['replicas']}; compare sharding.leaseName with its own",
    )]  # fmt: skip


async def _others(
    at: Access, kube: KubeClient, home: str, namespaces: Sequence[str]
) -> list[Result]:
    """Check that no other installation works on the same notifications."""
    ours = (_known(home), at.settings.sharding.lease_name)
    try:
        sessions, where = await read_sessions(kube, ""), ""
    except Unauthorised:
        sessions = await read_sessions(kube, home)
        where = ", as far as this account can see (its own namespace)"
    watched, now = namespaces_shown(namespaces or None), now_here()
    others = [
        f"{place}/{name}"
        for place in sorted({place for place, _ in sessions})
        for name in living([lease for at, lease in sessions if at == place], now, watched)
        if (place, name) != ours
    ]
    return [passes(
        "other-installations", f"none watches the same namespaces{where}",
        f"{', '.join(others)} also watches these namespaces: each sends every message"
        if others else "",
        "remove one of them, or give them different controller.namespaces", bad=Grade.WARN,
    )]  # fmt: skip


_POLICIES: Final = {
    State.IN_FORCE: (Grade.OK, ""),
    State.ABSENT: (
        Grade.WARN,
        "set the chart's admission.enabled, or apply the policy (install.md)",
    ),
    State.UNKNOWN: (Grade.UNKNOWN, "grant get on both, or look at status-policy in /readyz"),
}


async def _status_policy(at: Access, kube: KubeClient) -> list[Result]:
    """Check that nobody but the controller may write statuses."""
    if not at.configured:
        raise ConfigError(
            "the policy's name is in the settings file, and no file was given (--config)"
        )
    found = await find(kube, at.settings.sync.status_policy, watched(at) or None)
    grade, fix = _POLICIES[found.state]
    text = found.reason or "nobody but the controller may write statuses"
    return [Result("status-policy", grade, text, fix)]


async def _unwatched(at: Access) -> list[Result]:
    """Check that no namespace with notifications goes unwatched."""
    page = await at.objects.list_page(None, limit=_SOME)
    left = sorted({one.key.partition("/")[0] for one in page.objects} - {*watched(at)})
    return [passes(
        "namespaces", "every namespace with notifications is watched",
        f"nothing is sent for {', '.join(left[:8])}: not watched" if left else "",
        "add them to controller.namespaces, with the chart's roles there; or delete what is in them",
        bad=Grade.WARN,
    )]  # fmt: skip
