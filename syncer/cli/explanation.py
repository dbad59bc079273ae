"""
Why a notification was sent, why not, what comes next and when.

No decision is implemented a second time here. The state of each channel comes from the rule that the status
uses, the next step from the rule that the controller obeys (`syncer.rules.plan.decide`), with the
controller's inputs: object, fold of the log, due times, resend requests. Two inputs exist only in the
controller, the circuit breaker of a receiver and its missing credential; both leave a `skip` in the log,
which is shown with the channel.

The next step does not happen if no replica checks the notification, or none may: the log cannot be read,
the namespace is not watched, or the shard has no owner. Such a reason is shown instead of the step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from syncer.cli.output import age, in_words, table, translated
from syncer.cli.owner import Owner, held_back, remarks
from syncer.model.attempt import (
    NO_EPOCH,
    Attempt,
    AttemptState,
    FailureClass,
    attempt_epoch,
    epoch_key,
)
from syncer.model.conditions import QUARANTINED, true_condition
from syncer.model.hold import Hold
from syncer.model.record import NO_CHANNEL, Kind, Record
from syncer.model.resource import FAILED, PARTIALLY_SENT, NotificationRequest, parse_object
from syncer.model.times import format_time, time_of
from syncer.rules.channel_state import ChannelState, State
from syncer.rules.fallback import held_along, opening
from syncer.rules.fold import ReadLog
from syncer.rules.holds import held_channels
from syncer.rules.merge import Facts, channel_states_of
from syncer.rules.plan import (
    Await,
    Decision,
    Deliver,
    Finish,
    GiveUp,
    Resolve,
    WaitUntil,
    Withhold,
    decide,
    given_up,
    hold_of,
    stale_of,
    withheld,
)
from syncer.rules.restore import highest_epoch
from syncer.rules.text import cut, go_duration, plain
from syncer.settings import DeliveryRules

#: The owner was not looked up.
_NOT_LOOKED_UP: Final = Owner()


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings and holds that decide whether something is sent."""

    delivery: DeliveryRules = field(default_factory=DeliveryRules)
    #: False if no settings file was given, so that defaults were assumed.
    known: bool = True
    #: The operators' holds; and why they are not known, empty if they are.
    holds: tuple[Hold, ...] = ()
    holds_problem: str = ""


class Silence(NamedTuple):
    """A period in which a channel was held back for one reason; `end` is 0 if no record ends it."""

    channel: str
    since: int
    end: int
    text: str


#: The reason for holding something back, as the log has it: until when, by whom and why.
_HELD: Final = re.compile(
    r"held(?: until (\S+))?((?: by |: ).*?)(?: \(syncer hold end (\S+)\))?", re.DOTALL
)


def silences(records: Sequence[Record], holds: Iterable[Hold] = ()) -> list[Silence]:
    """Return when channels were held back, each time until the next skip or intent of the channel."""
    found, enders = [], {h.name: f", ended by {h.ended_by}" for h in holds if h.ended_by}
    for n, one in enumerate(records):
        why, since = str(one.body.get("why", "")), int(one.body.get("at", 0))
        if one.kind is Kind.SKIP and (held := _HELD.fullmatch(why)):
            later = (r for r in records[n + 1 :] if r.kind in (Kind.SKIP, Kind.INTENT))
            end = next((int(r.body.get("at", 0)) for r in later if r.channel == one.channel), 0)
            # The hold may have ended by itself long before the channel was checked again.
            end = min(end, time_of(held[1])) if held[1] else end
            begin, over = format_time(since, millis=False), format_time(end, millis=False)
            # The end of a hold that still applies may have changed; the next step shows the present one.
            span = f"{begin} to {over}" if end else f"since {begin}"
            said = f"held {span}{held[2]}{enders.get(held[3], '')}"
            found.append(Silence(one.channel, since, end, said))
    return found


