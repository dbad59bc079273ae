"""
The fourth model: delivered while the log is away, with the status as the journal.

One notification, one channel, two replicas, one shard. An attempt is written ahead into the log if its
sender reaches it, else into the object's status as `unknown`, if its sender knows all that was ever
recorded. What the other models settle is taken for granted: an append, a claim and an ordinary status write
are one step, and no check of the lease passes once the next term has begun (`true_guard`; `sessions.py`,
property SH). After that check a replica may be frozen for as long as it likes.

The shard's Lease carries a *note* while its owners journal: a name that is never used again, and the second
in which it was written. A journaled write puts the *mark* into the object, which is the name of the note.
Who cannot read the log knows all if

- it has claimed the log in its current term (its own memory), or
- the object was created after its term began (nobody else can have recorded anything that was sent), or
- the mark is the note's name (then all is in the status), or
- the object was created after the note (then all is in the status, too).

A status write compares the resourceVersion: what a replica has read is `fresh` until the next write.

An operator who reaches the log may say there that an attempt was delivered (a *word*), and wakes the owner
up. Wake-ups are lost with the connection: `heard` says what a replica's memory may have missed. What is
said while its owner is cut off counts for nobody before an owner has noticed that it reaches the log.
Labels as in `wakeups`: what begins with `fault`, `end of fault` or `late` need never happen.

Properties (of a step) and promises (kept by a fair behaviour):

- B1: requests <= 1 + attempts that stood as unknown, in either place, when a further one was opened by
  somebody who did not execute them (+ those that the log has lost).
- S7: nothing is opened after a success in the place where it is opened, nor after one in the other, unless
  a former owner recorded it for an attempt that the opener has as unknown; nor after a word.
- S12: no more is sent than is allowed.
- LOST: what is in log or status stays in one of them, unless the log is lost or the object deleted.
- RK: a result that is known is recorded.
- UID: no status shows an attempt of an earlier object of its name.
- GO: what may go while the log is away goes: an owner that knows all, and what was journaled, also
  by a former owner.
- END: it ends, once anybody reaches the log: all shown, all in the log, no note, no mark.

Each rule is in force unless a mutant switches it off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, ClassVar, NamedTuple

from tests.model.fairness import Promises
from tests.model.rules import Rules
from tests.model.search import replaced, spend, with_replica

#: (epoch, number within the epoch)
Id = tuple[int, int]


class Result(IntEnum):
    """State of an attempt; a join takes the larger."""

    INTENT = 0
    UNKNOWN = 1
    FAILED = 2
    SUCCESS = 3


I, U, F, S = Result  # noqa: E741 - the letters of the lattice

#: (id, epoch, state)
Attempt = tuple[Id, int, Result]
#: A set of attempts: sorted, with at most one entry per id, so that equal sets are equal states.
View = tuple[Attempt, ...]


@cache
def join(a: View, b: View) -> View:
    """The union of two views; per id the higher state."""
    if a == b or not b:
        return a
    out = {e[0]: e for e in a}
    for entry in b:
        known = out.get(entry[0])
        if known is None or known[2] < entry[2]:
            out[entry[0]] = entry
    return tuple(sorted(out.values()))


@cache
def leq(a: View, b: View) -> bool:
    """Whether everything in `a` is in `b` with at least that state."""
    known = {e[0]: e[2] for e in b}
    return all(known.get(e[0], -1) >= e[2] for e in a)


@cache
def has(view: View, result: Result) -> bool:
    """Whether an attempt of the view is in exactly that state."""
    return any(e[2] == result for e in view)


NOBODY = -1


class Pc(IntEnum):
    """Where an attempt stands: the lease is checked after the write, then the request leaves."""

    OPENED = 0
    PERMITTED = 1
    WAITING = 2
    KNOWN = 3


@replaced
class Job(NamedTuple):
    """An attempt in its sender's hands; `journaled` says where it was written ahead."""

    attempt: Id
    journaled: bool
    pc: Pc = Pc.OPENED
    result: Result = U


class Heard(IntEnum):
    """Whether what others append to the log reaches a replica; `LOST` until it notices its way back."""

    ALL = 0
    LOST = 1
    NOT_ALL = 2


class Marks(IntEnum):
    """Whether the Lease says that finished objects may have marks; `ABSENT`: there is no Lease."""

    NONE = 0
    LEFT = 1
    ABSENT = 2


class Note(NamedTuple):
    """What the Lease carries: its name, 0 for none, when it was written, and the last term that kept it."""

    name: int = 0
    since: int = 0
    kept: int = 0


@replaced
class Status(NamedTuple):
    """The object: what its status shows, the mark, and its creationTimestamp."""

    attempts: View = ()
    mark: int = 0
    born: int = 0


class Read(NamedTuple):
    """What a journaled write compares with: whether it is as it was, and of the same object."""

    status: Status
    fresh: bool = True
    former: bool = False


