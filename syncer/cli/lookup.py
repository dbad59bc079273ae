"""One notification by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from syncer.cli.access import Access
from syncer.cli.exits import Absent
from syncer.cli.output import write_remark
from syncer.model.errors import ConfigError, Gone, Unavailable
from syncer.model.resource import NotificationRequest
from syncer.rules.text import plain

#: Seconds for an object.
_ANSWER: Final = 5.0
#: Notifications that are named where several may be meant.
_NAMED: Final = 10


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


async def find_request(at: Access, key: str, namespaces: Sequence[str]) -> NotificationRequest:
    """
    Read an object by its key, or by a part of its name that no other one has.

    Args:
        at: Open connections.
        key: `namespace/name`, or a part of the name, or `namespace/` and a part of it.
        namespaces: Where to look for a part; empty for all.

    Raises:
        Absent: there is none, or several; the newest of these are named.
        PortError: the API server does not answer, or refuses.
    """
    namespace, slash, part = key.rpartition("/")
    if slash:
        try:
            return await read_request(at, key)
        except Absent:
            namespaces = (namespace,)
    named: list[NotificationRequest] = []
    if part:
        from syncer.cli.scan import walk

        named = [
            one
            async for one in walk(at, namespaces)
            if isinstance(one, NotificationRequest) and part in one.name
        ]
    count, found = len(named), sorted(named, key=lambda o: -o.created)[:_NAMED]
    if count == 1:
        write_remark(f"the only one with {part!r} in its name: {found[0].key}")
        return found[0]
    if not found:
        raise Absent(f"there is no object {key}")
    listed = "".join(f"\n  {o.key}" for o in found)
    raise Absent(f"{count} notifications have {part!r} in their name; the newest:{listed}")


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
