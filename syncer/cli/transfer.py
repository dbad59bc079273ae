"""
Logs as JSON lines, out of one store and into another, without a gap and with every chain checked.

An export is a line about itself, then for each log a line with its header and one line for each record,
in words and numbers, then a line that says how many there were. What cannot be rendered so that it reads
back as the very same bytes is written as base64 instead, so a log that is damaged travels as it is, too.

An import reads the whole file before it writes anything: positions without a gap, checksums, chains, and
the counts of the last line, by which a file that was cut off is told. Each log is then written by one
script that only ever adds: a log that is there must be the beginning of the imported one or hold it; any
other is left alone and named. So an import may be repeated, and may end half-way.

With `by_name` a log is given to the object that now bears its name: objects that were created anew in
another cluster have new uids, and without their logs they would all be sent again. Such a log has not
been published there, so it is imported with nothing marked as published. Where a controller has already
begun a log for such an object, the two are other histories; `join` appends the attempts of the old one to
the new one, as facts, so that nothing that was delivered is sent again.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TextIO

from syncer.cli.access import Access
from syncer.cli.output import Progress
from syncer.cli.scan import PAGE, Scan, objects, read_logs
from syncer.ledger.codec import decode_header, decode_record, encode_element
from syncer.ledger.log import WRONG_TYPE, Answer
from syncer.ledger.reading import read_log
from syncer.model.attempt import AttemptState, FailureClass
from syncer.model.errors import ContractError, LedgerError, Rejected
from syncer.model.record import Header, Kind, Record, attempt_record
from syncer.model.resource import NotificationRequest
from syncer.rules.fold import ROOT_CHAIN
from syncer.rules.text import escaped_json

FORMAT: Final = "notification-ledger-export/1"
#: Characters in a line; a record's own text is bounded far below.
_LONGEST: Final = 1 << 20

Json = dict[str, Any]


class BadExport(LedgerError):
    """A file is no whole export; names the line."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")


# -- out ------------------------------------------------------------------------------------------


def lines_of(uid: str, elements: Sequence[bytes], ttl: int) -> Iterator[Json]:
    """One log as JSON objects: its header's line, then one for each record."""
    head: Json = {"log": uid, "records": len(elements) - 1}
    if ttl >= 0:
        head["ttl"] = ttl
    header: Header | None = None
    with contextlib.suppress(ContractError):
        header = decode_header(elements[0])
    if header is not None and header.encode() == elements[0]:
        yield head | {
            "object": header.object, "epoch": header.epoch, "acked": header.acked,
            "audited": header.audited,
        }  # fmt: skip
    else:
        yield head | {"raw": _base64(elements[0])}
    chain = ROOT_CHAIN
    for position, element in enumerate(elements[1:], 1):
        line: Json = {"uid": uid, "position": position}
        try:
            record = decode_record(element, chain, position)
            same = encode_element(record, chain) == element
        except ContractError:
            yield line | {"raw": _base64(element)}
            chain = _chain_of(element) or chain
            continue
        if same:
            line |= {
                "kind": record.kind.value, "id": record.id, "channel": record.channel,
                "chain": record.chain, "body": record.body,
            }  # fmt: skip
        else:
            line["raw"] = _base64(element)
        yield line
        chain = record.chain


def _chain_of(element: bytes) -> str:
    parts = element.split(b" ", 5)
    return parts[4].decode("ascii", "replace") if len(parts) == 6 else ""


@dataclass(slots=True)
class Counts:
    """How much there was."""

    logs: int = 0
    records: int = 0


