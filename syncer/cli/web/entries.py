"""
What the explorer keeps of each notification, and the questions that it answers.

An entry holds what a row of the list shows and what a filter needs, a few hundred bytes: a hundred
thousand of them take the memory of two thousand whole objects. Repeated values (phases, namespaces, the
channels of notifications with the same routing, errors) are shared between entries. Everything else is
read when a page asks for it.

No I/O, no clock.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from syncer.cli.attempts import last_failure, on_channel
from syncer.model.attempt import Attempt
from syncer.model.conditions import QUARANTINED, true_condition
from syncer.model.hold import Hold
from syncer.model.resource import TERMINAL_PHASES, NotificationRequest
from syncer.rules.holds import keep_back

T = TypeVar("T")

HELD: Final = 1
QUARANTINE: Final = 2
DELETING: Final = 4
#: Characters of an error that are kept.
_ERROR: Final = 120
#: Characters of an event that are kept.
_EVENT: Final = 160
#: Channels of one entry that are kept.
_CHANNELS: Final = 20
#: Values that are shared; what comes after them is not.
_SHARED: Final = 8_192
#: Characters of a filter.
_TEXT: Final = 253


class Channel(NamedTuple):
    """One channel of a notification as its status shows it; `due` is the next attempt, 0 without one."""

    name: str
    state: str
    due: int


class Failure(NamedTuple):
    """The latest failure that a status shows."""

    channel: str
    error: str


@dataclass(slots=True, eq=False)
class Entry:
    """
    One notification.

    Attributes:
        identity: The uid of the object, in half of its length where it has the usual form.
        created: Unix milliseconds.
        phase: Of the status, empty before there is one.
        attempts: How many the status counts.
        unknown: Of these, how many have a result that is not known.
        flags: `HELD`, by an annotation of its own, `QUARANTINE` and `DELETING`.
        failure: The latest one that the status shows, None without one.
        last: End of the latest attempt, 0 where there is no failure.
        event: What the gateway made it of, in its sender's words, cut; empty without one.
        listing: Number of the list that has shown it last.
        type: Of the spec, as is the severity: a hold may match them.
    """

    namespace: str
    name: str
    identity: bytes | str
    created: int
    phase: str
    attempts: int
    unknown: int
    flags: int
    channels: tuple[Channel, ...]
    failure: Failure | None
    last: int
    event: str = ""
    listing: int = 0
    type: str = ""
    severity: str = ""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def uid(self) -> str:
        """Of the object."""
        identity = self.identity
        return identity if isinstance(identity, str) else str(UUID(bytes=identity))

    @property
    def finished(self) -> bool:
        """Whether nothing more is sent."""
        return self.phase in TERMINAL_PHASES


class Position(NamedTuple):
    """Where an entry stands among all: by its age, then by its name."""

    created: int
    namespace: str
    name: str

    @property
    def token(self) -> str:
        """Its text in a page's address."""
        return f"{self.created}.{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Read a token, None if it is none."""
        created, _, key = text.partition(".")
        namespace, _, name = key.partition("/")
        if not (created.isascii() and created.isdigit() and len(created) <= 15 and name):
            return None
        return cls(int(created), namespace, name)


def position_of(entry: Entry) -> Position:
    """Where an entry stands."""
    return Position(entry.created, entry.namespace, entry.name)


class EntryMaker:
    """Makes entries of objects, and shares what repeats."""

    def __init__(self) -> None:
        """Nothing is shared yet."""
        self._shared: dict[Any, Any] = {}

    def entry(self, request: NotificationRequest, listing: int = 0) -> Entry:
        """Return the entry of an object."""
        status = request.status
        failure = None if status.phase == "Sent" else self._failure(status.attempts)
        last = max(a.ended for a in status.attempts) if failure is not None else 0
        return Entry(
            sys.intern(request.namespace), request.name, _identity(request.uid), request.created,
            sys.intern(status.phase), status.total_attempts, status.uncertain, _flags(request),
            self._share(
                tuple(
                    self._share(Channel(c.name, c.state, 0 if status.terminal else c.next_retry))
                    for c in status.channels[:_CHANNELS]
                )
            ),
            failure, last, self._share(request.event[:_EVENT]), listing,
            request.type, request.severity,
        )  # fmt: skip

    def _failure(self, attempts: tuple[Attempt, ...]) -> Failure | None:
        latest = last_failure(attempts)
        if latest is None:
            return None
        return self._share(Failure(latest.channel, latest.error[:_ERROR]))

    def _share(self, value: T) -> T:
        if len(self._shared) < _SHARED:
            return self._shared.setdefault(value, value)  # type: ignore[no-any-return]  # of its own type
        return self._shared.get(value, value)  # type: ignore[no-any-return]  # likewise


