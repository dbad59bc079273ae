"""
Attempts, their states, and the ids that make them unique.

An attempt is one try to deliver one notification to one channel. Its id is chosen before anything
is sent and is never derived from counts, text or time: `<epoch>-<n>`, where the epoch is
`<incarnation>.<resourceVersion of the Lease write>` and n a counter of the owner of that epoch.

States form a lattice, intent < unknown < failed < success; what is known about an attempt only ever
goes up, so two holders of partial knowledge agree by taking the maximum. `failed` may be said only
by the sender that knows that the receiver refused, or that no byte was written.

Times are Unix milliseconds of the Redis server's clock, durations milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Any, Final, NewType

Epoch = NewType("Epoch", str)
AttemptId = NewType("AttemptId", str)

#: One for all who have none: an empty set takes 216 bytes.
NO_IDS: Final[frozenset[AttemptId]] = frozenset()
#: Epoch of a log that was never claimed: no owner ever has it.
NO_EPOCH: Final = Epoch("0.0")

#: Characters of the longest text that is shared, which an error in a log may have.
_SHARED: Final = 1024

_EPOCH = re.compile(r"(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,38})")
_ATTEMPT_ID = re.compile(r"(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,38})-([1-9][0-9]{0,14})")
_ADOPTED_ID = re.compile(r"0-(0|[1-9][0-9]{0,14})")


class AttemptState(IntEnum):
    """What is known about an attempt; the value is its rank in the join."""

    INTENT = 0
    UNKNOWN = 1
    FAILED = 2
    SUCCESS = 3

    @property
    def word(self) -> str:
        """The state as logs, status and metrics spell it."""
        return self.name.lower()


def shared_text(text: str) -> str:
    """
    One object for equal recent texts, because most notifications share a few errors, reasons and routes.

    Not `sys.intern`, whose texts Python 3.12 keeps for ever: receivers and authors choose these. A long one
    is not kept: conditions of other controllers may have 32 KiB.
    """
    return _recent(text) if len(text) <= _SHARED else text


_recent: Final = lru_cache(maxsize=1024)(str)


def without(ids: frozenset[AttemptId], attempt_id: AttemptId) -> frozenset[AttemptId]:
    """The ids but one."""
    return (ids - {attempt_id}) or NO_IDS


def drop(known: dict[AttemptId, Any], attempt_id: AttemptId) -> None:
    """Remove an attempt, if it is there."""
    known.pop(attempt_id, None)
    if not known:
        # An emptied dictionary keeps its table, 120 bytes of every notification that waits.
        known.clear()


class FailureClass(StrEnum):
    """Why an attempt did not succeed; stored as a field, never read back from a text."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    #: Accepted by the log, then not sent: no byte left the process.
    NOT_SENT = "notSent"
    #: Refused for what an operator has configured; it waits until that is mended.
    OPERATOR = "operator"
    #: The result cannot be known: bytes left, no answer came.
    UNCERTAIN = "uncertain"
    #: Not sent, since a newer notification of its incident goes instead; its text names that.
    SUPERSEDED = "superseded"


#: Milliseconds; a longer call was none, in either direction.
LONGEST_CALL: Final = 10**12


