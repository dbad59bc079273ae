"""
`syncer status`: the first questions of a person on call, one line each, with the command to continue with.

Each part is read separately within a few seconds, so that a server that hangs does not hold up the answers
of the others. The first page of the explorer shows the same.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from syncer.cli.access import Access, access
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK, reason_of
from syncer.cli.installation import check_store, controller_namespace, namespaces_of, read_holds
from syncer.cli.output import Columns, Table, age
from syncer.cli.owner import holder_of
from syncer.cli.receivers import Overview, count
from syncer.cli.rows import Placed
from syncer.cli.times import now_here
from syncer.kube.leases import LeaseRecord
from syncer.model.errors import ConfigError, LedgerError, PortError
from syncer.model.times import time_of
from syncer.rules.text import plain
from syncer.sharding.neighbours import read_sessions
from syncer.sharding.view import PROBLEM, ROUTING, ROUTING_PROBLEM

#: Seconds within which a server must answer; seconds for counting, which reads every notification.
_ANSWER: Final = 4.0
_COUNTING: Final = 60.0
DAY: Final = 86_400_000


class Line(NamedTuple):
    """One line: whether all is well (None if that is not known), and the command to continue with."""

    name: str
    good: bool | None
    text: str
    next: str = ""


MARKS: Final = {True: "ok", False: "LOOK", None: "?"}
COLUMNS: Final[Columns] = {
    "WHAT": lambda line: line.name,
    "": lambda line: MARKS[line.good],
    "NOW": lambda line: line.text,
    "GO ON WITH": lambda line: line.next,
}


async def run(options: argparse.Namespace) -> int:
    """Show where things stand; returns the exit code."""
    async with access(options) as at:
        namespaces = namespaces_of(at, options)
        lines = await report(at, lambda counts: count(at, counts, namespaces))
    Table(
        COLUMNS,
        json=options.json,
        as_json=lambda line: line._asdict() | {"next": line.next or None},
    ).write(lines)
    if any(line.good is None for line in lines):
        return NOT_COMPARED
    return OK if all(line.good for line in lines) else DIFFERENT


async def report(
    at: Access, counted: Callable[[Overview], Awaitable[list[str]]], *, home: str = ""
) -> list[Line]:
    """
    Return every line; never raises, whatever a server answers.

    Args:
        at: Open connections.
        counted: Counts all notifications, and returns a line for each that cannot be read.
        home: The controller's namespace, empty to look it up.
    """
    parts = await asyncio.gather(
        _part("REPLICAS", read_replicas(at, home), "doctor"),
        _part("REDIS", _redis(at), "doctor"),
        _part("HOLDS", _holds(at), "hold list"),
        _part("NOTIFICATIONS", _counted(at, counted), "doctor", within=_COUNTING),
    )
    return [line for part in parts for line in part]


async def _part(
    name: str, work: Awaitable[list[Line]], then: str, *, within: float = _ANSWER
) -> list[Line]:
    """Return the lines of a part, or a single one that says why it could not be read."""
    try:
        async with asyncio.timeout(within):
            return await work
    except TimeoutError:
        return [Line(name, None, f"no answer within {within:.0f} s", then)]
    except LedgerError as error:
        return [Line(name, None, f"not known: {reason_of(error)}", then)]


async def read_replicas(at: Access, home: str) -> list[Line]:
    """
    Return the lines about replicas and routing; an empty `home` is looked up.

    Raises:
        ConfigError: the API server is not available, or the controller's namespace is not known.
        PortError: their Leases cannot be read.
    """
    if at.kube is None:
        raise ConfigError(at.problem)
    home, name = home or controller_namespace(), at.settings.sharding.lease_name
    if not home:
        try:
            store = await check_store(at, home="")
        except PortError as error:
            raise ConfigError(f"the controller's namespace is not known: {error}") from None
        home, name = store.home, store.lease or name
    sessions = [lease for _, lease in await read_sessions(at.kube, home)]
    return replicas([s for s in sessions if s.name.rpartition("-session-")[0] == name], now_here())


def replicas(sessions: list[LeaseRecord], now: int) -> list[Line]:
    """Return the lines about replicas, and about the routing in force, from the replicas' sessions."""
    silent = {s.holder: (now - time_of(s.renew_time)) / 1000 for s in sessions}
    living = [s for s in sessions if holder_of(s, now=now / 1000)]
    idle = {s.holder: s.annotation(PROBLEM) for s in living}
    alive = sorted(f"{who} (sends nothing: {why})" if why else who for who, why in idle.items())
    dead = sorted(
        f"{who} has been silent for {seconds:.0f} s" for who, seconds in silent.items()
        if who not in idle
    )  # fmt: skip
    text = f"{len(alive)} alive{': ' if alive else ''}{', '.join(alive)}"
    good = bool(alive) and not any(idle.values()) and not dead
    lines = [Line("REPLICAS", good, "; ".join([text, *dead]), "" if good else "doctor")]
    force = sorted({s.annotation(ROUTING) for s in sessions} - {""})
    stale = sorted(f"{s.holder}: {why}" for s in living if (why := s.annotation(ROUTING_PROBLEM)))
    good = len(force) == 1 and not stale
    text = "; ".join([*force, *stale]) + ("" if good or stale else ": the replicas differ")
    routing = Line("ROUTING", good, text, "" if good else "doctor")
    return [*lines, routing] if force or stale else lines


