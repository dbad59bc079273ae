"""`syncer list`: which notifications there are, and which of them need attention."""

from __future__ import annotations

import argparse
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from syncer.cli.arguments import add_attempts, add_event, add_namespaces, count
from syncer.cli.exits import ABSENT, NOT_COMPARED, OK
from syncer.model.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from syncer.cli.listing import Filter
    from syncer.model.hold import Hold

HELP: Final = "list notifications, and which of them need attention"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_namespaces(parser)
    parser.add_argument(
        "--phase", action="append", metavar="PHASE", type=str.lower,
        choices=("none", "pending", "sending", "retrying", "sent", "partiallysent", "failed"),
        help="only this phase, `none` for none yet; may be given again",
    )  # fmt: skip
    add_event(parser)
    parser.add_argument(
        "--name", metavar="PATTERN", help="only names that match this pattern (`*` and `?`)"
    )
    parser.add_argument(
        "--older-than", metavar="TIME", default="0",
        help="only notifications at least this old (`72h`, `3d`)",
    )  # fmt: skip
    parser.add_argument(
        "--unsynced", action="store_true", help="only notifications with unpublished records"
    )
    parser.add_argument(
        "--unknown", action="store_true", help="only notifications with unknown results"
    )
    parser.add_argument(
        "--quarantined", action="store_true", help="only notifications whose log cannot be read"
    )
    parser.add_argument(
        "--held", action="store_true", help="only notifications that an operator holds back"
    )
    add_attempts(parser)
    parser.add_argument(
        "--since", metavar="TIME",
        help="only if created, or attempted on that channel, since then (`1h`, `3d`, or a time)",
    )  # fmt: skip
    parser.add_argument(
        "-w", "--watch", action="store_true",
        help="then show each notification that changes, until interrupted",
    )  # fmt: skip
    parser.add_argument("--limit", type=count, default=0, metavar="N", help="at most N")


async def run(options: argparse.Namespace) -> int:
    """List what matches; returns the exit code."""
    from syncer.cli.access import access, where_of
    from syncer.cli.holding import read_holds
    from syncer.cli.listing import COLOURS, FLEXIBLE, HEAD, Shown, rows
    from syncer.cli.namespaces import namespaces_of, report_missing
    from syncer.cli.outage import SILENT, now_here, reason_of
    from syncer.cli.output import Columns, Progress, write_remark
    from syncer.cli.screen import screen_of
    from syncer.cli.store import StoreState, trusted_store
    from syncer.cli.watching import Watching

    if options.watch and options.limit:
        raise ConfigError("--limit and --watch cannot be combined")
    unread: list[str] = []
    async with access(where_of(options)) as at:
        holds: Sequence[Hold] = ()
        compared, silent = True, ""
        try:
            store = await trusted_store(at, options, new=True)
            compared, now = store.state is not StoreState.NEW, await at.now()
            holds, problem = await read_holds(at)
            if problem:
                write_remark(f"operators' holds are not shown: {problem}")
        except SILENT as error:
            silent, now = reason_of(error), now_here()
            if options.watch or options.unsynced or at.kube is None:
                # What is asked for is in the logs.
                raise
            write_remark(f"logs are not read, the rows come from the objects alone: {silent}")
        wanted = _filter(options, now)
        columns = Columns(HEAD, screen_of(sys.stdout), flexible=FLEXIBLE, colours=COLOURS)
        shown = Shown(columns, json=options.json, again=options.watch)
        namespaces = await namespaces_of(at, options)
        watching = None
        if options.watch:
            # From before the list: what changes while it is read comes once more, and is not shown twice.
            watching = await Watching.begin(at, namespaces, wanted, shown)
        with Progress("objects") as progress:
            found = rows(
                at, wanted, namespaces, progress,
                now=now, unread=unread, holds=holds, silent=bool(silent),
            )  # fmt: skip
            async with aclosing(found) as pages:
                async for page in pages:
                    shown.write(page[: options.limit - shown.rows] if options.limit else page, now)
                    if options.limit and shown.rows >= options.limit:
                        write_remark(f"more may match: --limit {options.limit}")
                        break
        absent = not progress.done and await report_missing(at, options)
        if not shown.rows and not absent:
            among = f" in {', '.join(namespaces)}" if namespaces else ""
            write_remark(f"none of {progress.done} notification(s){among} matches")
        for text in unread:
            write_remark(f"not listed: {text}")
        columns.report_cut()
        if watching is not None and not absent:
            await watching.run()
    if absent:
        return ABSENT
    return NOT_COMPARED if unread or silent or not compared else OK


def _filter(options: argparse.Namespace, now: int) -> Filter:
    from syncer.cli.listing import Filter
    from syncer.cli.times import moment_of, seconds_of

    return Filter(
        phases=tuple(options.phase or ()),
        name=options.name or "",
        event=(options.event or "").strip(),
        older=round(seconds_of(options.older_than, "--older-than") * 1000),
        unsynced=options.unsynced,
        unknown=options.unknown,
        quarantined=options.quarantined,
        held=options.held,
        channel=options.channel or "",
        receiver=options.receiver or "",
        error=options.error or "",
        since=moment_of(options.since, "--since", now) if options.since else 0,
    )
