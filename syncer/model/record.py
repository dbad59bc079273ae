"""
Records: the elements of a notification's log, before they are bytes and after.

A record is written once and never changes. Its kind is one of these:

- `plan`: once, first: the channels chosen, frozen, with the rule that chose them;
- `intent`, `unknown`, `failed`, `success`: an attempt, by its id;
- `seed.<state>`: an attempt restored from the status of the object or from an owner's memory, after
  the log had lost it;
- `skip`: decided not to send, with the reason;
- `resolve.<state>`: the manual resolution of an attempt, id `resolve:<attempt id>:<state>`;
- `order`: an operator's request for one more attempt;
- `repair`: who mended what; it changes nothing that is known.

Bodies hold string and integer values only, so that the Redis server's own Lua can print them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from syncer.model.attempt import (
    LONGEST_CALL,
    NO_EPOCH,
    Attempt,
    AttemptId,
    AttemptState,
    Epoch,
    FailureClass,
    failure_of,
    parse_attempt_id,
    shared_text,
    wait_of,
)

#: Version written into every body as its first member.
BODY_VERSION: Final = 1
#: Versions that are read. To raise the format, first release a version that reads the new one: a log
#: with a record of a version that is not here is left alone, and its notification waits.
READABLE_VERSIONS: Final = frozenset({1})
#: Every number of a record is smaller, and greater than its negative.
MAX_INT: Final = 10**14
#: Members of a body that are never texts.
NUMBERS: Final = frozenset({"at", "from", "due", "ms", "code", "no"})
#: Bytes of an error text in the log; the status shows less.
LOG_ERROR_BYTES: Final = 1024
#: Skips recorded per log; beyond that they are only counted.
MAX_SKIPS: Final = 32

#: How the error of an attempt begins that an operator has resolved as failed.
BY_OPERATOR: Final = "not delivered, according to an operator: "
PLAN_ID: Final = "plan"
#: Channel of records that concern all channels.
NO_CHANNEL: Final = "-"

Body = dict[str, "str | int"]


class Kind(StrEnum):
    """First word of an element."""

    PLAN = "plan"
    INTENT = "intent"
    UNKNOWN = "unknown"
    FAILED = "failed"
    SUCCESS = "success"
    SKIP = "skip"
    SEED_INTENT = "seed.intent"
    SEED_UNKNOWN = "seed.unknown"
    SEED_FAILED = "seed.failed"
    SEED_SUCCESS = "seed.success"
    RESOLVE_FAILED = "resolve.failed"
    RESOLVE_SUCCESS = "resolve.success"
    ORDER = "order"
    REPAIR = "repair"

    @property
    def state(self) -> AttemptState | None:
        """State that the record asserts of an attempt; None for notes."""
        return _STATES.get(self)

    @property
    def resolution(self) -> bool:
        """Whether an operator has stated it, not a sender."""
        return self in (Kind.RESOLVE_FAILED, Kind.RESOLVE_SUCCESS)


_STATES: Final = {
    Kind.INTENT: AttemptState.INTENT,
    Kind.UNKNOWN: AttemptState.UNKNOWN,
    Kind.FAILED: AttemptState.FAILED,
    Kind.SUCCESS: AttemptState.SUCCESS,
    Kind.SEED_INTENT: AttemptState.INTENT,
    Kind.SEED_UNKNOWN: AttemptState.UNKNOWN,
    Kind.SEED_FAILED: AttemptState.FAILED,
    Kind.SEED_SUCCESS: AttemptState.SUCCESS,
    Kind.RESOLVE_FAILED: AttemptState.FAILED,
    Kind.RESOLVE_SUCCESS: AttemptState.SUCCESS,
}


@dataclass(frozen=True, slots=True)
class Header:
    """Element 0: the object, the epoch that may open attempts, and how far the log is published."""

    object: str
    epoch: Epoch = NO_EPOCH
    acked: int = 0
    audited: int = 0

    def encode(self) -> bytes:
        """The header as stored."""
        return (
            f"nl1 object={self.object} epoch={self.epoch} acked={self.acked} audited={self.audited}"
        ).encode()


@dataclass(frozen=True, slots=True)
class Record:
    """
    One record.

    Attributes:
        kind: What it states.
        id: Attempt id, or the note's own id.
        channel: Channel name as configured, `-` for all of them.
        body: Members of the msgpack map, `v` excluded.
        position: Index in the list, 0 while not stored.
        chain: Eight hex digits that stand for the history up to here, empty while not stored.
    """

    kind: Kind
    id: str
    channel: str
    body: Body = field(default_factory=dict)
    position: int = 0
    chain: str = ""

    def stored_at(self, position: int, chain: str) -> Record:
        """The same record as an element of a log."""
        return Record(self.kind, self.id, self.channel, self.body, position, chain)

    @property
    def attempt_id(self) -> AttemptId:
        """The attempt that the record speaks of; ValueError for a note, or a malformed id."""
        identity = self.id
        if identity.startswith("resolve:"):
            identity = identity.removeprefix("resolve:").rpartition(":")[0]
        return parse_attempt_id(identity)


@dataclass(frozen=True, slots=True)
class Fallback:
    """
    A channel of a plan that stands by for others.

    Attributes:
        channel: Its name.
        of: Those that it is used for, once one of them has ended without success.
        after: Milliseconds after the plan from which it is used although attempts there go on.
    """

    channel: str
    of: tuple[str, ...]
    after: int = 600_000


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The frozen decision where a notification goes.

    Attributes:
        channels: Channel names in order, without duplicates; those that stand by come last.
        reason: `RoutingRuleMatched` or `RoutingFallback`.
        message: Text of the RoutingResolved condition.
        at: When it was decided.
        body_hash: Hash of the content at that time; empty in a plan restored from a status.
        templates: Digests of the receivers' templates at that time, a line `DIGEST CHANNEL` each.
        fallbacks: Which channels stand by, and for which.
    """

    channels: tuple[str, ...]
    reason: str = ""
    message: str = ""
    at: int = 0
    body_hash: str = ""
    templates: str = ""
    fallbacks: tuple[Fallback, ...] = ()

    @property
    def first(self) -> tuple[str, ...]:
        """Channels that stand by for no other."""
        standing_by = {each.channel for each in self.fallbacks}
        return tuple(c for c in self.channels if c not in standing_by)

    def digest(self, channel: str) -> str:
        """Return the digest of a channel's templates at that time, empty if there were none."""
        lines = (line.partition(" ") for line in self.templates.split("\n"))
        return next((digest for digest, _, name in lines if name == channel), "")


