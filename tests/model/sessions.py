"""
The third model: who may act for a shard, if replicas have sessions.

A replica renews one Lease, its *session*, and nothing else. A shard's Lease names the session under which
it was acquired and is written at acquisition and release only. Whoever takes over first ends the
session, by a DELETE against the resourceVersion that he has seen unchanged for LeaseDuration. What the
other models settle is taken for granted: a term is a right to act, and a send is one request.

Time passes in ticks, and each replica counts them on its own clock; what happens within one tick may
happen in any order. A renewal is written once a tick by whoever lives and reaches the API server. A term
allows a send until `deadline` ticks after the start of the last confirmed renewal, a request is with
the receiver after `wire` more at most, and LeaseDuration is the sum.

The watch of a replica may lag for as long as it likes and then shows all that has happened. That nothing in
between is seen at a later time costs no behaviour that could harm: seen later means waited for longer, and
a write against what is old already is refused.

In the world of an upgrade the first replica is an old one: it renews its shard's Lease, and takes another's
that it has seen unchanged for the duration that this shows, which new ones write as one without an end.

Labels as in `wakeups`: what begins with `fault` need never happen, and neither need a replica that was
frozen or cut off come back.

Properties (of a step) and promises (kept by a fair behaviour):

- X: no send begins while another replica's request for the same shard is on its way.
- SH: a send begins only while the shard's Lease names the term that it is for.
- EP: no epoch begins two terms.
- NT: nobody ends another's session that was renewed within LeaseDuration.
- OWNED: each shard has an owner, if any replica is well.
- SESS: a replica that is well has a session.
- GONE: the session of a replica that is dead does not stay.

Each rule is in force unless a mutant switches it off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from tests.model.fairness import Promises
from tests.model.rules import Rules
from tests.model.search import replaced, spend, with_replica

NOBODY = -1
#: In the place of a session: held by a replica of before the sessions, by the shard's Lease alone.
OLD = -1


@replaced
class Session(NamedTuple):
    """
    A session's Lease on the server.

    Attributes:
        uid: Which session of its replica this is, from 1.
        start: Age of the renewal that was written last, from its start.
    """

    uid: int
    start: int


@replaced
class Shard(NamedTuple):
    """
    A shard's Lease on the server.

    Attributes:
        holder: A replica, or `NOBODY`.
        uid: The session that it named.
        granted: A term has begun with this resourceVersion as its epoch.
        note: (mutant) Holder and session that a new replica wrote last; old ones leave it there.
    """

    holder: int
    uid: int
    granted: bool
    note: tuple[int, int] | None = None


@replaced
class SeenSession(NamedTuple):
    """
    What a replica has seen of a session.

    Attributes:
        of: Whose it is.
        uid: Which one.
        fresh: Its newest resourceVersion is the one that was seen.
        age: Since that was seen first.
        present: It was there.
    """

    of: int
    uid: int
    fresh: bool
    age: int
    present: bool


class SeenShard(NamedTuple):
    """What a replica has seen of a shard's Lease; `age` counts only where the Lease has a deadline."""

    holder: int
    uid: int
    fresh: bool
    age: int = 0


class Asked(NamedTuple):
    """An acquisition that was not answered: the session that it names, and how far it is."""

    uid: int
    valid: bool
    written: bool = False


@replaced
class Replica(NamedTuple):
    """
    One process.

    Attributes:
        up: It runs.
        frozen: It does nothing for now; its clock goes on.
        cut: It does not reach the API server.
        stalled: Its watch shows nothing more.
        uid: Its session, 0 without one; `OLD` for an old one while it holds the shard.
        renewed: Age of its last confirmed renewal, from its start.
        tried: It has renewed in this tick.
        doubt: A renewal of it was not answered.
        terms: For each shard the session under which it holds it, 0 if it does not.
        asked: For each shard its acquisition on the way.
        sessions: What it has seen of others' sessions, sorted.
        shards: What it has seen of the shards.
    """

    up: bool
    frozen: bool
    cut: bool
    stalled: bool
    uid: int
    renewed: int
    tried: bool
    doubt: bool
    terms: tuple[int, ...]
    asked: tuple[Asked | None, ...]
    sessions: tuple[SeenSession, ...]
    shards: tuple[SeenShard, ...]


