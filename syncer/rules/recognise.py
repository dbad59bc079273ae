"""
Attempts of ours that come back without their ids.

Their ids are in a condition (`syncer.model.carried`). Where that was removed or damaged, the list
consists of attempts that no log knows, and the union of log and object would publish each of ours a
second time.

So an entry without an id is compared with what is known before it is taken for another's attempt. It is
one of ours if channel, second and result agree, where a result that cannot be known is shown as a
failure. Each attempt is recognised once; what is left over is another's, and gets an id that nothing
else has. An entry with an id is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count

from syncer.model.attempt import NO_EPOCH, Attempt, AttemptId, AttemptState, attempt_epoch
from syncer.model.resource import Status


def recognise(status: Status, known: Mapping[AttemptId, Attempt]) -> Status:
    """
    Give entries that were read without an id the id that they had.

    `known` holds attempts of the log or of an earlier version of the status. In the status that is
    returned all entries have ids that can be trusted. One of ours that is shown with its id as well is
    left out: it is a copy.
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
    Whether a later version shows less than an earlier one, which no writer of ours brings about.

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
        # It is shown as failed, and nobody knows that it did.
        return replace(entry, id=attempt.id, state=attempt.state, failure=attempt.failure)
    return replace(entry, id=attempt.id)


def _matched(entries: list[Attempt], free: list[Attempt]) -> dict[AttemptId, AttemptId]:
    """Which entry is which attempt; the surest agreements first, each of them in list order."""
    found: dict[AttemptId, AttemptId] = {}
    used: set[AttemptId] = set()
    # A status may list hundreds, of which a channel's budget of attempts can be ours.
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
    # The time that a status shows of an attempt.
    return attempt.ended or attempt.started


def _copy(entry: Attempt, shown: Attempt) -> bool:
    """Whether an entry repeats one of ours that stands beside it with its id."""
    return (
        attempt_epoch(shown.id) != NO_EPOCH
        and entry.number == shown.number
        and _same_second(entry, shown)
    )


def _unused(taken: Mapping[AttemptId, Attempt]) -> AttemptId:
    return next(i for n in count() if (i := AttemptId(f"0-{n}")) not in taken)
