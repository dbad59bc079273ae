"""
Cutting a status to size, without losing what it counts.

The API server refuses a status that outgrows its limit, and nothing would be recorded in it. So, in
this order: errors are shortened (512, 256, 128 bytes), then old `failed` attempts are folded into
`rollup`, oldest first, always leaving ten on a channel. Every success and every unknown attempt stays,
attempts keep their numbers, and counters include the folded attempts. The log keeps everything. The part
of the status that is carried in a condition (`syncer.model.carried`) counts in full, and has a limit of its
own.

If even that is too large, because the object itself is close to the size limit, `least` is written.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Final

import orjson

from syncer.model.attempt import Attempt, AttemptId, AttemptState, attempt_key
from syncer.model.carried import MESSAGE_CHARS, fold, message_of
from syncer.model.carried import fits as carries
from syncer.model.conditions import bounded
from syncer.model.rendering import render_attempt, render_members
from syncer.model.resource import ChannelRollup, Rollup, Status
from syncer.rules.channel_state import counts

SOFT_LIMIT: Final = 64 * 1024
ERROR_STEPS: Final = (512, 256, 128)
KEEP_PER_CHANNEL: Final = 10
#: Upper bounds in bytes: a character in JSON (`\u0000`, escaped once more within a string), an element of a
#: list without its texts, everything else, and a character in UTF-8.
_CHAR_BYTES: Final = 13
_ENTRY_BYTES: Final = 384
_BASE_BYTES: Final = 1024
_UTF8_BYTES: Final = 4
#: Bytes of the list without its elements and the commas between them.
_LIST_BYTES: Final = len(',"deliveryAttempts":[') - 1 + len("]")
#: The schema's bound on the list.
MAX_ENTRIES: Final = 500


def fits(status: Status, limit: int) -> bool:
    """
    Whether a status is certainly within `limit` bytes, computed without rendering it.

    That is enough for most statuses, which are small; False means that the status has to be measured.
    """
    texts = len(status.reason) + len(status.message)
    texts += sum(len(a.error) + len(a.channel) + len(a.id) for a in status.attempts)
    texts += sum(len(c.type) + len(c.reason) + len(c.message) for c in status.conditions)
    texts += sum(len(c.name) + len(c.state) for c in status.channels)
    if status.rollup:
        texts += sum(len(c.name) + len(c.last_id) for c in status.rollup.channels)
    if status.log:
        texts += len(status.log.epoch) + len(status.log.store)
    entries = len(status.attempts) + len(status.conditions) + len(status.channels)
    entries += len(status.rollup.channels) if status.rollup else 0
    return texts * _CHAR_BYTES + entries * _ENTRY_BYTES + _BASE_BYTES <= min(limit, MESSAGE_CHARS)


def compact(status: Status, *, limit: int = SOFT_LIMIT) -> Status:
    """
    Return a merged status within `limit` bytes of JSON, as far as the rules allow.

    The caller lowers the limit if the server still answers "too large".
    """
    # Most attempts stay from one cut to the next. Without these caches, 500 attempts on 40 channels took
    # 0.1 s.
    shortened, size_of = cache(_shortened), cache(_size)
    out = short = status
    while True:
        rest: int | None = None
        # Start from the full texts each time: merging the result with its log and cutting it again then
        # gives the same result, which causes no second write.
        for step in ERROR_STEPS:
            short = replace(out, attempts=tuple(shortened(a, step) for a in out.attempts))
            if len(short.attempts) > MAX_ENTRIES:
                continue
            if fits(short, limit):
                return short
            # This part has no errors, so it is measured once for all steps.
            rest = _size_without_list(out) if rest is None else rest
            entries = sum(map(size_of, short.attempts)) + len(short.attempts) + _LIST_BYTES
            if rest and rest + entries <= limit:
                return short
        # Fold half of the candidates at a time, because each step measures the status again.
        surplus = _foldable(out)
        if not surplus:
            return short
        out = _roll_up(out, surplus[: max(1, len(surplus) // 2)])


def _size_without_list(status: Status) -> int:
    """Bytes of a status without its list of attempts; 0 if the condition that carries it is too small."""
    message = message_of(render_members(status))
    if not carries(message):
        return 0
    return len(orjson.dumps(fold(render_members(replace(status, attempts=())), message)))


def _shortened(attempt: Attempt, size: int) -> Attempt:
    """Return an attempt with its error cut to at most `size` bytes."""
    if len(attempt.error) * _UTF8_BYTES <= size:
        return attempt
    return replace(attempt, error=bounded(attempt.error, size))


def _size(attempt: Attempt) -> int:
    """Bytes of an attempt in the list."""
    return len(orjson.dumps(render_attempt(attempt)))


def least(wanted: Status, shown: Status) -> Status:
    """
    Return the shown status with only the phase, its reason and the counters updated.

    This still fits if the object itself fills its size limit. `totalAttempts` may then exceed the length of
    the list; the log has the other attempts.
    """
    return replace(
        shown,
        phase=wanted.phase,
        reason=wanted.reason,
        total_attempts=wanted.total_attempts,
        successful=wanted.successful,
        failed=wanted.failed,
        completed_at=wanted.completed_at,
    )


def _foldable(status: Status) -> list[Attempt]:
    per_channel = Counter(a.channel for a in status.attempts)
    out = []
    for attempt in status.attempts:
        spare = per_channel[attempt.channel] > KEEP_PER_CHANNEL
        if spare and attempt.state is AttemptState.FAILED:
            per_channel[attempt.channel] -= 1
            out.append(attempt)
    return out


def _roll_up(status: Status, folded: list[Attempt]) -> Status:
    rollup = status.rollup or Rollup()
    channels = {c.name: c for c in rollup.channels}
    by_channel: dict[str, list[Attempt]] = {}
    for attempt in folded:
        by_channel.setdefault(attempt.channel, []).append(attempt)
    for name, gone in by_channel.items():
        known = channels.get(name) or ChannelRollup(name, 0, AttemptId("0-0"), 0)
        channels[name] = ChannelRollup(
            name,
            known.failed + len(gone),
            max(known.last_id, *(a.id for a in gone), key=attempt_key),
            max(known.number, *(a.number for a in gone)),
            known.not_sent + sum(not counts(a) for a in gone),
        )
    left_out = {a.id for a in folded}
    return replace(
        status,
        attempts=tuple(a for a in status.attempts if a.id not in left_out),
        rollup=Rollup(rollup.through + len(folded), tuple(channels.values())),
    )
