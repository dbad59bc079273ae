"""
One log against one object: every way in which they can disagree, by name; pure.

A `Pair` is read, `judge` names what is wrong with it. Each class has its remedy: facts that anybody may
append, a poke to the owner (who alone claims and writes statuses), a new log in the place of one that
nobody can read, or a person's decision. What the controller's self-audit can see as well has its name and
its rule there (`syncer.rules.divergence`, which says why there are two judgements).

What is only on its way is no divergence: a record younger than `settle` may not be published yet. Whoever
reads log and object one after the other reads them again before believing what he saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from syncer.ledger.codec import Header, decode_header, decode_record
from syncer.model.attempt import (
    NO_EPOCH,
    AttemptState,
    Epoch,
    attempt_epoch,
    epoch_key,
)
from syncer.model.errors import ContractError
from syncer.model.record import Record
from syncer.model.resource import PARTIALLY_SENT, SENT, NotificationRequest, Status
from syncer.rules.channel_state import State
from syncer.rules.compact import SOFT_LIMIT, compact
from syncer.rules.divergence import Divergence, acked_unshown, doubly_open
from syncer.rules.fold import ROOT_CHAIN, LogView
from syncer.rules.merge import Facts, exceeds, lacking, merge, ordered_channels
from syncer.rules.patch import difference
from syncer.rules.restore import highest_epoch
from syncer.rules.retention import retention_seconds


class Remedy(StrEnum):
    """Who can mend a class of divergence, and how."""

    FACTS = "facts"
    OWNER = "owner"
    REBUILD = "rebuild"
    PERSON = "person"


class Class(StrEnum):
    """A class of divergence; the values are words of the command's output."""

    FOREIGN = "foreign"
    UNREADABLE = Divergence.UNREADABLE.value
    MISNAMED = "misnamed"
    MARK_BEYOND = "mark-beyond"
    LOG_MISSING = "log-missing"
    LOG_BEHIND = Divergence.LOG_BEHIND.value
    PLAN_MISSING = "plan-missing"
    EXPIRING = "expiring"
    STATUS_BEHIND = Divergence.STATUS_BEHIND.value
    ACKED = Divergence.ACKED.value
    STATUS_DIFFERS = "status-differs"
    OPEN_ATTEMPT = "open-attempt"
    UNACKED = "unacked"
    NO_EXPIRY = "no-expiry"
    ORPHAN = "orphan"
    EPOCH_AHEAD = "epoch-ahead"
    TWO_OPEN = Divergence.TWO_OPEN.value
    CONFLICT = "conflict"
    PHASE = "phase"
    NUMBERS = "numbers"
    OBJECT = "object"

    @property
    def remedy(self) -> Remedy:
        """Who can mend it."""
        return _REMEDY.get(self, Remedy.PERSON)

    @property
    def advice(self) -> str:
        """What a person does about it."""
        return ADVICE[self]


_REMEDY: Final = {
    Class.UNREADABLE: Remedy.REBUILD,
    Class.MISNAMED: Remedy.REBUILD,
    Class.MARK_BEYOND: Remedy.REBUILD,
    Class.LOG_MISSING: Remedy.FACTS,
    Class.LOG_BEHIND: Remedy.FACTS,
    Class.PLAN_MISSING: Remedy.FACTS,
    Class.EXPIRING: Remedy.FACTS,
    Class.STATUS_BEHIND: Remedy.OWNER,
    Class.ACKED: Remedy.OWNER,
    Class.STATUS_DIFFERS: Remedy.OWNER,
    Class.OPEN_ATTEMPT: Remedy.OWNER,
    Class.UNACKED: Remedy.OWNER,
    Class.NO_EXPIRY: Remedy.OWNER,
    Class.ORPHAN: Remedy.OWNER,
}

