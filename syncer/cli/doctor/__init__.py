"""
`syncer doctor`: check Redis, API server, permissions, leases and clocks.

What `/readyz` says of a controller that runs is not repeated: its right to record, and its policy on
statuses.

Each topic is a module that reads facts and checks them: what reads never decides, what checks is pure. A
check that could not be made is reported as such instead of passing, and one that did not pass names its
fix. Reading leaves nothing behind but one key that expires after seconds.

The rights are those of the account that runs this, or, if one is named, of the controller's account.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

from syncer.cli.access import Access, access
from syncer.cli.doctor.cluster import (
    ClusterFacts,
    check_api_server,
    check_clocks,
    check_incarnation,
    check_journal,
    check_others,
    check_rights,
    check_routing,
    check_shards,
    read_cluster,
)
from syncer.cli.doctor.redis import RedisFacts, check_redis, read_redis
from syncer.cli.doctor.result import Grade, Result, lines_of, passes
from syncer.cli.exits import DIFFERENT, OK
from syncer.cli.installation import StoreState, check_store, controller_namespace, namespaces_of
from syncer.cli.known import namespace_and_name
from syncer.cli.output import write_answer, write_lines
from syncer.cli.times import now_here
from syncer.model.errors import ConfigError, LedgerError


async def run(options: argparse.Namespace) -> int:
    """Make every check; returns the exit code."""
    if options.service_account:
        namespace_and_name(options.service_account)
    async with access(options) as at:
        results, _ = await examine(
            at, namespaces=await namespaces_of(at, options), home=controller_namespace(),
            account=options.service_account or "",
        )  # fmt: skip
    for result in results:
        document = {
            "check": result.name, "grade": result.grade.value, "found": result.text,
            "fix": result.fix or None,
        }  # fmt: skip
        write_answer(document, lines_of(result), as_json=options.json)
    if not options.json:
        grades = Counter(result.grade for result in results)
        write_lines([", ".join(f"{grades[g]} {g.value}" for g in Grade)])
    return DIFFERENT if any(r.grade is Grade.FAIL for r in results) else OK


async def examine(
    at: Access, *, namespaces: Sequence[str], home: str, account: str, reader: bool = False
) -> tuple[list[Result], ClusterFacts]:
    """
    Make every check, and return what was read of the cluster; never raises for what a server answers.

    Args:
        at: Open connections.
        namespaces: As of `read_cluster`.
        home: As of `read_cluster`.
        account: As of `read_cluster`.
        reader: Leave out what an account that only reads cannot find out.
    """
    facts = await read_cluster(at, namespaces=namespaces, home=home, account=account, reader=reader)
    redis, settings = await read_redis(at, writes=not reader), at.settings
    results = [
        check_settings(at.warnings, given=at.configured),
        *check_redis(
            redis,
            url=settings.redis.url.get_secret_value(),
            durability=settings.redis.durability,
            installation=facts.installation or await _named_by_store(at, redis),
        ),
        *check_cluster(
            facts, redis, shards=settings.sharding.shards if at.configured else None,
            incarnation=settings.sharding.incarnation, home=home, reader=reader,
        ),
    ]  # fmt: skip
    return results, facts


def check_cluster(
    facts: ClusterFacts, redis: RedisFacts, *, shards: int | None, incarnation: int, home: str,
    reader: bool = False,
) -> list[Result]:  # fmt: skip
    """
    Check what was read of the cluster.

    Args:
        facts: What was read.
        redis: What was read of Redis.
        shards: As configured, None if that is not known.
        incarnation: As configured.
        home: Namespace of the controller, empty if that is not known.
        reader: As of `examine`.
    """
    results = check_api_server(facts)
    if not facts.error:
        read = not (redis.error or redis.tried.get("redis-scan"))
        results += [
            *([] if reader else check_rights(facts, home=home)),
            *check_shards(facts, shards=shards, home=home),
            check_incarnation(facts.version, incarnation, redis.epoch, logs_read=read),
        ]
    return [
        *results,
        check_others(facts, redis.meta.get("store", "")),
        check_routing(facts),
        *check_journal(facts, redis=not redis.error, now=now_here()),
        *([] if reader else check_clocks(None if redis.error else redis.offset, facts.offset)),
    ]


def check_settings(warnings: Sequence[str], *, given: bool) -> Result:
    """Check the settings file: whether any key in it means nothing."""
    if not given:
        fix = "give the controller's (--config)"
        return Result("settings", Grade.UNKNOWN, "no settings file was given", fix)
    return passes(
        "settings", not warnings, "every key is known", "; ".join(warnings[:5]),
        "correct or remove these keys", bad=Grade.WARN,
    )  # fmt: skip


async def _named_by_store(at: Access, redis: RedisFacts) -> str:
    """Return the id of the installation by the Lease that the store names; empty if not compared."""
    try:
        store = await check_store(at) if redis.meta and not redis.error else None
    except ConfigError:
        # Another one than any of this cluster, whatever its name.
        return "another installation of this cluster"
    except (LedgerError, TimeoutError):
        return ""
    return redis.meta["installation"] if store and store.state is StoreState.OURS else ""
