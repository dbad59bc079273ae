"""All checks of the doctor: everything is read first, then checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from syncer.cli.access import Access
from syncer.cli.doctor.api_server import ApiFacts, check_api_server, read_api_server
from syncer.cli.doctor.clocks import check_api_clock, check_clocks, read_offset
from syncer.cli.doctor.leases import (
    LeaseFacts,
    check_incarnation,
    check_journal,
    check_leases,
    check_others,
    check_routing,
    read_leases,
    read_others,
)
from syncer.cli.doctor.redis import RedisFacts, check_redis, read_redis
from syncer.cli.doctor.result import Result, ok, unknown, warn
from syncer.cli.doctor.rights import RIGHTS, RightsFacts, check_rights, read_rights
from syncer.cli.outage import now_here
from syncer.cli.store import StoreState, check_store
from syncer.model.attempt import Epoch
from syncer.model.errors import ConfigError, LedgerError

#: Checks that an account cannot make that only reads.
NEED_RIGHTS: Final = frozenset({
    "redis-scripts", "redis-write", "redis-poke", "api-clock", "clocks", *(r.check for r in RIGHTS),
})  # fmt: skip


@dataclass(slots=True)
class ClusterFacts:
    """
    What was read of the cluster; members other than `api` mean nothing if that has an error.

    Attributes:
        leases: The Leases; empty if the controller's namespace is not known.
        offset: Clock of the API server minus ours in milliseconds, None if it could not be read.
    """

    api: ApiFacts = field(default_factory=ApiFacts)
    rights: RightsFacts = field(default_factory=RightsFacts)
    leases: LeaseFacts = field(default_factory=LeaseFacts)
    offset: int | None = None


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
    facts = ClusterFacts(await read_api_server(at, namespaces))
    if at.kube is None or facts.api.error:
        return facts
    if home:
        facts.leases = await read_leases(at, at.kube, home)
        ours = home, at.settings.sharding.lease_name
        await read_others(facts.leases, at.kube, ours, namespaces)
    if reader:
        return facts
    facts.rights = await read_rights(at.kube, namespaces=namespaces, home=home, account=account)
    if home:
        facts.offset = await read_offset(at.kube, home)
    return facts


def check_cluster(
    facts: ClusterFacts,
    *,
    shards: int | None,
    incarnation: int,
    epoch: Epoch | None,
    home: str,
    logs_read: bool = True,
) -> list[Result]:
    """
    Check what was read of the cluster.

    Args:
        facts: What was read.
        shards: As configured, None if that is not known.
        incarnation: As configured.
        epoch: The highest epoch in the logs, None without a log.
        home: Namespace of the controller, empty if that is not known.
        logs_read: Whether logs could be read, so that no epoch means no log.
    """
    results = check_api_server(facts.api)
    if facts.api.error:
        return results
    return [
        *results,
        *check_rights(facts.rights, home=home),
        *check_leases(facts.leases, shards=shards, home=home),
        check_incarnation(facts.api.version, incarnation, epoch, logs_read=logs_read),
        check_api_clock(facts.offset),
    ]


def check_settings(warnings: Sequence[str], *, given: bool) -> Result:
    """Check the settings file: whether any key in it means nothing."""
    if not given:
        return unknown("settings", "no settings file was given", "give the controller's (--config)")
    if warnings:
        return warn("settings", "; ".join(warnings[:5]), "correct or remove these keys")
    return ok("settings", "every key is known")


async def examine(
    at: Access,
    *,
    namespaces: Sequence[str],
    home: str,
    account: str,
    reader: bool = False,
) -> tuple[list[Result], LeaseFacts]:
    """
    Make every check, and return what was read of the Leases; never raises for what a server answers.

    Args:
        at: Open connections.
        namespaces: As of `read_cluster`.
        home: As of `read_cluster`.
        account: As of `read_cluster`.
        reader: Leave out what an account that only reads cannot find out (`NEED_RIGHTS`).
    """
    cluster = await read_cluster(
        at, namespaces=namespaces, home=home, account=account, reader=reader
    )
    redis = await read_redis(at, writes=not reader)
    settings = at.settings
    installation = cluster.leases.installation or await _named_by_store(at, redis)
    results = [
        check_settings(at.warnings, given=at.configured),
        *check_redis(
            redis,
            url=settings.redis.url.get_secret_value(),
            durability=settings.redis.durability,
            installation=installation,
        ),
        *check_cluster(
            cluster,
            shards=settings.sharding.shards if at.configured else None,
            incarnation=settings.sharding.incarnation,
            epoch=redis.epoch,
            home=home,
            logs_read=not (redis.error or redis.scan),
        ),
        check_others(cluster.leases, cluster.api.stores, (redis.meta or {}).get("store", "")),
        check_routing(cluster.leases),
        *check_journal(cluster.leases, redis=not redis.error, now=now_here()),
        check_clocks(None if redis.error else redis.offset, cluster.offset),
    ]
    return [r for r in results if not (reader and r.name in NEED_RIGHTS)], cluster.leases


async def _named_by_store(at: Access, redis: RedisFacts) -> str:
    """Return the id of the installation by the Lease that the store names; empty if not compared."""
    if redis.error or redis.meta is None:
        return ""
    try:
        store = await check_store(at)
    except ConfigError:
        # Another one than any of this cluster, whatever its name.
        return "another installation of this cluster"
    except (LedgerError, TimeoutError):
        return ""
    return redis.meta.get("installation", "") if store.state is StoreState.OURS else ""
