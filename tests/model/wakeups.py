"""
The second model: who looks again at what is due.

The first asks whether the record can be wrong. This one asks whether the message goes out: one
notification, one channel, one or two replicas, each with its work queue (a key is queued, in hand, in
hand and wanted again, waiting for a timer), its per-receiver queue, and the lease term of the shard.
What the first has settled is taken for granted and done in one step: a claim, an append, a status
write. A look reads the log as it is.

Whatever wakes a replica may be *lost* where `lossy` is set, any number of times: the event of a watch,
the wake-up that a foreign append publishes, a timer, the end of an attempt, the beginning of a lease
term. What then remains is the resync. Everything else that goes wrong has a budget.

A label is `action` or `action: how it came out`; labels of one action are one choice of the system.
An action that stays possible is taken in the end (weak fairness), except faults, which need not happen:
they begin with `fault`. A finalizer, too, may stay for ever.

Promises (a fair behaviour keeps them) and properties (of a step):

- LOOK: what is due is looked at by an owner that may act.
- DONE: the notification ends: shown in a terminal phase; deleting: settled and shown; gone: its log
  retired.
- HAND: a hand-over ends.
- BF: Failed is not written before as many requests as are allowed may have reached the receiver.
- BU: no more requests leave than are allowed.
- DL: nothing is sent for an object that its sender has seen deleting.
- RT: no log is retired while its object exists.

Each rule is in force unless a mutant switches it off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, NamedTuple

from tests.model.fairness import Promises
from tests.model.rules import Rules
from tests.model.search import replaced, spend, with_replica

NOBODY = -1


class Known(IntEnum):
    """State of an attempt on record; a join takes the larger. A sender knows UNSENT or FAILED, not both."""

    OPEN = 0
    UNKNOWN = 1
    UNSENT = 2
    FAILED = 3
    SUCCESS = 4


class Object(IntEnum):
    """The object, and what a replica has seen of it."""

    UNSEEN = 0
    LIVE = 1
    DELETING = 2
    GONE = 3


class Phase(IntEnum):
    """Phase that the object shows."""

    OPEN = 0
    SENT = 1
    FAILED = 2


class Job(IntEnum):
    """Where a replica's attempt is; from `UNSENT` on its result is known and not recorded."""

    NONE = 0
    WAITING = 1
    ALLOWED = 2
    SENT = 3
    UNSENT = 4
    FAILED = 5
    UNKNOWN = 6
    SUCCESS = 7
    #: (mutant) It ended, and its place in the per-receiver queue is taken for ever.
    LEFT_BEHIND = 8


_RESULT = {
    Job.UNSENT: Known.UNSENT,
    Job.FAILED: Known.FAILED,
    Job.UNKNOWN: Known.UNKNOWN,
    Job.SUCCESS: Known.SUCCESS,
}
_EXECUTING = frozenset({Job.ALLOWED, Job.SENT, *_RESULT})

#: (id, state), in the order of the log.
Attempts = tuple[tuple[int, Known], ...]


@replaced
class Replica(NamedTuple):
    """
    One process.

    Attributes:
        seen: What its cache holds of the object.
        queued: Its work queue holds the key.
        timer: The key comes back at some time.
        hand: A worker has the key; 2 in mutants: for ever.
        again: It is wanted again once it is given back.
        job: Its attempt.
        id: Of that attempt, 0 without one.
        claim: It holds the claim of its lease term.
        own: Ids that it chose in this life.
        doubt: Id of an INTENT of its that was never answered, 0 if there is none.
        quarantine: It has found the log broken.
        backing: Its last status write was refused; it is tried again, ever more slowly.
        able: Redis answers this replica, unless Redis is down for all.
    """

    seen: Object = Object.UNSEEN
    queued: bool = False
    timer: bool = False
    hand: int = 0
    again: bool = False
    job: Job = Job.NONE
    id: int = 0
    claim: bool = False
    own: tuple[int, ...] = ()
    doubt: int = 0
    quarantine: bool = False
    backing: bool = False
    able: bool = True


@replaced
class Budget(NamedTuple):
    """Faults left; each is named by the label of its step."""

    crashes: int = 0
    renewals: int = 0
    handovers: int = 0
    cuts: int = 0
    outages: int = 0
    replies: int = 0
    raises: int = 0
    breaks: int = 0
    deletes: int = 0


