"""
The first model: the scripts, the caches and the status write, step by step.

One notification, one channel, two processes. The log is a list of records under a header, and a
chain value is modelled by what it stands for: the history itself. A process holds its epoch, how
far its claim has come, the history it has read, the object it has seen, one delivery and one
status write. Every call may be applied with its reply lost and is then repeated with the same
arguments. An operator may order one more attempt of a channel that has ended in vain, and say what became
of an attempt (a verdict), also wrongly: he looks, and what he says reaches the log at any later time.

Some things are assumed of time, for a key lives a day at least: it does not expire between the steps
of a claim, nor while a request is on the wire, nor while an operator repeats an order; nor, where
there are orders, while a process acts on what it knew before (a lease, an order, an INTENT on its way).
Everything else may happen at any moment.

Each rule is in force unless a mutant switches it off. The rules R1
to R5, V4, V5, V7 and V8 were found to be missing by this model (docs/model.md). `None` as log is a
missing key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import ClassVar, NamedTuple

from tests.model.rules import Rules
from tests.model.search import replaced

#: (epoch, number within the epoch)
Id = tuple[int, int]
NO_ID: Id = (0, 0)


class Rank(IntEnum):
    """State of an attempt; a join takes the larger."""

    INTENT = 0
    UNKNOWN = 1
    FAILED = 2
    REFUSED = 3
    SUCCESS = 4


#: A refusal for good (R) is a class of failure: scripts and claims take it for F, fold and merge do not.
I, U, F, R, S = Rank  # noqa: E741 - the letters of the lattice

#: (id, rank), in the order in which the ids were first seen
View = tuple[tuple[Id, Rank], ...]


class Record(NamedTuple):
    """
    One element of a log.

    `unread` marks, in mutants, what a process has skipped over. An `order` is of no rank; its id is
    `(0, n)` with n the attempts that the operator saw, plus one. A `verdict` is an operator's word on
    the attempt `id`, its number there in mutants, else 1; `over`, in mutants, has it replace what is known.
    """

    rank: Rank
    id: Id
    seed: bool = False
    unread: bool = False
    order: bool = False
    verdict: int = 0
    over: bool = False


History = tuple[Record, ...]


@replaced
class Log(NamedTuple):
    """A key: header and records; `plan` is 0 until the channels were frozen."""

    epoch: int = 0
    acked: int = 0
    expiring: bool = False
    plan: int = 0
    records: History = ()


class Phase(IntEnum):
    """Phase of the object, as far as it matters here."""

    OPEN = 0
    SENT = 1
    FAILED = 2


class Status(NamedTuple):
    """The object's status; an attempt's number is its place in the list."""

    attempts: View = ()
    phase: Phase = Phase.OPEN
    plan: int = 0


class Claim(IntEnum):
    """How far a claim has come; only `HELD` permits intents."""

    NONE = 0
    READ_FIRST = 1
    CLAIMED = 2
    LACKING = 3
    GATHERED = 4
    HELD = 5


class Pc(IntEnum):
    """Where a process stands in one attempt."""

    IDLE = 0
    ASKING = 1
    PERMITTED = 2
    WAITING = 3
    KNOWN = 4


class Patch(NamedTuple):
    """A status write: the version it names, what it wants, and the history that this shows."""

    base: Status
    wanted: Status
    shown: History


class Ack(NamedTuple):
    """An acknowledgement on its way."""

    shown: History
    plan: int
    final: bool


class Proof(NamedTuple):
    """
    What an INTENT brings, the same in each repetition.

    Attributes:
        seen: The history on which it was decided.
        plan: Likewise.
        stale: The server has been in another state since the claim began: its stamp is an old one.
        ended: That claim has ended.
    """

    seen: History = ()
    plan: int = 0
    stale: bool = False
    ended: bool = False


@replaced
class Process(NamedTuple):
    """
    One replica.

    Attributes:
        epoch: Of its lease, 0 if it does not own the shard as far as it knows.
        claim: Progress of its claim.
        stale: The server has been in another state since the claim began.
        seen: The history it has read; its view is the fold of it.
        status: The newest status it has seen.
        early: What the status said when its claim began: bit 0 a success, bit 1 a terminal phase.
        numbered: Attempts numbered in this epoch.
        limit: Most attempts that its INTENT lets the log hold, 0 for the channel's own.
        pc: Progress of its attempt `id`, with `result` once that is known.
        proof: Of the INTENT that it asks for.
        unsent: Attempts it gave up before they left.
        write: Its status write or acknowledgement.
        ending: It has asked for a final phase and has not seen the object since. Only a verdict under
            at most once can make that matter, so it is kept only there.
    """

    epoch: int
    claim: Claim = Claim.NONE
    stale: bool = False
    seen: History = ()
    plan: int = 0
    status: Status = Status()
    early: int = 0
    numbered: int = 0
    limit: int = 0
    pc: Pc = Pc.IDLE
    id: Id = NO_ID
    result: Rank = I
    proof: Proof = Proof()
    unsent: tuple[Id, ...] = ()
    write: Patch | Ack | None = None
    ending: bool = False


class Verdict(NamedTuple):
    """
    What an operator is about to put on record of an attempt: `rank` is F or S.

    `founded` if he saw it settled, or means an open one: only then does it excuse a repeat.
    """

    id: Id
    rank: Rank
    number: int = 1
    founded: bool = True


@replaced
class Witness(NamedTuple):
    """
    What no process knows, kept to state properties.

    Attributes:
        issued: Ids ever chosen.
        sent: Ids put on the wire.
        processed: Ids a receiver processed, as often as it did.
        accepted: Intents that the log took.
        doubt: Attempts that were unknown when a later intent was accepted.
        lost: Attempts whose newest state fell out of both log and status.
        unsaid: Orders that the log has lost: said again, they are new ones.
        judged: Attempts that have a founded verdict.
        fence: Highest epoch that has claimed.
        plan: The plan first recorded.
    """

    issued: tuple[Id, ...] = ()
    sent: tuple[Id, ...] = ()
    processed: tuple[Id, ...] = ()
    accepted: int = 0
    doubt: tuple[Id, ...] = ()
    lost: tuple[Id, ...] = ()
    unsaid: tuple[Id, ...] = ()
    judged: tuple[Id, ...] = ()
    fence: int = 0
    plan: int = 0


@replaced
class State(NamedTuple):
    """
    The whole system; faults left are the counts after `late`.

    Attributes:
        late: INTENTs on their way whose callers have given up, each with its limit and its proof.
        wishes: Orders that an operator has left.
        saying: Id of the order that he is about to put on record.
        verdicts: Verdicts that operators have left.
        judging: Those on their way.
    """

    lease: int
    holder: int
    processes: tuple[Process, ...]
    log: Log | None
    status: Status
    wire: tuple[Id, ...]
    late: tuple[tuple[Id, int, Proof], ...]
    takeovers: int
    crashes: int
    losses: int
    flushes: int
    routings: int
    give_ups: int
    wishes: int
    saying: Id
    witness: Witness
    verdicts: int = 0
    judging: tuple[Verdict, ...] = ()


#: A transition: what happened, the next state, the properties that it broke.
Step = tuple[str, State, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Options(Rules):
    """
    Faults and granularity; the rules are in `RULES`.

    Attributes:
        attempts: The most attempts of the channel.
        takeovers: How often the other process takes the lease; the old owner runs on.
        crashes: How often a process dies.
        losses: How often the server changes its state, by which the log may fall back to an earlier one
            of its own.
        probe: A process may notice that, at any time.
        flushes: How often the key is deleted.
        give_ups: How often an intent is given up without an answer.
        wishes: How often an operator orders one more attempt.
        verdicts: How often an operator says what became of an attempt; two may do so at once.
        even_open: He may mean attempts that are open, too.
        refusals: A receiver may refuse for good.
        once: Delivery is at most once: nothing follows an attempt whose result is unknown.
        late_intents: An intent may arrive after its caller gave up.
        plan: Channels are frozen before the first attempt; the routing changes once.
        atomic: An object is read, merged and written in one step.
        lean: No reply of CLAIM or RECOVER is lost, nothing is given up before the send.
        quiet: No reply of Redis is lost at all.
        rereads: The log may be read again at any time, as the attempts of other channels cause it.
    """

    attempts: int = 2
    takeovers: int = 0
    crashes: int = 0
    losses: int = 0
    probe: bool = False
    flushes: int = 0
    give_ups: int = 1
    wishes: int = 0
    verdicts: int = 0
    even_open: bool = False
    refusals: bool = False
    once: bool = False
    late_intents: bool = False
    plan: bool = False
    atomic: bool = False
    lean: bool = False
    quiet: bool = False
    rereads: bool = False

    RULES: ClassVar = {
        "fence": "(M1) INTENT compares the epoch.",
        "ids_from_memory": "(M2) Ids are counted by the process, not by the length of the log.",
        "ack_after_patch": "(M3) What is acknowledged was published first.",
        "success_guard": "(M4) INTENT refuses after a success.",
        "write_ahead": "(M5) A send waits for the answer to INTENT.",
        "compare_version": "(M6) A patch names the version that was read.",
        "unite": "(M7) A status write joins what is there with what is known.",
        "stamp": "(P2) INTENT compares the state of the server with that of its claim.",
        "proof": "(P1) INTENT compares the history on which it was decided.",
        "exact_fence": "(M9) The epochs must be equal, not merely not higher.",
        "need_key": "(M10) A missing key refuses an intent.",
        "recover": "(M11) Open attempts that nobody executes are settled.",
        "ack_history": "(M12) ACK compares the chain, not only the position.",
        "persist": "(M13) An append takes the expiry away.",
        "expire_acked": "(M14) A log expires only if `acked` stands at its end.",
        "expire_final": "(M15) A log expires only if its object is finished.",
        "facts_unfenced": "(M16) An outcome is recorded whatever the epoch.",
        "facts_create": "(M17) An outcome creates a missing key.",
        "keep_cache": "(M20) A claim offers the own cache as seeds.",
        "keep_cache_again": (
            "(M20b) So does the one with what only the status shows: the log may be lost since."
        ),
        "seed_status": "(M21) A claim restores what only the status shows.",
        "seed_plan": "(M23) A claim restores the plan as well.",
        "seed_plan_alone": (
            "(R3) It does so even if the status shows no attempt that the log lacks."
        ),
        "reread_final": "(M24) The log is read again before Failed is said.",
        "reread_again": "(R2) It is read again after a conflict too.",
        "reread_held": "(R4) If it holds another history by then, Failed is not said: claim first.",
        "final_waits": "(R5) While an answer to Failed is out, what it ended is not opened again.",
        "sweep": "(M25) Records of others are noticed.",
        "fresh_ids": "(M27) A call given up is not repeated under its id.",
        "dup_intent": "(M28) Only DUP with the state intent permits a send.",
        "absorb": "(M31) A terminal phase stays.",
        "server_rules": "(M31c) The API server refuses a change of a terminal phase.",
        "advance_checked": "(M35) A view advances only over what it has read.",
        "recover_own": "(M36) Open attempts of the own epoch are settled too.",
        "recover_seen": (
            "(R1) An open attempt that nobody executes is settled whenever it is seen, not only "
            "at a claim."
        ),
        "new_epoch": "(M37) A lease taken again has a new epoch.",
        "expire_settled": "(H1) A log with an open intent never expires.",
        "expire_here": "(H2) Only an ACK of the last record lets a log expire.",
        "claim_first": "(H3) The object is read after CLAIM.",
        "guard_retries": (
            "(H4) That its claim has not ended is looked at before each repetition of an INTENT."
        ),
        "ack_chain": "(H5) The chain stands for the history, not for one record.",
        "advance_chain": (
            "(H6) A view compares the chain before it advances, not only the position."
        ),
        "done_first": "(H8) A success answers before the repeated id does.",
        "settled_order": "(N) Shown attempts keep their numbers.",
        "log_order": "(N2) New attempts are numbered in the order of the log.",
        "raise_only": "(FO) OUTCOME appends only what raises the attempt.",
        "open_blocks": "(OF) An open attempt keeps the phase open.",
        "order_spent": "(O1) An attempt after it ends an order.",
        "order_limit": (
            "(O2) INTENT lets an ordered channel have one attempt more than the order knew."
        ),
        "order_named": (
            "(O3) An order's id counts the attempts seen: saying it again is no new one."
        ),
        "order_kept": "(O4) A log whose order is not carried out does not expire.",
        "order_final": "(O5) An order is carried out after a terminal phase too.",
        "verdict_guards": "(V1) INTENT takes a verdict for what it says.",
        "verdict_counts": (
            "(V2) An attempt that an operator calls failed has been made all the same."
        ),
        "verdict_yields": "(V3) The result of a send that says more is recorded after a verdict.",
        "verdict_raises": "(V4) A verdict is put on record only if it says more than the log.",
        "verdict_joins": (
            "(V4b) A verdict is joined like any record, and never takes the place of one."
        ),
        "verdict_named": (
            "(V5) A verdict's id says what it says: another one is not a repetition of it."
        ),
        "verdict_settled": "(V6) He says nothing of an open attempt unless he means to.",
        "verdict_final": (
            "(V7) A failure that the receiver meant for good is recorded after a verdict that "
            "says no more than failed."
        ),
        "refusal_stands": "(V8) A refusal for good outweighs a failure that may be tried again.",
        "once_stops": "(V9) At most once, an unknown result ends the channel.",
    }

    @property
    def lossless(self) -> bool:
        """Whether the log keeps what it was given."""
        return not self.losses and not self.flushes


#: All rules in force: what a property asks, whatever a mutant has switched off.
SAFE = Options()

# -- rules of the fold and the merge --------------------------------------------------------------


@cache
def fold(records: History) -> View:
    """What a history says of each attempt."""
    out: dict[Id, Rank] = {}
    for record in records:
        if not (record.unread or record.order):
            known = I if record.over else out.get(record.id, I)
            out[record.id] = max(record.rank, known)
    return tuple(out.items())


@cache
def results(records: History) -> View:
    """What a history says of each attempt by itself, without what operators said."""
    return fold(tuple(r for r in records if not r.verdict))


def word(rank: int) -> int:
    """A rank as the scripts see it."""
    return F if rank == R else rank


@cache
def before_order(records: History) -> tuple[Id, ...] | None:
    """Attempts that the latest order of a history knew, None without one."""
    for n in range(len(records) - 1, -1, -1):
        if records[n].order and not records[n].unread:
            return tuple(k for k, _ in fold(records[:n]))
    return None


def pending(records: History, o: Options) -> bool:
    """Whether a history ends with an order that is neither carried out nor overtaken by a success."""
    before = before_order(records)
    view = fold(records)
    if before is None or has(view, S):
        return False
    return not o.order_spent or all(k in before for k, _ in view)


def spent(known: View, records: History, o: Options) -> bool:
    """Whether a channel has used its attempts up; what a log's latest order knew does not count."""
    before = before_order(records)
    counted = known if before is None else tuple(a for a in known if a[0] not in before)
    if has(counted, R) or (o.once and o.once_stops and has(counted, U)):
        return True
    if before is None:
        returned = 0 if o.verdict_counts else _called_failed(records)
        return len(known) - returned >= o.attempts
    return o.order_spent and bool(counted)


