"""
Due attempts that are not made: for how long they wait, and which objects must show it in their status.

The gauge of the oldest due attempt and the sweep that sets the condition LogUnavailable use this. Both rely
on the log and the object, never on the timers of the work queue, which every delay of an attempt moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from notifier.reconciler.decisions import Decisions
from notifier.reconciler.holds import Holds
from syncer.model.attempt import newest
from syncer.model.conditions import LOG_UNAVAILABLE, find_condition
from syncer.model.ports import Ownership
from syncer.model.resource import Status
from syncer.rules.channel_state import NOTHING_DUE
from syncer.rules.journal import held_because
from syncer.rules.plan import Deliver, Resolve, hold_of
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification


@dataclass(eq=False)
class Overdue:
    """Measures and marks our due attempts that wait."""

    cache: Cache
    ownership: Ownership
    time: LedgerTime
    decisions: Decisions
    holds: Holds

    def mark_without_log(
        self, entries: Iterable[Notification], *, available: bool, notice: float
    ) -> None:
        """
        Have the status of objects show that a due attempt waits for the log, or no longer waits.

        They say so after `notice` seconds. A journaled attempt does not wait for the log.
        """
        now = self.cache.monotonic()
        for entry in entries:
            outage = entry.outage
            since = (outage.since or now) if not available and self._waits(entry) else 0.0
            shown = since > 0 and now - since >= notice
            if (since, shown) != (outage.since, outage.shown):
                entry.held(since, shown=shown)
            if shown != outage.shown or (shown and _gives_another_reason(entry)):
                self.cache.mark_dirty(entry)

    def _waits(self, entry: Notification) -> bool:
        if entry.outage.note and entry.outage.missing is None:
            return False
        ours = self.ownership.term_of(entry.uid) is not None
        return ours and not entry.cancelled and self.is_due(entry)

    def is_due(self, entry: Notification) -> bool:
        """Whether an attempt is due, as far as this process knows."""
        if entry.status.terminal or entry.quarantine or entry.judged.untrusted:
            return False
        if entry.claim is None and entry.view.position == 0 and not entry.outage.note:
            return _shows_due(entry.status, self.time.now())
        # An attempt that still waits for its INTENT counts as due, like any other.
        asking = {
            c for i, c in entry.in_flight.executing.items() if i in entry.in_flight.never_sent
        }
        return isinstance(self.decisions.next(entry, idle=asking), Deliver | Resolve)

    def oldest(self, entries: Iterable[Notification]) -> float:
        """Seconds for which the longest waiting attempt of ours has been due, 0 if none is."""
        now = self.time.now()
        oldest = 0.0
        for entry in entries:
            if entry.cancelled or self.ownership.term_of(entry.uid) is None:
                continue
            oldest = max(oldest, self._seconds(entry, now, oldest))
        return oldest

    def _seconds(self, entry: Notification, now: int, least: float) -> float:
        """
        For how many seconds a live entry of ours has had an attempt due; `now` is in milliseconds.

        Any answer up to `least` serves, whether exact or not.
        """
        view, request = entry.view, entry.request
        if entry.status.terminal or hold_of(request.hold, paused=self.holds.paused):
            return 0.0
        if (entry.claim is None and not entry.outage.note) or view.plan is None:
            # Not claimed yet: its first attempt has been due since its creation, a later one since the time
            # that its object names.
            return (now - (expected(entry) or request.created)) / 1000
        since: dict[str, int] = {}
        # An attempt that waits for its INTENT waits for the log: it is not under way.
        executing = {
            c for i, c in entry.in_flight.executing.items() if i not in entry.in_flight.never_sent
        }
        held = self.holds.placed.of(request, view.plan.channels).keys()
        executing |= held
        stands_by = {each.channel: each.of for each in view.plan.fallbacks}
        executing |= {channel for channel, others in stands_by.items() if held >= set(others)}
        for channel in view.plan.channels:
            tried = view.of_channel(channel)
            last = newest([a for a in tried if not a.open])
            at = request.created if last is None else last.due
            if last is None and channel in stands_by:
                # It was not due before the others were over.
                ends = (a.ended for a in view.attempts.values() if a.channel in stands_by[channel])
                at = max(ends, default=at)
            if at and channel not in executing and (now - at) / 1000 > least:
                since[channel] = at
        if not since:
            return 0.0
        unfinished = {
            s.channel
            for s in self.decisions.channel_states(entry)
            if s.state.value not in NOTHING_DUE
        }
        return max(((now - at) / 1000 for c, at in since.items() if c in unfinished), default=0.0)


def expected(entry: Notification) -> int:
    """When the object says that its next attempt is due, in Unix milliseconds; 0 if it says nothing."""
    return min((c.next_retry for c in entry.status.channels if c.next_retry), default=0)


def _gives_another_reason(entry: Notification) -> bool:
    """Whether the status shows that it is held, but for another reason than the present one."""
    shown = find_condition(entry.status.conditions, LOG_UNAVAILABLE)
    return shown is not None and shown.reason != held_because(entry.outage.missing)[0]


def _shows_due(status: Status, now: int) -> bool:
    """Whether the object alone, without its log, shows that an attempt is due at `now`."""
    return not status.channels or any(
        c.state not in NOTHING_DUE and c.next_retry <= now for c in status.channels
    )
