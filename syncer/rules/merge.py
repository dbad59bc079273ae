"""
The merge: status = fold(log joined with what the object shows).

The result depends only on these two sides; merging twice, in another order, or after a conflict with a
newer object gives the same status, so the status writer can retry without any bookkeeping. Attempts are
united by id, and the log decides on attempts that both sides have. Counters are computed from the result,
and a terminal phase never changes.

Two things are *assigned* rather than computed: an attempt's number (1, 2, 3 per channel, at its first
publication; on a conflict the object's number wins) and the order of the list (order of publication).
Open attempts are not published: they are in the log, and their results will be published.

Objects of the replaced controller are merged in the same way: their attempts have ids `0-<index>`, and
their counters are never lowered. A listed attempt without an id is first compared with the log, because it
may be one of ours whose id was dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass, attempt_key, join
from syncer.model.conditions import LOG_UNAVAILABLE, QUARANTINED, RECORD_TRUSTED
from syncer.model.record import MAX_INT
from syncer.model.resource import (
    FAILED,
    PARTIALLY_SENT,
    PENDING,
    RETRYING,
    SENDING,
    SENT,
    TERMINAL_PHASES,
    ChannelRollup,
    ChannelStatus,
    LogMark,
    RetryPolicy,
    Rollup,
    Status,
)
from syncer.rules.channel_state import ChannelState, State, counts, deciding, state_of, superseded
from syncer.rules.fallback import stood_by
from syncer.rules.fold import LogView
from syncer.rules.recognise import recognise
from syncer.rules.status_conditions import conditions_of, stopped
from syncer.rules.text import go_duration

_PHASE_ORDER = {"": 0, PENDING: 1, SENDING: 2, RETRYING: 3}

#: Error of a journaled attempt until its result is known.
WRITTEN_AHEAD = "recorded before it is sent; the result is not known yet"
#: Error of a journaled attempt whose sender ended before it recorded the result.
SENDER_ENDED = "the sender ended before the result was recorded"
#: How a person can settle a doubted status.
WAYS_OUT = (
    "`syncer verify --repair --unwitnessed` accepts what it says, `syncer resend` goes by the log"
)
ALL_FAILED = "All delivery attempts failed or exhausted retries"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about the object that the merge needs besides its status."""

    generation: int
    policy: RetryPolicy
    at_most_once: bool = False
    #: Why a due attempt has long waited for the log, as a condition's reason and message; None if none has.
    held: tuple[str, str] | None = None
    #: The violation that the self-audit found, empty if none.
    violation: str = ""
    #: Why the record cannot be trusted, empty if it can.
    untrusted: str = ""
    #: Whether the log cannot be read again. Then no failure becomes final, because the log may have a
    #: result that the status shows as unknown.
    unread: bool = False
    #: The attempts that this process carries out, with their channels. A journaled one is shown as unknown
    #: but counts as open: it may be the last one, and a final phase cannot be taken back. A fallback in
    #: this mapping counts as tried although no record shows its attempt yet.
    in_hand: Mapping[AttemptId, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged status before it is cut to size, the state of every channel, and why it has its phase."""

    status: Status
    channel_states: tuple[ChannelState, ...]
    reason: str


def channel_states_of(
    view: LogView, status: Status, facts: Facts, *, ordered: bool = True
) -> tuple[ChannelState, ...]:
    """
    Return the state of every planned channel, from log and object; without a plan, of every shown channel.

    If `ordered` is false, resend requests and their attempts are ignored, except for successes.
    """
    status = recognise(status, view.attempts)
    attempts = _in_hand_open(_unite(status, view), facts)
    return _channel_states(attempts, status, view, facts, ordered=ordered)


def _channel_states(
    attempts: list[Attempt], status: Status, view: LogView, facts: Facts, *, ordered: bool = True
) -> tuple[ChannelState, ...]:
    # The status contributes only those folded attempts that the log has lost.
    folded = {
        c.name: (c.failed - len(gone), c.not_sent - sum(not counts(a) for a in gone))
        for c, gone in _folded(status, view)
    }

    def state(channel: str, *, ordered: bool) -> ChannelState:
        before = view.orders.get(channel)
        lost, unsent = folded.get(channel, (0, 0))
        return state_of(
            channel,
            [
                a
                for a in attempts
                if a.channel == channel
                and (ordered or before is None or a.id in before or a.state is AttemptState.SUCCESS)
            ],
            max_attempts=facts.policy.max_attempts,
            at_most_once=facts.at_most_once,
            before_order=before if ordered else None,
            folded=max(0, lost),
            folded_unsent=max(0, unsent),
            ended_by=view.doubted if status.terminal and before is None else (),
        )

    states = tuple(state(c, ordered=ordered) for c in _planned(view, status, attempts))
    if view.plan is None or not view.plan.fallbacks:
        return states
    before = {s.channel: s.state for s in states}
    for channel in view.orders.keys() & before.keys():
        # A channel that had ended before its resend request still counts as ended that way, so the request
        # makes no fallback needed. A request on a channel under way may itself have ended the channel.
        if (own := state(channel, ordered=False).state).finished:
            before[channel] = own
    tried = {*facts.in_hand.values(), *(view.orders if ordered else ())}
    return stood_by(states, before, view.plan.fallbacks, tried)


def merge(
    status: Status,
    view: LogView,
    facts: Facts,
    *,
    now: int,
    mark: LogMark | None = None,
    journal: str | None = None,
) -> Merged:
    """
    Unite the status of an object with its log.

    Args:
        status: The status as stored.
        view: Fold of the log.
        facts: Further facts about the object.
        now: Redis time in milliseconds, used only for new timestamps.
        mark: The log that the view was folded from.
        journal: Name of the note if the status journals all known attempts: open ones are then shown as
            unknown. Empty to remove the mark; None to leave it as it is.
    """
    status = _recounted(recognise(status, view.attempts), view)
    attempts = _unite(status, view, folded=status.rollup)
    whole = _unite(status, view) if status.rollup else attempts
    channel_states = _channel_states(_in_hand_open(whole, facts), status, view, facts)
    published = _publish([_ahead(a) for a in attempts] if journal else attempts, status)
    unread = facts.unread and any(a.state is AttemptState.UNKNOWN for a in attempts)
    phase, cause = _phase(status, view, channel_states, unread=unread)
    counted, known = channel_states, [a for a in whole if not a.open]
    if len(known) < len(whole):
        # Open attempts are not shown in a status, so they must not change its counts.
        counted = _channel_states(known, status, view, facts)
    total, successful, failed = _count(published, status, counted)
    queued, started, completed = _times(phase, published, status, view, now)
    reason, message = _explain(phase, status, channel_states)
    out = Status(
        phase=phase,
        reason=reason,
        message=message,
        conditions=conditions_of(
            phase,
            message,
            published,
            channel_states,
            old=status,
            plan=view.plan,
            violation=facts.violation,
            held=facts.held,
            generation=facts.generation,
            now=now,
        ),
        attempts=published,
        total_attempts=total,
        successful=successful,
        failed=failed,
        uncertain=sum(a.state is AttemptState.UNKNOWN for a in published),
        queued_at=queued,
        started_at=started,
        completed_at=completed,
        observed_generation=facts.generation,
        channels=_channels(phase, channel_states, status, view),
        rollup=status.rollup,
        log=mark or status.log,
        journal=status.journal if journal is None else journal or None,
    )
    return Merged(out, channel_states, cause)


def quarantine(status: Status, reason: str, facts: Facts, *, now: int) -> Status:
    """
    Return a status that waits for a person or its log: its conditions say why, and nothing else changes.

    `reason` says where and how the log is damaged, never what it holds. It is empty if `facts` say that the
    status cannot be trusted, or that the log which could confirm it is away.
    """
    if reason:
        why = (QUARANTINED, "True", "LogUndecodable", reason)
    elif facts.held is not None and not facts.untrusted:
        why = (LOG_UNAVAILABLE, "True", *facts.held)
    else:
        why = (RECORD_TRUSTED, "False", "StatusBeyondLog", f"{facts.untrusted}; {WAYS_OUT}")
    shown = stopped(status, why, generation=facts.generation, now=now)
    return replace(status, conditions=shown)


def lacking(view: LogView, status: Status) -> tuple[Attempt, ...]:
    """Attempts that the log lacks, or knows less about than the object: the seeds of a claim."""
    out = []
    for shown in recognise(status, view.attempts).attempts:
        known = view.attempts.get(shown.id)
        if known is None or known.state < shown.state:
            out.append(shown)
    return tuple(out)


def exceeds(view: LogView, status: Status) -> bool:
    """Whether the log holds something publishable that the object does not show."""
    shown = {a.id: a for a in recognise(status, view.attempts).attempts}
    for attempt in view.attempts.values():
        if attempt.open or rolled_up(attempt, status.rollup):
            continue
        other = shown.get(attempt.id)
        if other is None or other.state < attempt.state:
            return True
    return False


# -- parts of the merge ---------------------------------------------------------------------------


def _planned(view: LogView, status: Status, attempts: Iterable[Attempt]) -> tuple[str, ...]:
    if view.plan is not None:
        return view.plan.channels
    if status.channels:
        return tuple(c.name for c in status.channels)
    return tuple(dict.fromkeys(a.channel for a in attempts))


def rolled_up(attempt: Attempt, rollup: Rollup | None) -> bool:
    """Whether a status counts an attempt instead of listing it."""
    if rollup is None or attempt.state is not AttemptState.FAILED:
        return False
    for channel in rollup.channels:
        if channel.name == attempt.channel:
            return attempt_key(attempt.id) <= attempt_key(channel.last_id)
    return False


def _folded(status: Status, view: LogView) -> list[tuple[ChannelRollup, list[Attempt]]]:
    """Return, for each channel, the folded attempts of a status, and those of them that the log has."""
    if (rollup := status.rollup) is None:
        return []
    shown = {a.id for a in status.attempts}
    gone = [a for a in view.attempts.values() if a.id not in shown and rolled_up(a, rollup)]
    return [(c, [a for a in gone if a.channel == c.name]) for c in rollup.channels]


def _recounted(status: Status, view: LogView) -> Status:
    """Return a status that counts at least as many folded attempts as its log has."""
    if status.rollup is None:
        return status
    channels, through = [], status.rollup.through
    for channel, gone in _folded(status, view):
        more = max(0, len(gone) - channel.failed)
        channels.append(replace(channel, failed=channel.failed + more))
        through += more
    return replace(status, rollup=Rollup(through, tuple(channels)))


def _unite(status: Status, view: LogView, *, folded: Rollup | None = None) -> list[Attempt]:
    """
    Return every attempt that either side has, open ones included: in list order, then in log order.

    Attempts of the log that are `folded` away are left out. A status adds results that the log does not
    have yet (`lacking`), and changes none that the log has.
    """
    out: dict[AttemptId, Attempt] = {a.id: a for a in status.attempts}
    for attempt in view.attempts.values():
        shown = out.get(attempt.id)
        if shown is not None and shown.state > attempt.state:
            out[attempt.id] = join(shown, attempt)
        elif shown is not None or not rolled_up(attempt, folded):
            # Not a join: anyone who may write a status could change attempts that the log has.
            out[attempt.id] = attempt
    return list(out.values())


def _in_hand_open(attempts: list[Attempt], facts: Facts) -> list[Attempt]:
    """Treat attempts that this process carries out as open, even if the status shows them as unknown."""
    if not facts.in_hand:
        return attempts
    return [
        replace(a, state=AttemptState.INTENT, failure=None, error="")
        if a.id in facts.in_hand and a.state is AttemptState.UNKNOWN
        else a
        for a in attempts
    ]


def _ahead(attempt: Attempt) -> Attempt:
    """Return an attempt as the journal shows it: an open one as unknown until its result is known."""
    if not attempt.open:
        return attempt
    return replace(
        attempt,
        state=AttemptState.UNKNOWN,
        failure=FailureClass.UNCERTAIN,
        error=WRITTEN_AHEAD,
    )


def _publish(attempts: list[Attempt], status: Status) -> tuple[Attempt, ...]:
    given = {(a.channel, a.number) for a in status.attempts}
    if status.rollup:
        given.update((c.name, c.number) for c in status.rollup.channels)
    highest: dict[str, int] = {}
    for channel, number in given:
        # Anyone who may write a status can write any number. The largest is ignored: none could follow it.
        if number < MAX_INT:
            highest[channel] = max(highest.get(channel, 0), number)
    kept = {a.id: a.number for a in status.attempts}
    out = []
    for attempt in attempts:
        if attempt.open:
            continue
        number = kept.get(attempt.id, 0)
        if not number:
            number = highest.get(attempt.channel, 0) + 1
            while (attempt.channel, number) in given:
                number += 1
            highest[attempt.channel] = number
        out.append(
            attempt
            if attempt.number == number
            else attempt.with_origin(started=attempt.started, number=number)
        )
    return tuple(out)


def _phase(
    status: Status, view: LogView, channel_states: tuple[ChannelState, ...], *, unread: bool
) -> tuple[str, str]:
    if status.terminal:
        return status.phase, "terminal phases absorb"
    if view.plan is None:
        # There may be channels that were not tried yet: nothing is final without a plan.
        return _furthest(status.phase, PENDING), "not planned yet"
    deciders = deciding(channel_states)
    if not deciders:
        why = "every channel is superseded" if channel_states else "no channel was resolved"
        return FAILED, why
    delivered = sum(s.state is State.DELIVERED for s in deciders)
    if delivered == len(deciders):
        return SENT, "every channel delivered"
    if all(s.state.finished for s in deciders):
        if unread:
            return _furthest(status.phase, SENDING), "the log must say whether it failed"
        return (PARTIALLY_SENT if delivered else FAILED), "every channel finished"
    failing = any(s.state is State.RETRYING or _refused(s) for s in deciders)
    if delivered and failing:
        return _furthest(status.phase, RETRYING), "some channels delivered, others to be retried"
    return _furthest(status.phase, SENDING), "attempts under way"


def _refused(channel_state: ChannelState) -> bool:
    return channel_state.state.finished and channel_state.state is not State.DELIVERED


def _furthest(current: str, wanted: str) -> str:
    ahead = _PHASE_ORDER.get(current, 0) > _PHASE_ORDER[wanted]
    return current if ahead else wanted


def _count(
    published: tuple[Attempt, ...], old: Status, channel_states: tuple[ChannelState, ...]
) -> tuple[int, int, int]:
    """Return the numbers of attempts, of delivered channels, and of deciding channels tried in vain."""
    folded = old.rollup.through if old.rollup else 0
    channels: dict[str, bool] = {}
    if old.rollup:
        channels = {c.name: False for c in old.rollup.channels}
    for attempt in published:
        success = attempt.state is AttemptState.SUCCESS
        channels[attempt.channel] = channels.get(attempt.channel, False) or success
    successful = sum(channels.values())
    deciders = {s.channel for s in deciding(channel_states)}
    gone = sum(s.channel in channels and s.channel not in deciders for s in channel_states)
    # The server refuses to lower the first two; an object that counts more than its list (written by
    # another controller, or edited by hand) keeps its counts.
    return (
        max(len(published) + folded, old.total_attempts),
        max(successful, old.successful),
        len(channels) - successful - gone,
    )


def _times(
    phase: str, published: tuple[Attempt, ...], old: Status, view: LogView, now: int
) -> tuple[int, int, int]:
    """When it was queued, when processing began, and when it ended (0 until then)."""
    begun = view.plan.at if view.plan and view.plan.at else now
    queued = old.queued_at or min(begun, now)
    started = old.started_at
    if phase != PENDING and not started:
        started = max(queued, begun)
    completed = old.completed_at
    if phase in TERMINAL_PHASES and not completed:
        newest = max((a.ended for a in published), default=0)
        completed = max(started, newest or now)
    return queued, started, completed


def _explain(phase: str, old: Status, channel_states: tuple[ChannelState, ...]) -> tuple[str, str]:
    """Reason and message of a phase."""
    if phase == old.phase and old.reason:
        return old.reason, old.message
    total = len(deciding(channel_states))
    delivered = sum(s.state is State.DELIVERED for s in channel_states)
    match phase:
        case "Pending":
            return "Initialized", "Notification request received"
        case "Sending":
            return "ProcessingDeliveries", "Processing delivery channels"
        case "Retrying":
            wait = min(
                (
                    max(0, s.last.due - s.last.ended)
                    for s in channel_states
                    if s.state is State.RETRYING and s.last
                ),
                default=0,
            )
            return "PartialFailureRetrying", (
                f"Delivered to {delivered}/{total} channel(s), retrying failed channels"
                f" with backoff {go_duration(wait)}"
            )
        case "Sent":
            return "AllDeliveriesSucceeded", f"Successfully delivered to {total} channel(s)"
        case "PartiallySent":
            return (
                "PartialDeliverySuccess",
                f"Delivered to {delivered}/{total} channel(s), others failed",
            )
        case _ if superseded(channel_states):
            gone = (s for s in channel_states if s.state is State.SUPERSEDED)
            newer = dict.fromkeys(s.last.error for s in gone if s.last)
            return State.SUPERSEDED.value, f"Not sent: {', '.join(newer)}"
        case _:
            return _failure_reason(channel_states), ALL_FAILED


def _failure_reason(channel_states: tuple[ChannelState, ...]) -> str:
    if not channel_states:
        return "NoChannelsResolved"
    if all(s.state is State.FAILED for s in deciding(channel_states)):
        return "AllDeliveriesFailed"
    return "MaxRetriesExhausted"


def _channels(
    phase: str, channel_states: tuple[ChannelState, ...], status: Status, view: LogView
) -> tuple[ChannelStatus, ...]:
    if view.plan is None or not channel_states:
        return status.channels
    terminal = phase in TERMINAL_PHASES
    return tuple(
        ChannelStatus(
            s.channel,
            s.state.value,
            # An open attempt is counted once it is shown, with its result.
            s.attempts - (1 if s.state is State.SENDING else 0),
            s.last.due if s.last and s.state is State.RETRYING and not terminal else 0,
        )
        for s in channel_states
    )