ADVICE: Final[Mapping[Class, str]] = {
    Class.FOREIGN: "another program uses the prefix: remove its key, or set another"
    " redis.keyPrefix",
    Class.UNREADABLE: "nothing is sent for it; `syncer repair --rebuild` keeps the log aside and"
    " restores what can be told",
    Class.MISNAMED: "`syncer repair --rebuild` writes the log anew under its right name",
    Class.MARK_BEYOND: "the log lost its end; `syncer repair --rebuild` takes the marks back",
    Class.LOG_MISSING: "`syncer repair` restores the log from the status",
    Class.LOG_BEHIND: "`syncer repair` restores the attempts from the status",
    Class.PLAN_MISSING: "`syncer repair` restores the plan from the status",
    Class.EXPIRING: "`syncer repair` takes the expiry off",
    Class.STATUS_BEHIND: "`syncer repair` has the owner publish it",
    Class.ACKED: "`syncer repair` has the owner publish it",
    Class.STATUS_DIFFERS: "`syncer repair` has the owner write the status anew",
    Class.OPEN_ATTEMPT: "`syncer repair` has the owner settle it; `syncer resolve` says what became"
    " of it",
    Class.UNACKED: "`syncer repair` has the owner mark it",
    Class.NO_EXPIRY: "`syncer repair` has the owner give the log its expiry",
    Class.ORPHAN: "`syncer repair` has the owner let the log go",
    Class.EPOCH_AHEAD: "if logs are: after a restore of etcd or a move to another cluster, raise"
    " sharding.incarnation by one; if only the status is: somebody else has written it",
    Class.TWO_OPEN: "two attempts were begun at once, which the rules exclude: keep the log"
    " (`syncer export`) and report it",
    Class.CONFLICT: "one attempt has two definite results, which the rules exclude: keep the log"
    " (`syncer export`) and report it",
    Class.PHASE: "the status was written by somebody else; where an attempt did arrive,"
    " `syncer resolve` puts it on record",
    Class.NUMBERS: "the status was written by somebody else; nothing depends on the numbers",
    Class.OBJECT: "the object does not parse; mend or delete it",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One divergence, in words that hold no content of the notification."""

    kind: Class
    text: str


@dataclass(frozen=True, slots=True)
class Pair:
    """
    What was read of one notification.

    Attributes:
        uid: Of the notification.
        key: `namespace/name` as its object or its log's header tells it, empty if neither does.
        request: The object, None if there is none of this uid.
        elements: Its log as stored, empty if there is none.
        ttl: Seconds until it expires; -1 never, -2 no log.
        problem: Why the object cannot be judged although it exists, empty if it can.
        wrong_type: The key of the log holds something that is no list.
    """

    uid: str
    key: str
    request: NotificationRequest | None
    elements: tuple[bytes, ...] = ()
    ttl: int = -2
    problem: str = ""
    wrong_type: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    What judging needs to know besides the pair.

    Attributes:
        now: Redis time in milliseconds.
        settle: Milliseconds that a record may take to be published.
        stuck: Milliseconds after which an open attempt is nobody's.
        at_most_once: As the controller is configured.
        latest: The latest epoch that the cluster can have given out, None if that is not known.
        status_bytes: Largest status, as the controller is configured.
    """

    now: int
    settle: int = 10_000
    stuck: int = 120_000
    at_most_once: bool = False
    latest: Epoch | None = None
    status_bytes: int = SOFT_LIMIT


@dataclass(frozen=True, slots=True)
class Read:
    """
    A log, read as far as it goes.

    Attributes:
        header: None if it cannot be read.
        records: The readable beginning.
        view: Its fold.
        problem: Where and why reading ended, empty if it did not.
    """

    header: Header | None
    records: tuple[Record, ...]
    view: LogView
    problem: str = ""


def read_log(elements: Sequence[bytes]) -> Read:
    """Read a log, the empty one included; never raises."""
    view = LogView()
    if not elements:
        return Read(None, (), view)
    try:
        header = decode_header(elements[0])
    except ContractError as error:
        return Read(None, (), view, str(error))
    records: list[Record] = []
    chain = ROOT_CHAIN
    try:
        for position, element in enumerate(elements[1:], 1):
            record = decode_record(element, chain, position, folded=True)
            try:
                view.apply(record)
            except ValueError as error:
                raise ContractError(f"record {position}: {error}") from error
            records.append(record)
            chain = record.chain
    except ContractError as error:
        return Read(header, tuple(records), view, str(error))
    return Read(header, tuple(records), view)


def judge(pair: Pair, bounds: Bounds) -> tuple[Finding, ...]:
    """Name every divergence of a pair, the worst first; empty if all is well."""
    if pair.wrong_type:
        return (Finding(Class.FOREIGN, "the key of the log holds no list"),)
    log = read_log(pair.elements)
    if pair.elements and log.header is None:
        return (Finding(Class.FOREIGN, log.problem),)
    if pair.problem:
        return (Finding(Class.OBJECT, pair.problem),)
    request = pair.request
    if request is None or request.deleting:
        if log.header is None or pair.ttl >= 0 or request is not None:
            return ()
        return (Finding(Class.ORPHAN, "the object is gone and the log has no expiry"),)
    if log.header is None:
        return _without_log(request, bounds)
    return _with_log(pair, request, log, log.header, bounds)


def ours(status: Status) -> bool:
    """Whether this controller has ever written a status."""
    return status.log is not None or any(attempt_epoch(a.id) != NO_EPOCH for a in status.attempts)


def _without_log(request: NotificationRequest, bounds: Bounds) -> tuple[Finding, ...]:
    status = request.status
    if not status.attempts or not ours(status):
        # New, adopted, or ended without an attempt: there is nothing that a log could have lost.
        return ()
    if status.terminal:
        kept_until = status.completed_at + 1000 * retention_seconds(request.retention_days)
        if bounds.now >= kept_until:
            return ()
    return (
        Finding(
            Class.LOG_MISSING, f"the status shows {len(status.attempts)} attempt(s), no log does"
        ),
    )


def _ahead(header: Header, status: Status, bounds: Bounds) -> str:
    """Who names an epoch of the future, empty if nobody does."""
    if bounds.latest is None:
        return ""
    latest, named = epoch_key(bounds.latest), highest_epoch(status)
    if epoch_key(header.epoch) > latest:
        return f"epoch {header.epoch} is later than any this cluster can have given out"
    if epoch_key(named) > latest:
        return f"the status names epoch {named}, which neither its log nor this cluster knows"
    return ""


def _with_log(  # noqa: C901 (a table: one row for each finding)
    pair: Pair, request: NotificationRequest, log: Read, header: Header, bounds: Bounds
) -> tuple[Finding, ...]:
    found: list[Finding] = []

    def add(kind: Class, text: str) -> None:
        found.append(Finding(kind, text))

    status, view = request.status, log.view
    if header.object != request.key:
        add(Class.MISNAMED, f"the log is that of {header.object}, by its header")
    if log.problem:
        add(Class.UNREADABLE, log.problem)
        return tuple(found)
    last = len(log.records)
    if max(header.acked, header.audited) > last:
        add(
            Class.MARK_BEYOND,
            f"marked up to {max(header.acked, header.audited)}, and there are {last} record(s)",
        )
    if ahead := _ahead(header, status, bounds):
        add(Class.EPOCH_AHEAD, ahead)
    found += _impossible(log)
    lost = lacking(view, status)
    if lost:
        add(Class.LOG_BEHIND, f"the log lacks {len(lost)} attempt(s) or result(s) of the status")
    if view.plan is None and status.channels and ours(status):
        add(Class.PLAN_MISSING, "the status shows channels, and the log has no plan")
    if pair.ttl >= 0 and not status.terminal:
        add(
            Class.EXPIRING, f"the log expires in {pair.ttl} s, and the notification is not finished"
        )
    newest = max((int(r.body.get("at", 0)) for r in log.records), default=0)
    settled = bounds.now - newest > bounds.settle
    behind = exceeds(view, status)
    if behind and settled:
        if acked_unshown(log.records, header.acked, status):
            add(Class.ACKED, Divergence.ACKED.says)
        else:
            add(Class.STATUS_BEHIND, "the log holds results that the status does not show")
    stale = [a for a in view.attempts.values() if a.open and bounds.now - a.started > bounds.stuck]
    if stale:
        add(Class.OPEN_ATTEMPT, f"{len(stale)} attempt(s) are open and nobody settles them")
    if settled and not behind and not lost:
        found += _status_rules(request, view, bounds)
    found += _housekeeping(pair, status, view, header, settled=settled, found=bool(found))
    return tuple(found)


def _impossible(log: Read) -> list[Finding]:
    """What the rules exclude, whatever happens to servers."""
    found: list[Finding] = []
    definite: dict[str, set[AttemptState]] = {}
    for record in log.records:
        state = record.kind.state
        # An operator's verdict may be overtaken by what the receiver did say.
        if state is not None and state >= AttemptState.FAILED and not record.kind.verdict:
            definite.setdefault(record.attempt_id, set()).add(state)
    twice = doubly_open(log.view)
    if twice:
        found.append(Finding(Class.TWO_OPEN, f"{twice} channel(s) have two attempts open at once"))
    both = sum(len(states) > 1 for states in definite.values())
    if both:
        found.append(Finding(Class.CONFLICT, f"{both} attempt(s) have two definite results"))
    return found


#: Members of a status that follow from log and object alone, whoever writes it and when.
_COMPUTED: Final = (
    "phase", "deliveryAttempts", "totalAttempts", "successfulDeliveries", "failedDeliveries",
    "uncertainAttempts", "channels",
)  # fmt: skip


def _status_rules(request: NotificationRequest, view: LogView, bounds: Bounds) -> list[Finding]:
    found: list[Finding] = []
    status = request.status
    facts = Facts(request.generation, request.policy, bounds.at_most_once)
    merged = merge(status, view, facts, now=bounds.now)
    wrong: list[str] = []
    if not _same(status, merged.status):
        wanted = compact(merged.status, limit=bounds.status_bytes)
        patch = difference(status, wanted)
        # While an attempt is open the words for its channel depend on when it was looked at.
        moving = {"phase", "channels"} if view.opened else set()
        wrong = [name for name in _COMPUTED if name in patch and name not in moving]
    if wrong:
        found.append(Finding(Class.STATUS_DIFFERS, f"the log says otherwise: {', '.join(wrong)}"))
    channel_states = merged.channel_states
    delivered = sum(s.state is State.DELIVERED for s in channel_states)
    unfounded = (status.phase == SENT and delivered < len(channel_states)) or (
        status.phase == PARTIALLY_SENT and not delivered
    )
    if unfounded:
        found.append(
            Finding(
                Class.PHASE,
                f"the phase is {status.phase} and {delivered} of {len(channel_states)} channel(s) are"
                " delivered",
            )
        )
    numbers = [(a.channel, a.number) for a in status.attempts if attempt_epoch(a.id) != NO_EPOCH]
    if len(numbers) != len(set(numbers)):
        found.append(Finding(Class.NUMBERS, "two attempts of a channel bear one number"))
    return found


def _same(shown: Status, wanted: Status) -> bool:
    """Whether two statuses would be rendered alike, told without rendering them: most are."""
    return (
        shown.phase == wanted.phase
        and (shown.total_attempts, shown.successful, shown.failed, shown.uncertain)
        == (wanted.total_attempts, wanted.successful, wanted.failed, wanted.uncertain)
        and shown.channels == wanted.channels
        and len(shown.attempts) == len(wanted.attempts)
        and all(
            a.id == b.id
            and a.state is b.state
            and a.number == b.number
            and a.ended == b.ended
            and a.started == b.started
            and a.error == b.error
            and (a.duration, a.code, a.failure, a.channel)
            == (b.duration, b.code, b.failure, b.channel)
            for a, b in zip(shown.attempts, wanted.attempts, strict=True)
        )
    )


def _housekeeping(
    pair: Pair, status: Status, view: LogView, header: Header, *, settled: bool, found: bool
) -> list[Finding]:
    ended = status.terminal and not view.opened and not ordered_channels(view, status)
    if not (ended and settled) or found:
        # What is wrong above keeps the owner from marking it; one name is enough.
        return []
    last = view.position
    if header.acked < last:
        return [
            Finding(Class.UNACKED, f"{last - header.acked} record(s) are not marked as published")
        ]
    if pair.ttl == -1 and header.audited >= last:
        return [Finding(Class.NO_EXPIRY, "finished, published, and the log has no expiry")]
    return []
