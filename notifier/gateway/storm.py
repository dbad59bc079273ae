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
from syncer.model.resource import Json

#: Members of a digest; more of them begin another one.
MEMBERS: Final = 500
_PREFIX: Final = "dg"
_BODY: Final = 30_000


class Bucket:
    """How many notifications may be created now."""

    def __init__(self, per_minute: int, burst: int, now: float) -> None:
        """Begin with `burst` of them; `per_minute` come back in a minute, `now` is monotonic seconds."""
        self._rate = per_minute / 60
        self._burst = float(burst)
        self._tokens = self._burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one; False if there is none."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """Return one that was not needed: there was nothing to create."""
        self._tokens = min(self._burst, self._tokens + 1)


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
    """Return the attributes that all of them have."""
    first, *others = (spec["extensions"] for spec in specs)
    return {
        key: value
        for key, value in first.items()
        if all(extensions.get(key) == value for extensions in others)
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