@cache
def _called_failed(records: History) -> int:
    return len({r.id for r in records if r.verdict and r.rank == F})


def limit_of(records: History, o: Options) -> int:
    """Limit that an INTENT carries, 0 for the channel's own."""
    before = before_order(records)
    if before is None:
        return 0 if o.verdict_counts else o.attempts + _called_failed(records)
    return len(before) + 1 if o.order_limit else len(records) + 9


@cache
def join(a: View, b: View) -> View:
    """The union, in the order of `a`, then of `b`; per id the higher rank."""
    out = dict(a)
    for key, rank in b:
        out[key] = max(rank, out.get(key, I))
    return tuple(out.items())


def unite(shown: View, view: View, o: Options) -> View:
    """What object and log say together, in this order."""
    if o.refusal_stands:
        return join(shown, view)
    log = dict(view)
    return tuple((k, F if r == R and log.get(k) == F else r) for k, r in join(shown, view))


def rank_of(view: View, key: Id) -> int:
    """What a view knows of an attempt, -1 if nothing."""
    return next((r for k, r in view if k == key), -1)


@cache
def leq(a: View, b: View) -> bool:
    """Whether everything in `a` is in `b` with at least that rank."""
    known = dict(b)
    return all(known.get(k, -1) >= r for k, r in a)


