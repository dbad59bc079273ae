"""
The commands: options in, an answer on standard output and an exit code out.

Each one connects, asks the module that knows, and shows what it said. Nothing is decided here but which
exit code an answer has: 0 if all is as it should be, 1 if something is not, or was refused.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import quote

from syncer.cli import doctor as health
from syncer.cli.access import Access, Where, access, whoami
from syncer.cli.advice import ADVICE
from syncer.cli.explain import Rules, explain
from syncer.cli.explain import as_json as explanation_json
from syncer.cli.explain import as_text as explanation_text
from syncer.cli.listing import HEAD, Filter, Row, rows
from syncer.cli.manual import Said, Told, append, orders, reason_of, verdicts
from syncer.cli.output import Columns, Progress, note, say, say_json, table
from syncer.cli.owner import look_around
from syncer.cli.repair import Act, Allowed, Done, Step, perform, plan_repair, wait_clean
from syncer.cli.scan import Result, Scan, bounds_of, check_again, diverging
from syncer.cli.store import Store, Whose, check_store, told_home
from syncer.cli.transfer import bearers, bring_in, export, read_export
from syncer.configfile import parse_duration
from syncer.ledger.reading import read_log
from syncer.model.errors import ConfigError, Gone, PortError
from syncer.model.resource import NotificationRequest
from syncer.rules.divergence import VERIFIED, Divergence
from syncer.rules.fold import ReadLog
from syncer.rules.plan import Finish
from syncer.rules.text import plain
from syncer.rules.verification import Bounds

OK: Final = 0
FOUND: Final = 1
ABSENT: Final = 3
NOT_COMPARED: Final = 5
_TIMEOUT: Final = 10.0

#: Namespace of a pod's own account.
_HOME: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

#: Whole days at the beginning of a span of time.
_DAYS: Final = re.compile(r"([0-9]{1,4})d")

Options = argparse.Namespace


class Absent(Exception):
    """There is no such notification."""


def where_of(options: Options) -> Where:
    """Where the command line says to look."""
    return Where(options.config, options.redis_url, options.key_prefix, options.kubeconfig)


async def _trusted(
    at: Access, options: Options, *, writes: bool = False, new: bool = False
) -> Store:
    """
    Whose store it is, before anything in it is believed or written.

    Args:
        at: Where.
        options: Of the command.
        writes: Something is to be written: then it must be known.
        new: A store that no controller has used is good enough.

    Raises:
        ConfigError: it is somebody else's, or not known well enough for what is to be done.
        PortError: Redis does not answer.
    """
    found = await check_store(at, home=told_home())
    if found.whose is Whose.NEW and not new:
        raise ConfigError(found.text)
    if found.whose is Whose.UNCHECKED and writes and not options.unchecked_store:
        note(f"{found.remark}; nothing is written (--unchecked-store writes all the same)")
        raise found.error or ConfigError(f"the API server is needed: {at.problem}")
    if found.remark:
        note(found.remark)
    return found


async def _nowhere(at: Access, options: Options) -> bool:
    """Whether a namespace that was named is not there; it is told."""
    missing = []
    for name in getattr(options, "namespace", None) or ():
        if at.kube is None:
            break
        try:
            await at.kube.request(
                "GET", f"/api/v1/namespaces/{quote(name, safe='')}", timeout=_TIMEOUT
            )
        except Gone:
            missing.append(name)
        except PortError:
            # Who may list objects in a namespace need not be allowed to read it.
            continue
    for name in missing:
        note(f"there is no namespace {plain(name)!r}")
    return bool(missing)


async def _object(at: Access, key: str) -> NotificationRequest:
    namespace, _, name = key.partition("/")
    if not (namespace and name):
        raise ConfigError(f"NAMESPACE/NAME expected, not {plain(key)!r}")
    try:
        return await at.objects.get(namespace, name)
    except Gone:
        raise Absent(f"there is no object {key}") from None


async def _both(at: Access, key: str) -> tuple[NotificationRequest, ReadLog]:
    """The object, and its log read after it."""
    request = await _object(at, key)
    return request, read_log(await at.log.elements(request.uid))


def _rules(at: Access, options: Options) -> Rules:
    said = at.settings.delivery
    return Rules(said.at_most_once, said.paused, said.max_age, known=options.config is not None)


async def _watched(at: Access, options: Options) -> tuple[str, ...]:
    """
    Namespaces to look at; empty for all.

    What was named, else what the settings file has the controller watch: an account that may see these
    often may see no others.
    """
    named = getattr(options, "namespace", None) or ()
    if named or options.config is None:
        return tuple(named)
    said = at.settings.controller.namespaces
    if said == "*":
        return ()
    home = "" if said else await _home()
    return tuple(said) or ((home,) if home else ())


async def _home() -> str:
    """The controller's own namespace, as its pod is told it; empty elsewhere."""
    named = os.environ.get("KUBERNAUT_CONTROLLER_NAMESPACE", "").strip()
    return named or await asyncio.to_thread(_own_namespace)