@replaced
class Replica(NamedTuple):
    """
    One process.

    Attributes:
        up: It runs.
        epoch: Of the term that it believes in, 0 without one.
        begun: Attempts that it has begun in this term.
        memory: All facts that it knows.
        whole: It has claimed the log in this term.
        since: When its term began.
        claim: Of the log: 0 none, 1 claimed, 2 and the object was read after it.
        stale: The log's server has been in another state since the claim: its stamp is an old one.
        note: The Lease's, as this term knows it.
        unsure: A write of the note was not answered.
        heard: Whether its memory holds what others have appended.
        jobs: Attempts in its hands.
        read: What it is about to journal against.
    """

    up: bool = True
    epoch: int = 0
    begun: int = 0
    memory: View = ()
    whole: bool = False
    since: int = 0
    claim: int = 0
    stale: bool = False
    note: Note = Note()
    unsure: bool = False
    heard: Heard = Heard.ALL
    jobs: tuple[Job, ...] = ()
    read: Read | None = None


@replaced
class Log(NamedTuple):
    """What Redis holds."""

    fence: int = 0
    attempts: View = ()


@replaced
class Budget(NamedTuple):
    """Faults left; each is named by the label of its step."""

    takeovers: int = 0
    crashes: int = 0
    outages: int = 0
    cuts: int = 0
    apis: int = 0
    losses: int = 0
    flushes: int = 0
    replies: int = 0
    lates: int = 0
    late_notes: int = 0
    deletes: int = 0
    again: int = 0
    ticks: int = 0
    words: int = 0
    leases: int = 0


NO_FAULTS = Budget()


class Late(NamedTuple):
    """A journaled write whose sender gave up; it is refused once the object is written otherwise."""

    attempts: View
    mark: int


@replaced
class State(NamedTuple):
    """
    The whole system.

    Attributes:
        lease: The newest epoch.
        holder: Who holds the shard's Lease.
        note: What the Lease carries.
        notes: How many notes there have been.
        replicas: The processes.
        log: What Redis holds.
        previous: What it held before its last write, while that may come back.
        away: Nobody reaches the log.
        cut: Who does not reach it, each.
        api: The API server answers.
        status: The object, None before it is created and after it is deleted.
        created: There has been an object.
        late: Journaled writes on their way.
        note_late: A note on its way, refused once the Lease is written otherwise.
        wire: Requests on their way.
        sent: How many have left.
        processed: How many the receiver has acted upon.
        certain: Successes that their sender recorded while it was the owner; words that an owner can know.
        said: Words that no owner can know yet.
        marks: What the Lease says of finished objects; kept only in a world of `phases`.
        excused: Attempts that stood as unknown when a further one was opened.
        lost: Attempts that the log has lost.
        former: Attempts of an earlier object of the name.
        journaled: Its attempts were journaled since the log was last reached.
        now: Seconds.
        budget: Faults left.
    """

    lease: int
    holder: int
    note: Note
    notes: int
    replicas: tuple[Replica, ...]
    log: Log
    previous: Log
    away: bool
    cut: tuple[bool, ...]
    api: bool
    status: Status | None
    created: bool
    late: tuple[Late, ...]
    note_late: Note | None
    wire: tuple[Id, ...]
    sent: int
    processed: int
    certain: tuple[Id, ...]
    excused: tuple[Id, ...]
    lost: tuple[Id, ...]
    former: tuple[Id, ...]
    journaled: bool
    now: int
    budget: Budget
    said: tuple[Id, ...] = ()
    marks: Marks = Marks.NONE