@cache
def lacks(a: View, b: View) -> bool:
    """Whether something in `a` is not in `b`, or is known less well there; classes do not count."""
    known = dict(b)
    return any(word(known.get(k, -1)) < word(r) for k, r in a)


def has(view: View, rank: Rank) -> bool:
    """Whether an attempt is in exactly that state."""
    return any(r == rank for _, r in view)


@cache
def publishable(seen: History) -> int:
    """Position before the first intent that is still open."""
    view = dict(fold(seen))
    for n, record in enumerate(seen):
        if view.get(record.id, S) == I:
            return n
    return len(seen)


def merge(status: Status, seen: History, plan: int, o: Options) -> Status:
    """The status that shows what both sides know."""
    view = fold(seen)
    known = unite(status.attempts, view, o) if o.unite else view
    if not o.settled_order:
        ordered = join(view, known)
    elif o.log_order:
        ordered = known
    else:
        old = {k for k, _ in status.attempts}
        new = sorted((a for a in known if a[0] not in old), reverse=True)
        ordered = (*(a for a in known if a[0] in old), *new)
    shown = tuple(a for a in ordered if a[1] != I)
    return Status(shown, _phase(status, known, seen, o), status.plan or plan)


def _phase(status: Status, known: View, seen: History, o: Options) -> Phase:
    if status.phase and o.absorb:
        return status.phase
    if has(known, S):
        return Phase.SENT
    if has(known, I) and o.open_blocks:
        return Phase.OPEN
    return Phase.FAILED if spent(known, seen, o) else status.phase


def records_of(log: Log | None) -> History:
    """The records of a log, none if there is no key."""
    return log.records if log else ()


# -- the system -----------------------------------------------------------------------------------


def start(o: Options) -> State:
    """One process leads in epoch 1; nothing has happened."""
    budgets = (o.takeovers, o.crashes, o.losses, o.flushes, int(o.plan), o.give_ups)
    processes = (Process(1), Process(0))
    start_ = (1, 0, processes, None, Status(), (), ())
    return State(*start_, *budgets, o.wishes, NO_ID, Witness(), o.verdicts)


def steps(s: State, o: Options) -> Iterator[Step]:
    """Yield the transitions of a state."""
    yield from _takeover(s, o)
    yield from _term(s, o, 0)
    yield from _term(s, o, 1)
    yield from _faults(s, o)
    for i, p in enumerate(s.processes):
        if p.epoch and p.claim is not Claim.HELD:
            yield from _claim(s, o, i)
        elif p.epoch:
            yield from _open(s, o, i)
            yield from _sweep(s, o, i)
        yield from _deliver(s, o, i)
        yield from _publish(s, o, i)
    yield from _operate(s, o)
    yield from _judge(s, o)
    yield from _wire(s, o)


def is_goal(s: State, o: Options) -> bool:
    """Whether the work is done, published and acknowledged."""
    log = s.log
    if s.saying != NO_ID or s.judging or pending(records_of(log), o):
        return False
    shown = log is None or (
        log.acked == len(log.records) and log.expiring and leq(fold(log.records), s.status.attempts)
    )
    if not shown or s.status.phase is Phase.OPEN or s.wire:
        return False
    return all(p.pc is Pc.IDLE and p.write is None for p in s.processes)


def _put(s: State, i: int, p: Process, **changes: object) -> State:
    processes = (p, s.processes[1]) if i == 0 else (s.processes[0], p)
    return s._replace(processes=processes, **changes)  # type: ignore[arg-type]  # fields by name


def _adopt(p: Process, log: Log | None) -> Process:
    return p._replace(seen=records_of(log), plan=log.plan if log else 0)


def _lose(p: Process) -> Process:
    proof = p.proof._replace(ended=True) if p.pc is Pc.ASKING else p.proof
    return p._replace(claim=Claim.NONE, stale=False, proof=proof)


def _reread(p: Process, log: Log | None) -> Process:
    """Take the log if it still holds what was seen, else give the claim up and keep the view."""
    if log is None or (p.plan and log.plan != p.plan) or not _same(p.seen, log.records):
        return _lose(p)
    return _adopt(p, log)


def _same(seen: History, records: History) -> bool:
    return tuple(r._replace(unread=False) for r in seen) == records[: len(seen)]


def _append(log: Log, o: Options, *records: Record) -> Log:
    expiring = log.expiring and not o.persist
    return log._replace(records=log.records + records, expiring=expiring)


