"""
Names that retries and twins share. No I/O, no clock.

The name of an object is a hash of the event's identity, so that the API server's own "already exists" is
the lock: two replicas, a retry after a lost answer and both twins of a highly available Alertmanager meet
one object, and no store of the gateway's own has to agree on anything.

Some sources repeat an event on purpose (Alertmanager's `repeat_interval`), and such a repeat is a new
notification. Its occurrence is the time since the event began, in slots of the dedup window. A
retry may fall into the next slot; before an object of a later slot is created, the one of the slot
before is read: if it is younger than the window, the request is a duplicate of it. Where nothing proves
when a request was made there are no slots: whoever sends an old one again gets the object that it made.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import orjson

from notifier.gateway.draft import Draft, Kind

#: Hex digits of the hash in a name; 128 bits, and the whole hash stands on the object.
DIGITS: Final = 32
#: Seconds within which equal bytes are one event, where nothing else tells.
BYTES_WINDOW: Final = 600


@dataclass(frozen=True, slots=True)
class Identity:
    """
    The names of one event.

    Attributes:
        digest: The whole hash; an object of this name with another one is somebody else's.
        before: The name of the occurrence before; empty if there is none to look at.
        window: Seconds within which the one before makes this one a duplicate.
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
        kind: Of the source.
        draft: As it was read.
        given: The mapping's `id`; it wins over what the source found. Empty if there is none.
        body: Of the request, for what has no other identity.
        now: Unix seconds.
        window: Seconds within which an equal event is a duplicate; 0 is for ever.
        timeless: Nothing proves when the request was made, so it is for ever in any case.
    """
    # A kind without a window of its own has one only where somebody asked for it.
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
    """Return the names that are a hash of some parts: the same for the same parts."""
    digest = hashlib.sha256(orjson.dumps(parts)).hexdigest()
    return Identity(f"{prefix}-{digest[:DIGITS]}", digest)
