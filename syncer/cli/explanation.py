"""
Why a notification was sent, why not, what comes next and when.

Nothing is decided here a second time. The state of each channel comes from the rule that the status uses,
the next step from the rule that the controller obeys (`syncer.rules.plan.decide`), with the controller's
inputs: object, fold of the log, due times, resend requests. Two inputs are the controller's alone, the
circuit breaker of a receiver and its missing credential; both leave a `skip` in the log, which is shown
with the channel.

The next step does not happen if no replica checks it, or none may: a log that cannot be read, a
namespace that is not watched, a shard without an owner. Such a reason takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from syncer.cli.access import Access
from syncer.cli.outage import held_back, remarks
from syncer.cli.owner import Owner
from syncer.model.attempt import (
    Attempt,
    epoch_key,
)
from syncer.model.conditions import QUARANTINED, true_condition
from syncer.model.hold import Hold
from syncer.model.record import Kind, Record
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.channel_state import ChannelState
from syncer.rules.fallback import held_along, opening
from syncer.rules.fold import ReadLog
from syncer.rules.holds import held_channels
from syncer.rules.merge import Facts, channel_states_of
from syncer.rules.plan import (
    Decision,
    Finish,
    Withhold,
    decide,
    hold_of,
    stale_of,
)
from syncer.rules.restore import highest_epoch

#: Who works on it was not looked up.
_NOT_LOOKED_UP: Final = Owner()


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that decide whether something is sent: as `syncer.settings.DeliveryRules`."""

    at_most_once: bool = False
    paused: bool = False
    max_age: float = 0.0
    #: False where no settings file was given, so that defaults were assumed.
    known: bool = True
    #: What operators hold, and why that is not known, empty if it is.
    holds: tuple[Hold, ...] = ()
    holds_problem: str = ""

    @classmethod
    def of(cls, at: Access, holds: tuple[Hold, ...] = (), problem: str = "") -> Rules:
        """Return the rules of the settings that were read, with holds, and why these are not known."""
        delivery = at.settings.delivery
        return cls(
            delivery.at_most_once, delivery.paused, delivery.max_age, at.configured, holds, problem
        )


