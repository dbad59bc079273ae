"""
The first model: one notification, one channel, two workers, one log, one status.

The log is a set of attempts here, not yet a list of records: this model asks whether the *rules*
of claiming, opening, recording, publishing and expiring fit together, with nothing in between
two steps but the faults. The second model (`protocol.py`) asks whether the *scripts* keep these
rules.

Everything is asynchronous: any transition that is enabled may be next, so no result rests on
timing (unless `grace` is on). Faults are transitions with budgets. Each rule of the protocol is
one option whose default is the rule as built; a mutant changes one option.

A set of attempts is a sorted tuple with at most one entry per id, so that equal sets are equal
states. There are few of them and many states, so what is asked of sets is worked out once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import NamedTuple

from tests.model.search import replaced

#: (epoch, number within the epoch)
Id = tuple[int, int]
NO_ID: Id = (0, 0)


class Result(IntEnum):
    """State of an attempt; a join takes the larger."""

    INTENT = 0
    UNKNOWN = 1
    FAILED = 2
    SUCCESS = 3


I, U, F, S = Result  # noqa: E741 - the letters of the lattice

#: (id, epoch, state)
Attempt = tuple[Id, int, Result]
View = tuple[Attempt, ...]


class Pc(IntEnum):
    """Where a worker stands in the life of one attempt."""

    IDLE = 0
    CLAIMED = 1
    OPENED = 2
    WAITING = 3
    KNOWN = 4


class Pending(NamedTuple):
    """A status write under way: `read` and `merged` before the patch, `merged` alone after it."""

    read: View | None
    merged: View


@replaced
class Worker(NamedTuple):
    """
    One process; epoch 0 means not leading.

    `seen` is the status it read at its claim, `base` what it knows of the log, kept where that is compared.
    """

    epoch: int
    pc: Pc = Pc.IDLE
    attempt: Id = NO_ID
    result: Result = I
    seen: View = ()
    base: View = ()
    pending: Pending | None = None


@replaced
class Log(NamedTuple):
    """What Redis holds."""

    fence: int = 0
    attempts: View = ()


@replaced
class State(NamedTuple):
    """The whole system; faults left are `takeovers`, `crashes`, `losses`."""

    lease: int
    holder: int
    workers: tuple[Worker, ...]
    log: Log
    previous: Log
    status: View
    acked: View
    wire: tuple[Id, ...]
    delivered: tuple[Id, ...]
    issued: tuple[Id, ...]
    takeovers: int
    crashes: int
    losses: int
    late: int


#: A transition: what happened, the next state, the properties that it broke.
Step = tuple[str, State, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Options:
    """
    Budgets, assumptions and rules; the default of every rule is the safe value.

    Attributes:
        takeovers: How often the other worker takes the lease.
        crashes: How often a worker dies.
        losses: How often the log falls back by its last write.
        attempts: The most attempts that may be opened.
        grace: Assume that lease timing holds: nobody sends under an old lease.
        at_most_once: Stop at an attempt whose result is unknown.
        stepwise: The status is synced in steps (read, patch, ack) instead of in one.
        own_recovery: A claim settles open attempts of every epoch, its own included.
        fence: An intent needs the fence of its own claim.
        fence_outcomes: Outcomes need it as well.
        ids_from_memory: Numbers come from a counter in memory, not from the length of the log.
        ack_after_patch: What is acknowledged has been published.
        guard: No intent after a success that is recorded.
        write_ahead: The intent is recorded before the send.
        compare_version: A patch names the version that was read.
        unite: A status write joins what is there with what is new.
        fresh_view: A claim reads the status itself, not what its process remembers.
        reclaim_on_failover: Losing the log makes every claim stale: its server has another stamp.
        proof: What a claim knows of the log is compared with the log: it does not replace the rule before.
        recover: Dangling intents are settled.
        dangling_blocks: An open intent keeps the next one from being opened.
        exact_fence: The fence must be equal, not merely not higher.
        seed: A claim gives the log what the status shows.
    """

    takeovers: int = 1
    crashes: int = 1
    losses: int = 0
    attempts: int = 2
    grace: bool = False
    at_most_once: bool = False
    stepwise: bool = False
    own_recovery: bool = False
    fence: bool = True
    fence_outcomes: bool = False
    ids_from_memory: bool = True
    ack_after_patch: bool = True
    guard: bool = True
    write_ahead: bool = True
    compare_version: bool = True
    unite: bool = True
    fresh_view: bool = True
    reclaim_on_failover: bool = True
    proof: bool = False
    recover: bool = True
    dangling_blocks: bool = True
    exact_fence: bool = True
    seed: bool = True


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


def start(o: Options) -> State:
    """One worker leads in epoch 1; nothing has happened."""
    workers = (Worker(1), Worker(0))
    budgets = (o.takeovers, o.crashes, o.losses)
    return State(1, 0, workers, Log(), Log(), (), (), (), (), (), *budgets, 0)


def steps(s: State, o: Options) -> Iterator[Step]:
    """Every transition that may be next."""
    yield from _lease_and_faults(s, o)
    for i in range(len(s.workers)):
        yield from _deliver(s, o, i)
        yield from _sync(s, o, i) if o.stepwise else _sync_at_once(s, o, i)
    yield from _wire(s, o)


def recorded(s: State) -> View:
    """What log and status know together."""
    return join(s.log.attempts, s.status)


def is_goal(s: State, o: Options) -> bool:
    """Whether the work is done and published: liveness asks that this stays reachable."""
    known = recorded(s)
    ended = has(known, S) or len(s.issued) >= o.attempts or (o.at_most_once and has(known, U))
    settled = not s.wire and not has(known, I) and leq(s.log.attempts, s.status)
    return ended and settled and bool(known)


def measures(s: State, _: Options) -> dict[str, int]:
    """Numbers whose largest value is part of a result."""
    return {"processed": len(s.delivered), "late": s.late}


# -- changes --------------------------------------------------------------------------------------


def _with(s: State, i: int, worker: Worker) -> tuple[Worker, ...]:
    return (*s.workers[:i], worker, *s.workers[i + 1 :])


def _write(s: State, log: Log) -> State:
    """Change the log; the old one is kept for as long as it may come back."""
    if log == s.log:
        return s
    return s._replace(log=log, previous=s.log if s.losses else s.previous)


def _broken(s: State, o: Options) -> tuple[str, ...]:
    """The properties of a single state that do not hold."""
    if o.losses:
        return _repeated(s.delivered)
    unequal = _unequal(recorded(s), s.delivered, len(s.issued) if o.write_ahead else None)
    unpublished = () if leq(s.acked, s.status) else ("acknowledged but not published",)
    return (*unequal, *unpublished, *_repeated(s.delivered))


@cache
def _unequal(recorded: View, delivered: tuple[Id, ...], issued: int | None) -> tuple[str, ...]:
    out = []
    known = {e[0] for e in recorded}
    if not known.issuperset(delivered):
        out.append("delivered without a record")
    if issued is not None and len(known) != issued:
        out.append("one record per attempt")
    return tuple(out)


def _repeated(delivered: tuple[Id, ...]) -> tuple[str, ...]:
    return ("sent twice",) if len(set(delivered)) != len(delivered) else ()


def _to(label: str, s: State, o: Options, *broken: str) -> Step:
    return label, s, (*broken, *_broken(s, o))


# -- lease and faults -----------------------------------------------------------------------------


def _lease_and_faults(s: State, o: Options) -> Iterator[Step]:
    if s.takeovers:
        other = 1 - s.holder
        worker = Worker(s.lease + 1, pending=s.workers[other].pending)
        yield _to(
            f"takeover by {other}",
            s._replace(
                lease=s.lease + 1,
                holder=other,
                workers=_with(s, other, worker),
                takeovers=s.takeovers - 1,
            ),
            o,
        )
    for i, w in enumerate(s.workers):
        if s.crashes and w.epoch:
            yield _to(
                f"crash of {i}",
                s._replace(workers=_with(s, i, Worker(0)), crashes=s.crashes - 1),
                o,
            )
        if not w.epoch and s.holder == i and s.lease < 4:
            worker = Worker(s.lease + 1, pending=w.pending)
            yield _to(
                f"{i} acquires again", s._replace(lease=s.lease + 1, workers=_with(s, i, worker)), o
            )
        if w.epoch and s.holder != i and w.pc in (Pc.IDLE, Pc.CLAIMED):
            yield _to(
                f"{i} steps down",
                s._replace(workers=_with(s, i, Worker(0, pending=w.pending))),
                o,
            )
    if s.losses and s.previous != s.log:
        workers = s.workers
        if o.reclaim_on_failover:
            workers = tuple(_idle(w) if w.pc is Pc.CLAIMED else w for w in workers)
        lost = s._replace(log=s.previous, workers=workers, losses=s.losses - 1)
        yield _to("log loses its last write", lost, o)
    held = s.log.attempts
    if held and has(held, S) and not has(held, I) and leq(held, s.acked):
        yield _to("log expires", _write(s, Log()), o)


def _idle(w: Worker, epoch: int | None = None) -> Worker:
    return Worker(w.epoch if epoch is None else epoch, pending=w.pending)


# -- delivery -------------------------------------------------------------------------------------


def _deliver(s: State, o: Options, i: int) -> Iterator[Step]:
    w = s.workers[i]
    match w.pc:
        case Pc.IDLE if w.epoch:
            yield _claim(s, o, i)
        case Pc.CLAIMED:
            yield from _claimed(s, o, i)
        case Pc.OPENED:
            yield from _opened(s, o, i)
        case Pc.WAITING:
            if not (o.grace and w.attempt in s.wire):
                worker = w._replace(pc=Pc.KNOWN, result=U)
                yield _to(f"{i} times out", s._replace(workers=_with(s, i, worker)), o)
        case Pc.KNOWN:
            entry = (w.attempt, w.attempt[0], w.result)
            log = s.log._replace(attempts=join(s.log.attempts, (entry,)))
            if o.fence_outcomes and w.epoch < s.log.fence:
                workers = _with(s, i, _idle(w, 0))
                yield _to(f"{i} is fenced", s._replace(workers=workers), o)
                return
            workers = _with(s, i, _idle(w))
            label = f"{i} records {w.result.name.lower()}"
            yield _to(
                label,
                _write(s, log)._replace(workers=workers),
                o,
            )


def _claim(s: State, o: Options, i: int) -> Step:
    w = s.workers[i]
    if o.fence and w.epoch < s.log.fence:
        return _to(f"{i} is fenced", s._replace(workers=_with(s, i, _idle(w, 0))), o)
    seen = s.status if o.fresh_view else ()
    attempts = join(s.log.attempts, seen) if o.seed else s.log.attempts
    log = Log(max(s.log.fence, w.epoch), attempts)
    worker = w._replace(pc=Pc.CLAIMED, seen=seen, base=attempts if o.proof else ())
    return _to(
        f"{i} claims",
        _write(s, log)._replace(workers=_with(s, i, worker)),
        o,
    )


def _claimed(s: State, o: Options, i: int) -> Iterator[Step]:
    w, held = s.workers[i], s.log.attempts
    if o.fence and w.epoch < s.log.fence:
        yield _to(f"{i} is fenced", s._replace(workers=_with(s, i, _idle(w, 0))), o)
        return
    if (o.fence and o.exact_fence and w.epoch != s.log.fence) or not leq(w.base, held):
        yield _to(f"{i} must claim again", s._replace(workers=_with(s, i, _idle(w))), o)
        return
    dangling = [e for e in held if e[2] is I and (e[1] < w.epoch or o.own_recovery)]
    if dangling and o.recover and not (o.grace and _may_arrive(s, dangling)):
        settled = tuple((e[0], e[1], U) for e in dangling)
        log = s.log._replace(attempts=join(held, settled))
        marked = _write(s, log)
        if o.proof:
            marked = marked._replace(workers=_with(s, i, w._replace(base=log.attempts)))
        yield _to(f"{i} marks dangling intents", marked, o)
    yield from _open(s, o, i)


def _may_arrive(s: State, dangling: list[Attempt]) -> bool:
    ids = {e[0] for e in dangling}
    return bool(ids & set(s.wire)) or any(
        w.attempt in ids and w.pc in (Pc.OPENED, Pc.WAITING) for w in s.workers
    )


def _open(s: State, o: Options, i: int) -> Iterator[Step]:
    w, held = s.workers[i], s.log.attempts
    if len(s.issued) >= o.attempts:
        return
    if o.guard and (has(held, S) or has(w.seen, S)):
        return
    if o.dangling_blocks and has(held, I):
        return
    if o.at_most_once and has(held, U):
        return
    if o.ids_from_memory:
        new = (w.epoch, 1 + sum(e == w.epoch for e, _ in s.issued))
    else:
        new = (0, len(held) + 1)
    broken = []
    if new in s.issued:
        broken.append("id reused")
    if has(held, S) or has(s.status, S):
        broken.append("intent after a recorded success")
    if has(held, I):
        broken.append("two open intents")
    log = s.log
    if o.write_ahead:
        log = log._replace(attempts=join(held, ((new, w.epoch, I),)))
    worker = w._replace(pc=Pc.OPENED, attempt=new, seen=(), base=())
    yield _to(
        f"{i} opens {new[0]}-{new[1]}",
        _write(s, log)._replace(
            workers=_with(s, i, worker),
            issued=(*s.issued, new),
        ),
        o,
        *broken,
    )


def _opened(s: State, o: Options, i: int) -> Iterator[Step]:
    w = s.workers[i]
    if not o.grace or w.epoch == s.lease:
        worker = w._replace(pc=Pc.WAITING)
        yield _to(
            f"{i} sends", s._replace(workers=_with(s, i, worker), wire=(*s.wire, w.attempt)), o
        )
    worker = w._replace(pc=Pc.KNOWN, result=F)
    yield _to(f"{i} abandons", s._replace(workers=_with(s, i, worker)), o)


def _wire(s: State, o: Options) -> Iterator[Step]:
    for request in s.wire:
        rest = s._replace(wire=tuple(r for r in s.wire if r != request))
        processed = rest._replace(
            delivered=(*s.delivered, request),
            late=s.late + (has(s.log.attempts, S) or has(s.status, S)),
        )
        name = f"{request[0]}-{request[1]}"
        for i, w in enumerate(s.workers):
            if w.attempt == request and w.pc is Pc.WAITING:
                known = _with(s, i, w._replace(pc=Pc.KNOWN, result=S))
                yield _to(f"{name} processed, reply read", processed._replace(workers=known), o)
                known = _with(s, i, w._replace(pc=Pc.KNOWN, result=F))
                yield _to(f"{name} refused", rest._replace(workers=known), o)
        yield _to(f"{name} processed, reply lost", processed, o)
        yield _to(f"{name} lost", rest, o)


# -- status sync ----------------------------------------------------------------------------------


def _sync_at_once(s: State, o: Options, i: int) -> Iterator[Step]:
    held = s.log.attempts
    if not s.workers[i].epoch or (leq(held, s.status) and leq(held, s.acked)):
        return
    status = join(s.status, held) if o.unite else held
    yield _to(f"{i} syncs", s._replace(status=status, acked=join(s.acked, held)), o)


def _sync(s: State, o: Options, i: int) -> Iterator[Step]:
    w, held = s.workers[i], s.log.attempts
    if w.pending is None:
        if w.epoch and not leq(held, s.status):
            merged = join(s.status, held) if o.unite else held
            pending = Pending(s.status, merged)
            worker = w._replace(pending=pending)
            yield _to(f"{i} reads the status", s._replace(workers=_with(s, i, worker)), o)
        return
    read, merged = w.pending
    done = _with(s, i, w._replace(pending=None))
    if not o.ack_after_patch or read is None:
        acked = s._replace(workers=done, acked=join(s.acked, merged))
        yield _to(f"{i} acknowledges", acked, o)
    if read is None:
        return
    if s.status == read or not o.compare_version:
        broken = [] if leq(s.status, merged) else ["the status goes back"]
        written = s._replace(status=merged)
        confirmed = _with(s, i, w._replace(pending=Pending(None, merged)))
        yield _to(f"{i} patches", written._replace(workers=confirmed), o, *broken)
        yield _to(f"{i} patches, reply lost", written._replace(workers=done), o, *broken)
    else:
        yield _to(f"{i} meets a conflict", s._replace(workers=done), o)
