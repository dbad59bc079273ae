"""
The rules of `syncer verify`: every way in which one log and one object can disagree, by name; pure.

`check` names what is wrong. Each class has its remedy: facts that any process may append, a wake-up of the
owner (which alone claims and writes statuses), a new log instead of one that cannot be read, or a
person's decision. Classes that the controller's self-audit finds as well are found by the same rules
(`syncer.rules.divergence`, which explains how the two checks differ).

Work in progress is not a divergence: a record younger than `settle` may not be published yet. A caller that
reads log and object one after the other must read them again before it reports a divergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from syncer.model.attempt import NO_EPOCH, Epoch, attempt_epoch, epoch_key
from syncer.model.record import Header
from syncer.model.rendering import difference
from syncer.model.resource import NotificationRequest, Status
from syncer.rules.compact import SOFT_LIMIT, compact
from syncer.rules.divergence import (
    Divergence,
    Finding,
    conflicting,
    log_behind,
    respecified,
    status_behind,
    two_open,
    unfounded,
    unplanned,
)
from syncer.rules.fold import LogView, ReadLog
from syncer.rules.merge import Facts, exceeds, merge
from syncer.rules.restore import highest_epoch
from syncer.rules.retention import retention_seconds


@dataclass(frozen=True, slots=True)
class Sides:
    """
    A log and an object that should agree.

    Attributes:
        request: The object, None if there is none of this uid.
        ttl: Seconds until the log expires; -1 never, -2 no log.
        problem: Why the object cannot be checked although it exists, empty if it can.
    """

    log: ReadLog
    request: NotificationRequest | None
    ttl: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    The facts that a check needs besides log and object.

    Attributes:
        now: Redis time in milliseconds.
        settle: Milliseconds that a record may take to be published.
        stuck: Milliseconds after which an open attempt is abandoned.
        at_most_once: As the controller is configured.
        since: Unix milliseconds; objects created later were handled by this installation and by no other
            controller. None if that is not known.
        latest: The latest epoch that the cluster can have given out, None if that is not known.
        status_bytes: Largest status, as the controller is configured.
    """

    now: int
    settle: int = 10_000
    stuck: int = 120_000
    at_most_once: bool = False
    latest: Epoch | None = None
    since: int | None = None
    status_bytes: int = SOFT_LIMIT


#: Milliseconds by which the clocks of Redis and of the API server may differ.
_CLOCKS: Final = 86_400_000


def check(sides: Sides, bounds: Bounds) -> tuple[Finding, ...]:
    """Name every divergence of log and object, the worst first; empty if all is well."""
    log = sides.log
    if log.header is None and log.problem:
        return (Finding(Divergence.FOREIGN, log.problem),)
    if sides.problem:
        return (Finding(Divergence.OBJECT, sides.problem),)
    request = sides.request
    if request is None or request.deleting:
        if log.header is None or sides.ttl >= 0 or request is not None:
            return ()
        return (Finding(Divergence.ORPHAN, "the object is gone and the log has no expiry"),)
    if log.header is None:
        return _without_log(request, bounds)
    return _with_log(sides, request, log, log.header, bounds)


def _ours(status: Status) -> bool:
    """Whether this controller has ever written a status."""
    return status.log is not None or any(attempt_epoch(a.id) != NO_EPOCH for a in status.attempts)


def _without_log(request: NotificationRequest, bounds: Bounds) -> tuple[Finding, ...]:
    status = request.status
    ours = bool(status.attempts) and _ours(status)
    # A status may claim any end; the time of creation comes from the API server.
    ended = max(status.completed_at, request.created)
    if status.terminal and bounds.now >= ended + 1000 * retention_seconds(request.retention_days):
        return ()
    if status.terminal and not ours and bounds.since is not None and request.created > bounds.since:
        text = (
            f"the phase is {status.phase}, and no log and no attempt of this controller supports it"
        )
        return (Finding(Divergence.PHASE, text),)
    if not ours:
        # New, adopted, or ended without an attempt: there is nothing that a log could have lost.
        return ()
    return (
        Finding(
            Divergence.LOG_MISSING,
            f"the status shows {len(status.attempts)} attempt(s), no log does{_journaled(status)}",
        ),
    )


def _journaled(status: Status) -> str:
    """Return the end of a sentence about attempts that a log lacks, if they were journaled."""
    return f"; they were journaled in the outage {status.journal}" if status.journal else ""


def _ahead(header: Header, status: Status, bounds: Bounds) -> str:
    """Return in words what names a future epoch, empty if nothing does."""
    if bounds.latest is None:
        return ""
    latest, named = epoch_key(bounds.latest), highest_epoch(status)
    if epoch_key(header.epoch) > latest:
        return f"epoch {header.epoch} is later than any that this cluster can have issued"
    if epoch_key(named) > latest:
        return f"the status names epoch {named}, which neither its log nor this cluster knows"
    return ""


