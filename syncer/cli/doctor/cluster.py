"""Checks of API server, rights, Leases and clocks: what reads never decides, what checks is pure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final
from urllib.parse import quote

from syncer.cli.access import Access
from syncer.cli.doctor.result import Grade, Result, clock, passes
from syncer.cli.exits import reason_of
from syncer.cli.installation import read_map
from syncer.cli.owner import ShardHolder, read_shard, sharding_of
from syncer.cli.times import now_here
from syncer.kube.client import Json, KubeClient
from syncer.ledger.preflight import CLOCK_FIX, CLOCK_LIMIT, CLOCK_ODD, apart
from syncer.model.attempt import Epoch, epoch_key, make_epoch
from syncer.model.errors import KindMissing, LedgerError, PortError, Unauthorised
from syncer.model.resource import GROUP, PLURAL, NotificationRequest
from syncer.model.times import format_time, parse_time, time_of
from syncer.sharding.neighbours import living, namespaces_shown, read_sessions
from syncer.sharding.view import ROUTING, ROUTING_PROBLEM

_TIMEOUT: Final = 10.0
#: Objects whose statuses are looked at.
_SOME: Final = 50
#: Milliseconds in which a controller that has Redis again takes the notes away.
_JOIN: Final = 60_000
_LEASES: Final = "rbac-leases"
#: The rights that the controller needs: check, group, resource, verbs.
RIGHTS: Final = (
    ("rbac-objects", GROUP, PLURAL, ("get", "list", "watch")),
    ("rbac-status", GROUP, f"{PLURAL}/status", ("patch",)),
    ("rbac-events", "", "events", ("create",)),
    (_LEASES, "coordination.k8s.io", "leases", ("get", "list", "watch", "create", "patch", "delete")),
)  # fmt: skip
_HOME: Final = "name the controller's namespace ($KUBERNAUT_CONTROLLER_NAMESPACE)"


@dataclass(slots=True)
class ClusterFacts:
    """
    What was read of the cluster; the other members mean nothing if there is an `error`.

    Attributes:
        error: Why the API server cannot be asked.
        named: Its address is known, and does not answer as it should.
        version: resourceVersion of a list, empty if the list was refused.
        stores: Ids of the stores that the statuses of some objects name.
        listing: Why objects cannot be listed, empty if they can.
        missing: Verbs and namespaces that are refused, by check.
        unasked: Why rights could not be asked about, empty if they could.
        offset: Clock of the API server minus ours in milliseconds, None if it could not be read.
        installation: Id of the installation, empty without a map Lease.
        shards: Who holds each shard.
        problem: Why Leases could not be read, empty if they could.
        others: Other installations that run and watch the same namespaces, as `namespace/name`.
        elsewhere: Whether those in other namespaces were looked for, too.
        hidden: Why they could not be looked for, empty if they could.
        routing: The routing that each living replica has in force, and why it is not that of the files.
    """

    error: str = ""
    named: bool = False
    version: str = ""
    stores: frozenset[str] = frozenset()
    listing: str = ""
    missing: dict[str, list[str]] = field(default_factory=dict)
    unasked: str = ""
    offset: int | None = None
    installation: str = ""
    shards: Sequence[ShardHolder] = ()
    problem: str = ""
    others: list[str] = field(default_factory=list)
    elsewhere: bool = False
    hidden: str = ""
    routing: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def unowned(self) -> list[int]:
        """Shards that nobody holds."""
        return [n for n, shard in enumerate(self.shards) if not shard.holder]


async def read_cluster(
    at: Access, *, namespaces: Sequence[str], home: str, account: str, reader: bool
) -> ClusterFacts:
    """
    Read everything that is checked; never raises for what the API server answers.

    Args:
        at: Open connections.
        namespaces: That are watched; empty for all.
        home: Namespace of the controller, empty if that is not known.
        account: `namespace/name` of the service account whose rights are asked; empty for one's own.
        reader: Leave out what an account that only reads cannot find out.
    """
    facts, kube = ClusterFacts(), at.kube
    if kube is None:
        facts.error = at.problem
        return facts
    try:
        await kube.request("GET", "/version", timeout=_TIMEOUT)
    except (PortError, TimeoutError) as error:
        facts.error, facts.named = reason_of(error), True
        return facts
    try:
        page = await at.objects.list_page(namespaces[0] if namespaces else None, limit=_SOME)
        facts.version = page.resource_version
        marks = [r.status.log for r in page.objects if isinstance(r, NotificationRequest)]
        facts.stores = frozenset(mark.store for mark in marks if mark is not None)
    except (LedgerError, TimeoutError) as error:
        facts.listing = "not served" if isinstance(error, KindMissing) else str(error)
    if home:
        await _read_leases(facts, at, kube, home)
        await _read_sessions(facts, kube, (home, at.settings.sharding.lease_name), namespaces)
    if not reader:
        try:
            await _read_rights(facts, kube, namespaces=namespaces, home=home, account=account)
        except (PortError, TimeoutError) as error:
            facts.unasked = str(error)
        facts.offset = await _read_offset(kube, home) if home else None
    return facts


async def _read_leases(facts: ClusterFacts, at: Access, kube: KubeClient, home: str) -> None:
    """Read the Leases of the installation."""
    name = at.settings.sharding.lease_name
    try:
        found = await read_map(kube, home, name)
        if found is not None:
            sharding = sharding_of(found)
            facts.installation = f"{home}/{name}@{found['metadata'].get('uid', '')}"
            numbers = range(sharding.shards if sharding else 0)
            facts.shards = await asyncio.gather(*(read_shard(kube, home, name, n) for n in numbers))
    except (PortError, TimeoutError, ValueError) as error:
        facts.problem = str(error)


async def _read_sessions(
    facts: ClusterFacts, kube: KubeClient, ours: tuple[str, str], namespaces: Sequence[str]
) -> None:
    """Read what replicas say, of ours (namespace and name) and of other installations."""
    try:
        try:
            sessions, facts.elsewhere = await read_sessions(kube, ""), True
        except Unauthorised:
            sessions = await read_sessions(kube, ours[0])
    except (PortError, TimeoutError) as error:
        facts.hidden = str(error)
        return
    watched, now = namespaces_shown(namespaces or None), now_here()
    facts.routing = {
        lease.holder: (lease.annotation(ROUTING), lease.annotation(ROUTING_PROBLEM))
        for place, lease in sessions
        if (place, lease.name.rpartition("-session-")[0]) == ours
        and now - time_of(lease.renew_time) <= lease.duration * 1000
    }
    for place in sorted({place for place, _ in sessions}):
        names = living([lease for at, lease in sessions if at == place], now, watched)
        facts.others += [f"{place}/{name}" for name in names if (place, name) != ours]


async def _read_rights(
    facts: ClusterFacts, kube: KubeClient, *, namespaces: Sequence[str], home: str, account: str
) -> None:
    """Ask the API server about every right."""
    kind, who = "SelfSubjectAccessReview", dict[str, object]()
    if account:
        owner, _, name = account.partition("/")
        groups = [
            "system:authenticated",
            "system:serviceaccounts",
            f"system:serviceaccounts:{owner}",
        ]
        kind = "SubjectAccessReview"
        who = {"user": f"system:serviceaccount:{owner}:{name}", "groups": groups}
    for check, group, resource, verbs in RIGHTS:
        where = ([home] if home else []) if check == _LEASES else list(namespaces) or [""]
        name, _, part = resource.partition("/")
        for namespace, verb in product(where, verbs):
            attributes = {
                "group": group, "resource": name, "subresource": part, "verb": verb,
                "namespace": namespace,
            }  # fmt: skip
            body: Json = {
                "apiVersion": "authorization.k8s.io/v1", "kind": kind,
                "spec": {"resourceAttributes": attributes, **who},
            }  # fmt: skip
            path = f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
            answer = await kube.request("POST", path, body=body, timeout=_TIMEOUT)
            if not (answer.get("status") or {}).get("allowed"):
                refused = f"{verb} in {namespace or 'all namespaces'}"
                facts.missing.setdefault(check, []).append(refused)


async def _read_offset(kube: KubeClient, home: str) -> int | None:
    """Read the API server's clock from a Lease that is created in a dry run, in `home`."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{quote(home, safe='')}/leases?dryRun=All"
    body = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"generateName": "notification-ledger-doctor-"},
    }  # fmt: skip
    try:
        began = time.time()
        made = await kube.request("POST", path, body=body, timeout=_TIMEOUT)
        ours = (began + time.time()) / 2 * 1000
        # The answer has whole seconds, rounded down.
        return round(parse_time(made["metadata"]["creationTimestamp"]) + 500 - ours)
    except (PortError, TimeoutError, KeyError, ValueError):
        return None


