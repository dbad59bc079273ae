"""
`syncer verify`: fold every log again, compare it with its status, and, with `--repair`, repair it.

While Redis does not answer nothing is compared; each status is checked by itself, and what was journaled is
counted.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import replace

from syncer.cli.access import Access, access, where_of
from syncer.cli.exits import ABSENT, DIFFERENT, NOT_COMPARED, OK, SILENT, reason_of
from syncer.cli.installation import namespaces_of, report_missing, trusted_store
from syncer.cli.output import Progress, screen_of, table, write_json, write_lines, write_remark
from syncer.cli.repair import repair
from syncer.cli.scan import Scan, bounds_of, by_status, diverging
from syncer.rules.advice import ADVICE
from syncer.rules.divergence import VERIFIED, Divergence


async def run(options: argparse.Namespace) -> int:
    """Report divergences, or repair them; returns the exit code."""
    if options.repair:
        return await repair(options)
    counts: Counter[Divergence] = Counter()
    notifications = 0
    async with access(where_of(options)) as at:
        silent, since = await _silence(at)
        scan, bounds = Scan(), replace(bounds_of(at), since=since)
        rows = [("NOTIFICATION", "UID", "CLASS", "WHAT")]
        with Progress("verified") as progress:
            namespaces = await namespaces_of(at, options)
            found = (
                by_status(at, scan, namespaces, progress) if silent
                else diverging(at, scan, bounds, namespaces, progress)
            )  # fmt: skip
            async for joined, findings in found:
                notifications += 1
                for kind, text in findings:
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
            "objects": scan.objects, "logs": scan.logs, "records": scan.records,
            "diverging": notifications,
            "classes": {kind.value: n for kind, n in sorted(counts.items())},
            **({"logsUnread": silent, "journaled": scan.journaled} if silent else {}),
        }  # fmt: skip
        write_json({"summary": summary})
    else:
        if counts:
            write_lines([*table(rows, width=screen_of(sys.stdout).width), ""])
            write_lines(f"{kind}: {ADVICE[kind]}" for kind in VERIFIED if kind in counts)
        said = (
            f"{scan.objects} objects, {scan.logs} logs, {scan.records} records:"
            f" {notifications or 'none'} diverging"
        )
        if silent:
            said = (
                f"{scan.objects} statuses, {scan.journaled} of them journaled: {notifications}"
                " inconsistent; logs and statuses were not compared"
            )
        write_lines([said])
    return DIFFERENT if counts else NOT_COMPARED if silent else OK


async def _silence(at: Access) -> tuple[str, int | None]:
    """Check the store's owner; return why Redis does not answer, if so, and since when it is alone here."""
    try:
        store = await trusted_store(at)
        return "", at.settings.adoption.moment or store.since
    except SILENT as error:
        if at.kube is None:
            raise
        reason = reason_of(error)
        write_remark(f"no log is read, each status is checked on its own: {reason}")
        return reason, None
