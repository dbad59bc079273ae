"""`syncer receivers`: which receivers take messages, which do not, since when and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from syncer.cli.access import Access, access, where_of
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK
from syncer.cli.namespaces import namespaces_of
from syncer.cli.outage import SILENT, now_here, reason_of
from syncer.cli.output import Columns, write_page, write_remark
from syncer.cli.overview import FLEXIBLE, HEAD, MOST, Overview
from syncer.cli.rows import Placed, RowMaker
from syncer.cli.scan import problem_of, read_logs, walk
from syncer.cli.screen import screen_of
from syncer.cli.times import moment_of
from syncer.kube.notification_requests import Unreadable
from syncer.ledger.reading import read_log


async def run(options: argparse.Namespace) -> int:
    """Show every receiver, those that are bad first; returns the exit code."""
    now, silent = now_here(), ""
    async with access(where_of(options)) as at:
        counts = Overview(Placed(now=now), moment_of(options.since, "--since", now))
        unread = await count(at, counts, await namespaces_of(at, options))
        try:
            await read_skips(at, counts)
        except SILENT as error:
            silent = reason_of(error)
            write_remark(f"logs are not read, so why nothing is tried is not known: {silent}")
    columns = Columns(HEAD, screen_of(sys.stdout), flexible=FLEXIBLE)
    write_page(columns, counts.worst_first, json=options.json, cells=lambda r: r.cells(now))
    columns.report_cut()
    if len(counts.receivers) >= MOST:
        write_remark(f"only {MOST} receivers are counted")
    for text in unread:
        write_remark(f"not counted: {text}")
    if not counts.receivers:
        write_remark(f"none of {counts.notifications} notification(s) names a receiver")
    return NOT_COMPARED if unread or silent else DIFFERENT if counts.bad else OK


async def count(at: Access, counts: Overview, namespaces: Sequence[str]) -> list[str]:
    """
    Count every notification; returns a line for each that cannot be read.

    Args:
        at: Open connections.
        counts: What is counted.
        namespaces: Only these; empty for all.

    Raises:
        ConfigError: there is no way to the API server.
        PortError: it does not answer, or refuses.
    """
    unread, maker = [], RowMaker()
    async for one in walk(at, namespaces):
        if isinstance(one, Unreadable):
            unread.append(f"{one.key}: {problem_of(one)}")
        else:
            counts.take(maker.row(one))
    return unread


async def read_skips(at: Access, counts: Overview) -> None:
    """Read from the log of what waits longest why it is not tried: a breaker, a credential, a hold."""
    waiting = [(r, r.oldest.uid) for r in counts.receivers.values() if r.oldest is not None]
    logs = await read_logs(at, [(uid, None) for _, uid in waiting]) if waiting else []
    for (receiver, _), log in zip(waiting, logs, strict=True):
        receiver.skip = read_log(log.elements).view.last_skip.get(receiver.channel, "")