async def _redis(at: Access) -> list[Line]:
    await at.now()
    return [Line("REDIS", True, "answers")]


async def _holds(at: Access) -> list[Line]:
    holds, problem = await read_holds(at)
    if problem:
        return [Line("HOLDS", None, problem, "hold list")]
    force = [hold for hold in holds if hold.in_force(now_here())]
    text = ", ".join(plain(f"{h.name} by {h.author}, {h.reason}") for h in force[:3])
    text = f"{len(force)}: {text}" if force else "none"
    return [Line("HOLDS", not force, text, "hold list" if force else "")]


async def _counted(at: Access, counted: Callable[[Overview], Awaitable[list[str]]]) -> list[Line]:
    now = now_here()
    counts = Overview(Placed((await read_holds(at))[0], now), now - DAY)
    unread = await counted(counts)
    return [*lines_of(counts), *(Line("UNREADABLE", False, text) for text in unread[:3])]


def lines_of(counts: Overview) -> list[Line]:
    """Return the lines about notifications and receivers."""
    bad, n = counts.bad, counts.states
    texts = [
        f"{r.channel} for {age(counts.placed.now - r.since)} ({plain(r.error)})" for r in bad[:3]
    ]
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    receivers = f"{len(bad)} of {len(counts.receivers)} bad: {', '.join(texts)}{more}"
    rows: list[tuple[str, int, str, Any, str]] = [
        ("RECEIVERS", len(bad), receivers, f"{len(counts.receivers)} good", "receivers"),
        ("STUCK", n["stuck"], f"{n['stuck']} of {n['unfinished']} unfinished are overdue",
         f"none of {n['unfinished']} unfinished is overdue", "list --unfinished"),
        ("UNKNOWN", n["unknown"], f"{n['unknown']} may have arrived", "none",
         "list --state unknown"),
        ("FAILED", n["failed"], f"{n['failed']} in 24 h", "none in 24 h",
         "list --state lost --since 1d"),
        ("QUARANTINED", n["quarantined"], f"{n['quarantined']} not sent any more", "none",
         "list --state quarantined"),
        ("JOURNALED", n["journaled"], f"{n['journaled']} recorded in the status, as Redis was away",
         "none", "list --state journaled"),
        ("HELD BACK", n["held"], f"{n['held']} by a hold or an annotation", "none",
         "list --state held"),
    ]  # fmt: skip
    return [
        Line(name, number == 0, text if number else str(fine), then if number else "")
        for name, number, text, fine, then in rows
    ]
