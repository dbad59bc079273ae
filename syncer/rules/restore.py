"""
Restoring a log from a status, or from the cache of a process.

A status holds less than a log (no intents, shortened errors) and sometimes more than a record can hold
(large numbers, after an edit by hand). The attempts and the plan that it shows become seeds; the epochs
that it names are those of claims that have published to it.
"""

from __future__ import annotations

from dataclasses import replace

from syncer.model.attempt import NO_EPOCH, Attempt, Epoch, attempt_epoch, epoch_key, parse_epoch
from syncer.model.conditions import ROUTING_RESOLVED, bounded, find_condition
from syncer.model.record import (
    LOG_ERROR_BYTES,
    MAX_INT,
    Fallback,
    Plan,
    Record,
    attempt_record,
    plan_record,
)
from syncer.model.resource import Status
from syncer.rules.channel_state import IDLE
from syncer.rules.fold import LogView
from syncer.rules.merge import rolled_up
from syncer.rules.recognise import recognise


def highest_epoch(status: Status) -> Epoch:
    """Return the latest epoch that a status names, in its attempts or in its mark of the log."""
    epochs = [attempt_epoch(a.id) for a in status.attempts]
    if status.log and status.log.epoch:
        epochs.append(parse_epoch(status.log.epoch))
    return max(epochs, key=epoch_key, default=NO_EPOCH)


def missing_plan(view: LogView, status: Status) -> Plan | None:
    """Return the plan as far as a status shows it, None if the log has one or the status shows none."""
    if view.plan is not None or not status.channels:
        return None
    resolved = find_condition(status.conditions, ROUTING_RESOLVED)
    # A status does not say which channels a fallback stands by for. So it gets all that are not idle; it
    # has not been used in any case.
    first = tuple(c.name for c in status.channels if c.state not in IDLE)
    return Plan(
        channels=tuple(c.name for c in status.channels),
        reason=resolved.reason if resolved else "",
        message=resolved.message if resolved else "",
        at=_within(status.started_at or status.queued_at),
        fallbacks=tuple(Fallback(c.name, first) for c in status.channels if c.state in IDLE),
    )


def seed_of(shown: Attempt) -> Record:
    """Return an attempt of a status as a seed, cut to what a record can hold."""
    return attempt_record(fitting(shown), seed=True)


def fitting(shown: Attempt) -> Attempt:
    """Return an attempt of a status with numbers and error cut to what a record can hold."""
    return replace(
        shown,
        started=_within(shown.started),
        ended=_within(shown.ended),
        due=_within(shown.due),
        duration=_within(shown.duration),
        error=bounded(shown.error, LOG_ERROR_BYTES),
        code=_within(shown.code),
        number=_within(shown.number),
    )


def seeds_of_view(view: LogView, status: Status) -> list[Record]:
    """
    Return the seeds with which the cache of a process restores a log that has lost records.

    Open attempts are included: if this process ends now, the next owner must find them. The order is that
    of the view, unless it contradicts the numbers that the status has given.

    Args:
        view: The cached view.
        status: The status as it was seen last; the object is read after the claim.
    """
    seeds = [attempt_record(a, seed=True) for a in view.attempts.values()]
    if seeds and (numbered := _misplaced(view, status)):
        # The view may have an attempt of an earlier term that the status does not show, because other
        # owners have published since. It gets the next number, so it comes after theirs.
        placed = {a.id for a in numbered}
        first = [seed_of(view.attempts.get(a.id, a)) for a in numbered]
        seeds = first + [seed for seed in seeds if seed.id not in placed]
    if view.plan is not None:
        seeds.insert(0, plan_record(view.plan))
    return seeds


def _misplaced(view: LogView, status: Status) -> list[Attempt]:
    """Return the shown attempts of channels where the view has an attempt before them that is not shown."""
    shown = recognise(status, view.attempts).attempts
    ids = {a.id for a in shown}
    alone: set[str] = set()
    channels: set[str] = set()
    for attempt in view.attempts.values():
        if attempt.id in ids:
            channels |= alone & {attempt.channel}
        elif not rolled_up(attempt, status.rollup):
            alone.add(attempt.channel)
    # Attempts of the replaced controller are seeded with their waits, once the object has been read.
    known = [a for a in shown if a.id in view.attempts or attempt_epoch(a.id) != NO_EPOCH]
    channels |= {a.channel for a in known if a.id not in view.attempts} & alone
    return [a for a in known if a.channel in channels]


def _within(number: int) -> int:
    return max(0, min(number, MAX_INT - 1))
