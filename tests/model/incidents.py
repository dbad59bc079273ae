"""
The fifth model: the notifications of one incident, and a receiver that keeps its state.

Each notification is with a process of its own, which is the worst case. It looks (unless it begins the
incident), records its intent, asks for the others, reads their logs, and sends; each is a step. A request
may be refused, its answer lost or late; what is late may land until a send has had its time. A process may
be killed anywhere, also between its last look and the send, and another one takes over: it finds the open
intent, whose result is unknown. Logs lose nothing here, and nothing is deleted.

The rule is the product's own (`syncer.rules.incident_order`), and each option is one of its parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.rules.incident_order import Mate, superseded_by, waits_for
from tests.model.search import replaced

OPEN, UNKNOWN, FAILED, SUCCESS = AttemptState
_STATES: Final = {"F": "firing", "R": "resolved"}
#: Attempts that a notification has at most.
_MOST: Final = 2


@dataclass(frozen=True, slots=True)
class Options:
    """
    The world, and the rule as built.

    Attributes:
        story: What is created one after the other, `F` or `R`.
        kills: How many processes are killed.
        faults: How many requests are refused, or their answers lost or late.
        looks_after: The intent is recorded before the look that counts.
        supersedes: What is newer supersedes what is older.
        ends_only: Only an end supersedes, or only what a firing one says to an end.
        waits: What is on the wire is waited for.
        gives_time: So is what may still be on it.
        asks: The others are asked of the server, not of a watch that lags.
        fenced: Who has lost its lease sends no more.
        waits_its_turn: An end waits until all before it are over, and a firing that is late is left out.
    """

    story: str = "FRF"
    kills: int = 1
    faults: int = 1
    looks_after: bool = True
    supersedes: bool = True
    ends_only: bool = False
    waits: bool = True
    gives_time: bool = True
    asks: bool = True
    fenced: bool = True
    waits_its_turn: bool = False


class Try(NamedTuple):
    """An attempt: what its log says, whether its request is on the wire, whether it had its time."""

    state: AttemptState = OPEN
    flies: bool = False
    settled: bool = False


@replaced
class Note(NamedTuple):
    """
    A notification.

    `step` is where its process is: idle, looked, opened, asked, cleared, sent, or over for good. `knew` is
    how many there were when it asked; a `zombie` is about to send what another process has taken over.
    """

    step: str = "idle"
    tries: tuple[Try, ...] = ()
    knew: int = 0
    zombie: bool = False


@replaced
class State(NamedTuple):
    """The whole system; `landed` are the notifications in the order in which they reached the receiver."""

    notes: tuple[Note, ...] = ()
    landed: tuple[int, ...] = ()
    kills: int = 0
    faults: int = 0


Step = tuple[str, State, tuple[str, ...]]


def start(o: Options) -> State:
    """Nothing is created yet."""
    return State(kills=o.kills, faults=o.faults)


def goal(s: State, o: Options) -> bool:
    """All are over."""
    return len(s.notes) == len(o.story) and all(n.step == "over" for n in s.notes)


def steps(s: State, o: Options) -> Iterator[Step]:
    """All that may happen next."""
    if len(s.notes) < len(o.story):
        yield f"create {o.story[len(s.notes)]}{len(s.notes)}", _with(s, len(s.notes), Note()), ()
    for i, note in enumerate(s.notes):
        name = f"{o.story[i]}{i}"
        for label, following in _process(s, o, i, note):
            yield f"{name} {label}", following, ()
        yield from _wire(s, o, i, note, name)
        if s.kills and note.step not in ("over", "idle"):
            tries = tuple(t._replace(state=UNKNOWN) if t.state is OPEN else t for t in note.tries)
            new = Note("idle", tries, zombie=note.step == "cleared" and not o.fenced)
            yield f"{name} is taken over", _with(s, i, new)._replace(kills=s.kills - 1), ()


def _with(s: State, i: int, note: Note) -> State:
    return s._replace(notes=(*s.notes[:i], note, *s.notes[i + 1 :]))


def _look(s: State, o: Options, i: int, knew: int) -> tuple[bool, bool]:
    """Whether something newer supersedes a notification, and whether it has to wait."""
    if o.waits_its_turn:
        if o.story[i] == "R":
            return False, any(n.step != "over" for n in s.notes[:i])
        return any(n.step == "over" and n.tries for n in s.notes[i + 1 : knew]), False
    return _ruled(tuple(n.tries for n in s.notes[:knew]), o, i)


@cache
def _ruled(known: tuple[tuple[Try, ...], ...], o: Options, i: int) -> tuple[bool, bool]:
    """The product's rule; few logs differ, and many states."""
    mates = [
        Mate(str(n), (n, 0), _STATES[o.story[n]], [_attempt(t) for t in tries])
        for n, tries in enumerate(known)
        if n != i
    ]
    counting = [m for m in mates if not o.ends_only or m.state == "resolved"]
    gone = o.supersedes and bool(superseded_by((i, 0), counting))
    timeout = 1 if o.gives_time else 0
    older = [m for m in mates if m.order < (i, 0)]
    waits = waits_for(_STATES[o.story[i]], older, 0, timeout, -timeout)
    return gone, o.waits and bool(waits)


