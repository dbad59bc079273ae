"""
What a status is worth, where others than the controller may have written it.

With the admission policy in force a status is our own word. Without it, it is a claim: whatever it says
beyond the log decides nothing by itself. It is *believed* on grounds that no status can make up: a loss of
the store that is known, an outage in which this installation journaled, or an object that is older than
the installation. It is *disregarded* if it is certainly false, because the log is known to hold all that
was ever done. All else is *doubted*: it may be the only record of something that was sent, so nothing
more is sent, and nothing is called delivered, until a person decides.

The log, or its absence, is known to be complete for an object created since the store was last seen to be
another one, and since the installation was founded, as long as its log cannot have expired and no outage
has left attempts in statuses. The store is compared with what the shard's Lease notes
(`syncer.sharding.shard_leases`), so a loss that was noticed once stays known.
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

#: Milliseconds after which the API server, by its default, has stored a write or never will.
LATE_WRITE: Final = 60_000


class Verdict(StrEnum):
    """What becomes of a status."""

    #: It says nothing beyond the log; what it says besides decides nothing.
    AGREES = "the log holds all that the status shows"
    BELIEVED = "the status is believed"
    DISREGARDED = "the status is disregarded"
    DOUBTED = "the status is doubted"


class Ground(StrEnum):
    """Why a status is believed that says more than the log."""

    POLICY = "nobody else may write it"
    JOURNAL = "attempts were journaled in it"
    ADOPTION = "the object is older than the installation"
    LOSS = "the log may have been lost with its store"


class Judgement(NamedTuple):
    """A verdict, and why; the ground is that of a status that is believed."""

    verdict: Verdict
    reason: str
    ground: Ground | None = None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """
    What is known of a notification from elsewhere than its status; times are Unix milliseconds.

    Attributes:
        protected: Nobody but the controller can have written the status.
        adopted_before: Objects created earlier are another controller's.
        since: Since when the store is known to be the same, infinite while nothing is known of it.
        lost: When it was last found to be another one, 0 if it never was.
        compared: When log and status were compared last, 0 if this process has not done that yet.
        marked: Statuses of the shard may hold attempts of an outage.
        now: The later of all clocks.
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
        """Whether the log of an object holds all that was ever done for it, also if there is none."""
        kept_until = created + 1000 * retention_seconds(retention_days) - BORN_MARGIN
        youngest = max(self.adopted_before, self.since) + BORN_MARGIN
        return not self.marked and youngest < created and self.now < kept_until

    def ground(self, request: NotificationRequest) -> Ground | None:
        """Why the status of an object may know what its log does not; None if it cannot."""
        if self.protected:
            return Ground.POLICY
        if self.marked and request.status.journal is not None:
            return Ground.JOURNAL
        if request.created < self.adopted_before:
            return Ground.ADOPTION
        # A former owner's last write may be stored after the first comparison, and shows what was lost.
        settled = max(0, self.compared - LATE_WRITE)
        if settled < self.lost and request.created <= self.lost + BORN_MARGIN:
            return Ground.LOSS
        return None


#: Where the policy is in force, and for those who only read.
PROTECTED: Final = Circumstances(protected=True)