def _advance(p: Process, before: Log | None, after: Log, o: Options) -> Process:
    """Take an append of one's own into the view if nothing came in between, else read again."""
    old, new = records_of(before), after.records
    if old == p.seen and after.plan == p.plan:
        return p._replace(seen=new)
    if not o.advance_checked or (not o.advance_chain and len(old) == len(p.seen)):
        skipped = tuple(
            r if n < len(p.seen) and r == p.seen[n] else r._replace(unread=True)
            for n, r in enumerate(old)
        )
        return p._replace(seen=skipped + new[len(old) :])
    return _reread(p, after)


# -- lease and faults -----------------------------------------------------------------------------


def _takeover(s: State, _: Options) -> Iterator[Step]:
    if s.takeovers:
        other = 1 - s.holder
        p = _lose(s.processes[other])._replace(epoch=s.lease + 1, numbered=0)
        yield (
            f"takeover by {other}",
            _put(s, other, p, lease=s.lease + 1, holder=other, takeovers=s.takeovers - 1),
            (),
        )


def _term(s: State, o: Options, i: int) -> Iterator[Step]:
    p = s.processes[i]
    if p.epoch and s.crashes:
        yield f"crash of {i}", _put(s, i, Process(0), crashes=s.crashes - 1), ()
    if not p.epoch and s.holder == i:
        lease = s.lease + 1 if o.new_epoch else s.lease
        again = p._replace(epoch=lease, status=s.status, numbered=0)
        yield f"{i} acquires again", _put(s, i, again, lease=lease), ()
    if p.epoch and s.holder != i:
        yield f"{i} steps down", _put(s, i, _lose(p)._replace(epoch=0)), ()


def _faults(s: State, o: Options) -> Iterator[Step]:
    for call in s.late:
        key, limit, proof = call
        log, answer = _intent(s.log, key, key[0], limit, proof, o)
        rest = tuple(c for c in s.late if c != call)
        accepted = log is not s.log
        broken = _accepted(s, o, None, key, proof) if accepted else ()
        witness = _count(s, key) if accepted else s.witness
        label = f"late INTENT {_name(key)}: {answer}"
        yield label, s._replace(log=log, late=rest, witness=witness), broken
    if s.log is not None:
        yield from _expiry(s, o, s.log)
    if s.flushes and s.log is not None:
        yield "FLUSH", _lost(s, None)._replace(flushes=s.flushes - 1), ()
    if s.losses and s.log is not None:
        yield from _losses(s, s.log)
    if s.routings and s.routings < 2:
        yield "routing changes", s._replace(routings=2), ()


def _expiry(s: State, o: Options, log: Log) -> Iterator[Step]:
    if not log.expiring or s.wire:
        return
    claiming = any(p.claim in (Claim.READ_FIRST, Claim.CLAIMED, Claim.LACKING) for p in s.processes)
    early = claiming or s.saying != NO_ID
    if o.wishes:
        unaware = any(p.epoch for i, p in enumerate(s.processes) if i != s.holder)
        asking = bool(s.late) or any(p.pc is Pc.ASKING for p in s.processes)
        early = early or unaware or asking or any(pending(p.seen, SAFE) for p in s.processes)
    if not early:
        view = fold(log.records)
        wrong = has(view, I) or not leq(view, s.status.attempts) or not s.status.phase
        wrong = wrong or pending(log.records, SAFE)
        yield "log expires", s._replace(log=None), ("S11",) if wrong else ()


def _losses(s: State, log: Log) -> Iterator[Step]:
    for length in range(len(log.records) + 1):
        kept = log.records[:length]
        lowest = max((r.id[0] for r in kept if r.rank == I and not r.seed), default=0)
        for epoch in range(max(lowest, 1), log.epoch + 1):
            older = Log(epoch, min(log.acked, length), False, log.plan, kept)
            fallen = _lost(s, older)._replace(
                losses=s.losses - 1,
                late=tuple((k, limit, _out_of_date(proof)) for k, limit, proof in s.late),
                processes=tuple(_behind(p) for p in s.processes),
            )
            yield f"log falls back to {length} records, epoch {epoch}", fallen, ()


def _out_of_date(proof: Proof) -> Proof:
    return proof._replace(stale=True)


def _behind(p: Process) -> Process:
    asking = p.pc is Pc.ASKING
    return p._replace(
        stale=p.claim is not Claim.NONE, proof=_out_of_date(p.proof) if asking else p.proof
    )


def _lost(s: State, log: Log | None) -> State:
    before = join(fold(records_of(s.log)), s.status.attempts)
    after = join(fold(records_of(log)), s.status.attempts)
    lost = {k for k, r in before if rank_of(after, k) < r}
    witness = s.witness._replace(
        lost=tuple(sorted(lost | set(s.witness.lost))),
        unsaid=tuple(sorted({*s.witness.unsaid, *(_orders(s.log) - _orders(log))})),
    )
    return s._replace(log=log, witness=witness)


def _orders(log: Log | None) -> set[Id]:
    return {r.id for r in records_of(log) if r.order}


def _name(key: Id) -> str:
    return f"{key[0]}-{key[1]}"


# -- claiming -------------------------------------------------------------------------------------


def _claim(s: State, o: Options, i: int) -> Iterator[Step]:
    p = s.processes[i]
    match p.claim:
        case Claim.NONE if _worth_claiming(s, p):
            if o.claim_first:
                yield from _claim_log(s, o, i, ())
            else:
                yield _gather(s, o, i, Claim.READ_FIRST)
        case Claim.READ_FIRST:
            yield from _claim_log(s, o, i, p.status.attempts)
        case Claim.CLAIMED:
            yield _gather(s, o, i, Claim.GATHERED)
        case Claim.LACKING:
            yield from _claim_log(s, o, i, p.status.attempts)
        case Claim.GATHERED:
            yield from _recover(s, o, i)


def _operate(s: State, o: Options) -> Iterator[Step]:
    """An operator looks at log and object, and then has NOTE append an order."""
    log = s.log
    if s.wishes and s.saying == NO_ID and log is not None:
        known = join(fold(log.records), s.status.attempts)
        ended = s.status.phase is not Phase.OPEN or spent(known, log.records, SAFE)
        if ended and not has(known, S) and not has(known, I) and not pending(log.records, SAFE):
            saying = (0, len(fold(log.records)) + 1)
            yield "operator looks", s._replace(wishes=s.wishes - 1, saying=saying), ()
    if s.saying == NO_ID:
        return
    if log is None:
        yield "operator finds no log", s._replace(saying=NO_ID), ()
        return
    if s.saying in _orders(log) and o.order_named:
        yield "NOTE order: NOOP", s._replace(saying=NO_ID), ()
        return
    after = _append(log, o, Record(I, s.saying, order=True))
    yield "NOTE order", s._replace(log=after, saying=NO_ID), ()
    # Without its name a repetition never ends; one is enough to show the harm.
    if not o.quiet and s.saying not in _orders(log):
        yield "NOTE order, reply lost", s._replace(log=after), ()


