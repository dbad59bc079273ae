"""
`syncer verify`: fold every log again, compare it with its status, and, with `--repair`, repair it.

While Redis does not answer nothing is compared; each status is checked by itself, and what was journaled is
counted.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from syncer.cli.arguments import OBJECT, add_by, add_check, add_dry_run, add_namespaces, add_time
from syncer.cli.exits import ABSENT, DIFFERENT, NOT_COMPARED, OK

if TYPE_CHECKING:
    from syncer.cli.access import Access
    from syncer.rules.divergence import Divergence

HELP: Final = "fold every log again, compare it with its status, and repair what differs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "object", nargs="*", metavar=OBJECT,
        help="a notification to repair, with --repair (default: all that diverge)",
    )  # fmt: skip
    add_namespaces(parser)
    add_check(parser)
    repairs = parser.add_argument_group("repairs")
    repairs.add_argument("--repair", action="store_true", help="repair what is found")
    add_dry_run(repairs, "what a repair would do")
    for option, what in (
        (
            "--rebuild",
            "replace a log that cannot be read by a legible one; the old one is kept aside",
        ),
        ("--accept-loss", "also if a record is not legible at all; its message may be sent again"),
        ("--unwitnessed", "put what only the status says into the log, under the name of --by"),
        ("--moved", "the same for objects without a log, before the controller first starts here"),
    ):
        repairs.add_argument(option, action="store_true", help=what)
    add_time(repairs, "--wait", "30s", "how long to wait for the owner to do its part")
    add_by(repairs)


async def run(options: argparse.Namespace) -> int:
    """Report divergences; returns the exit code."""
    if options.repair:
        from syncer.cli.repair import repair

        return await repair(options)
    from dataclasses import replace

    from syncer.cli.access import access, where_of
    from syncer.cli.namespaces import namespaces_of, report_missing
    from syncer.cli.output import Progress, table, write_json, write_lines
    from syncer.cli.scan import Scan, bounds_of, by_status, diverging
    from syncer.cli.screen import screen_of
    from syncer.rules.advice import ADVICE
    from syncer.rules.divergence import VERIFIED

    counts: Counter[Divergence] = Counter()
    notifications = 0
    async with access(where_of(options)) as at:
        silent, since = await _silence(at, options)
        scan, bounds = Scan(), replace(bounds_of(at, options), since=since)
        rows = [("NOTIFICATION", "UID", "CLASS", "WHAT")]
        with Progress("verified") as progress:
            namespaces = await namespaces_of(at, options)
            found = (
                by_status(at, scan, namespaces, progress) if silent
                else diverging(at, scan, bounds, namespaces, progress, pause=options.pause)
            )  # fmt: skip
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
                                "cause": ADVICE[kind].cause, "do": ADVICE[kind].do,
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
            **({"logsUnread": silent, "journaled": scan.journaled} if silent else {}),
        }
        write_json({"summary": summary})
        return _exit(found=bool(counts), silent=bool(silent))
    if counts:
        write_lines(table(rows, width=screen_of(sys.stdout).width))
        write_lines([""])
        write_lines(f"{kind}: {ADVICE[kind]}" for kind in VERIFIED if kind in counts)
    walked = f"{scan.objects} objects, {scan.logs} logs, {scan.records} records"
    said = f"{walked}: {notifications or 'none'} diverging"
    if silent:
        said = (
            f"{scan.objects} statuses, {scan.journaled} of them journaled: {notifications} inconsistent;"
            " logs and statuses were not compared"
        )
    write_lines([said])
    return _exit(found=bool(counts), silent=bool(silent))


async def _silence(at: Access, options: argparse.Namespace) -> tuple[str, int | None]:
    """Check the store's owner; return why Redis does not answer, if so, and since when it is alone here."""
    from syncer.cli.outage import SILENT, reason_of
    from syncer.cli.output import write_remark
    from syncer.cli.store import trusted_store

    try:
        store = await trusted_store(at, options)
        return "", at.settings.adoption.moment or store.since
    except SILENT as error:
        if at.kube is None:
            raise
        reason = reason_of(error)
        write_remark(f"no log is read, each status is checked on its own: {reason}")
        return reason, None


def _exit(*, found: bool, silent: bool) -> int:
    if found:
        return DIFFERENT
    return NOT_COMPARED if silent else OK
