"""One notification by its name."""

from __future__ import annotations

from syncer.cli.access import Access
from syncer.cli.exits import Absent
from syncer.model.errors import ConfigError, Gone
from syncer.model.resource import NotificationRequest
from syncer.rules.text import plain


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
        return await at.objects.get(namespace, name)
    except Gone:
        raise Absent(f"there is no object {key}") from None
