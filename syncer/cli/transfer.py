"""
Export of logs from one store, and import into another.

An import reads the whole file before it writes anything. Then one script writes each log, and it only
ever adds: an existing log must be the beginning of the imported one or contain it; any other is left
alone and named. So an import may be repeated, and may be interrupted.

With `by_name` a log is given to the object that now has its name: objects that were created again in
another cluster have new uids, and without their logs they would all be sent again. Such a log has not
been published there, so it is imported with nothing marked as published. If a controller has already
begun a log for such an object, the two are different histories; `join` appends the attempts of the old
one to the new one, as facts, so that nothing that was delivered is sent again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TextIO

from syncer.cli.access import Access
from syncer.cli.export_format import FORMAT, Counts, Json, Log, lines_of
from syncer.cli.output import Progress
from syncer.cli.scan import PAGE, Scan, objects, read_logs
from syncer.ledger.answers import Answer, Restored
from syncer.ledger.reading import read_log
from syncer.model.attempt import AttemptState, FailureClass
from syncer.model.errors import ContractError
from syncer.model.record import Header, attempt_record
from syncer.model.resource import NotificationRequest
from syncer.rules.text import escaped_json


async def export(
    at: Access, namespaces: Sequence[str], uids: Sequence[str], out: TextIO, progress: Progress
) -> Counts:
    """
    Write logs as JSON lines.

    Args:
        at: Open connections.
        namespaces: Only logs of objects in these; empty for all.
        uids: Only these logs; empty for all.
        out: Where to.
        progress: Counts each log.

    Raises:
        PortError: Redis does not answer; the file then lacks its last line and is not a whole export.
    """
    counts = Counts()

    def write(line: Json) -> None:
        out.write(escaped_json(json.dumps(line, ensure_ascii=False, separators=(",", ":"))) + "\n")

    await at.client.probe()
    store = at.client.server.store if at.client.server else ""
    write({"format": FORMAT, "prefix": at.client.prefix, "store": store, "at": await at.now()})
    seen = Scan()
    async for page in _pages(at, uids):
        fresh = [uid for uid in page if seen.see(uid)]
        for joined in await read_logs(at, [(uid, None) for uid in fresh]):
            if not joined.elements:
                continue
            if namespaces and joined.key.partition("/")[0] not in namespaces:
                continue
            for line in lines_of(joined.uid, joined.elements, joined.ttl):
                write(line)
            counts.logs += 1
            counts.records += len(joined.elements) - 1
            progress.step()
    write({"end": True, "logs": counts.logs, "records": counts.records})
    return counts


async def _pages(at: Access, uids: Sequence[str]) -> AsyncIterator[list[str]]:
    if uids:
        for start in range(0, len(uids), PAGE):
            yield list(uids[start : start + PAGE])
        return
    async for page in at.log.scan():
        yield page


class Apart(NamedTuple):
    """A log that holds another history, and the first position that differs."""

    uid: str
    position: int


@dataclass(slots=True)
class Imported:
    """
    The result of an import.

    Attributes:
        created: Logs that were not there.
        extended: Logs that were the beginning of the imported one.
        present: Logs that held everything already.
        joined: Logs with another history, to which the attempts were appended.
        apart: Uids of logs that hold another history, each with the first position that differs.
        nameless: Names in logs that no object has now (`by_name` only).
        refused: Uids of logs that hold what cannot be read; they are not imported.
    """

    created: int = 0
    extended: int = 0
    present: int = 0
    joined: int = 0
    records: int = 0
    apart: list[Apart] = field(default_factory=list)
    nameless: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


async def objects_by_name(at: Access, namespaces: Sequence[str]) -> dict[str, NotificationRequest]:
    """Return objects by `namespace/name`, without their contents."""
    found: dict[str, NotificationRequest] = {}
    async for page in objects(at, Scan(), namespaces):
        for item in page:
            if isinstance(item, NotificationRequest):
                found[item.key] = replace(item, raw=b"")
    return found


async def import_logs(
    at: Access,
    logs: Iterable[Log],
    progress: Progress,
    *,
    named: Mapping[str, NotificationRequest] | None = None,
    join: bool = False,
    dry_run: bool = False,
) -> Imported:
    """
    Write the logs of a file that was read to its end before.

    Args:
        at: Open connections.
        logs: Of the file.
        progress: Counts each log.
        named: Objects by name, to give each log to who bears its name now; None keeps uids.
        join: Where a log holds another history, append to it what is known of attempts there.
        dry_run: Only report what would be done, as far as that is known without writing.

    Raises:
        PortError: Redis does not answer; importing again goes on from there.
    """
    imported = Imported()
    for log in logs:
        progress.step()
        if log.damaged or log.header is None:
            imported.refused.append(log.uid)
            continue
        place = _place(log, log.header, named)
        if place is None:
            imported.nameless.append(log.header.object)
            continue
        uid, elements = place
        (there,) = await read_logs(at, [(uid, None)])
        if dry_run:
            answer, records = _predicted(there.elements, elements)
        else:
            answer, records = await _restored(at, uid, elements, log.ttl)
        match answer:
            case Answer.OK if not there.elements:
                imported.created += 1
                imported.records += records
            case Answer.OK:
                imported.extended += 1
                imported.records += records
            case Answer.NOOP:
                imported.present += 1
            case _ if join and not dry_run and await _joined(at, uid, log):
                imported.joined += 1
                answer = Answer.OK
            case _:
                imported.apart.append(Apart(uid, records))
        if answer is Answer.OK and not dry_run:
            await at.log.wake_owner(uid)
    return imported


def _place(
    log: Log, header: Header, named: Mapping[str, NotificationRequest] | None
) -> tuple[str, tuple[bytes, ...]] | None:
    """Return the uid under which a log is written, and its elements; None if no object has its name."""
    if named is None:
        return log.uid, log.elements
    namesake = named.get(header.object)
    if namesake is None:
        return None
    if namesake.uid == log.uid:
        return log.uid, log.elements
    return namesake.uid, (replace(header, acked=0).encode(), *log.elements[1:])


async def _joined(at: Access, uid: str, log: Log) -> bool:
    """Append the attempts of a log to another history; False if that cannot take them."""
    name = log.header.object if log.header is not None else ""
    for attempt in read_log(log.elements).view.attempts.values():
        known = attempt
        if attempt.open:
            # Its sender is gone.
            known = replace(
                attempt, state=AttemptState.UNKNOWN, ended=attempt.started,
                failure=FailureClass.UNCERTAIN,
                error="the log was moved before the result was recorded",
            )  # fmt: skip
        try:
            await at.log.outcome(uid, attempt_record(known, seed=True), None, name=name)
        except ContractError:
            return False
    return True


async def _restored(at: Access, uid: str, elements: Sequence[bytes], ttl: int) -> Restored:
    try:
        return await at.log.restore(uid, elements, ttl=max(0, ttl))
    except ContractError:
        # What is there is no log of this format; any other refusal shows nothing of it.
        return Restored(Answer.APART, 0)


def _predicted(there: Sequence[bytes], wanted: Sequence[bytes]) -> Restored:
    """Return what the script that restores a log would answer."""
    if not there:
        return Restored(Answer.OK, len(wanted) - 1)
    for position, (one, other) in enumerate(zip(there[1:], wanted[1:], strict=False), 1):
        if one != other:
            return Restored(Answer.APART, position)
    missing = len(wanted) - len(there)
    if missing > 0:
        return Restored(Answer.OK, missing)
    return Restored(Answer.NOOP, len(there) - 1)
