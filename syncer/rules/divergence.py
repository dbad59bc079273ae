"""
Every divergence between the log, the object and the cached view of one notification.

Everything that this product keeps in memory is a fold of a log, and everything that an object shows was
published from it. Both can be recomputed, and so both can be checked at any time. Two checks do that, with
the classes and rules of this module:

- the controller's **self-audit** (`examine`, carried out by `syncer.sync.scrubber`) knows what is about to
  be written, so it needs no time to settle. It looks for states that the rules exclude, and stops sending
  for that one object (`Divergence.stops`);
- the operators' **`syncer verify`** (`syncer.rules.verification`) does not know this and must allow time.
  It finds more: classes that only a restart, the passing of time or a person reveals. Each has a remedy.

Some classes are caused by a loss or by a change from outside, and the ordinary rules repair them. Others
are impossible while the rules hold; if one is found, nothing more is sent for that object until a later
check passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from syncer.model.attempt import NO_EPOCH, AttemptState, FailureClass, attempt_epoch
from syncer.model.record import Record
from syncer.model.resource import PARTIALLY_SENT, SENT, Status
from syncer.rules.channel_state import ChannelState, State, deciding
from syncer.rules.fold import LogView, fold
from syncer.rules.merge import exceeds, lacking


class Remedy(StrEnum):
    """Who can repair a class of divergence, and how."""

    FACTS = "facts"
    OWNER = "owner"
    REBUILD = "rebuild"
    PERSON = "person"


class Divergence(StrEnum):
    """
    A class of divergence, the worst first; the last ones can be found only with a cached view.

    The values are an interface: `syncer verify`, the labels of a metric and the conditions use them.
    """

    FOREIGN = "foreign"
    UNREADABLE = "unreadable"
    MISNAMED = "misnamed"
    MARK_BEYOND = "mark-beyond"
    LOG_MISSING = "log-missing"
    LOG_BEHIND = "log-behind"
    PLAN_MISSING = "plan-missing"
    EXPIRING = "expiring"
    STATUS_BEHIND = "status-behind"
    ACKED = "acked"
    STATUS_DIFFERS = "status-differs"
    OPEN_ATTEMPT = "open-attempt"
    UNACKED = "unacked"
    NO_EXPIRY = "no-expiry"
    ORPHAN = "orphan"
    EPOCH_AHEAD = "epoch-ahead"
    TWO_OPEN = "two-open"
    CONFLICT = "conflict"
    PHASE = "phase"
    CHANNELS = "channels"
    SPEC = "spec"
    NUMBERS = "numbers"
    OBJECT = "object"
    HISTORY = "history"
    MEMORY = "memory"

    @property
    def stops(self) -> bool:
        """Whether nothing more may be sent for the object once the self-audit has found it."""
        return self in _STOPS

    @property
    def message(self) -> str:
        """The sentence for a person; only for a class that the self-audit may find."""
        return AUDITED[self]

    @property
    def remedy(self) -> Remedy:
        """Who can repair it."""
        return _REMEDY.get(self, Remedy.PERSON)


#: The classes that the self-audit may find, each with its sentence for a person. A log that cannot be read
#: is quarantined; a log that lacks records is claimed again and restored; a status that lacks results is
#: written.
AUDITED: Final = {
    Divergence.UNREADABLE: "a record of the log cannot be read",
    Divergence.HISTORY: "the log does not hold the history that was seen in it",
    Divergence.LOG_BEHIND: "the status shows attempts that the log lacks",
    Divergence.STATUS_BEHIND: "the status lacks what the log says",
    Divergence.SPEC: "the spec is not the one for which the channels were chosen",
    Divergence.PHASE: "the phase is final, and the attempts do not say so",
    Divergence.CHANNELS: "there are channels that the plan does not name",
    Divergence.LOG_MISSING: "the notification is finished, and its log is gone before its time",
    Divergence.MEMORY: "the memory differs from the fold of the same records",
    Divergence.ACKED: "records are marked as published and the status does not show them",
    Divergence.TWO_OPEN: "two attempts of one channel are open at once",
}
#: Classes that need a cached view, so that `syncer verify` cannot find them.
_NEEDS_MEMORY: Final = frozenset({Divergence.HISTORY, Divergence.MEMORY})
#: Classes that `syncer verify` may find, the worst first.
VERIFIED: Final = tuple(kind for kind in Divergence if kind not in _NEEDS_MEMORY)

_STOPS: Final = frozenset({Divergence.MEMORY, Divergence.ACKED, Divergence.TWO_OPEN})
_REMEDY: Final = {
    Divergence.UNREADABLE: Remedy.REBUILD,
    Divergence.MISNAMED: Remedy.REBUILD,
    Divergence.MARK_BEYOND: Remedy.REBUILD,
    Divergence.LOG_MISSING: Remedy.FACTS,
    Divergence.LOG_BEHIND: Remedy.FACTS,
    Divergence.PLAN_MISSING: Remedy.FACTS,
    Divergence.EXPIRING: Remedy.FACTS,
    Divergence.STATUS_BEHIND: Remedy.OWNER,
    Divergence.ACKED: Remedy.OWNER,
    Divergence.STATUS_DIFFERS: Remedy.OWNER,
    Divergence.OPEN_ATTEMPT: Remedy.OWNER,
    Divergence.UNACKED: Remedy.OWNER,
    Divergence.NO_EXPIRY: Remedy.OWNER,
    Divergence.ORPHAN: Remedy.OWNER,
}


class Finding(NamedTuple):
    """One divergence, in words that hold no content of the notification."""

    kind: Divergence
    text: str


# -- rules of both checks -------------------------------------------------------------------------


def _found(wrong: object, kind: Divergence, text: str) -> list[Finding]:
    return [Finding(kind, text)] if wrong else []


def two_open(view: LogView) -> list[Finding]:
    """Find channels with two attempts open at once, which the rules exclude."""
    opened = Counter(a.channel for a in view.attempts.values() if a.open)
    twice = sum(count > 1 for count in opened.values())
    return _found(twice, Divergence.TWO_OPEN, f"{twice} channel(s) have two attempts open at once")


def conflicting(records: Sequence[Record]) -> list[Finding]:
    """Find attempts with two definite results, which the rules exclude."""
    definite: dict[str, set[AttemptState]] = {}
    for record in records:
        state = record.kind.state
        # The receiver's answer may replace a manual resolution.
        if state is not None and state >= AttemptState.FAILED and not record.kind.resolution:
            definite.setdefault(record.attempt_id, set()).add(state)
    both = sum(len(states) > 1 for states in definite.values())
    return _found(both, Divergence.CONFLICT, f"{both} attempt(s) have two definite results")


def unfounded(
    status: Status, states: Sequence[ChannelState], *, whole: bool | None = True
) -> list[Finding]:
    """
    Find a final phase that the attempts do not support.

    The caller leaves out channels that are to be sent again. A log that was lost and restored lacks only
    one fact that can have led to a phase: that an attempt that was not sent had been unknown before.

    Args:
        status: The object's status.
        states: State of each planned channel, from log and object.
        whole: Whether the log holds its beginning (`LogView.whole`).
    """
    delivered, total = sum(s.state is State.DELIVERED for s in states), len(deciding(states))
    going = [s for s in states if not s.state.finished]
    uncertain = any(
        s.last.state is AttemptState.UNKNOWN
        or (not whole and s.last.failure is FailureClass.NOT_SENT)
        for s in going
        if s.last
    )
    wrong = (
        (status.phase == SENT and delivered < (total or 1))
        or (status.phase == PARTIALLY_SENT and not delivered)
        or (status.terminal and going and not uncertain)
    )
    text = f"the phase is {status.phase}, {delivered} of {total} channel(s) are delivered"
    more = f" and {len(going)} have attempts left" if going else ""
    return _found(states and wrong, Divergence.PHASE, text + more)


def unplanned(view: LogView, status: Status) -> list[Finding]:
    """Find channels that the log's plan does not name: shown by the status, or with an attempt of ours."""
    if view.plan is None:
        return []
    planned = set(view.plan.channels)
    # Channels that the replaced controller has tried have its own names.
    tried = {a.channel for a in view.attempts.values() if attempt_epoch(a.id) != NO_EPOCH} - planned
    shown = {c.name for c in status.channels} - planned
    return _found(
        tried or shown,
        Divergence.CHANNELS,
        f"the plan does not name {len(tried)} channel(s) of the log's attempts and {len(shown)} of the"
        " status",
    )


