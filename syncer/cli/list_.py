"""`syncer list`: which notifications there are, and which of them need attention."""

from __future__ import annotations

import argparse
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from syncer.cli.arguments import add_attempts, add_event, add_namespaces, count
from syncer.cli.exits import ABSENT, NOT_COMPARED, OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from syncer.cli.listing import Filter, Row
    from syncer.model.hold import Hold

#: What may deserve attention, as `syncer.cli.listing.Row` has it.
STATES: Final = ("unsynced", "unknown", "quarantined", "held", "journaled")
#: Of the newest at most so many are shown.
_MOST: Final = 10_000
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
        "--state", metavar="STATE", type=_states, default=(),
        help=f"only in one of these states, separated by commas: {', '.join(STATES)}",
    )  # fmt: skip
    parser.add_argument(
        "--unfinished", action="store_true",
        help="only what is still to be sent, the newest first, with its next attempt",
    )  # fmt: skip
    add_attempts(parser)
    parser.add_argument(
        "--since", metavar="TIME",
        help="only if created, or attempted on that channel, since then (`1h`, `3d`, or a time)",
    )  # fmt: skip
    parser.add_argument("--limit", type=count, default=0, metavar="N", help="at most N")


def _states(text: str) -> tuple[str, ...]:
    wanted = tuple(filter(None, text.replace(" ", "").split(",")))
    if wrong := [state for state in wanted if state not in STATES]:
        raise argparse.ArgumentTypeError(f"no such state: {', '.join(wrong)}")
    return wanted


async def run(options: argparse.Namespace) -> int:  # noqa: PLR0915 - one walk over all objects
    """List what matches; returns the exit code."""
    from syncer.cli.access import access, where_of
    from syncer.cli.holding import read_holds
    from syncer.cli.listing import COLOURS, FLEXIBLE, HEAD, rows
    from syncer.cli.namespaces import namespaces_of, report_missing
    from syncer.cli.outage import SILENT, now_here, reason_of
    from syncer.cli.output import Columns, Progress, write_page, write_remark
    from syncer.cli.screen import screen_of
    from syncer.cli.store import StoreState, trusted_store

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
            if "unsynced" in options.state or at.kube is None:
                # What is asked for is in the logs.
                raise
            write_remark(f"logs are not read, the rows come from the objects alone: {silent}")
        wanted = _filter(options, now)
        columns = Columns(HEAD, screen_of(sys.stdout), flexible=FLEXIBLE, colours=COLOURS)
        namespaces = await namespaces_of(at, options)
        count = 0
        newest: list[Row] = []
        with Progress("objects") as progress:
            found = rows(
                at, wanted, namespaces, progress,
                now=now, unread=unread, holds=holds, silent=bool(silent),
            )  # fmt: skip
            async with aclosing(found) as pages:
                async for page in pages:
                    if options.unfinished:
                        newest = sorted([*newest, *page], key=lambda row: -row.request.created)
                        del newest[options.limit or _MOST :]
                        continue
                    some = page[: options.limit - count] if options.limit else page
                    count += len(some)
                    write_page(columns, some, json=options.json, cells=lambda row: row.cells(now))
                    if options.limit and count >= options.limit:
                        write_remark(f"more may match: --limit {options.limit}")
                        break
        if newest:
            count = len(newest)
            write_page(columns, newest, json=options.json, cells=lambda row: row.cells(now))
        absent = not progress.done and await report_missing(at, options)
        if not count and not absent:
            among = f" in {', '.join(namespaces)}" if namespaces else ""
            write_remark(f"none of {progress.done} notification(s){among} matches")
        for text in unread:
            write_remark(f"not listed: {text}")
        columns.report_cut()
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
        states=options.state,
        unfinished=options.unfinished,
        channel=options.channel or "",
        receiver=options.receiver or "",
        error=options.error or "",
        since=moment_of(options.since, "--since", now) if options.since else 0,
    )