# -- looking --------------------------------------------------------------------------------------


async def list_(options: Options) -> int:
    """`syncer list`."""
    wanted = Filter(
        phases=tuple(p.lower() for p in options.phase or ()),
        name=options.name or "",
        older=round(_seconds(options.older_than, "--older-than") * 1000),
        unsynced=options.unsynced,
        unknown=options.unknown,
        quarantined=options.quarantined,
        held=options.held,
    )
    shown = 0
    unread: list[str] = []
    async with access(where_of(options)) as at:
        store = await _trusted(at, options, new=True)
        now = await at.now()
        columns = Columns(HEAD)
        with Progress("objects") as progress:
            where = await _watched(at, options)
            found = rows(at, wanted, where, progress, now=now, unread=unread)
            async with aclosing(found) as pages:
                async for page in pages:
                    chosen = page[: options.limit - shown] if options.limit else page
                    shown += len(chosen)
                    _tell_rows(chosen, columns, options, now=now)
                    if options.limit and shown >= options.limit:
                        break
        absent = not progress.done and await _nowhere(at, options)
    if not shown and not absent:
        among = f" in {', '.join(where)}" if where else ""
        note(f"none of {progress.done} notification(s){plain(among)} is wanted")
    for text in unread:
        note(f"not listed: {text}")
    if absent:
        return ABSENT
    return NOT_COMPARED if unread or store.whose is Whose.NEW else OK


def _tell_rows(chosen: Sequence[Row], columns: Columns, options: Options, *, now: int) -> None:
    if options.json:
        for row in chosen:
            say_json(row.as_json())
    elif chosen:
        say(columns.lines([row.cells(now) for row in chosen]))


async def explain_(options: Options) -> int:
    """`syncer explain`."""
    async with access(where_of(options)) as at:
        home = told_home()
        store = await check_store(at, home=home)
        request, log = await _both(at, options.object)
        around = await look_around(
            at, store, namespace=request.namespace, uid=request.uid, home=home
        )
        found = explain(request, log, _rules(at, options), now=await at.now(), around=around)
    if options.json:
        say_json(explanation_json(found))
    else:
        say(explanation_text(found))
    if log.problem or found.blocked:
        return FOUND
    # What has ended needs no owner.
    needed = not isinstance(found.decision, Finish)
    return NOT_COMPARED if needed and around.holder is None else OK


async def verify(options: Options) -> int:
    """`syncer verify`."""
    counts: Counter[Divergence] = Counter()
    notifications = 0
    async with access(where_of(options)) as at:
        await _trusted(at, options)
        scan, bounds = Scan(), _bounds(at, options)
        rows_: list[Sequence[str]] = [("NOTIFICATION", "UID", "CLASS", "WHAT")]
        with Progress("verified") as progress:
            where = await _watched(at, options)
            found = diverging(at, scan, bounds, where, progress, pause=options.pause)
            async for result in found:
                mine = [f for f in result.findings if _wanted(f.kind, options)]
                notifications += bool(mine)
                for finding in mine:
                    counts[finding.kind] += 1
                    if options.json:
                        say_json(_finding(result, finding.kind, finding.text))
                    else:
                        joined = result.joined
                        rows_.append((joined.key or "?", joined.uid, finding.kind, finding.text))
        if not scan.objects and await _nowhere(at, options):
            return ABSENT
    summary = {
        "objects": scan.objects,
        "logs": scan.logs,
        "records": scan.records,
        "diverging": notifications,
        "classes": {kind.value: n for kind, n in sorted(counts.items())},
    }
    if options.json:
        say_json({"summary": summary})
        return FOUND if counts else OK
    if counts:
        say(table(rows_))
        say([""])
        say(f"{kind}: {ADVICE[kind]}" for kind in VERIFIED if kind in counts)
    walked = f"{scan.objects} objects, {scan.logs} logs, {scan.records} records"
    say([f"{walked}: {notifications or 'none'} diverging"])
    return FOUND if counts else OK


