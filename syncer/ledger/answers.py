"""
What the scripts and reads of a log answer, as types.

Answers are named as in the protocol (docs/adr/0001); `Answer.RECLAIM` stands for both the server's answer
and a guard that refused the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from syncer.ledger.codec import decode_header
from syncer.model.attempt import AttemptState, Epoch
from syncer.model.errors import ContractError
from syncer.model.record import Header, Record
from syncer.rules.fold import ROOT_CHAIN, LogView


class Answer(StrEnum):
    """The answer of a script."""

    OK = "OK"
    DONE = "DONE"
    DUP = "DUP"
    RECLAIM = "RECLAIM"
    OPEN = "OPEN"
    EXHAUSTED = "EXHAUSTED"
    NOOP = "NOOP"
    FENCED = "FENCED"
    STALE = "STALE"
    APART = "APART"


#: Details of RECLAIM: the server is in another state than at the claim; the log has another history.
SERVER: Final = "server"
HISTORY: Final = "history"


@dataclass(slots=True)
class Tries:
    """The tries of one call: `uncertain` if one of them may have been executed without an answer."""

    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """
    Answer of a script that may append.

    Attributes:
        answer: OK if something was appended.
        position: Index of the last element afterwards (OK only).
        before: Chain of the element before the first appended one (OK only).
        chain: Chain of the last appended element (OK only).
        count: How many records were appended: 2 where a lost intent was restored.
        rank: State recorded already (DUP, NOOP), else -1.
        detail: What ended the claim (RECLAIM: the epoch stored, `SERVER` or `HISTORY`), or the attempt that
            is open (OPEN).
        confirmed: False if fewer replicas than requested have confirmed the write in time.
    """

    answer: Answer
    position: int = 0
    before: str = ""
    chain: str = ""
    count: int = 0
    rank: int = -1
    detail: str = ""
    confirmed: bool = True

    @property
    def permits(self) -> bool:
        """Whether an INTENT is accepted, now or in an earlier try of the same call."""
        return self.answer is Answer.OK or (
            self.answer is Answer.DUP and self.rank == AttemptState.INTENT
        )


@dataclass(frozen=True, slots=True)
class Proof:
    """
    What an INTENT has the server compare: the claim, and the record on which the decision is based.

    `stamp` is what the first CLAIM was answered; `position` and `chain` are those of the last record that
    was read, of none by default.
    """

    epoch: Epoch
    stamp: str
    position: int = 0
    chain: str = ROOT_CHAIN


class Mark(StrEnum):
    """The result of an acknowledgement."""

    #: The log holds another history at that position; nothing was moved: read the log again.
    STALE = "stale"
    #: The marks are at the position or beyond it; the log stays.
    MOVED = "moved"
    #: As above, and every mark is at the end: the log was given its time to live.
    EXPIRING = "expiring"


#: What the status shows, and what the audit feed has handed over.
BOTH_MARKS: Final = "acked audited"
ACKED: Final = "acked"
AUDITED: Final = "audited"


class LogHead(NamedTuple):
    """
    A log without its records: its first element, None without a log, and its length with it.

    `ttl` is in seconds; -1 never expires, -2 means that there is no log.
    """

    element: bytes | None
    length: int
    ttl: int

    @property
    def header(self) -> Header | None:
        """The first element as a header, None if there is none or it cannot be read."""
        try:
            return decode_header(self.element) if self.element is not None else None
        except ContractError:
            return None


class StoredLog(NamedTuple):
    """A log as stored, header first, and its time to live as in `LogHead`."""

    elements: list[bytes]
    ttl: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A log without damage: its header, its records in order, and their fold, which is the reader's own."""

    header: Header
    records: Sequence[Record]
    view: LogView


@dataclass(frozen=True, slots=True)
class Claimed:
    """
    Answer of CLAIM; `error` is set, and no snapshot, where the log holds something undecodable.

    `stamp` names the state of the server that answered, for INTENT to compare.
    """

    answer: Answer
    snapshot: Snapshot | None = None
    error: ContractError | None = None
    now: int = 0
    stamp: str = ""