async def export(
    at: Access, namespaces: Sequence[str], uids: Sequence[str], out: TextIO, progress: Progress
) -> Counts:
    """
    Write logs as JSON lines.

    Args:
        at: Where from.
        namespaces: Only logs of objects in these; empty for all.
        uids: Only these logs; empty for all.
        out: Where to.
        progress: Told each log.

    Raises:
        PortError: Redis does not answer; the file then lacks its last line and is no whole export.
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
        for pair in await read_logs(at, [(uid, None) for uid in fresh]):
            if not pair.elements:
                continue
            if namespaces and pair.key.partition("/")[0] not in namespaces:
                continue
            for line in lines_of(pair.uid, pair.elements, pair.ttl):
                write(line)
            counts.logs += 1
            counts.records += len(pair.elements) - 1
            progress.step()
    write({"end": True, "logs": counts.logs, "records": counts.records})
    return counts


async def _pages(at: Access, uids: Sequence[str]) -> AsyncIterator[list[str]]:
    if uids:
        for start in range(0, len(uids), PAGE):
            yield list(uids[start : start + PAGE])
        return
    async for page in at.log.scan(page=PAGE):
        yield page


# -- in -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Log:
    """One log of an export; `damaged` if it holds what cannot be read."""

    uid: str
    elements: tuple[bytes, ...]
    ttl: int
    header: Header | None
    damaged: bool = False


def read_export(lines: Iterable[str]) -> Iterator[Log]:
    """
    Read an export, log by log; to check a file, exhaust it before anything is written.

    Raises:
        BadExport: it is none, or not whole, or something in it does not follow.
    """
    reader = _Reader()
    number = 0
    for number, text in enumerate(lines, 1):
        if reader.ended:
            raise BadExport(number, "something follows the last line")
        if len(text) > _LONGEST:
            raise BadExport(number, "the line is too long")
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            raise BadExport(number, "not JSON") from None
        if not isinstance(line, dict):
            raise BadExport(number, "not a JSON object")
        done = reader.take(number, line)
        if done is not None:
            yield done
    if not reader.ended:
        raise BadExport(number, "the last line is missing: the file was cut off")


@dataclass(slots=True)
class _Reader:
    """The state between lines."""

    begun: bool = False
    ended: bool = False
    counts: Counts = field(default_factory=Counts)
    uid: str = ""
    head: Json = field(default_factory=dict)
    header: Header | None = None
    elements: list[bytes] = field(default_factory=list)
    chain: str = ROOT_CHAIN
    damaged: bool = False

    def take(self, number: int, line: Json) -> Log | None:
        """Take a line up; returns the log that it ends."""
        if not self.begun:
            if line.get("format") != FORMAT:
                raise BadExport(number, f"not an export of format {FORMAT}")
            self.begun = True
            return None
        if "log" in line:
            done = self._finish(number)
            self._begin(number, line)
            return done
        if line.get("end") is True:
            done = self._finish(number)
            wanted = (line.get("logs"), line.get("records"))
            if wanted != (self.counts.logs, self.counts.records):
                raise BadExport(
                    number, f"{self.counts.logs} logs with {self.counts.records} records were read,"
                    " and the file speaks of others",
                )  # fmt: skip
            self.ended = True
            return done
        self._record(number, line)
        return None

    def _begin(self, number: int, line: Json) -> None:
        uid = line["log"]
        if not isinstance(uid, str) or not uid or set(uid) & set("{} \t\r\n"):
            raise BadExport(number, "the uid is none")
        self.uid, self.head, self.elements = uid, line, []
        self.chain, self.damaged, self.header = ROOT_CHAIN, False, None
        if "raw" in line:
            self.elements.append(_raw(number, line))
            self.damaged = True
            return
        try:
            text = (
                f"nl1 object={line['object']} epoch={line['epoch']} acked={int(line['acked'])}"
                f" audited={int(line['audited'])}"
            )
            self.header = decode_header(text.encode())
        except (KeyError, TypeError, ValueError, OverflowError, ContractError):
            raise BadExport(number, "the header is none of this format") from None
        self.elements.append(self.header.encode())

    def _record(self, number: int, line: Json) -> None:
        if not self.elements or line.get("uid") != self.uid:
            raise BadExport(number, "a record of no log, or of another one")
        position = len(self.elements)
        if line.get("position") != position:
            raise BadExport(number, f"position {position} is missing")
        if "raw" in line:
            element = _raw(number, line)
            try:
                # Sound, and only not written as this version would write it.
                self.chain = decode_record(element, self.chain, position).chain
            except ContractError:
                self.damaged = True
                self.chain = _chain_of(element) or self.chain
        else:
            element = self._encoded(number, line, position)
        self.elements.append(element)

    def _encoded(self, number: int, line: Json, position: int) -> bytes:
        try:
            body: dict[str, str | int] = dict(line["body"].items())
            record = Record(Kind(line["kind"]), str(line["id"]), str(line["channel"]), body)
            element = encode_element(record, self.chain)
            known = decode_record(element, self.chain, position)
        except (AttributeError, KeyError, TypeError, ValueError, ContractError):
            raise BadExport(number, "the record cannot be read") from None
        if known.chain != line.get("chain"):
            raise BadExport(number, "the chain does not follow from the record before")
        self.chain = known.chain
        return element

    def _finish(self, number: int) -> Log | None:
        if not self.elements:
            return None
        if len(self.elements) - 1 != self.head.get("records"):
            raise BadExport(number, f"the log before has {len(self.elements) - 1} record(s) only")
        self.counts.logs += 1
        self.counts.records += len(self.elements) - 1
        ttl = self.head.get("ttl", -1)
        if not isinstance(ttl, int):
            raise BadExport(number, "the time to live of the log before is no number")
        done = Log(self.uid, tuple(self.elements), ttl, self.header, self.damaged)
        self.elements = []
        return done


@dataclass(slots=True)
class Imported:
    """
    What came of an import.

    Attributes:
        created: Logs that were not there.
        extended: Logs that were the beginning of the imported one.
        present: Logs that held everything already.
        joined: Logs with another history, to which the attempts were appended.
        records: Records written.
        apart: Uids of logs that hold another history, each with the first position that differs.
        nameless: Objects of logs that nobody bears now (`by_name` only).
        refused: Uids of logs that hold what cannot be read; they are not imported.
    """

    created: int = 0
    extended: int = 0
    present: int = 0
    joined: int = 0
    records: int = 0
    apart: list[tuple[str, int]] = field(default_factory=list)
    nameless: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


async def bearers(at: Access, namespaces: Sequence[str]) -> dict[str, NotificationRequest]:
    """Objects by their names, without what they say."""
    found: dict[str, NotificationRequest] = {}
    async for page in objects(at, Scan(), namespaces):
        for item in page:
            if isinstance(item, NotificationRequest):
                found[item.key] = replace(item, raw=b"")
    return found


async def bring_in(
    at: Access,
    logs: Iterable[Log],
    progress: Progress,
    *,
    named: Mapping[str, NotificationRequest] | None = None,
    join: bool = False,
    dry_run: bool = False,
) -> Imported:
    """
    Write logs.

    Args:
        at: Where to.
        logs: Of a file that was read to its end before.
        progress: Told each log.
        named: Objects by name, to give each log to who bears its name now; None keeps uids.
        join: Where a log holds another history, append to it what is known of attempts there.
        dry_run: Only say what would be done, as far as that can be told without writing.

    Raises:
        PortError: Redis does not answer; importing again goes on from there.
    """
    came = Imported()
    for log in logs:
        progress.step()
        if log.damaged or log.header is None:
            came.refused.append(log.uid)
            continue
        place = _place(log, log.header, named)
        if place is None:
            came.nameless.append(log.header.object)
            continue
        uid, elements = place
        (there,) = await read_logs(at, [(uid, None)])
        if dry_run:
            answer, count = _foretold(there.elements, elements)
        else:
            answer, count = await _restored(at, uid, elements, log.ttl)
        match answer:
            case Answer.OK if not there.elements:
                came.created += 1
                came.records += count
            case Answer.OK:
                came.extended += 1
                came.records += count
            case Answer.NOOP:
                came.present += 1
            case _ if join and not dry_run and await _joined(at, uid, log):
                came.joined += 1
                answer = Answer.OK
            case _:
                came.apart.append((uid, count))
        if answer is Answer.OK and not dry_run:
            await at.log.wake_owner(uid)
    return came


def _place(
    log: Log, header: Header, named: Mapping[str, NotificationRequest] | None
) -> tuple[str, tuple[bytes, ...]] | None:
    """Under which uid a log is written, and as what; None if nobody bears its name."""
    if named is None:
        return log.uid, log.elements
    bearer = named.get(header.object)
    if bearer is None:
        return None
    if bearer.uid == log.uid:
        return log.uid, log.elements
    return bearer.uid, (replace(header, acked=0).encode(), *log.elements[1:])


async def _joined(at: Access, uid: str, log: Log) -> bool:
    """Append the attempts of a log to another history; False if that cannot take them."""
    name = log.header.object if log.header is not None else ""
    for attempt in read_log(log.elements).view.attempts.values():
        known = attempt
        if attempt.open:
            # Its sender is not there any more.
            known = replace(
                attempt, state=AttemptState.UNKNOWN, ended=attempt.started,
                failure=FailureClass.UNCERTAIN,
                error="the log was moved before the result was recorded",
            )  # fmt: skip
        try:
            await at.log.outcome(uid, attempt_record(known, seed=True), None, name=name)
        except ContractError:
            return False
        except Rejected as error:
            if error.reason != WRONG_TYPE:
                raise
            return False
    return True


async def _restored(
    at: Access, uid: str, elements: Sequence[bytes], ttl: int
) -> tuple[Answer, int]:
    try:
        return await at.log.restore(uid, elements, ttl=max(0, ttl))
    except ContractError:
        # What is there is no log of this format.
        return Answer.APART, 0
    except Rejected as error:
        # Any other refusal says nothing of what is there.
        if error.reason != WRONG_TYPE:
            raise
        return Answer.APART, 0


def _foretold(there: Sequence[bytes], wanted: Sequence[bytes]) -> tuple[Answer, int]:
    """What RESTORE would answer."""
    if not there:
        return Answer.OK, len(wanted) - 1
    for position, (one, other) in enumerate(zip(there[1:], wanted[1:], strict=False), 1):
        if one != other:
            return Answer.APART, position
    missing = len(wanted) - len(there)
    return (Answer.OK, missing) if missing > 0 else (Answer.NOOP, len(there) - 1)


def _base64(element: bytes) -> str:
    return base64.b64encode(element).decode("ascii")


def _raw(number: int, line: Json) -> bytes:
    try:
        return base64.b64decode(str(line["raw"]), validate=True)
    except (binascii.Error, ValueError):
        raise BadExport(number, "raw is not base64") from None
