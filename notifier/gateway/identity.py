"""
Names that retries and peers share. No I/O, no clock.

The name of an object is a hash of the event's identity, so the API server's own "already exists" is the
lock: two replicas, a retry after a lost answer and the peers of a highly available Alertmanager all lead to
one object, and the gateway needs no store of its own.

Some sources repeat an event on purpose (Alertmanager's `repeat_interval`), and such a repeat is a new
notification. Its name has a slot number: the time since the event began, divided by the dedup window. A
retry may fall into the next slot. So before an object of a later slot is created, the object of the slot
before is read; if it is younger than the window, the request is a duplicate of it. If nothing proves when a
request was made, there are no slots: an old request that is replayed leads to the object that it created.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import orjson

from notifier.gateway.draft import Draft, Kind

#: Hex digits of the hash in a name: 128 bits. An annotation of the object has the whole hash.
DIGITS: Final = 32
#: Seconds within which equal bytes are one event, if nothing else identifies it.
BYTES_WINDOW: Final = 600


@dataclass(frozen=True, slots=True)
class Identity:
    """
    The names of one event.

    Attributes:
        digest: The whole hash; an object of this name with another hash is not the event's.
        before: Name of the previous occurrence; empty if there is none to read.
        window: Seconds for which the previous occurrence makes this one a duplicate.
    """

    name: str
    digest: str
    before: str = ""
    window: float = 0.0


def identity_of(
    source: str,
    kind: Kind,
    draft: Draft,
    *,
    given: str,
    body: bytes,
    now: float,
    window: float,
    timeless: bool = False,
) -> Identity:
    """
    Return the names of a draft's event.

    Args:
        source: Name of the source: two sources never share an event.
        kind: Kind of the source.
        draft: The draft.
        given: The mapping's `id`; it wins over the draft's identity. Empty if there is none.
        body: Body of the request, for a draft without any other identity.
        now: Unix seconds.
        window: Seconds within which an equal event is a duplicate; 0 means for ever.
        timeless: Nothing proves when the request was made, so the window is for ever.
    """
    # A kind without a default window has one only if the settings ask for it; then it is for every event.
    slotted, since = bool(window) and not kind.window, 0.0
    if given:
        parts: tuple[object, ...] = ("id", given)
    elif draft.identity is not None:
        parts = ("event", *draft.identity)
        slotted, since = slotted or (bool(window) and draft.repeats), draft.since / 1000
    else:
        parts = ("bytes", hashlib.sha256(body).hexdigest())
        slotted, window = True, window or BYTES_WINDOW
    found = hashed(kind.prefix, source, *parts)
    if timeless or not slotted:
        return found
    slot = max(0, int((now - since) // window))
    before = f"{found.name}-{slot - 1}" if slot else ""
    return Identity(f"{found.name}-{slot}", found.digest, before, window)


def hashed(prefix: str, *parts: object) -> Identity:
    """Return names made of a hash of some parts: equal parts give equal names."""
    digest = hashlib.sha256(orjson.dumps(parts)).hexdigest()
    return Identity(f"{prefix}-{digest[:DIGITS]}", digest)