def _judge(s: State, o: Options) -> Iterator[Step]:
    """Operators look at the log, and then have NOTE append what became of an attempt."""
    log = s.log
    if s.verdicts and log is not None:
        for key, rank in fold(log.records):
            if rank == I and o.verdict_settled and not o.even_open:
                continue
            for target in (F, S):
                if word(rank) < target:
                    founded = rank != I or o.even_open
                    verdict = Verdict(key, target, _next_verdict(log, key, o), founded)
                    judging = tuple(sorted((*s.judging, verdict)))
                    yield (
                        f"operator calls {_name(key)} {_verdict_word(target)}",
                        s._replace(verdicts=s.verdicts - 1, judging=judging),
                        (),
                    )
    for verdict in dict.fromkeys(s.judging):
        at = s.judging.index(verdict)
        rest = s.judging[:at] + s.judging[at + 1 :]
        yield from _note_verdict(s._replace(judging=rest), s, o, verdict)


def _next_verdict(log: Log, key: Id, o: Options) -> int:
    if o.verdict_named:
        return 1
    return 1 + sum(r.verdict > 0 and r.id == key for r in log.records)


def _verdict_word(rank: Rank) -> str:
    return "delivered" if rank == S else "failed"


def _note_verdict(done: State, s: State, o: Options, verdict: Verdict) -> Iterator[Step]:
    """NOTE of a verdict; `done` is the state in which he has his answer."""
    key, rank, number, founded = verdict
    label = f"NOTE {_name(key)} {_verdict_word(rank)}"
    log = s.log
    if log is None:
        yield f"{label}: no log", done, ()
        return
    known = rank_of(fold(log.records), key)
    # He is told that it is on record.
    untrue = ("VR",) if known < rank else ()
    same = [
        r
        for r in log.records
        if r.verdict == number and r.id == key and (r.rank == rank or not o.verdict_named)
    ]
    if same:
        yield f"{label}: NOOP", done, untrue
        return
    if word(known) >= rank and o.verdict_raises:
        yield f"{label}: as much is known", done, untrue
        return
    broken = ("VF",) if word(known) >= rank else ()
    over = not o.verdict_joins or (known == R and not o.refusal_stands)
    record = Record(rank, key, verdict=number, over=over)
    judged = {*s.witness.judged, key} if founded else set(s.witness.judged)
    after = _append(log, o, record)
    witness = s.witness._replace(judged=tuple(sorted(judged)))
    yield label, done._replace(log=after, witness=witness), broken
    if not o.quiet:
        yield f"{label}, reply lost", s._replace(log=after, witness=witness), broken


def marks(s: State, _: Options) -> dict[str, int]:
    """What runs with verdicts must have seen, 1 in a state that shows it; and how many were processed."""
    records = records_of(s.log)
    said = [(n, r) for n, r in enumerate(records) if r.verdict]
    view, own = dict(fold(records)), dict(results(records))
    called = {(r.id, r.rank) for _, r in said}
    failed = {k for k, r in called if r == F}
    shown = dict(s.status.attempts)
    delivered = [k for k, r in called if r == S and own.get(k, -1) != S]
    return {
        "processed": len(s.witness.processed),
        "stands": any(view[k] == F and own.get(k, -1) < F for k in failed),
        "overtaken by a success": any(own.get(k) == S for k in failed),
        "overtaken by a refusal": any(own.get(k) == R for k in failed),
        "ended the channel": any(shown.get(k) == S for k in delivered)
        and s.status.phase is Phase.SENT,
        "delivered after the end": any(shown.get(k) == S for k in delivered)
        and s.status.phase is Phase.FAILED,
        "next attempt after failed": any(
            not later.verdict and later.rank == I and later.id != r.id
            for n, r in said if r.rank == F for later in records[n + 1 :]
        ),
        "both verdicts": any((k, S) in called for k in failed),
        "too late": any(word(view.get(v.id, -1)) >= v.rank for v in s.judging),
        "of an attempt the log lost": any(k not in own for k, _ in called),
        "lost with the log": s.log is not None
        and any(k not in {r.id for _, r in said} for k in s.witness.judged),
        "of an earlier owner's attempt": s.log is not None
        and any(k[0] < s.log.epoch for k, _ in called),
        "ends an order": any(r.order for r in records) and bool(delivered),
    }  # fmt: skip


def _worth_claiming(s: State, p: Process) -> bool:
    if not p.status.phase or p.seen:
        return True
    # A finished object: the sweep compares it with the header of its log.
    log = s.log
    return log is not None and (log.acked < len(log.records) or not log.expiring)


def _claim_log(s: State, o: Options, i: int, shown: View) -> Iterator[Step]:
    """CLAIM: raise the fence, join seeds, read everything."""
    p = s.processes[i]
    log = s.log or Log(p.epoch)
    if o.fence and p.epoch < log.epoch:
        yield f"{i} is fenced", _put(s, i, _lose(p)._replace(epoch=0)), ()
        return
    first = p.claim in (Claim.NONE, Claim.READ_FIRST)
    kept = o.keep_cache if first else o.keep_cache_again
    seeds = join(fold(p.seen) if kept else (), shown)
    known = fold(log.records)
    fresh = tuple(Record(r, k, seed=True) for k, r in seeds if word(r) > word(rank_of(known, k)))
    if fresh:
        log = _append(log, o, *fresh)
    log = log._replace(epoch=max(p.epoch, log.epoch), plan=log.plan or _plan_seed(p, o, first))
    witness = s.witness._replace(fence=max(s.witness.fence, p.epoch))
    broken = _forgets(s, p, log)
    early = p.early
    if first:
        early = has(s.status.attempts, S) + 2 * bool(s.status.phase)
    after = Claim.CLAIMED if p.claim is Claim.NONE else Claim.GATHERED
    claimed = _adopt(p, log)._replace(claim=after, early=early)
    if first:
        claimed = claimed._replace(stale=False)
    verb = "claims" if first else "claims with what the status shows"
    plan = _wrong_plan(s, log)
    yield f"{i} {verb}", _put(s, i, claimed, log=log, witness=_frozen(witness, log)), broken + plan
    if not o.lean and not o.quiet and log != s.log:
        lost = s._replace(log=log, witness=_frozen(witness, log))
        yield f"{i} {verb}, reply lost", lost, plan


def _plan_seed(p: Process, o: Options, first: bool) -> int:
    if first and o.keep_cache and p.plan:
        return p.plan
    return p.status.plan if o.seed_plan and p.claim in (Claim.LACKING, Claim.READ_FIRST) else 0


def _forgets(s: State, p: Process, log: Log) -> tuple[str, ...]:
    """S2L: what a living process knew must be somewhere when it takes a log as the truth."""
    elsewhere = join(fold(log.records), s.status.attempts)
    return ("S2L",) if lacks(fold(p.seen), elsewhere) else ()


