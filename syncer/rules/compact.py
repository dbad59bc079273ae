"""
Cutting a status to size, without losing what it counts.

A status that outgrows its budget would be refused by the API server, and with it the record. So, in
this order: errors are shortened (512, 256, 128 bytes), then old `failed` entries are folded into
`rollup`, oldest first, never below ten of a channel. Every success and every unknown stays, numbers
stay given, counters stay computed. The log keeps everything. What a condition carries of ours
(`syncer.model.carried`) counts in full, and has a bound of its own.

Where even that is too much, because the object is nearly as large as an object may be, `least` is left.
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
#: Most bytes that JSON takes for a character (`\u0000`, and that once more within a text), an entry of a
#: list without its texts, and all else; UTF-8 takes for a character.
_CHAR_BYTES: Final = 13
_ENTRY_BYTES: Final = 384
_BASE_BYTES: Final = 1024
_UTF8_BYTES: Final = 4
#: Bytes of the list but for its entries and what separates them.
_LIST_BYTES: Final = len(',"deliveryAttempts":[') - 1 + len("]")
#: The schema's bound on the list.
MAX_ENTRIES: Final = 500


def fits(status: Status, limit: int) -> bool:
    """
    Whether a status is within `limit` bytes for certain, computed without rendering it.

    Most are so small that this is plain; False means that it has to be measured.
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

    The caller lowers the limit when the server still answers "too large".
    """
    # Most entries stay from one cut to the next: made anew each time, five hundred of forty channels
    # took 0.1 s.
    shortened, size_of = cache(_shortened), cache(_size)
    out = short = status
    while True:
        rest: int | None = None
        # From the full texts each time: the result is then the same when it is merged with its log
        # and cut again, and nothing is written twice.
        for step in ERROR_STEPS:
            short = replace(out, attempts=tuple(shortened(a, step) for a in out.attempts))
            if len(short.attempts) > MAX_ENTRIES:
                continue
            if fits(short, limit):
                return short
            # No error is in it.
            rest = _size_without_list(out) if rest is None else rest
            entries = sum(map(size_of, short.attempts)) + len(short.attempts) + _LIST_BYTES
            if rest and rest + entries <= limit:
                return short
        # Half of what may go at a time: each step measures the status again.
        surplus = _foldable(out)
        if not surplus:
            return short
        out = _roll_up(out, surplus[: max(1, len(surplus) // 2)])


def _size_without_list(status: Status) -> int:
    """Bytes of a status but for its list of attempts; 0 if the condition has no space for that."""
    message = message_of(render_members(status))
    if not carries(message):
        return 0
    return len(orjson.dumps(fold(render_members(replace(status, attempts=())), message)))


def _shortened(attempt: Attempt, size: int) -> Attempt:
    """An attempt whose error has at most so many bytes."""
    if len(attempt.error) * _UTF8_BYTES <= size:
        return attempt
    return replace(attempt, error=bounded(attempt.error, size))


def _size(attempt: Attempt) -> int:
    """Bytes of an entry of the list."""
    return len(orjson.dumps(render_attempt(attempt)))


def least(wanted: Status, shown: Status) -> Status:
    """
    Return what still fits where the object itself fills its limit: how it ended, and the counters.

    Everything else stays as it is shown. `totalAttempts` may then be larger than the list is long: the
    log has the others.
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
