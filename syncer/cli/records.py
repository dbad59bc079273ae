"""One notification in its log, its fold and its status, side by side."""

from __future__ import annotations

from typing import Any

from syncer.cli.known import Known
from syncer.cli.output import table
from syncer.cli.screen import cut
from syncer.ledger.reading import Line
from syncer.model.attempt import Attempt, AttemptState
from syncer.model.times import format_time
from syncer.rules.merge import Facts, merge
from syncer.rules.text import plain


def as_json(found: Known) -> dict[str, Any]:
    """Return it as one JSON object; the keys are an interface."""
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
    if line.record is None:
        return {"position": line.position, "error": line.error}
    record = line.record
    return {
        "position": line.position,
        "kind": record.kind.value,
        "id": record.id,
        "channel": record.channel,
        "chain": record.chain,
        **record.body,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": attempt.id, "channel": attempt.channel, "state": attempt.state.word,
    }  # fmt: skip
    if attempt.number:
        out["attempt"] = attempt.number
    if attempt.ended:
        out["ended"] = format_time(attempt.ended)
    if attempt.failure:
        out["class"] = attempt.failure.value
    if attempt.error:
        out["error"] = attempt.error
    return out


def as_text(found: Known, width: int = 0) -> list[str]:
    """Return it as lines for a person; tables take `width` columns, 0 for any number."""
    out = [f"{found.key}  uid {found.uid}", ""]
    header = found.log.header if found.log is not None else None
    if found.unread:
        out.append(f"LOG     not read: {found.unread}")
    elif header is None and not found.lines:
        out.append("LOG     none")
    elif header is not None:
        expiry = f"expires in {found.ttl} s" if found.ttl >= 0 else "kept"
        out.append(
            f"LOG     {len(found.lines)} records, epoch {header.epoch}, published up to"
            f" {header.acked}, {expiry}"
        )
    rows: list[tuple[str, ...]] = [("#", "kind", "id", "channel", "time", "detail")]
    rows += [_row(line) for line in found.lines]
    out += table(rows, indent="  ", width=width) if len(rows) > 1 else []
    shown = {a.id: a for a in found.request.status.attempts} if found.request else {}
    out += ["", "ATTEMPTS"]
    attempts: list[tuple[str, ...]] = [("id", "channel", "no", "log", "status", "")]
    for identity in dict.fromkeys([*found.view.attempts, *shown]):
        logged, seen = found.view.attempts.get(identity), shown.get(identity)
        either = logged or shown[identity]
        attempts.append((
            identity, either.channel, str(seen.number) if seen else "-",
            logged.state.word if logged else "-", seen.state.word if seen else "-",
            "log not read" if found.unread else _remark(logged, seen, found.compared),
        ))  # fmt: skip
    out += table(attempts, indent="  ", width=width) if len(attempts) > 1 else ["  none"]
    out.append("")
    if found.request is None:
        out.append(f"STATUS  not read: {found.object_problem}")
    else:
        status = found.request.status
        out.append(
            f"STATUS  {status.phase or '(none)'}  {status.reason}  {status.message}".rstrip()
        )
        if found.journaled:
            out.append(
                f"JOURNAL attempts were recorded here first, in the outage {found.journaled}"
            )
        if not found.unread:
            out.append(f"FOLD    {_phase(found)}")
    out.append("")
    out += [f"! {d}" for d in found.differences]
    if not found.compared:
        unread = "log" if found.unread else "status"
        out.append(f"log and status were not compared: the {unread} was not read")
    elif not found.differences:
        out.append("log and status agree")
    # What a creator, a receiver or a colleague wrote is among it.
    return [plain(line) for line in out]


def _remark(logged: Attempt | None, seen: Attempt | None, compared: bool) -> str:
    if logged is not None and logged.state is AttemptState.INTENT:
        return "open: being sent, or its sender is gone"
    if logged is None:
        return "only in the status"
    if not compared:
        return "status not read"
    if seen is None:
        return "not published yet"
    return "" if logged.state is seen.state else "differs"


def _row(line: Line) -> tuple[str, ...]:
    if line.record is None:
        return (str(line.position), "?", "", "", "", line.error)
    record = line.record
    body = dict(record.body)
    at = int(body.pop("at", 0))
    detail = "  ".join(f"{k}={cut(str(v).replace(chr(10), ' '), 80)}" for k, v in body.items())
    return (
        str(line.position), record.kind.value, record.id, record.channel, format_time(at), detail,
    )  # fmt: skip
