"""`syncer verify`: fold every log anew and compare it with its status."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from syncer.cli.arguments import add_check, add_namespaces
from syncer.cli.exits import ABSENT, DIFFERENT, OK

if TYPE_CHECKING:
    from syncer.rules.divergence import Divergence

HELP: Final = "fold every log anew and compare it with its status"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the options of the command."""
    add_namespaces(parser)
    add_check(parser)


async def run(options: argparse.Namespace) -> int:
    """Name what diverges; returns the exit code."""
    from syncer.cli.access import access, where_of
    from syncer.cli.advice import ADVICE
    from syncer.cli.namespaces import namespaces_of, report_missing
    from syncer.cli.output import Progress, table, write_json, write_lines
    from syncer.cli.scan import Scan, bounds_of, diverging
    from syncer.cli.screen import screen_of
    from syncer.cli.store import trusted_store
    from syncer.rules.divergence import VERIFIED

    counts: Counter[Divergence] = Counter()
    notifications = 0
    async with access(where_of(options)) as at:
        await trusted_store(at, options)
        scan, bounds = Scan(), bounds_of(at, options)
        rows = [("NOTIFICATION", "UID", "CLASS", "WHAT")]
        with Progress("verified") as progress:
            namespaces = await namespaces_of(at, options)
            found = diverging(at, scan, bounds, namespaces, progress, pause=options.pause)
            async for result in found:
                wanted = result.only(options.classes)
                notifications += bool(wanted.findings)
                joined = wanted.joined
                for kind, text in wanted.findings:
                    counts[kind] += 1
                    if options.json:
                        write_json(
                            {
                                "uid": joined.uid, "object": joined.key or None,
                                "class": kind.value, "remedy": kind.remedy.value, "what": text,
                            }
                        )  # fmt: skip
                    else:
                        rows.append((joined.key or "?", joined.uid, kind, text))
        if not scan.objects and await report_missing(at, options):
            return ABSENT
    if options.json:
        summary = {
            "objects": scan.objects,
            "logs": scan.logs,
            "records": scan.records,
            "diverging": notifications,
            "classes": {kind.value: n for kind, n in sorted(counts.items())},
        }
        write_json({"summary": summary})
        return DIFFERENT if counts else OK
    if counts:
        write_lines(table(rows, width=screen_of(options, sys.stdout).width))
        write_lines([""])
        write_lines(f"{kind}: {ADVICE[kind]}" for kind in VERIFIED if kind in counts)
    walked = f"{scan.objects} objects, {scan.logs} logs, {scan.records} records"
    write_lines([f"{walked}: {notifications or 'none'} diverging"])
    return DIFFERENT if counts else OK
