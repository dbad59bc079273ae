"""`syncer list`: which notifications there are, and which of them need attention."""

from __future__ import annotations

import argparse
from contextlib import aclosing
from typing import Final

from syncer.cli.arguments import add_namespaces, count
from syncer.cli.exits import ABSENT, NOT_COMPARED, OK

HELP: Final = "list notifications, and which of them need attention"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the options of the command."""
    add_namespaces(parser)
    parser.add_argument(
        "--phase", action="append", metavar="PHASE", type=str.lower,
        choices=("none", "pending", "sending", "retrying", "sent", "partiallysent", "failed"),
        help="only this phase, `none` for none yet; may be given again",
    )  # fmt: skip
    parser.add_argument("--name", metavar="PATTERN", help="only names like this (`*` and `?`)")
    parser.add_argument(
        "--older-than", metavar="TIME", default="0", help="at least so old (`72h`, `3d`)"
    )
    parser.add_argument("--unsynced", action="store_true", help="only with unpublished records")
    parser.add_argument("--unknown", action="store_true", help="only with unknown results")
    parser.add_argument(
        "--quarantined", action="store_true", help="only those held because of their log"
    )
    parser.add_argument("--held", action="store_true", help="only those held by annotation")
    parser.add_argument("--limit", type=count, default=0, metavar="N", help="at most so many")


async def run(options: argparse.Namespace) -> int:
    """List what matches; returns the exit code."""
    from syncer.cli.access import access, where_of
    from syncer.cli.listing import HEAD, Filter, rows
    from syncer.cli.namespaces import namespaces_of, report_missing
    from syncer.cli.output import Columns, Progress, write_json, write_lines, write_remark
    from syncer.cli.store import StoreState, trusted_store
    from syncer.cli.times import seconds_of

    wanted = Filter(
        phases=tuple(options.phase or ()),
        name=options.name or "",
        older=round(seconds_of(options.older_than, "--older-than") * 1000),
        unsynced=options.unsynced,
        unknown=options.unknown,
        quarantined=options.quarantined,
        held=options.held,
    )
    shown = 0
    unread: list[str] = []
    async with access(where_of(options)) as at:
        store = await trusted_store(at, options, new=True)
        now = await at.now()
        columns = Columns(HEAD)
        with Progress("objects") as progress:
            namespaces = await namespaces_of(at, options)
            found = rows(at, wanted, namespaces, progress, now=now, unread=unread)
            async with aclosing(found) as pages:
                async for page in pages:
                    chosen = page[: options.limit - shown] if options.limit else page
                    shown += len(chosen)
                    if options.json:
                        for row in chosen:
                            write_json(row.as_json())
                    elif chosen:
                        write_lines(columns.lines([row.cells(now) for row in chosen]))
                    if options.limit and shown >= options.limit:
                        break
        absent = not progress.done and await report_missing(at, options)
    if not shown and not absent:
        among = f" in {', '.join(namespaces)}" if namespaces else ""
        write_remark(f"none of {progress.done} notification(s){among} is wanted")
    for text in unread:
        write_remark(f"not listed: {text}")
    if absent:
        return ABSENT
    return NOT_COMPARED if unread or store.state is StoreState.NEW else OK
