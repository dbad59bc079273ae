"""
`syncer status`: what a person on call asks first, a line each, with the command that goes on.

Each part is asked for by itself and has a few seconds, so that a server that hangs does not keep back what
the others say.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from syncer.cli.arguments import add_namespaces
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from syncer.cli.access import Access
    from syncer.cli.overview import Overview

HELP: Final = "show what needs attention now, and the command that goes on"

#: Seconds for an answer of a server; and for counting, which reads every notification.
_ANSWER: Final = 4.0
_COUNTING: Final = 60.0
#: Seconds in which a replica renews its Lease several times.
_SILENT: Final = 10.0
_DAY: Final = 86_400_000


class Line(NamedTuple):
    """One line: whether it is as it should be (None if that is not known), and the command that goes on."""

    name: str
    good: bool | None
    text: str
    next: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_namespaces(parser)


async def run(options: argparse.Namespace) -> int:
    """Show where things stand; returns the exit code."""
    import asyncio

    from syncer.cli.access import access, where_of
    from syncer.cli.namespaces import namespaces_of
    from syncer.cli.outage import now_here
    from syncer.cli.output import table, write_json, write_lines
    from syncer.cli.overview import Overview
    from syncer.cli.screen import screen_of

    now = now_here()
    async with access(where_of(options)) as at:
        counts = Overview(now, now - _DAY)
        lines = [
            line
            for part in await asyncio.gather(
                _part("REPLICAS", _replicas(at), "doctor"),
                _part("REDIS", _redis(at), "doctor"),
                _part("HOLDS", _holds(at), "hold list"),
                _part(
                    "NOTIFICATIONS", _counted(at, counts, await namespaces_of(at, options)), "doctor",
                    within=_COUNTING,
                ),
            )
            for line in part
        ]  # fmt: skip
    if options.json:
        for line in lines:
            write_json(line._asdict() | {"next": line.next or None})
    else:
        marks = {True: "ok", False: "LOOK", None: "?"}
        rows = [("WHAT", "", "NOW", "GO ON WITH")]
        rows += [(line.name, marks[line.good], line.text, line.next) for line in lines]
        write_lines(table(rows, width=screen_of(sys.stdout).width))
    if any(line.good is None for line in lines):
        return NOT_COMPARED
    return OK if all(line.good for line in lines) else DIFFERENT


async def _part(
    name: str, work: Awaitable[list[Line]], then: str, *, within: float = _ANSWER
) -> list[Line]:
    """Return the lines of a part; one that says so if it cannot be had in time."""
    import asyncio

    from syncer.cli.outage import reason_of
    from syncer.model.errors import LedgerError

    try:
        async with asyncio.timeout(within):
            return await work
    except TimeoutError:
        return [Line(name, None, f"no answer within {within:.0f} s", then)]
    except LedgerError as error:
        return [Line(name, None, f"not known: {reason_of(error)}", then)]


async def _replicas(at: Access) -> list[Line]:
    from syncer.cli.namespaces import controller_namespace
    from syncer.cli.outage import now_here
    from syncer.cli.store import check_store
    from syncer.model.errors import ConfigError, PortError
    from syncer.model.times import time_of
    from syncer.sharding.neighbours import read_sessions
    from syncer.sharding.view import PROBLEM

    if at.kube is None:
        raise ConfigError(at.problem)
    home, name = await controller_namespace(), at.settings.sharding.lease_name
    if not home:
        try:
            store = await check_store(at, home="")
        except PortError as error:
            raise ConfigError(f"the controller's namespace is not known: {error}") from None
        home, name = store.home, store.lease or name
    alive, dead = [], []
    for _, lease in await read_sessions(at.kube, home):
        if lease.name.rpartition("-session-")[0] != name:
            continue
        silent = (now_here() - time_of(lease.renew_time)) / 1000
        idle = lease.annotation(PROBLEM)
        if silent <= _SILENT:
            alive.append(f"{lease.holder}{f' (sends nothing: {idle})' if idle else ''}")
        else:
            dead.append(f"{lease.holder} has been silent for {silent:.0f} s")
    idle_ones = any("sends nothing" in one for one in alive)
    text = f"{len(alive)} alive" + (f": {', '.join(sorted(alive))}" if alive else "")
    good = bool(alive) and not idle_ones and not dead
    return [Line("REPLICAS", good, "; ".join([text, *sorted(dead)]), "" if good else "doctor")]


async def _redis(at: Access) -> list[Line]:
    await at.now()
    return [Line("REDIS", True, "answers")]


async def _holds(at: Access) -> list[Line]:
    from syncer.cli.holding import read_holds
    from syncer.cli.outage import now_here

    holds, problem = await read_holds(at)
    if problem:
        return [Line("HOLDS", None, problem, "hold list")]
    force = [hold for hold in holds if hold.in_force(now_here())]
    text = ", ".join(f"{h.name} by {h.author}, {h.reason}" for h in force[:3])
    return [
        Line(
            "HOLDS",
            not force,
            f"{len(force)}: {text}" if force else "none",
            "hold list" * bool(force),
        )
    ]


async def _counted(at: Access, counts: Overview, namespaces: tuple[str, ...]) -> list[Line]:
    from syncer.cli.holding import read_holds
    from syncer.cli.receivers import count

    counts.holds = (await read_holds(at))[0]
    unread = await count(at, counts, namespaces)
    return [*lines_of(counts), *(Line("UNREADABLE", False, text) for text in unread[:3])]


def lines_of(counts: Overview) -> list[Line]:
    """Return the lines about notifications and receivers."""
    from syncer.cli.output import age
    from syncer.rules.text import plain

    bad = counts.bad
    texts = [f"{r.channel} for {age(counts.now - r.since)} ({plain(r.error)})" for r in bad[:3]]
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    receivers = f"{len(bad)} of {len(counts.receivers)} bad: {', '.join(texts)}{more}"
    rows: list[tuple[str, int, str, Any, str]] = [
        ("RECEIVERS", len(bad), receivers, f"{len(counts.receivers)} good", "receivers"),
        ("STUCK", counts.stuck, f"{counts.stuck} of {counts.unfinished} unfinished are overdue",
         f"none of {counts.unfinished} unfinished", "list --unfinished"),
        ("UNKNOWN", counts.unknown, f"{counts.unknown} may have arrived, nobody knows", "none",
         "list --state unknown"),
        ("FAILED", counts.failed, f"{counts.failed} in 24 h", "none in 24 h",
         "list --phase failed --phase partiallysent --since 1d"),
        ("QUARANTINED", counts.quarantined, f"{counts.quarantined} sent no more", "none",
         "list --state quarantined"),
        ("JOURNALED", counts.journaled, f"{counts.journaled} written ahead while Redis was away",
         "none", "list --state journaled"),
        ("HELD BACK", counts.held, f"{counts.held} by a hold or their annotation", "none",
         "list --state held"),
    ]  # fmt: skip
    return [
        Line(name, number == 0, text if number else str(fine), then if number else "")
        for name, number, text, fine, then in rows
    ]
