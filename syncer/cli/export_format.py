"""
The export format: logs as JSON lines, without a gap and with every chain checked.

An export is a line about itself, then for each log a line with its header and one line for each record,
in words and numbers, then a line with the counts. What cannot be rendered so that it reads back as the
very same bytes is written as base64 instead, so a damaged log is exported as it is, too. Reading checks
positions without a gap, checksums, chains, and the counts of the last line, which reveal a file that was
cut off.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from syncer.cli.exits import BadExport
from syncer.ledger.codec import decode_header, decode_record, encode_element
from syncer.model.errors import ContractError
from syncer.model.record import Header, Kind, Record
from syncer.rules.fold import ROOT_CHAIN

FORMAT: Final = "notification-ledger-export/1"
#: Characters in a line; a record's own text is bounded far below.
_LONGEST: Final = 1 << 20

Json = dict[str, Any]


def lines_of(uid: str, elements: Sequence[bytes], ttl: int) -> Iterator[Json]:
    """
    Render one log: the object of its header, then one for each record.

    Args:
        uid: Of the notification.
        elements: The log as stored, header first; not empty.
        ttl: Seconds until it expires, negative if it does not.
    """
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
    """How many logs and records an export holds."""

    logs: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True)
class Log:
    """One log of an export; `damaged` if it holds what cannot be read."""

    uid: str
    elements: tuple[bytes, ...]
    ttl: int
    header: Header | None
    damaged: bool


def read_export(lines: Iterable[str]) -> Iterator[Log]:
    """
    Read an export, log by log; BadExport if it is none, not whole, or something in it does not follow.

    To check a file, exhaust it before anything is written.
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
    """The state between the lines of an export."""

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
        """Take one more line; returns the log that it ends."""
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
                    " which is not what the file announces",
                )  # fmt: skip
            self.ended = True
            return done
        self._record(number, line)
        return None

    def _begin(self, number: int, line: Json) -> None:
        uid = line["log"]
        if not isinstance(uid, str) or not uid or set(uid) & set("{} \t\r\n"):
            raise BadExport(number, "this is not a uid")
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
            raise BadExport(number, "the header does not have this format") from None
        self.elements.append(self.header.encode())

    def _record(self, number: int, line: Json) -> None:
        if not self.elements or line.get("uid") != self.uid:
            raise BadExport(number, "the record belongs to no log, or to another one")
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
            raise BadExport(number, f"the previous log has only {len(self.elements) - 1} record(s)")
        self.counts.logs += 1
        self.counts.records += len(self.elements) - 1
        ttl = self.head.get("ttl", -1)
        if not isinstance(ttl, int):
            raise BadExport(number, "the time to live of the previous log is not a number")
        return Log(self.uid, tuple(self.elements), ttl, self.header, self.damaged)


def _base64(element: bytes) -> str:
    return base64.b64encode(element).decode("ascii")


def _raw(number: int, line: Json) -> bytes:
    try:
        return base64.b64decode(str(line["raw"]), validate=True)
    except (binascii.Error, ValueError):
        raise BadExport(number, "raw is not base64") from None
