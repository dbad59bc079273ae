"""
The result of a notification, for the program that sent it. No I/O, no clock.

The words are an API. `unknown` is never called failed: the message may have arrived. If a channel was tried
again after such attempts, their number is reported, because the message may have been delivered twice.

The answers of receivers are for operators (`kubectl ledger explain`): they may quote anything, and whoever
may send is not always allowed to read them. A sender gets only the HTTP code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from syncer.model.attempt import Attempt, AttemptState, newest
from syncer.model.resource import (
    FAILED,
    PARTIALLY_SENT,
    PENDING,
    SENT,
    ChannelStatus,
    Json,
    parse_status,
)
from syncer.model.times import format_time
from syncer.rules.channel_state import State

DELIVERED: Final = "delivered"
_UNKNOWN: Final = "unknown"
_FAILED: Final = "failed"
_WORDS: Final[dict[str, str]] = {
    State.PENDING: "pending",
    State.SENDING: "sending",
    State.RETRYING: "retrying",
    State.DELIVERED: DELIVERED,
    State.SUPERSEDED: "superseded",
}
_PHASES: Final = {SENT: DELIVERED, PARTIALLY_SENT: "partly delivered", FAILED: _FAILED}


def report(document: Json) -> Json:
    """
    Return the result from the status of an object: phase, outcome, and each channel with its attempts.

    Raises:
        ValueError, TypeError, AttributeError: the status does not follow the schema.
    """
    meta = document.get("metadata") or {}
    status = parse_status(document.get("status") or {})
    # Upstream's controller writes no channels, only attempts.
    known = {c.name: c for c in status.channels} or {
        a.channel: ChannelStatus(a.channel, "") for a in status.attempts
    }
    channels = [
        _channel(each, [a for a in status.attempts if a.channel == each.name], status.terminal)
        for each in known.values()
    ]
    outcome = _PHASES.get(status.phase, "pending")
    if outcome == _FAILED and any(c["outcome"] == _UNKNOWN for c in channels):
        outcome = _UNKNOWN
    return {
        "name": str(meta.get("name", "")),
        "namespace": str(meta.get("namespace", "")),
        "uid": str(meta.get("uid", "")),
        "phase": status.phase or PENDING,
        "finished": status.terminal,
        "outcome": outcome,
        "channels": channels,
    }


def _channel(known: ChannelStatus, attempts: Sequence[Attempt], finished: bool) -> Json:
    last = newest(attempts)
    unknown = sum(a.state is AttemptState.UNKNOWN for a in attempts)
    outcome = _WORDS.get(known.state, "")
    if not known.state:
        delivered = any(a.state is AttemptState.SUCCESS for a in attempts)
        outcome = DELIVERED if delivered else "" if finished else _WORDS[State.RETRYING]
    return {
        "name": known.name,
        "outcome": outcome or (_UNKNOWN if unknown else _FAILED),
        "attempts": known.attempts or len(attempts),
        "unknown": unknown,
        "code": (last.code if last else 0) or None,
        "at": format_time(last.ended or last.started) or None if last else None,
        "next": format_time(known.next_retry) or None,
    }
