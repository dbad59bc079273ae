"""`syncer verify --repair`: repair what is found, by facts alone."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from syncer.cli.access import Access, access, operator_name, where_of
from syncer.cli.exits import ABSENT, DIFFERENT, OK, Misused
from syncer.cli.lookup import read_request
from syncer.cli.namespaces import namespaces_of, report_missing
from syncer.cli.output import Progress, write_answer, write_remark
from syncer.cli.repairs import Allowed, Step, carry_out, plan_repair, wait_clean
from syncer.cli.scan import Name, Result, Scan, bounds_of, check_again, diverging
from syncer.cli.store import trusted_store
from syncer.rules.divergence import Divergence
from syncer.rules.text import plain
from syncer.rules.verification import Bounds

#: At most so many notifications are repaired in one run.
LIMIT: Final = 1000
#: Seconds that the owner has to do its part.
WAIT = 30.0


async def repair(options: argparse.Namespace) -> int:
    """Repair what diverges; returns the exit code."""
    if (options.unwitnessed or options.moved) and not options.by:
        which = "--moved" if options.moved else "--unwitnessed"
        raise Misused(f"{which} requires --by, the name of who vouches for what the status says")
    by = operator_name(options.by)
    async with access(where_of(options)) as at:
        # What was moved comes before the controller, into a store that nobody has used.
        await trusted_store(at, writes=not options.dry_run, new=options.moved)
        scan, bounds = Scan(), bounds_of(at)
        planned, more = await _plan(at, scan, bounds, options, by=by)
        if not options.object and not scan.objects and await report_missing(at, options):
            return ABSENT
        for result, steps in planned:
            _write_plan(result, steps, options, by=by)
        if more:
            write_remark(f"{more} more are left for the next run; run it again")
        idle = sum(all(step.idle for step in steps) for _, steps in planned)
        found = len(planned) + more
        if options.dry_run or not planned:
            _write_summary({"found": found, "leftAlone": idle, "dryRun": options.dry_run}, options)
            return DIFFERENT if planned else OK
        done = []
        with Progress("repaired", total=len(planned)) as progress:
            for result, steps in planned:
                problem = await carry_out(at, result, steps, by=by)
                if problem:
                    write_remark(f"{result.joined.key}: {problem}")
                elif not all(step.idle for step in steps):
                    done.append(result)
                progress.step()
        # An owner that is yet to start does its part later.
        wrong = [] if options.moved else await wait_clean(at, scan, bounds, done, seconds=WAIT)
    for joined, findings in wrong:
        for kind, text in findings:
            write_remark(f"still {kind}: {joined.key} ({text})")
    repaired = len(done) - len(wrong)
    summary = {
        "found": found, "repaired": repaired, "leftAlone": idle,
        # What was left alone, put off, or had changed by then diverges as it did.
        "stillDiverging": found - repaired,
    }  # fmt: skip
    _write_summary(summary, options)
    return OK if repaired == found else DIFFERENT


async def _plan(
    at: Access, scan: Scan, bounds: Bounds, options: argparse.Namespace, *, by: str
) -> tuple[list[tuple[Result, tuple[Step, ...]]], int]:
    """Return what is to be repaired, with the steps of each, and how many more are beyond the limit."""
    allowed = Allowed(options.rebuild, options.accept_loss, options.unwitnessed or options.moved)
    planned: list[tuple[Result, tuple[Step, ...]]] = []
    more = 0
    with Progress("verified") as progress:
        async for joined, findings in _diverging(at, scan, bounds, options, progress):
            wanted = findings
            if options.moved:
                wanted = tuple(f for f in findings if f.kind is Divergence.LOG_MISSING)
            if not wanted:
                continue
            if len(planned) >= LIMIT and not options.moved:
                more += 1
                continue
            steps = plan_repair(joined, wanted, allowed=allowed, now=await at.now(), by=by)
            planned.append((Result(joined, wanted), steps))
    return planned, more


async def _diverging(
    at: Access, scan: Scan, bounds: Bounds, options: argparse.Namespace, progress: Progress
) -> AsyncIterator[Result]:
    if options.object:
        requests = [await read_request(at, key) for key in options.object]
        found = check_again(at, scan, bounds, [Name(r.uid, r.key) for r in requests])
    else:
        namespaces = await namespaces_of(at, options)
        found = diverging(at, scan, bounds, namespaces, progress)
    async for result in found:
        yield result


def _write_plan(
    result: Result, steps: Sequence[Step], options: argparse.Namespace, *, by: str
) -> None:
    joined = result.joined
    kinds = sorted({f.kind.value for f in result.findings})
    document = {
        "uid": joined.uid, "object": joined.key or None, "classes": kinds, "by": by,
        "steps": [{"act": s.act.value, "what": s.text} for s in steps],
        "dryRun": options.dry_run,
    }  # fmt: skip
    verb = "would" if options.dry_run else "do"
    lines = [
        f"{joined.key or '?'}  {joined.uid}  {' '.join(kinds)}",
        *(f"  {'leave' if s.idle else verb}: {plain(s.text)}" for s in steps),
    ]
    write_answer(document, lines, as_json=options.json)


def _write_summary(summary: dict[str, Any], options: argparse.Namespace) -> None:
    said = ", ".join(f"{k} {v}" for k, v in summary.items())
    line = said if summary["found"] else "nothing to repair"
    write_answer({"summary": summary}, [line], as_json=options.json)
