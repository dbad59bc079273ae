"""`syncer list`: which notifications there are, and which of them need attention."""

from __future__ import annotations

import argparse
from contextlib import aclosing

from syncer.cli.access import access
from syncer.cli.exits import ABSENT, NOT_COMPARED, OK, SILENT, reason_of
from syncer.cli.installation import (
    StoreState,
    namespaces_of,
    read_holds,
    report_missing,
    trusted_store,
)
from syncer.cli.output import Table, write_remark
from syncer.cli.rows import COLOURS, UNREAD, Head, Placed, Query, Row, RowMaker, columns_of
from syncer.cli.scan import Scan, objects, problem_of
from syncer.cli.times import moment_of, now_here
from syncer.kube.notification_requests import Unreadable

#: Of the newest at most so many are shown.
_MOST = 10_000


async def run(options: argparse.Namespace) -> int:
    """List what matches; returns the exit code."""
    unread: list[str] = []
    async with access(options) as at:
        placed, compared, silent = Placed(now=now_here()), True, ""
        try:
            store = await trusted_store(at, new=True)
            compared, now = store.state is not StoreState.NEW, await at.now()
            holds, problem = await read_holds(at)
            placed = Placed(holds, now)
            if problem:
                write_remark(f"operators' holds are not shown: {problem}")
        except SILENT as error:
            silent = reason_of(error)
            if "unsynced" in options.state or at.kube is None:
                # What is asked for is in the logs.
                raise
            write_remark(f"logs are not read, the rows come from the objects alone: {silent}")
        wanted = query(options, placed.now)
        table = Table(
            columns_of(placed), json=options.json, colours=COLOURS,
            as_json=lambda pair: pair[0].as_json(placed, pair[1]),
        )  # fmt: skip
        namespaces = await namespaces_of(at, options)
        count, maker, scan = 0, RowMaker(), Scan()
        newest: list[tuple[Row, Head]] = []
        async with aclosing(objects(at, scan, namespaces, labels=wanted.labels)) as pages:
            async for page in pages:
                unread += [f"{o.key}: {problem_of(o)}" for o in page if isinstance(o, Unreadable)]
                rows = [maker.row(o) for o in page if not isinstance(o, Unreadable)]
                heads = [UNREAD] * len(rows)
                if not silent:
                    found = await at.log.read_headers([row.uid for row in rows])
                    heads = [Head.of(head) for head in found]
                some = [
                    pair
                    for pair in zip(rows, heads, strict=True)
                    if wanted.matches(pair[0], placed, pair[1])
                ]
                count += len(some)
                if options.unfinished:
                    newest = sorted([*newest, *some], key=lambda pair: -pair[0].created)[:_MOST]
                else:
                    table.write(some)
        table.write(newest)
        absent = not scan.objects and await report_missing(at, options)
        if not count and not absent:
            among = f" in {', '.join(namespaces)}" if namespaces else ""
            write_remark(f"none of {scan.objects} notification(s){among} matches")
            if options.event:
                write_remark("--event is an event's whole text; `explain` finds one by a part")
        for text in unread:
            write_remark(f"not listed: {text}")
        table.report_cut()
    if absent:
        return ABSENT
    return NOT_COMPARED if unread or silent or not compared else OK


def query(options: argparse.Namespace, now: int) -> Query:
    """Return what the command line asks for."""
    return Query(
        phases=tuple(options.phase or ()), states=options.state, unfinished=options.unfinished,
        receivers=tuple(options.receiver or ()), event=(options.event or "").strip(),
        since=moment_of(options.since, "--since", now) if options.since else 0,
    )  # fmt: skip
