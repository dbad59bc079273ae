"""
Faults as a script: what goes wrong, for which requests, how often.

A fault is a match and an action. Request actions strike when a request arrives; stream actions
strike when an open watch has something to send, or at once for those that need nothing to send. The
first matching fault with times left is used up first. `struck` lists what happened, in order, for
the message of a failing test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True, slots=True)
class Match:
    """
    Which requests: shell patterns on method, path (without query) and verb.

    Verbs are those of Kubernetes: get, list, watch, create, update, patch, delete.
    """

    method: str = "*"
    path: str = "*"
    verb: str = "*"

    def fits(self, method: str, path: str, verb: str) -> bool:
        """Whether a request is meant."""
        return (
            fnmatchcase(method, self.method)
            and fnmatchcase(path, self.path)
            and fnmatchcase(verb, self.verb)
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """
    Answer instead of doing it.

    `body` is sent as it is: a dictionary as JSON, a string as text with `content_type`. Without one
    a Status object is made from code, reason and message. `retry_after` is in seconds.
    """

    code: int
    reason: str = ""
    message: str = "the server is made to fail"
    retry_after: int | None = None
    body: dict[str, Any] | str | None = None
    content_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class ApplyThen:
    """Do it, and give another answer all the same: a 504 after the write, by default."""

    answer: Answer = Answer(504, "Timeout", "request did not complete within the allotted timeout")


@dataclass(frozen=True, slots=True)
class DropReply:
    """Do it, and close the connection without an answer."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection without doing it."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait, then do it; the time is in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hang:
    """Never answer; `applied` says whether it is done before."""

    applied: bool = False


@dataclass(frozen=True, slots=True)
class StaleRead:
    """Answer a get or list from the state at an earlier resourceVersion."""

    revision: int


RequestAction = Answer | ApplyThen | DropReply | Reset | Delay | Hang | StaleRead


@dataclass(frozen=True, slots=True)
class CloseWatch:
    """End the stream as a timeout does; `abruptly` in the middle of a line instead."""

    abruptly: bool = False


@dataclass(frozen=True, slots=True)
class ExpireWatch:
    """Send the error event that says the resourceVersion is too old, and end the stream."""


@dataclass(frozen=True, slots=True)
class SendLine:
    """Put bytes of one's own into the stream."""

    line: bytes


@dataclass(frozen=True, slots=True)
class DropEvent:
    """Leave out the next event."""


@dataclass(frozen=True, slots=True)
class DuplicateEvent:
    """Send the next event twice."""


@dataclass(frozen=True, slots=True)
class HoldEvent:
    """Send the next event only after the one that follows it."""


@dataclass(frozen=True, slots=True)
class StallWatch:
    """Say nothing more, and keep the connection."""


StreamAction = (
    CloseWatch | ExpireWatch | SendLine | DropEvent | DuplicateEvent | HoldEvent | StallWatch
)
_REQUEST_ACTIONS = (Answer, ApplyThen, DropReply, Reset, Delay, Hang, StaleRead)
_AT_ONCE = (CloseWatch, ExpireWatch, SendLine, StallWatch)
_AT_EVENTS = (DropEvent, DuplicateEvent, HoldEvent)


@dataclass(slots=True)
class _Fault:
    match: Match
    action: RequestAction | StreamAction
    left: int | None


@dataclass(slots=True)
class Faults:
    """The script of one server. `on_add` is called after each addition, to wake open watches."""

    struck: list[str] = field(default_factory=list)
    on_add: Callable[[], None] | None = None
    _script: list[_Fault] = field(default_factory=list)

    def add(
        self, match: Match, action: RequestAction | StreamAction, times: int | None = 1
    ) -> None:
        """Add a fault at the end of the script; None is for ever."""
        self._script.append(_Fault(match, action, times))
        if self.on_add:
            self.on_add()

    def clear(self) -> None:
        """Let everything work again; what was struck stays listed."""
        self._script.clear()

    def request(self, method: str, path: str, verb: str) -> RequestAction | None:
        """Take the fault for a request that has arrived."""
        action = self._take(method, path, verb, _REQUEST_ACTIONS)
        return action if isinstance(action, RequestAction) else None

    def stream(self, path: str, *, event: bool) -> StreamAction | None:
        """Take the fault for an open watch, that has an event to send or has none."""
        kinds = _AT_ONCE + _AT_EVENTS if event else _AT_ONCE
        action = self._take("GET", path, "watch", kinds)
        return action if isinstance(action, StreamAction) else None

    def _take(
        self, method: str, path: str, verb: str, kinds: tuple[type, ...]
    ) -> RequestAction | StreamAction | None:
        for fault in self._script:
            if not isinstance(fault.action, kinds) or not fault.match.fits(method, path, verb):
                continue
            if fault.left is not None:
                fault.left -= 1
                if fault.left <= 0:
                    self._script.remove(fault)
            self.struck.append(f"{fault.action} on {verb} {path}")
            return fault.action
        return None
