"""
Operators' holds: what they keep from being sent, how copies are joined, and how they are stored.

All holds of an installation are one small document. Every replica keeps it in memory and restores what
Redis has lost, so joining must be safe in any order: by id, the released copy wins. Holds that are over
are kept for a week, for people; they are never restored, and are dropped first if space is short. But a
release is not dropped before every replica knows it: one that does not would restore the hold.

This decision alone enforces a hold, each time that something is due, with the time of that moment: nobody
has to end it. If two holds apply to a channel, the one that ends last is named, so that the recorded
reason does not change when the other ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from shlex import quote
from typing import Any, Final, Protocol

from syncer.model.attempt import receiver_of
from syncer.model.hold import Hold
from syncer.model.immutable import immutable
from syncer.model.times import format_time
from syncer.rules.channel_state import State
from syncer.rules.text import plain

#: Holds on record at once, those that are over included, and bytes of all of them.
MOST: Final = 100
MOST_BYTES: Final = 65_536
#: Patterns of one hold, and characters of one pattern.
MOST_PATTERNS: Final = 16
LONGEST_PATTERN: Final = 253
#: Milliseconds for which a hold may last, and for which one that is over is kept.
LONGEST: Final = 30 * 86_400_000
KEPT: Final = 7 * 86_400_000
#: The same for a release that makes no space: by then every replica that reaches Redis has read it.
SPREAD: Final = 3_600_000
#: Bytes that are left free when a hold is placed, so that it and others can be released.
SPARE_BYTES: Final = 8_192
#: Of the stored document. A reader of this version refuses any other.
_FORMAT: Final = 1
_ID: Final = re.compile(r"[0-9a-f]{8}")
_PATTERN: Final = re.compile(r"[^,\[\]]+")
#: Members of a stored hold: lists of patterns, and texts with their longest length.
_PATTERNS: Final = ("receivers", "namespaces", "types", "severities")
_TEXTS: Final = {"by": 128, "reason": 256}
#: States of a channel in a status after which nothing more is due.
_FINISHED: Final = frozenset(s.value for s in State if s.finished)


class Subject(Protocol):
    """What a hold matches besides channels: a notification, or a summary of one."""

    @property
    def namespace(self) -> str:
        """Of the object."""

    @property
    def type(self) -> str:
        """Of its spec."""

    @property
    def severity(self) -> str:
        """Of its spec."""


@immutable
class Held:
    """
    Why a channel is held back, and what ends that.

    `until` is the second of the monotonic clock at which that ends by itself; `since` is when it was
    placed, ledger time in milliseconds.
    """

    reason: str
    until: float
    since: int


# -- what is held ---------------------------------------------------------------------------------


def concerns(hold: Hold, request: Subject) -> bool:
    """Whether a hold matches a notification, whatever its channels."""
    return (
        _any(hold.namespaces, request.namespace)
        and _any(hold.types, request.type.lower(), lower=True)
        and _any(hold.severities, request.severity.lower(), lower=True)
    )


def holds_channel(hold: Hold, channel: str) -> bool:
    """Whether a hold matches a channel, by its full name or by that of its receiver."""
    if not hold.receivers:
        return True
    receiver = receiver_of(channel)
    return any(fnmatchcase(channel if ":" in p else receiver, p) for p in hold.receivers)


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
        holds: All holds on record.
        now: Ledger time in milliseconds.
        clock: The same moment as second of the monotonic clock.
    """
    about = [h for h in holds if h.in_force(now) and concerns(h, request)]
    found = {}
    for channel in channels if about else ():
        chosen = max(
            (h for h in about if holds_channel(h, channel)),
            key=lambda h: (h.until, h.id),
            default=None,
        )
        if chosen is not None:
            found[channel] = Held(reason_of(chosen), clock + (chosen.until - now) / 1000, chosen.at)
    return found


def keep_back(
    holds: Iterable[Hold], request: Subject, channels: Sequence[tuple[str, str]], *, now: int
) -> bool:
    """
    Whether holds keep back a channel that a status does not show as finished.

    Args:
        holds: All on record.
        request: The notification, which has not ended.
        channels: Name and state of each channel as the status shows it.
        now: Ledger time in milliseconds.
    """
    # Before there is a plan only what holds every channel is known to hold it.
    unfinished = [name for name, state in channels if state not in _FINISHED] if channels else [""]
    return bool(held_channels(request, unfinished, holds, now=now, clock=0.0))


