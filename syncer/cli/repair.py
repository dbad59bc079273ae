"""`syncer verify --repair`: repair what is found, by facts alone."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from syncer.cli.exits import ABSENT, DIFFERENT, OK, Misused

if TYPE_CHECKING:
    from syncer.cli.access import Access
    from syncer.cli.output import Progress
    from syncer.cli.repairs import Done, Step
    from syncer.cli.scan import Result, Scan
    from syncer.rules.verification import Bounds

#: At most so many notifications are repaired in one run.
LIMIT: Final = 1000


class _Planned(NamedTuple):
    """What is wrong with one notification, and the steps that repair it."""

    result: Result
    steps: tuple[Step, ...]

    @property
    def left_alone(self) -> bool:
        """Whether no step does anything."""
        return all(step.idle for step in self.steps)


async def repair(options: argparse.Namespace) -> int:
    """Repair what diverges; returns the exit code."""
    from syncer.cli.access import access, operator_name, where_of
    from syncer.cli.namespaces import report_missing
    from syncer.cli.output import write_remark
    from syncer.cli.scan import Scan, bounds_of
    from syncer.cli.store import trusted_store
    from syncer.cli.times import seconds_of

    if (options.unwitnessed or options.moved) and not options.by:
        which = "--moved" if options.moved else "--unwitnessed"
        raise Misused(f"{which} requires --by, the name of who vouches for what the status says")
    by = operator_name(options.by)
    wait: float | None = seconds_of(options.wait, "--wait")
    async with access(where_of(options)) as at:
        # What was moved comes before the controller, into a store that nobody has used.
        await trusted_store(at, options, writes=not options.dry_run, new=options.moved)
        scan, bounds = Scan(), bounds_of(at, options)
        planned, more = await _plan(at, scan, bounds, options, by=by)
        if not options.object and not scan.objects and await report_missing(at, options):
            return ABSENT
        for one in planned:
            _write_plan(one, options, by=by)
        if more:
            write_remark(f"{more} more are left for the next run; run it again")
        found = len(planned) + more
        left_alone = sum(one.left_alone for one in planned)
        if options.dry_run or not planned:
            summary = {"found": found, "leftAlone": left_alone, "dryRun": options.dry_run}
            _write_summary(summary, options)
            return DIFFERENT if planned else OK
        # An owner that is yet to start does its part later.
        wait = None if options.moved else wait
        done, wrong = await _carry_out(at, scan, bounds, planned, by=by, wait=wait)
    for result in wrong:
        for kind, text in result.findings:
            write_remark(f"still {kind}: {result.joined.key} ({text})")
    failed = [repair for repair in done if repair.problem]
    for repair in failed:
        write_remark(f"{repair.result.joined.key}: {repair.problem}")
    repaired = len(done) - len(wrong) - len(failed)
    summary = {
        "found": found, "repaired": repaired, "leftAlone": left_alone,
        # What was left alone, put off, or had changed by then diverges as it did.
        "stillDiverging": found - repaired,
    }  # fmt: skip
    _write_summary(summary, options)
    return DIFFERENT if wrong or more or left_alone or failed else OK


async def _plan(
    at: Access, scan: Scan, bounds: Bounds, options: argparse.Namespace, *, by: str
) -> tuple[list[_Planned], int]:
    """Return what is to be repaired, and how many more are beyond the limit."""
    from syncer.cli.output import Progress
    from syncer.cli.repairs import Allowed, plan_repair
    from syncer.rules.divergence import Divergence

    allowed = Allowed(options.rebuild, options.accept_loss, options.unwitnessed or options.moved)
    classes = [Divergence.LOG_MISSING] if options.moved else options.classes
    planned: list[_Planned] = []
    more = 0
    with Progress("verified") as progress:
        async for result in _diverging(at, scan, bounds, options, progress):
            wanted = result.only(classes)
            if not wanted.findings:
                continue
            if len(planned) >= LIMIT and not options.moved:
                more += 1
                continue
            steps = plan_repair(
                wanted.joined, wanted.findings, allowed=allowed, now=await at.now(), by=by
            )
            planned.append(_Planned(wanted, steps))
    return planned, more


async def _diverging(
    at: Access, scan: Scan, bounds: Bounds, options: argparse.Namespace, progress: Progress
) -> AsyncIterator[Result]:
    from syncer.cli.lookup import read_request
    from syncer.cli.namespaces import namespaces_of
    from syncer.cli.scan import Name, check_again, diverging

    if options.object:
        requests = [await read_request(at, key) for key in options.object]
        found = check_again(at, scan, bounds, [Name(r.uid, r.key) for r in requests])
    else:
        namespaces = await namespaces_of(at, options)
        found = diverging(at, scan, bounds, namespaces, progress, pause=options.pause)
    async for result in found:
        yield result


async def _carry_out(
    at: Access,
    scan: Scan,
    bounds: Bounds,
    planned: Sequence[_Planned],
    *,
    by: str,
    wait: float | None,
) -> tuple[list[Done], list[Result]]:
    """Return what was done, and what still diverges when the time to wait is over; None: no waiting."""
    from syncer.cli.output import Progress
    from syncer.cli.repairs import carry_out, wait_clean

    done: list[Done] = []
    with Progress("repaired", total=len(planned)) as progress:
        for one in planned:
            if not one.left_alone:
                done.append(await carry_out(at, one.result, one.steps, by=by))
            progress.step()
    if wait is None:
        return done, []
    touched = [one.result for one in done if not one.problem]
    return done, await wait_clean(at, scan, bounds, touched, seconds=wait)


def _write_plan(planned: _Planned, options: argparse.Namespace, *, by: str) -> None:
    from syncer.cli.output import write_json, write_lines
    from syncer.rules.text import plain

    joined, steps = planned.result.joined, planned.steps
    kinds = sorted({f.kind.value for f in planned.result.findings})
    if options.json:
        write_json(
            {
                "uid": joined.uid, "object": joined.key or None, "classes": kinds, "by": by,
                "steps": [{"act": s.act.value, "what": s.text} for s in steps],
                "dryRun": options.dry_run,
            }
        )  # fmt: skip
        return
    write_lines([f"{joined.key or '?'}  {joined.uid}  {' '.join(kinds)}"])
    verb = "would" if options.dry_run else "do"
    write_lines(f"  {'leave' if s.idle else verb}: {plain(s.text)}" for s in steps)


def _write_summary(summary: dict[str, Any], options: argparse.Namespace) -> None:
    from syncer.cli.output import write_json, write_lines

    if options.json:
        write_json({"summary": summary})
    elif not summary["found"]:
        write_lines(["nothing to repair"])
    else:
        write_lines([", ".join(f"{k} {v}" for k, v in summary.items())])