def respecified(view: LogView, digest: str) -> list[Finding]:
    """Find a plan made for another spec than the one with this `digest`, which is empty if not known."""
    frozen = view.plan.body_hash if view.plan else ""
    return _found(
        frozen and digest and frozen != digest,
        Divergence.SPEC,
        f"the plan is for the spec {frozen[:12]}, it is {digest[:12]}",
    )


def log_behind(view: LogView, status: Status) -> list[Finding]:
    """Find attempts and results that the status shows and the log lacks."""
    lost = len(lacking(view, status))
    return _found(
        lost, Divergence.LOG_BEHIND, f"the log lacks {lost} attempt(s) or result(s) of the status"
    )


def status_behind(
    records: Sequence[Record], acked: int, status: Status, *, unwritten: bool
) -> list[Finding]:
    """
    Find results that a log holds and a status does not show, although no write of them is waiting.

    Args:
        records: The log.
        acked: Position up to which its header marks it as published.
        status: The object's status, read after the log.
        unwritten: Whether the log holds more than the status shows.
    """
    if exceeds(fold(records[:acked]), status):
        return [Finding(Divergence.ACKED, Divergence.ACKED.message)]
    return _found(
        unwritten, Divergence.STATUS_BEHIND, "the log holds results that the status does not show"
    )


