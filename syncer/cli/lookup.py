"""One notification: by its name, a part of it, or what the gateway made it of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final

from syncer.cli.access import Access
from syncer.cli.exits import Absent
from syncer.cli.output import write_remark
from syncer.cli.scan import walk
from syncer.model.errors import ConfigError, Gone, Unavailable
from syncer.model.event import EVENT, event_label, event_text
from syncer.model.resource import NotificationRequest
from syncer.rules.text import plain

#: Seconds for an object.
_ANSWER: Final = 5.0
#: Notifications that are named where several may be meant.
_NAMED: Final = 10
#: What stands before a slash, if that is no part of a subject or of an event.
_NAMESPACE: Final = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def is_key(key: str) -> bool:
    """Whether something that is looked for has the form `namespace/…`."""
    namespace, slash, name = key.partition("/")
    return bool(slash and "/" not in name and _NAMESPACE.fullmatch(namespace))


def namespace_and_name(key: str) -> tuple[str, str]:
    """
    Split the key of an object.

    Raises:
        ConfigError: it is not `namespace/name`. What stands behind another slash would be taken for a
            subresource by the API server.
    """
    namespace, _, name = key.partition("/")
    if not (namespace and name) or "/" in name:
        raise ConfigError(f"NAMESPACE/NAME expected, not {plain(key)!r}")
    return namespace, name


async def find_key(at: Access, key: str, namespaces: Sequence[str]) -> str:
    """
    Return `namespace/name` of the object that alone has this part in its name.

    Where no name has it, its subject or its event counts, in upper or lower case.

    Args:
        at: Open connections.
        key: A part of the name, or `namespace/` and a part of it. Subjects have slashes, too.
        namespaces: Where to look for it; empty for all.

    Raises:
        Absent: there is none, or several; the newest of these are named.
        PortError: the API server does not answer, or refuses.
    """
    among, part = namespaces, key
    if is_key(key):
        namespace, _, part = key.partition("/")
        among = (namespace,)
    named, told = list[NotificationRequest](), list[NotificationRequest]()
    async for one in walk(at, among):
        if part and isinstance(one, NotificationRequest):
            if part in one.name:
                named.append(one)
            elif part.lower() in f"{one.spec().subject}\n{one.event}".lower():
                told.append(one)
    where = "name" if named else "subject or event"
    found = sorted(named or told, key=lambda one: -one.created)
    if len(found) == 1:
        write_remark(f"the only one with {part!r} in its {where}: {found[0].key}")
        return found[0].key
    if not found:
        raise Absent(f"there is no object {key}, and no subject or event with {part!r}")
    listed = "".join(f"\n  {o.key}" for o in found[:_NAMED])
    raise Absent(f"{len(found)} notifications have {part!r} in their {where}; the newest:{listed}")


async def find_event(at: Access, event: str, namespaces: Sequence[str]) -> str:
    """
    Return `namespace/name` of the newest notification of an event, or of one that has this part.

    Args:
        at: Open connections.
        event: In the words of its sender.
        namespaces: Only these; empty for all.

    Raises:
        Absent: there is none.
        PortError: the API server does not answer, or refuses.
    """
    selector, found = f"{EVENT}={event_label(event)}", list[NotificationRequest]()
    async for one in walk(at, namespaces, labels=selector):
        if isinstance(one, NotificationRequest) and one.event == event_text(event):
            found.append(one)
    if not found:
        async for one in walk(at, namespaces):
            if isinstance(one, NotificationRequest) and event in (one.event or ""):
                found.append(one)
    if not found:
        among = f" in {', '.join(namespaces)}" if namespaces else ""
        raise Absent(f"there is no notification of the event {plain(event)!r}{among}")
    if len(found) > 1:
        write_remark(f"the newest of {len(found)} of this event; `list --event` shows all")
    return max(found, key=lambda one: one.created).key


async def read_request(at: Access, key: str) -> NotificationRequest:
    """
    Read an object.

    Raises:
        ConfigError: the key is not `namespace/name`, or there is no way to the API server.
        Absent: there is no such object.
        PortError: the API server does not answer, or refuses.
    """
    namespace, name = namespace_and_name(key)
    try:
        async with asyncio.timeout(_ANSWER):
            return await at.objects.get(namespace, name)
    except Gone:
        raise Absent(f"there is no object {key}") from None
    except TimeoutError:
        raise Unavailable(f"the API server has not answered within {_ANSWER:.0f} s") from None