def _finding(result: Result, kind: Divergence, text: str) -> dict[str, Any]:
    return {
        "uid": result.joined.uid,
        "object": result.joined.key or None,
        "class": kind.value,
        "remedy": kind.remedy.value,
        "what": text,
    }


def _wanted(kind: Divergence, options: Options) -> bool:
    return not options.cls or kind.value in options.cls


def _bounds(at: Access, options: Options) -> Bounds:
    return bounds_of(
        at,
        settle=_seconds(options.settle, "--settle"),
        stuck=_seconds(options.stuck, "--stuck"),
    )


async def doctor(options: Options) -> int:
    """`syncer doctor`."""
    where = where_of(options)
    loaded = where.load()
    home = options.controller_namespace or await _home()
    async with access(where) as at:
        checks = await health.examine(
            at,
            warnings=loaded.warnings,
            given=options.config is not None,
            namespaces=await _watched(at, options),
            home=home,
            account=options.service_account or "",
        )
    if options.json:
        for check in checks:
            say_json(
                {
                    "check": check.name, "grade": check.grade.value, "found": check.text,
                    "fix": check.fix or None,
                }
            )  # fmt: skip
    else:
        for check in checks:
            say([f"{check.grade.value:<8}{check.name:<20}{plain(check.text)}"])
            if check.fix:
                say([f"{'':<28}fix: {check.fix}"])
        grades = Counter(c.grade for c in checks)
        say([", ".join(f"{grades[g]} {g.value}" for g in health.Grade)])
    return FOUND if any(c.grade is health.Grade.FAIL for c in checks) else OK


def _own_namespace() -> str:
    try:
        return _HOME.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


# -- mending --------------------------------------------------------------------------------------


async def repair(options: Options) -> int:
    """`syncer repair`."""
    allowed = Allowed(options.rebuild, options.accept_loss)
    by = whoami(options.by)
    async with access(where_of(options)) as at:
        await _trusted(at, options, writes=not options.dry_run)
        scan, bounds = Scan(), _bounds(at, options)
        chosen, more = await _chosen(at, scan, bounds, options)
        todo = [
            (v, plan_repair(v.joined, v.findings, allowed=allowed, now=now, by=by))
            for v, now in chosen
        ]
        if not options.object and not scan.objects and await _nowhere(at, options):
            return ABSENT
        left_alone = sum(all(s.act is Act.NOTHING for s in steps) for _, steps in todo)
        for result, steps in todo:
            _tell_plan(result, steps, options, by=by)
        if more:
            note(f"{more} more are beyond --limit {options.limit}; run it again for them")
        if options.dry_run or not todo:
            found = len(todo) + more
            _tell_sum(options, {"found": found, "leftAlone": left_alone, "dryRun": options.dry_run})
            return FOUND if todo else OK
        if not options.yes and sys.stdin.isatty() and not await _agreed(len(todo) - left_alone):
            return FOUND
        done, wrong = await _carry_out(at, scan, bounds, todo, options, by=by)
    for result in wrong:
        for finding in result.findings:
            note(f"still {finding.kind}: {result.joined.key} ({finding.text})")
    for one in done:
        if one.problem:
            note(f"{one.result.joined.key}: {one.problem}")
    repaired = len(done) - len(wrong) - sum(bool(d.problem) for d in done)
    found = len(todo) + more
    _tell_sum(
        options,
        {
            "found": found, "repaired": repaired, "leftAlone": left_alone,
            # What was left alone, put off, or had changed by then diverges as it did.
            "stillDiverging": found - repaired,
        },
    )  # fmt: skip
    clean = not (wrong or more or left_alone or any(d.problem for d in done))
    return OK if clean else FOUND


