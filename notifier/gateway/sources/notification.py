"""
The gateway's own format, for programs that are written for the gateway: `notifier.client`, curl.

The members are those of the resource, flat, and a `key` that distinguishes events: a request that is sent
again with the same key finds the existing notification. An unknown member is refused, so that a misspelt
member is not silently missing from the notification.
"""

from __future__ import annotations

from typing import Final

from notifier.gateway.draft import Draft, Incoming, Kind, Options, Reader, Refused, json_object
from notifier.routing.attributes import ALWAYS
from syncer.model.incident import STATES

_MEMBERS: Final = frozenset({
    "key", "type", "priority", "severity", "subject", "body", "extensions", "links", "incident", "state",
})  # fmt: skip


def read(incoming: Incoming, _options: Options) -> tuple[Draft, ...]:
    """Make a draft of a notification; Refused with the member that is missing, wrong or unknown."""
    given = Reader(json_object(incoming.body))
    for name in given.members:
        if name not in _MEMBERS:
            raise Refused("is no member of a notification", path=given.at(name) or repr(name))

    key, incident = given.text("key"), given.text("incident")
    links = given.objects("links") if given.members.get("links") is not None else ()
    return (
        Draft(
            identity=("key", key) if key else None,
            view=given.members,
            event=f"notification:{key}" if key else "",
            type=given.choice("type", ALWAYS["type"], "Simple"),
            priority=given.choice("priority", ALWAYS["priority"], "Medium"),
            subject=given.text("subject", None),
            body=given.text("body", None),
            severity=given.text("severity"),
            extensions=given.texts("extensions"),
            links=tuple((n.text("service"), n.text("url"), n.text("label")) for n in links),
            incident=(incident,) if incident else None,
            state=given.choice("state", STATES, ""),
        ),
    )


KIND: Final = Kind(name="notification", prefix="nt", read=read, patience=20.0, too_many=429)