@dataclass(frozen=True, slots=True)
class ChannelHistory:
    """
    One channel and its attempts.

    Attributes:
        channel_state: State of the channel, and the rule behind it.
        attempts: Oldest first, each with the record that opened it, if there is one.
        due: Unix milliseconds of the next attempt, 0 if none is planned.
        skip: Why its last due attempt was not made, empty if it was.
        ordered: Id of the resend request that waits, empty without one.
        held: Periods in which it was held back.
    """

    channel_state: ChannelState
    attempts: tuple[tuple[Attempt, Record | None], ...]
    due: int
    skip: str
    ordered: str
    held: tuple[Silence, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    The next step for a notification, and how it came to that, channel by channel.

    `rule` is the decision of the rule alone. `blocked` is why nothing is sent although something is due or
    will be, empty if nothing is blocked. If it is set, `decision` is to withhold for that reason.
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
    #: If the object was deleted, when its log expires, 0 if it does not; None while the object exists.
    kept: int | None = None


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
        rules: The settings and holds that apply.
        now: Redis time in milliseconds.
        owner: Who works on it.
        unread: Why the log was not read, so that `log` is made from the status; empty if it was.
    """
    view, status = log.view, request.status
    facts = Facts(request.generation, request.policy, rules.delivery.at_most_once)
    channel_states = channel_states_of(view, status, facts)
    ordered = view.ordered
    # As after a claim: the waits stored in the log, measured from now.
    waits = {c.name: c.next_retry - now for c in status.channels if c.next_retry}
    due = {c: w / 1000 for c, w in (waits if unread else view.waits(now, ordered)).items()}
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
        held=hold_of(request.hold, paused=rules.delivery.paused),
        opens={c: wait / 1000 for c, wait in opening(view.plan, channel_states, now).items()},
        holds=held_along(view.plan, channel_states, holds),
        stale=stale_of(request.created, now, rules.delivery.max_age),
    )
    silent = held_back(request, owner) if unread else ""
    blocked = next(filter(None, [*_reasons(request, log), owner.problem, silent]), "")
    if isinstance(decision, Finish) or not blocked:
        blocked = ""
    else:
        decision = Withhold(decision.channels, decision.then, blocked)
    opened = {r.id: r for r in log.records if r.kind in (Kind.INTENT, Kind.SEED_INTENT)}
    shown = {a.id: a for a in status.attempts if a.id not in view.attempts}
    following = {c: round(now + wait * 1000) for c, wait in due.items() if wait > 0}
    held = silences(log.records, rules.holds)
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
            tuple(h for h in held if h.channel == s.channel),
        )
        for s in channel_states
    )  # fmt: skip
    notes = (*remarks(request, owner, unread), *_notes(request, log, rules, owner, unread))
    next_at = 0 if decision.then is None else round(now + decision.then * 1000)
    return Explanation(
        request, log, decision, next_at, histories, notes, now, owner, rule, blocked, unread
    )


def of_deleted(key: str, uid: str, log: ReadLog, *, now: int, ttl: int) -> Explanation:
    """Explain a deleted notification from its log alone; `ttl` is in seconds."""
    meta = dict(zip(("namespace", "name"), key.split("/", 1), strict=True))
    found = explain(parse_object({"metadata": {"uid": uid, **meta}}), log, Rules(), now=now)
    return replace(
        found, decision=Finish("the object was deleted"), next_at=0,
        kept=now + ttl * 1000 if ttl >= 0 else 0,
        channels=tuple(replace(history, due=0) for history in found.channels),
    )  # fmt: skip


def _reasons(request: NotificationRequest, log: ReadLog) -> list[str]:
    """Return why the controller sends nothing, according to object and log; empty if nothing stops it."""
    condition = true_condition(request.status.conditions, QUARANTINED)
    named, known = highest_epoch(request.status), log.header and log.header.epoch
    foreign = (
        f"its status names the epoch {named}, which its log ({known}) does not contain:"
        " another client wrote it"
    )
    return [
        *(["it is being deleted, which cancels delivery"] if request.deleting else []),
        *([f"its log cannot be read: {log.problem}"] if log.problem else []),
        *([f"the controller holds it: {condition.message}"] if condition is not None else []),
        *([foreign] if known and epoch_key(named) > epoch_key(known) else []),
    ]


#: What an operator's record did.
VERBS: Final = {
    Kind.ORDER: "resend requested", Kind.RESOLVE_FAILED: "resolved as failed",
    Kind.RESOLVE_SUCCESS: "resolved as delivered", Kind.REPAIR: "repaired",
}  # fmt: skip


def _notes(
    request: NotificationRequest, log: ReadLog, rules: Rules, owner: Owner, unread: str
) -> list[str]:
    gone = request.status.attempts or request.status.terminal
    no_log = "it has no log any more" if gone else "it has no log yet: no replica has claimed it"
    notes = [
        owner.problem, *owner.unread,
        no_log if log.header is None and not (log.problem or unread) else "",
        *_reasons(request, log),
        rules.holds_problem and f"operators' holds are not known: {rules.holds_problem}",
        "" if rules.known else "without --config the defaults of `delivery` are assumed",
    ]  # fmt: skip
    for record in (r for r in log.records if r.kind in VERBS):
        at, body = format_time(int(record.body.get("at", 0))), record.body
        reason = body.get("why") or body.get("did") or ""
        about = record.channel if record.channel != NO_CHANNEL else str(body.get("what", ""))
        notes.append(f"{at} {VERBS[record.kind]} by {body.get('by', '?')}: {about}: {reason}")
    return [note for note in notes if note]


def next_step(found: Explanation) -> str:
    """Return one sentence: what comes next, and why."""
    match found.decision:
        case Resolve(reason):
            return f"its channels are resolved: {reason}"
        case Deliver(channels, _, _, held):
            skipped = [
                f"{c} was last not tried: {history.skip}"
                for history in found.channels
                if history.skip and (c := history.channel_state.channel) in channels
            ]
            due = f"an attempt is due now on {', '.join(channels)}"
            return "; ".join([due, *skipped, *_held_back(held)])
        case Withhold((), _, reason, _):
            return f"nothing: {reason}"
        case Withhold(channels, _, reason, held):
            return "nothing: " + "; ".join(
                _held_back(held) or [f"{', '.join(channels)} is due and {reason}"]
            )
        case GiveUp(channels, _, reason):
            return f"{', '.join(channels)} is given up: {reason}"
        case WaitUntil(_, reason):
            wait = in_words(found.next_at - found.now)
            return f"an attempt at {format_time(found.next_at)} (in {wait}): {reason}"
        case Await(reason):
            return f"the result of what is being sent: {reason}"
        case Finish(reason):
            status = found.request.status
            left = {history.channel_state.state for history in found.channels} - {State.DELIVERED}
            again = status.phase in {FAILED, PARTIALLY_SENT} and left
            more = "; `resend` requests one more attempt" if again else ""
            return f"nothing: {reason}" + (
                more if status.terminal else "; the status does not show this yet"
            )


def _held_back(held: tuple[tuple[str, str], ...]) -> list[str]:
    """Return a text for each reason, with the channels that it keeps back."""
    return [
        f"{', '.join(c for c, why in held if why == reason)} is due and {reason}"
        for reason in dict.fromkeys(reason for _, reason in held)
    ]


#: Characters shown of a subject.
_SUBJECT: Final = 100
#: Channels that the summary describes.
_TOLD: Final = 3
#: Texts for a channel whose state no recorded attempt explains.
_UNTRIED: Final = {
    State.DELIVERED: "Delivered to {}; only the count is on record",
    State.NOT_NEEDED: "No fallback to {} was needed",
    State.SUPERSEDED: "Not sent to {}: superseded by a newer one of its incident",
    State.STANDBY: "Not sent to {} yet, the fallback",
}
#: Milliseconds that a call can take at most; no setting allows a longer one.
_LONGEST_SEND: Final = 300_000
_NUMBERS: Final = dict(
    enumerate(("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"))
)


def word_of(attempt: Attempt, records: Iterable[Record]) -> str:
    """
    Return where the result of an attempt comes from; empty if its sender has observed it.

    Args:
        attempt: The attempt.
        records: Records of its log; empty if the log was not read.
    """
    stated = [r for r in records if r.kind.state is attempt.state and r.attempt_id == attempt.id]
    if any(r.kind.value == attempt.state.word for r in stated):
        return ""
    if by := [str(r.body.get("by") or "somebody") for r in stated if r.kind.resolution]:
        return f"resolved by {by[-1]}"
    if attempt_epoch(attempt.id) == NO_EPOCH:
        return "adopted from the controller before"
    return "restored from the status" if stated else ""


def asked_by(order: str, records: Iterable[Record]) -> str:
    """Return who has requested one more attempt; the id of the request if no record says so."""
    return next((str(r.body.get("by")) for r in records if r.id == order and order), order)


def summary(found: Explanation) -> str:
    """Return the result so far, in one sentence for each of the first channels."""
    told, more = [_told(h, found) for h in found.channels[:_TOLD]], len(found.channels) - _TOLD
    if not told:
        planned = found.log.view.plan is not None
        told = ["It goes to no receiver." if planned else "Its receivers are not chosen yet."]
    told += [f"{more} more channel(s) below."] if more > 0 else []
    if found.kept is not None:
        until = f" until {_clock(found.kept, found.now)}" if found.kept else ""
        told.append(f"The object was deleted; its log is kept{until}.")
    return " ".join(told)


def _told(history: ChannelHistory, found: Explanation) -> str:
    state, attempts, now = history.channel_state, [a for a, _ in history.attempts], found.now
    # A success that was recorded later does not show when the message arrived.
    times = [
        f"at {_clock(a.started or a.ended, now)} ({word}: not observed by the sender)"
        if (word := word_of(a, found.log.records)) else f"at {_clock(a.ended, now)}"
        for a in attempts if a.state is AttemptState.SUCCESS
    ]  # fmt: skip
    # The end of an unknown attempt may be the time at which the next process found it.
    unknown = [
        f"at {_clock(at, now)}" if (at := a.started or (a.duration and a.ended - a.duration))
        else f"before {_clock(a.ended, now)}"
        for a in attempts if a.state is AttemptState.UNKNOWN
    ]  # fmt: skip
    failures = [a for a in attempts if a.state is AttemptState.FAILED]
    number = sum(not given_up(a.error) for a in failures)
    after = f" after {_NUMBERS.get(number, number)} failure{'s' * (number > 1)}" if number else ""
    dropped = given_up(failures[-1].error) if failures else ""
    if times:
        often = {1: "", 2: " twice"}.get(n := len(times), f" {_NUMBERS.get(n, n)} times")
        text = f"Delivered{often} to {state.channel}{':' * (n > 1)} {' and '.join(times)}{after}"
    elif state.state in _UNTRIED:
        text = _UNTRIED[state.state].format(state.channel)
    else:
        yet = "" if state.state.finished or found.kept is not None else "yet "
        done = "sent" if dropped and not number else "delivered"
        text = f"Not {yet}{done} to {state.channel}{after}"
    if failures and not times:
        text += f": {dropped or translated(failures[-1].error)}".rstrip(".")
    if unknown:
        also, again = ("also ", " twice") if times else ("", "")
        text += f"; {also}sent {' and '.join(unknown)}, with an unknown result: it may have arrived{again}"
    for a in attempts:
        if a.open:
            way, end = (
                ("on its way", ", and may have arrived") if _left(a, found) else ("being sent", "")
            )
            text += f"; {way} since {_clock(a.started, now)}{end}"
    held = [why for channel, why in withheld(found.rule) if channel == state.channel]
    return f"{'; '.join([text, *held]).rstrip('.')}."


def _left(attempt: Attempt, found: Explanation) -> bool:
    """Whether no process waits for the answer to an open attempt any more."""
    header, alone = found.log.header, found.owner.holder == "" or found.kept is not None
    replaced = header and attempt_epoch(attempt.id) != header.epoch
    return bool(alone or replaced) or found.now - attempt.started > _LONGEST_SEND


def final(found: Explanation) -> str:
    """Return why a final phase shows less than the log, empty if it does not."""
    status = found.request.status
    # `completed_at` is in whole seconds.
    late = [
        h.channel_state.channel
        for h in found.channels
        if h.channel_state.state is State.DELIVERED
        and all(
            a.ended >= status.completed_at + 1000
            for a, _ in h.attempts
            if a.state is AttemptState.SUCCESS
        )
    ]
    if not (late and status.completed_at and status.phase in {FAILED, PARTIALLY_SENT}):
        return ""
    return (
        f"{status.phase}, as it was published at {_clock(status.completed_at, found.now)}, and that stays;"
        f" delivered since then: {', '.join(late)}"
    )


def _clock(ms: int, now: int) -> str:
    """Return a time of day, with the date if it is not today's."""
    day, _, clock = format_time(ms, millis=False).rstrip("Z").partition("T")
    today = format_time(now, millis=False).partition("T")[0]
    return f"{clock} UTC" if day == today else f"{day} {clock} UTC" if day else "an unknown time"


def as_text(found: Explanation) -> list[str]:
    """Return the explanation as lines for a person."""
    request, log, status = found.request, found.log, found.request.status
    out = [summary(found), f"{request.key}  uid {request.uid}"]
    if found.kept is None:
        severity = f"[{request.severity}] " if request.severity else ""
        subject, late = request.spec().subject, final(found)
        out += [
            *([f"SUBJECT {severity}{cut(subject, _SUBJECT)}"] if subject or severity else []),
            *([f"EVENT   {request.event}"] if request.event else []),
            f"PHASE   {status.phase or '(none)'}  {status.reason}  {status.message}".rstrip(),
            *([f"        {late}"] if late else []),
            f"AGE     {age(found.now - request.created)}, priority {request.priority or 'Medium'}",
            f"NEXT    {next_step(found)}",
        ]
    plan = log.view.plan
    if plan is not None:
        out += [
            f"ROUTED  to {', '.join(plan.first) or 'no channel'} at {format_time(plan.at)}",
            *(
                f"        to {each.channel} if {' or '.join(each.of)} fails, or has not succeeded after"
                f" {go_duration(each.after)}"
                for each in plan.fallbacks
            ),
            f"        {plan.reason}: {plan.message}".rstrip(": "),
        ]
    for history in found.channels:
        out += ["", *_channel(history, found)]
    out += ["", *(f"! {note}" for note in found.notes)] if found.notes else []
    # The lines contain texts of creators, receivers and operators.
    return [plain(line) for line in out]


def _channel(history: ChannelHistory, found: Explanation) -> list[str]:
    state, records, skip = history.channel_state, found.log.records, history.skip
    wait, waits = in_words(history.due - found.now), any(not held.end for held in history.held)
    out = [
        f"CHANNEL {state.channel}"
        + (f": {state.state} ({state.reason})" if found.kept is None else ""),
        history.ordered and f"  one more attempt requested by {asked_by(history.ordered, records)}",
        f"  next attempt at {format_time(history.due)} (in {wait})" if history.due else "",
        *(f"  {held.text}" for held in history.held),
        f"  last due attempt was not made: {skip}" if skip and not waits else "",
        "" if history.attempts else "  no attempt yet",
    ]
    rows = [
        (
            a.id, format_time(a.started), format_time(a.ended),
            ", ".join(filter(None, [result_of(a), word_of(a, records)])),
            str(a.code or ""),
            "restored" if intent is None
            else f"resend by {asked_by(order, records)}" if (order := str(intent.body.get("order", "")))
            else "it was due",
            cut(given_up(a.error) or translated(a.error), 100),
        )
        for a, intent in history.attempts
    ]  # fmt: skip
    head = ("attempt", "opened", "ended", "result", "code", "because", "error")
    return [line for line in out if line] + (table([head, *rows], indent="  ") if rows else [])


def result_of(attempt: Attempt) -> str:
    """Return the result of an attempt, in words."""
    if attempt.state is AttemptState.FAILED and attempt.failure is not None:
        words = {
            FailureClass.PERMANENT: "failed for good",
            FailureClass.NOT_SENT: "not sent",
            FailureClass.TRANSIENT: "failed, may be retried",
            FailureClass.UNCERTAIN: "failed",
            FailureClass.OPERATOR: "refused, waits for an operator",
            FailureClass.SUPERSEDED: "superseded, not sent",
        }
        return "not sent" if given_up(attempt.error) else words[attempt.failure]
    return "under way" if attempt.open else attempt.state.word


def as_json(found: Explanation) -> dict[str, Any]:
    """Return the explanation as one JSON object; the keys are an interface."""
    plan = found.log.view.plan
    return {
        "uid": found.request.uid, "object": found.request.key, "summary": summary(found),
        "subject": found.request.spec().subject, "severity": found.request.severity or None,
        "phase": found.request.status.phase, "final": final(found) or None,
        "deleted": found.kept is not None, "logKeptUntil": format_time(found.kept or 0) or None,
        "next": {
            "decision": type(found.decision).__name__,
            "reason": found.decision.reason,
            "channels": list(getattr(found.decision, "channels", ())),
            "at": format_time(found.next_at) or None,
            "blocked": found.blocked or None,
            "held": {} if found.blocked else dict(withheld(found.decision)),
        },
        "logUnread": found.unread or None,
        "journal": {
            "outage": found.request.status.journal,
            "shard": found.owner.note.name if found.owner.note else None,
        },
        "watched": found.owner.watched,
        "owner": {
            "shard": found.owner.shard if found.owner.shard >= 0 else None,
            "holder": found.owner.holder,
        },
        "plan": None
        if plan is None
        else {
            "channels": list(plan.channels),
            "fallbacks": [
                {"channel": f.channel, "of": list(f.of), "afterSeconds": f.after / 1000}
                for f in plan.fallbacks
            ],
            "rule": plan.reason, "message": plan.message, "at": format_time(plan.at),
        },
        "channels": [
            {
                "channel": s.channel_state.channel, "state": s.channel_state.state.value,
                "rule": s.channel_state.reason, "finished": s.channel_state.state.finished,
                "delivered": s.channel_state.state is State.DELIVERED,
                "nextAttempt": format_time(s.due) or None, "skipped": s.skip or None,
                "ordered": s.ordered or None,
                "held": [
                    {"from": format_time(h.since), "to": format_time(h.end) or None, "what": h.text}
                    for h in s.held
                ],
                "attempts": [
                    {
                        "id": a.id, "state": a.state.word, "class": a.failure and a.failure.value,
                        "opened": format_time(a.started) or None, "ended": format_time(a.ended) or None,
                        "code": a.code or None, "error": a.error or None,
                        "word": word_of(a, found.log.records) or None,
                        "order": i and (str(i.body.get("order", "")) or None),
                    }
                    for a, i in s.attempts
                ],
            }
            for s in found.channels
        ],
        "notes": list(found.notes),
    }  # fmt: skip
