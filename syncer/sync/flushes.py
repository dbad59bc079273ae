"""The limits of one status write, and its possible results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from syncer.model.resource import SENT, Status
from syncer.rules.compact import SOFT_LIMIT
from syncer.sync.notification import Notification

#: Conflicts that are resolved at once; after these the entry backs off.
MAX_CONFLICTS: Final = 5
#: Why an answer of 200 does not count as written.
LOST: Final = (
    "the API server stores a status without all of its attempts and conditions; exclude"
    " notificationrequests/status from mutating admission webhooks and policies"
)


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


def ends_badly(entry: Notification, wanted: Status) -> bool:
    """Whether a write would end a notification in another way than with Sent."""
    return wanted.terminal and wanted.phase != SENT and not entry.status.terminal


def is_kept(stored: Status, wanted: Status) -> bool:
    """Whether an answer shows what was written: the list, and the condition that names its entries."""
    return len(stored.attempts) == len(wanted.attempts) and stored.log == wanted.log
