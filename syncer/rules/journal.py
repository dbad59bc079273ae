"""
Which replica may send without the log: only one that knows all that was ever recorded of a notification.

A replica may know it in four ways, and each way not to has its own answer
(docs/adr/0016-the-status-as-journal.md; the model in tests/model/journal.py has a mutant for each test).
Pure: the caller gathers what the Lease, the object and its own memory say.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from syncer.model.attempt import Epoch
from syncer.model.journal import Note
from syncer.model.resource import NotificationRequest

#: Milliseconds by which an object has to be younger than what it must know nothing of, such as the note
#: or the term. Creation times are whole seconds, so are the others, and each may be of another API server,
#: whose clock may be a second off.
BORN_MARGIN: Final = 3000


class Basis(StrEnum):
    """Why all is known without the log, or why not; the words are labels of metrics."""

    MEMORY = "memory"
    #: Created after its owner took the shard: nobody else can have recorded anything that was sent.
    OWN = "own"
    MARKED = "marked"
    BORN = "born"
    #: The Lease does not say, or is not known to say, that attempts are journaled.
    NO_NOTE = "no-note"
    #: What was recorded before the outage cannot be read.
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
#: Reason of the condition where nothing is journaled.
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


#: Reasons of a basis that holds an attempt; values of a label.
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
    Tell whether all that was recorded of a notification is known without its log.

    Args:
        request: The object as it was read; a write compares its resourceVersion.
        note: The note in the shard's Lease, None while it is not confirmed to be there.
        known_in: The lease term in which the log was claimed and everything since is in memory, None if
            it was not, or if something since was lost.
        epoch: The present lease term.
        since: When it began, by the API server's clock in Unix milliseconds, 0 if that is not known.
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