def _with_log(
    sides: Sides, request: NotificationRequest, log: ReadLog, header: Header, bounds: Bounds
) -> tuple[Finding, ...]:
    found: list[Finding] = []

    def add(kind: Divergence, text: str) -> None:
        found.append(Finding(kind, text))

    status, view = request.status, log.view
    if header.object != request.key:
        add(Divergence.MISNAMED, f"the log is that of {header.object}, by its header")
    if log.problem:
        add(Divergence.UNREADABLE, log.problem)
        return tuple(found)
    last = len(log.records)
    if max(header.acked, header.audited) > last:
        add(
            Divergence.MARK_BEYOND,
            f"marked up to {max(header.acked, header.audited)}, and there are {last} record(s)",
        )
    if ahead := _ahead(header, status, bounds):
        add(Divergence.EPOCH_AHEAD, ahead)
    found += two_open(view) + conflicting(log.records)
    lost = [f._replace(text=f.text + _journaled(status)) for f in log_behind(view, status)]
    found += lost
    found += [*unplanned(view, status), *respecified(view, request.content_hash())]
    if view.plan is None and status.channels and _ours(status):
        add(Divergence.PLAN_MISSING, "the status shows channels, but the log has no plan")
    if sides.ttl >= 0 and not status.terminal:
        add(
            Divergence.EXPIRING,
            f"the log expires in {sides.ttl} s, and the notification is not finished",
        )
    newest = max((int(r.body.get("at", 0)) for r in log.records), default=0)
    settled = bounds.now - newest > bounds.settle
    behind = exceeds(view, status)
    if behind and settled:
        found += status_behind(log.records, header.acked, status, unwritten=True)
    stale = [a for a in view.attempts.values() if a.open and bounds.now - a.started > bounds.stuck]
    if stale:
        add(Divergence.OPEN_ATTEMPT, f"{len(stale)} attempt(s) are open and no owner settles them")
    if settled and not behind and not lost:
        found += _status_rules(request, view, bounds)
    found += _housekeeping(sides, status, view, header, settled=settled, found=bool(found))
    return tuple(found)


#: Members of a status that follow from log and object alone, independent of writer and time.
_COMPUTED: Final = (
    "phase", "deliveryAttempts", "totalAttempts", "successfulDeliveries", "failedDeliveries",
    "uncertainAttempts", "channels",
)  # fmt: skip


def _status_rules(request: NotificationRequest, view: LogView, bounds: Bounds) -> list[Finding]:
    found: list[Finding] = []
    status = request.status
    facts = Facts(request.generation, request.policy, bounds.at_most_once)
    merged = merge(status, view, facts, now=bounds.now)
    wrong: list[str] = []
    # Most statuses are equal, and this comparison needs no rendering.
    if _computed(status) != _computed(merged.status):
        wanted = compact(merged.status, limit=bounds.status_bytes)
        patch = difference(status, wanted)
        # While an attempt is open, the phase and the state of its channel depend on when the object was
        # read.
        moving = {"phase", "channels"} if view.opened else set()
        wrong = [name for name in _COMPUTED if name in patch and name not in moving]
    if wrong:
        found.append(
            Finding(Divergence.STATUS_DIFFERS, f"the log says otherwise: {', '.join(wrong)}")
        )
    if not (view.opened or view.ordered):
        found += unfounded(status, merged.channel_states, whole=view.whole)
    return found + _numbers(request)


def _numbers(request: NotificationRequest) -> list[Finding]:
    status, found = request.status, []
    numbers = [(a.channel, a.number) for a in status.attempts if attempt_epoch(a.id) != NO_EPOCH]
    if len(numbers) != len(set(numbers)):
        found.append("two attempts of a channel have the same number")
    counted = len(numbers) + (status.rollup.through if status.rollup else 0)
    # The replaced controller's counts are kept as they are.
    if len(numbers) == len(status.attempts) > 0 and status.total_attempts > counted:
        found.append(f"the status counts {status.total_attempts} attempts and shows {counted}")
    if 0 < status.completed_at < request.created - _CLOCKS:
        found.append("the status ends before the object was created")
    return [Finding(Divergence.NUMBERS, text) for text in found]


def _computed(status: Status) -> tuple[object, ...]:
    """Return the values from which the members of `_COMPUTED` are rendered."""
    return (
        status.phase, status.total_attempts, status.successful, status.failed, status.uncertain,
        status.channels,
        [
            (a.id, a.state, a.number, a.ended, a.started, a.error, a.duration, a.code, a.failure,
             a.channel)
            for a in status.attempts
        ],
    )  # fmt: skip


def _housekeeping(
    sides: Sides, status: Status, view: LogView, header: Header, *, settled: bool, found: bool
) -> list[Finding]:
    ended = status.terminal and not view.opened and not view.ordered
    if not (ended and settled) or found:
        # Another finding keeps the owner from marking the log; that one class is enough.
        return []
    last = view.position
    if header.acked < last:
        return [
            Finding(
                Divergence.UNACKED, f"{last - header.acked} record(s) are not marked as published"
            )
        ]
    if sides.ttl == -1 and header.audited >= last:
        return [Finding(Divergence.NO_EXPIRY, "finished and published, but the log has no expiry")]
    return []
