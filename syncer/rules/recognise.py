"""
Recognising this controller's attempts in a status that has lost their ids.

The ids are in a condition (`syncer.model.carried`). If it was removed or damaged, the status lists attempts
that no log knows, and the union of log and object would publish each of ours a second time.

So a listed attempt without an id is compared with the known attempts before it is taken for another
controller's. It is one of ours if channel, second and result agree; an unknown result is listed as a
failure. Each known attempt is recognised once. The remaining ones are another controller's and get ids that
nothing else has. A listed attempt with an id is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count

from syncer.model.attempt import NO_EPOCH, Attempt, AttemptId, AttemptState, attempt_epoch
from syncer.model.resource import Status


def recognise(status: Status, known: Mapping[AttemptId, Attempt]) -> Status:
    """
    Restore the ids of listed attempts that were read without one.

    `known` holds attempts of the log or of an earlier version of the status. In the returned status, all
    attempts have ids that can be trusted. A copy of one of ours that is also listed with its id is left
    out.
    """
    if not status.nameless:
        return status
    named = {a.id: a for a in status.attempts if a.id not in status.nameless}
    entries = [a for a in status.attempts if a.id in status.nameless]
    free = [a for a in known.values() if not a.open and a.id not in named]
    found = _matched(entries, free)
    taken = {**known, **named}
    out: list[Attempt] = []
    for entry in status.attempts:
        if entry.id not in status.nameless:
            out.append(entry)
        elif entry.id in found:
            out.append(_named(entry, known[found[entry.id]]))
        elif not any(_copy(entry, shown) for shown in named.values()):
            identity = entry.id if entry.id not in taken else _unused(taken)
            taken[identity] = entry
            out.append(replace(entry, id=identity))
    return replace(status, attempts=tuple(out), nameless=frozenset())


def poorer(shown: Status, known: Status) -> bool:
    """
    Whether a later version shows less than an earlier one, which no write of this controller causes.

    Either another writer has replaced the status, or it was read in a way that drops members.
    """
    if shown.nameless - known.nameless or (known.log and not shown.log):
        return True
    before = known.rollup.through if known.rollup else 0
    after = shown.rollup.through if shown.rollup else 0
    if after < before or shown.total_attempts < known.total_attempts:
        return True
    return after == before and bool({a.id for a in known.attempts} - {a.id for a in shown.attempts})


def _named(entry: Attempt, attempt: Attempt) -> Attempt:
    if attempt.state is AttemptState.UNKNOWN:
        # The status shows it as failed, but its result is unknown.
        return replace(entry, id=attempt.id, state=attempt.state, failure=attempt.failure)
    return replace(entry, id=attempt.id)


def _matched(entries: list[Attempt], free: list[Attempt]) -> dict[AttemptId, AttemptId]:
    """Return which listed attempt is which known one; the surest matches first, each in list order."""
    found: dict[AttemptId, AttemptId] = {}
    used: set[AttemptId] = set()
    # A status may list hundreds of attempts; on a channel, only as many as its budget allows can be ours.
    by_channel: dict[str, list[Attempt]] = {}
    for attempt in free:
        by_channel.setdefault(attempt.channel, []).append(attempt)
    rules: tuple[Callable[[Attempt, Attempt], bool], ...] = (_same, _same_second)
    for agrees in rules:
        for entry in entries:
            if entry.id in found:
                continue
            for attempt in by_channel.get(entry.channel, ()):
                if attempt.id not in used and agrees(entry, attempt):
                    found[entry.id] = attempt.id
                    used.add(attempt.id)
                    break
    return found


def _same(entry: Attempt, attempt: Attempt) -> bool:
    return _moment(entry) == _moment(attempt) and _same_second(entry, attempt)


def _same_second(entry: Attempt, attempt: Attempt) -> bool:
    return (
        entry.channel == attempt.channel
        and _shown(entry) is _shown(attempt)
        and _moment(entry) // 1000 == _moment(attempt) // 1000
    )


def _shown(attempt: Attempt) -> AttemptState:
    # The result that the list of a status shows.
    return max(attempt.state, AttemptState.FAILED)


def _moment(attempt: Attempt) -> int:
    # The time that a status shows for an attempt.
    return attempt.ended or attempt.started


def _copy(entry: Attempt, shown: Attempt) -> bool:
    """Whether a listed attempt repeats one of ours that is also listed with its id."""
    return (
        attempt_epoch(shown.id) != NO_EPOCH
        and entry.number == shown.number
        and _same_second(entry, shown)
    )


def _unused(taken: Mapping[AttemptId, Attempt]) -> AttemptId:
    return next(i for n in count() if (i := AttemptId(f"0-{n}")) not in taken)
