"""
The conditions of a status, as a merge computes them; pure.

Those that say how it ended stay once they are written; the others come and go with what they say.
"""

from __future__ import annotations

from collections.abc import Mapping

from syncer.model.attempt import Attempt, AttemptState
from syncer.model.conditions import (
    ATTEMPTS_NOT_SENT,
    LATE_SUCCESS,
    LOG_UNAVAILABLE,
    QUARANTINED,
    READY,
    ROUTING_RESOLVED,
    Condition,
    remove_condition,
    set_condition,
)
from syncer.model.immutable import immutable
from syncer.model.record import Plan
from syncer.model.resource import FAILED, PARTIALLY_SENT, SENT, TERMINAL_PHASES, Status
from syncer.rules.channel_state import UNSENT_NOTICE, ChannelState


@immutable
class Marks:
    """
    What conditions say that neither log nor status knows.

    `violation` is what the self-audit found that must not be, empty if nothing; `held` are reason and
    message why a due attempt waits for the log, None if none does.
    """

    generation: int
    violation: str
    held: tuple[str, str] | None


def conditions_of(
    phase: str,
    published: tuple[Attempt, ...],
    channel_states: tuple[ChannelState, ...],
    *,
    old: Status,
    plan: Plan | None,
    marks: Marks,
    now: int,
) -> tuple[Condition, ...]:
    """
    Return the conditions of a status, those of others unchanged.

    Args:
        phase: Of the status to be written.
        published: Its attempts.
        channel_states: Of its channels.
        old: The status before.
        plan: The channels that were chosen, None if none were.
        marks: What else there is to say.
        now: Redis time in milliseconds.
    """
    at = whole_second(now)
    generation = marks.generation
    terminal = phase in TERMINAL_PHASES
    if marks.violation:
        conditions = set_condition(
            old.conditions,
            Condition(QUARANTINED, "True", "SelfAudit", marks.violation, at, generation),
        )
    else:
        conditions = remove_condition(old.conditions, QUARANTINED)
    if plan and plan.reason:
        conditions = set_condition(
            conditions,
            Condition(ROUTING_RESOLVED, "True", plan.reason, plan.message, at, generation),
        )
    if terminal and not old.terminal:
        word, reason, message = {
            SENT: ("True", "Ready", "Notification delivered"),
            PARTIALLY_SENT: ("True", "Ready", "Notification partially delivered"),
            FAILED: ("False", "NotReady", "Notification delivery failed"),
        }[phase]
        conditions = set_condition(
            conditions, Condition(READY, word, reason, message, at, generation)
        )
    if marks.held is not None and not terminal:
        conditions = set_condition(
            conditions,
            Condition(LOG_UNAVAILABLE, "True", *marks.held, at, generation),
        )
    else:
        conditions = remove_condition(conditions, LOG_UNAVAILABLE)
    unsent = [s for s in channel_states if s.unsent >= UNSENT_NOTICE and not s.state.finished]
    if unsent and not terminal:
        counts_text = "; ".join(
            f"{s.channel}: {s.unsent} attempts in a row did not leave"
            + (f" ({s.last.error})" if s.last and s.last.error else "")
            for s in unsent
        )
        conditions = set_condition(
            conditions,
            Condition(ATTEMPTS_NOT_SENT, "True", "RepeatedlyNotSent", counts_text, at, generation),
        )
    else:
        conditions = remove_condition(conditions, ATTEMPTS_NOT_SENT)
    late = _late(published, old)
    if late:
        conditions = set_condition(
            conditions,
            Condition(
                LATE_SUCCESS, "True", "RecordedAfterTerminal",
                f"Delivered after the phase was final: {', '.join(late)}", at, generation,
            ),
        )  # fmt: skip
    return conditions


def _late(published: tuple[Attempt, ...], old: Status) -> Mapping[str, None]:
    if not old.terminal:
        return {}
    before = {a.channel for a in old.attempts if a.state is AttemptState.SUCCESS}
    after = (a.channel for a in published if a.state is AttemptState.SUCCESS)
    return dict.fromkeys(c for c in after if c not in before)


def whole_second(ms: int) -> int:
    """Return a time as a condition can hold it."""
    # Condition times are full seconds on the wire; anything finer would never compare equal.
    return ms - ms % 1000
