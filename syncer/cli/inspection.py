"""
One notification in its log, its fold and its status, side by side.

Reads only: nothing is claimed and nothing is written, not even the store's metadata. The object names
the uid. If the API server does not answer, or the object is gone, the log is found by the name in its
header, so that it can also be read during an outage. What was not read was not compared, and the answer
says so: a log alone does not show whether the object agrees.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any, Final

from syncer.cli.access import Access
from syncer.cli.exits import ABSENT, DIFFERENT, NOT_COMPARED, OK
from syncer.cli.lookup import namespace_and_name
from syncer.cli.outage import now_here
from syncer.cli.output import table, write_json, write_lines, write_remark
from syncer.cli.screen import cut, screen_of
from syncer.cli.store import Store, StoreState
from syncer.kube.notification_requests import NotificationRequestClient
from syncer.ledger.log import RedisLog
from syncer.ledger.reading import Line, lines_of, read_log
from syncer.model.attempt import Attempt, AttemptState
from syncer.model.errors import ContractError, Gone, PortError, Unauthorised, Unavailable
from syncer.model.ports import ObjectClient
from syncer.model.record import Header
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.fold import LogView
from syncer.rules.merge import Facts, exceeds, lacking, merge
from syncer.rules.text import plain

#: Seconds to wait for the object, which the command can do without.
_OBJECT_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Inspection:
    """
    What was found.

    Attributes:
        request: The object, None if it is gone or could not be read.
        object_problem: Why there is no object here.
        header: Element 0, None if there is no log or it cannot be read.
        lines: Every record, readable or not.
        view: Fold of the readable prefix.
        ttl: Seconds until the log expires; -1 none, -2 no log.
        log_problem: Why the log was not read, empty if it was.
    """

    uid: str
    key: str
    request: NotificationRequest | None
    object_problem: str
    header: Header | None
    lines: tuple[Line, ...]
    view: LogView
    ttl: int
    log_problem: str = ""

    @property
    def compared(self) -> bool:
        """Whether log and status were both read."""
        return self.request is not None and not self.log_problem

    @property
    def journaled(self) -> str:
        """Name of the outage in which attempts were journaled in the status, empty without one."""
        return (self.request.status.journal or "") if self.request is not None else ""

    @property
    def differences(self) -> tuple[str, ...]:
        """Where log and status disagree; empty if they agree."""
        out = [f"record {line.position}: {line.error}" for line in self.lines if line.error]
        if self.request is None or self.log_problem:
            return tuple(out)
        status = self.request.status
        if self.header is None and status.attempts and not status.terminal:
            out.append("the object shows attempts but has no log")
        if self.header is not None:
            lost = lacking(self.view, status)
            journaled = ": it is journaled" if self.journaled else ""
            out += [f"attempt {a.id} is in the status and not in the log{journaled}" for a in lost]
            if exceeds(self.view, status):
                out.append("the log holds results that the status does not show yet")
        out += [
            f"attempt {a.id} on {a.channel} is open" for a in self.view.attempts.values() if a.open
        ]
        return tuple(out)


async def find_uid(log: RedisLog, key: str) -> str | None:
    """Return the uid of the newest log whose header has this name, None if there is none."""
    found: list[tuple[int, str]] = []
    async for uids in log.scan():
        for uid, head in zip(uids, await log.read_headers(uids), strict=True):
            if head.header is not None and head.header.object == key:
                # A log without an expiry belongs to an object that lives.
                found.append((head.ttl if head.ttl >= 0 else 1 << 40, uid))
    return max(found)[1] if found else None


async def inspect(
    log: RedisLog, store: ObjectClient | None, *, namespace: str, name: str
) -> Inspection | None:
    """
    Gather one notification.

    Args:
        log: The logs.
        store: The objects, None to look at the log alone.
        namespace: Of the object.
        name: Of the object.

    Returns:
        None if there is neither an object nor a log bears the name.

    Raises:
        PortError: Redis does not answer; or no log bears the name, and the API server does not say
            whether an object does.
    """
    key = f"{namespace}/{name}"
    request, problem = None, "not asked"
    unread: PortError | None = None
    if store is not None:
        try:
            request, problem = await store.get(namespace, name), ""
        except Gone:
            problem = "there is no such object"
        except PortError as error:
            problem, unread = str(error), error
        except ContractError as error:
            problem = f"it does not parse ({error})"
    uid = request.uid if request else await find_uid(log, key) or ""
    if not uid:
        if unread is not None:
            raise _unknown(key, unread)
        return None
    elements = await log.elements(uid)
    ((_, _, ttl),) = await log.read_headers([uid])
    read = read_log(elements)
    lines = lines_of(read, elements)
    return Inspection(uid, key, request, problem, read.header, lines, read.view, ttl)


async def inspect_object(
    store: ObjectClient, *, namespace: str, name: str, reason: str
) -> Inspection | None:
    """
    Gather what an object shows if its log cannot be read; None if there is no such object.

    Args:
        store: The objects.
        namespace: Of the object.
        name: Of the object.
        reason: Why the log was not read.

    Raises:
        PortError: the API server does not answer, or refuses.
    """
    try:
        request = await store.get(namespace, name)
    except Gone:
        return None
    return Inspection(
        request.uid, request.key, request, "", None, (), LogView(), -2, log_problem=reason
    )


def _unknown(key: str, unread: PortError) -> PortError:
    """The object could not be read, and no log bears its name: whether there is one is not known."""
    text = f"no log has the name {key}, and its object could not be read: {unread}"
    error: PortError = Unavailable(text)
    if isinstance(unread, Unauthorised):
        error = Unauthorised(text, reason=unread.reason)
    for line in getattr(unread, "__notes__", ()):
        error.add_note(line)
    return error


async def show_records(
    at: Access, store: Store, key: str, silent: str, options: argparse.Namespace
) -> int:
    """
    Show every record of a log, and compare it with its status; returns the exit code.

    Args:
        at: Open connections.
        store: The store, as far as it could be checked.
        key: `namespace/name`.
        silent: Why Redis is not read, empty if it is.
        options: Of the command.
    """
    namespace, name = namespace_and_name(key)
    objects = None
    if at.kube is None:
        write_remark(f"the API server is not used: {at.problem}")
    else:
        objects = NotificationRequestClient(at.kube, timeout=_OBJECT_TIMEOUT)
    if silent and objects is not None:
        found = await inspect_object(objects, namespace=namespace, name=name, reason=silent)
    else:
        found = await inspect(at.log, objects, namespace=namespace, name=name)
    if store.state is not StoreState.OURS:
        write_remark(store.remark)
    if found is None:
        what = "neither an object nor a log" if objects else "no log (objects were not asked)"
        write_remark(f"there is {what} {key}")
        return ABSENT if objects is not None else NOT_COMPARED
    now = now_here()
    if options.json:
        write_json(as_json(found, now=now))
    else:
        write_lines(as_text(found, now=now, width=screen_of(sys.stdout).width))
    if store.state is StoreState.NEW:
        return NOT_COMPARED
    if found.differences:
        return DIFFERENT
    return OK if found.compared else NOT_COMPARED


# -- showing --------------------------------------------------------------------------------------


def as_json(found: Inspection, *, now: int) -> dict[str, Any]:
    """Return the inspection as one JSON object; the keys are an interface."""
    request = found.request
    return {
        "uid": found.uid,
        "object": found.key,
        "log": None
        if found.header is None and not found.lines
        else {
            "epoch": found.header.epoch if found.header else "",
            "acked": found.header.acked if found.header else 0,
            "audited": found.header.audited if found.header else 0,
            "length": len(found.lines),
            "ttlSeconds": found.ttl,
            "records": [_record(line) for line in found.lines],
        },
        "fold": {
            "channels": list(found.view.plan.channels) if found.view.plan else [],
            "attempts": [_attempt(a) for a in found.view.attempts.values()],
            "phase": _phase(found, now),
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
        "logProblem": found.log_problem or None,
        "compared": found.compared,
        "differences": list(found.differences),
    }


def _phase(found: Inspection, now: int) -> str:
    if found.request is None or found.log_problem:
        return ""
    facts = Facts(found.request.generation, found.request.policy)
    return merge(found.request.status, found.view, facts, now=now).status.phase


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


def as_text(found: Inspection, *, now: int, width: int = 0) -> list[str]:
    """
    Return the inspection as lines for a person.

    Args:
        found: The inspection.
        now: Unix milliseconds.
        width: Columns that tables may take, 0 for any number.
    """
    out = [f"{found.key}  uid {found.uid}", ""]
    header = found.header
    if found.log_problem:
        out.append(f"LOG     not read: {found.log_problem}")
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
            "log not read" if found.log_problem else _remark(logged, seen, found.compared),
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
        if not found.log_problem:
            out.append(f"FOLD    {_phase(found, now)}")
    out.append("")
    out += [f"! {d}" for d in found.differences]
    if not found.compared:
        unread = "log" if found.log_problem else "status"
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
