"""
Attempts as they happen: which records are shown, and what a line says.

Shown are outcomes, and the reasons why due attempts were not made; the intent before each only on
request. Restored facts (`seed`) are not news: they were shown when they were first recorded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from syncer.cli.output import in_words
from syncer.cli.screen import cut
from syncer.model.attempt import receiver_of
from syncer.model.record import Kind, Record
from syncer.model.times import format_time
from syncer.rules.holds import on_channel

#: States that can be asked for: `syncer.cli.arguments.STATES`, with the records that state them.
_STATES: Final = {
    Kind.INTENT: "intent",
    Kind.SUCCESS: "success",
    Kind.RESOLVE_SUCCESS: "success",
    Kind.FAILED: "failed",
    Kind.RESOLVE_FAILED: "failed",
    Kind.UNKNOWN: "unknown",
    Kind.SKIP: "skip",
}
#: What a failure is called, by its class.
_FAILURES: Final = {"permanent": "failed for good", "notSent": "not sent", "operator": "refused"}

HEAD: Final = ("UTC", "NOTIFICATION", "SEVERITY", "CHANNEL", "RESULT", "SUBJECT", "DETAIL")
FLEXIBLE: Final = {"NOTIFICATION": 12, "SEVERITY": 4, "CHANNEL": 9, "SUBJECT": 8, "DETAIL": 12}
COLOURS: Final = {
    "success": "green", "failed": "yellow", "failed for good": "red", "not sent": "yellow",
    "refused": "red", "unknown": "yellow", "skipped": "dim",
}  # fmt: skip


#: What only the developers of the replaced controller understand; the record keeps their words.
_PLAIN: Final = (
    (re.compile(r".*RegisterChannel\(\).*", re.DOTALL),
     "this kind of channel is switched off in the controller's settings (`delivery`)"),
    (re.compile(r"^permanent failure: (.*) \(permanent failure\)$", re.DOTALL), r"failed for good: \1"),
)  # fmt: skip


def translated(error: str) -> str:
    """Return an error in words of this product."""
    for pattern, text in _PLAIN:
        error = pattern.sub(text, error)
    return error


@dataclass(frozen=True, slots=True)
class Event:
    """One record of one notification."""

    uid: str
    object: str
    record: Record
    #: Of the object, where that is there and can be read.
    severity: str = ""
    subject: str = ""

    @property
    def at(self) -> int:
        """When it happened, Unix milliseconds of Redis."""
        return int(self.record.body.get("at", 0))

    @property
    def state(self) -> str:
        """Its state as `--state` names it, empty if it is not shown."""
        return _STATES.get(self.record.kind, "")

    @property
    def error(self) -> str:
        """The error, or the reason why it was not sent."""
        body = self.record.body
        return str(body.get("error") or body.get("why") or "")

    def cells(self, *, dated: bool) -> tuple[str, ...]:
        """Return the event as cells of a table; `dated` if it may be of another day."""
        moment = format_time(self.at, millis=False)
        day, _, clock = moment.rstrip("Z").partition("T")
        return (
            f"{day} {clock}" if dated else clock, self.object or self.uid, self.severity or "-",
            self.record.channel, self._result(), cut(self.subject, 60) or "-", self._detail(),
        )  # fmt: skip

    def _result(self) -> str:
        if self.state == "skip":
            return "skipped"
        if self.state == "intent":
            return "opened"
        if self.record.kind.resolution:
            # A person's word, which nobody has observed.
            return f"resolved: {self.state}"
        return _FAILURES.get(str(self.record.body.get("class", "")), self.state)

    def _detail(self) -> str:
        body = self.record.body
        said = [str(body["code"])] if body.get("code") else []
        said += [translated(self.error)] if self.error else []
        if due := int(body.get("due", 0)):
            # Whether another attempt is left, only its policy says.
            said.append(f"(if attempts are left, next in {in_words(due - self.at)})")
        if self.record.kind.resolution:
            said.append(f"(by {body.get('by', '?')})")
        if body.get("words"):
            said.append(f"({body['words']})")
        if body.get("ms") and self.state == "success":
            said.append(f"after {int(body['ms']) / 1000:.1f} s")
        return " ".join(said)

    def as_json(self) -> dict[str, Any]:
        """Return the event as one JSON object; the keys are an interface."""
        body = self.record.body
        noted = self.record.kind.state is None
        return {
            "at": format_time(self.at) or None,
            "object": self.object or None,
            "uid": self.uid,
            "severity": self.severity or None,
            "subject": self.subject or None,
            "position": self.record.position,
            "channel": self.record.channel,
            "receiver": receiver_of(self.record.channel),
            "state": self.state,
            "class": body.get("class") or None,
            "attempt": None if noted else str(self.record.attempt_id),
            "code": body.get("code") or None,
            "error": self.error or None,
            "templates": body.get("words") or None,
            "durationMs": body.get("ms") or None,
            "due": format_time(int(body.get("due", 0))) or None,
            "by": body.get("by") or None,
            "resolved": self.record.kind.resolution,
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Which events are shown; each condition that is set must hold.

    Attributes:
        states: Any of these.
        namespaces: Any of these; empty for all.
        receivers: Patterns of channels, or of receivers; empty for all.
        since: Unix milliseconds.
    """

    states: Collection[str]
    namespaces: Collection[str] = ()
    receivers: Sequence[str] = ()
    since: int = 0

    def namespace(self, key: str) -> bool:
        """Whether the notifications of a namespace are wanted, by `namespace/name`."""
        return not self.namespaces or key.partition("/")[0] in self.namespaces

    def matches(self, event: Event) -> bool:
        """Whether an event is shown."""
        return (
            event.state in self.states
            and event.at >= self.since
            and self.namespace(event.object)
            and on_channel(event.record.channel, self.receivers)
        )