def _identity(uid: str) -> bytes | str:
    try:
        parsed = UUID(uid)
    except ValueError:
        return uid
    return parsed.bytes if str(parsed) == uid else uid


def _flags(request: NotificationRequest) -> int:
    held = HELD if request.hold is not None else 0
    quarantined = QUARANTINE if true_condition(request.status.conditions, QUARANTINED) else 0
    return held | quarantined | (DELETING if request.deleting else 0)


class Placed(NamedTuple):
    """The holds of operators that are in force, and Redis time in milliseconds."""

    holds: tuple[Hold, ...] = ()
    now: int = 0

    def hold(self, entry: Entry) -> bool:
        """Whether one of these, or its annotation, holds back a notification or a channel of it."""
        if entry.flags & HELD:
            return True
        if entry.finished or not self.holds:
            return False
        channels = [(c.name, c.state) for c in entry.channels]
        return keep_back(self.holds, entry, channels, now=self.now)


#: What a list can be limited to besides phases, with the words that a page shows.
STATES: Final = {
    "attention": "needs attention",
    "unfinished": "not finished",
    "held": "held",
    "quarantined": "quarantined",
    "unknown": "result unknown",
}
PHASES: Final = ("none", "pending", "sending", "retrying", "sent", "partiallysent", "failed")


@dataclass(frozen=True, slots=True)
class Query:
    """
    The conditions of a list; an entry must meet each that is set.

    Attributes:
        text: In the name, a channel, an error or what it was made of, in any case.
        phase: One of `PHASES`.
        state: One of `STATES`.
        namespace: Of the object.
        receiver: Pattern of a receiver.
        after: Only what stands behind this in the list, None from its beginning.
    """

    text: str = ""
    phase: str = ""
    state: str = ""
    namespace: str = ""
    receiver: str = ""
    after: Position | None = None

    @classmethod
    def of(cls, words: Mapping[str, str]) -> Query:
        """Read the query of an address; parts that make no sense are ignored."""

        def word(name: str) -> str:
            return words.get(name, "").strip()[:_TEXT]

        phase, state = word("phase").lower(), word("state").lower()
        return cls(
            word("q"), phase if phase in PHASES else "", state if state in STATES else "",
            word("namespace"), word("receiver"), Position.parse(words.get("after", "")[:600]),
        )  # fmt: skip

    @property
    def filters(self) -> dict[str, str]:
        """The conditions as the query of an address, without the place in the list."""
        found = {
            "q": self.text, "phase": self.phase, "state": self.state, "namespace": self.namespace,
            "receiver": self.receiver,
        }  # fmt: skip
        return {name: text for name, text in found.items() if text}

    def matches(self, entry: Entry, placed: Placed) -> bool:
        """Whether an entry meets every condition; `placed` has the operators' holds."""
        return (
            (not self.namespace or entry.namespace == self.namespace)
            and (not self.phase or (entry.phase.lower() or "none") == self.phase)
            and (not self.state or _in_state(entry, self.state, placed))
            and (
                not self.receiver
                or any(on_channel(c.name, "", self.receiver) for c in entry.channels)
            )
            and (not self.text or self._has_text(entry))
        )

    def _has_text(self, entry: Entry) -> bool:
        part = self.text.casefold()
        return (
            # Names of objects are in lower case.
            part in entry.key
            or ("*" in part and fnmatchcase(entry.name, part))
            or any(part in c.name.casefold() for c in entry.channels)
            or (entry.failure is not None and part in entry.failure.error.casefold())
            # Of a longer one so much is compared as is kept.
            or (entry.event != "" and part[:_EVENT] in entry.event.casefold())
        )


def _in_state(entry: Entry, state: str, placed: Placed) -> bool:
    match state:
        case "held":
            return placed.hold(entry)
        case "quarantined":
            return bool(entry.flags & QUARANTINE)
        case "unknown":
            return entry.unknown > 0
        case "unfinished":
            return not entry.finished
        case _:
            return (
                bool(entry.flags & QUARANTINE)
                or entry.unknown > 0
                or entry.phase in {"Failed", "PartiallySent", "Retrying"}
                or placed.hold(entry)
            )