@dataclass(frozen=True, slots=True)
class ChannelHistory:
    """
    One channel and its attempts.

    Attributes:
        channel_state: Its state, and the rule behind it.
        attempts: Oldest first, each with the record that opened it, if there is one.
        due: Unix milliseconds of the next attempt, 0 if none is planned.
        skip: Why its last due attempt was not made, empty if it was.
        ordered: Id of the resend request that waits, empty without one.
    """

    channel_state: ChannelState
    attempts: tuple[tuple[Attempt, Record | None], ...]
    due: int
    skip: str
    ordered: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    What comes next, and how it came to that, channel by channel.

    `rule` is the decision of the rule. `blocked` is why nothing comes although something is due or will be,
    empty if nothing is blocked; `decision` is then to hold it back for that reason.
    """

    request: NotificationRequest
    log: ReadLog
    decision: Decision
    next_at: int
    channels: tuple[ChannelHistory, ...]
    notes: tuple[str, ...]
    now: int
    owner: Owner
    rule: Decision
    blocked: str = ""
    #: Why the log was not read, empty if it was.
    unread: str = ""


def explain(
    request: NotificationRequest,
    log: ReadLog,
    rules: Rules,
    *,
    now: int,
    owner: Owner = _NOT_LOOKED_UP,
    unread: str = "",
) -> Explanation:
    """
    Explain one notification.

    Args:
        request: The object.
        log: Its log as read.
        rules: What is configured.
        now: Redis time in milliseconds.
        owner: Who works on it.
        unread: Why the log was not read, so that `log` is what the status shows; empty if it was.
    """
    view, status = log.view, request.status
    facts = Facts(request.generation, request.policy, rules.at_most_once)
    channel_states = channel_states_of(view, status, facts)
    ordered = view.ordered
    # As after a claim: the waits that the log stores, measured from now.
    due = {c: wait / 1000 for c, wait in view.waits(now, ordered).items()}
    if unread:
        due = {c.name: (c.next_retry - now) / 1000 for c in status.channels if c.next_retry}
    holds = held_channels(
        request, (s.channel for s in channel_states), rules.holds, now=now, clock=0.0
    )
    decision = rule = decide(
        planned=view.plan is not None,
        terminal=status.terminal,
        channel_states=channel_states,
        executing=frozenset(),
        due=due,
        now=0.0,
        ordered=ordered,
        held=hold_of(request.hold, paused=rules.paused),
        opens={c: wait / 1000 for c, wait in opening(view.plan, channel_states, now).items()},
        holds=held_along(view.plan, channel_states, holds),
        stale=stale_of(request.created, now, rules.max_age),
    )
    blocked = "" if isinstance(decision, Finish) else _blocked(request, log, owner)
    if unread and not (blocked or isinstance(decision, Finish)):
        blocked = held_back(request, owner)
    if blocked:
        decision = Withhold(decision.channels, decision.then, blocked)
    opened = {r.id: r for r in log.records if r.kind in (Kind.INTENT, Kind.SEED_INTENT)}
    shown = {a.id: a for a in status.attempts if a.id not in view.attempts}
    following = {c: round(now + wait * 1000) for c, wait in due.items() if wait > 0}
    histories = tuple(
        ChannelHistory(
            s,
            tuple(
                (a, opened.get(a.id))
                for a in (*view.attempts.values(), *shown.values())
                if a.channel == s.channel
            ),
            0 if s.state.finished else following.get(s.channel, 0),
            view.last_skip.get(s.channel, ""),
            view.order_ids.get(s.channel, "") if s.channel in ordered else "",
        )
        for s in channel_states
    )  # fmt: skip
    notes = (*remarks(request, owner, unread), *_notes(request, log, rules, owner, unread))
    next_at = 0 if decision.then is None else round(now + decision.then * 1000)
    return Explanation(
        request, log, decision, next_at, histories, notes, now, owner, rule, blocked, unread
    )


def _blocked(request: NotificationRequest, log: ReadLog, owner: Owner) -> str:
    """Return why nothing comes, whatever the rule decides; empty if nothing is known to block it."""
    if request.deleting:
        return "it is being deleted, which cancels delivery"
    if log.problem:
        return f"its log cannot be read: {log.problem}"
    held = _held_by_controller(request)
    if held:
        return f"the controller holds it: {held}"
    return _unbelieved(request, log) or owner.problem


def _unbelieved(request: NotificationRequest, log: ReadLog) -> str:
    """Return why the controller does not trust the status, empty if it does."""
    named = highest_epoch(request.status)
    if log.header is None or epoch_key(named) <= epoch_key(log.header.epoch):
        return ""
    return (
        f"its status names the epoch {named}, which its log ({log.header.epoch}) does not contain:"
        " another client wrote it"
    )


def _held_by_controller(request: NotificationRequest) -> str:
    """Return why the controller has put it in quarantine, empty if it has not."""
    condition = true_condition(request.status.conditions, QUARANTINED)
    return condition.message if condition is not None else ""


def _notes(
    request: NotificationRequest, log: ReadLog, rules: Rules, owner: Owner, unread: str
) -> list[str]:
    notes = [owner.problem] if owner.problem else []
    notes += owner.unread
    if log.problem:
        notes.append(f"its log cannot be read, so nothing is sent: {log.problem}")
    if log.header is None and not (log.problem or unread):
        gone = request.status.attempts or request.status.terminal
        notes.append(
            "it has no log any more" if gone else "it has no log yet: no replica has claimed it"
        )
    held = _held_by_controller(request)
    if held:
        notes.append(f"the controller holds it: {held}")
    unbelieved = _unbelieved(request, log)
    if unbelieved:
        notes.append(f"{unbelieved}, so nothing is sent")
    if request.deleting:
        notes.append("it is being deleted, which cancels delivery")
    if rules.holds_problem:
        notes.append(f"operators' holds are not known: {rules.holds_problem}")
    if not rules.known:
        notes.append("without --config the defaults of `delivery` are assumed")
    verbs = {Kind.ORDER: "resend requested", Kind.RESOLVE_FAILED: "resolved as failed",
            Kind.RESOLVE_SUCCESS: "resolved as delivered", Kind.REPAIR: "repaired"}  # fmt: skip
    for record in log.records:
        if record.kind in verbs:
            body = record.body
            reason = body.get("why") or body.get("did") or ""
            at = format_time(int(body.get("at", 0)))
            about = record.channel if record.channel != "-" else str(body.get("what", ""))
            notes.append(f"{at} {verbs[record.kind]} by {body.get('by', '?')}: {about}: {reason}")
    return notes
