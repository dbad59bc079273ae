"""
The sixth model: somebody who writes any status, at any time.

One notification, one channel, one owner after another. The rule is the product's own
(`syncer.rules.evidence.judge`), and each option is one clause of it, or of what is made of its verdict. A
claim reads log and object, has the status judged, and does what follows, in one step; so does a status
write, which compares the version. What the other models settle is taken for granted.

Faults: a status is written by somebody else; an owner dies, and what it opened is recorded as unknown
before it tells what became of that; an owner is frozen, and owns it again later with what it remembers;
Redis is emptied, or the log of this one loses its end and nobody knows why; the log expires, whoever
remembers it or has something to add; Redis is away, and attempts are journaled. The object is of this
installation, or another controller has left it.

Properties:

- F1: no log holds an attempt that nobody made, unless a loss, an outage or adoption explains it.
- F2: nothing is planned for a channel that no route names, with the same exception.
- F3: nothing is called sent that nobody received, with the same exception.
- F6: no status is doubted that nobody else has written, unless its log alone has lost its end.
- B1: requests <= 1 + attempts that were unknown when a further one was opened (+ lost ones).

What somebody takes out of a status that no log has any more counts as lost.

The goal: it is delivered or has failed by attempts of ours and its status says so, or, if anything was
begun or may have been lost, it waits for a person. Suppressed is what nobody has begun and cannot reach it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Final, NamedTuple

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.record import Plan
from syncer.model.resource import ChannelStatus, NotificationRequest, RetryPolicy
from syncer.model.resource import Status as Shown
from syncer.rules.evidence import Circumstances, Judgement, Verdict, judge
from syncer.rules.fold import LogView
from tests.model.rules import Rules
from tests.model.search import replaced

#: Milliseconds: another controller's object, the foundation, the store as first noted, an object of ours, a
#: loss, the present, and the present once its log may have expired.
FORMER, FOUNDED, SINCE, CREATED, LOSS, NOW, LATE = (10**7 * n for n in (1, 2, 3, 4, 5, 6, 100))
#: What nobody has made, and what the replaced controller has.
MADE_UP, UPSTREAMS = 90, 80
_MOST: Final = 2
#: Attempts after which the model ends.
_BOUND: Final = 3
_STATES: Final = dict(zip("IUFNS", (0, 1, 2, 2, 3), strict=True))
_CLASSES: Final = {
    "U": FailureClass.UNCERTAIN,
    "F": FailureClass.TRANSIENT,
    "N": FailureClass.NOT_SENT,
}


class Try(NamedTuple):
    """An attempt: intent, unknown, failed, not sent or success; `doubted` if it was unknown before."""

    id: int
    state: str = "I"
    doubted: bool = False


Tries = tuple[Try, ...]


class Status(NamedTuple):
    """What an object shows; `channel` is the one that it names, `mark` says that it was journaled."""

    phase: str = ""
    tries: Tries = ()
    channel: str = ""
    mark: bool = False


class Log(NamedTuple):
    """A key: its plan, what was appended, and whether the first of that was opened in it."""

    plan: str = ""
    tries: Tries = ()
    whole: bool = False


#: What somebody writes; the last one takes all away.
FORGERIES: Final = {
    "Sent": Status("Sent"),
    "Sent, with a success": Status("Sent", (Try(MADE_UP, "S"),)),
    "Failed": Status("Failed"),
    "another channel": Status("Sending", channel="x"),
    "Sent, journaled": Status("Sent", (Try(MADE_UP, "S"),), mark=True),
    "nothing": Status(),
}


@dataclass(frozen=True, slots=True)
class Options(Rules):
    """
    The world, and the rule as built.

    Attributes:
        forgeries: How often somebody writes a status.
        crashes: How often an owner dies.
        freezes: How often one is frozen.
        losses: How often Redis is emptied.
        trims: How often the log loses its end alone.
        outages: How often Redis is away.
        once: Delivery is at most once.
        adopted: Phase in which another controller has left it, empty if it is ours.
    """

    forgeries: int = 1
    crashes: int = 0
    freezes: int = 0
    losses: int = 0
    trims: int = 0
    outages: int = 0
    once: bool | None = None
    adopted: str = ""

    RULES: ClassVar = {
        "routes": "A plan comes from no status.",
        "grounds": "What a status shows enters a log only on a ground.",
        "compares": "The store is compared with the one that the Lease notes.",
        "looks": "Before a status is judged, the servers are asked who they are.",
        "marks_known": "A mark counts only where the Lease says that there may be some.",
        "marks_count": "There it does.",
        "adopts_older": "Only objects older than the installation are another controller's.",
        "adopts": "Those are.",
        "supports": "A final phase that nothing led to ends nothing.",
        "waits": "Where the absence of a log proves nothing, one is waited for.",
        "stops": "So it is where a log is there and holds less.",
        "knows_birth": (
            "Who has found that there was no log, and can have been none, needs no more evidence."
        ),
        "overrules": "What is disregarded does not decide.",
        "remembers": "What was unknown when the phase became final stays a reason for it.",
        "expires": "A log that was made anew after its time does not speak against a status.",
    }


@replaced
class State(NamedTuple):
    """
    The whole system; faults left are the counts at the end.

    Attributes:
        claim: None, `held`, `doubted` or `finished`.
        own: The status is disregarded.
        seen: The owner has seen the status that is stored.
        memory: Attempts that this process knows; it gives them back to a log that has lost them.
        frozen: Those that one knows which is frozen.
        alone: Nobody but this process can have done anything for it.
        compared: This process has compared log and status since the loss.
        looked: It knows who the servers are.
        flight: The attempt that it has opened and not sent, 0 without one.
        late: The one whose result a former owner has not told yet.
        away: Redis is.
        marked: The Lease says that statuses may be marked.
        old: Its log may have expired.
        lost: The store has been emptied; `trimmed`: the log has lost its end alone.
        tainted: Somebody else has written the status.
        begun: Attempts so far.
        arrived: How many requests a receiver has acted upon.
        excused: Attempts that were unknown when a further one was opened, or are lost.
    """

    log: Log | None = None
    status: Status = Status()
    claim: str = ""
    own: bool = False
    seen: bool = True
    memory: Tries = ()
    frozen: Tries = ()
    alone: bool = False
    compared: bool = False
    looked: bool = True
    flight: int = 0
    late: int = 0
    away: bool = False
    marked: bool = False
    old: bool = False
    lost: bool = False
    trimmed: bool = False
    tainted: bool = False
    begun: int = 0
    arrived: int = 0
    excused: frozenset[int] = frozenset()
    forgeries: int = 0
    crashes: int = 0
    freezes: int = 0
    losses: int = 0
    trims: int = 0
    outages: int = 0


Step = tuple[str, State, tuple[str, ...]]


def start(o: Options) -> State:
    """It was just created, or another controller has delivered it."""
    made = State(
        forgeries=o.forgeries, crashes=o.crashes, freezes=o.freezes, losses=o.losses, trims=o.trims,
        outages=o.outages,
    )  # fmt: skip
    if not o.adopted:
        return made
    sent = o.adopted == "Sent"
    tries = (Try(UPSTREAMS, "S" if sent else "F"),)
    return made._replace(status=Status(o.adopted, tries), begun=1, arrived=int(sent))


def goal(s: State, o: Options) -> bool:
    """It has ended, or waits for a person because something was or may have been done for it."""
    # What has a log may be stopped, once nobody is left who has it from its birth.
    left = s.crashes < o.crashes or s.freezes < o.freezes
    begun = s.begun or (s.log is not None and left)
    if s.flight or s.late or s.away or not s.seen or not (begun or _explained(s, o)):
        return False
    return (
        s.begun == _BOUND
        or s.claim in ("doubted", "finished")
        or (
            s.claim == "held"
            and _status(s, o).phase in ("Sent", "Failed")
            and _rendered(s, o) == s.status
        )
    )


def steps(s: State, o: Options) -> Iterator[Step]:
    """All that may happen next."""
    yield from _faults(s, o)
    for label, state in _ENDS.items() if s.late and not s.away else ():
        known = _record(s, s.late, state)._replace(late=0, arrived=s.arrived + (state in "SU"))
        yield _to(f"of its former owner, {s.late} {label}", known, o)
    if not s.seen:
        yield _to("the status is seen", s._replace(claim="", seen=True), o)
    if not s.looked:
        yield _to("the servers are looked at", s._replace(looked=True), o)
    if s.away:
        if s.claim == "held" and not s.flight and s.seen and _may_open(s, o):
            yield from _journal(s, o)
    elif s.flight:
        yield from _send(s, o)
    elif not s.claim and (s.looked or not o.looks):
        yield _claim(s, o)
    elif s.claim == "held":
        if _rendered(s, o) != s.status:
            yield _publish(s, o) if s.seen else _to("conflict", s._replace(claim="", seen=True), o)
        if s.log is not None and not s.log.plan and _status(s, o).phase not in ("Sent", "Failed"):
            yield _to("plans", s._replace(log=s.log._replace(plan="a")), o)
        elif s.log is not None and s.log.plan and _may_open(s, o):
            yield _open(s, o)


def _explained(s: State, o: Options) -> bool:
    """Whether what a status says beyond the log may be true."""
    return s.lost or s.old or bool(o.adopted) or (s.marked and s.status.mark)


def _to(label: str, s: State, o: Options, *broken: str) -> Step:
    found = list(broken)
    if s.log is not None and not (_explained(s, o) or s.marked):
        found += ["F1"] if any(t.id == MADE_UP for t in s.log.tries) else []
        found += ["F2"] if s.log.plan == "x" else []
    if s.arrived > 1 + len(s.excused):
        found.append("B1")
    return label, s, tuple(found)


# -- faults ----------------------------------------------------------------------------------------


def _faults(s: State, o: Options) -> Iterator[Step]:
    for name, written in FORGERIES.items() if s.forgeries else ():
        if written != s.status:
            gone = {t.id for t in s.status.tries} - {t.id for t in (s.log or Log()).tries}
            forged = s._replace(status=written, seen=False, tainted=True, forgeries=s.forgeries - 1)
            yield _to(f"somebody writes {name}", forged._replace(excused=s.excused | gone), o)
    if s.crashes and s.claim:
        new = _forgotten(s)._replace(compared=False, seen=True, crashes=s.crashes - 1)
        yield _to("the owner dies", new._replace(flight=0, late=s.flight), o)
    if s.freezes and s.claim and not s.late:
        new = _forgotten(s)._replace(compared=False, seen=True, freezes=s.freezes - 1)
        new = new._replace(flight=0, late=s.flight, frozen=s.memory)
        yield _to("the owner is frozen", new, o)
    if s.frozen and not s.flight:
        new = _forgotten(s)._replace(compared=False, seen=True, memory=s.frozen, frozen=())
        yield _to("who was frozen owns it again", new, o)
    if s.losses and s.log is not None:
        gone = {t.id for t in s.log.tries if t not in s.status.tries}
        new = s._replace(log=None, claim="", lost=True, looked=False, compared=False, losses=0)

        yield _to("Redis is emptied", new._replace(excused=s.excused | gone), o)
    if s.trims and s.log is not None and s.log.tries and not s.flight:
        last = s.log.tries[-1]
        gone = {last.id} - {t.id for t in s.status.tries if t.state == last.state}
        log = s.log._replace(tries=s.log.tries[:-1], whole=s.log.whole and len(s.log.tries) > 1)
        new = s._replace(log=log, claim="", trimmed=True, trims=0, excused=s.excused | gone)
        yield _to("the log loses its end", new, o)
    ended = s.claim == "held" and s.seen and s.status.phase in ("Sent", "Failed")
    # Elsewhere what comes late is told before, which keeps these worlds small.
    moves = s.flight or s.away or (s.late and not o.freezes)
    if ended and s.log and _rendered(s, o) == s.status and not moves:
        yield _to("the log expires", _forgotten(s)._replace(log=None, old=True), o)
    if s.outages and not s.away:
        yield _to("Redis is away", s._replace(away=True, outages=s.outages - 1), o)
    if s.away:
        yield _to("Redis is back", s._replace(away=False, claim="", own=False), o)


def _forgotten(s: State) -> State:
    """Nobody has it in memory."""
    return s._replace(claim="", own=False, alone=False, memory=())


# -- the claim -------------------------------------------------------------------------------------


@cache
def _judge(
    status: Status, log: Log, created: int, about: Circumstances, *, alone: bool, o: Options
) -> Judgement:
    view = LogView(
        Plan((log.plan,)) if log.plan else None,
        {a.id: a for a in map(_attempt, log.tries)},
        doubted=frozenset(_attempt(t).id for t in log.tries if t.doubted and o.remembers),
        position=bool(log.plan) + len(log.tries),
        whole=log.whole or not o.expires,
    )
    shown = Shown(
        phase=status.phase,
        attempts=tuple(_attempt(t) for t in status.tries),
        channels=(ChannelStatus(status.channel, "Delivered"),) if status.channel else (),
        journal="0.1-1" if status.mark else None,
    )
    policy = RetryPolicy(max_attempts=_MOST)
    request = NotificationRequest("u", "ns", "n", "1", created=created, policy=policy, status=shown)
    return judge(request, view, about, alone=alone)


def _attempt(made: Try) -> Attempt:
    epoch = "0" if made.id == UPSTREAMS else "0.1"
    state, failure = AttemptState(_STATES[made.state]), _CLASSES.get(made.state)
    return Attempt(AttemptId(f"{epoch}-{made.id}"), "a", state, failure=failure)


def _about(s: State, o: Options) -> Circumstances:
    known = s.lost and o.compares and s.looked
    return Circumstances(
        adopted_before=(FOUNDED if o.adopts else 0) if o.adopts_older else 2 * LATE,
        since=LOSS if known else SINCE,
        lost=LOSS if known else 0,
        compared=NOW if s.compared else 0,
        marked=(s.marked and o.marks_count) or not o.marks_known,
        now=LATE if s.old and o.waits else NOW,
        at_most_once=bool(o.once),
    )


def _verdict(s: State, o: Options, log: Log, created: int, *, alone: bool) -> Verdict:
    judged = _judge(s.status, log, created, _about(s, o), alone=alone, o=o)
    verdict = judged.verdict
    beyond = any(_lacks(log, t) for t in s.status.tries)
    if not o.grounds and beyond:
        return Verdict.BELIEVED
    if not o.supports and not beyond:
        return Verdict.AGREES
    if verdict is Verdict.DOUBTED and not (o.stops if log.tries or log.plan else o.waits):
        return Verdict.DISREGARDED
    return verdict


def _lacks(log: Log, shown: Try) -> bool:
    known = {t.id: _STATES[t.state] for t in log.tries}
    return known.get(shown.id, -1) < _STATES[shown.state]


def _joined(log: Log, known: Tries) -> Log:
    for each in known:
        if _lacks(log, each):
            log = log._replace(tries=(*(t for t in log.tries if t.id != each.id), each))
    return log


def _claim(s: State, o: Options) -> Step:
    log = _joined(s.log or Log(), s.memory)
    created = FORMER if o.adopted else CREATED
    born = s.log is None and not s.compared and _about(s, o).complete(created, 7)
    alone = s.alone or (born and o.knows_birth)
    verdict, status = _verdict(s, o, log, created, alone=alone), s.status
    own = verdict is Verdict.DISREGARDED
    judged = s._replace(own=own, alone=alone, compared=True, claim="held")
    if verdict is Verdict.DOUBTED:
        explained = s.tainted or s.trimmed
        broken = () if explained else ("F6",)
        return _to("doubts the status", judged._replace(claim="doubted", log=log), o, *broken)
    believed = verdict is Verdict.BELIEVED
    gone = not (log.plan or log.tries or judged.own) and status.phase in ("Sent", "Failed")
    if gone and not (believed and status.mark and status.tries):
        return _to("finds it finished", judged._replace(claim="finished"), o)
    if (believed and log == Log()) or not o.routes:
        log = log._replace(plan=log.plan or status.channel)
    log = _joined(log, status.tries if believed else ())
    settled = tuple(Try(t.id, "U", doubted=True) if t.state == "I" else t for t in log.tries)
    held = judged._replace(log=log._replace(tries=settled), memory=settled)
    return _to(f"claims: {verdict.name.lower()}", held, o)


# -- attempts --------------------------------------------------------------------------------------


def _status(s: State, o: Options) -> Status:
    """The status by which everything goes."""
    return Status() if s.own and o.overrules else s.status


def _known(s: State, o: Options) -> Tries:
    """What log and status know together."""
    log = s.log or Log()
    return (*log.tries, *(t for t in _status(s, o).tries if t.id not in {k.id for k in log.tries}))


def _may_open(s: State, o: Options) -> bool:
    known = _known(s, o)
    over = _ended(known, o) or any(t.state == "I" for t in known)
    return not over and s.begun < _BOUND and _status(s, o).phase not in ("Sent", "Failed")


def _opened(s: State, o: Options) -> State:
    unknown = {t.id for t in _known(s, o) if t.state == "U"}
    return s._replace(begun=s.begun + 1, excused=s.excused | unknown)


def _open(s: State, o: Options) -> Step:
    new, log = _opened(s, o), s.log or Log()
    tries = (*log.tries, Try(new.begun))
    log = log._replace(tries=tries, whole=log.whole or not log.tries)
    new = new._replace(log=log, memory=tries, flight=new.begun)
    return _to(f"opens {new.begun}", new, o)


#: How a send ends: what is known of it, and whether the receiver has acted upon it.
_ENDS: Final = {
    "is delivered": "S",
    "is refused": "F",
    "is delivered, unheard": "U",
    "is not sent": "N",
}


def _send(s: State, o: Options) -> Iterator[Step]:
    for label, state in _ENDS.items():
        if state != "N" or s.begun == 1:
            known = _record(s, s.flight, state)._replace(flight=0)
            memory = _joined(Log("", s.memory), (Try(s.flight, state),)).tries
            known = known._replace(memory=memory)
            yield _to(f"{s.flight} {label}", known._replace(arrived=s.arrived + (state in "SU")), o)


def _record(s: State, attempt: int, state: str) -> State:
    """A result is appended to whatever log there is."""
    log = s.log or Log()
    known = next((t for t in log.tries if t.id == attempt), Try(attempt))
    if _STATES[known.state] >= _STATES[state]:
        return s
    new = Try(attempt, state, doubted=known.doubted or known.state == "U" or state == "U")
    if known in log.tries:
        tries = tuple(new if t == known else t for t in log.tries)
    else:
        tries = (*log.tries, new)
    return s._replace(log=log._replace(tries=tries))


def _journal(s: State, o: Options) -> Iterator[Step]:
    """Write ahead into the status, send, and write the result there, in one step."""
    for label, state in _ENDS.items():
        if state == "N":
            continue
        new = _opened(s, o)
        kept = tuple(t for t in _known(s, o) if t.state != "I")
        tries = (*kept, Try(new.begun, state))
        status = Status(_ended(tries, o) or "Sending", tries, "a", mark=True)
        new = new._replace(status=status, marked=True, own=False, memory=tries)
        arrived = s.arrived + (state in "SU")
        yield _to(f"{new.begun} is journaled, and {label}", new._replace(arrived=arrived), o)


# -- the status ------------------------------------------------------------------------------------


def _ended(tries: Tries, o: Options) -> str:
    """The final phase to which attempts lead, empty if to none."""
    if any(t.state == "S" for t in tries):
        return "Sent"
    used_up = sum(t.state != "N" for t in tries) >= _MOST
    failed = used_up or (o.once and any(t.state == "U" for t in tries))
    return "Failed" if failed and not any(t.state == "I" for t in tries) else ""


def _rendered(s: State, o: Options) -> Status:
    """What an owner publishes."""
    before = _status(s, o)
    if s.log is None or not (s.log.plan or s.log.tries):
        return s.status
    known = _known(s, o)
    tries = tuple(sorted(Try(t.id, t.state) for t in known if t.state != "I"))
    phase = before.phase if before.phase in ("Sent", "Failed") else _ended(known, o) or "Sending"
    return Status(phase, tries, s.log.plan)


def _publish(s: State, o: Options) -> Step:
    status = _rendered(s, o)
    untrue = status.phase == "Sent" and not s.arrived and not (_explained(s, o) or s.marked)
    broken = ("F3",) if untrue else ()
    return _to(f"publishes {status.phase}", s._replace(status=status, own=False), o, *broken)
