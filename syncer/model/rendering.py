"""
A status as JSON, as it is written to the API server, and the merge patch between two.

Zero values are left out, as upstream's types do. A time that the schema demands is never absent. What is
ours is written into a condition, and as members for those who look at them (`syncer.model.carried`).
"""

from __future__ import annotations

from typing import Final

from syncer.model.attempt import Attempt
from syncer.model.carried import bare, fits, fold, message_of
from syncer.model.resource import NO_STATUS, Json, Status
from syncer.model.times import format_time

#: Stands where a time is required and none is known.
_ORIGIN: Final = "1970-01-01T00:00:00Z"


def render_status(status: Status) -> Json:
    """Return the status as JSON as it is written, without zero values."""
    return fold(render_members(status))


def render_members(status: Status) -> Json:
    """Return the status as JSON in its expanded form."""
    rollup, log = status.rollup, status.log
    out: Json = {
        "phase": status.phase,
        "reason": status.reason,
        "message": status.message,
        "conditions": [
            {
                "type": c.type,
                "status": c.status,
                "reason": c.reason,
                "message": c.message,
                "lastTransitionTime": format_time(c.transition, millis=False) or _ORIGIN,
                **({"observedGeneration": c.observed_generation} if c.observed_generation else {}),
            }
            for c in status.conditions
        ],
        "deliveryAttempts": [render_attempt(a) for a in status.attempts],
        "totalAttempts": status.total_attempts,
        "successfulDeliveries": status.successful,
        "failedDeliveries": status.failed,
        "uncertainAttempts": status.uncertain,
        "queuedAt": format_time(status.queued_at),
        "processingStartedAt": format_time(status.started_at),
        "completionTime": format_time(status.completed_at),
        "observedGeneration": status.observed_generation,
        "channels": [
            {
                "name": c.name,
                "state": c.state,
                **({"attempts": c.attempts} if c.attempts else {}),
                **({"nextRetryTime": format_time(c.next_retry)} if c.next_retry else {}),
            }
            for c in status.channels
        ],
        "rollup": rollup
        and {
            "through": rollup.through,
            "channels": [
                {
                    "name": c.name,
                    "failed": c.failed,
                    "lastId": c.last_id,
                    "number": c.number,
                    **({"notSent": c.not_sent} if c.not_sent else {}),
                }
                for c in rollup.channels
            ],
        },
        "log": log and {"position": log.position, "epoch": log.epoch, "store": log.store},
        "journal": status.journal and {"outage": status.journal},
    }
    return {k: v for k, v in out.items() if v}


def difference(shown: Status, wanted: Status) -> Json:
    """
    Return the merge patch that turns one status into another; empty if nothing needs to be written.

    A list is replaced as one, members that fell away become null. Both are compared in the expanded form,
    so a server that drops our members is not written to again and again. The condition with the mark of
    the log is written along with other changes, and that mark alone never causes a write.
    """
    # Most statuses are written once, and one without a member renders as nothing.
    old, new = {} if shown is NO_STATUS else render_members(shown), render_members(wanted)
    changed = _changed(old, new)
    message = message_of(new) if changed else ""
    if not fits(message):
        # What has no space does not come back, and makes no difference.
        changed = _changed(bare(old), bare(new))
    if not changed:
        return {}
    written = fold(new, message)
    return {
        k: written.get(k) for k in (*changed, "conditions", "log") if k in changed or k in written
    }


def _changed(old: Json, new: Json) -> tuple[str, ...]:
    names = dict.fromkeys((*new, *old))
    return tuple(k for k in names if old.get(k) != new.get(k) and k != "log")


def render_attempt(attempt: Attempt) -> Json:
    """Return an entry of the list of attempts as JSON."""
    more: Json = {
        "error": attempt.error,
        "durationSeconds": attempt.duration / 1000,
        "class": attempt.failure and attempt.failure.value,
        "startedAt": format_time(attempt.started),
        "code": attempt.code,
    }
    return {
        "channel": attempt.channel,
        "attempt": attempt.number,
        "timestamp": format_time(attempt.ended or attempt.started) or _ORIGIN,
        "status": attempt.state.word,
        "id": attempt.id,
        **{name: value for name, value in more.items() if value},
    }
