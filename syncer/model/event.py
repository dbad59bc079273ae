"""The event that the gateway made a notification of, in its sender's words: how an object bears it."""

from __future__ import annotations

import hashlib
from typing import Final

#: On an object that the gateway made: the event in its sender's words as annotation, and as label of the
#: same name a hash of them, by which the API server finds it.
EVENT: Final = "notification-ledger/event"
#: Characters of an event.
_EVENT_MOST: Final = 1024


def event_text(text: str) -> str:
    """Return an event as an object bears it, cut to its bound."""
    return text if len(text) <= _EVENT_MOST else f"{text[: _EVENT_MOST - 1]}…"


def event_label(text: str) -> str:
    """Return the value of the label by which an event is found."""
    return hashlib.sha256(event_text(text).encode("utf-8", "surrogatepass")).hexdigest()[:40]