def _gather(s: State, o: Options, i: int, then: Claim) -> Step:
    p = s.processes[i]._replace(status=s.status, ending=False)
    if any(k[0] > p.epoch for k, _ in s.status.attempts):
        return f"{i} reads a later epoch", _put(s, i, _lose(p)._replace(epoch=0)), ()
    missing = lacks(s.status.attempts, fold(p.seen))
    missing = missing or (o.seed_plan_alone and s.status.plan > 0 and not p.plan)
    if then is Claim.GATHERED and missing and o.seed_status:
        then = Claim.LACKING
    ready = then is Claim.GATHERED and lacks(s.status.attempts, fold(p.seen))
    broken = ("CL",) if ready else ()
    return f"{i} reads the object", _put(s, i, p._replace(claim=then)), broken


def _abandoned(p: Process, o: Options) -> list[Id]:
    executing = p.id if p.pc is not Pc.IDLE else NO_ID
    return [
        k
        for k, r in fold(p.seen)
        if r == I and k != executing and o.recover and (o.recover_own or k[0] != p.epoch)
    ]


def _recover(s: State, o: Options, i: int) -> Iterator[Step]:
    p = s.processes[i]
    left = _abandoned(p, o)
    if not left:
        yield f"{i} holds the claim", _put(s, i, p._replace(claim=Claim.HELD)), ()
        return
    key = left[0]
    if key in p.unsent:
        log, broken = _outcome(s, key, F, o, p.epoch)
        done = _advance(p, s.log, log, o) if log != s.log and log else _reread(p, s.log)
        done = done._replace(unsent=tuple(k for k in p.unsent if k != key))
        yield f"{i} settles {_name(key)} as not sent", _put(s, i, done, log=log), broken
        return
    if s.log is None or s.log.epoch != p.epoch:
        yield f"{i} recovers: RECLAIM", _put(s, i, _lose(p)), ()
        return
    if rank_of(fold(s.log.records), key) != I:
        yield f"{i} recovers: NOOP", _put(s, i, _reread(p, s.log)), ()
        return
    log = _append(s.log, o, Record(U, key))
    yield f"{i} recovers {_name(key)}", _put(s, i, _advance(p, s.log, log, o), log=log), ()
    if not o.lean and not o.quiet:
        yield f"{i} recovers {_name(key)}, reply lost", s._replace(log=log), ()


def _sweep(s: State, o: Options, i: int) -> Iterator[Step]:
    p = s.processes[i]
    if p.stale and o.probe:
        yield f"{i} notices another server", _put(s, i, _lose(p)), ()
    if o.recover_seen and _abandoned(p, o):
        yield f"{i} finds an open attempt that nobody executes", _put(s, i, _lose(p)), ()
    busy = p.pc is not Pc.IDLE or p.write is not None
    if not o.sweep or (busy and not o.rereads):
        return
    if s.log is None or len(s.log.records) != len(p.seen):
        yield f"{i} sweeps", _put(s, i, _reread(p, s.log)), ()


# -- one attempt ----------------------------------------------------------------------------------


def _open(s: State, o: Options, i: int) -> Iterator[Step]:
    p = s.processes[i]
    if p.pc is not Pc.IDLE:
        return
    final = p.status.phase or (p.ending and o.final_waits)
    if final and not (o.order_final and pending(p.seen, o)):
        return
    if o.plan and not p.plan:
        yield from _freeze(s, i)
        return
    known = unite(p.status.attempts, fold(p.seen), o)
    if has(known, S) or has(known, I) or spent(known, p.seen, o):
        return
    key = (p.epoch, p.numbered + 1)
    if not o.ids_from_memory:
        key = (0, len(p.seen) + 1)
    elif not o.fresh_ids and p.unsent:
        key = p.unsent[-1]
    broken = ("S3",) if key in s.witness.issued else ()
    refused = any(r.rank == R for r in p.seen) or has(p.status.attempts, R)
    if refused and not pending(p.seen, SAFE):
        broken = (*broken, "PF")
    witness = s.witness._replace(issued=tuple(sorted({*s.witness.issued, key})))
    limit = limit_of(p.seen, o)
    proof = Proof(p.seen, p.plan, p.stale)
    asking = p._replace(pc=Pc.ASKING, id=key, numbered=p.numbered + 1, limit=limit, proof=proof)
    if not o.write_ahead:
        asking = asking._replace(pc=Pc.PERMITTED, proof=Proof())
    yield f"{i} asks for {_name(key)}", _put(s, i, asking, witness=witness), broken


def _freeze(s: State, i: int) -> Iterator[Step]:
    """NOTE(plan): the first one stays in force."""
    p = s.processes[i]
    if s.log is None:
        yield f"{i} plans: no log", _put(s, i, _lose(p)), ()
        return
    log = s.log._replace(plan=s.log.plan or s.routings)
    wrong = _wrong_plan(s, log)
    yield f"{i} plans", _put(s, i, _reread(p, log), log=log, witness=_frozen(s.witness, log)), wrong


def _wrong_plan(s: State, log: Log) -> tuple[str, ...]:
    return ("PL",) if log.plan and s.status.plan and log.plan != s.status.plan else ()


def _frozen(witness: Witness, log: Log) -> Witness:
    return witness if witness.plan or not log.plan else witness._replace(plan=log.plan)


def _intent(  # noqa: PLR0911 - the guards of the script, in its order
    log: Log | None, key: Id, epoch: int, limit: int, proof: Proof, o: Options
) -> tuple[Log | None, str]:
    """INTENT as the script decides it; the order of the guards is part of it."""
    view = fold(records_of(log)) if o.verdict_guards else results(records_of(log))
    known = rank_of(view, key)
    if not o.done_first and known >= 0:
        return log, f"DUP {known}"
    if o.success_guard and has(view, S):
        return log, "DONE"
    if known >= 0:
        return log, f"DUP {known}"
    if log is None:
        if o.need_key:
            return log, "RECLAIM"
        log = Log(epoch)
    if o.fence and (log.epoch != epoch if o.exact_fence else log.epoch > epoch):
        return log, "RECLAIM"
    if o.stamp and proof.stale:
        return log, "RECLAIM server"
    if o.proof and not _holds(log, proof):
        return log, "RECLAIM history"
    if has(view, I):
        return log, "OPEN"
    if len(view) >= (limit or o.attempts):
        return log, "EXHAUSTED"
    return _append(log, o, Record(I, key)), "OK"


def _holds(log: Log, proof: Proof) -> bool:
    """Whether a log begins with the history on which an INTENT was decided."""
    return _same(proof.seen, log.records) and proof.plan in (0, log.plan)


