"""
What to do next for one notification: a decision with its reason, never an act.

The decision looks at where each channel stands, at what is executing, and at the due times. A wake-up
that comes too early, twice, or for another cause decides the same: a channel is tried only when it has
attempts left, nothing of it is on the wire, and its time has come. There is no phase and no cached
copy that could skip the wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from syncer.status.standing import Standing, State


@dataclass(frozen=True, slots=True)
class Resolve:
    """No plan is on record: resolve the channels and freeze them first."""

    reason: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Start an attempt on these channels now; look again at `then`, if set."""

    channels: tuple[str, ...]
    then: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing to start before this boot-clock second."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Await:
    """Everything unfinished is on the wire; its end brings the next look."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """No further attempt will be made."""

    reason: str


Decision = Resolve | Deliver | WaitUntil | Await | Finish


def decide(
    *,
    planned: bool,
    terminal: bool,
    standings: Sequence[Standing],
    executing: AbstractSet[str],
    due: Mapping[str, float],
    now: float,
) -> Decision:
    """
    Decide for one notification.

    Args:
        planned: A plan is on record.
        terminal: The published phase is final.
        standings: Where every planned channel stands.
        executing: Channels with an attempt in the hands of this process.
        due: Boot-clock second before which a channel must not be tried again.
        now: Boot-clock second.
    """
    if terminal:
        return Finish("the published phase is final")
    if not planned:
        return Resolve("no plan on record")
    unfinished = [s for s in standings if not s.state.finished]
    if not unfinished:
        return Finish("every channel is finished")
    idle = [s for s in unfinished if s.channel not in executing and s.state is not State.SENDING]
    ready = [s.channel for s in idle if due.get(s.channel, 0.0) <= now]
    later = [due[s.channel] for s in idle if due.get(s.channel, 0.0) > now]
    then = min(later, default=None)
    if ready:
        return Deliver(tuple(ready), then, f"{len(ready)} channel(s) due")
    if then is not None:
        return WaitUntil(then, "next attempt not due yet")
    return Await("attempts under way")