@replaced
class Budget(NamedTuple):
    """Faults left; each is named by the label of its step."""

    crashes: int = 0
    restarts: int = 0
    freezes: int = 0
    cuts: int = 0
    replies: int = 0
    lates: int = 0
    deletes: int = 0
    handovers: int = 0
    stalls: int = 0


NO_FAULTS = Budget()


class Late(NamedTuple):
    """
    A write on its way whose caller has given up.

    Attributes:
        kind: `renewal`, `end` by another replica, or `own end`.
        of: Whose session it is for.
        uid: Which one.
        age: Since it was sent.
    """

    kind: str
    of: int
    uid: int
    age: int


@replaced
class State(NamedTuple):
    """
    The whole system.

    Attributes:
        replicas: The processes.
        sessions: For each replica its session's Lease.
        shards: Their Leases.
        begun: For each replica how many sessions it has begun.
        late: Writes on their way.
        wire: Requests on their way to a receiver: shard, replica, age.
        budget: Faults left.
    """

    replicas: tuple[Replica, ...]
    sessions: tuple[Session | None, ...]
    shards: tuple[Shard, ...]
    begun: tuple[int, ...]
    late: tuple[Late, ...]
    wire: tuple[tuple[int, int, int], ...]
    budget: Budget


#: A transition: what happened, the next state, the properties that it broke.
Step = tuple[str, State, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Options(Rules):
    """
    Faults and world; the rules are in `RULES`.

    Attributes:
        replicas: How many processes there are.
        shards: How many shards.
        deadline: Ticks after the start of a renewal in which it allows a send.
        wire: Ticks that a request may take to be with the receiver and over.
        old: The first replica is an old one; there is one shard.
        faults: How often each fault may happen.
    """

    replicas: int = 2
    shards: int = 1
    deadline: int = 1
    wire: int = 1
    old: bool = False
    faults: Budget = NO_FAULTS

    RULES: ClassVar = {
        "end_first": "(S1) Shards are taken only once the session that they name is ended.",
        "end_compares": "(S2) A session is ended against the resourceVersion that was seen.",
        "session_counts": "(S3) The deadline is the session's; a shard's Lease has none.",
        "end_is_end": "(S4) With a session all its terms end.",
        "gone_is_over": "(S5) A replica whose session's Lease is gone has none.",
        "absence_waits": (
            "(S6) A session that somebody else has ended is waited for like one that is there."
        ),
        "list_waits": "(S7) An absence that a list shows is waited for from then on.",
        "not_found_waits": (
            "(S8) That the Lease was gone when it was to be ended is no end of one's own."
        ),
        "answer_named": "(S9) An acquisition counts for the session that it names, or not at all.",
        "renewal_starts": "(S10) A renewal counts from its start.",
        "clock_goes_on": "(S11) The clock goes on while the process is frozen.",
        "send_guard": "(S12) Right before a send the clock is asked.",
        "release_ends": "(S13) A release ends the term before it is written.",
        "acquire_compares": "(S14) A shard is acquired against the resourceVersion that was seen.",
        "one_stream": "(S15) Sessions and shards are seen in the order of their writes.",
        "counts_up": "(S16) Each acquisition changes the Lease.",
        "own_again": "(S17) A shard that names the own session and is not held is acquired anew.",
        "reopens": "(S18) A watch that does not show the own renewals is opened anew.",
        "begins_anew": "(S19) After a session the next one begins.",
        "ends_empty": "(S20) Sessions without a shard are ended, too.",
        "end_names": "(S22) Who ends a session names its uid.",
        "never_expires": "(S23) What a new replica holds never expires for an old one.",
        "note_checked": "(S24) What an old one has acquired names no session.",
        "old_waited": (
            "(S25) What an old one holds is taken once it was not renewed for LeaseDuration."
        ),
        "judged_written": (
            "(S26) An acquisition compares with what was judged, not with what was seen since."
        ),
        "acquire_valid": "(S21) Shards are acquired only while the own session is valid.",
    }

    @property
    def duration(self) -> int:
        """LeaseDuration."""
        return self.deadline + self.wire


def start(o: Options) -> State:
    """Each replica has a session; the first one holds the shards; all is seen."""
    first = OLD if o.old else 1
    replicas = tuple(
        Replica(
            up=True, frozen=False, cut=False, stalled=False, uid=1 if i else first, renewed=0,
            tried=True, doubt=False, terms=(0 if i else first,) * o.shards,
            asked=(None,) * o.shards,
            sessions=tuple(
                SeenSession(j, 1, fresh=True, age=0, present=True)
                for j in range(o.old, o.replicas)
                if j != i and not (o.old and not i)
            ),
            shards=(SeenShard(0, first, fresh=True),) * o.shards,
        )
        for i in range(o.replicas)
    )  # fmt: skip
    sessions = tuple(None if o.old and not i else Session(1, 0) for i in range(o.replicas))
    shards = (Shard(0, first, granted=True),) * o.shards
    return State(replicas, sessions, shards, (1,) * o.replicas, (), (), o.faults)


def steps(s: State, o: Options) -> Iterator[Step]:
    """Yield the transitions of a state."""
    for i in range(o.replicas):
        yield from _faults(s, o, i)
    for part in (_deletions, _late, _time):
        yield from part(s, o)
    for i, r in enumerate(s.replicas):
        yield from _written(s, o, i)
        if r.up and not r.frozen:
            own = (_old,) if o.old and not i else (_session, _watch, _others, _acquisition)
            for each in (*own, _work):
                yield from each(s, o, i)


def _time(s: State, o: Options) -> Iterator[Step]:
    if not any(_is_due(r) for r in s.replicas):
        yield "tick", _tick(s, o), ()


def _new(s: State, o: Options) -> Sequence[Replica]:
    return s.replicas[o.old :]


def _unowned(s: State, o: Options) -> bool:
    # Old ones alone do not take over from new ones.
    return any(_well(r) for r in _new(s, o)) and not all(
        any(_holds(r, k, o) for r in s.replicas) for k in range(o.shards)
    )


def _without_session(s: State, o: Options) -> bool:
    return any(_well(r) and not _valid(r, o) for r in _new(s, o))


def _left_behind(s: State, o: Options) -> bool:
    return any(_well(r) for r in _new(s, o)) and any(
        session is not None and not r.up for r, session in zip(s.replicas, s.sessions, strict=True)
    )


#: What a fair behaviour keeps: what is pending in a state, and which steps end it.
PROMISES: Promises[State, Options] = {
    "OWNED": (_unowned, lambda _: False),
    "SESS": (_without_session, lambda _: False),
    "GONE": (_left_behind, lambda _: False),
}


def marks(s: State, _: Options) -> dict[str, int]:
    """What has come about in a state, so that a run can be asked whether it has met it."""
    return {
        "taken over": any(shard.holder > 0 for shard in s.shards),
        "sessions": max(s.begun),
        "named and not held": any(_unheld(s, k) for k in range(len(s.shards))),
        "request outlives its term": any(not s.replicas[i].terms[k] for k, i, _ in s.wire),
        "end compared in vain": any(
            x.present and not x.fresh and x.age > 1 for r in s.replicas for x in r.sessions
        ),
    }


def _unheld(s: State, k: int) -> bool:
    """Whether a shard names a living session, and was not asked for, and is not held."""
    shard = s.shards[k]
    if shard.holder == NOBODY:
        return False
    r = s.replicas[shard.holder]
    return r.up and r.uid == shard.uid and not r.terms[k] and r.asked[k] is None


def _well(r: Replica) -> bool:
    return r.up and not (r.frozen or r.cut)


def _valid(r: Replica, o: Options) -> bool:
    return r.uid != 0 and r.renewed <= o.deadline


def _holds(r: Replica, k: int, o: Options) -> bool:
    return r.up and r.terms[k] != 0 and _valid(r, o)


# -- changes --------------------------------------------------------------------------------------


def _put(items: tuple[Any, ...], at: int, item: Any) -> tuple[Any, ...]:
    return (*items[:at], item, *items[at + 1 :])


def _session_renewed(s: State, i: int, start: int) -> State:
    """A renewal was written: what others have seen is old, and so is what is on its way."""
    session = s.sessions[i]
    assert session is not None
    replicas = tuple(
        r._replace(
            sessions=tuple(
                seen._replace(fresh=False) if seen.of == i and seen.uid == session.uid else seen
                for seen in r.sessions
            )
        )
        for r in s.replicas
    )
    late = tuple(x for x in s.late if (x.of, x.uid) != (i, session.uid))
    sessions = _put(s.sessions, i, session._replace(start=start))
    return s._replace(replicas=replicas, sessions=sessions, late=late)


def _session_gone(s: State, i: int, *, end_names: bool = True) -> State:
    session = s.sessions[i]
    assert session is not None
    late = s.late
    if end_names:
        late = tuple(x for x in late if (x.of, x.uid) != (i, session.uid))
    return s._replace(sessions=_put(s.sessions, i, None), late=late)


def _shard_written(s: State, k: int, shard: Shard) -> State:
    """A shard's Lease was written: what was seen of it is old, and so is what is on its way."""
    replicas = tuple(
        r._replace(
            asked=_put(r.asked, k, _outdated(r.asked[k])),
            shards=_put(r.shards, k, r.shards[k]._replace(fresh=False)),
        )
        for r in s.replicas
    )
    return s._replace(replicas=replicas, shards=_put(s.shards, k, shard))


def _outdated(asked: Asked | None) -> Asked | None:
    return asked and asked._replace(valid=False)


def _over(s: State, o: Options, i: int) -> State:
    """The session is over for its replica, and every term of it."""
    r = s.replicas[i]
    terms = (0,) * o.shards if o.end_is_end else r.terms
    return with_replica(s, i, uid=0, renewed=o.duration, tried=False, doubt=False, terms=terms)


# -- faults and time ------------------------------------------------------------------------------


def _faults(s: State, _: Options, i: int) -> Iterator[Step]:
    r, left = s.replicas[i], s.budget
    if r.up and left.crashes:
        yield f"fault: crash of {i}", _dead(spend(s, "crashes"), i), ()
    if not r.up and left.restarts:
        again = with_replica(spend(s, "restarts"), i, up=True)
        yield f"fault: restart of {i}", _shown(again, i, keep=_is_last), ()
    if not r.up:
        return
    if left.freezes and not r.frozen:
        yield f"fault: {i} is frozen", spend(with_replica(s, i, frozen=True), "freezes"), ()
    if r.frozen:
        yield f"end of fault: {i} wakes", with_replica(s, i, frozen=False), ()
    if left.cuts and not r.cut:
        yield f"fault: {i} is cut off", spend(with_replica(s, i, cut=True), "cuts"), ()
    if r.cut:
        yield f"end of fault: {i} reaches the server", with_replica(s, i, cut=False), ()
    if left.stalls and not r.stalled:
        yield (
            f"fault: the watch of {i} stalls",
            spend(with_replica(s, i, stalled=True), "stalls"),
            (),
        )


def _deletions(s: State, _: Options) -> Iterator[Step]:
    for i, session in enumerate(s.sessions):
        if s.budget.deletes and session is not None:
            gone = spend(_session_gone(s, i), "deletes")
            yield f"fault: the session of {i} is deleted by hand", gone, ()


def _dead(s: State, i: int) -> State:
    r = s.replicas[i]
    none: tuple[Asked | None, ...] = (None,) * len(r.terms)
    return with_replica(
        s, i, up=False, frozen=False, cut=False, stalled=False, uid=0, renewed=0, tried=False,
        doubt=False, terms=(0,) * len(r.terms), asked=none, sessions=(),
        shards=(SeenShard(NOBODY, 0, fresh=False),) * len(r.terms),
    )  # fmt: skip


def _late(s: State, o: Options) -> Iterator[Step]:
    for write in s.late:
        session = s.sessions[write.of]
        rest = s._replace(late=tuple(x for x in s.late if x != write))
        name = f"late: {write.kind} of the session of {write.of}"
        if session is None or (
            session.uid != write.uid and (o.end_names or write.kind != "own end")
        ):
            continue
        if write.kind == "renewal":
            yield name, _session_renewed(rest, write.of, write.age), ()
        else:
            own = write.kind == "own end" and session.uid == write.uid
            yield name, _session_gone(rest, write.of), () if own else _untimely(session, o)


def _untimely(session: Session, o: Options) -> tuple[str, ...]:
    return () if session.start >= o.duration else ("NT",)


def _is_due(r: Replica) -> bool:
    """Whether a replica does something before time goes on: a call is answered within a tick."""
    if not _well(r):
        return False
    return (r.uid != 0 and not r.tried) or any(r.asked)


def _tick(s: State, o: Options) -> State:
    most = o.duration
    replicas = []
    for r in s.replicas:
        if not r.up or (r.frozen and not o.clock_goes_on):
            replicas.append(r)
            continue
        older = r._replace(
            renewed=min(most, r.renewed + 1),
            tried=False,
            sessions=tuple(x._replace(age=min(most, x.age + 1)) for x in r.sessions),
        )
        if o.old or not o.session_counts:
            older = older._replace(
                shards=tuple(
                    x._replace(age=min(most, x.age + 1)) if _expires(x, o) else x for x in r.shards
                )
            )
        replicas.append(older)
    sessions = tuple(x and x._replace(start=min(most, x.start + 1)) for x in s.sessions)
    late = tuple(x._replace(age=min(most, x.age + 1)) for x in s.late)
    wire = tuple((k, i, age + 1) for k, i, age in s.wire if age + 1 < o.wire)
    s = s._replace(replicas=tuple(replicas), sessions=sessions, late=late, wire=wire)
    for i, r in enumerate(s.replicas):
        # Who is awake has a timer for it; who was frozen finds out later.
        if r.up and not r.frozen and r.uid and r.renewed > o.deadline:
            s = _over(s, o, i)
    return s


def _expires(shard: SeenShard, o: Options) -> bool:
    return shard.holder != NOBODY and (
        shard.uid == OLD or not (o.never_expires and o.session_counts)
    )


# -- one replica ----------------------------------------------------------------------------------


def _session(s: State, o: Options, i: int) -> Iterator[Step]:
    r, session = s.replicas[i], s.sessions[i]
    if r.uid and r.renewed > o.deadline:
        yield f"{i} finds its session over", _over(s, o, i), ()
        return
    if r.cut:
        return
    if r.uid and not r.tried:
        yield from _renewal(s, o, i)
    if not r.uid and o.begins_anew:
        if session is not None:
            yield (
                f"{i} ends what stands under its name",
                _session_gone(s, i, end_names=o.end_names),
                (),
            )
            if s.budget.lates:
                late = s._replace(late=(*s.late, Late("own end", i, session.uid, 0)))
                yield f"fault: {i} ends what stands under its name late", spend(late, "lates"), ()
            return
        begun = s.begun[i] + 1
        posted = s._replace(
            sessions=_put(s.sessions, i, Session(begun, 0)), begun=_put(s.begun, i, begun)
        )
        terms = tuple(uid and begun for uid in r.terms)
        yield (
            f"{i} begins a session",
            with_replica(posted, i, uid=begun, renewed=0, tried=True, terms=terms),
            (),
        )
        if s.budget.replies:
            yield f"fault: {i} begins a session, answer lost", spend(posted, "replies"), ()


def _renewal(s: State, o: Options, i: int) -> Iterator[Step]:
    r, session = s.replicas[i], s.sessions[i]
    if session is None or session.uid != r.uid:
        over = _over(s, o, i) if o.gone_is_over else with_replica(s, i, renewed=0, tried=True)
        yield f"{i} renews: its session is gone", over, ()
        return
    if r.doubt and session.start < r.renewed:
        renewed = session.start if o.renewal_starts else 0
        yield (
            f"{i} renews: it had been renewed",
            with_replica(s, i, renewed=renewed, doubt=False),
            (),
        )
        return
    written = _session_renewed(s, i, 0)
    yield f"{i} renews", with_replica(written, i, renewed=0, tried=True, doubt=False), ()
    doubtful = {"tried": True, "doubt": True}
    if s.budget.replies:
        yield (
            f"fault: {i} renews, answer lost",
            spend(with_replica(written, i, **doubtful), "replies"),
            (),
        )
    if s.budget.lates:
        late = s._replace(late=(*s.late, Late("renewal", i, r.uid, 0)))
        yield f"fault: {i} renews late", spend(with_replica(late, i, **doubtful), "lates"), ()


def _watch(s: State, o: Options, i: int) -> Iterator[Step]:
    r = s.replicas[i]
    if r.cut:
        return
    if r.stalled:
        if o.reopens:
            listed = _shown(with_replica(s, i, stalled=False), i, keep=lambda _: not o.list_waits)
            yield f"{i} opens its watch anew", listed, ()
    elif o.one_stream:
        shown = _shown(s, i, keep=_is_last)
        if not o.judged_written:
            asked = tuple(x and x._replace(valid=True) for x in shown.replicas[i].asked)
            shown = with_replica(shown, i, asked=asked)
        yield from _changed(f"{i} is shown what happened", s, shown)
    else:
        both = _shown(s, i, keep=_is_last)
        unknown = _absent(both.replicas[i].shards, s.replicas[i].sessions, i)
        shards = with_replica(s, i, shards=both.replicas[i].shards, sessions=unknown)
        yield from _changed(f"{i} is shown the shards", s, shards)
        sessions = with_replica(both, i, shards=r.shards)
        yield from _changed(f"{i} is shown the sessions", s, sessions)


def _changed(label: str, s: State, following: State) -> Iterator[Step]:
    if following != s:
        yield label, following, ()


def _is_last(seen: SeenSession) -> bool:
    """A renewal that was not seen yet is shown before the end, and waited for; else the wait goes on."""
    return seen.fresh


def _shown(s: State, i: int, *, keep: Callable[[SeenSession], bool]) -> State:
    """
    All that happened is seen.

    Args:
        s: Now.
        i: By whom.
        keep: Whether a session that is gone is waited for since it was seen last, not since now.
    """
    r = s.replicas[i]
    shards = tuple(
        seen if seen.fresh else _read(now) for seen, now in zip(r.shards, s.shards, strict=True)
    )
    known = {(x.of, x.uid): x for x in r.sessions}
    found = []
    for j, session in enumerate(s.sessions):
        if session is not None and j != i:
            seen = known.pop((j, session.uid), None)
            if seen is None or not (seen.fresh and seen.present):
                seen = SeenSession(j, session.uid, fresh=True, age=0, present=True)
            found.append(seen)
    for seen in known.values():
        age = seen.age if not seen.present or keep(seen) else 0
        found.append(seen._replace(fresh=True, age=age, present=False))
    return with_replica(s, i, shards=shards, sessions=_absent(shards, tuple(found), i))


def _read(shard: Shard) -> SeenShard:
    """What a new replica takes from a shard's Lease."""
    if shard.note is not None and shard.holder != NOBODY:
        return SeenShard(*shard.note, fresh=True)
    return SeenShard(shard.holder, shard.uid, fresh=True)


def _absent(
    shards: tuple[SeenShard, ...], sessions: tuple[SeenSession, ...], i: int
) -> tuple[SeenSession, ...]:
    """What is known of sessions that are there or named; one that is not known is not there."""
    named = {(x.holder, x.uid) for x in shards if x.holder not in (NOBODY, i) and x.uid != OLD}
    kept = [x for x in sessions if x.present or (x.of, x.uid) in named]
    new = named - {(x.of, x.uid) for x in kept}
    gone = [SeenSession(of, uid, fresh=True, age=0, present=False) for of, uid in new]
    return tuple(sorted([*kept, *gone]))


def _others(s: State, o: Options, i: int) -> Iterator[Step]:
    """Sessions that have not been renewed for too long are ended."""
    r = s.replicas[i]
    if r.cut:
        return
    for n, seen in enumerate(r.sessions):
        if not seen.present or seen.age < o.duration:
            continue
        if not o.ends_empty and not any((x.holder, x.uid) == (seen.of, seen.uid) for x in r.shards):
            continue
        session = s.sessions[seen.of]
        label = f"{i} ends the session of {seen.of}"
        mine = with_replica(
            s, i, sessions=_put(r.sessions, n, seen._replace(present=False, fresh=True))
        )
        if session is None or session.uid != seen.uid:
            if not o.not_found_waits:
                yield f"{label}: gone", mine, ()
            continue
        if seen.fresh or not o.end_compares:
            broken = _untimely(session, o)
            yield label, _session_gone(mine, seen.of), broken
            if s.budget.replies:
                lost = spend(_session_gone(s, seen.of), "replies")
                yield f"fault: {i} ends the session of {seen.of}, answer lost", lost, broken
            if s.budget.lates:
                late = s._replace(late=(*s.late, Late("end", seen.of, seen.uid, o.duration)))
                yield f"fault: {i} ends the session of {seen.of} late", spend(late, "lates"), ()


def _is_free(s: State, o: Options, i: int, k: int) -> bool:
    """Whether a replica may acquire a shard, by what it has seen."""
    r = s.replicas[i]
    shard = r.shards[k]
    if shard.holder == NOBODY:
        return True
    if shard.holder == i:
        return shard.uid != r.uid or o.own_again
    if shard.uid == OLD:
        return not o.old_waited or shard.age >= o.duration
    if not o.session_counts and shard.age >= o.duration:
        return True
    for seen in r.sessions:
        if (seen.of, seen.uid) == (shard.holder, shard.uid):
            if seen.present:
                return not o.end_first and seen.age >= o.duration
            return not o.absence_waits or seen.age >= o.duration
    return False


def _acquisition(s: State, o: Options, i: int) -> Iterator[Step]:
    r = s.replicas[i]
    if r.uid and not r.cut and (_valid(r, o) or not o.acquire_valid):
        for k in range(o.shards):
            if r.terms[k] or r.asked[k] or not _is_free(s, o, i, k):
                continue
            valid = r.shards[k].fresh or not o.acquire_compares
            asking = with_replica(s, i, asked=_put(r.asked, k, Asked(r.uid, valid)))
            yield f"{i} asks for {k}", asking, ()
    for k, asked in enumerate(r.asked):
        if asked is None:
            continue
        done = with_replica(s, i, asked=_put(r.asked, k, None))
        if r.cut:
            yield f"{i} gives up to ask for {k}", done, ()
        elif not asked.written and not asked.valid:
            yield f"{i} is refused {k}", done, ()
        elif asked.written:
            yield from _acquired(done, o, i, k, asked.uid)


def _written(s: State, o: Options, i: int) -> Iterator[Step]:
    """The server writes an acquisition, whatever has become of who asked for it."""
    for k, asked in enumerate(s.replicas[i].asked):
        if asked is None or asked.written or not (asked.valid or not o.acquire_compares):
            continue
        was = s.shards[k]
        same = (was.holder, was.uid) == (i, asked.uid) and not o.counts_up
        note = None if o.note_checked else (i, asked.uid)
        shard = Shard(i, asked.uid, granted=was.granted and same, note=note)
        written = _shard_written(s, k, shard)
        r = written.replicas[i]
        yield (
            f"{k} names {i}",
            with_replica(written, i, asked=_put(r.asked, k, asked._replace(written=True))),
            (),
        )


def _acquired(s: State, o: Options, i: int, k: int, uid: int) -> Iterator[Step]:
    """An acquisition was answered: the term is of the session that it names."""
    r, now = s.replicas[i], s.shards[k]
    if not r.uid or (r.uid != uid and o.answer_named):
        yield f"{i} is answered for {k}: too late", s, ()
        return
    broken = ("EP",) if now.granted and (now.holder, now.uid) == (i, uid) else ()
    if (now.holder, now.uid) == (i, uid):
        s = s._replace(shards=_put(s.shards, k, now._replace(granted=True)))
        s = with_replica(s, i, shards=_put(r.shards, k, SeenShard(i, uid, fresh=True)))
    yield f"{i} acquires {k}", with_replica(s, i, terms=_put(r.terms, k, r.uid)), broken


def _work(s: State, o: Options, i: int) -> Iterator[Step]:
    r = s.replicas[i]
    for k, uid in enumerate(r.terms):
        if not uid:
            continue
        if not any((k, i) == request[:2] for request in s.wire):
            if r.renewed <= o.deadline or not o.send_guard:
                yield _send(s, i, k, uid)
            if s.budget.handovers and not r.cut:
                yield from _release(spend(s, "handovers"), o, i, k)
        if r.shards[k].fresh and (r.shards[k].holder, r.shards[k].uid) != (i, uid) and o.end_is_end:
            yield f"{i} sees that {k} is not its", with_replica(s, i, terms=_put(r.terms, k, 0)), ()


def _send(s: State, i: int, k: int, uid: int) -> Step:
    shard = s.shards[k]
    broken = []
    if any(request[0] == k for request in s.wire):
        broken.append("X")
    if (shard.holder, shard.uid) != (i, uid):
        broken.append("SH")
    return f"{i} sends for {k}", s._replace(wire=tuple(sorted((*s.wire, (k, i, 0))))), tuple(broken)


def _release(s: State, o: Options, i: int, k: int) -> Iterator[Step]:
    r, shard = s.replicas[i], s.shards[k]
    ended = with_replica(s, i, uid=0 if r.uid == OLD else r.uid, terms=_put(r.terms, k, 0))
    if (shard.holder, shard.uid) != (i, r.uid):
        yield f"{i} releases {k}: not its", ended, ()
        return
    free = Shard(NOBODY, 0, granted=False, note=shard.note)
    yield f"{i} releases {k}", _shard_written(ended, k, free), ()
    if s.budget.replies:
        yield f"fault: {i} releases {k}, lost", spend(ended, "replies"), ()
        kept = ended if o.release_ends else s
        lost = spend(_shard_written(kept, k, free), "replies")
        yield f"fault: {i} releases {k}, answer lost", lost, ()


# -- an old replica -------------------------------------------------------------------------------


def _is_old(o: Options, i: int) -> bool:
    return o.old and i == 0


def _old(s: State, o: Options, i: int) -> Iterator[Step]:
    """The shard's Lease is read, renewed, and taken when it is free or has expired."""
    r, shard, seen = s.replicas[i], s.shards[0], s.replicas[i].shards[0]
    if r.uid and r.renewed > o.deadline:
        yield f"{i} finds its term over", _over(s, o, i), ()
        return
    if r.cut:
        return
    if r.uid and not r.tried:
        if (shard.holder, shard.uid) != (i, OLD):
            yield f"{i} renews 0: it is another's", _over(s, o, i), ()
            return
        renewed = _shard_written(s, 0, shard)
        yield f"{i} renews 0", with_replica(renewed, i, renewed=0, tried=True), ()
    if r.uid:
        return
    if not seen.fresh:
        read = SeenShard(shard.holder, shard.uid, fresh=True)
        yield f"{i} reads 0", with_replica(s, i, shards=(read,)), ()
    elif seen.holder in (NOBODY, i) or seen.age >= o.duration:
        taken = _shard_written(s, 0, shard._replace(holder=i, uid=OLD, granted=True))
        mine = SeenShard(i, OLD, fresh=True)
        acquired = with_replica(
            taken, i, uid=OLD, renewed=0, tried=True, terms=(OLD,), shards=(mine,)
        )
        yield f"{i} acquires 0", acquired, ()
