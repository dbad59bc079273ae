"""`syncer holds`: what operators hold back, until when, and how many notifications wait for it."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from syncer.cli.arguments import add_namespaces
from syncer.cli.exits import NOT_COMPARED, OK, message_of

HELP: Final = "list the holds, until when they last, and how many notifications each holds back"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_namespaces(parser)
    parser.add_argument(
        "--over", action="store_true", help="also show holds that ended within the last week"
    )


async def run(options: argparse.Namespace) -> int:
    """List holds; returns the exit code."""
    from syncer.cli.access import access, where_of
    from syncer.cli.counting import count_held
    from syncer.cli.holding import COLOURS, FLEXIBLE, HEAD, as_json, cells_of
    from syncer.cli.namespaces import namespaces_of
    from syncer.cli.output import Columns, write_json, write_lines, write_remark
    from syncer.cli.screen import screen_of
    from syncer.cli.store import StoreState, trusted_store
    from syncer.ledger.holds import HoldStore
    from syncer.model.errors import LedgerError

    async with access(where_of(options)) as at:
        store = await trusted_store(at, options, new=True)
        now = await at.now()
        holds = (await HoldStore(at.client).read()).holds
        acting = [h for h in holds if h.in_force(now)]
        shown = sorted(holds if options.over else acting, key=lambda h: (h.over_at, h.id))
        numbers, problem, unread = None, "", list[str]()
        if acting:
            try:
                namespaces = await namespaces_of(at, options)
                numbers, unread = await count_held(at, acting, namespaces, now=now)
            except (LedgerError, TimeoutError) as error:
                problem = message_of(error)
    columns = Columns(HEAD, screen_of(sys.stdout), flexible=FLEXIBLE, colours=COLOURS)
    rows = []
    for hold in shown:
        count = 0 if not hold.in_force(now) else None if numbers is None else numbers[hold.id]
        if options.json:
            write_json(as_json(hold, count, now))
        else:
            rows.append(cells_of(hold, count, now))
    if rows:
        write_lines(columns.lines(rows))
        columns.report_cut()
    if not shown:
        write_remark("nothing is held" if options.over else "nothing is held now")
    for text in unread:
        write_remark(f"not counted: {text}")
    if problem:
        write_remark(f"how many notifications wait could not be counted: {problem}")
    return NOT_COMPARED if problem or unread or store.state is StoreState.NEW else OK