def judge(
    request: NotificationRequest, view: LogView, about: Circumstances, *, alone: bool = False
) -> Judgement:
    """
    Say what becomes of a status.

    Args:
        request: The object, read after its log.
        view: Fold of that log.
        about: What else is known.
        alone: Nobody but this process can have done anything for it, and the view holds that.
    """
    if about.protected:
        return Judgement(Verdict.BELIEVED, Ground.POLICY, Ground.POLICY)
    said = beyond(request, view, about)
    if not said:
        return Judgement(Verdict.AGREES, Verdict.AGREES)
    if alone:
        return Judgement(Verdict.DISREGARDED, f"{said}, and nobody else can have sent anything")
    status, ground = request.status, about.ground(request)
    # What a log of ours holds from its beginning has to lead to a phase, whoever has written that.
    founded = (ground is Ground.ADOPTION and not view.whole) or supported(request, view, about)
    if ground is not None and founded:
        return Judgement(Verdict.BELIEVED, ground, ground)
    if view.pending:
        return Judgement(Verdict.DISREGARDED, f"{said}, and a person has requested a resend")
    if not view.position and about.complete(request.created, request.retention_days):
        return Judgement(Verdict.DISREGARDED, f"{said}, and nothing was ever sent for it")
    # What was journaled has to be joined with a log, so its end is none to rest on. A log that was made
    # anew, out of a memory or for what came late, lacks what the one held whose time was over.
    kept_until = request.created + 1000 * retention_seconds(request.retention_days)
    gone = about.now >= kept_until and not view.whole
    if status.terminal and status.journal is None and (gone or (founded and not view.position)):
        return Judgement(Verdict.AGREES, "finished, and its log is gone")
    return Judgement(Verdict.DOUBTED, said)


def beyond(request: NotificationRequest, view: LogView, about: Circumstances) -> str:
    """Return in words what a status says beyond the log, empty if it says no more."""
    status = request.status
    if lost := len(lacking(view, status)):
        return f"the status shows {lost} attempt(s) or result(s) that the log lacks"
    # What a loss has left of folded attempts is their number, for ever.
    if request.created > about.lost + BORN_MARGIN and _folds_more(status.rollup, view):
        return "the status has folded away more failed attempts than the log holds"
    if not supported(request, view, about):
        return f"the phase is {status.phase}, and the attempts on record do not lead to it"
    return ""


def supported(request: NotificationRequest, view: LogView, about: Circumstances) -> bool:
    """Whether the attempts of log and status together lead to the phase, if that is final."""
    status = request.status
    if not status.terminal or view.accepted == status.phase:
        return True
    facts = Facts(request.generation, request.policy, about.at_most_once)
    ground = about.ground(request)
    lost = request.created <= about.lost + BORN_MARGIN or ground is Ground.ADOPTION
    if lost or ground is Ground.JOURNAL:
        # What is journaled counts as unknown, although a former owner may have told the log alone more; of
        # what the store may have lost nobody knows whether it was, and another controller counts all.
        known = (*status.attempts, *view.attempts.values())
        doubted = {a.id for a in known if lost or a.state is AttemptState.UNKNOWN}
        view = replace(view, doubted=view.doubted | doubted)
    tried = {a.channel for a in (*status.attempts, *view.attempts.values())}
    tried |= {c.name for c in status.rollup.channels} if status.rollup else set()
    # Of a plan that is lost, only the status says which channels were fallbacks that were not needed.
    idle = {c.name for c in status.channels if c.state in IDLE and view.plan is None}
    # With it may be lost that a person has requested one since, which then is due beside the final phase.
    requested = lost and view.plan is None
    due = {c.name for c in status.channels if requested and c.state not in NOTHING_DUE}
    # After an end an attempt is opened by a person's request alone, which the store may have lost.
    ended = replace(view, attempts={i: a for i, a in view.attempts.items() if not a.open})
    states = channel_states_of(ended, status, facts, ordered=False)
    # What a person has said of a channel came after its end, and changes the phase no more.
    resolved = {a.channel for a in view.attempts.values() if a.id in view.resolved}
    said = resolved | view.orders.keys()
    shown = {a.id for a in status.attempts}
    # A log made anew may have got attempts of theirs from this status, which was written after those.
    used = {a.channel for a in view.attempts.values() if view.whole or a.id not in shown} - said
    states = tuple(
        s
        for s in states
        if (s.channel in used or s.channel not in idle)
        and (s.state.finished or s.channel not in due)
    )
    # Only where an unknown result ends a channel does a resolution open it again.
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
    # A success that came late is shown beside the phase that there was.
    late = (a for a in view.attempts.values() if a.state is AttemptState.SUCCESS)
    # What the store has lost may have been a person's request to send once more.
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
