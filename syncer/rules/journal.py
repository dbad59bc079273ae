"""
Which replica may send without the log: only one that knows every record ever made of a notification.

A replica may know them in four ways, and each way of not knowing them has its own answer
(docs/adr/0016-the-status-as-journal.md; the model in tests/model/journal.py has a mutant for each test).
Pure: the caller gathers the facts from the Lease, the object and its own cache.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from syncer.model.attempt import Epoch
from syncer.model.journal import Note
from syncer.model.resource import NotificationRequest

#: Milliseconds by which an object must be younger than an event, such as the writing of the note or the
#: start of the lease term, to be certainly created after it. All these times are whole seconds, and each
#: may come from another API server, whose clock may be a second off.
BORN_MARGIN: Final = 3000


class Basis(StrEnum):
    """Why all records are known without the log, or why not; the values are labels of metrics."""

    MEMORY = "memory"
    #: Created after its owner acquired the shard: no other replica can have recorded a sent attempt.
    OWN = "own"
    MARKED = "marked"
    BORN = "born"
    #: The Lease does not say, or is not known to say, that attempts are journaled.
    NO_NOTE = "no-note"
    #: Records from before the outage cannot be read.
    OLDER = "older"

    @property
    def complete(self) -> bool:
        """Whether an attempt may be journaled."""
        return self not in _HELD


#: Why an attempt is not journaled: reason of a condition, and the rest of a sentence.
_HELD: Final = {
    Basis.NO_NOTE: (
        "OutageNotRecorded", "the Lease of its shard does not announce journaling yet",
    ),
    Basis.OLDER: (
        "RecordsNotRead",
        "it is older than the outage, and its log cannot be read",
    ),
}  # fmt: skip
#: Reason of the condition if nothing is journaled.
WAITS: Final = "DeliveryHeld"
_AWAY: Final = (
    "A delivery is due and is held, because the log cannot be reached or accepts no writes"
)


def held_because(found: Basis | None) -> tuple[str, str]:
    """Return a condition's reason and message: why a due attempt is held while the log is away."""
    if found is None or found not in _HELD:
        return WAITS, _AWAY
    reason, text = _HELD[found]
    return reason, f"{_AWAY}, and it is not journaled: {text}"


#: Bases on which an attempt is not journaled; values of a label.
INCOMPLETE: Final = tuple(_HELD)


def basis(
    request: NotificationRequest,
    note: Note | None,
    *,
    known_in: Epoch | None,
    epoch: Epoch,
    since: int = 0,
) -> Basis:
    """
    Return whether all records of a notification are known without its log, and why.

    Args:
        request: The object as it was read; a write compares its resourceVersion.
        note: The note in the shard's Lease, None while it is not confirmed to be there.
        known_in: The lease term in which the log was claimed, if everything recorded since is in the cache;
            None if the log was not claimed or a record since then was lost.
        epoch: The present lease term.
        since: When that term began, by the API server's clock in Unix milliseconds, 0 if not known.
    """
    if note is None:
        return Basis.NO_NOTE
    if known_in == epoch:
        return Basis.MEMORY
    mark = request.status.journal
    if mark is not None and mark == note.name:
        return Basis.MARKED
    if _younger(request, since):
        return Basis.OWN
    return Basis.BORN if _younger(request, note.since) else Basis.OLDER


def _younger(request: NotificationRequest, since: int) -> bool:
    return bool(request.created and since) and request.created >= since + BORN_MARGIN
