"""
The self-audit's judgement: what is wrong between one notification's memory, log and object.

Everything that this product keeps in memory is a fold of a log, and everything that an object shows
was published from it. Both can be computed again, so both can be checked again, at any time: the log
is folded anew and held against what the memory says of the same history and against a status that was
read *after* the log (a status read before it may rightly lag).

Some classes come about by loss or by a hand from outside, and the ordinary rules heal them. Others
cannot come about while the rules hold; where one is found, nothing more is sent for that object until
a later look finds it in order (`Divergence.stops`).

The operators' `syncer verify` (`syncer.cli.check`) judges a log and an object without a memory, and
names more: what only a restart, a bound of time or a person shows. What both can see has one name and one
rule, and they are here: `Divergence`, `doubly_open`, `acked_unshown`, and `lacking` and `exceeds` of the
merge. The judgements stay two. This one has a memory that is right about what waits to be written, so it
needs no time to settle; that one has none, and must grant it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from syncer.model.record import Record
from syncer.model.resource import Status
from syncer.rules.fold import ROOT_CHAIN, LogView, fold
from syncer.rules.merge import exceeds, lacking


class Divergence(StrEnum):
    """What a look may find; the values are a metric's labels and a condition's words."""

    #: A record cannot be read. The log is quarantined.
    UNREADABLE = "unreadable"
    #: The log does not hold the history that was seen in it. It is claimed anew and restored.
    HISTORY = "history"
    #: The status shows attempts that the log lacks. It is claimed anew and restored.
    LOG_BEHIND = "log-behind"
    #: The status lacks what the log says, and nothing was about to write it. It is written.
    STATUS_BEHIND = "status-behind"
    #: The spec is not the one for which the channels were frozen.
    SPEC = "spec"
    #: The memory differs from the fold of the very same records.
    MEMORY = "memory"
    #: Records are marked as published, and the status does not show them.
    ACKED = "acked"
    #: Two attempts of one channel are open at once.
    TWO_OPEN = "two-open"

    @property
    def stops(self) -> bool:
        """Whether nothing more may be sent for the object."""
        return self in _STOPS

    @property
    def says(self) -> str:
        """The sentence for a person."""
        return _SAYS[self]


_STOPS = frozenset({Divergence.MEMORY, Divergence.ACKED, Divergence.TWO_OPEN})
_SAYS = {
    Divergence.UNREADABLE: "a record of the log cannot be read",
    Divergence.HISTORY: "the log does not hold the history that was seen in it",
    Divergence.LOG_BEHIND: "the status shows attempts that the log lacks",
    Divergence.STATUS_BEHIND: "the status lacks what the log says",
    Divergence.SPEC: "the spec is not the one for which the channels were chosen",
    Divergence.MEMORY: "the memory differs from the fold of the same records",
    Divergence.ACKED: "records are marked as published and the status does not show them",
    Divergence.TWO_OPEN: "two attempts of one channel are open at once",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    One notification from all sides, read in this order.

    Attributes:
        view: What the memory says.
        records: The log as read, whole.
        acked: Position up to which its header says that it is published.
        status: The object's, read after the log; None if it could not be read.
        spec_hash: Of the object's spec, empty if it could not be read.
        quiet: Nothing of the view waits to be written.
        pending: A write of this view onto that status would change it.
    """

    view: LogView
    records: Sequence[Record]
    acked: int
    status: Status | None
    spec_hash: str = ""
    quiet: bool = True
    pending: bool = False


def doubly_open(view: LogView) -> int:
    """How many channels have two attempts open at once."""
    wires = Counter(a.channel for a in view.attempts.values() if a.open)
    return sum(count > 1 for count in wires.values())


def acked_unshown(records: Sequence[Record], acked: int, status: Status) -> bool:
    """Whether a status lacks what its log marks as published, up to position `acked`."""
    return exceeds(fold(records[:acked]), status)


def examine(evidence: Evidence) -> tuple[Divergence, ...]:
    """
    Judge one notification; empty if all sides agree.

    Raises:
        ValueError: the records do not follow each other, or speak of attempts in a malformed way.
    """
    view, records = evidence.view, evidence.records
    if not _holds(records, view):
        return (Divergence.HISTORY,)
    found = []
    again = fold(records[: view.position])
    if again != view:
        found.append(Divergence.MEMORY)
    if doubly_open(fold(records)):
        found.append(Divergence.TWO_OPEN)
    status = evidence.status
    if status is None:
        return tuple(found)
    if lacking(again, status):
        found.append(Divergence.LOG_BEHIND)
    if evidence.quiet:
        # What waits to be written heals both; only a status that nobody is about to write is wrong.
        if acked_unshown(records, evidence.acked, status):
            found.append(Divergence.ACKED)
        elif evidence.pending and not found:
            # Of a memory that is wrong or lacks something, what it would write says nothing.
            found.append(Divergence.STATUS_BEHIND)
    frozen = again.plan.body_hash if again.plan else ""
    if frozen and evidence.spec_hash and frozen != evidence.spec_hash:
        found.append(Divergence.SPEC)
    return tuple(found)


def _holds(records: Sequence[Record], view: LogView) -> bool:
    if view.position > len(records):
        return False
    chain = records[view.position - 1].chain if view.position else ROOT_CHAIN
    return chain == view.chain
