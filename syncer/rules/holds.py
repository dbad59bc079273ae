"""
Operators' holds: which channels they hold back, until when, and which of them match nothing.

Only this decision enforces a hold. It is made whenever a channel is due, with the current time, so a hold
ends by itself. If two holds apply to a channel, the one that ends last is named, so that the recorded
reason does not change when the other ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from shlex import quote
from typing import Final, Protocol

from syncer.model.attempt import receiver_of
from syncer.model.hold import Hold
from syncer.model.times import format_time
from syncer.rules.channel_state import NOTHING_DUE
from syncer.rules.recurrence import problem_of
from syncer.rules.text import plain

#: Prefix of the reason for giving up a channel that an operator has dropped.
DROPPED: Final = "dropped with hold "
#: The values of `spec.type` that the CRD allows.
TYPES: Final = (
    "Escalation", "Simple", "StatusUpdate", "Approval", "ManualReview", "Completion",
)  # fmt: skip


class Subject(Protocol):
    """The members that a hold matches besides channels: of a notification, or of a summary of one."""

    @property
    def namespace(self) -> str:
        """Namespace of the object."""

    @property
    def type(self) -> str:
        """Type in its spec."""

    @property
    def severity(self) -> str:
        """Severity in its spec."""

    @property
    def created(self) -> int:
        """When it was created, in Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class Held:
    """
    Why a channel is held back, and until when.

    `until` is the second of the monotonic clock at which the hold ends by itself; `since` is when it began,
    in Unix milliseconds. A channel that is `dropped` is given up for the reason.
    """

    reason: str
    until: float
    since: int
    dropped: bool = False


# -- what is held ---------------------------------------------------------------------------------


def concerns(hold: Hold, request: Subject) -> bool:
    """Whether a hold matches a notification, whatever its channels."""
    return (
        (not hold.drop_before or request.created < hold.drop_before)
        and _any(hold.namespaces, request.namespace)
        and _any(hold.types, request.type.lower(), lower=True)
        and _any(hold.severities, request.severity.lower(), lower=True)
    )


def on_channel(channel: str, patterns: Sequence[str]) -> bool:
    """Whether a channel matches a pattern, by its full name or its receiver; True without patterns."""
    if not patterns:
        return True
    receiver = receiver_of(channel)
    return any(fnmatchcase(channel if ":" in p else receiver, p) for p in patterns)


def _any(patterns: tuple[str, ...], text: str, *, lower: bool = False) -> bool:
    if not patterns:
        return True
    return any(fnmatchcase(text, p.lower() if lower else p) for p in patterns)


def held_channels(
    request: Subject,
    channels: Iterable[str],
    holds: Iterable[Hold],
    *,
    now: int,
    clock: float,
) -> dict[str, Held]:
    """
    Return which channels of a notification are held back now.

    Args:
        request: The notification.
        channels: Its planned channels.
        holds: All known holds.
        now: Ledger time in milliseconds.
        clock: The same moment in seconds of the monotonic clock.
    """
    about = [h for h in holds if h.in_force(now) and concerns(h, request)]
    found = {}
    for channel in channels if about else ():
        # A drop comes first: a channel that is given up need not wait for another hold.
        chosen = max(
            (h for h in about if on_channel(channel, h.receivers)),
            key=lambda h: (bool(h.drop_before), h.until, h.name),
            default=None,
        )
        if chosen is not None:
            end = clock + (chosen.until - now) / 1000
            dropped = bool(chosen.drop_before)
            found[channel] = Held(reason_of(chosen), end, chosen.since, dropped)
    return found


def keep_back(
    holds: Iterable[Hold], request: Subject, channels: Sequence[tuple[str, str]], *, now: int
) -> bool:
    """
    Whether holds keep back a channel that a status does not show as finished.

    Args:
        holds: All known holds.
        request: The notification, which has not ended.
        channels: Name and state of each channel as the status shows it.
        now: Ledger time in milliseconds.
    """
    # Before there is a plan, only a hold on every channel is known to apply.
    unfinished = (
        [name for name, state in channels if state not in NOTHING_DUE] if channels else [""]
    )
    return bool(held_channels(request, unfinished, holds, now=now, clock=0.0))


def reason_of(hold: Hold) -> str:
    """Return why a channel is held back and until when, or why it is given up; for logs and terminals."""
    why, by, ender = (
        " ".join(plain(text).split()) for text in (hold.reason, hold.author, hold.ended_by)
    )
    whose = f"{hold.name} of {by}{f', by {ender}' if ender not in ('', by) else ''}: {why}"
    if hold.drop_before:
        return f"{DROPPED}{whose}"
    if hold.rate:
        return f"waits its turn, {hold.rate:g}/s with the oldest first, after hold {whose}"
    end = format_time(hold.until, millis=False)
    return f"held until {end} by {by}: {why} (syncer hold end {hold.name})"


def selector_of(hold: Hold) -> str:
    """Return the selectors of a hold, as options of `syncer hold`."""
    named = (
        ("receiver", hold.receivers), ("namespace", hold.namespaces), ("type", hold.types),
        ("severity", hold.severities),
    )  # fmt: skip
    return " ".join(f"--{name} {quote(','.join(patterns))}" for name, patterns in named if patterns)


def unmatched(
    hold: Hold, channels: Iterable[str], namespaces: Iterable[str] | None
) -> tuple[str, ...]:
    """
    Return a sentence for each pattern of a hold that nothing known matches, with the nearest name.

    Args:
        hold: The hold.
        channels: Full names of all known channels.
        namespaces: All known namespaces, None if any may exist.
    """
    names = set(channels)
    receivers = names | {receiver_of(c) for c in names}
    return (
        *_strange("receiver", hold.receivers, receivers),
        *(
            _strange("namespace", hold.namespaces, set(namespaces))
            if namespaces is not None
            else ()
        ),
        *_strange("type", hold.types, set(TYPES), lower=True),
        *filter(None, [problem_of(hold)]),
    )


def _strange(
    what: str, patterns: Iterable[str], known: set[str], *, lower: bool = False
) -> Iterable[str]:
    for pattern in patterns:
        if not any(_any((pattern,), k.lower() if lower else k, lower=lower) for k in known):
            near = get_close_matches(pattern, sorted(known), n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            yield f"no {what} matches {plain(pattern)}{meant}"