def failure_of(state: AttemptState, word: str) -> FailureClass | None:
    """
    Return the class of a failure in a log; ValueError for a word that is none.

    As a status shows it: what was successful or is under way has none, and every other attempt has one. A
    record by another hand may say otherwise, and its status would be written again and again.
    """
    found = FailureClass(word) if word else None
    if state in (AttemptState.INTENT, AttemptState.SUCCESS):
        return None
    if found:
        return found
    return FailureClass.UNCERTAIN if state is AttemptState.UNKNOWN else FailureClass.TRANSIENT


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    One attempt as the fold of its records sees it.

    Attributes:
        id: Identity in every merge.
        channel: Channel name, for example `slack:ops`.
        state: Highest state recorded.
        started: When the intent was recorded; 0 if only restored facts are known.
        ended: When the outcome became known; 0 while open.
        due: Earliest time of the next attempt on this channel; 0 if none was set.
        duration: Length of the call.
        failure: Class of a failure, None for intent and success.
        error: Bounded, sanitised text; empty for intent and success.
        code: Status code of the answer, 0 if there was none.
        number: The number shown to users, 0 until it was published.
        answer: The id that the receiver gave to what it made; empty without one.
        words: By which templates the message was worded, or why it was not; empty without any.
    """

    id: AttemptId
    channel: str
    state: AttemptState
    started: int = 0
    ended: int = 0
    due: int = 0
    duration: int = 0
    failure: FailureClass | None = None
    error: str = ""
    code: int = 0
    number: int = 0
    words: str = ""
    answer: str = ""

    @property
    def open(self) -> bool:
        """Whether the attempt may still be on the wire."""
        return self.state is AttemptState.INTENT

    def with_origin(self, *, started: int, number: int) -> Attempt:
        """
        The same attempt with another start and number.

        Not by `replace`, which takes three times as long: every outcome comes by here when it is folded,
        and again when it is published.
        """
        return Attempt(
            self.id, self.channel, self.state, started, self.ended, self.due, self.duration,
            self.failure, self.error, self.code, number, self.words,
            self.answer,
        )  # fmt: skip


def join(left: Attempt, right: Attempt) -> Attempt:
    """
    Combine two views of one attempt.

    The higher state wins with all of its facts; equal states are ordered by their facts in a
    fixed order, a failure for good before one that may be tried again: a later word, such as an
    operator's, does not reopen what a receiver has refused for good. Start and number are not facts of
    a state and are joined by themselves: the earlier start, the higher number. So the result depends
    neither on the order of the views nor on their grouping.

    Raises:
        ValueError: the two views are of different attempts.
    """
    if left.id != right.id:
        raise ValueError(f"cannot join attempts {left.id} and {right.id}")
    if left.state is right.state:
        winner = left if _weight(left) >= _weight(right) else right
    else:
        # Mostly an intent and its outcome.
        winner = left if left.state > right.state else right
    started = min(left.started, right.started) or max(left.started, right.started)
    number = max(left.number, right.number)
    if winner.started == started and winner.number == number:
        return winner
    return winner.with_origin(started=started, number=number)


def _weight(a: Attempt) -> tuple[bool, int, int, int, str, str, int, int, str, str, str]:
    # The error sorts by length first: a status may hold a shortened copy of the log's text.
    return (
        a.failure is FailureClass.PERMANENT, a.ended, a.due, len(a.error), a.error,
        a.failure or "", a.duration, a.code, a.channel, a.words, a.answer,
    )  # fmt: skip


def wait_of(attempt: Attempt, now: int) -> int:
    """
    Milliseconds to wait before the next attempt of a channel, by a clock that may have jumped.

    The stored due time is trusted only within the wait that was meant: a server whose clock jumped
    can neither skip it nor stretch it.
    """
    return min(max(attempt.due - now, 0), max(attempt.due - attempt.ended, 0))


def make_epoch(incarnation: int, resource_version: str) -> Epoch:
    """
    Make the epoch of a lease term from the resourceVersion of the Lease write that began it.

    Raises:
        ValueError: one of the parts is not a decimal number without leading zeros.
    """
    return parse_epoch(f"{incarnation}.{resource_version}")


def parse_epoch(text: str) -> Epoch:
    """Check the form of a stored epoch; ValueError if it is not `<incarnation>.<resourceVersion>`."""
    if not _EPOCH.fullmatch(text):
        raise ValueError(f"not an epoch: {text!r}")
    return Epoch(text)


@lru_cache(maxsize=256)
def epoch_key(epoch: Epoch) -> tuple[tuple[int, str], ...]:
    """
    Sort key of an epoch: part by part, by length first, then lexically (as in the scripts).

    All attempts of a lease term have the same, and each asks for it several times.
    """
    return tuple((len(part), part) for part in epoch.split("."))


def make_attempt_id(epoch: Epoch, n: int) -> AttemptId:
    """Make the id of the n-th attempt opened in a lease term (n counts from 1)."""
    return AttemptId(f"{epoch}-{n}")


@lru_cache(maxsize=1024)
def parse_attempt_id(text: str) -> AttemptId:
    """
    Check the form of a stored attempt id; one is asked for eight times on its way through an attempt.

    Besides ids of our own, `0-<index>` is accepted: ids given to attempts that another controller
    had written before its object was taken over.

    Raises:
        ValueError: it has neither form.
    """
    if not (_ATTEMPT_ID.fullmatch(text) or _ADOPTED_ID.fullmatch(text)):
        raise ValueError(f"not an attempt id: {text!r}")
    return AttemptId(text)


def attempt_epoch(attempt_id: AttemptId) -> Epoch:
    """Epoch in which an attempt was opened; `0.0` for adopted ones."""
    epoch, _, _ = attempt_id.rpartition("-")
    return Epoch(epoch) if "." in epoch else NO_EPOCH


def attempt_key(attempt_id: AttemptId) -> tuple[tuple[tuple[int, str], ...], int]:
    """Sort key of an attempt id: by epoch, then by counter."""
    _, _, n = attempt_id.rpartition("-")
    return epoch_key(attempt_epoch(attempt_id)), int(n)


def newest(attempts: Sequence[Attempt]) -> Attempt | None:
    """
    Return the attempt that was opened last, None if there is none.

    Ids tell, and neither places nor times do: a log may be given an earlier result later, and clocks jump.
    """
    if len(attempts) < 2:
        return attempts[0] if attempts else None
    return max(attempts, key=lambda a: attempt_key(a.id))


def receiver_of(channel: str) -> str:
    """Return the receiver that a channel belongs to: `ops` of `slack:ops`."""
    kind, colon, rest = channel.partition(":")
    return rest.partition(":")[0] if colon else kind
