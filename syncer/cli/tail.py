"""`syncer tail`: attempts as they happen."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import aclosing
from typing import Final

from syncer.cli.access import access
from syncer.cli.arguments import STATES
from syncer.cli.exits import NOT_COMPARED, OK, SILENT
from syncer.cli.following import COLOURS, Follower, Wanted, columns_of
from syncer.cli.installation import StoreState, namespaces_of, trusted_store
from syncer.cli.known import read_request
from syncer.cli.output import Table, write_remark
from syncer.cli.times import moment_of
from syncer.model.times import format_time

#: Seconds between sweeps, unless they take long.
_PERIOD: Final = 1.0
#: Between tries while Redis does not answer.
_AWAY: Final = 5.0
#: Past attempts that are shown at most.
MOST: Final = 1000


async def run(options: argparse.Namespace) -> int:
    """Show what has happened, and what happens; returns the exit code."""
    async with access(options) as at:
        now = await at.now()
        wanted = Wanted(
            states=tuple(options.state or (s for s in STATES if s != "intent")),
            namespaces=await namespaces_of(at, options) if not options.object else (),
            receivers=tuple(options.receiver or ()),
            since=moment_of(options.since, "--since", now),
        )
        store = await trusted_store(at, new=True)
        uids = [(await read_request(at, key)).uid for key in options.object]
        follower = Follower(at, wanted, uids)
        columns = columns_of(dated=now - wanted.since > 86_400_000)
        table = Table(columns, json=options.json, colours=COLOURS)
        try:
            table.write(await follower.past(MOST))
            if follower.passed_over:
                write_remark(
                    f"{follower.passed_over} earlier ones are not shown; a shorter --since shows less,"
                    " `explain --records` all of one"
                )
            if options.follow:
                await _follow(follower, table)
        finally:
            table.report_cut()
            write_remark(f"to continue from here: --since {format_time(follower.resume)}")
    return NOT_COMPARED if store.state is StoreState.NEW else OK


async def _follow(follower: Follower, table: Table) -> None:
    """Show what is appended, until cancelled."""
    away = False
    while True:
        await asyncio.sleep(_AWAY if away else follower.pause(_PERIOD))
        try:
            async with aclosing(follower.sweep()) as pages:
                async for events in pages:
                    table.write(events)
        except SILENT as error:
            if not away:
                write_remark(f"Redis does not answer, retrying: {error}")
            away = True
        else:
            if away:
                write_remark("Redis answers again; nothing was missed")
            away = False
