"""
What to do next for one notification, given the current state.

`syncer.rules.plan.decide` decides; this module gathers its inputs: the fold of the log, the status, due
times, executing attempts, and holds. The reconciler asks before it acts, an attempt asks again when its
turn has come, and metrics ask without acting, so all of them see the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from notifier.content.sanitise import sanitise
from notifier.reconciler.holds import Holds
from syncer.rules.channel_state import ChannelState
from syncer.rules.fallback import held_along, opening
from syncer.rules.merge import Facts, channel_states_of
from syncer.rules.plan import Decision, decide, hold_of, stale_of
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification

#: Characters of the hold annotation that are sanitised; a hundred are shown.
_HOLD_CHARS: Final = 1024


@dataclass(frozen=True, slots=True)
class DeliveryBounds:
    """
    Bounds of delivery.

    Attributes:
        at_most_once: Stop at an attempt whose result is unknown.
        max_age: Seconds after which a notification is no longer sent, 0 for no limit.
        hold_mistakes: An operator's mistake waits until it is mended, instead of failing the channel.
        outcome_patience: Seconds for which an outcome is kept in memory while Redis is away.
    """

    at_most_once: bool
    max_age: float
    hold_mistakes: bool = False
    outcome_patience: float = 7 * 86400.0


@dataclass(eq=False)
class Decisions:
    """Decides for entries of the cache; changes nothing."""

    cache: Cache
    time: LedgerTime
    holds: Holds
    bounds: DeliveryBounds

    def next(self, entry: Notification, *, idle: AbstractSet[str] = frozenset()) -> Decision:
        """Decide for an entry as if no attempt of the channels in `idle` were executing."""
        view, status, hold = entry.view, entry.status, entry.request.hold
        # More is sanitised than is shown, so that a secret is recognised even if only its head is shown.
        hold = None if hold is None else sanitise(hold[:_HOLD_CHARS])
        planned, terminal = view.plan is not None, status.terminal or entry.closing
        # Without a plan, the only thing to do is to make one, whatever the states of the channels.
        states = self.channel_states(entry) if planned or terminal else ()
        opens, monotonic = opening(view.plan, states, self.time.now()), self.cache.monotonic()
        holds = self.holds.placed.of(entry.request, (s.channel for s in states))
        return decide(
            planned=planned,
            terminal=terminal,
            channel_states=states,
            executing=frozenset(entry.in_flight.executing.values()) - idle,
            due=entry.due,
            now=monotonic,
            ordered=entry.ordered,
            opens={channel: monotonic + wait / 1000 for channel, wait in opens.items()},
            held=hold_of(hold, paused=self.holds.paused),
            holds=held_along(view.plan, states, holds),
            # The time of the API server, which set `created`, or Redis's if that is earlier.
            stale=stale_of(entry.request.created, self.time.certain(), self.bounds.max_age),
        )

    def facts(self, entry: Notification) -> Facts:
        """What the merge needs to know besides the log and the status."""
        request = entry.request
        return Facts(
            request.generation,
            request.policy,
            self.bounds.at_most_once,
            in_hand=frozenset(entry.in_flight.executing),
        )

    def channel_states(self, entry: Notification) -> Sequence[ChannelState]:
        """The state of each planned channel."""
        return channel_states_of(entry.view, entry.status, self.facts(entry))

    def limit(self, entry: Notification, channel: str) -> int:
        """
        Largest number of attempts that the log may hold for a channel, as an argument of INTENT.

        The script counts ids and cannot see which attempts left. So the limit is the number of attempts in
        the view, plus as many as the rules still allow.
        """
        left = next((s.left for s in self.channel_states(entry) if s.channel == channel), 0)
        return len(entry.view.of_channel(channel)) + left