async def _chosen(
    at: Access, scan: Scan, bounds: Bounds, options: Options
) -> tuple[list[tuple[Result, int]], int]:
    """What is to be repaired and when it was looked at; how many more are beyond the limit."""
    chosen: list[tuple[Result, int]] = []
    more = 0
    with Progress("verified") as progress:
        async for result in _to_repair(at, scan, bounds, options, progress):
            mine = tuple(f for f in result.findings if _wanted(f.kind, options))
            if not mine:
                continue
            if options.limit and len(chosen) >= options.limit:
                more += 1
                continue
            chosen.append((Result(result.joined, mine), await at.now()))
    return chosen, more


async def _to_repair(
    at: Access, scan: Scan, bounds: Bounds, options: Options, progress: Progress
) -> AsyncIterator[Result]:
    if options.object:
        named = []
        for key in options.object:
            request = await _object(at, key)
            named.append((request.uid, request.key))
        async for result in check_again(at, scan, bounds, named):
            yield result
        return
    where = await _watched(at, options)
    async for result in diverging(at, scan, bounds, where, progress, pause=options.pause):
        yield result


async def _carry_out(
    at: Access,
    scan: Scan,
    bounds: Bounds,
    todo: Sequence[tuple[Result, tuple[Step, ...]]],
    options: Options,
    *,
    by: str,
) -> tuple[list[Done], list[Result]]:
    done: list[Done] = []
    with Progress("repaired", total=len(todo)) as progress:
        for result, steps in todo:
            if any(s.act is not Act.NOTHING for s in steps):
                done.append(await perform(at, result, steps, by=by))
            progress.step()
    touched = [d.result for d in done if not d.problem]
    seconds = _seconds(options.wait, "--wait")
    return done, await wait_clean(at, scan, bounds, touched, seconds=seconds)


async def _agreed(count: int) -> bool:
    sys.stderr.write(f"Repair {count} notification(s)? [y/N] ")
    sys.stderr.flush()
    answer = await asyncio.to_thread(sys.stdin.readline)
    return answer.strip().lower() in {"y", "yes"}


def _tell_plan(result: Result, steps: Sequence[Step], options: Options, *, by: str) -> None:
    kinds = sorted({f.kind.value for f in result.findings})
    joined = result.joined
    if options.json:
        say_json(
            {
                "uid": joined.uid, "object": joined.key or None, "classes": kinds, "by": by,
                "steps": [{"act": s.act.value, "what": s.text} for s in steps],
                "dryRun": options.dry_run,
            }
        )  # fmt: skip
        return
    say([f"{joined.key or '?'}  {joined.uid}  {' '.join(kinds)}"])
    verb = {Act.NOTHING: "leave"}
    say(
        f"  {verb.get(s.act, 'would' if options.dry_run else 'do')}: {plain(s.text)}" for s in steps
    )


def _tell_sum(options: Options, summary: dict[str, Any]) -> None:
    if options.json:
        say_json({"summary": summary})
    elif not summary["found"]:
        say(["nothing to repair"])
    else:
        say([", ".join(f"{k} {v}" for k, v in summary.items())])


async def resolve(options: Options) -> int:
    """`syncer resolve`."""
    why = reason_of(options.reason)
    by = whoami(options.by)
    async with access(where_of(options)) as at:
        await _trusted(at, options, writes=not options.dry_run)
        request, log = await _both(at, options.object)
        said = verdicts(
            log,
            attempt=options.attempt or "",
            channel=options.channel or "",
            delivered=options.verdict == "delivered",
            even_open=options.even_open,
            at=await at.now(),
            by=by,
            why=why,
        )
        return await _append(at, request, said, options, by=by)


