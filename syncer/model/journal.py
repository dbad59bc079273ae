"""
What is written while attempts are journaled in the status: the note in a Lease, the mark on an object.

The *note* is an annotation of a shard's Lease. It says that no owner of the shard has opened an attempt
in the log since it was written. Its name is never used again. It names the acquisition under which it
was kept (`leaseTransitions`): a version that does not know notes leaves it unchanged and may have used
the log, so a note that the latest acquisition did not keep does not count.

The *mark* is a member of the status: the name of the note under which the object's attempts were
journaled (docs/adr/0016-the-status-as-journal.md). A second annotation says that there may be marks: it
is written with the note, and removed once the logs hold everything that was journaled. Until then the
finished objects of the shard are listed in full; otherwise they are listed by name, version and phase.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Annotation of a shard's Lease.
NOTE: Final = "notification-ledger/journal"

#: Annotation of a shard's Lease whose objects may carry marks.
MARKS_LEFT: Final = "notification-ledger/journaled"

_NOTE: Final = re.compile(
    r"((?:0|[1-9][0-9]{0,9})\.(?:0|[1-9][0-9]{0,38})-[1-9][0-9]{0,14})"
    r" since=([0-9]{1,15}) kept=([0-9]{1,10})"
)


@dataclass(frozen=True, slots=True)
class Note:
    """
    The note of one outage, named `<epoch>-<n>` by the term that wrote it.

    `since` is when, by the API server's clock, in Unix milliseconds; `kept` is `leaseTransitions` of the
    acquisition that kept it.
    """

    name: str
    since: int
    kept: int

    def text(self) -> str:
        """The value of the annotation."""
        return f"{self.name} since={self.since} kept={self.kept}"


def parse_note(text: str) -> Note | None:
    """Read the annotation; None if it cannot be relied on."""
    found = _NOTE.fullmatch(text)
    if found is None:
        return None
    name, since, kept = found.groups()
    return Note(name, int(since), int(kept))


def note_after(text: str, *, transitions: int, incarnation: int, taken: int) -> Note | None:
    """
    What becomes of a note when its shard is acquired.

    Args:
        text: The annotation as it is found.
        transitions: Of the Lease as it is found.
        incarnation: Of this installation; a note of another one is of another history.
        taken: `leaseTransitions` that the acquisition writes.

    Returns:
        The note to keep, None if there is none or it does not count.
    """
    note = parse_note(text)
    if note is None or note.kept != transitions or not note.name.startswith(f"{incarnation}."):
        return None
    return Note(note.name, note.since, taken)
