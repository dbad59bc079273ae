"""
The next step for one notification: a decision with its reason, without any side effect.

The decision depends on the state of each channel, on the executing attempts, on the due times, and on what
an operator has requested. A wake-up that comes too early, twice, or for another cause leads to the same
decision: a channel is tried only if it has attempts left, no attempt on it is on the wire, and it is due.
There is no phase and no cached copy that could skip the wait.

Two callers use it: the controller, which acts on the decision, and the operators' command, which explains
it. Both use the same implementation, so an explanation cannot differ from the controller's action.

Besides the channels' states and times, four conditions change the decision:

- *held*: nothing is sent while the cause lasts; it takes precedence over everything but the final phase.
- *holds*: the same for single channels (`syncer.rules.holds`); the others go on.
- *stale*: the notification is older than the configured limit; due channels are given up.
- *ordered*: one more attempt is requested on a channel that had ended. It is made even after a final phase
  and beyond the age limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

from syncer.model.outcome import PERMANENT
from syncer.model.resource import HOLD_ANNOTATION
from syncer.rules.channel_state import ChannelState, State
from syncer.rules.holds import DROPPED, Held
from syncer.rules.text import go_duration, plain

#: Characters of the annotation that are read; a hundred are shown.
_NOTE_CHARS: Final = 1024
NO_HOLDS: Final[Mapping[str, Held]] = MappingProxyType({})
NOTHING_OPENS: Final[Mapping[str, float]] = MappingProxyType({})
_NOT_SENT: Final = "not sent: "
PAUSED: Final = "held: delivery is paused for all (delivery.paused)"


@dataclass(frozen=True, slots=True)
class _OfNoChannel:
    channels: ClassVar[tuple[str, ...]] = ()
    then: ClassVar[float | None] = None
    reason: str


@dataclass(frozen=True, slots=True)
class _OfDueChannels:
    channels: tuple[str, ...]
    then: float | None
    reason: str
    held: tuple[tuple[str, str], ...] = ()


class Resolve(_OfNoChannel):
    """No plan is on record: resolve the channels and freeze them first."""


class Deliver(_OfDueChannels):
    """
    Start an attempt on these channels now.

    `held` are other channels that are due and held back, each with its reason.
    """


class Withhold(_OfDueChannels):
    """
    These channels are due and are held back until the cause is removed.

    `held` has the reason of each channel; it is empty if `reason` applies to all of them.
    """


class GiveUp(_OfDueChannels):
    """These channels are due but are given up; that has to be recorded."""


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing is to be started before `then`."""

    channels: ClassVar[tuple[str, ...]] = ()
    then: float
    reason: str


class Await(_OfNoChannel):
    """Every unfinished channel is under way; the end of an attempt leads to the next decision."""


class Finish(_OfNoChannel):
    """No further attempt will be made."""


#: Each has the due `channels` that it concerns, and `then`: the monotonic second at which to decide again.
Decision = Resolve | Deliver | Withhold | GiveUp | WaitUntil | Await | Finish