#: A transition: what happened, the next state, the properties that it broke.
Step = tuple[str, State, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Options(Rules):
    """
    Faults and world; the rules are in `RULES`.

    Attributes:
        attempts: The most that may be sent.
        unborn: The object is created under way.
        away: The log is away from the start.
        cut: The first replica is cut off from it from the start.
        old: The second replica is of a version that does not know of notes and marks.
        lean: A request is processed and answered or not; none is refused or lost.
        margin: Seconds by which an object has to be younger than the note.
        skew: Seconds by which the clock that stamps an object may be ahead of the one that stamps the note.
        reads: Who does not reach the log is answered all the same, but for what is written.
        phases: Lists tell no more of a finished object than that it is, and only the owner writes statuses.
        unmarks: The mark is taken away before anything is opened in the log: proposed, not needed.
        faults: How often each fault may happen.
    """

    attempts: int = 2
    unborn: bool = False
    away: bool = False
    cut: bool = False
    old: bool = False
    lean: bool = False
    margin: int = 1
    skew: int = 0
    reads: bool = False
    phases: bool = False
    unmarks: bool = False
    faults: Budget = NO_FAULTS

    RULES: ClassVar = {
        "true_guard": (
            "(O0, an assumption) No check of the lease passes once the next term has begun."
        ),
        "guard_after": "(O1) The lease is checked after the write ahead, too.",
        "note_first": "(O2) The note is confirmed before anything is journaled.",
        "note_gone": "(O3) The note is removed before anything is opened in the log.",
        "note_doubt": "(O4) A note whose write was not answered may be there.",
        "doubt_written": (
            "(O23) Until another write is answered: a look at the Lease does not tell."
        ),
        "mark_first": "(O5) The mark is in the first journaled write.",
        "mark_whole": "(O6) So is all that its writer knows.",
        "mark_named": "(O7) A mark counts under the note that it names, and no other.",
        "trusts_marks": (
            "(O8) An object without a mark is not known to whoever cannot read its log."
        ),
        "born_later": (
            "(O9) An object of the note's own second, and of the margin, is not born after it."
        ),
        "own_later": (
            "(O24) An object of the second in which a term began, and of the margin, is not its "
            "own."
        ),
        "this_term": "(O10) A memory of an earlier term is not complete.",
        "compares": "(O11) A journaled write carries the resourceVersion that was read.",
        "one_flight": (
            "(O12) Nothing is opened in one place while an attempt of the other is on its way."
        ),
        "keeps_results": "(O13) A journaled attempt's result is kept, also when the log is back.",
        "reads_object": (
            "(O14) After a claim the object is read, and what it shows is given to the log."
        ),
        "claims_anew": "(O15) Who has written anything into the status alone claims the log anew.",
        "carries_on": "(O16) A new owner goes on with what was journaled.",
        "hands_over": "(O17) Who does not reach the log hands over to one that does.",
        "removes_note": "(O18) A note is removed when the log is back.",
        "results_journaled": "(O19) A result that the log cannot take is written into the status.",
        "results_shown": "(O21) The result of a journaled attempt is written where its intent is.",
        "note_kept": (
            "(O22) Each term renames who keeps the note; one that the last term did not keep is "
            "none."
        ),
        "stamp": "(O25) Nothing is opened in the log under a claim of another state of its server.",
        "probes": "(O26) A claim is made anew once its server is seen in another state.",
        "sees_object": (
            "(O20) What an owner sees in the object and does not know has it claim the log anew."
        ),
        "by_writes": "(O27) Who reaches the log is told by executed writes.",
        "heard_anew": (
            "(O28) Who reaches the log again takes its memory for complete only once it has read "
            "it."
        ),
        "told": "(O29) Nor does it after a wake-up.",
        "own_heard": (
            "(O30) In these cases an object's creation proves nothing either, if it has attempts."
        ),
        "marks_heard": "(O31) Nor does the name of a note from before.",
        "marks_assumed": "(O32) A Lease that is made anew says that there may be marks.",
    }


def start(o: Options) -> State:
    """The first replica owns the shard; nothing was claimed yet."""
    status = None if o.unborn else Status()
    return State(
        lease=1, holder=0, note=Note(), notes=0, replicas=(Replica(epoch=1), Replica()),
        log=Log(), previous=Log(), away=o.away, cut=(o.cut, False), api=True, status=status,
        created=not o.unborn, late=(), note_late=None, wire=(), sent=0, processed=0, certain=(), excused=(),
        lost=(), former=(), journaled=False, now=0, budget=o.faults,
    )  # fmt: skip


def steps(s: State, o: Options) -> Iterator[Step]:
    """Yield the transitions of a state."""
    for label, following, broken in _steps(s, o):
        yield label, following, (*broken, *_broken(s, following))


def _steps(s: State, o: Options) -> Iterator[Step]:
    yield from _takeover(s, o)
    for i in (0, 1):
        yield from _crash(s, o, i)
        yield from _cut(s, o, i)
    for part in (_tick, _lease, _late_write, _word, _outages, _api, _late_note, _object):
        yield from part(s, o)
    for i in (0, 1):
        yield from _ownerless(s, o, i)
        if s.replicas[i].epoch:
            yield from _term(s, o, i)
            if not _unlisted(s, o, i):
                for own in (_claim, _open, _journal, _publish):
                    yield from own(s, o, i)
        yield from _jobs(s, o, i)
    yield from _wire(s, o)


def _ownerless(s: State, o: Options, i: int) -> Iterator[Step]:
    r = s.replicas[i]
    if not r.up:
        yield f"{i} restarts", with_replica(s, i, up=True), ()
    elif not r.epoch and _vacant(s) and s.api and not _other_serves(s, o, i):
        yield f"{i} acquires", _acquired(s, o, i), ()


def _unlisted(s: State, o: Options, i: int) -> bool:
    """Whether the object is one of many finished ones, of which a new process reads none."""
    if not o.phases or s.marks is Marks.LEFT or s.replicas[i].memory:
        return False
    # A log that is open, or holds more, is not acknowledged to its end, which the sweep finds.
    held, status = s.log.attempts, s.status
    if status is None or has(held, I):
        return False
    return _ended(status.attempts, o) and leq(held, status.attempts)


def _jobs(s: State, o: Options, i: int) -> Iterator[Step]:
    for n in range(len(s.replicas[i].jobs)):
        yield from _job(s, o, i, n)


def _may_go(s: State, o: Options) -> bool:
    if not s.away or not s.api or s.status is None or s.holder == NOBODY:
        return False
    r = s.replicas[s.holder]
    if _is_old(o, s.holder) or not r.up or r.epoch != s.lease or _ended(_recorded(s), o):
        return False
    born = s.status.born - o.skew
    own = not _unheard(r) and (r.whole or born > r.since)
    return s.journaled or own or (r.note.name != 0 and born > r.note.since)


def _unheard(r: Replica) -> bool:
    """Whether others may have appended to the log what memory does not hold; that needs an attempt."""
    return r.heard is Heard.NOT_ALL and bool(r.memory)


def _is_unfinished(s: State, o: Options) -> bool:
    reached = any(r.up and _reach(s, i) for i, r in enumerate(s.replicas))
    return s.api and reached and s.status is not None and not is_goal(s, o)


#: What a fair behaviour keeps: what is pending in a state, and which steps end it.
PROMISES: Promises[State, Options] = {
    "GO": (_may_go, lambda _: False),
    "END": (_is_unfinished, lambda _: False),
}


def is_goal(s: State, o: Options) -> bool:
    """Whether all is done, shown and in the log."""
    status, log = s.status, s.log.attempts
    return (
        status is not None
        and _ended(join(log, status.attempts), o)
        and log == status.attempts
        and not (has(log, I) or ((status.mark or s.note.name) and not o.old))
        and not any(r.jobs for r in s.replicas)
    )


def marks(s: State, _: Options) -> dict[str, int]:
    """What has come about in a state, so that a run can be asked whether it has met it."""
    shown = s.status.attempts if s.status else ()
    owner = s.replicas[s.holder] if s.holder != NOBODY else Replica()
    return {
        "processed": s.processed,
        "journaled": s.journaled,
        "carried on": s.journaled and len({e[0][0] for e in shown}) > 1,
        "held": s.away
        and s.status is not None
        and owner.note.name > 0
        and not _knows(owner, s.status),
        "born in the outage": s.journaled and not s.log.fence,
        "ahead of the log": bool(shown) and not leq(shown, s.log.attempts),
        "repeated": bool(s.excused),
        "word not heard": bool(s.said),
    }


def _knows(r: Replica, status: Status) -> bool:
    later = status.born > min(r.since, r.note.since)
    return r.whole or status.mark == r.note.name or later


def _recorded(s: State) -> View:
    return join(s.log.attempts, s.status.attempts) if s.status else s.log.attempts


def _view(s: State, r: Replica) -> View:
    return join(r.memory, s.status.attempts) if s.status else r.memory


def _ended(known: View, o: Options) -> bool:
    return has(known, S) or (len(known) >= o.attempts and not has(known, I))


def _reach(s: State, i: int) -> bool:
    return not s.away and not s.cut[i]


def _able(s: State, o: Options, i: int) -> bool:
    """Whether a replica takes itself, and others take it, for one that reaches the log."""
    return _reach(s, i) or (o.reads and not o.by_writes)


def _other_serves(s: State, o: Options, i: int) -> bool:
    """Whether the other replica reaches the log, and this one does not."""
    return not _able(s, o, i) and s.replicas[1 - i].up and _able(s, o, 1 - i)


def _vacant(s: State) -> bool:
    """Whether the shard has no owner any more; a dead one's session has ended."""
    return s.holder == NOBODY or s.replicas[s.holder].epoch != s.lease


def _broken(s: State, t: State) -> tuple[str, ...]:
    """Properties of a step that writes log or status."""
    if t.status is s.status and t.log is s.log:
        return ()
    out = []
    if t.former and t.status and any(e[0] in t.former for e in t.status.attempts):
        out.append("UID")
    same = s.created is False or (s.status is None) == (t.status is None)
    if same and t.lost == s.lost and not leq(_recorded(s), _recorded(t)):
        out.append("LOST")
    return tuple(out)


# -- changes --------------------------------------------------------------------------------------


def _log_written(s: State, log: Log) -> State:
    if log == s.log:
        return s
    return s._replace(log=log, previous=s.log if s.budget.losses else s.previous)


def _status_written(s: State, status: Status) -> State:
    """What others have read, and what is on its way, is out of date."""
    if status == s.status:
        return s
    return s._replace(status=status, replicas=_stale(s), late=())


def _stale(s: State) -> tuple[Replica, ...]:
    return tuple(r._replace(read=r.read._replace(fresh=False)) if r.read else r for r in s.replicas)


def _settled(view: View) -> View:
    return tuple(e for e in view if e[2] is not I)


def _job_set(s: State, i: int, n: int, job: Job | None) -> State:
    jobs = s.replicas[i].jobs
    new = () if job is None else (job,)
    return with_replica(s, i, jobs=(*jobs[:n], *new, *jobs[n + 1 :]))


def _acquired(s: State, o: Options, i: int) -> State:
    r, epoch, note = s.replicas[i], s.lease + 1, s.note
    if not _is_old(o, i):
        kept = note.name and (note.kept == s.lease or not o.note_kept)
        note = note._replace(kept=epoch) if kept else Note()
    term = r._replace(
        epoch=epoch, begun=0, whole=r.whole and not o.this_term, since=s.now, claim=0,
        note=Note() if _is_old(o, i) else note, unsure=False, read=None,
        heard=Heard.LOST if o.faults.words else r.heard,
    )  # fmt: skip
    replicas = (*s.replicas[:i], term, *s.replicas[i + 1 :])
    marks = s.marks
    if marks is Marks.ABSENT:
        marks = Marks.LEFT if o.marks_assumed else Marks.NONE
    return s._replace(
        lease=epoch, holder=i, note=note, note_late=None, replicas=replicas, marks=marks
    )


def _is_old(o: Options, i: int) -> bool:
    return o.old and i == 1


def _over(s: State, i: int) -> State:
    return with_replica(s, i, epoch=0, claim=0, note=Note(), unsure=False, read=None)


# -- faults and the object ------------------------------------------------------------------------


def _takeover(s: State, o: Options) -> Iterator[Step]:
    other = 1 - s.holder
    if not s.budget.takeovers or not s.api or s.holder == NOBODY:
        return
    if s.replicas[other].up and not _vacant(s):
        yield f"fault: {other} takes over", spend(_acquired(s, o, other), "takeovers"), ()


def _crash(s: State, _: Options, i: int) -> Iterator[Step]:
    if s.budget.crashes and s.replicas[i].epoch:
        dead = Replica(up=False)
        replicas = (*s.replicas[:i], dead, *s.replicas[i + 1 :])
        yield f"fault: {i} crashes", spend(s._replace(replicas=replicas), "crashes"), ()


def _cut(s: State, o: Options, i: int) -> Iterator[Step]:
    if s.cut[i]:
        yield f"end of fault: {i} reaches the log", _connected(s, i, cut=False), ()
    elif s.budget.cuts and not s.away:
        unheard = _unsubscribed(s, i) if o.faults.words else s
        yield f"fault: {i} is cut off", spend(_connected(unheard, i, cut=True), "cuts"), ()


def _lease(s: State, _: Options) -> Iterator[Step]:
    """Somebody deletes the shard's Lease, and with it what it said."""
    if s.budget.leases and s.api and s.holder != NOBODY:
        gone = s._replace(holder=NOBODY, note=Note(), note_late=None, marks=Marks.ABSENT)
        yield "fault: the Lease is deleted by hand", spend(gone, "leases"), ()


def _unsubscribed(s: State, i: int) -> State:
    return with_replica(s, i, heard=Heard.LOST) if s.replicas[i].heard is Heard.ALL else s


def _word(s: State, o: Options) -> Iterator[Step]:
    """An operator, who reaches the log, says that an attempt was delivered, and wakes the owner up."""
    if not s.budget.words or s.away:
        return
    for e in s.log.attempts:
        if e[2] is U:
            log = s.log._replace(attempts=join(s.log.attempts, ((e[0], e[1], S),)))
            said = _log_written(spend(s, "words"), log)
            i = s.holder
            if i != NOBODY and s.replicas[i].heard is not Heard.LOST and _reach(s, i):
                known = tuple(sorted({*s.certain, e[0]}))
                heard = Heard.NOT_ALL if o.told else s.replicas[i].heard
                said = with_replica(said._replace(certain=known), i, heard=heard)
            else:
                said = said._replace(said=tuple(sorted({*s.said, e[0]})))
            yield f"fault: an operator calls {e[0][0]}-{e[0][1]} delivered", said, ()


def _tick(s: State, _: Options) -> Iterator[Step]:
    if s.budget.ticks:
        yield "fault: a second passes", spend(s._replace(now=s.now + 1), "ticks"), ()


def _late_write(s: State, _: Options) -> Iterator[Step]:
    for n, late in enumerate(s.late):
        rest = s._replace(late=(*s.late[:n], *s.late[n + 1 :]))
        if s.status is not None and s.api:
            landed = s.status._replace(attempts=late.attempts, mark=late.mark)
            yield "late: a journaled write lands", _status_written(rest, landed), ()
        yield "late: a journaled write is lost", rest, ()


def _late_note(s: State, _: Options) -> Iterator[Step]:
    if s.note_late is not None and s.api:
        landed = s._replace(note=s.note_late, note_late=None)
        yield "late: a note lands", landed, ()
        yield "late: a note is lost", s._replace(note_late=None), ()


def _outages(s: State, o: Options) -> Iterator[Step]:
    b = s.budget
    if s.away:
        yield "end of fault: the log is back", s._replace(away=False, journaled=False), ()
        if b.losses and s.previous != s.log:
            yield "fault: the log falls back", spend(_log_lost(s, s.previous), "losses"), ()
        if b.flushes and s.log != Log():
            yield "fault: the log is another, empty one", spend(_log_lost(s, Log()), "flushes"), ()
    elif b.outages:
        gone = spend(s._replace(away=True), "outages")
        if o.faults.words:
            gone = _unsubscribed(_unsubscribed(gone, 0), 1)
        yield "fault: the log goes away", gone, ()


def _api(s: State, _: Options) -> Iterator[Step]:
    if not s.api:
        yield "end of fault: the API server answers", s._replace(api=True), ()
    elif s.budget.apis:
        yield "fault: the API server is away", spend(s._replace(api=False), "apis"), ()


def _connected(s: State, i: int, *, cut: bool) -> State:
    journaled = s.journaled and cut
    return s._replace(cut=(*s.cut[:i], cut, *s.cut[i + 1 :]), journaled=journaled)


def _log_lost(s: State, log: Log) -> State:
    """It comes back as it was, or as another one, which a claim does not tell before it is used."""
    replicas = tuple(r._replace(stale=r.claim > 0) for r in s.replicas)
    fallen = s._replace(log=log, previous=log, replicas=replicas)
    known = {e[0]: e[2] for e in _recorded(fallen)}
    less = {e[0] for e in _recorded(s) if known.get(e[0], -1) < e[2]}
    return fallen._replace(lost=tuple(sorted(less.union(s.lost))))


def _object(s: State, o: Options) -> Iterator[Step]:
    b = s.budget
    if not s.created:
        for ahead in range(o.skew + 1):
            born = Status(born=s.now + ahead)
            yield "the object is created", s._replace(status=born, created=True), ()
    if s.status is not None and b.deletes:
        gone = spend(s._replace(status=None, late=(), journaled=False), "deletes")
        yield "fault: the object is deleted", gone._replace(replicas=_stale(gone)), ()
    if s.status is None and s.created and b.again:
        yield "fault: an object of its name is created", spend(_again(s), "again"), ()


def _again(s: State) -> State:
    """Another uid: another log, nothing known; what is on its way is of the former one."""
    former = {j.attempt for r in s.replicas for j in r.jobs}
    replicas = tuple(
        r._replace(memory=(), whole=False, claim=0, read=r.read and r.read._replace(former=True))
        for r in s.replicas
    )
    return s._replace(
        status=Status(born=s.now), log=Log(), previous=Log(), replicas=replicas, sent=0,
        processed=0, certain=(), excused=(), lost=(), former=tuple(sorted(former)), wire=(),
    )  # fmt: skip


# -- a term, its note and its claim ---------------------------------------------------------------


def _term(s: State, o: Options, i: int) -> Iterator[Step]:
    r = s.replicas[i]
    if r.epoch != s.lease or s.holder != i:
        if s.api:
            yield f"{i} sees that its term is over", _over(s, i), ()
        return
    if r.heard is Heard.LOST and _reach(s, i):
        yield f"{i} notices that it reaches the log", _noticed(s, o, i), ()
        return
    if not s.api:
        return
    if o.hands_over and not r.jobs and _other_serves(s, o, i):
        yield f"{i} hands over", _over(s, i)._replace(holder=NOBODY), ()
    if r.unsure and not o.doubt_written:
        yield f"{i} reads the Lease", with_replica(s, i, note=s.note, unsure=False), ()
        return
    if not _is_old(o, i):
        yield from _note(s, o, i)


def _note(s: State, o: Options, i: int) -> Iterator[Step]:
    r = s.replicas[i]
    if _able(s, o, i):
        if (r.note.name or r.unsure) and o.removes_note:
            removed = s._replace(note=Note(), note_late=None)
            yield f"{i} removes the note", with_replica(removed, i, note=Note(), unsure=False), ()
    elif not r.note.name and not _ended(_view(s, r), o):
        note = Note(_name(s, r), s.now, r.epoch)
        marks = Marks.LEFT if o.phases else s.marks
        written = s._replace(note=note, notes=s.notes + 1, note_late=None, marks=marks)
        yield f"{i} writes the note", with_replica(written, i, note=note, unsure=False), ()
        if s.budget.replies:
            doubt = with_replica(written, i, unsure=o.note_doubt)
            yield f"fault: {i} writes the note, answer lost", spend(doubt, "replies"), ()
        if s.budget.late_notes:
            late = with_replica(
                s._replace(notes=s.notes + 1, note_late=note), i, unsure=o.note_doubt
            )
            yield f"fault: {i} writes the note late", spend(late, "late_notes"), ()


def _noticed(s: State, o: Options, i: int) -> State:
    """From now on the note is in doubt; a write of it was begun."""
    r = s.replicas[i]
    old = (r.note.name or r.unsure) and o.marks_heard
    said = s._replace(certain=tuple(sorted({*s.certain, *s.said})), said=(), journaled=False)
    return with_replica(
        said, i, heard=Heard.NOT_ALL if o.heard_anew else Heard.ALL,
        note=Note() if old else r.note, unsure=r.unsure or bool(old),
    )  # fmt: skip


def _name(s: State, r: Replica) -> int:
    """Made of the epoch, so that nobody else has chosen it, and never chosen before."""
    return 10 * r.epoch + s.notes + 1


def _claim(s: State, o: Options, i: int) -> Iterator[Step]:
    r, log = s.replicas[i], s.log
    if not _reach(s, i) or r.heard is Heard.LOST or (o.note_gone and (r.note.name or r.unsure)):
        return
    if r.claim and r.stale and o.probes:
        yield f"{i} finds another server", with_replica(s, i, claim=0), ()
    if r.claim and log.fence > r.epoch:
        yield f"{i} is fenced", _over(s, i), ()
    elif r.claim and log.fence != r.epoch:
        yield f"{i} must claim anew", with_replica(s, i, claim=0), ()
    elif r.claim == 0:
        if log.fence > r.epoch:
            yield f"{i} is fenced", _over(s, i), ()
            return
        known = _recovered(join(log.attempts, r.memory), r)
        claimed = _log_written(s, Log(r.epoch, known))
        claim = 1 if o.reads_object else 2
        yield (
            f"{i} claims",
            with_replica(
                claimed, i, memory=known, whole=True, claim=claim, stale=False, heard=Heard.ALL
            ),
            (),
        )
    elif r.claim == 1 and s.api:
        shown = s.status.attempts if s.status else ()
        known = join(log.attempts, shown)
        seeded = _log_written(s, log._replace(attempts=known))
        yield (
            f"{i} reads the object",
            with_replica(seeded, i, memory=join(r.memory, known), claim=2),
            (),
        )
    elif r.claim == 2:
        known = _recovered(log.attempts, r)
        memory = join(r.memory, known)
        written = _log_written(s, log._replace(attempts=known))
        swept = with_replica(written, i, memory=memory, heard=Heard.ALL)
        if swept != s:
            yield f"{i} sweeps", swept, ()
        if o.sees_object and s.api and s.status and not leq(s.status.attempts, r.memory):
            yield f"{i} sees more in the object", with_replica(s, i, claim=0), ()


def _recovered(view: View, r: Replica) -> View:
    """What is open and not executed here becomes unknown."""
    mine = {j.attempt for j in r.jobs}
    return tuple((e[0], e[1], U) if e[2] is I and e[0] not in mine else e for e in view)


# -- opening --------------------------------------------------------------------------------------


def _excuses(s: State, o: Options, i: int, new: Id) -> tuple[Id, ...]:
    """What stands as unknown, and is not in the opener's hands, explains a repeat."""
    if o.true_guard and s.replicas[i].epoch != s.lease:
        return s.excused  # Nothing is sent.
    mine = {new, *(j.attempt for j in s.replicas[i].jobs)}
    shown = s.status.attempts if s.status else ()
    unknown = {e[0] for e in (*s.log.attempts, *shown) if e[2] is U and e[0] not in mine}
    return tuple(sorted(unknown.union(s.excused)))


def _after_success(s: State, here: View, elsewhere: View, known: View) -> tuple[str, ...]:
    doubted = {e[0] for e in known if e[2] is U and e[0] not in s.certain}
    late = any(e[2] is S and e[0] not in doubted and e[0] not in s.lost for e in elsewhere)
    return ("S7",) if has(here, S) or late else ()


def _open(s: State, o: Options, i: int) -> Iterator[Step]:
    r, held = s.replicas[i], s.log.attempts
    if r.claim != 2 or not _reach(s, i) or s.status is None or s.log.fence != r.epoch:
        return
    if o.note_gone and (r.note.name or r.unsure):
        return
    if o.unmarks and s.status.mark:
        return
    if (r.jobs and (o.one_flight or len(r.jobs) > 1)) or any(not j.journaled for j in r.jobs):
        return
    if has(held, S) or has(held, I) or has(r.memory, S) or len(held) >= o.attempts:
        return
    if r.stale and o.stamp:
        yield f"{i} opens in the log: another server", with_replica(s, i, claim=0), ()
        return
    new = (r.epoch, r.begun + 1)
    known = join(held, ((new, r.epoch, I),))
    shown = s.status.attempts if r.epoch == s.lease else ()
    broken = _after_success(s, held, shown, r.memory)
    opened = _log_written(s, s.log._replace(attempts=known))._replace(
        excused=_excuses(s, o, i, new), journaled=False
    )
    jobs = (*r.jobs, Job(new, journaled=False))
    memory = join(r.memory, known)
    yield (
        f"{i} opens in the log",
        with_replica(opened, i, begun=r.begun + 1, jobs=jobs, memory=memory),
        broken,
    )
    if s.budget.replies:
        unsent = (*r.jobs, Job(new, journaled=False, pc=Pc.KNOWN, result=F))
        lost = with_replica(opened, i, begun=r.begun + 1, jobs=unsent)
        yield f"fault: {i} opens in the log, answer lost", spend(lost, "replies"), broken


def _complete(s: State, o: Options, r: Replica, status: Status) -> bool:
    """Whether all that was ever recorded is known without reading the log."""
    own_after = r.since + (o.margin if o.own_later else 0)
    own = status.born >= own_after and not (o.own_heard and _unheard(r))
    if (r.whole and not _unheard(r)) or own or not o.trusts_marks:
        return True
    if not o.carries_on:
        return False
    if status.mark and (status.mark == r.note.name or not o.mark_named):
        return True
    after = r.note.since + (o.margin if o.born_later else 0)
    return r.note.name != 0 and status.born >= after


def _journal(s: State, o: Options, i: int) -> Iterator[Step]:
    r = s.replicas[i]
    if not s.api or _able(s, o, i) or _is_old(o, i):
        return
    if r.jobs and (o.one_flight or len(r.jobs) > 1 or any(j.journaled for j in r.jobs)):
        return
    if r.read is None:
        if s.status is None or (o.note_first and (not r.note.name or r.unsure)):
            return
        if not o.guard_after and r.epoch != s.lease:
            return
        if _may_journal(s, o, r, s.status):
            yield f"{i} reads to journal", with_replica(s, i, read=Read(s.status)), ()
        return
    read = r.read
    if not read.fresh and o.compares:
        yield f"{i} meets a conflict", with_replica(s, i, read=None), ()
        return
    if s.status is None:
        yield f"{i} finds the object gone", with_replica(s, i, read=None), ()
        return
    unnoted = o.note_first and (not r.note.name or r.unsure)
    if not read.former and (unnoted or not _may_journal(s, o, r, read.status)):
        yield f"{i} decides otherwise", with_replica(s, i, read=None), ()
        return
    yield from _written_ahead(s, o, i, read.status)


def _may_journal(s: State, o: Options, r: Replica, status: Status) -> bool:
    known = join(r.memory, status.attempts)
    if not _complete(s, o, r, status):
        return False
    return not has(known, S) and len(known) < o.attempts


def _written_ahead(s: State, o: Options, i: int, read: Status) -> Iterator[Step]:
    r = s.replicas[i]
    new = (r.epoch, r.begun + 1)
    entry = ((new, r.epoch, U),)
    facts = tuple((e[0], e[1], max(e[2], U)) for e in r.memory) if o.mark_whole else ()
    attempts = join(join(read.attempts, facts), entry)
    name = r.note.name if o.note_first else (r.note.name or _name(s, r))
    mark = name if o.mark_first else read.mark
    known = join(r.memory, read.attempts)
    mine = s.lease == r.epoch
    broken = _after_success(s, read.attempts, s.log.attempts, known) if mine else ()
    if r.read is not None and r.read.former:
        broken = ("UID",)
    changes: dict[str, Any] = {
        "begun": r.begun + 1,
        "read": None,
        "memory": join(r.memory, entry),
        "claim": 0 if o.claims_anew else r.claim,
    }
    pc = Pc.OPENED if o.guard_after else Pc.PERMITTED
    status = (s.status or Status())._replace(attempts=attempts, mark=mark)
    written = _status_written(s, status)._replace(journaled=s.journaled or mine)
    written = written._replace(excused=_excuses(written, o, i, new))
    jobs = (*r.jobs, Job(new, journaled=True, pc=pc))
    yield f"{i} journals", with_replica(written, i, **changes, jobs=jobs), broken
    if s.budget.lates:
        unsent = (*r.jobs, Job(new, journaled=True, pc=Pc.KNOWN, result=F))
        late = s._replace(late=(*s.late, Late(attempts, mark)))
        gave_up = with_replica(late, i, **changes, jobs=unsent)
        yield f"fault: {i} journals late", spend(gave_up, "lates"), ()


# -- attempts, requests, results ------------------------------------------------------------------


def _job(s: State, o: Options, i: int, n: int) -> Iterator[Step]:
    job = s.replicas[i].jobs[n]
    match job.pc:
        case Pc.OPENED:
            if job.attempt[0] == s.lease or not o.true_guard:
                yield f"{i} may send", _job_set(s, i, n, job._replace(pc=Pc.PERMITTED)), ()
            else:
                known = job._replace(pc=Pc.KNOWN, result=F)
                yield f"{i} may not send", _job_set(s, i, n, known), ()
        case Pc.PERMITTED:
            if job.attempt in s.former:
                yield f"{i} sends for what is gone", _job_set(s, i, n, None), ()
                return
            sent = _job_set(s, i, n, job._replace(pc=Pc.WAITING))
            sent = sent._replace(wire=tuple(sorted((*s.wire, job.attempt))), sent=s.sent + 1)
            broken = ("S12",) if sent.sent > o.attempts + len(s.lost) else ()
            yield f"{i} sends", sent, broken
        case Pc.WAITING:
            yield f"{i} times out", _job_set(s, i, n, job._replace(pc=Pc.KNOWN)), ()
        case Pc.KNOWN:
            yield from _result(s, o, i, n, job)


def _result(s: State, o: Options, i: int, n: int, job: Job) -> Iterator[Step]:
    r = s.replicas[i]
    done = _job_set(s, i, n, None)
    if job.attempt in s.former:
        yield f"{i} records for what is gone", done, ()
        return
    entry = ((job.attempt, job.attempt[0], job.result),)
    memory = join(r.memory, entry)
    if job.result is S and r.epoch == s.lease == job.attempt[0]:
        done = done._replace(certain=tuple(sorted({*s.certain, job.attempt})))
    if job.journaled and _reach(s, i) and not o.keeps_results:
        yield f"{i} drops its result", done, ("RK",)
    elif _reach(s, i) and (
        s.status is None or not (job.journaled and o.results_shown) or (o.phases and s.holder != i)
    ):
        log = s.log._replace(attempts=join(s.log.attempts, entry))
        yield (
            f"{i} records: in the log",
            with_replica(_log_written(done, log), i, memory=memory),
            (),
        )
    elif o.phases and s.holder != i:
        return
    elif s.api and s.status is not None and (job.journaled or o.results_journaled):
        status = s.status._replace(attempts=join(s.status.attempts, entry))
        claim = 0 if o.claims_anew else r.claim
        written = with_replica(_status_written(done, status), i, memory=memory, claim=claim)
        yield f"{i} records: in the status", written, ()


def _wire(s: State, o: Options) -> Iterator[Step]:
    for n, request in enumerate(s.wire):
        rest = s._replace(wire=(*s.wire[:n], *s.wire[n + 1 :]))
        acted = rest._replace(processed=s.processed + 1)
        broken = _repeated(acted)
        name = f"request {request[0]}-{request[1]}"
        for i, r in enumerate(s.replicas):
            for k, job in enumerate(r.jobs):
                if job.attempt == request and job.pc is Pc.WAITING:
                    known = job._replace(pc=Pc.KNOWN, result=S)
                    yield f"{name}: processed", _job_set(acted, i, k, known), broken
                    known = job._replace(pc=Pc.KNOWN, result=F)
                    if not o.lean:
                        yield f"{name}: refused", _job_set(rest, i, k, known), ()
        yield f"{name}: processed, reply lost", acted, broken
        if not o.lean:
            yield f"{name}: lost", rest, ()


def _repeated(s: State) -> tuple[str, ...]:
    if s.processed < 2:
        return ()
    return ("B1",) if s.processed > 1 + len({*s.excused, *s.lost}) else ()


def _publish(s: State, o: Options, i: int) -> Iterator[Step]:
    """The ordinary status write: what is settled in memory is shown, an old mark taken away."""
    r = s.replicas[i]
    if not s.api or s.status is None:
        return
    shown = join(s.status.attempts, _settled(r.memory))
    idle = r.claim == 2 and not (r.note.name or r.unsure or _is_old(o, i))
    status = s.status._replace(attempts=shown, mark=0 if idle else s.status.mark)
    if status != s.status:
        yield f"{i} publishes", _status_written(s, status), ()
    elif idle and s.marks is Marks.LEFT and (r.epoch, i) == (s.lease, s.holder) and not r.jobs:
        yield f"{i} clears what the Lease says of marks", s._replace(marks=Marks.NONE), ()