def reason_of(hold: Hold) -> str:
    """Return why something is held back and what ends that, for logs and terminals."""
    why, by = (" ".join(plain(text).split()) for text in (hold.reason, hold.by))
    end = format_time(hold.until, millis=False)
    return f"held until {end} by {by}: {why} (syncer release {hold.id})"


def selector_of(hold: Hold) -> str:
    """Return what a hold is about, as options of `syncer hold`."""
    named = (
        ("receiver", hold.receivers), ("namespace", hold.namespaces), ("type", hold.types),
        ("severity", hold.severities),
    )  # fmt: skip
    return " ".join(f"--{name} {quote(','.join(patterns))}" for name, patterns in named if patterns)


# -- joining --------------------------------------------------------------------------------------


def join(*copies: Iterable[Hold]) -> tuple[Hold, ...]:
    """Join copies of the record: by id, the released one wins. In the order of their ids."""
    found: dict[str, Hold] = {}
    for hold in (h for copy in copies for h in copy):
        found[hold.id] = max(found.get(hold.id, hold), hold, key=_order)
    return tuple(found[id_] for id_ in sorted(found))


def _order(hold: Hold) -> tuple[object, ...]:
    # Of two releases the earlier one stands; the rest only makes the choice the same everywhere.
    return (
        bool(hold.released), -hold.released, hold.released_by, hold.until, hold.at, hold.by,
        hold.reason, hold.receivers, hold.namespaces, hold.types, hold.severities,
    )  # fmt: skip


def restored(stored: Iterable[Hold], known: Iterable[Hold], *, now: int) -> tuple[Hold, ...]:
    """
    Return what should be on record, from what is, and from what a process remembers.

    What the record has lost comes back while it is in force, and a release that it has lost comes back
    where the hold did. What is over is not put back: it may have had to make space.

    Args:
        stored: The record as read.
        known: What the process remembers.
        now: Ledger time in milliseconds.
    """
    here = {h.id: h for h in stored}
    return join(here.values(), (k for k in known if k.id in here or k.in_force(now)))


def within_bounds(
    holds: Iterable[Hold], *, now: int, most_bytes: int = MOST_BYTES
) -> tuple[Hold, ...]:
    """
    Return the holds without those that have been over for long, or have to make space.

    Args:
        holds: All of them.
        now: Ledger time in milliseconds.
        most_bytes: Of what is returned, as it is stored.

    Raises:
        ValueError: those that must be kept are too many.
    """
    kept = sorted(
        (h for h in holds if h.in_force(now) or now - h.over_at < KEPT),
        key=lambda h: (_needed(h, now), h.over_at),
    )
    while len(kept) > MOST or len(encode(kept)) > most_bytes:
        if _needed(kept[0], now):
            raise ValueError(
                f"no more than {MOST} holds, of {most_bytes} bytes together, are kept at once;"
                " release some (syncer holds): each makes space an hour later"
            )
        del kept[0]
    return join(kept)


def _needed(hold: Hold, now: int) -> bool:
    """Whether a hold must stay on record: a replica that does not know its release would put it back."""
    return now < hold.until and (not hold.released or now - hold.released < SPREAD)


# -- as stored ------------------------------------------------------------------------------------


def encode(holds: Sequence[Hold]) -> bytes:
    """Return holds as they are stored."""
    return json.dumps(
        {"v": _FORMAT, "holds": [_document(h) for h in holds]}, separators=(",", ":")
    ).encode()


def _document(hold: Hold) -> dict[str, Any]:
    patterns = {name: list(getattr(hold, name)) for name in _PATTERNS}
    return {
        "id": hold.id, "at": hold.at, "until": hold.until, "by": hold.by, "reason": hold.reason,
        **{name: value for name, value in patterns.items() if value},
        **({"released": hold.released, "releasedBy": hold.released_by} if hold.released else {}),
    }  # fmt: skip