def decide(  # noqa: PLR0911, PLR0913 (a decision sees all at once, and names each reason where it finds it)
    *,
    planned: bool,
    terminal: bool,
    channel_states: Sequence[ChannelState],
    executing: AbstractSet[str],
    due: Mapping[str, float],
    now: float,
    ordered: AbstractSet[str] = frozenset(),
    opens: Mapping[str, float] = NOTHING_OPENS,
    held: str = "",
    holds: Mapping[str, Held] = NO_HOLDS,
    stale: str = "",
) -> Decision:
    """
    Decide for one notification.

    Args:
        planned: A plan is on record.
        terminal: The published phase is final.
        channel_states: The state of every planned channel.
        executing: Channels with an attempt that this process executes.
        due: Second of the monotonic clock before which a channel must not be tried again.
        now: Second of the monotonic clock.
        ordered: Channels with a resend request that no attempt has followed yet.
        opens: Monotonic second from which a fallback on standby may be tried; absent if it may not.
        held: Why nothing may be sent now, empty if it may.
        holds: Why single channels may not be tried now, and until when, or are given up.
        stale: Why it is too late to send, empty if it is not.
    """
    if terminal and not ordered:
        return Finish("it has ended")
    if not planned and not (terminal and ordered <= {s.channel for s in channel_states}):
        return Resolve("no plan on record")
    unfinished = [
        s for s in channel_states if not s.state.finished and (not terminal or s.channel in ordered)
    ]
    if not unfinished:
        return Finish("it has ended" if terminal else "every channel is finished")
    idle = [
        s
        for s in unfinished
        if s.channel not in executing
        and s.state is not State.SENDING
        and (s.state is not State.STANDBY or s.channel in opens)
    ]
    due = {**due, **opens} if opens else due
    ready = [s.channel for s in idle if due.get(s.channel, 0.0) <= now]
    later = [due[s.channel] for s in idle if due.get(s.channel, 0.0) > now]
    then = min(later, default=None)
    if ready and held:
        return Withhold(tuple(ready), then, held)
    # A resend requested after a drop is not dropped.
    lost = tuple(c for c in ready if c in holds and holds[c].dropped and c not in ordered)
    if lost:
        return GiveUp(lost, then, holds[lost[0]].reason)
    holds = {c: held for c, held in holds.items() if not held.dropped}
    kept = tuple((c, holds[c].reason) for c in ready if c in holds)
    if kept:
        ends = [holds[c].until for c, _ in kept]
        then = min(ends if then is None else [then, *ends])
        ready = [c for c in ready if c not in holds]
        if not ready:
            reasons = dict.fromkeys(reason for _, reason in kept)
            return Withhold(tuple(c for c, _ in kept), then, "; ".join(reasons), kept)
    late = [c for c in ready if c not in ordered]
    if late and stale:
        # A requested resend follows with the next decision, which is made after these are given up.
        return GiveUp(tuple(late), then, stale)
    if ready:
        return Deliver(tuple(ready), then, f"{len(ready)} channel(s) due", kept)
    if then is not None:
        return WaitUntil(then, "next attempt not due yet")
    return Await("attempts under way")


def withheld(decision: Decision) -> tuple[tuple[str, str], ...]:
    """Return the channels that a decision holds back although they are due, each with its reason."""
    held = decision.held if isinstance(decision, _OfDueChannels) else ()
    if isinstance(decision, Withhold):
        return held or tuple((c, decision.reason) for c in decision.channels)
    return held


def hold_of(annotation: str | None, *, paused: bool) -> str:
    """Return why an object's annotation (`HOLD_ANNOTATION`), or a pause of all, holds it; empty if not."""
    if annotation is not None and annotation.strip().lower() != "false":
        # The note ends up in the log and on terminals.
        note = " ".join(plain(annotation[:_NOTE_CHARS]).split())[:100]
        quoted = f" says: {note}" if note and note.lower() != "true" else ""
        return f"held: the annotation {HOLD_ANNOTATION}{quoted or ' is set'}"
    return PAUSED if paused else ""


def given_up(error: str) -> str:
    """Return, from its error, why an attempt only ended its channel; empty if it was meant to be sent."""
    why = error.removeprefix(PERMANENT)
    if why == error or not why.startswith((_NOT_SENT, DROPPED)):
        return ""
    return why.removeprefix(_NOT_SENT)


def stale_of(created: int, now: int, max_age: float) -> str:
    """
    Why it is too late to send, empty if it is not.

    Args:
        created: When the object was created, Unix milliseconds; 0 if that is not known.
        now: Unix milliseconds.
        max_age: Seconds, 0 for no limit.
    """
    if not max_age or not created or now - created <= max_age * 1000:
        return ""
    return f"{_NOT_SENT}older than delivery.maxAge ({go_duration(round(max_age * 1000))})"
