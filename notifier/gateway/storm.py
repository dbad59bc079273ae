"""
What keeps a storm of events from becoming a storm of pages. No I/O, no clock.

A source may create a limited number of notifications a minute in one namespace; each replica counts by
itself. Events beyond the limit are refused for now, or become part of a digest: one notification that
lists the events of a few seconds and is routed by the attributes that they have in common.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from notifier.gateway.draft import cut
from notifier.gateway.identity import hashed
from notifier.gateway.manifest import PRIORITIES, line, object_of
from notifier.gateway.translation import Desired
from syncer.model.incident import OWN
from syncer.model.resource import Json

#: Members of a digest; more of them begin another one.
MEMBERS: Final = 500
_PREFIX: Final = "dg"
_BODY: Final = 30_000


def digest_of(source: str, members: Sequence[Desired]) -> Desired:
    """
    Return one notification that stands for several (at least one, all of one namespace).

    The same members make the same digest, in whatever order they came.
    """
    ordered = sorted(members, key=lambda desired: desired.identity.digest)
    identity = hashed(_PREFIX, source, "digest", *(desired.identity.name for desired in ordered))
    specs = [desired.manifest["spec"] for desired in ordered]
    worst = min(specs, key=lambda spec: PRIORITIES.index(spec["priority"]))
    spec: Json = {
        "type": worst["type"],
        "priority": worst["priority"],
        "subject": line(f"[DIGEST:{len(specs)}] {source}: {worst['subject']} and others"),
        "body": _body(specs),
        "extensions": {**_common(specs), "digest": str(len(specs))},
    }
    for key in ("severity", "retryPolicy", "retentionDays", "clusterID"):
        if key in worst:
            spec[key] = worst[key]
    namespace = members[0].namespace
    event = f"digest of {len(specs)}"
    manifest = object_of(identity, source=source, namespace=namespace, event=event, spec=spec)
    return Desired(namespace, identity, manifest, repeat=False)


def _common(specs: Sequence[Json]) -> dict[str, str]:
    """Return the attributes that all of them have; a digest is about no incident."""
    first, *others = (spec["extensions"] for spec in specs)
    return {
        key: value
        for key, value in first.items()
        if not key.startswith(OWN) and all(extensions.get(key) == value for extensions in others)
    }


def _body(specs: Sequence[Json]) -> str:
    """Return the subjects, the most urgent and frequent first, within the bound of a body."""
    counts = Counter((spec["priority"], spec["subject"]) for spec in specs)
    ordered = sorted(counts.items(), key=lambda item: (PRIORITIES.index(item[0][0]), -item[1]))
    lines = [f"{len(specs)} notifications came faster than this source's rate allows:"]
    size, left_out = len(lines[0]), 0
    for (priority, subject), count in ordered:
        text = f"- {priority}: {cut(subject, 200)}" + (f" ({count} times)" if count > 1 else "")
        if size + len(text) > _BODY:
            left_out += count
            continue
        size += len(text) + 1
        lines.append(text)
    if left_out:
        lines.append(f"… and {left_out} more.")
    return "\n".join(lines)