def decode(stored: bytes | None) -> tuple[Hold, ...]:
    """Read holds as they are stored, none where nothing is; a ValueError names the member at fault."""
    if not stored:
        return ()
    if len(stored) > MOST_BYTES:
        raise ValueError(f"{len(stored)} bytes, more than the {MOST_BYTES} that are ever written")
    try:
        document = json.loads(stored)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(document, dict) or document.get("v") != _FORMAT:
        raise ValueError(f"v: must be {_FORMAT}; a newer version may have written it")
    listed = document.get("holds")
    if not isinstance(listed, list) or len(listed) > MOST:
        raise ValueError(f"holds: must be a list of at most {MOST}")
    return join(_hold_of(one, f"holds[{n}]") for n, one in enumerate(listed))


def _hold_of(one: object, path: str) -> Hold:
    if not isinstance(one, dict):
        raise ValueError(f"{path}: must be an object")  # noqa: TRY004 - as what else cannot be read
    if not isinstance(one.get("id"), str) or not _ID.fullmatch(one["id"]):
        raise ValueError(f"{path}.id: must be eight hex digits")
    for name in ("at", "until"):
        _number(one.get(name), f"{path}.{name}")
    for name, most in _TEXTS.items():
        if not isinstance(one.get(name), str) or len(one[name]) > most:
            raise ValueError(f"{path}.{name}: must be a text of at most {most} characters")
    patterns = {name: patterns_of(one.get(name, []), f"{path}.{name}") for name in _PATTERNS}
    released = _number(one.get("released", 0), f"{path}.released")
    return Hold(
        one["id"], one["at"], one["until"], plain(one["by"]), plain(one["reason"]), **patterns,
        released=released, released_by=plain(str(one.get("releasedBy", ""))[: _TEXTS["by"]]),
    )  # fmt: skip


def _number(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError(f"{path}: must be a time in Unix milliseconds")
    return value


def patterns_of(value: object, path: str) -> tuple[str, ...]:
    """Return a list of texts as patterns; a ValueError names the path."""
    if not isinstance(value, list) or len(value) > MOST_PATTERNS:
        raise ValueError(f"{path}: must be at most {MOST_PATTERNS} patterns")
    for pattern in value:
        if (
            not isinstance(pattern, str)
            or len(pattern) > LONGEST_PATTERN
            or not _PATTERN.fullmatch(pattern)
            or not pattern.isprintable()
        ):
            raise ValueError(
                f"{path}: a pattern is a name of at most {LONGEST_PATTERN} characters; `*` stands for"
                " any text, and `?` for any character, such as a comma or a bracket"
            )
    return tuple(dict.fromkeys(value))


def check_new(hold: Hold, *, now: int) -> None:
    """Raise ValueError, which names the option, if a hold cannot be placed at `now`, whatever is held."""
    if not (hold.receivers or hold.namespaces or hold.types or hold.severities):
        raise ValueError(
            "name what to hold with --receiver, --namespace, --type or --severity; for everything, use"
            " --receiver '*'"
        )
    if hold.until <= now:
        raise ValueError("--until must be in the future")
    if hold.until - now > LONGEST:
        raise ValueError(f"--until must be within {LONGEST // 86_400_000} days")


def place(holds: Iterable[Hold], hold: Hold, *, now: int) -> tuple[Hold, ...]:
    """
    Return the record with one more hold.

    Args:
        holds: The record.
        hold: The new one.
        now: Ledger time in milliseconds.

    Raises:
        ValueError: it cannot be placed, or there is no space for it.
    """
    check_new(hold, now=now)
    return within_bounds(join(holds, (hold,)), now=now, most_bytes=MOST_BYTES - SPARE_BYTES)


def release(holds: Iterable[Hold], ids: Iterable[str], *, now: int, by: str) -> tuple[Hold, ...]:
    """
    Return the record with holds released; those that have ended stay unchanged.

    Args:
        holds: The record.
        ids: Of the holds.
        now: Ledger time in milliseconds.
        by: Name of the operator.

    Raises:
        ValueError: there is no hold of that id, or no space for the record that it was released.
    """
    known: Mapping[str, Hold] = {h.id: h for h in holds}
    out = dict(known)
    for id_ in ids:
        found = known.get(id_)
        if found is None:
            raise ValueError(f"there is no hold {plain(id_)!r}; `syncer holds` lists the holds")
        if found.in_force(now):
            out[id_] = replace(found, released=now, released_by=by)
    return within_bounds(out.values(), now=now)
