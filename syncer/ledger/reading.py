"""
Reading a log that may be damaged: as far as it is legible, and element by element beyond that.

Commands that show or repair a log need what is left of it. The controller refuses a log with any damage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from syncer.ledger.answers import Snapshot
from syncer.ledger.codec import REASON_BYTES, decode_header, decode_record
from syncer.model.conditions import bounded
from syncer.model.errors import ContractError
from syncer.model.record import Header, Record
from syncer.rules.fold import LogView, ReadLog


class Line(NamedTuple):
    """One element of a log; `record` is None where it cannot be read, and `error` is the reason."""

    position: int
    record: Record | None
    error: str = ""


def read_log(elements: Sequence[bytes]) -> ReadLog:
    """Read a log as stored, header first, up to the first element that cannot be read; never raises."""
    view = LogView()
    if not elements:
        return ReadLog(None, (), view)
    header: Header | None = None
    records: list[Record] = []
    try:
        header = decode_header(elements[0])
        for position, element in enumerate(elements[1:], 1):
            record = decode_record(element, view.chain, position, folded=True)
            try:
                view.apply(record)
            except ValueError as error:
                raise ContractError(
                    f"record {position}: {bounded(str(error), REASON_BYTES)}"
                ) from error
            records.append(record)
    except ContractError as error:
        return ReadLog(header, tuple(records), view, str(error))
    return ReadLog(header, tuple(records), view)


def snapshot_of(elements: Sequence[bytes]) -> Snapshot:
    """Read a log as stored to its end; ContractError for the first thing that cannot be read."""
    log = read_log(elements)
    if log.header is None or log.problem:
        raise ContractError(log.problem or "log is empty")
    return Snapshot(log.header, log.records, log.view)


def lines_of(log: ReadLog, elements: Sequence[bytes]) -> tuple[Line, ...]:
    """Return every element of a log as read and as stored, those behind the first damage included."""
    if log.problem and log.header is None:
        return (Line(0, None, log.problem),)
    lines = [Line(record.position, record) for record in log.records]
    if not log.problem:
        return tuple(lines)
    lines.append(Line(len(lines) + 1, None, log.problem))
    chain = log.view.chain
    for position in range(len(lines) + 1, len(elements)):
        try:
            record = decode_record(elements[position], chain, position)
        except ContractError as error:
            lines.append(Line(position, None, str(error)))
        else:
            lines.append(Line(position, record))
            chain = record.chain
    return tuple(lines)