def _accepted(s: State, o: Options, p: Process | None, key: Id, proof: Proof) -> tuple[str, ...]:
    """Properties of the moment at which the log accepts an intent; `s` is the state before."""
    view = fold(records_of(s.log))
    out = []
    # With loss, a success may be published from a cache after the object was read: B1L counts it.
    if has(view, S) or (p and has(p.status.attempts, S) and o.lossless):
        out.append("S7")
    if has(s.status.attempts, S) and o.lossless:
        out.append("S7cr")
    ordered = pending(records_of(s.log), SAFE)
    if o.once and has(view, U) and o.lossless and not (ordered or (p and p.limit)):
        out.append("AM")
    if s.status.phase and o.lossless and not ordered:
        out.append("P6")
    if p and p.early & 1:
        out.append("S7f")
    # Asked for under an order that the log has lost since, it is what the operator wished.
    if p and p.early & 2 and not (ordered or p.limit):
        out.append("P6f")
    if has(view, I):
        out.append("S8")
    if p and o.ids_from_memory and s.log and s.log.epoch != p.epoch:
        out.append("S9")
    # By a loss; after a FLUSH the claim has ended.
    if o.losses and s.log and not _holds(s.log, proof):
        out.append("S9")
    if key[0] < s.witness.fence and o.lossless and o.ids_from_memory:
        out.append("S9")
    wished = o.wishes - s.wishes
    if s.witness.accepted >= o.attempts + wished + len(s.witness.lost) + len(s.witness.unsaid):
        out.append("S12")
    return tuple(out)


def _count(s: State, key: Id) -> Witness:
    known = join(fold(records_of(s.log)), s.status.attempts)
    unknown = {k for k, r in known if r == U and k != key}
    unknown |= {k for k, r in known if k in s.witness.judged and r != S}
    return s.witness._replace(
        accepted=s.witness.accepted + 1, doubt=tuple(sorted(unknown | set(s.witness.doubt)))
    )


def _deliver(s: State, o: Options, i: int) -> Iterator[Step]:
    p = s.processes[i]
    match p.pc:
        case Pc.ASKING:
            yield from _ask(s, o, i)
        case Pc.PERMITTED:
            waiting = p._replace(pc=Pc.WAITING)
            broken = ["S3"] if p.id in s.witness.sent else []
            known = join(fold(records_of(s.log)), s.status.attempts)
            if rank_of(known, p.id) < 0 and o.lossless:
                broken.append("S1")
            witness = s.witness._replace(sent=tuple(sorted({*s.witness.sent, p.id})))
            wire = tuple(sorted((*s.wire, p.id)))
            yield (
                f"{i} sends {_name(p.id)}",
                _put(s, i, waiting, wire=wire, witness=witness),
                tuple(broken),
            )
            if not o.lean:
                yield (
                    f"{i} abandons {_name(p.id)}",
                    _put(s, i, p._replace(pc=Pc.KNOWN, result=F)),
                    (),
                )
        case Pc.WAITING:
            yield f"{i} times out", _put(s, i, p._replace(pc=Pc.KNOWN, result=U)), ()
        case Pc.KNOWN:
            yield from _record(s, o, i)


def _ask(s: State, o: Options, i: int) -> Iterator[Step]:
    p = s.processes[i]
    idle = p._replace(pc=Pc.IDLE, id=NO_ID, limit=0, proof=Proof())
    kept = idle._replace(unsent=tuple(sorted({*p.unsent, p.id})))
    if p.proof.ended and o.guard_retries:
        yield f"{i} gives {_name(p.id)} up: stale claim", _put(s, i, _lose(kept)), ()
        return
    epoch = p.id[0] if o.ids_from_memory else p.epoch
    log, answer = _intent(s.log, p.id, epoch, p.limit, p.proof, o)
    permitted = p._replace(pc=Pc.PERMITTED, limit=0, proof=Proof())
    label = f"INTENT {_name(p.id)} of {i}: {answer}"
    if answer == "OK" and log is not None:
        witness = _count(s, p.id)
        broken = _accepted(s, o, p, p.id, p.proof)
        late = ("P7",) if has(fold(records_of(s.log)), S) else ()
        opened = _advance(permitted, s.log, log, o)
        yield label, _put(s, i, opened, log=log, witness=witness), broken + late
        if not o.quiet:
            yield f"{label}, reply lost", s._replace(log=log, witness=witness), broken
    elif answer.startswith("DUP") and (answer == "DUP 0" or not o.dup_intent):
        late = ("P7",) if has(fold(records_of(s.log)), S) else ()
        if answer != "DUP 0":
            late = (*late, "P8")
        yield label, _put(s, i, _reread(permitted, s.log)), late
    elif answer == "OPEN" or answer.startswith("RECLAIM"):
        yield label, _put(s, i, _lose(kept)), ()
    else:
        yield label, _put(s, i, _reread(kept, s.log)), ()
    if s.give_ups:
        given_up = _put(s, i, _lose(kept), give_ups=s.give_ups - 1)
        yield f"{i} gives {_name(p.id)} up", given_up, ()
        if o.late_intents:
            yield (
                f"{i} gives {_name(p.id)} up, INTENT on the way",
                given_up._replace(late=(*s.late, (p.id, p.limit, p.proof))),
                (),
            )


def _outcome(
    s: State, key: Id, rank: Rank, o: Options, epoch: int
) -> tuple[Log | None, tuple[str, ...]]:
    """OUTCOME as the script decides it: never fenced, restores a lost intent or a lost log."""
    log = s.log
    if log is None and not o.facts_create:
        return log, ("RK",)
    if log is not None and not o.facts_unfenced and log.epoch != epoch:
        return log, () if rank_of(fold(log.records), key) >= rank else ("RK",)
    log = log or Log()
    known = word(rank_of(fold(log.records), key))
    recorded = known
    if word(rank) == F == known and o.verdict_final:
        # A verdict of failure does not say how: what the sender knows is recorded beside it.
        recorded = word(rank_of(results(log.records), key))
    if recorded >= word(rank) and o.raise_only:
        lost = rank == R and rank_of(fold(log.records), key) == F and o.lossless
        return s.log, ("RK",) if lost else ()
    if not o.verdict_yields and any(r.verdict and r.id == key for r in log.records):
        return s.log, ("RK",)
    records = [Record(I, key)] if known < 0 else []
    broken = ("FO",) if recorded >= word(rank) else ()
    return _append(log, o, *records, Record(rank, key)), broken


def _record(s: State, o: Options, i: int) -> Iterator[Step]:
    p = s.processes[i]
    log, broken = _outcome(s, p.id, p.result, o, p.id[0])
    idle = p._replace(
        pc=Pc.IDLE, id=NO_ID, result=I, unsent=tuple(k for k in p.unsent if k != p.id)
    )
    if log is not None and log is not s.log:
        done = _advance(idle, s.log, log, o)
    else:
        done = _reread(idle, s.log)
    label = f"{i} records {_name(p.id)} {p.result.name.lower()}"
    yield label, _put(s, i, done, log=log), broken
    if log is not s.log and not o.quiet:
        yield f"{label}, reply lost", s._replace(log=log), broken


def _wire(s: State, o: Options) -> Iterator[Step]:
    for key in dict.fromkeys(s.wire):
        wire = list(s.wire)
        wire.remove(key)
        rest = s._replace(wire=tuple(wire))
        processed = tuple(sorted((*s.witness.processed, key)))
        witness = s.witness._replace(processed=processed)
        done = rest._replace(witness=witness)
        broken = _processed(s, o, key, len(processed))
        for i, p in enumerate(s.processes):
            if p.id == key and p.pc is Pc.WAITING:
                success = p._replace(pc=Pc.KNOWN, result=S)
                yield f"{_name(key)} processed, reply read", _put(done, i, success), broken
                refused = p._replace(pc=Pc.KNOWN, result=F)
                yield f"{_name(key)} refused", _put(rest, i, refused), ()
                if o.refusals:
                    for_good = p._replace(pc=Pc.KNOWN, result=R)
                    yield f"{_name(key)} refused for good", _put(rest, i, for_good), ()
        yield f"{_name(key)} processed, reply lost", done, broken
        yield f"{_name(key)} lost", rest, ()