# -- checking -------------------------------------------------------------------------------------


def check_api_server(facts: ClusterFacts) -> list[Result]:
    """Check the API server; a single failure if it cannot be asked."""
    if facts.error:
        fix = "name a kubeconfig (--kubeconfig or $KUBECONFIG), or run this in a pod with a service account"
        if facts.named:
            fix = "make sure that it runs, and that nothing between here and its address closes the way"
        if facts.error.startswith("401"):
            fix = "renew the token or certificate in the kubeconfig, or name another (--kubeconfig)"
        return [Result("api-connect", Grade.FAIL, facts.error, fix)]
    return [
        Result("api-connect", Grade.OK, "answers"),
        passes(
            "api-objects", not facts.listing, "NotificationRequests can be listed",
            f"NotificationRequests cannot be listed: {facts.listing}",
            "apply the CRD (`notifier show crd | kubectl apply --server-side -f -`), and grant"
            " list; with permissions in some namespaces only, name them (-n)",
        ),
    ]  # fmt: skip


def check_rights(facts: ClusterFacts, *, home: str) -> list[Result]:
    """Check the rights; `home` is the controller's namespace, empty if that is not known."""
    if facts.unasked:
        return [
            Result(check, Grade.UNKNOWN, f"permissions cannot be checked: {facts.unasked}",
                   "grant create on (self)subjectaccessreviews")
            for check, *_ in RIGHTS
        ]  # fmt: skip
    fix = (
        "apply the chart's roles; to ask about the controller's account instead of your own, name it"
        " (--service-account NAMESPACE/NAME)"
    )
    return [
        Result(check, Grade.UNKNOWN, "the controller's namespace is not known", _HOME)
        if check == _LEASES and not home
        else passes(
            check, check not in facts.missing, f"{resource}: {', '.join(verbs)}",
            f"{resource}: missing {', '.join(facts.missing.get(check, ()))}", fix,
        )
        for check, _, resource, verbs in RIGHTS
    ]  # fmt: skip


