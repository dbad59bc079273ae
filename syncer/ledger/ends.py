"""
Ends of logs: how long each is, and what has been appended since the last look.

Used to follow many logs. Nothing is claimed, and each record is read once; only the last known element
of a log that has grown is read again, because the chain of the new ones must follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from syncer.ledger.codec import chain_of, decode_header, decode_record
from syncer.ledger.log import RedisLog
from syncer.ledger.replies import read_apart
from syncer.model.errors import ContractError
from syncer.model.record import Record
from syncer.rules.fold import ROOT_CHAIN


class LogEnd(NamedTuple):
    """
    The end of a log.

    Attributes:
        object: `namespace/name` by the header, empty if that cannot be read.
        length: Elements that the log has now, the header included; 0 if it is gone.
        records: From the first that was wanted to the first that cannot be read.
        problem: Why the next one cannot be read, empty if all were.
    """

    object: str
    length: int
    records: tuple[Record, ...] = ()
    problem: str = ""


async def read_lengths(log: RedisLog, uids: Sequence[str]) -> list[int]:
    """Read the lengths of logs, in the order of `uids`; 0 for none, and for a key of another type."""

    async def lengths(some: Sequence[str]) -> list[int]:
        return [int(n) for (n,) in await log.ask_of_each(some, ("LLEN",))]

    return await read_apart(lengths, uids, 0)


async def read_ends(log: RedisLog, wanted: Sequence[tuple[str, int]]) -> list[LogEnd]:
    """
    Read the ends of logs, in the order of `wanted`.

    `wanted` holds uids that `read_lengths` has found a log of, each with the first position that is of
    interest, 1 for all of it.
    """
    commands: list[tuple[str | int, ...]] = []
    for uid, start in wanted:
        key = log.key(uid)
        commands += [("LINDEX", key, 0), ("LRANGE", key, start - 1, -1)]
    replies = await log.gather(commands)
    return [_end(replies[2 * n], replies[2 * n + 1], start) for n, (_, start) in enumerate(wanted)]


def _end(header: bytes | None, elements: Sequence[bytes], start: int) -> LogEnd:
    if header is None or not elements:
        return LogEnd("", 0)
    length = start - 1 + len(elements)
    name, records = "", []
    try:
        name = decode_header(header).object
        chain = ROOT_CHAIN if start == 1 else chain_of(elements[0])
        for position, element in enumerate(elements[1:], start):
            record = decode_record(element, chain, position)
            records.append(record)
            chain = record.chain
    except ContractError as error:
        return LogEnd(name, length, tuple(records), str(error))
    return LogEnd(name, length, tuple(records))
