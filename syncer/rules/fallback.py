"""
Fallbacks: channels of a plan that stand by for other channels, and when they are used; pure.

A fallback is needed as soon as one channel that it stands by for has ended without success, and is not
needed once all of them have delivered. In between it stands by, and is used anyway after a configured time.
It has attempts, a budget and a state like any channel. Nothing stands by for a fallback, so there is only
one hop.

A hold on the other channels also holds their fallback: an operator who holds or drops the messages to a
receiver does not want them to go elsewhere. A resend request for a channel that has ended concerns that
channel alone, and makes no fallback needed; one for a channel still under way may be what ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from syncer.model.record import Fallback, Plan
from syncer.rules.channel_state import ChannelState, State
from syncer.rules.holds import Held

_ARRIVED: Final = frozenset({State.DELIVERED, State.SUPERSEDED})
_BUSY: Final = frozenset({State.DELIVERED, State.SENDING})


def stood_by(
    states: Sequence[ChannelState],
    before: Mapping[str, State],
    fallbacks: Sequence[Fallback],
    tried: Collection[str],
) -> tuple[ChannelState, ...]:
    """
    Return the states of channels, with unused fallbacks marked as Standby or NotNeeded.

    Args:
        states: The states without regard to fallbacks.
        before: States by which the need for a fallback is decided; a channel that a resend request reopened
            has the state in which it had ended.
        fallbacks: The fallbacks of the plan.
        tried: Channels with a resend request, or with an attempt that may be on its way into the log. Such
            a fallback is tried whether it is needed or not.
    """
    needs: dict[str, list[State]] = {}
    for each in fallbacks:
        needs.setdefault(each.channel, []).append(
            _need([before[c] for c in each.of if c in before])
        )
    return tuple(_standing(s, needs[s.channel], tried) if s.channel in needs else s for s in states)


def _need(others: Sequence[State]) -> State:
    """Return whether a fallback of these channels is to be tried, stands by, or is not needed."""
    if any(s.finished and s not in _ARRIVED for s in others):
        return State.PENDING
    return State.NOT_NEEDED if all(s.finished for s in others) else State.STANDBY


def _standing(own: ChannelState, needs: Sequence[State], tried: Collection[str]) -> ChannelState:
    under_way = own.channel in tried and not own.state.finished
    if State.PENDING in needs or own.state in _BUSY or under_way:
        return own
    if State.STANDBY not in needs:
        return replace(own, state=State.NOT_NEEDED, reason="what it is the fallback of has arrived")
    if own.attempts:
        return own
    return replace(own, state=State.STANDBY, reason="the fallback of others, which are under way")


def opening(plan: Plan | None, states: Sequence[ChannelState], now: int) -> dict[str, int]:
    """Return the milliseconds until each fallback on standby is used anyway; `now` is Redis time."""
    found: dict[str, int] = {}
    if plan is None or not plan.fallbacks:
        return found
    waiting = {s.channel: s.state for s in states if not s.state.finished}
    for each in plan.fallbacks:
        stands_by = waiting.get(each.channel) is State.STANDBY and not waiting.keys().isdisjoint(
            each.of
        )
        if stands_by:
            wait = max(0, min(plan.at + each.after - now, each.after))
            found[each.channel] = min(wait, found.get(each.channel, wait))
    return found


def held_along(
    plan: Plan | None, states: Sequence[ChannelState], holds: Mapping[str, Held]
) -> Mapping[str, Held]:
    """Return the held channels, including fallbacks for which every channel that needs them is held."""
    if not holds or plan is None or not plan.fallbacks:
        return holds
    return dict(_held_along(plan, {s.channel: s.state for s in states}, holds)) | dict(holds)


def _held_along(
    plan: Plan, states: Mapping[str, State], holds: Mapping[str, Held]
) -> Iterator[tuple[str, Held]]:
    for name in {each.channel for each in plan.fallbacks}:
        others = {c for each in plan.fallbacks if each.channel == name for c in each.of}
        needing = sorted(c for c in others if states.get(c) not in _ARRIVED)
        if needing and all(c in holds for c in needing):
            # A channel that is held but not dropped may still be sent, so its fallback is not dropped.
            yield name, min((holds[c] for c in needing), key=lambda held: held.dropped)