def check_shards(facts: ClusterFacts, *, shards: int | None, home: str) -> list[Result]:
    """
    Check the number of shards, and that each has an owner.

    Args:
        facts: What was read.
        shards: As configured, None if that is not known.
        home: Namespace of the controller, empty if that is not known.
    """
    if not home:
        return [Result("shards", Grade.UNKNOWN, "Leases were not read", _HOME)]
    if facts.problem:
        fix = f"grant get on leases (coordination.k8s.io) in the namespace {home}"
        return [Result("shards", Grade.UNKNOWN, f"Leases cannot be read: {facts.problem}", fix)]
    number, unowned = len(facts.shards), facts.unowned
    if not number:
        fix = "start the controller; compare sharding.leaseName and the namespace with its own"
        return [Result("shards", Grade.WARN, "there is no Lease of this installation", fix)]
    found, differs = f"the installation has {number} shard(s)", shards not in {None, number}
    first = passes(
        "shards", not differs, f"{number} shard(s), as configured", f"{found}, this release has {shards}",
        "run the release that the installation is of, or change it as the controller's error says",
    )  # fmt: skip
    if differs:
        return [first]
    if shards is None:
        fix, text = "give the controller's (--config)", f"{found}; no settings file to compare with"
        first = Result("shards", Grade.UNKNOWN, text, fix)
    text = f"{len(unowned)} of {number} shard(s) have no owner: {', '.join(map(str, unowned[:8]))}"
    fix = "start a replica of the controller; check the readiness of those that run"
    idle = sorted({f"{shard.holder}: {shard.idle}" for shard in facts.shards if shard.idle})
    if idle and not unowned:
        text = f"every shard has an owner, but these open no attempt: {'; '.join(idle)}"
        fix = "mend what each names; what passes here may fail there, over another network path"
    good = not (idle or unowned)
    return [first, passes("owners", good, "every shard has an owner", text, fix)]


def check_others(facts: ClusterFacts, store: str) -> Result:
    """Check that no other installation works on the same; `store` is the id of ours, or empty."""
    name, foreign = "other-installations", sorted(facts.stores - {store, ""}) if store else []
    if facts.others:
        who = ", ".join(facts.others)
        text = f"{who} runs too and watches the same namespaces: each sends every message"
        fix = "remove one of them, or give them different controller.namespaces"
        return Result(name, Grade.WARN, text, fix)
    if foreign:
        text = f"statuses name another store: {', '.join(foreign)}"
        fix = "another installation sends the same notifications, unless Redis was replaced since"
        return Result(name, Grade.WARN, text, fix)
    if facts.hidden or not facts.shards:
        return Result(
            name, Grade.UNKNOWN, f"not looked for: {facts.hidden or 'no Leases were read'}"
        )
    where = "" if facts.elsewhere else ", as far as this account can see (its own namespace)"
    return Result(name, Grade.OK, f"none watches the same namespaces{where}")