NO_FAULTS = Budget()


@replaced
class State(NamedTuple):
    """
    The whole system.

    Attributes:
        replicas: The processes.
        owner: Who has the shard, or `NOBODY`.
        late: The owner's renewal is not confirmed: it may not act, and the term is not over.
        handing: The owner takes no new work and gives the shard up once it is quiet.
        down: Redis answers nobody.
        claimed: The log holds the claim of the present lease term.
        log: Its attempts.
        broken: It cannot be read.
        retired: It is left to expire.
        object: The object.
        phase: Shown there.
        shown: It shows all that the log holds.
        wait: The channel's back-off has not passed.
        flight: Ids of INTENTs on their way whose callers have given up.
        left: Ids whose request left.
        unclear: Ids that somebody settled as unknown who did not choose them.
        issued: Ids chosen.
        budget: Faults left.
    """

    replicas: tuple[Replica, ...]
    owner: int
    late: bool
    handing: bool
    down: bool
    claimed: bool
    log: Attempts
    broken: bool
    retired: bool
    object: Object
    phase: Phase
    shown: bool
    wait: bool
    flight: tuple[int, ...]
    left: tuple[int, ...]
    unclear: tuple[int, ...]
    issued: int
    budget: Budget


#: A transition: what happened, the next state, the properties that it broke.
Step = tuple[str, State, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Options(Rules):
    """
    Faults and world; the rules are in `RULES`.

    Attributes:
        replicas: How many processes there are.
        attempts: The most requests of the channel.
        lossy: Any wake-up but that of the resync may be lost.
        refused: The API server refuses the object's status for ever.
        faults: How often each fault may happen.
    """

    replicas: int = 1
    attempts: int = 1
    lossy: bool = False
    refused: bool = False
    faults: Budget = NO_FAULTS

    RULES: ClassVar = {
        "resync": "(W1) What is live is looked at again from time to time.",
        "resync_unclaimed": "(W2) Also what holds no claim.",
        "resync_quarantined": "(W3) Also what is in quarantine.",
        "resync_deleted": "(W4) Also what is deleting or gone.",
        "requeue": "(W5) A key that was added while in hand comes back.",
        "give_back": "(W6) A key is given back also when its handling raised.",
        "free_place": "(W7) An attempt that raised leaves its place in the per-receiver queue.",
        "outcome_wakes": "(W8) The end of an attempt wakes.",
        "waits_by_timer": "(W9) What is not due yet comes back by a timer.",
        "term_wakes": "(W10) The beginning of a lease term wakes.",
        "unsent_free": "(N1) An attempt that certainly did not leave counts in no limit.",
        "intent_unsent_free": "(N2) Nor in that of INTENT.",
        "doubt_settled": (
            "(N3) An INTENT in doubt is settled on record even if the log does not show it."
        ),
        "result_kept": (
            "(N4) A result that a damaged log does not take is kept, and recorded once it does."
        ),
        "leave_backing": "(H1) A hand-over does not wait for a status that is backing off.",
        "leave_unable": "(H2) Nor for a result that Redis or the log does not take.",
        "hands_on": "(H3) Who cannot reach Redis hands over while another one can.",
        "compete_able": "(H4) Who cannot reach Redis does not compete for the shard.",
        "deleting_stops": "(D1) Nothing is opened or sent for an object that is deleting.",
        "retire_gone": "(D2) A log is retired only when its object is gone.",
        "last_sync": "(D3) What was recorded is shown while the deleting object is there.",
    }


def start(o: Options) -> State:
    """An object was created; nobody has seen it, nobody owns the shard."""
    return State(
        replicas=(Replica(),) * o.replicas, owner=NOBODY, late=False, handing=False, down=False,
        claimed=False, log=(), broken=False, retired=False, object=Object.LIVE, phase=Phase.OPEN,
        shown=True, wait=False, flight=(), left=(), unclear=(), issued=0, budget=o.faults,
    )  # fmt: skip


def steps(s: State, o: Options) -> Iterator[Step]:
    """Yield the transitions of a state."""
    for i in range(o.replicas):
        yield from _own_faults(s, o, i)
    yield from _faults(s, o)
    yield from _surroundings(s, o)
    for i in range(o.replicas):
        for part in (_lease, _queue, _attempt, _status):
            yield from part(s, o, i)


def counted(s: State, *, unsent: bool = False) -> int:
    """Attempts that count against the budget: those that may have left; all, if `unsent`."""
    return sum(unsent or known is not Known.UNSENT for _, known in s.log)


def final(s: State, o: Options) -> bool:
    """Whether the log calls for no further attempt."""
    if any(known is Known.OPEN for _, known in s.log):
        return False
    delivered = any(known is Known.SUCCESS for _, known in s.log)
    return delivered or counted(s, unsent=not o.unsent_free) >= o.attempts


def is_goal(s: State, o: Options) -> bool:
    """Whether nothing is left to be done."""
    settled = not any(known is Known.OPEN for _, known in s.log)
    match s.object:
        case Object.GONE:
            return settled and (s.retired or not s.log)
        case Object.DELETING:
            return settled and (s.shown or o.refused)
        case _ if o.refused:
            return final(s, o)
        case _:
            return s.phase is not Phase.OPEN and s.shown


def is_due(s: State, o: Options) -> bool:
    """Whether something is due that only a look can begin, and nothing stands against it."""
    if s.broken or s.down or any(r.job is not Job.NONE for r in s.replicas):
        return False
    claimed = s.owner != NOBODY and s.replicas[s.owner].claim
    match s.object:
        case Object.GONE:
            return bool(s.log) and not s.retired
        case Object.LIVE if s.phase is Phase.OPEN and not final(s, o) and not s.wait:
            return True
        case _:
            return not s.shown and not claimed


def looked(label: str) -> bool:
    """Whether a step is a look of somebody who may act, and can."""
    return " looks: " in label and not label.endswith(" Redis does not answer")


def _is_handing(s: State, _: Options) -> bool:
    return s.handing


def _is_unfinished(s: State, o: Options) -> bool:
    return not is_goal(s, o)


#: What a fair behaviour keeps: what is pending in a state, and which steps end it.
PROMISES: Promises[State, Options] = {
    "LOOK": (is_due, looked),
    "HAND": (_is_handing, lambda _: False),
    "DONE": (_is_unfinished, lambda _: False),
}


# -- changes --------------------------------------------------------------------------------------


def _added(s: State, i: int) -> State:
    """The key is to be handled as soon as may be; like the queue's own `add` it ends a delay."""
    r = s.replicas[i]
    if r.hand:
        return with_replica(s, i, again=True, timer=False)
    return with_replica(s, i, queued=True, timer=False)


def _wake(label: str, s: State, i: int, o: Options, *broken: str) -> Iterator[Step]:
    """An event has the replica look; the event may be lost."""
    if s.replicas[i].seen is Object.UNSEEN:
        yield label, s, broken
        return
    yield label, _added(s, i), broken
    if o.lossy:
        yield f"{label}{',' if ':' in label else ':'} wake-up lost", s, broken


def _joined(log: Attempts, id_: int, known: Known) -> Attempts:
    """What an append leaves: a lost intent is written first, and only what says more is appended."""
    if id_ not in dict(log):
        return (*log, (id_, known))
    return tuple((n, max(k, known) if n == id_ else k) for n, k in log)


def _recorded(s: State, id_: int, known: Known) -> State:
    log = _joined(s.log, id_, known)
    if log == s.log:
        return s
    # Every append takes the expiry away.
    wait = s.wait if known is Known.SUCCESS else True
    return s._replace(log=log, shown=False, retired=False, wait=wait)


def _answers(s: State, i: int) -> bool:
    return s.replicas[i].able and not s.down


# -- faults and surroundings ----------------------------------------------------------------------


def _own_faults(s: State, o: Options, i: int) -> Iterator[Step]:
    r, left = s.replicas[i], s.budget
    if left.crashes:
        dead = spend(s, "crashes")._replace(
            replicas=(*s.replicas[:i], Replica(able=r.able), *s.replicas[i + 1 :])
        )
        yield f"fault: crash of {i}", _unowned(dead) if s.owner == i else dead, ()
    if left.cuts and r.able:
        yield f"fault: {i} is cut off from Redis", spend(with_replica(s, i, able=False), "cuts"), ()
    if left.raises and r.job is Job.WAITING:
        job = Job.NONE if o.free_place else Job.LEFT_BEHIND
        yield f"fault: attempt of {i} raises", spend(with_replica(s, i, job=job), "raises"), ()
    if o.lossy and r.timer:
        yield f"fault: timer of {i} is lost", with_replica(s, i, timer=False), ()


def _faults(s: State, o: Options) -> Iterator[Step]:
    left = s.budget
    if left.renewals and s.owner != NOBODY and not s.late:
        lost = spend(s, "renewals")._replace(late=True)
        yield "fault: a renewal is not answered", lost, ()
    if left.handovers and s.owner != NOBODY and not s.handing and o.replicas > 1:
        yield "fault: shards are shared anew", spend(s, "handovers")._replace(handing=True), ()
    if left.outages and not s.down:
        yield "fault: Redis is down", spend(s, "outages")._replace(down=True), ()
    if left.breaks and s.log and not s.broken:
        yield "fault: the log is damaged", spend(s, "breaks")._replace(broken=True), ()
    if left.deletes and s.object is Object.LIVE:
        deleting = spend(s, "deletes")._replace(object=Object.DELETING)
        yield "fault: the object is deleted, a finalizer holds it", deleting, ()
        yield "fault: the object is deleted", deleting._replace(object=Object.GONE), ()


def _unowned(s: State) -> State:
    """The lease term is over; whoever had it holds no claim any more."""
    if s.owner != NOBODY:
        s = with_replica(s, s.owner, claim=False)
    return s._replace(owner=NOBODY, late=False, handing=False, claimed=False)


def _surroundings(s: State, o: Options) -> Iterator[Step]:
    if s.object is Object.DELETING:
        yield "finalizer: removed", s._replace(object=Object.GONE), ()
    if s.wait:
        yield "back-off passes", s._replace(wait=False), ()
    if s.down:
        yield "Redis is back", s._replace(down=False), ()
    if s.broken:
        mended = s._replace(broken=False)
        if s.owner == NOBODY:
            yield "an operator mends the log", mended, ()
        else:
            yield from _wake("an operator mends the log", mended, s.owner, o)
    for id_ in s.flight:
        rest = s._replace(flight=tuple(n for n in s.flight if n != id_))
        name = f"INTENT {id_} of a caller that gave up"
        yield f"{name}: lost", rest, ()
        if _refusal(s, o, id_):
            yield f"{name}: refused", rest, ()
        else:
            yield f"{name}: taken", rest._replace(log=(*s.log, (id_, Known.OPEN))), ()


def _refusal(s: State, o: Options, id_: int) -> str:
    """What INTENT answers if it is not OK, in the order of its guards."""
    if any(known is Known.SUCCESS for _, known in s.log):
        return "DONE"
    if id_ in dict(s.log):
        return "DUP"
    if s.broken or not s.claimed:
        return "RECLAIM"
    if any(known is Known.OPEN for _, known in s.log):
        return "OPEN"
    unsent = not (o.unsent_free and o.intent_unsent_free)
    return "EXHAUSTED" if counted(s, unsent=unsent) >= o.attempts else ""


# -- one replica ----------------------------------------------------------------------------------


def _lease(s: State, o: Options, i: int) -> Iterator[Step]:
    r = s.replicas[i]
    if s.owner == NOBODY and (r.able or not o.compete_able):
        # An earlier lease term's INTENTs meet the epoch of this one at the latest at its claim.
        taken = s._replace(owner=i)
        if r.seen is Object.UNSEEN or not o.term_wakes:
            yield f"{i} acquires", taken, ()
        else:
            yield from _wake(f"{i} acquires", taken, i, o)
    if s.owner != i:
        return
    if s.late:
        yield f"{i} reads the lease: its renewal was written", s._replace(late=False), ()
        yield f"{i} reads the lease: the term is over", _unowned(s), ()
    others = any(x.able for n, x in enumerate(s.replicas) if n != i)
    if o.hands_on and not r.able and others and not s.handing:
        yield f"{i} cannot serve and hands over", s._replace(handing=True), ()
    if s.handing and not s.late and _quiet(s, o, i):
        yield f"{i} has handed over", _unowned(s), ()


def _quiet(s: State, o: Options, i: int) -> bool:
    """Whether a hand-over has nothing more to wait for: what can be written is."""
    r = s.replicas[i]
    if r.job in _RESULT and not (o.leave_unable and (s.broken or not r.able)):
        return False
    if r.job in (Job.ALLOWED, Job.SENT):
        return False
    return not _writable(s, o, i) or (o.leave_backing and r.backing)


def _queue(s: State, o: Options, i: int) -> Iterator[Step]:
    r = s.replicas[i]
    if r.seen is not s.object:
        # A list stands for the watch: what is there is seen in the end, and what that wakes may be lost.
        yield from _wake(f"{i} is notified", with_replica(s, i, seen=s.object), i, o)
    if r.timer:
        yield f"timer of {i}", _added(s, i), ()
    if _resyncs(s, o, i):
        yield f"resync of {i}", _added(s, i), ()
    if r.queued and not r.hand:
        yield _look(with_replica(s, i, queued=False, hand=1), o, i)
    if r.hand == 1:
        back = with_replica(s, i, hand=0, again=False)
        yield f"{i} gives back", _added(back, i) if r.again and o.requeue else back, ()


def _resyncs(s: State, o: Options, i: int) -> bool:
    r = s.replicas[i]
    return (
        o.resync
        and s.owner == i
        and r.seen is not Object.UNSEEN
        and (o.resync_unclaimed or r.claim or r.quarantine)
        and (o.resync_quarantined or not r.quarantine)
        and (o.resync_deleted or r.seen is Object.LIVE)
    )


def _look(s: State, o: Options, i: int) -> Step:  # noqa: PLR0911 (one answer for each rule)
    """One look: what is known now decides, and what it calls for is begun."""
    if s.owner != i or s.handing or s.late:
        return f"{i} looks in vain", s, ()
    label = f"{i} looks"
    if not _answers(s, i):
        raised = with_replica(s, i, timer=True, claim=False)
        return (
            f"{label}: Redis does not answer",
            (raised if o.give_back else with_replica(raised, i, hand=2)),
            (),
        )
    if s.broken:
        return f"{label}: quarantine", with_replica(s, i, quarantine=True, claim=False), ()
    s = _settled(_claimed(s, i), o, i)
    r = s.replicas[i]
    if r.seen is Object.GONE or (r.seen is Object.DELETING and not o.retire_gone):
        if r.job in _EXECUTING or s.retired or not s.log:
            return f"{label}: gone", s, ()
        broken = () if s.object is Object.GONE else ("RT",)
        return f"{label}: retires", s._replace(retired=True), broken
    if s.phase is not Phase.OPEN or final(s, o):
        return f"{label}: finished", s, ()
    if r.job is not Job.NONE or (r.seen is Object.DELETING and o.deleting_stops):
        return f"{label}: nothing to start", s, ()
    if s.wait:
        return f"{label}: not due yet", with_replica(s, i, timer=r.timer or o.waits_by_timer), ()
    return f"{label}: due", with_replica(s, i, job=Job.WAITING), ()


def _claimed(s: State, i: int) -> State:
    """Under the claim of this lease term; INTENTs of an earlier one are refused from then on."""
    flight = s.flight if s.claimed else ()
    return with_replica(s, i, claim=True, quarantine=False)._replace(claimed=True, flight=flight)


def _settled(s: State, o: Options, i: int) -> State:
    """What nobody executes is settled: not sent if this replica knows so, else unknown."""
    r = s.replicas[i]
    if r.doubt and (o.doubt_settled or r.doubt in dict(s.log)):
        s = _recorded(s, r.doubt, Known.UNSENT)
    s = with_replica(s, i, doubt=0)
    executing = r.id if r.job in _EXECUTING else 0
    for id_, known in s.log:
        if known is Known.OPEN and id_ != executing:
            s = _recorded(s, id_, Known.UNKNOWN)
            if id_ not in r.own:
                s = s._replace(unclear=(*s.unclear, id_))
    return s


def _attempt(s: State, o: Options, i: int) -> Iterator[Step]:
    r = s.replicas[i]
    match r.job:
        case Job.WAITING:
            yield from _started(s, o, i)
        case Job.ALLOWED:
            deleting = r.seen in (Object.DELETING, Object.GONE)
            if s.owner != i or s.late or (deleting and o.deleting_stops):
                yield f"{i} sends: not allowed any more", with_replica(s, i, job=Job.UNSENT), ()
                return
            left = (*s.left, r.id)
            broken = [] if len(left) <= o.attempts else ["BU"]
            if deleting:
                broken.append("DL")
            yield f"{i} sends", with_replica(s, i, job=Job.SENT)._replace(left=left), tuple(broken)
        case Job.SENT:
            for job in (Job.SUCCESS, Job.FAILED, Job.UNKNOWN):
                yield f"answer to {i}: {job.name.lower()}", with_replica(s, i, job=job), ()
        case Job.UNSENT | Job.FAILED | Job.UNKNOWN | Job.SUCCESS if _answers(s, i):
            if s.broken and o.result_kept:
                return
            known = s if s.broken else _recorded(s, r.id, _RESULT[r.job])
            known = with_replica(known, i, job=Job.NONE, id=0)
            if s.owner in (i, NOBODY) and not o.outcome_wakes:
                yield f"{i} records", known, ()
            elif s.owner in (i, NOBODY):
                yield from _wake(f"{i} records", known, i, o)
            else:
                yield from _wake(f"{i} records", known, s.owner, o)
        case _:
            pass


def _started(s: State, o: Options, i: int) -> Iterator[Step]:
    """The turn of an attempt has come: everything is looked at anew, then INTENT."""
    r = s.replicas[i]
    label = f"{i} starts"
    dropped = with_replica(s, i, job=Job.NONE)
    if s.owner != i or s.handing:
        yield f"{label}: not ours", dropped, ()
        return
    if s.late:
        yield f"{label}: the lease is late", with_replica(dropped, i, timer=True), ()
        return
    deleting = r.seen is not Object.LIVE and o.deleting_stops
    if deleting or not r.claim or s.wait or final(s, o) or s.phase is not Phase.OPEN:
        yield from _wake(f"{label}: not due any more", dropped, i, o)
        return
    id_ = s.issued + 1
    asked = with_replica(dropped, i, own=(*r.own, id_))._replace(issued=id_)
    doubtful = with_replica(asked, i, doubt=id_, claim=False, timer=True)
    if not _answers(s, i):
        yield f"{label}: Redis does not answer", doubtful, ()
        return
    if s.broken:
        yield f"{label}: quarantine", with_replica(dropped, i, quarantine=True, claim=False), ()
        return
    refusal = _refusal(s, o, id_)
    if refusal:
        if refusal == "RECLAIM":
            dropped = with_replica(dropped, i, claim=False)
        yield from _wake(f"{label}: {refusal}", dropped, i, o)
        return
    opened = (*s.log, (id_, Known.OPEN))
    yield f"{label}: OK", with_replica(asked, i, job=Job.ALLOWED, id=id_)._replace(log=opened), ()
    if s.budget.replies:
        doubtful = spend(doubtful, "replies")
        yield f"fault: INTENT {id_} of {i} taken, reply lost", doubtful._replace(log=opened), ()
        late = doubtful._replace(flight=(*s.flight, id_))
        yield f"fault: INTENT {id_} of {i} is late", late, ()


def _writable(s: State, o: Options, i: int) -> bool:
    return (
        s.owner == i
        and not (s.late or s.shown or s.broken)
        and s.replicas[i].claim
        and _answers(s, i)
        and s.object is not Object.GONE
        and (o.last_sync or s.replicas[i].seen is Object.LIVE)
    )


def _status(s: State, o: Options, i: int) -> Iterator[Step]:
    if not _writable(s, o, i):
        return
    label = f"{i} writes the status"
    if o.refused:
        yield f"{label}: refused", with_replica(s, i, backing=True), ()
        return
    phase = s.phase
    broken: tuple[str, ...] = ()
    if phase is Phase.OPEN and final(s, o):
        delivered = any(known is Known.SUCCESS for _, known in s.log)
        phase = Phase.SENT if delivered else Phase.FAILED
        if not delivered and len({*s.left, *s.unclear}) < o.attempts:
            broken = ("BF",)
    yield label, with_replica(s, i, backing=False)._replace(phase=phase, shown=True), broken
