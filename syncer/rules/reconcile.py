"""
The decision table of a claim: a notification's log against its object.

The table is data (`TABLE`), read in five stages. *Gate*: the first row that fits ends everything.
*Comparison*: exactly one row fits. *Attempts* and *housekeeping*: every row that fits applies. A
plain first-match reading would let a difference of log and object hide an open attempt. *Closing*:
the actions of these rows replace opening for sending, whichever row allowed that.

A row's name is what the metric `claims_total`, a log line and a test call the case. Three rows have reasons
that are not obvious. *plan-lost*: a plan is not an attempt, and can be lost alone. *epoch-ahead*: an epoch
that the log does not know may come from any account with the right to write a status, so it stops that one
object and proves nothing about the cluster. *status-doubted*: the same is true of anything else that a
status shows beyond its log (`syncer.rules.evidence`); a status that is disregarded is not part of a
`Situation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

#: Number of situations whose decision is cached.
_REMEMBERED: Final = 256


class Presence(StrEnum):
    """Whether the object exists, as far as that is known."""

    PRESENT = "present"
    #: The API server answers that there is no such object, or one with another uid.
    ABSENT = "absent"
    #: The collection could not be read: whether the object exists is not known.
    UNREADABLE = "unreadable"


class Action(StrEnum):
    """The actions that the caller has to take, in this order."""

    STOP = "stop: a later owner exists"
    QUARANTINE = "quarantine"
    DISTRUST = "send nothing: the status cannot be trusted"
    HOLD = "hold"
    ORPHAN = "settle and retire the log"
    SEED = "restore the log from the object"
    RECOVER = "mark abandoned attempts unknown"
    SYNC = "publish what the object lacks"
    ACK = "mark as published"
    OPEN = "open for sending"
    CLOSE = "hold the claim for a last sync, and send nothing"
    NOTHING = "leave alone"


@dataclass(frozen=True, slots=True)
class Situation:
    """
    Everything on which the table decides.

    Attributes:
        fenced: The log carries a higher epoch than ours.
        undecodable: The log holds something that cannot be read.
        log_present: The log existed before this claim.
        ahead: The object names a higher epoch than ours, and the log does not.
        doubted: The object shows more than the log, and no known event explains that.
        deleting: The object has a deletion timestamp.
        terminal: Its phase is final.
        shown: How many attempts it shows.
        log_exceeds: The log holds attempts, or results of them, that the object does not show.
        object_exceeds: The object shows attempts, or results of them, that the log does not hold.
        abandoned: Number of open attempts that no task of this process executes.
        unacked: The log holds records that are not marked as published.
        unplanned: The object shows the plan, and the log does not hold it.
        journaled: The object shows attempts that were recorded only there.
    """

    fenced: bool = False
    undecodable: bool = False
    log_present: bool = True
    presence: Presence = Presence.PRESENT
    ahead: bool = False
    doubted: bool = False
    deleting: bool = False
    terminal: bool = False
    shown: int = 0
    log_exceeds: bool = False
    object_exceeds: bool = False
    abandoned: int = 0
    unacked: bool = False
    unplanned: bool = False
    journaled: bool = False


class Stage(StrEnum):
    """How a group of rows is read."""

    GATE = "gate"
    COMPARISON = "comparison"
    ATTEMPTS = "attempts"
    HOUSEKEEPING = "housekeeping"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: when it fits, what follows, and its sentence for an operator."""

    name: str
    stage: Stage
    fits: Callable[[Situation], bool]
    actions: tuple[Action, ...]
    message: str