def _attempt(made: Try) -> Attempt:
    return Attempt(AttemptId("0.7-1"), "pager", made.state, ended=-2 if made.settled else 0)


def _process(  # noqa: C901, PLR0912 (one branch for each step)
    s: State, o: Options, i: int, note: Note
) -> Iterator[tuple[str, State]]:
    made, last = note.tries, note.tries[-1] if note.tries else None
    if note.zombie:
        late = (*made[:-1], made[-1]._replace(flies=True))
        yield "is sent by who has lost it", _with(s, i, note._replace(tries=late, zombie=False))
    if note.step == "idle":
        if len(made) == _MOST:
            yield "has no attempts left", _with(s, i, note._replace(step="over"))
            return
        gone, waits = _look(s, o, i, len(s.notes))
        if not made and o.story[i] == "F" and o.looks_after:
            gone = waits = False  # it does not look yet
        if gone:
            yield "is superseded", _with(s, i, note._replace(step="over"))
        elif not waits:
            yield "goes on", _with(s, i, note._replace(step="looked"))
    elif note.step == "looked":
        new = (*made, Try())
        yield "records its intent", _with(s, i, note._replace(step="opened", tries=new))
    elif note.step == "opened":
        # A watch may show less than there is, but never what was created after.
        for knew in (len(s.notes),) if o.asks else range(i + 1, len(s.notes) + 1):
            yield f"knows {knew}", _with(s, i, note._replace(step="asked", knew=knew))
    elif note.step == "asked":
        gone, waits = _look(s, o, i, note.knew) if o.looks_after else (False, False)
        if gone:
            yield "is superseded", _with(s, i, note._replace(step="over", tries=made[:-1]))
        elif waits:
            yield "is not sent", _with(s, i, note._replace(step="idle", tries=made[:-1]))
        else:
            yield "may be sent", _with(s, i, note._replace(step="cleared"))
    elif note.step == "cleared" and last is not None:
        new = (*made[:-1], last._replace(flies=True))
        yield "is sent", _with(s, i, note._replace(step="sent", tries=new))


def _wire(s: State, o: Options, i: int, note: Note, name: str) -> Iterator[Step]:
    for n, made in enumerate(note.tries):

        def then(new: Try, step: str = note.step, n: int = n) -> State:
            tries = (*note.tries[:n], new, *note.tries[n + 1 :])
            return _with(s, i, note._replace(step=step, tries=tries))

        waited = note.step == "sent" and made.state is OPEN
        if made.flies:
            newer = any(j > i and o.story[j] != o.story[i] for j in s.landed)
            broken = ("ORDER",) if newer else ()
            landed = (*s.landed, i)
            if waited:
                known = then(made._replace(state=SUCCESS, flies=False, settled=True), "over")
                yield f"{name} lands", known._replace(landed=landed), broken
            if waited and s.faults:
                fewer = s.faults - 1
                refused = then(made._replace(state=FAILED, flies=False, settled=True), "idle")
                yield f"{name} is refused", refused._replace(faults=fewer), ()
                lost = then(made._replace(state=UNKNOWN, flies=False), "idle")
                yield f"{name} lands, unheard", lost._replace(faults=fewer, landed=landed), broken
                late = then(made._replace(state=UNKNOWN), "idle")
                yield f"{name} is not answered in time", late._replace(faults=fewer), ()
            if made.state is UNKNOWN:
                yield (
                    f"{name} lands late",
                    then(made._replace(flies=False))._replace(landed=landed),
                    broken,
                )
        if made.state is UNKNOWN and not made.settled:
            yield f"{name} has had its time", then(made._replace(flies=False, settled=True)), ()
