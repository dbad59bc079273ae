"""
What a source makes of a request: drafts of notifications. No I/O, no clock.

A source reads the request of one program and returns a draft for each notification. A draft has defaults
for every member of the spec, so that a mapping needs to name only what is to differ, and the identity of
the event: what the program's retries and its highly available twins share, and what a new event does not.

What a program sent is never trusted to have its documented form. `Reader` hands out members by type and
refuses the rest with the path of the member; it never quotes the value, which may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import orjson

from notifier.routing.attributes import ALWAYS
from syncer.model.resource import Json
from syncer.model.times import parse_time

#: Alerts of one group that a body lists; how many more there are, it says.
ALERTS: Final = 100
#: Bytes of what templates of receivers see of a group.
DATA_BYTES: Final = 16 * 1024
_PATH: Final = 200
#: Objects and lists of a body, and members of objects. The parser holds the interpreter's lock while it
#: makes them; a group of 8 MiB has a quarter as many objects and lists, and three quarters as many members.
_PARTS: Final = 200_000
_MEMBERS: Final = 400_000
#: Commas, those in texts included: of lists of numbers and short texts there are more than of anything
#: else, and they take as long. It takes a tenth of a group's bytes to be refused for those in its texts.
_COMMAS: Final = 800_000
_MEMBER: Final = re.compile(rb'"\s*:')


class Refused(Exception):
    """
    A request that becomes no notification, however often it is sent.

    Attributes:
        status: HTTP status of the answer.
        path: The member at fault, empty where no single one is.
        reason: What is wrong with it. Quotes nothing of the request.
    """

    def __init__(self, reason: str, *, path: str = "", status: int = 422) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.status = status
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    What a client has proven in the handshake.

    The chain is in DER, from the client's own certificate to that of an authority. Each name has its kind:
    `cn:`, `dns:`, `uri:`, `email:`, `ip:`.
    """

    chain: tuple[bytes, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request: headers by name in lower case, the body as it came, the client's certificate or None."""

    headers: Mapping[str, str]
    body: bytes
    certificate: Certificate | None = None

    def header(self, name: str) -> str:
        """Return a header, empty if it is absent; bytes that are not UTF-8 are replaced."""
        value = self.headers.get(name, "")
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def authorization(self, scheme: str) -> str:
        """Return what stands behind a scheme in `Authorization`, empty if another one stands there."""
        given, _, text = self.header("authorization").partition(" ")
        return text.strip() if given.lower() == scheme else ""


@dataclass(frozen=True, slots=True)
class Options:
    """
    Settings that say how a source is read.

    Attributes:
        each: One notification for each alert, not for each group.
        ignore_starts_at: Leave the alerts' start out of the identity.
        body_alone: Requests are proven by a signature of their body, so headers are anybody's.
        timeless: The signature covers no time, so that a request can be sent again at any time.
    """

    each: bool = False
    ignore_starts_at: bool = False
    body_alone: bool = False
    timeless: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """
    One notification as its source suggests it.

    Attributes:
        identity: What retries and twins share; None where only the mapping or the bytes can tell.
        view: What the expressions of a mapping see.
        event: The event in the words of its source, by which people look for it.
        type: Of the spec, as priority, subject, body, severity and extensions.
        links: Service, URL and label of each.
        since: When the event began (Unix milliseconds); repeats of it fall into slots from here on.
        repeats: Whether the source may send the same event again on purpose.
        repeat: Whether it says that it does so now.
        incident: What the notifications of one incident share; None if it is about none.
        state: Whether the incident fires or is resolved; empty without one.
        data: What templates of receivers see of it, at most 16 KiB of JSON; empty without alerts.
        group: Alertmanager's own key of that, where it is a group of alerts.
        opposite: The identity that the event has in the other state; None where it cannot be told.
        nearest: What the expression of a namespace sees if it finds none in `view`.
        whole: Makes the draft, where this one only names the incident: it is wanted if that is open.
        unknown: Whether it is wanted also if nothing is known of the incident.
    """

    identity: tuple[object, ...] | None
    view: Json
    event: str = ""
    type: str = "Simple"
    priority: str = "Medium"
    subject: str = ""
    body: str = ""
    severity: str = ""
    extensions: Mapping[str, str] = field(default_factory=dict)
    links: tuple[tuple[str, str, str], ...] = ()
    since: int = 0
    repeats: bool = False
    repeat: bool = False
    incident: tuple[object, ...] | None = None
    state: str = ""
    opposite: tuple[object, ...] | None = None
    data: str = ""
    group: str = ""
    nearest: Json | None = None
    whole: Callable[[], Draft] | None = None
    unknown: bool = False


Read = Callable[[Incoming, Options], tuple[Draft, ...]]


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of source: how it is read, and how its program retries.

    Attributes:
        name: As in the gateway's file.
        prefix: Of the names of its objects.
        read: Makes drafts of a request.
        patience: Seconds for which a request may wait for the API server.
        retry_after: Seconds that a 503 asks for.
        max_body: Bytes.
        window: Seconds within which an equal event is a duplicate; 0 is for ever.
        too_many: Status for what is above a rate: 429 where the program tries again after one.
        handshake: Whether senders ask by OPTIONS whether they may send, as CloudEvents' webhooks do.
    """

    name: str
    prefix: str
    read: Read
    patience: float
    retry_after: int = 10
    max_body: int = 1 << 20
    window: float = 0.0
    too_many: int = 503
    handshake: bool = False


class Reader:
    """One JSON object of a payload, read member by member."""

    def __init__(self, members: Json, path: str = "") -> None:
        """Read an object that stands at `path` in the payload."""
        self.members = members
        self.path = path

    def at(self, key: str) -> str:
        """Return the path of a member."""
        return f"{self.path}.{key}"[:_PATH] if self.path else key[:_PATH]

    def text(self, key: str, default: str | None = "") -> str:
        """Return a text; without a default it must be there and not empty."""
        value = self.members.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or (default is None and not value):
            raise Refused(
                "is required and must be text" if default is None else "must be text",
                path=self.at(key),
            )
        return value

    def choice(self, key: str, words: tuple[str, ...], default: str | None = None) -> str:
        """Return a text that must be one of these; without a default it must be there."""
        value = self.text(key, default)
        if value and value not in words:
            raise Refused(f"must be one of {', '.join(words)}", path=self.at(key))
        return value or default or ""

    def number(self, key: str) -> int:
        """Return a whole number that is not negative; 0 if it is absent."""
        value = self.members.get(key)
        if value is None:
            return 0
        if type(value) is not int or value < 0:
            raise Refused("must be a whole number that is not negative", path=self.at(key))
        return value

    def texts(self, key: str) -> dict[str, str]:
        """Return a map of texts; empty if it is absent."""
        value = self.members.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise Refused("must be a mapping of texts", path=self.at(key))
        for name, text in value.items():
            if not isinstance(text, str):
                raise Refused("must be text", path=f"{self.at(key)}.{name}"[:_PATH])
        return value

    def time(self, key: str) -> int:
        """Return a time in Unix milliseconds; 0 if it is absent or Go's zero time."""
        text = self.text(key)
        try:
            return max(0, parse_time(text))
        except (ValueError, OverflowError):
            raise Refused("must be a time as in RFC 3339", path=self.at(key)) from None

    def object(self, key: str, *, required: bool = False) -> Reader:
        """Return an object; empty if it is absent."""
        value = self.members.get(key)
        if value is None and not required:
            return Reader({}, self.at(key))
        if not isinstance(value, dict):
            raise Refused("must be an object", path=self.at(key))
        return Reader(value, self.at(key))

    def objects(self, key: str) -> Iterator[Reader]:
        """Yield the objects of a list that must be there."""
        value = self.members.get(key)
        if not isinstance(value, list):
            raise Refused("must be a list", path=self.at(key))
        for number, item in enumerate(value):
            path = f"{self.at(key)}[{number}]"
            if not isinstance(item, dict):
                raise Refused("must be an object", path=path)
            yield Reader(item, path)


def json_value(body: bytes) -> Any:
    """
    Read a body that must be JSON.

    Raises:
        Refused: it is none, or of too many parts. Names the line and column where its text stops being
            JSON.
    """
    for count, most, what in (
        (body.count(b"{") + body.count(b"["), _PARTS, "objects and lists"),
        (body.count(b","), _COMMAS, "commas"),
    ):
        if count > most:
            raise Refused(f"the body has more than {most} {what}", status=413)
    # Texts hold colons as well, so the exact number is found only where there are many.
    if body.count(b":") > _MEMBERS and any(islice(_MEMBER.finditer(body), _MEMBERS, None)):
        raise Refused(f"the body has more than {_MEMBERS} members", status=413)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(
            f"the body is not JSON (line {error.lineno}, column {error.colno})", status=400
        ) from None


def json_object(body: bytes) -> Json:
    """Read a body that must be a JSON object; Refused if it is none."""
    value = json_value(body)
    if not isinstance(value, dict):
        raise Refused("the body must be a JSON object", status=400)
    return value


def priority_of(severity: str) -> str:
    """Return the priority for a severity; an unknown word is Medium."""
    return _PRIORITIES.get(severity.lower(), "Medium")


def worst_of(severities: Iterable[str]) -> str:
    """Return the most urgent of some severities, the first of equals; there must be one."""
    return min(
        dict.fromkeys(severities), key=lambda each: ALWAYS["priority"].index(priority_of(each))
    )


_PRIORITIES: Final = {
    word: priority
    for priority, words in {
        "Critical": ("critical", "page", "emergency", "fatal", "disaster", "p1", "sev1", "alert"),
        "High": ("error", "high", "major", "p2", "sev2"),
        "Medium": ("warning", "warn", "medium", "minor", "p3", "sev3"),
        "Low": ("info", "informational", "low", "none", "debug", "notice", "ok", "p4", "p5"),
    }.items()
    for word in words
}