TABLE: tuple[Row, ...] = (
    Row(
        "fenced", Stage.GATE, lambda s: s.fenced, (Action.STOP,),
        "a later owner has claimed the log",
    ),
    Row(
        "log-unreadable", Stage.GATE, lambda s: s.undecodable, (Action.QUARANTINE,),
        "the log holds a record that cannot be read",
    ),
    Row(
        "object-unreadable", Stage.GATE, lambda s: s.presence is Presence.UNREADABLE, (Action.HOLD,),
        "the object cannot be read at present",
    ),
    Row(
        "object-gone", Stage.GATE, lambda s: s.presence is Presence.ABSENT, (Action.ORPHAN,),
        "the object is gone",
    ),
    Row(
        "epoch-ahead", Stage.GATE, lambda s: s.ahead, (Action.DISTRUST,),
        "the object names a later epoch than its log and its shard's lease know",
    ),
    Row(
        "status-doubted", Stage.GATE, lambda s: s.doubted, (Action.DISTRUST,),
        "the object says more than the log, and no loss is known",
    ),
    Row(
        "finished-without-log", Stage.GATE,
        lambda s: not s.log_present and s.terminal and not (s.journaled and s.shown),
        (Action.NOTHING,),
        "finished, and its log is gone",
    ),
    Row(
        "new", Stage.GATE, lambda s: not s.log_present and not s.shown and not s.unplanned,
        (Action.OPEN,),
        "a new notification",
    ),
    Row(
        "log-gone", Stage.GATE, lambda s: not s.log_present, (Action.SEED, Action.RECOVER, Action.OPEN),
        "the log is gone and is restored from the object",
    ),
    Row(
        "agree", Stage.COMPARISON, lambda s: not (s.log_exceeds or s.object_exceeds), (Action.OPEN,),
        "log and object agree",
    ),
    Row(
        "object-behind", Stage.COMPARISON,
        lambda s: s.log_exceeds and not s.object_exceeds and not s.terminal,
        (Action.SYNC, Action.OPEN),
        "the object lags behind the log",
    ),
    Row(
        "finished-object-behind", Stage.COMPARISON,
        lambda s: s.log_exceeds and not s.object_exceeds and s.terminal,
        (Action.SYNC, Action.OPEN),
        "a finished object lags behind the log",
    ),
    Row(
        "log-behind", Stage.COMPARISON, lambda s: s.object_exceeds and not s.log_exceeds,
        (Action.SEED, Action.OPEN),
        "the log lost records that the object shows",
    ),
    Row(
        "both-behind", Stage.COMPARISON, lambda s: s.log_exceeds and s.object_exceeds,
        (Action.SEED, Action.SYNC, Action.OPEN),
        "log and object each know more",
    ),
    Row(
        "left-open", Stage.ATTEMPTS, lambda s: s.abandoned > 0, (Action.RECOVER, Action.SYNC),
        "attempts were left open by an earlier owner",
    ),
    Row(
        "plan-lost", Stage.ATTEMPTS, lambda s: s.unplanned, (Action.SEED,),
        "the log lost the plan that the object shows",
    ),
    Row(
        "unpublished", Stage.HOUSEKEEPING, lambda s: s.unacked, (Action.ACK,),
        "records are not marked as published",
    ),
    Row(
        "deleting", Stage.CLOSING, lambda s: s.deleting, (Action.SYNC, Action.CLOSE),
        "the object is being deleted, so nothing more is sent",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClaimDecision:
    """The rows that fitted, and the actions that follow, each once, in the order of `Action`."""

    rows: tuple[str, ...]
    actions: tuple[Action, ...]
    message: str

    def __contains__(self, action: Action) -> bool:
        """Whether an action follows."""
        return action in self.actions


@lru_cache(maxsize=_REMEMBERED)
def reconcile(situation: Situation) -> ClaimDecision:
    """Read the table for one notification; cached, because most are in one of a few situations."""
    fitting = [row for row in TABLE if row.fits(situation)]
    gates, closing = ([r for r in fitting if r.stage is s] for s in (Stage.GATE, Stage.CLOSING))
    rows = gates[:1] or [r for r in fitting if r not in closing]
    if any(Action.OPEN in r.actions for r in rows):
        rows += closing
    wanted = {a for r in rows for a in r.actions}
    if Action.CLOSE in wanted:
        wanted.discard(Action.OPEN)
    return ClaimDecision(
        tuple(r.name for r in rows),
        tuple(a for a in Action if a in wanted),
        "; ".join(r.message for r in rows),
    )