def check_routing(facts: ClusterFacts) -> Result:
    """Check that each replica has in force what its routing file says."""
    said = {holder: pair for holder, pair in facts.routing.items() if pair[0]}
    if not said:
        return Result("routing", Grade.UNKNOWN, "no replica says what routing it has in force")
    if wrong := [f"{holder}: {problem}" for holder, (_, problem) in said.items() if problem]:
        return Result(
            "routing", Grade.FAIL, "; ".join(sorted(wrong)),
            "correct the routing file or the credentials; `notifier check` says where",
        )  # fmt: skip
    force = sorted({text for text, _ in said.values()})
    fix = "wait a minute; then look whether every pod has the same ConfigMap mounted"
    differ = f"the replicas differ: {'; '.join(force)}"
    return passes("routing", len(force) == 1, force[0], differ, fix, bad=Grade.WARN)


def check_journal(facts: ClusterFacts, *, redis: bool, now: int) -> list[Result]:
    """
    Check whether attempts are journaled in the status, and whether that ends once Redis is there.

    Args:
        facts: What was read.
        redis: Whether Redis answers here.
        now: Unix milliseconds, by the clock of this machine.
    """
    notes = [shard.note.since for shard in facts.shards if shard.note is not None]
    if not notes:
        text = "no attempts are journaled in the status"
        return [Result("journal", Grade.OK, text)] if facts.shards else []
    text = f"{len(notes)} of {len(facts.shards)} shard(s) journal attempts in the status since"
    late = redis and now - min(notes) > _JOIN
    why = "but Redis answers here" if late else "the controller does not reach Redis"
    fix = "bring Redis back; the controller then adds what was journaled to the logs"
    if late:
        fix = (
            "the controller does not reach it, or these shards have no owner: check its /readyz"
            " (redis), and `owners` here"
        )
    return [Result("journal", Grade.WARN, f"{text} {format_time(min(notes))}: {why}", fix)]


def check_incarnation(
    version: str, incarnation: int, epoch: Epoch | None, *, logs_read: bool
) -> Result:
    """
    Check that the cluster issues later epochs than the logs have.

    Args:
        version: resourceVersion of a list now, empty if that is not known.
        incarnation: As configured.
        epoch: The highest epoch in the logs, None without a log.
        logs_read: Whether logs could be read, so that no epoch means no log.
    """
    if not logs_read or not version.isdigit():
        why = "objects cannot be listed" if logs_read else "logs cannot be read"
        return Result("incarnation", Grade.UNKNOWN, f"epochs were not compared: {why}")
    if epoch is None:
        return Result("incarnation", Grade.OK, "no log to compare with")
    raised = max(incarnation, int(epoch.partition(".")[0])) + 1
    return passes(
        "incarnation", epoch_key(epoch) <= epoch_key(make_epoch(incarnation, version)),
        f"the cluster issues later epochs than {epoch}",
        f"logs carry epoch {epoch}, later than any that the cluster issues now",
        "after a restore of etcd, or a move to another cluster, raise sharding.incarnation to"
        f" {raised}",
    )  # fmt: skip


def check_clocks(redis: int | None, api: int | None) -> list[Result]:
    """Check the clocks of Redis and the API server, each minus ours in ms, None if it was not read."""
    if api is None:
        fix = (
            "grant create on Leases, and name the controller's namespace"
            " ($KUBERNAUT_CONTROLLER_NAMESPACE)"
        )
        text = "the clock could not be read (by a dry run of a Lease)"
        own = Result("api-clock", Grade.UNKNOWN, text, fix)
    else:
        own = clock("api-clock", api, "the API server")
    if redis is None or api is None:
        text = "one of the two clocks could not be read"
        return [own, Result("clocks", Grade.UNKNOWN, text, "see the other findings")]
    ahead = (redis - api) / 1000
    much = abs(ahead) > CLOCK_LIMIT
    text = f"Redis: {apart(ahead)}{': every attempt is held' if much else ''}"
    return [own, passes(
        "clocks", abs(ahead) <= CLOCK_ODD, "Redis and the API server agree on the time",
        text, CLOCK_FIX, bad=Grade.FAIL if much else Grade.WARN,
    )]  # fmt: skip
