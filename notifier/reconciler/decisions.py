"""
What to do next for one notification, given the current state.

`syncer.rules.plan.decide` decides; this module gathers its inputs: the fold of the log, the status, due
times, executing attempts, and holds. The reconciler asks before it acts, an attempt asks again when its
turn has come, and metrics ask without acting, so all of them see the same.

`Overdue` finds due attempts that are not made: how long they have waited, and which objects must show it in
their status. The gauge of the oldest due attempt and the sweep that sets the condition LogUnavailable use
it. Both rely on the log and the object, never on the timers of the work queue, which move with every delay
of an attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from notifier.content.sanitise import sanitise
from notifier.reconciler.holds import Holds
from syncer.model.attempt import newest
from syncer.model.conditions import LOG_UNAVAILABLE, find_condition
from syncer.model.ports import Ownership
from syncer.rules.channel_state import NOTHING_DUE, ChannelState
from syncer.rules.fallback import held_along, opening
from syncer.rules.journal import held_because
from syncer.rules.merge import Facts, channel_states_of
from syncer.rules.plan import Decision, Deliver, Resolve, decide, hold_of, stale_of
from syncer.runtime.clock import LedgerTime
from syncer.sync.notifications import Cache, Notification

#: Characters of the hold annotation that are sanitised; a hundred are shown.
_HOLD_CHARS: Final = 1024


@dataclass(frozen=True, slots=True)
class DeliveryBounds:
    """
    Bounds of delivery.

    Attributes:
        at_most_once: Stop at an attempt whose result is unknown.
        max_age: Seconds after which a notification is no longer sent, 0 for no limit.
    """

    at_most_once: bool
    max_age: float


@dataclass(eq=False)
class Decisions:
    """Decides for notifications of the cache; changes nothing."""

    cache: Cache
    time: LedgerTime
    holds: Holds
    bounds: DeliveryBounds

    def next(self, notification: Notification, *, idle: AbstractSet[str] = frozenset()) -> Decision:
        """Decide for a notification as if no attempt of the channels in `idle` were executing."""
        view, status, hold = notification.view, notification.status, notification.request.hold
        # More is sanitised than is shown, so that a secret is recognised even if only its start is shown.
        hold = None if hold is None else sanitise(hold[:_HOLD_CHARS])
        planned, terminal = view.plan is not None, status.terminal or notification.closing
        # Without a plan, the only thing to do is to make one, whatever the states of the channels.
        states = self.channel_states(notification) if planned or terminal else ()
        opens, monotonic = opening(view.plan, states, self.time.now()), self.cache.monotonic()
        holds = self.holds.placed.of(notification.request, (s.channel for s in states))
        return decide(
            planned=planned,
            terminal=terminal,
            channel_states=states,
            executing=frozenset(notification.in_flight.executing.values()) - idle,
            due=notification.due,
            now=monotonic,
            ordered=notification.view.ordered,
            opens={channel: monotonic + wait / 1000 for channel, wait in opens.items()},
            held=hold_of(hold, paused=self.holds.paused),
            holds=held_along(view.plan, states, holds),
            # The time of the API server, which set `created`, or Redis's if that is earlier.
            stale=stale_of(notification.request.created, self.time.certain(), self.bounds.max_age),
        )

    def facts(self, notification: Notification) -> Facts:
        """Return the facts that the merge needs besides the log and the status."""
        request = notification.request
        return Facts(
            request.generation,
            request.policy,
            self.bounds.at_most_once,
            in_hand=notification.in_flight.executing,
        )

    def channel_states(self, notification: Notification) -> Sequence[ChannelState]:
        """The state of each planned channel."""
        return channel_states_of(notification.view, notification.status, self.facts(notification))

    def limit(self, notification: Notification, channel: str) -> int:
        """
        Largest number of attempts that the log may hold for a channel, as an argument of INTENT.

        The script counts ids and cannot see which attempts left. So the limit is the number of attempts in
        the view, plus as many as the rules still allow.
        """
        left = next((s.left for s in self.channel_states(notification) if s.channel == channel), 0)
        return len(notification.view.of_channel(channel)) + left


@dataclass(eq=False)
class Overdue:
    """Measures and marks our due attempts that wait."""

    decisions: Decisions
    ownership: Ownership

    def mark_without_log(
        self, notifications: Iterable[Notification], *, available: bool, notice: float
    ) -> None:
        """
        Make statuses show that a due attempt waits for the log, or no longer waits.

        They show it after `notice` seconds. A journaled attempt does not wait for the log.
        """
        now = self.decisions.cache.monotonic()
        for notification in notifications:
            outage = notification.outage
            since = (outage.since or now) if not available and self.waits(notification) else 0.0
            shown = since > 0 and now - since >= notice
            if (since, shown) != (outage.since, outage.shown):
                notification.held(since, shown=shown)
            if shown != outage.shown or (shown and _gives_another_reason(notification)):
                self.decisions.cache.mark_dirty(notification)

    def waits(self, notification: Notification) -> bool:
        """Whether an attempt of ours is due, as far as this process knows, and is not journaled."""
        status, outage = notification.status, notification.outage
        if (
            self.ownership.term_of(notification.uid) is None
            or (notification.cancelled or status.terminal)
            or (notification.quarantine or notification.judged.untrusted)
            or (outage.note and outage.missing is None)
        ):
            return False
        if notification.claim is None and notification.view.position == 0 and not outage.note:
            # The log has not been read, so only the object shows whether an attempt is due.
            now = self.decisions.time.now()
            return not status.channels or any(
                c.state not in NOTHING_DUE and c.next_retry <= now for c in status.channels
            )
        # An attempt that still waits for its INTENT counts as due, like any other.
        asking = {
            c
            for i, c in notification.in_flight.executing.items()
            if i in notification.in_flight.never_sent
        }
        return isinstance(self.decisions.next(notification, idle=asking), Deliver | Resolve)

    def oldest(self, notifications: Iterable[Notification]) -> float:
        """Seconds for which the longest waiting attempt of ours has been due, 0 if none is."""
        now = self.decisions.time.now()
        oldest = 0.0
        for notification in notifications:
            if notification.cancelled or self.ownership.term_of(notification.uid) is None:
                continue
            oldest = max(oldest, self._seconds(notification, now, oldest))
        return oldest

    def _seconds(self, notification: Notification, now: int, least: float) -> float:
        """
        For how many seconds a live notification of ours has had an attempt due; `now` is in milliseconds.

        A result up to `least` need not be exact.
        """
        view, request, holds = notification.view, notification.request, self.decisions.holds
        if notification.status.terminal or hold_of(request.hold, paused=holds.paused):
            return 0.0
        if (notification.claim is None and not notification.outage.note) or view.plan is None:
            # Not claimed yet: its first attempt has been due since its creation, a later one since the time
            # that its object names.
            return (now - (expected(notification) or request.created)) / 1000
        since: dict[str, int] = {}
        # An attempt that waits for its INTENT waits for the log: it is not under way.
        executing = {
            c
            for i, c in notification.in_flight.executing.items()
            if i not in notification.in_flight.never_sent
        }
        held = holds.placed.of(request, view.plan.channels).keys()
        executing |= held
        stands_by = {each.channel: each.of for each in view.plan.fallbacks}
        executing |= {channel for channel, others in stands_by.items() if held >= set(others)}
        for channel in view.plan.channels:
            tried = view.of_channel(channel)
            last = newest([a for a in tried if not a.open])
            at = request.created if last is None else last.due
            if last is None and channel in stands_by:
                # A fallback was not due before the channels that it stands by for had ended.
                ends = (a.ended for a in view.attempts.values() if a.channel in stands_by[channel])
                at = max(ends, default=at)
            if at and channel not in executing and (now - at) / 1000 > least:
                since[channel] = at
        if not since:
            return 0.0
        unfinished = {
            s.channel
            for s in self.decisions.channel_states(notification)
            if s.state.value not in NOTHING_DUE
        }
        return max(((now - at) / 1000 for c, at in since.items() if c in unfinished), default=0.0)


def expected(notification: Notification) -> int:
    """When the object says that its next attempt is due, in Unix milliseconds; 0 if it says nothing."""
    return min((c.next_retry for c in notification.status.channels if c.next_retry), default=0)


def _gives_another_reason(notification: Notification) -> bool:
    """Whether the status shows LogUnavailable, but with another reason than the present one."""
    shown = find_condition(notification.status.conditions, LOG_UNAVAILABLE)
    return shown is not None and shown.reason != held_because(notification.outage.missing)[0]
