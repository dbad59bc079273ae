"""
`syncer explain`: why a notification was sent, why not, what comes next and when.

With `--records` it shows the log, its fold and the status side by side, also if the object cannot be read.
A notification whose object was deleted is explained from its log, while that is kept.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any, Final

from syncer.cli import explanation
from syncer.cli.access import Access, access
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK, Absent
from syncer.cli.installation import StoreState, namespaces_of
from syncer.cli.known import Asker, Known, find_event, find_key, is_key, know
from syncer.cli.output import table, write_answer, write_remark
from syncer.ledger.reading import Line
from syncer.model.attempt import Attempt, AttemptState
from syncer.model.errors import ConfigError, LedgerError, Unauthorised, Unavailable
from syncer.model.times import format_time
from syncer.rules.merge import Facts, merge
from syncer.rules.plan import Finish
from syncer.rules.text import cut, plain

#: Seconds within which a server must answer.
_ANSWER: Final = 5.0
_UID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def run(options: argparse.Namespace) -> int:
    """Explain one notification; returns the exit code."""
    async with access(options) as at:
        found = await find(at, options)
    refused, explained = found.refused, found.explanation
    if found.gone and found.log is not None:
        explained = explanation.of_deleted(
            found.key, found.uid, found.log, now=found.now, ttl=found.ttl
        )
    if not found.uid and not (options.records and isinstance(refused, ConfigError)):
        raise _unknown(found)
    if refused is not None and not options.records:
        raise refused
    if options.records or explained is None:
        return _show_records(options, found)
    write_answer(
        explanation.as_json(explained), explanation.as_text(explained), as_json=options.json
    )
    if found.unread or found.gone:
        return NOT_COMPARED
    if explained.log.problem or explained.blocked:
        return DIFFERENT
    # A finished notification needs no owner.
    known = explained.owner.holder is not None or isinstance(explained.decision, Finish)
    return OK if known else NOT_COMPARED


async def find(at: Access, options: argparse.Namespace) -> Known:
    """Find the notification by its name, uid or event, or by a part of its name, subject or event."""
    asker, namespaces = Asker(_ANSWER, strict=True), namespaces_of(at, options)
    key, uid, found = options.object or "", "", None
    if options.event:
        key = await find_event(at, options.event.strip(), namespaces)
    elif _UID.fullmatch(key):
        (head,) = await at.log.read_headers([key])
        uid, key = (key, head.header.object) if head.header is not None else ("", key)
    if is_key(key):
        found = await know(at, key, asker, uid=uid)
    if found is None:
        # The key may be a part of a name; if several match, Absent lists them.
        found = await know(at, await find_key(at, key, namespaces), asker)
    if found is None:
        raise Absent(f"there is no object {key}")
    if uid not in ("", found.uid):
        raise Absent(f"{key} now names another object")
    return found


def _unknown(found: Known) -> LedgerError:
    """Return the error if neither object nor log can be shown, and it is not known whether they exist."""
    text = f"no log has the name {found.key}, or none is read; {'; '.join(found.missing)}"
    refused = found.refused
    if isinstance(refused, Unauthorised):
        return Unauthorised(text, reason=refused.reason)
    return refused if isinstance(refused, ConfigError) else Unavailable(text)


# -- records --------------------------------------------------------------------------------------


def _show_records(options: argparse.Namespace, found: Known) -> int:
    """Show every record of a log, and compare it with its status; returns the exit code."""
    if isinstance(found.refused, ConfigError):
        # The API server is not available.
        write_remark(f"objects were not read: {found.refused}")
        if not found.uid:
            write_remark(f"there is no log for {found.key}")
            return NOT_COMPARED
    write_remark("" if found.unread else found.store.remark)
    if not options.records:
        write_remark(f"{found.missing[0]}; this is its log")
    write_answer(as_json(found), map(plain, as_text(found)), as_json=options.json)
    if found.store.state is StoreState.NEW:
        return NOT_COMPARED
    return DIFFERENT if found.differences else OK if found.compared else NOT_COMPARED


def as_json(found: Known) -> dict[str, Any]:
    """Return the notification as one JSON object; the keys are an interface."""
    request, header = found.request, found.log.header if found.log is not None else None
    return {
        "uid": found.uid,
        "object": found.key,
        "log": None
        if header is None and not found.lines
        else {
            "epoch": header.epoch if header else "",
            "acked": header.acked if header else 0,
            "audited": header.audited if header else 0,
            "length": len(found.lines),
            "ttlSeconds": found.ttl,
            "records": [_record(line) for line in found.lines],
        },
        "fold": {
            "channels": list(found.view.plan.channels) if found.view.plan else [],
            "attempts": [_attempt(a) for a in found.view.attempts.values()],
            "phase": _phase(found),
        },
        "status": None
        if request is None
        else {
            "phase": request.status.phase,
            "reason": request.status.reason,
            "message": request.status.message,
            "totalAttempts": request.status.total_attempts,
            "attempts": [_attempt(a) for a in request.status.attempts],
            "resourceVersion": request.resource_version,
        },
        "journaled": found.journaled or None,
        "objectProblem": found.object_problem or None,
        "logProblem": found.unread or None,
        "compared": found.compared,
        "differences": list(found.differences),
    }


def _phase(found: Known) -> str:
    if found.request is None or found.unread:
        return ""
    facts = Facts(found.request.generation, found.request.policy)
    return merge(found.request.status, found.view, facts, now=found.now).status.phase


def _record(line: Line) -> dict[str, Any]:
    return {"position": line.position} | ({"error": line.error} if line.record is None else {
        "kind": line.record.kind.value, "id": line.record.id, "channel": line.record.channel,
        "chain": line.record.chain, **line.record.body,
    })  # fmt: skip


def _attempt(attempt: Attempt) -> dict[str, Any]:
    members = {
        "id": attempt.id, "channel": attempt.channel, "state": attempt.state.word,
        "attempt": attempt.number, "ended": format_time(attempt.ended),
        "class": attempt.failure and attempt.failure.value, "error": attempt.error,
    }  # fmt: skip
    return {key: value for key, value in members.items() if value}


def as_text(found: Known) -> Iterator[str]:
    """Yield the notification as lines for a person, with texts of creators, receivers and operators."""
    yield from (f"{found.key}  uid {found.uid}", "")
    header = found.log.header if found.log is not None else None
    if found.unread:
        yield f"LOG     not read: {found.unread}"
    elif header is not None:
        expiry = f"expires in {found.ttl} s" if found.ttl >= 0 else "kept"
        yield (
            f"LOG     {len(found.lines)} records, epoch {header.epoch}, published up to"
            f" {header.acked}, {expiry}"
        )
    elif not found.lines:
        yield "LOG     none"
    if found.lines:
        rows = [("#", "kind", "id", "channel", "time", "detail"), *map(_row, found.lines)]
        yield from table(rows, indent="  ")
    shown = {a.id: a for a in found.request.status.attempts} if found.request else {}
    logged = found.view.attempts
    attempts = [("id", "channel", "no", "log", "status", "")]
    for identity in dict.fromkeys([*logged, *shown]):
        ours, seen = logged.get(identity), shown.get(identity)
        attempts.append((
            identity, (ours or shown[identity]).channel, str(seen.number) if seen else "-",
            ours.state.word if ours else "-", seen.state.word if seen else "-",
            "log not read" if found.unread else _remark(ours, seen, found.compared),
        ))  # fmt: skip
    yield from ("", "ATTEMPTS")
    yield from table(attempts, indent="  ") if attempts[1:] else ["  none"]
    yield ""
    if found.request is None:
        yield f"STATUS  not read: {found.object_problem}"
    else:
        status = found.request.status
        yield f"STATUS  {status.phase or '(none)'}  {status.reason}  {status.message}".rstrip()
        if found.journaled:
            yield f"JOURNAL attempts were recorded here first, in the outage {found.journaled}"
        if not found.unread:
            yield f"FOLD    {_phase(found)}"
    yield ""
    yield from (f"! {text}" for text in found.differences)
    if not found.compared:
        unread = "log" if found.unread else "status"
        yield f"log and status were not compared: the {unread} was not read"
    elif not found.differences:
        yield "log and status agree"


def _remark(logged: Attempt | None, seen: Attempt | None, compared: bool) -> str:
    if logged is None:
        return "only in the status"
    if logged.state is AttemptState.INTENT:
        return "open: being sent, or its sender is gone"
    if not compared:
        return "status not read"
    if seen is None:
        return "not published yet"
    return "" if logged.state is seen.state else "differs"


def _row(line: Line) -> tuple[str, ...]:
    record = line.record
    if record is None:
        return (str(line.position), "?", "", "", "", line.error)
    body = dict(record.body)
    at = format_time(int(body.pop("at", 0)))
    detail = "  ".join(f"{k}={cut(str(v).replace(chr(10), ' '), 80)}" for k, v in body.items())
    return (str(line.position), record.kind.value, record.id, record.channel, at, detail)