def _processed(s: State, o: Options, key: Id, count: int) -> tuple[str, ...]:
    out = []
    known = join(fold(records_of(s.log)), s.status.attempts)
    if o.lossless and rank_of(known, key) < 0:
        out.append("S2")
    if o.lossless and count > 1 + len(s.witness.doubt):
        out.append("B1")
    if count > 1 + len(set(s.witness.doubt) | set(s.witness.lost)):
        out.append("B1L")
    return tuple(out)


# -- the status -----------------------------------------------------------------------------------


def _publish(s: State, o: Options, i: int) -> Iterator[Step]:
    p = s.processes[i]
    if p.write is None:
        if p.epoch and p.claim is Claim.HELD:
            yield from _render(s, o, i)
    elif isinstance(p.write, Patch):
        yield from _patch(s, o, i, p.write)
    else:
        yield from _ack(s, o, i, p.write)


def _render(
    s: State, o: Options, i: int, label: str = "", *, reread: bool = True
) -> Iterator[Step]:
    """Merge and decide; what is new is patched, what is shown already is acknowledged."""
    p = s.processes[i]
    if o.atomic:
        p = p._replace(status=s.status, ending=False)
    wanted = merge(p.status, p.seen, p.plan, o)
    if wanted.phase is Phase.FAILED and not p.status.phase and o.reread_final and reread:
        p = _reread(p, s.log)
        if p.claim is Claim.NONE and o.reread_held:
            lost = p._replace(write=None)
            yield f"{i} finds another history and says nothing", _put(s, i, lost), ()
            return
        wanted = merge(p.status, p.seen, p.plan, o)
    settled = publishable(p.seen) if o.expire_settled or not wanted.phase else len(p.seen)
    shown = p.seen[:settled]
    if wanted == p.status:
        ready = _acknowledging(s, p, shown, o)
        if ready.write is not None or label:
            yield label or f"{i} acknowledges", _put(s, i, ready), ()
        return
    broken = []
    if wanted.phase is Phase.FAILED and not p.status.phase:
        held = fold(records_of(s.log))
        if has(held, S):
            broken.append("P5")
        if any(r == I and rank_of(wanted.attempts, k) < 0 for k, r in held):
            broken.append("OF")
    ending = p.ending or (o.once and wanted.phase is not p.status.phase)
    deciding = p._replace(write=Patch(p.status, wanted, shown), ending=ending)
    decided = _put(s, i, deciding)
    if not o.ack_after_patch:
        acking = p._replace(write=Ack(shown, p.plan, final=False))
        yield f"{i} acknowledges unpublished", _put(s, i, acking), ()
    if o.atomic:
        for what, then, wrong in _patch(decided, o, i, Patch(p.status, wanted, shown)):
            yield what, then, (*broken, *wrong)
    else:
        yield label or f"{i} decides on a status", decided, tuple(broken)


def _acknowledging(s: State, p: Process, shown: History, o: Options) -> Process:
    log = s.log
    if not shown or p.claim is not Claim.HELD:
        return p._replace(write=None)
    final = bool(p.status.phase) and len(shown) == len(p.seen)
    final = final and not (o.order_kept and pending(p.seen, o))
    due = (
        log is None
        or log.acked < len(shown)
        or not _same(shown, log.records)
        or (final and not log.expiring)
    )
    return p._replace(write=Ack(shown, p.plan, final) if due else None)


def _patch(s: State, o: Options, i: int, patch: Patch) -> Iterator[Step]:
    p = s.processes[i]
    if patch.base != s.status and o.compare_version:
        # Only the time of the read that follows matters: the refused patch did nothing.
        fresh = _put(s, i, p._replace(status=s.status, write=None, ending=False))
        reread = o.reread_again or patch.wanted.phase is not Phase.FAILED
        yield from _render(fresh, o, i, f"{i} meets a conflict", reread=reread)
        return
    if o.server_rules and s.status.phase and patch.wanted.phase != s.status.phase:
        yield f"{i} is refused", _put(s, i, p._replace(write=None, ending=False)), ()
        return
    broken = _shown_wrongly(s, patch)
    known = p._replace(status=patch.wanted, ending=False)
    written = _put(s, i, _acknowledging(s, known, patch.shown, o), status=patch.wanted)
    yield f"{i} patches", written, broken
    # An unclear answer is read back, and only what is seen there counts.
    unclear = _put(s, i, p._replace(write=None), status=patch.wanted)
    yield f"{i} patches, reply lost", unclear, broken


def _shown_wrongly(s: State, patch: Patch) -> tuple[str, ...]:
    old, new = s.status, patch.wanted
    out = []
    if not leq(old.attempts, new.attempts):
        out.append("S4")
    if old.phase and new.phase != old.phase:
        out.append("S6")
    before, after = [k for k, _ in old.attempts], [k for k, _ in new.attempts]
    if after[: len(before)] != before:
        out.append("N")
    order = [k for k, _ in fold(records_of(s.log))]
    fresh = [k for k in after[len(before) :] if k in order]
    if fresh != sorted(fresh, key=order.index):
        out.append("N2")
    return tuple(out)


def _ack(s: State, o: Options, i: int, ack: Ack) -> Iterator[Step]:
    """ACK: everything up to here is published; let a finished log expire."""
    p, log, position = s.processes[i], s.log, len(ack.shown)
    if log is None or not _acknowledged_history(log, ack, o):
        yield f"{i} ACK: STALE", _put(s, i, _lose(p)._replace(write=None)), ()
        return
    prefix = fold(log.records[:position])
    broken = () if leq(prefix, s.status.attempts) else ("S10",)
    acked = max(log.acked, position)
    last = len(log.records)
    expire = ack.final or not o.expire_final
    expire = expire and (position == last or not o.expire_here)
    expire = expire and (acked == last or not o.expire_acked)
    after = log._replace(acked=acked, expiring=log.expiring or expire)
    done = p._replace(write=None)
    if ack.final and after.expiring and p.pc is Pc.IDLE:
        # The entry is replaced by a stub.
        done = _lose(done)._replace(seen=(), plan=0)
    yield f"{i} ACK {position}", _put(s, i, done, log=after), broken
    if after != log and not o.quiet:
        yield f"{i} ACK {position}, reply lost", s._replace(log=after), broken


def _acknowledged_history(log: Log, ack: Ack, o: Options) -> bool:
    shown = ack.shown
    if len(log.records) < len(shown):
        return False
    if not o.ack_history:
        return True
    if not o.ack_chain:
        return log.records[len(shown) - 1] == shown[-1]._replace(unread=False)
    return ack.plan == log.plan and _same(shown, log.records)
