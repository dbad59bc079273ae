"""
Drafts of notifications, which a source makes of a request. No I/O, no clock.

A source reads the request of one program and returns a draft for each notification. A draft has defaults
for every member of the spec, so that a mapping names only the members that should differ. It also has the
identity of the event: values that are equal in the program's retries and in its highly available peers, and
differ in a new event.

A payload is never trusted to have its documented form. `Reader` returns members by type and refuses
anything else with the path of the member; it never quotes the value, which may contain a secret.
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

#: Most alerts of a group that a body lists; the body says how many more there are.
ALERTS: Final = 100
#: Most bytes of a group's data for the templates of receivers.
DATA_BYTES: Final = 16 * 1024
_PATH: Final = 200
#: Most objects and lists in a body, and most members. The parser holds the interpreter's lock while it
#: makes them. A group of 8 MiB has a quarter as many objects and lists, and three quarters as many members.
_PARTS: Final = 200_000
_MEMBERS: Final = 400_000
#: Most commas in a body, commas in texts included. They bound lists of numbers and short texts: a body can
#: have more of those than of anything else, and each takes as long to parse. A group is refused for the
#: commas in its texts only if they are a tenth of its bytes.
_COMMAS: Final = 800_000
_MEMBER: Final = re.compile(rb'"\s*:')


class Refused(Exception):
    """
    A request that never becomes a notification, however often it is sent.

    Attributes:
        status: HTTP status of the answer.
        path: The member at fault, empty if no single one is.
        reason: What is wrong. Quotes nothing of the request.
    """

    def __init__(self, reason: str, *, path: str = "", status: int = 422) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.status = status
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    A client's certificate, verified in the TLS handshake.

    The chain is in DER, from the client's own certificate to that of an authority. Each name begins with
    its kind: `cn:`, `dns:`, `uri:`, `email:`, `ip:`.
    """

    chain: tuple[bytes, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request: headers by lower-case name, the body as received, the client's certificate or None."""

    headers: Mapping[str, str]
    body: bytes
    certificate: Certificate | None = None

    def header(self, name: str) -> str:
        """Return a header, empty if it is absent; bytes that are not UTF-8 are replaced."""
        value = self.headers.get(name, "")
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def authorization(self, scheme: str) -> str:
        """Return the credentials of a scheme in `Authorization`, empty if the header has another scheme."""
        given, _, text = self.header("authorization").partition(" ")
        return text.strip() if given.lower() == scheme else ""


@dataclass(frozen=True, slots=True)
class Options:
    """
    Settings for reading a source.

    Attributes:
        each: One notification for each alert, not for each group.
        ignore_starts_at: Leave the alerts' start out of the identity.
        body_alone: The signature covers only the body, so anybody can change the headers.
        timeless: The signature covers no time, so a request can be replayed at any time.
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
        identity: Values that retries and peers share; None if only the mapping or the bytes identify it.
        view: Input of the mapping's expressions.
        event: Text in the terms of the source by which people search for the event.
        type: Member of the spec, like priority, subject, body, severity and extensions.
        links: Service, URL and label of each.
        since: When the event began, in Unix milliseconds; the slots of its repeats begin here.
        repeats: Whether the source may send the same event again on purpose.
        repeat: Whether the source says that this is such a repeat.
        incident: Values that the notifications of one incident share; None without an incident.
        state: Whether the incident is firing or resolved; empty without one.
        data: Data for the templates of receivers, at most 16 KiB of JSON; empty without alerts.
        group: Alertmanager's own key of the incident, if that is a group of alerts.
        opposite: The identity that the event has in the other state; None if it cannot be told.
        nearest: Input of the namespace's expression if `view` leads to no allowed namespace.
        whole: Makes the complete draft, if this one only names an incident. The complete draft is wanted if
            the incident is open.
        unknown: Whether the complete draft is also wanted if nothing is known of the incident.
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
        name: Name in the gateway's file.
        prefix: Prefix of the names of its objects.
        read: Makes drafts of a request.
        patience: Seconds for which a request may wait for the API server.
        retry_after: Longest `Retry-After` of a 503, in seconds.
        max_body: Most bytes of a body.
        window: Seconds within which an equal event is a duplicate; 0 means for ever.
        too_many: HTTP status above a rate: 429 if the program retries after a 429.
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
        """Read the object at `path` in the payload."""
        self.members = members
        self.path = path

    def at(self, key: str) -> str:
        """Return the path of a member."""
        return f"{self.path}.{key}"[:_PATH] if self.path else key[:_PATH]

    def text(self, key: str, default: str | None = "") -> str:
        """Return a text; without a default it is required and must not be empty."""
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
        """Return a text that must be one of these words; without a default it is required."""
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
        """Yield the objects of a list, which is required."""
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
        Refused: it is not JSON, or has too many parts. Names the line and column where the JSON is broken.
    """
    for count, most, what in (
        (body.count(b"{") + body.count(b"["), _PARTS, "objects and lists"),
        (body.count(b","), _COMMAS, "commas"),
    ):
        if count > most:
            raise Refused(f"the body has more than {most} {what}", status=413)
    # Texts contain colons as well, so members are counted exactly only if there are many colons.
    if body.count(b":") > _MEMBERS and any(islice(_MEMBER.finditer(body), _MEMBERS, None)):
        raise Refused(f"the body has more than {_MEMBERS} members", status=413)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(
            f"the body is not JSON (line {error.lineno}, column {error.colno})", status=400
        ) from None


def json_object(body: bytes) -> Json:
    """Read a body that must be a JSON object; Refused if it is not."""
    value = json_value(body)
    if not isinstance(value, dict):
        raise Refused("the body must be a JSON object", status=400)
    return value


def priority_of(severity: str) -> str:
    """Return the priority for a severity; an unknown word is Medium."""
    return _PRIORITIES.get(severity.lower(), "Medium")


def worst_of(severities: Iterable[str]) -> str:
    """Return the most urgent of some severities, the first of equals; there must be at least one."""
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
