"""Checks of the Leases: shards, their owners, and the epochs that follow from them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from syncer.cli.access import Access
from syncer.cli.doctor.result import Result, fail, ok, unknown, warn
from syncer.cli.outage import now_here
from syncer.cli.owner import read_shard, sharding_of
from syncer.cli.store import read_map
from syncer.kube.client import KubeClient
from syncer.model.attempt import Epoch, epoch_key, make_epoch
from syncer.model.errors import PortError, Unauthorised
from syncer.model.journal import Note
from syncer.model.times import format_time, time_of
from syncer.sharding.neighbours import living, namespaces_shown, read_sessions
from syncer.sharding.view import ROUTING, ROUTING_PROBLEM

#: Milliseconds in which a controller that has Redis again takes the notes away.
_JOIN: Final = 60_000


@dataclass(slots=True)
class LeaseFacts:
    """
    What was read of the Leases.

    Attributes:
        shards: Number of shards by the map Lease, 0 without one.
        installation: Id of the installation, empty without a map Lease.
        problem: Why they could not be read, empty if they could.
        holders: Who holds each shard, empty where its Lease is free or its holder is gone.
        idle: Why holders open no attempt now, as their sessions say; only of those that do not.
        notes: What the Leases of shards say of attempts that are journaled, by shard.
        forbidden: The account may not read them, which is the problem.
        others: Other installations that run and watch the same namespaces, as `namespace/name`.
        elsewhere: Whether those in other namespaces were looked for, too.
        hidden: Why they could not be looked for, empty if they could.
        routing: The routing that each living replica has in force, and why it is not that of the files.
    """

    shards: int = 0
    installation: str = ""
    problem: str = ""
    holders: list[str] = field(default_factory=list)
    idle: dict[str, str] = field(default_factory=dict)
    notes: dict[int, Note] = field(default_factory=dict)
    forbidden: bool = False
    others: list[str] = field(default_factory=list)
    elsewhere: bool = False
    hidden: str = ""
    routing: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def unowned(self) -> list[int]:
        """Shards that nobody holds."""
        return [n for n, holder in enumerate(self.holders) if not holder]


async def read_leases(at: Access, kube: KubeClient, home: str) -> LeaseFacts:
    """
    Read the Leases of the installation; never raises for what the API server answers.

    Args:
        at: Open connections, with the settings.
        kube: The API server.
        home: Namespace of the controller.
    """
    facts = LeaseFacts()
    name = at.settings.sharding.lease_name
    try:
        found = await read_map(kube, home, name)
        if found is None:
            facts.problem = "there is no Lease of this installation"
            return facts
        sharding = sharding_of(found)
        facts.shards = sharding.shards if sharding else 0
        facts.installation = f"{home}/{name}@{(found.get('metadata') or {}).get('uid', '')}"
        shards = await asyncio.gather(
            *(read_shard(kube, home, name, n) for n in range(facts.shards))
        )
        facts.holders = [s.holder for s in shards]
        facts.idle = {s.holder: s.idle for s in shards if s.idle}
        facts.notes = {n: s.note for n, s in enumerate(shards) if s.note is not None}
    except (PortError, TimeoutError, ValueError) as error:
        facts.problem, facts.forbidden = str(error), isinstance(error, Unauthorised)
    return facts


async def read_others(
    facts: LeaseFacts, kube: KubeClient, ours: tuple[str, str], namespaces: Sequence[str]
) -> None:
    """
    Add other installations to what was read; never raises for what the API server answers.

    Args:
        facts: What was read of the own one.
        kube: The API server.
        ours: Namespace and name of the own one.
        namespaces: That are watched; empty for all.
    """
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


def check_others(facts: LeaseFacts, stores: Collection[str], store: str) -> Result:
    """
    Check that no other installation works on the same notifications.

    Args:
        facts: What was read of the Leases.
        stores: Ids of stores that the newest statuses name.
        store: Id of the one that is used here, empty if that is not known.
    """
    foreign = sorted(set(stores) - {store, ""}) if store else []
    if facts.others:
        return warn(
            "other-installations",
            f"{', '.join(facts.others)} runs too and watches the same namespaces: each sends every message",
            "remove one of them, or give them different controller.namespaces",
        )
    if foreign:
        return warn(
            "other-installations",
            f"statuses name another store: {', '.join(foreign)}",
            "another installation sends the same notifications, unless Redis was replaced since",
        )
    if facts.hidden or not facts.shards:
        return unknown("other-installations", f"not looked for: {facts.hidden or facts.problem}")
    where = "" if facts.elsewhere else ", as far as this account can see (its own namespace)"
    return ok("other-installations", f"none watches the same namespaces{where}")


def check_routing(facts: LeaseFacts) -> Result:
    """Check that each replica has in force what its routing file says."""
    said = {holder: pair for holder, pair in facts.routing.items() if pair[0]}
    if not said:
        return unknown("routing", "no replica says what routing it has in force")
    if wrong := [f"{holder}: {problem}" for holder, (_, problem) in said.items() if problem]:
        fix = "correct the routing file or the credentials; `notifier check` says where"
        return fail("routing", "; ".join(sorted(wrong)), fix)
    force = sorted({text for text, _ in said.values()})
    if len(force) > 1:
        fix = "wait a minute; then look whether every pod has the same ConfigMap mounted"
        return warn("routing", f"the replicas differ: {'; '.join(force)}", fix)
    return ok("routing", force[0])


def check_leases(facts: LeaseFacts, *, shards: int | None, home: str) -> list[Result]:
    """
    Check the number of shards, and that each has an owner.

    Args:
        facts: What was read.
        shards: As configured, None if that is not known.
        home: Namespace of the controller, empty if that is not known.
    """
    if not home:
        fix = "name the controller's namespace ($KUBERNAUT_CONTROLLER_NAMESPACE)"
        return [unknown("shards", "Leases were not read", fix)]
    if facts.forbidden:
        fix = f"grant get on leases (coordination.k8s.io) in the namespace {home}"
        return [unknown("shards", f"Leases cannot be read: {facts.problem}", fix)]
    if facts.problem:
        fix = "start the controller; compare sharding.leaseName and the namespace with its own"
        return [warn("shards", facts.problem, fix)]
    found = f"the installation has {facts.shards} shard(s)"
    if shards is None:
        text = f"{found}; no settings file to compare with"
        number = unknown("shards", text, "give the controller's (--config)")
    elif facts.shards == shards:
        number = ok("shards", f"{shards} shard(s), as configured")
    else:
        fix = "run the release that the installation is of, or change it as the controller's error says"
        return [fail("shards", f"{found}, this release has {shards}", fix)]
    if facts.idle and not facts.unowned:
        said = "; ".join(f"{holder}: {idle}" for holder, idle in sorted(facts.idle.items()))
        text = f"every shard has an owner, but these open no attempt: {said}"
        fix = "mend what each names; what passes here may fail there, over another network path"
        return [number, fail("owners", text, fix)]
    if not facts.unowned:
        return [number, ok("owners", "every shard has an owner")]
    numbers = ", ".join(map(str, facts.unowned[:8]))
    text = f"{len(facts.unowned)} of {facts.shards} shard(s) have no owner: {numbers}"
    fix = "start a replica of the controller; check the readiness of those that run"
    return [number, fail("owners", text, fix)]


def check_journal(facts: LeaseFacts, *, redis: bool, now: int) -> list[Result]:
    """
    Check whether attempts are journaled in the status, and whether that ends once Redis is there.

    Args:
        facts: What was read.
        redis: Whether Redis answers here.
        now: Unix milliseconds, by the clock of this machine.
    """
    if facts.problem or not facts.shards:
        return []
    if not facts.notes:
        return [ok("journal", "no attempts are journaled in the status")]
    since = min(note.since for note in facts.notes.values())
    text = (
        f"{len(facts.notes)} of {facts.shards} shard(s) journal attempts in the status since"
        f" {format_time(since)}"
    )
    if redis and now - since > _JOIN:
        fix = (
            "the controller does not reach it, or these shards have no owner: check its /readyz"
            " (redis), and `owners` here"
        )
        return [warn("journal", f"{text}, but Redis answers here", fix)]
    fix = "bring Redis back; the controller then adds what was journaled to the logs"
    return [warn("journal", f"{text}: the controller does not reach Redis", fix)]


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
        return unknown(
            "incarnation", "epochs were not compared: "
            + ("objects cannot be listed" if logs_read else "logs cannot be read"),
        )  # fmt: skip
    if epoch is None:
        return ok("incarnation", "no log to compare with")
    latest = make_epoch(incarnation, version)
    if epoch_key(epoch) <= epoch_key(latest):
        return ok("incarnation", f"the cluster issues later epochs than {epoch}")
    return fail(
        "incarnation", f"logs carry epoch {epoch}, later than any that the cluster issues now",
        "after a restore of etcd, or a move to another cluster, raise sharding.incarnation to"
        f" {max(incarnation, int(epoch.partition('.')[0])) + 1}",
    )  # fmt: skip
