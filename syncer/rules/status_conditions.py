"""
The conditions of a status, as a merge computes them; pure.

Those that describe the end of a notification stay once they are written; the others are removed when they
no longer hold.

`Reconciling` and `Stalled` follow kstatus: each is true or absent, and never both are present, since
kstatus uses the first one that it finds. Their texts are those of the phase, so they change only in a write
that is made anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from syncer.model.attempt import Attempt, AttemptState
from syncer.model.conditions import (
    ATTEMPTS_NOT_SENT,
    LATE_SUCCESS,
    LOG_UNAVAILABLE,
    QUARANTINED,
    READY,
    RECONCILING,
    RECORD_TRUSTED,
    ROUTING_RESOLVED,
    STALLED,
    Condition,
    find_condition,
    set_condition,
)
from syncer.model.record import Plan
from syncer.model.resource import FAILED, PARTIALLY_SENT, SENT, TERMINAL_PHASES, Status
from syncer.rules.channel_state import UNSENT_NOTICE, ChannelState, State, superseded

#: Conditions that are removed once they no longer hold.
_PASSING: Final = frozenset(
    {QUARANTINED, RECORD_TRUSTED, LOG_UNAVAILABLE, ATTEMPTS_NOT_SENT, RECONCILING, STALLED}
)
#: The condition Ready by final phase: status, reason, message.
_READY: Final = {
    SENT: ("True", "Ready", "Notification delivered"),
    PARTIALLY_SENT: ("True", "Ready", "Notification partially delivered"),
    FAILED: ("False", "NotReady", "Notification delivery failed"),
}


def conditions_of(  # noqa: PLR0913 (what is known of a notification from all sides)
    phase: str,
    message: str,
    published: tuple[Attempt, ...],
    channel_states: tuple[ChannelState, ...],
    *,
    old: Status,
    plan: Plan | None,
    violation: str,
    held: tuple[str, str] | None,
    generation: int,
    now: int,
) -> tuple[Condition, ...]:
    """
    Return the conditions of a status; other writers' conditions stay unchanged.

    Args:
        phase: Phase of the status to be written.
        message: Why it has that phase.
        published: Its attempts.
        channel_states: The states of its channels.
        old: The status before.
        plan: The channels that were chosen, None if none were.
        violation: The violation that the self-audit found, empty if none.
        held: Reason and message why a due attempt waits for the log, None if none does.
        generation: Generation of the object.
        now: Redis time in milliseconds.
    """
    terminal = phase in TERMINAL_PHASES
    present: list[tuple[str, str, str, str]] = []
    if violation:
        present.append((QUARANTINED, "True", "SelfAudit", violation))
    if plan and plan.reason:
        present.append((ROUTING_RESOLVED, "True", plan.reason, plan.message))
    if terminal and not old.terminal:
        gone = ("False", State.SUPERSEDED.value, message) if superseded(channel_states) else None
        present.append((READY, *(gone or _READY[phase])))
    if not terminal and violation:
        present.append((STALLED, "True", "SelfAudit", violation))
    elif not terminal:
        present.append((RECONCILING, "True", phase, message))
    elif phase == FAILED and (not old.terminal or find_condition(old.conditions, STALLED)):
        present.append((STALLED, "True", phase, message))
    if held is not None and not terminal:
        present.append((LOG_UNAVAILABLE, "True", *held))
    if not terminal and (unsent := _unsent(channel_states)):
        present.append((ATTEMPTS_NOT_SENT, "True", "RepeatedlyNotSent", unsent))
    if late := _late(published, old):
        text = f"Delivered after the phase was final: {', '.join(late)}"
        present.append((LATE_SUCCESS, "True", "RecordedAfterTerminal", text))
    stays = {kind for kind, *_ in present}
    conditions = tuple(c for c in old.conditions if c.type not in _PASSING or c.type in stays)
    at = whole_second(now)
    for condition in present:
        conditions = set_condition(conditions, Condition(*condition, at, generation))
    return conditions


def stopped(
    status: Status, why: tuple[str, str, str, str], *, generation: int, now: int
) -> tuple[Condition, ...]:
    """Return the conditions of a status that waits: `why`, and `Stalled` if a person has to act."""
    kind, word, reason, text = why
    shown, gone = [(kind, word)], set[str]()
    if kind != LOG_UNAVAILABLE:
        gone = {QUARANTINED, RECORD_TRUSTED} - {kind}
        if not status.terminal:
            gone.add(RECONCILING)
            shown.append((STALLED, "True"))
    kept = tuple(c for c in status.conditions if c.type not in gone)
    for type_and_word in shown:
        wanted = Condition(*type_and_word, reason, text, whole_second(now), generation)
        kept = set_condition(kept, wanted)
    return kept


def _unsent(channel_states: tuple[ChannelState, ...]) -> str:
    """Name channels of which several attempts in a row were not sent, empty if there are none."""
    return "; ".join(
        f"{s.channel}: {s.unsent} attempts in a row were not sent"
        + (f" ({s.last.error})" if s.last and s.last.error else "")
        for s in channel_states
        if s.unsent >= UNSENT_NOTICE and not s.state.finished
    )


def _late(published: tuple[Attempt, ...], old: Status) -> Mapping[str, None]:
    if not old.terminal:
        return {}
    before = {a.channel for a in old.attempts if a.state is AttemptState.SUCCESS}
    after = (a.channel for a in published if a.state is AttemptState.SUCCESS)
    return dict.fromkeys(c for c in after if c not in before)


def whole_second(ms: int) -> int:
    """Return a time rounded down to a full second, as a condition holds it."""
    # Condition times are full seconds on the wire; anything finer would never compare equal.
    return ms - ms % 1000