# -- the self-audit -------------------------------------------------------------------------------


def examine(
    *,
    view: LogView,
    records: Sequence[Record],
    acked: int,
    status: Status | None,
    spec_hash: str,
    quiet: bool,
    pending: bool,
    states: Sequence[ChannelState] = (),
) -> tuple[Divergence, ...]:
    """
    Check one notification, including its cached view; empty if all sides agree.

    Args:
        view: The cached view.
        records: The log as read, to its end.
        acked: Position up to which its header marks it as published.
        status: The object's status, read after the log; None if it could not be read.
        spec_hash: Hash of the object's spec, empty if it could not be read.
        quiet: No change of the view waits to be written.
        pending: A write of this view onto that status would change it.
        states: State of each planned channel, from this view and that status; empty while an open attempt
            or a resend request may still change them.

    Raises:
        ValueError: the records do not follow each other, or an attempt in them is malformed.
    """
    if not view.begins(records):
        return (Divergence.HISTORY,)
    found: list[Divergence] = []
    again = fold(records[: view.position])
    if again != view:
        found.append(Divergence.MEMORY)
    found += [f.kind for f in two_open(fold(records))]
    if status is None:
        return tuple(found)
    found += [f.kind for f in log_behind(again, status)]
    found += [
        f.kind for f in (*unfounded(status, states, whole=again.whole), *unplanned(again, status))
    ]
    if quiet:
        # A write that is waiting repairs both classes, so a status is wrong only if none is waiting. The
        # write of a view that is wrong or incomplete proves nothing.
        unwritten = pending and not found
        found += [f.kind for f in status_behind(records, acked, status, unwritten=unwritten)]
    found += [f.kind for f in respecified(again, spec_hash)]
    return tuple(found)
