"""The limits of one status write, and its possible results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from syncer.model.resource import SENT, Status
from syncer.rules.compact import SOFT_LIMIT
from syncer.sync.cache import Entry


class Flushed(StrEnum):
    """The result of one flush of an entry."""

    WRITTEN = "written"
    EQUAL = "equal"
    CONFLICT = "conflict"
    UNCLEAR = "unclear"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    GONE = "gone"
    NOT_OURS = "not ours"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the writer: writes at once, bytes of JSON, and whether an unknown result ends a channel."""

    writers: int = 8
    status_bytes: int = SOFT_LIMIT
    at_most_once: bool = False


def ends_badly(entry: Entry, wanted: Status) -> bool:
    """Whether a write would end a notification in another way than with Sent."""
    return wanted.terminal and wanted.phase != SENT and not entry.request.status.terminal