def intent_record(
    attempt_id: AttemptId, channel: str, *, at: int, by: str, order: str = ""
) -> Record:
    """Open an attempt; `by` names the process, `order` the operator's order that it follows."""
    return Record(
        Kind.INTENT, attempt_id, channel, {"at": at, "by": by, **_given({"order": order})}
    )


def _given(members: Body) -> Body:
    """Leave out what is empty."""
    return {name: value for name, value in members.items() if value}


def attempt_record(attempt: Attempt, *, seed: bool = False) -> Record:
    """State an attempt as far as it is known, as its own outcome or as a restored seed."""
    word = attempt.state.word
    body = _given(
        {
            "at": attempt.ended,
            "from": attempt.started if seed else 0,
            "no": attempt.number if seed else 0,
            "due": attempt.due,
            "ms": attempt.duration,
            "class": attempt.failure.value if attempt.failure else "",
            "code": attempt.code,
            "error": attempt.error,
            "words": attempt.words,
            "answer": attempt.answer,
        }
    )
    return Record(Kind(f"seed.{word}" if seed else word), attempt.id, attempt.channel, body)


def plan_record(plan: Plan) -> Record:
    """Freeze a plan."""
    # No name of a channel holds a control character.
    fallbacks = ("\t".join((str(f.after), f.channel, *f.of)) for f in plan.fallbacks)
    body = {
        "at": plan.at,
        "channels": "\n".join(plan.channels),
        **_given(
            {
                "reason": plan.reason,
                "why": plan.message,
                "hash": plan.body_hash,
                "templates": plan.templates,
                "fallbacks": "\n".join(fallbacks),
            }
        ),
    }
    return Record(Kind.PLAN, PLAN_ID, NO_CHANNEL, body)