async def resend(options: Options) -> int:
    """`syncer resend`."""
    why = reason_of(options.reason)
    by = whoami(options.by)
    async with access(where_of(options)) as at:
        await _trusted(at, options, writes=not options.dry_run)
        request, log = await _both(at, options.object)
        said = orders(
            request,
            log,
            channels=tuple(options.channel or ()),
            at_most_once=at.settings.delivery.at_most_once,
            at=await at.now(),
            by=by,
            why=why,
        )
        return await _append(at, request, said, options, by=by)


async def _append(
    at: Access,
    request: NotificationRequest,
    said: tuple[Said, ...],
    options: Options,
    *,
    by: str,
) -> int:
    told = [Told(s, True) for s in said] if options.dry_run else await append(at, request.uid, said)
    for one in told:
        record, stands = one.said.record, one.stands
        if options.json:
            say_json(
                {
                    "uid": request.uid, "object": request.key, "record": record.id,
                    "kind": record.kind.value, "channel": record.channel, "by": by,
                    "what": one.said.text, "appended": one.fresh and not options.dry_run,
                    "stands": stands.word if stands is not None else None,
                    "dryRun": options.dry_run,
                }
            )  # fmt: skip
        elif stands is not None:
            say([f"not recorded: {plain(one.said.text)}; by now it is {stands.word}, which stands"])
        else:
            word = "recorded" if one.fresh else "already said"
            say([f"{'would record' if options.dry_run else word}: {plain(one.said.text)}"])
    return FOUND if any(one.stands is not None for one in told) else OK


# -- moving ---------------------------------------------------------------------------------------


async def export_(options: Options) -> int:
    """`syncer export`."""
    try:
        async with access(where_of(options), cluster=False) as at:
            with _output(options.output) as out, Progress("exported") as progress:
                counts = await export(at, options.namespace or (), options.uid or (), out, progress)
                out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"cannot write {options.output or 'the export'}: {reason}") from None
    note(f"{counts.logs} logs with {counts.records} records")
    return OK


def _output(path: str | None) -> Any:
    if path in {None, "-"}:
        return nullcontext(sys.stdout)
    # Texts of receivers are in it: one that is made is for this user alone.
    return open(str(path), "w", encoding="utf-8", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


async def import_(options: Options) -> int:
    """`syncer import`."""
    path = Path(options.file)
    try:
        with _reading(path) as file:
            total = sum(1 for _ in read_export(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {type(error).__name__}") from None
    async with access(where_of(options)) as at:
        await _trusted(at, options, writes=not options.dry_run, new=True)
        named = await bearers(at, await _watched(at, options)) if options.by_name else None
        with _reading(path) as file, Progress("imported", total=total) as progress:
            came = await bring_in(
                at, read_export(file), progress, named=named, join=options.join,
                dry_run=options.dry_run,
            )  # fmt: skip
    for uid, position in came.apart:
        note(f"another history from record {position} on, left alone: {uid}")
    for name in came.nameless:
        note(f"no object bears the name now: {plain(name)}")
    for uid in came.refused:
        note(f"damaged in the export, not imported: {uid}")
    summary = {
        "logs": total, "created": came.created, "extended": came.extended,
        "present": came.present, "joined": came.joined, "records": came.records,
        "apart": len(came.apart), "nameless": len(came.nameless), "refused": len(came.refused),
        "dryRun": options.dry_run,
    }  # fmt: skip
    if options.json:
        say_json({"summary": summary})
    else:
        say([", ".join(f"{k} {v}" for k, v in summary.items())])
    return FOUND if came.apart or came.nameless or came.refused else OK


def _reading(path: Path) -> TextIO:
    return path.open("r", encoding="utf-8")


def _seconds(text: str, option: str) -> float:
    """A span of time in seconds: as in the settings file, and with days in front (`3d`, `1d12h`)."""
    days = _DAYS.match(text.strip())
    rest = text.strip()[days.end() :] if days else text
    try:
        more = parse_duration(rest) if rest or not days else 0.0
        return more + (86_400 * int(days[1]) if days else 0)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}, or 3d") from None


HANDLERS: Final[dict[str, Callable[[Options], Awaitable[int]]]] = {
    "list": list_,
    "explain": explain_,
    "verify": verify,
    "repair": repair,
    "resolve": resolve,
    "resend": resend,
    "export": export_,
    "import": import_,
    "doctor": doctor,
}
