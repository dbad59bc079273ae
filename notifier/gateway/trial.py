"""
What a webhook would become, and who would get it: the gateway's own translation, the product's routing.

Nothing is created, and no proof is asked for: a payload is tried before any program sends one.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from notifier.gateway.draft import Incoming
from notifier.gateway.settings import Loaded
from notifier.gateway.translation import Wish, wishes
from notifier.routing.attributes import attributes_of
from notifier.routing.parse import parse
from notifier.routing.tree import resolve
from syncer.model.errors import ConfigError
from syncer.model.resource import Spec


def shown(
    loaded: Loaded,
    source: str,
    body: bytes,
    *,
    headers: Sequence[str],
    routes: str | None,
    now: float,
) -> str:
    """
    Return the objects as YAML, each followed by who would get it.

    Args:
        loaded: The gateway's file.
        source: Name of the source.
        body: Of the request.
        headers: Each as `Name: value`.
        routes: Text of a routing file; None shows no receivers.
        now: Unix seconds.

    Raises:
        ConfigError: there is no such source, or the routing file cannot be used.
        Refused: the payload becomes no notification.
    """
    if source not in loaded.sources:
        names = ", ".join(sorted(loaded.sources))
        raise ConfigError(f"there is no source {source}; the file has {names}")
    pairs = (header.partition(":") for header in headers)
    incoming = Incoming({name.strip().lower(): value.strip() for name, _, value in pairs}, body)
    entry, _ = loaded.sources[source]
    return "---\n".join(
        yaml.safe_dump(wish.manifest, sort_keys=False, allow_unicode=True, width=100)
        + (_receivers(wish, routes) if routes is not None else "")
        for wish in wishes(entry, incoming, now)
    )


def _receivers(wish: Wish, routes: str) -> str:
    config = parse(routes, native=frozenset({"email", "webhook"}))
    spec = wish.manifest["spec"]
    attributes = attributes_of(
        Spec(
            type=spec["type"],
            priority=spec["priority"],
            subject=spec["subject"],
            body=spec["body"],
            severity=spec.get("severity", ""),
            extensions=spec["extensions"],
        ),
        namespace=wish.namespace,
        name=wish.identity.name,
    )
    found = resolve(config, attributes)
    lines = [
        f"# receivers: {', '.join(found.receivers)}",
        f"# channels: {', '.join(found.channels)}",
        *(f"# doubt: {doubt}" for doubt in found.doubts),
    ]
    return "\n".join(lines) + "\n"