def skip_record(note_id: str, channel: str, *, at: int, why: str) -> Record:
    """
    Make the record of a due attempt that is not made.

    Args:
        note_id: Id of the record.
        channel: Name of the channel.
        at: Unix milliseconds.
        why: The reason.
    """
    return Record(Kind.SKIP, note_id, channel, {"at": at, "why": why})


def resend_record(note_id: str, channel: str, *, at: int, by: str, why: str) -> Record:
    """Request one more attempt on a channel that has ended; `by` names the operator."""
    return Record(Kind.ORDER, note_id, channel, {"at": at, "by": by, "why": why})


def resolution_record(attempt: Attempt, *, delivered: bool, at: int, by: str, why: str) -> Record:
    """
    Make the manual resolution of an attempt whose result is unknown.

    Its id contains the result, so that only the same resolution is a repetition of it.

    What was not delivered keeps the rest of the wait that it had, counted from the resolution: a due time
    is trusted only as far as it lies behind the time of its own record (`wait_of`). Its class is
    transient, since the operator knows that it did not arrive and nothing else.
    """
    kind = Kind.RESOLVE_SUCCESS if delivered else Kind.RESOLVE_FAILED
    wait = wait_of(attempt, at)
    failure: Body = {
        "class": FailureClass.TRANSIENT.value,
        "error": f"{BY_OPERATOR}{why}",
        "due": at + wait if wait else 0,
    }
    body = {"at": at, "by": by, "why": why, **_given({} if delivered else failure)}
    word = AttemptState.SUCCESS.word if delivered else AttemptState.FAILED.word
    return Record(kind, f"resolve:{attempt.id}:{word}", attempt.channel, body)


def repair_record(
    note_id: str, *, at: int, by: str, what: str, did: str, phase: str = ""
) -> Record:
    """Record who repaired which divergence of log and object, and how; `phase` is a final one accepted."""
    body = {"at": at, "by": by, "what": what, "did": did, **_given({"phase": phase})}
    return Record(Kind.REPAIR, note_id, NO_CHANNEL, body)


def read_plan(record: Record) -> Plan:
    """Read a plan back."""
    text = str(record.body.get("channels", ""))
    return Plan(
        channels=tuple(map(sys.intern, text.split("\n"))) if text else (),
        # As in the status: notifications of one route share them.
        reason=shared_text(str(record.body.get("reason", ""))),
        message=shared_text(str(record.body.get("why", ""))),
        at=int(record.body.get("at", 0)),
        body_hash=str(record.body.get("hash", "")),
        templates=shared_text(str(record.body.get("templates", ""))),
        fallbacks=_read_fallbacks(str(record.body.get("fallbacks", ""))),
    )


def _read_fallbacks(text: str) -> tuple[Fallback, ...]:
    """Read which channels stand by; ValueError for what is malformed."""
    found = []
    for line in text.split("\n") if text else ():
        after, channel, *of = map(sys.intern, line.split("\t"))
        found.append(Fallback(channel, tuple(of), int(after)))
    return tuple(found)


def read_attempt(record: Record) -> Attempt:
    """Read the attempt of a record; ValueError for a note, or a malformed id or class."""
    state = record.kind.state
    if state is None:
        raise ValueError(f"a {record.kind} record speaks of no attempt")
    body = record.body
    at = int(body.get("at", 0))
    opened = state is AttemptState.INTENT
    return Attempt(
        id=record.attempt_id,
        channel=record.channel,
        state=state,
        started=int(body.get("from", 0)) or (at if opened else 0),
        ended=0 if opened else at,
        due=int(body.get("due", 0)),
        duration=max(-LONGEST_CALL, min(int(body.get("ms", 0)), LONGEST_CALL)),
        failure=failure_of(state, str(body.get("class", ""))),
        error=shared_text(str(body.get("error", ""))),
        code=int(body.get("code", 0)),
        number=int(body.get("no", 0)),
        words=shared_text(str(body.get("words", ""))),
        answer=str(body.get("answer", "")),
    )
