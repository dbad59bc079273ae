"""
How far a status can be trusted when clients other than the controller may write it.

While the admission policy is in force, only the controller can have written a status. Otherwise the status
is untrusted input: anything it shows beyond the log decides nothing by itself. It is *believed* on grounds
that no status can fake: a known loss of the store, an outage in which this installation journaled, or an
object older than the installation. It is *disregarded* if it is certainly false, because the log is known
to hold everything that was ever done. Everything else is *doubted*: the status may be the only record of
something that was sent, so nothing more is sent, and nothing is called delivered, until a person decides.

The log, or its absence, is known to be complete if the object was created after the store was last found
to have been replaced and after the installation was created, its log cannot have expired, and no outage
has left attempts in statuses. The store is compared with the one noted in the shard's Lease
(`syncer.sharding.shard_leases`), so a loss stays known once it has been noticed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from syncer.model.attempt import AttemptState, attempt_key
from syncer.model.resource import (
    FAILED,
    PARTIALLY_SENT,
    SENT,
    NotificationRequest,
    Rollup,
    Status,
)
from syncer.rules.channel_state import IDLE, NOTHING_DUE, State, deciding
from syncer.rules.fold import LogView
from syncer.rules.journal import BORN_MARGIN
from syncer.rules.merge import Facts, channel_states_of, lacking
from syncer.rules.retention import retention_seconds

#: Milliseconds after which the API server, with default settings, has stored a write or never will.
LATE_WRITE: Final = 60_000


class Verdict(StrEnum):
    """How a status is treated."""

    #: It shows nothing beyond the log, or what it shows beyond decides nothing.
    AGREES = "the log holds all that the status shows"
    BELIEVED = "the status is believed"
    DISREGARDED = "the status is disregarded"
    DOUBTED = "the status is doubted"


class Ground(StrEnum):
    """Why a status that shows more than the log is believed."""

    POLICY = "nobody else may write it"
    JOURNAL = "attempts were journaled in it"
    ADOPTION = "the object is older than the installation"
    LOSS = "the log may have been lost with its store"


class Judgement(NamedTuple):
    """A verdict and its reason; `ground` is set if the status is believed."""

    verdict: Verdict
    reason: str
    ground: Ground | None = None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """
    Facts about a notification from sources other than its status; times are Unix milliseconds.

    Attributes:
        protected: Only the controller can have written the status.
        adopted_before: Objects created before this time belonged to another controller.
        since: Time since which the store is known to be the same; infinite while that is unknown.
        lost: When the store was last found to have been replaced, 0 if it never was.
        compared: When log and status were last compared, 0 if this process has not done that yet.
        marked: Statuses of the shard may hold attempts journaled in an outage.
        now: The latest time that any clock shows.
        at_most_once: An unknown result ends a channel.
    """

    protected: bool = False
    adopted_before: float = math.inf
    since: float = math.inf
    lost: float = 0.0
    compared: float = 0.0
    marked: bool = False
    now: float = math.inf
    at_most_once: bool = False

    def complete(self, created: int, retention_days: int) -> bool:
        """Whether the log of an object, even a missing one, accounts for everything done for it."""
        kept_until = created + 1000 * retention_seconds(retention_days) - BORN_MARGIN
        youngest = max(self.adopted_before, self.since) + BORN_MARGIN
        return not self.marked and youngest < created and self.now < kept_until

    def ground(self, request: NotificationRequest) -> Ground | None:
        """Return why the status of an object may know more than its log; None if it cannot."""
        if self.protected:
            return Ground.POLICY
        if self.marked and request.status.journal is not None:
            return Ground.JOURNAL
        if request.created < self.adopted_before:
            return Ground.ADOPTION
        # A former owner's last write may be stored after the first comparison, and shows lost attempts.
        settled = max(0, self.compared - LATE_WRITE)
        if settled < self.lost and request.created <= self.lost + BORN_MARGIN:
            return Ground.LOSS
        return None


#: For use while the policy is in force, and for commands that only read.
PROTECTED: Final = Circumstances(protected=True)


def judge(
    request: NotificationRequest, view: LogView, about: Circumstances, *, alone: bool = False
) -> Judgement:
    """
    Decide how a status is treated.

    Args:
        request: The object, read after its log.
        view: Fold of that log.
        about: Facts from other sources.
        alone: Only this process can have done anything for the object, and the view holds all of it.
    """
    if about.protected:
        return Judgement(Verdict.BELIEVED, Ground.POLICY, Ground.POLICY)
    said = beyond(request, view, about)
    if not said:
        return Judgement(Verdict.AGREES, Verdict.AGREES)
    if alone:
        return Judgement(Verdict.DISREGARDED, f"{said}, and nobody else can have sent anything")
    status, ground = request.status, about.ground(request)
    # A log that holds its beginning has to lead to the final phase, whoever wrote that phase.
    founded = (ground is Ground.ADOPTION and not view.whole) or supported(request, view, about)
    if ground is not None and founded:
        return Judgement(Verdict.BELIEVED, ground, ground)
    if view.pending:
        return Judgement(Verdict.DISREGARDED, f"{said}, and a person has requested a resend")
    if not view.position and about.complete(request.created, request.retention_days):
        return Judgement(Verdict.DISREGARDED, f"{said}, and nothing was ever sent for it")
    # Journaled attempts have to be joined with a log, so their status does not count as finished without
    # one. A log created again after its retention, from a process's cache or for a late result, lacks the
    # records of the expired one, so it counts as gone.
    kept_until = request.created + 1000 * retention_seconds(request.retention_days)
    gone = about.now >= kept_until and not view.whole
    if status.terminal and status.journal is None and (gone or (founded and not view.position)):
        return Judgement(Verdict.AGREES, "finished, and its log is gone")
    return Judgement(Verdict.DOUBTED, said)


def beyond(request: NotificationRequest, view: LogView, about: Circumstances) -> str:
    """Return in words what a status shows beyond the log, empty if nothing."""
    status = request.status
    if lost := len(lacking(view, status)):
        return f"the status shows {lost} attempt(s) or result(s) that the log lacks"
    # After a loss only the number of folded attempts remains, so it exceeds the log for ever.
    if request.created > about.lost + BORN_MARGIN and _folds_more(status.rollup, view):
        return "the status has folded away more failed attempts than the log holds"
    if not supported(request, view, about):
        return f"the phase is {status.phase}, and the attempts on record do not lead to it"
    return ""


def supported(request: NotificationRequest, view: LogView, about: Circumstances) -> bool:
    """Whether log and status together have the attempts that lead to the phase; True if it is not final."""
    status = request.status
    if not status.terminal or view.accepted == status.phase:
        return True
    facts = Facts(request.generation, request.policy, about.at_most_once)
    ground = about.ground(request)
    lost = request.created <= about.lost + BORN_MARGIN or ground is Ground.ADOPTION
    if lost or ground is Ground.JOURNAL:
        # A journaled attempt counts as unknown, although a former owner may have recorded its result in the
        # log alone. After a loss any attempt may have been unknown, and another controller counts them all.
        known = (*status.attempts, *view.attempts.values())
        doubted = {a.id for a in known if lost or a.state is AttemptState.UNKNOWN}
        view = replace(view, doubted=view.doubted | doubted)
    tried = {a.channel for a in (*status.attempts, *view.attempts.values())}
    tried |= {c.name for c in status.rollup.channels} if status.rollup else set()
    # Without the plan, only the status says which channels were fallbacks that were not needed.
    idle = {c.name for c in status.channels if c.state in IDLE and view.plan is None}
    # A resend request for such a fallback may be lost with the plan; the channel is then due although the
    # phase is final.
    requested = lost and view.plan is None
    due = {c.name for c in status.channels if requested and c.state not in NOTHING_DUE}
    # After the end only a resend request opens an attempt, and the store may have lost the request. So open
    # attempts do not contradict the phase.
    ended = replace(view, attempts={i: a for i, a in view.attempts.items() if not a.open})
    states = channel_states_of(ended, status, facts, ordered=False)
    # A manual resolution or resend request came after the channel's end and does not change the phase.
    resolved = {a.channel for a in view.attempts.values() if a.id in view.resolved}
    said = resolved | view.orders.keys()
    shown = {a.id for a in status.attempts}
    # A log that was created again may have got attempts of idle fallbacks from this status, which was
    # written after those attempts. They do not show that the fallback was used.
    used = {a.channel for a in view.attempts.values() if view.whole or a.id not in shown} - said
    states = tuple(
        s
        for s in states
        if (s.channel in used or s.channel not in idle)
        and (s.state.finished or s.channel not in due)
    )
    # A manual resolution reopens a channel only if an unknown result can have ended it.
    opened = tried & (said if about.at_most_once else view.orders.keys())
    if (not states and view.plan is None) or not all(
        s.state.finished or s.channel in opened for s in states
    ):
        return False
    delivered, total = sum(s.state is State.DELIVERED for s in states), len(deciding(states))
    if status.phase == SENT:
        return 0 < delivered == total
    if delivered < total if status.phase == PARTIALLY_SENT else not delivered:
        return delivered > 0 or status.phase == FAILED
    # A late success is shown, but the phase stays as it was.
    late = (a for a in view.attempts.values() if a.state is AttemptState.SUCCESS)
    # The store may have lost the resend request that led to such a success.
    return lost or all(a.id in shown or a.channel in said for a in late)


def known_part(status: Status, view: LogView) -> Status:
    """Return a status without the attempts that a log does not have."""
    shown = tuple(a for a in status.attempts if a.id in view.attempts)
    return replace(
        status, attempts=shown, nameless=status.nameless.intersection(a.id for a in shown)
    )


def _folds_more(rollup: Rollup | None, view: LogView) -> bool:
    return rollup is not None and any(
        channel.failed
        > sum(
            a.state is AttemptState.FAILED and attempt_key(a.id) <= attempt_key(channel.last_id)
            for a in view.of_channel(channel.name)
        )
        for channel in rollup.channels
    )
