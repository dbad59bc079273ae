"""
Faults as a script: what goes wrong, for which requests, how often.

A fault is a match and an action, which strikes when a request arrives. The first matching fault with
times left is used up first. `struck` lists what happened, in order, for the message of a failing test.
"""

from __future__ import annotations

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

    `body` is sent as it is; without one a Status object is made from code, reason and message.
    `retry_after` is in seconds.
    """

    code: int
    reason: str = ""
    message: str = "the server is made to fail"
    retry_after: int | None = None
    body: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ApplyThen:
    """Do it, and give another answer all the same: a 504 after the write, by default."""

    answer: Answer = Answer(504, "Timeout", "request did not complete within the allotted timeout")


@dataclass(frozen=True, slots=True)
class DropReply:
    """Do it, and close the connection without an answer."""


Action = Answer | ApplyThen | DropReply


@dataclass(slots=True)
class _Fault:
    match: Match
    action: Action
    left: int | None


@dataclass(slots=True)
class Faults:
    """The script of one server."""

    struck: list[str] = field(default_factory=list)
    _script: list[_Fault] = field(default_factory=list)

    def add(self, match: Match, action: Action, times: int | None = 1) -> None:
        """Add a fault at the end of the script; None is for ever."""
        self._script.append(_Fault(match, action, times))

    def clear(self) -> None:
        """Let everything work again; what was struck stays listed."""
        self._script.clear()

    def request(self, method: str, path: str, verb: str) -> Action | None:
        """Take the fault for a request that has arrived."""
        for fault in self._script:
            if not fault.match.fits(method, path, verb):
                continue
            if fault.left is not None:
                fault.left -= 1
                if fault.left <= 0:
                    self._script.remove(fault)
            self.struck.append(f"{fault.action} on {verb} {path}")
            return fault.action
        return None
