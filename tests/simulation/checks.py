"""
What must hold in a simulated world, and what must have happened in it.

The checks see every script that Redis ran, every version of every object, every request a receiver
read, and every send at its beginning; they see nothing of a process's memory but whether it knew
that an object was deleted. Their own fold is the simplest there is: the highest state that any
record ever gave an attempt, kept for ever, whatever Redis loses.

What Redis loses while no status shows it is entered in the loss ledger (`lost`); only those
attempts may excuse anything. Invariants are named as in docs/guarantees.md; a violation is raised
at once, where the trace still ends with its cause.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from notifier.contract import Message
from syncer.ledger.codec import salvage
from syncer.ledger.reading import snapshot_of
from syncer.model.attempt import AttemptId, AttemptState, Epoch, attempt_epoch, epoch_key
from syncer.model.carried import expand
from syncer.model.errors import ContractError
from syncer.model.incident import AT, incident_of
from syncer.model.record import PLAN_ID, read_plan
from syncer.model.times import time_of
from tests.e2e.checker import TERMINAL, Call, Finding, Kind, Log, Version, _fallen, check
from tests.fakes.apianswers import Request, Response
from tests.fakes.memorylog import Argument

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

Json = dict[str, Any]

_UNKNOWN: Final = int(AttemptState.UNKNOWN)
_FAILED: Final = int(AttemptState.FAILED)
_SUCCESS: Final = int(AttemptState.SUCCESS)
#: Bytes by which a status may exceed its limit, which is counted in another spelling of it.
_SLACK: Final = 2048
#: Seconds that a hand-over may last: an intent that is repeated for 15 s, and whose last try may take 3, or
#: a send to its end; its record, and a write that is not answered. Not counted is a status write that goes
#: on: with a conflict it is three calls, each of which may be slow.
_HAND_OVER: Final = 21.0
#: Seconds for which a replica may hold shards that it cannot serve: until it notices (an idle one looks
#: every ten), until it takes that for lasting, and until the last shard is handed over.
_CUT_OFF: Final = 35.0
#: Seconds by which an object has to be younger than the installation.
_MARGIN: Final = 3.0
#: Seconds from a decision to its send.
_ON_ITS_WAY: Final = 6.0
#: Calls of one process in a second; the busiest world needs a sixth of it.
_BUSY: Final = 400
#: Seconds that a replica needs at least before it hands over for lack of Redis.
_NOTICED: Final = 4.0
#: Milliseconds by which an owner's idea of Redis's time may be ahead.
_EARLY: Final = 500.0

#: Everything that a run over many seeds must have seen.
MARKS: Final = (
    "takeover",
    "handover between replicas",
    "fenced claim",
    "zombie outcome accepted",
    "zombie request received",
    "RECLAIM hit",
    "DUP after a lost reply",
    "DONE answered",
    "outcome repeated after a lost reply",
    "lost intent restored by its outcome",
    "open intent recovered",
    "log rebuilt from status",
    "log rebuilt from memory",
    "loss ledger counted",
    "log lost its end",
    "log lost wholly",
    "stale ACK",
    "late success",
    "quarantine",
    "compaction",
    "applied, then answered 504",
    "applied, then lost PATCH",
    "409 retried",
    "late status refused",
    "skip recorded",
    "orphan retired",
    "name used again",
    "status wiped and restored",
    "status put back by upstream's client",
    "explained repeat",
    "attempts used up",
    "attempt not sent",
    "delivered after an attempt not sent",
    "permanent failure",
    "partly sent",
    "log given its time to live",
    "log expired",
    "empty log of a finished one retired",
    "lease taken by its own name",
    "drained and left",
    "stale list",
    "breaker opened",
    "order given",
    "order after the final phase",
    "order said twice",
    "order carried out",
    "order carried out by a later owner",
    "takeover with an order waiting",
    "order overtaken by a success",
    "delivered by an order",
    "verdict recorded",
    "verdict overtaken by the result",
    "verdict came too late",
    "status refused",
    "handed over while a status was refused",
    "cut off, and handed over",
    "deletion held up by a finalizer",
    "renewal applied, answer lost",
    "unreadable log repaired",
    "session of a silent replica ended",
    "session renewed, and not ended",
    "session deleted by hand",
    "journaled",
    "journaled after a former owner",
    "delivered in an outage of all",
    "forged status written over",
    "forged status doubted",
    "forged status of a new one disregarded",
    "fallback used",
    "superseded",
    "waited for another of its incident",
    "arrived later than a send may take",
    "held by an operator",
    "read refused",
    "event written",
)
#: Marks that are too rare to be asked of a few seeds.
RARE: Final = frozenset(
    {
        "late success",
        "log expired",
        "stale ACK",
        "empty log of a finished one retired",
        "RECLAIM hit",
        "handed over while a status was refused",
        "cut off, and handed over",
        "order overtaken by a success",
        "verdict overtaken by the result",
        "verdict came too late",
        "journaled after a former owner",
        "arrived later than a send may take",
    }
)


class Violation(AssertionError):
    """An invariant does not hold; `rule` is its name."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule
        self.text = text

    def __reduce__(self) -> tuple[type[Violation], tuple[str, str]]:
        """Pickle by what it was made of."""
        return Violation, (self.rule, self.text)


@dataclass(slots=True)
class Ever:
    """All that was ever on record of one attempt."""

    uid: str
    channel: str
    state: int = 0
    uncertain: bool = False
    code: int = 0
    #: An operator has said what became of it.
    judged: bool = False
    #: It is on record that it did not leave.
    unsent: bool = False
    #: The result that a log was given for it, and could not take since it had lost the attempt.
    refused: int = 0
    #: Its send was begun.
    begun: bool = False
    #: It was written ahead into the status.
    journaled: bool = False
    #: It was journaled, and a log was given it as unknown: by an owner that did not make it.
    doubted: bool = False

    #: Why it must not be sent, empty if nothing stands against it.
    barred: str = ""
    #: When its send began, in seconds of the world.
    sent_at: float = math.inf

    @property
    def may_have_arrived(self) -> bool:
        """Whether the receiver may have got it, by what was done and by what is on record."""
        doubted = self.uncertain or self.doubted or self.state == _UNKNOWN
        return self.begun or self.judged or doubted


@dataclass(slots=True)
class Subject:
    """All that is known of one notification."""

    uid: str
    name: str
    most: int
    #: Unix seconds.
    created: float
    #: What it is about, its place there, and whether that lasts.
    incident: str = ""
    order: tuple[float, str] = (0.0, "")
    state: str = ""
    versions: list[Version] = field(default_factory=list)
    shown: dict[str, int] = field(default_factory=dict)
    claims: dict[str, set[str]] = field(default_factory=dict)
    opened: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    lost: set[str] = field(default_factory=set)
    #: What its log has held and lost, whether or not the status shows it.
    dropped: set[str] = field(default_factory=set)
    #: What its log has lost with its end, and of that what an outcome came before.
    cut: set[str] = field(default_factory=set)
    overtaken: set[str] = field(default_factory=set)
    #: Per channel, orders ever put on record, and the epoch of the log at the latest.
    orders: Counter[str] = field(default_factory=Counter)
    ordered: dict[str, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    gone: bool = False
    corrupt: bool = False
    #: Redis's milliseconds at which a final phase was stored first.
    ended: int = 0
    #: An edit by hand took attempts away, or the log's whole time had passed.
    excused: bool = False
    #: The status that somebody else has written and that stands, None if none does.
    forged: Json | None = None
    #: Somebody else has ever written one.
    tainted: bool = False
    #: It was forged before its log was claimed, and nothing can have been sent for it by then.
    new: bool = False
    #: Somebody else has ever written that attempts were journaled in it.
    mark: bool = False
    #: The status says that the record cannot be trusted.
    doubted: bool = False
    #: Its log may have been given what somebody has made up, since the store has lost something.
    believed: bool = False


@dataclass(slots=True)
class Checks:
    """The observer of one world."""

    world: World
    marks: Counter[str] = field(default_factory=Counter)
    subjects: dict[str, Subject] = field(default_factory=dict)
    ever: dict[str, Ever] = field(default_factory=dict)
    conflicted: set[tuple[str, str]] = field(default_factory=set)
    #: Set by the world around its own writes: what the next version may do.
    allowed: str = ""
    #: Attempts that nobody has made.
    made_up: set[str] = field(default_factory=set)
    #: Attempts that there were when all logs vanished from a server that stayed the same.
    flushed: set[str] = field(default_factory=set)

    #: Shards that are being handed over, by process, and since when.
    leaving: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)

    #: Since when a replica without Redis has held shards while another one was able.
    keeping: dict[tuple[str, str], float] = field(default_factory=dict)

    #: Calls of the second that is running, by process.
    calling: Counter[str] = field(default_factory=Counter)
    second: int = 0

    # -- bookkeeping ----------------------------------------------------------------------------

    def mark(self, name: str) -> None:
        """Note that something worth seeing has happened."""
        self.marks[name] += 1

    def fail(self, rule: str, text: str) -> None:
        """
        Report a violation.

        Raises:
            Violation: always.
        """
        self.world.trace("VIOLATION", rule, text)
        violation = Violation(rule, text)
        self.world.failed(violation)
        raise violation

    def created(self, document: Json) -> None:
        """Take notice of a notification."""
        meta, spec = document["metadata"], document["spec"]
        most = int(spec["retryPolicy"]["maxAttempts"])
        created = time_of(meta["creationTimestamp"]) / 1000
        made = self.subjects[meta["uid"]] = Subject(meta["uid"], meta["name"], most, created)
        extensions = spec.get("extensions") or {}
        made.incident, made.state = incident_of(extensions)
        made.order = created, extensions.get(AT, "")

    def _busy(self, process: Process | None) -> None:
        """Judge how often a process calls: a loop that does not wait is an outage of the servers."""
        second = int(self.world.loop.time())
        if second != self.second:
            self.second = second
            self.calling.clear()
        if process is not None:
            self.calling[process.name] += 1
            if self.calling[process.name] > _BUSY:
                self.fail("BUSY", f"{process.name} makes more than {_BUSY} calls in a second")

    # -- Redis ----------------------------------------------------------------------------------

    def on_script(
        self,
        process: Process | None,
        script: str,
        uid: str,
        args: Sequence[Argument],
        reply: list[Any],
        before: list[bytes],
        after: list[bytes],
    ) -> None:
        """Judge one script that was run, by the log before and after it."""
        self._busy(process)
        subject = self.subjects.get(uid)
        if subject is None:
            self.fail("S13", f"a log of an object that never was: {uid}")
            return
        answer = bytes(reply[0]).decode()
        new = after[len(before) or 1 :]
        self._learn(subject, new)
        judge: Any = {
            "claim": self._claim, "intent": self._intent, "outcome": self._outcome,
            "recover": self._recover, "note": self._note, "ack": self._ack, "retire": self._retire,
        }[script]  # fmt: skip
        judge(process, subject, answer, [_text(a) for a in args], reply, before, after)

    def _learn(self, subject: Subject, elements: Sequence[bytes]) -> None:
        for element in elements:
            kind, identity, channel = _fields(element)
            if self._made_up(subject, kind, identity, element):
                continue
            state = _STATES.get(kind)
            if state is None:
                if kind == "skip":
                    self._skipped(element)
                if kind == "order":
                    subject.orders[channel] += 1
                continue
            known = self.ever.get(identity)
            if known is None:
                known = self.ever[identity] = Ever(subject.uid, channel)
                self._next_opened(subject, channel, identity, elements)
            if known.uid != subject.uid or known.channel != channel:
                self.fail("S3", f"attempt {identity} belongs to {known.uid} and to {subject.uid}")
            if known.judged and state > _UNKNOWN and not kind.startswith("resolve."):
                self.mark("verdict overtaken by the result")
            known.judged = known.judged or kind.startswith("resolve.")
            known.state = max(known.state, state)
            # What was journaled is shown as unknown from its beginning; that explains nothing yet.
            known.uncertain = known.uncertain or (state == _UNKNOWN and not known.journaled)
            known.doubted = known.doubted or (state == _UNKNOWN and known.journaled)
            if _unsent(element):
                self.mark("superseded" if _SUPERSEDED in element else "attempt not sent")
                known.unsent = True
            if state == _SUCCESS and self._tried_in_vain(subject, channel):
                self.mark("delivered after an attempt not sent")

    def _skipped(self, element: bytes) -> None:
        self.mark("skip recorded")
        if b" may still arrive" in element or b" is under way" in element:
            self.mark("waited for another of its incident")

    def _made_up(self, subject: Subject, kind: str, identity: str, element: bytes) -> bool:
        """Judge whether a record says what somebody has only written into a status."""
        excused = subject.excused or not self._lossless(subject)
        remains = salvage(element) if kind == "plan" and not excused else None
        if remains is not None and remains.record is not None:
            channels = read_plan(remains.record).channels
            if channels != self.world.channels_of(subject.name):
                self.fail("F2", f"{subject.name}: planned for {channels}, which no route names")
        if identity not in self.made_up:
            return False
        if not excused:
            self.fail("F1", f"{subject.name}: the log holds attempt {identity}, which nobody made")
        subject.believed = subject.excused = True
        return True

    def _lossless(self, subject: Subject) -> bool:
        """Whether no loss, outage, missing Lease or adoption explains what a status says beyond its log."""
        redis = self.world.redis
        return (
            redis.histories == 1
            and redis.stores <= 1
            and not self.world.profile.journal
            # By its clock, logs may have expired.
            and not self.world.ahead
            and subject.created >= self.world.founded
            and not (subject.mark and self.world.marked(subject.uid))
        )

    def _tried_in_vain(self, subject: Subject, channel: str) -> bool:
        return any(
            e.unsent for e in self.ever.values() if (e.uid, e.channel) == (subject.uid, channel)
        )

    def _claim(
        self, process: Process | None, subject: Subject, answer: str, args: list[str],
        reply: list[Any], before: list[bytes], after: list[bytes],
    ) -> None:  # fmt: skip
        epoch = args[0]
        if answer == "FENCED":
            self.mark("fenced claim")
            return
        old = _epoch(before)
        if old not in ("", "0.0", epoch):
            self.mark("takeover")
            if _waiting(subject, before):
                self.mark("takeover with an order waiting")
        if epoch_key(Epoch(old or "0.0")) > epoch_key(Epoch(epoch)):
            self.fail("S9", f"a claim of {epoch} was accepted although {old} had claimed")
        subject.claims[epoch] = self._delivered(subject)
        seeded = [e for e in after[len(before) or 1 :] if e.startswith(b"seed.")]
        if seeded:
            shown = any(_fields(e)[1] in subject.shown for e in seeded)
            self.mark("log rebuilt from status" if shown else "log rebuilt from memory")

    def _delivered(self, subject: Subject) -> set[str]:
        """Successes that the status shows."""
        if not subject.versions or subject.gone:
            return set()
        states = subject.versions[-1].states().items()
        gone = self.made_up | subject.lost
        return {i for i, s in states if s.state == _SUCCESS and i not in gone}

    def _intent(  # noqa: C901 (one branch for each rule)
        self, process: Process | None, subject: Subject, answer: str, args: list[str],
        reply: list[Any], before: list[bytes], after: list[bytes],
    ) -> None:  # fmt: skip
        epoch, identity = args[0], args[1]
        match answer:
            case "RECLAIM":
                self.mark("RECLAIM hit")
            case "DUP":
                self.mark("DUP after a lost reply")
            case "DONE":
                self.mark("DONE answered")
        if answer != "OK":
            return
        channel = _fields(after[-1])[2]
        where = f"{subject.name} {channel} attempt {identity}"
        self._routed(subject, channel, where)
        states = _states(before)
        if _epoch(before) != epoch:
            self.fail("S9", f"{where}: accepted under epoch {epoch}, log has {_epoch(before)}")
        if epoch not in subject.claims:
            self.fail("S18", f"{where}: nobody has claimed the log in epoch {epoch}")
        ours = {i: s for i, (c, s) in states.items() if c == channel}
        if any(s == _SUCCESS for s in ours.values()):
            self.fail("S7", f"{where}: the log holds a success")
        if self._came_before(subject, channel, identity):
            return
        # What somebody has taken out of a status by the time it was read is known to nobody.
        if any(self._of(i, channel) for i in subject.claims[epoch] - subject.lost):
            self.fail("S7", f"{where}: the status showed a success when the log was claimed")
        shown = {i for i, s in subject.shown.items() if s == _SUCCESS and self._of(i, channel)}
        if not subject.gone and shown - subject.lost and not subject.excused:
            self.fail("S7", f"{where}: the status shows a success")
        if any(s == 0 for s in ours.values()):
            self.fail("S8", f"{where}: another attempt is open")
        subject.opened[channel].add(identity)
        self._next_opened(subject, channel, identity, before)
        begun = salvage(after[-1])
        self._final(
            subject, channel, where, before, epoch,
            at=int(begun.record.body["at"]) if begun and begun.record else 0,
        )  # fmt: skip
        self._stood_by(subject, channel, where, before)
        excused = sum(self._of(i, channel) for i in subject.lost) + subject.orders[channel]
        counted = sum(not self.ever[i].unsent for i in subject.opened[channel])
        if counted > subject.most + excused and not subject.excused:
            self.fail("S12", f"{where}: number {counted} of {subject.most}")

    def _routed(self, subject: Subject, channel: str, where: str) -> None:
        # Whoever wrote what is older than the installation is believed.
        trusted = subject.believed or subject.created < self.world.founded
        if channel not in self.world.channels_of(subject.name) and not trusted:
            self.fail("F2", f"{where}: begun for a receiver that no route names")

    def _came_before(self, subject: Subject, channel: str, identity: str) -> bool:
        """Whether an intent is a copy that was held up on its way; judge it, if it is none."""
        if identity not in subject.opened[channel]:
            return False
        # The log has lost the first copy, and much may have happened meanwhile. Nobody sends for it once
        # more: `on_call` sees to that. After a flush, who has no answer yet brings the same proof again.
        again = identity in self.flushed and not self.ever[identity].begun
        if not (self.world.overdue or again):
            self.fail("S3", f"{subject.name} {channel} attempt {identity}: its id was used before")
        return True

    def _final(
        self,
        subject: Subject,
        channel: str,
        where: str,
        before: list[bytes],
        epoch: str,
        *,
        at: int,
    ) -> None:
        """Judge an attempt by the phase when it was begun, `at` a millisecond, and by its order."""
        if channel in _waiting(subject, before):
            self.mark("order carried out")
            if subject.ordered.get(channel, epoch) != epoch:
                self.mark("order carried out by a later owner")
            return
        phase = subject.versions[-1].phase if subject.versions else ""
        # Its intent was on the way before: the time of a fallback had come just when the others arrived.
        earlier = at <= subject.ended
        excused = subject.lost or subject.excused or subject.gone or self.world.overdue or earlier
        # A final phase may be somebody else's: what is due is sent all the same.
        if phase in TERMINAL and not (excused or subject.tainted):
            self.fail("O1", f"{where}: begun in phase {phase}, and no order asks for it")

    def _stood_by(self, subject: Subject, channel: str, where: str, before: list[bytes]) -> None:
        """Judge an attempt of a fallback: another channel has ended in vain, or its time has come."""
        profile = self.world.profile
        *others, last = self.world.channels_of(subject.name)
        if not profile.fallback or channel != last:
            return
        self.mark("fallback used")
        other = subject.orders or subject.excused or subject.tainted
        if other or "redis clock" in profile.faults or not self._lossless(subject):
            return
        known = (left.record for e in before[1:] if (left := salvage(e)) and left.record)
        begun = next((read_plan(record).at for record in known if record.id == PLAN_ID), None)
        if begun is None:
            return  # its owner remembers the plan, of which a damaged log no longer tells
        made = {c: [e for e in before if _fields(e)[2] == c] for c in others}
        vain = any(self._in_vain(subject, elements) for elements in made.values())
        if not vain and self.world.redis_ms() < begun + 1000 * profile.fallback - _EARLY:
            self.fail("F3", f"{where}: a fallback that is not needed, and not due")

    def _in_vain(self, subject: Subject, elements: Sequence[bytes]) -> bool:
        """Whether a channel with these records has ended without success."""
        states = {
            _fields(e)[1]: _STATES[_fields(e)[0]] for e in elements if _fields(e)[0] in _STATES
        }
        if _SUCCESS in states.values() or 0 in states.values():
            return False
        unsent = {_fields(e)[1] for e in elements if _unsent(e)}
        least = 1 if self.world.profile.at_most_once else subject.most
        return any(b"permanent" in e for e in elements) or len(states.keys() - unsent) >= least

    def _of(self, identity: str, channel: str) -> bool:
        known = self.ever.get(identity)
        return known is not None and known.channel == channel

    def _outcome(
        self, process: Process | None, subject: Subject, answer: str, args: list[str],
        reply: list[Any], before: list[bytes], after: list[bytes],
    ) -> None:  # fmt: skip
        if answer == "NOOP":
            self.mark("outcome repeated after a lost reply")
            return
        identity = args[0]
        if answer == "RECLAIM":
            self._refused(subject, identity, unquote(args[1]), int(args[2]))
        if len(after) - max(len(before), 1) == 2:
            self.mark("lost intent restored by its outcome")
            # What the log has lost before that can only come back behind it.
            subject.overtaken |= subject.cut - _states(after).keys()
        if _is_later(_epoch(after), identity):
            self.mark("zombie outcome accepted")
        if int(args[2]) == _SUCCESS and subject.orders:
            channel = self.ever[identity].channel
            if channel in _waiting(subject, before):
                self.mark("order overtaken by a success")
            elif subject.orders[channel]:
                self.mark("delivered by an order")

    def _refused(self, subject: Subject, identity: str, channel: str, state: int) -> None:
        """Take notice of a result that a lost log could not take: the status may show it first."""
        if state == _FAILED and not self.world.profile.journal:
            # Its intent may have reached no log; then it was not sent, which only its sender knows.
            self.ever.setdefault(identity, Ever(subject.uid, channel, unsent=True))
        if identity in self.ever:
            self.ever[identity].refused = max(state, self.ever[identity].refused)

    def _recover(
        self, process: Process | None, subject: Subject, answer: str, args: list[str],
        reply: list[Any], before: list[bytes], after: list[bytes],
    ) -> None:  # fmt: skip
        if answer == "OK":
            self.mark("open intent recovered")
            if _epoch(before) != args[0]:
                self.fail("S9", f"{subject.name}: recovered under epoch {args[0]}")
        elif answer == "RECLAIM":
            self.mark("RECLAIM hit")

    def _note(
        self, process: Process | None, subject: Subject, answer: str, args: list[str],
        reply: list[Any], before: list[bytes], after: list[bytes],
    ) -> None:  # fmt: skip
        """Take notice of what an operator says; what a note says is judged where it counts."""
        kind, _, rest = args[0].partition(":")
        if kind == "resolve" and answer == "DUP":
            self.mark("verdict came too late")
            if after != before or int(reply[1]) < _FAILED:
                self.fail("V4", f"{subject.name}: a verdict was refused, and nothing says as much")
        if kind == "resolve" and answer == "OK":
            was = _states(before).get(_fields(after[-1])[1], ("", -1))[1]
            if was >= _STATES[_fields(after[-1])[0]]:
                self.fail("V4", f"{subject.name}: a verdict was recorded that says nothing new")
            self.mark("verdict recorded")
            known = self.ever[_fields(after[-1])[1]]
            if known.state == _SUCCESS and known.channel in _waiting(subject, before):
                self.mark("order overtaken by a success")
        if kind != "order":
            return
        if answer != "OK":
            if before:
                self.mark("order said twice")
            return
        self.mark("order given")
        subject.ordered[unquote(rest.rpartition(":")[0])] = _epoch(before)
        if subject.versions and subject.versions[-1].phase in TERMINAL:
            self.mark("order after the final phase")

    def _ack(
        self, process: Process | None, subject: Subject, answer: str, args: list[str],
        reply: list[Any], before: list[bytes], after: list[bytes],
    ) -> None:  # fmt: skip
        if answer != "OK":
            self.mark("stale ACK")
            return
        if subject.corrupt or subject.excused:
            return
        acked = int(args[0])
        for identity, (_, state) in _states(after[: acked + 1]).items():
            if subject.shown.get(identity, 0) < max(state, _UNKNOWN) and not self._rolled(
                subject, state
            ):
                self.fail(
                    "S10", f"{subject.name}: acked {acked}, and attempt {identity} is not shown"
                )
        if int(reply[1]):
            self.mark("log given its time to live")
            self._may_expire(subject, after)

    def _rolled(self, subject: Subject, state: int) -> bool:
        return state == _FAILED and "rollup" in (
            subject.versions[-1].status if subject.versions else {}
        )

    def _may_expire(self, subject: Subject, log: list[bytes]) -> None:
        phase = subject.versions[-1].phase if subject.versions else ""
        if phase not in TERMINAL and not subject.gone:
            self.fail("S11", f"{subject.name}: the log expires in phase {phase!r}")
        if any(s == 0 for _, s in _states(log).values()):
            self.fail("S11", f"{subject.name}: the log expires with an open attempt")
        if not subject.gone and _waiting(subject, log):
            self.fail("O2", f"{subject.name}: the log expires with an order not carried out")

    def _retire(
        self, process: Process | None, subject: Subject, answer: str, args: list[str],
        reply: list[Any], before: list[bytes], after: list[bytes],
    ) -> None:  # fmt: skip
        if answer != "OK" or not before:
            return
        # A copy of a result that was held up on its way may have come in since the log was claimed.
        kept = {i for i, (_, s) in _states(before).items() if subject.shown.get(i, -1) < s}
        if not subject.gone and kept:
            self.fail("S11", f"{subject.name}: retired although its object exists and lacks {kept}")
        self.mark("orphan retired" if subject.gone else "empty log of a finished one retired")
        if not subject.gone:
            # Without attempts it may go, whatever has become of the status since that was read: what
            # is appended takes the expiry off. A note may have come in between. The sweep of finished
            # logs finds it, since it is not marked: an order among them is carried out, or ends with
            # what the status gives the log back.
            return
        self._may_expire(subject, before)

    def on_loss(self, uid: str, before: list[bytes], after: list[bytes]) -> None:
        """Enter what the world has just taken away in the loss ledger."""
        subject = self.subjects.get(uid)
        if subject is None:
            return
        self.mark("log lost its end" if after else "log lost wholly")
        kept = _states(after)
        dropped = _states(before).keys() - kept.keys()
        subject.dropped |= dropped
        # A log that is gone is made anew from its first attempt on.
        subject.cut = subject.cut | dropped if after else set()
        subject.overtaken = subject.overtaken if after else set()
        shown = self._shown(subject)
        for identity, (_, state) in _states(before).items():
            if kept.get(identity, ("", -1))[1] < state and shown.get(identity, -1) < state:
                subject.lost.add(identity)

    def on_expiry(self, uid: str, before: list[bytes]) -> None:
        """Take notice that a log's time has passed; what no status shows is lost by that."""
        self.mark("log expired")
        subject = self.subjects[uid]
        subject.excused |= subject.gone
        shown = self._shown(subject)
        for identity, (_, state) in _states(before).items():
            if shown.get(identity, -1) < state:
                subject.lost.add(identity)

    @staticmethod
    def _shown(subject: Subject) -> dict[str, int]:
        """What the status shows now, which is less than it ever did where somebody else has written it."""
        if subject.forged is None:
            return subject.shown
        stands = Version("", "", "", subject.forged)
        return {identity: seen.state for identity, seen in stands.states().items()}

    # -- the API server -------------------------------------------------------------------------

    def on_write(self, process: Process, path: str, version: str) -> None:
        """Judge who writes a status: who has compared it with its log, or says why that cannot be."""
        name = path.split("/")[-2]
        for notification in process.app.cache.entries.values():
            request = notification.request
            # Not one that was created anew by that name: the write is of the one before, and in vain.
            if (request.name, request.resource_version) != (name, version) or notification.deleted:
                continue
            term = process.app.shards.term_of(notification.uid)
            known: str | bool
            if term is None or notification.claim is None:
                held = (
                    notification.quarantine
                    or notification.judged.untrusted
                    or notification.outage.shown
                )
                # The first write ahead of an outage sets its note once it is stored.
                known = bool(held or notification.outage.note or notification.in_flight.ahead)
            else:
                known = process.app.claimer.recorder.claimed(notification, term)
            if not known:
                self.fail("S20", f"{name}: its status is written, and not compared with its log")

    def on_request(
        self, process: Process, request: Request, response: Response, *, changed: bool,
        mishap: object,
    ) -> None:  # fmt: skip
        """Take notice of a request that was answered, or would have been."""
        self._busy(process)
        if request.method == "DELETE" and "-session-" in request.path:
            self._session_ended(process, request.path.rpartition("/")[2], response)
        if request.method != "PATCH":
            return
        place = (process.name, request.path)
        if request.path.endswith("/status"):
            if response.code == 409:
                self.conflicted.add(place)
                if mishap == "late":
                    self.mark("late status refused")
            elif response.code == 200 and place in self.conflicted:
                self.conflicted.discard(place)
                self.mark("409 retried")
            if changed and mishap == "lose reply":
                self.mark("applied, then lost PATCH")
            if changed and mishap == "504 after":
                self.mark("applied, then answered 504")
        elif "/leases/" in request.path and changed and not process.draining:
            spec = json.loads(request.body).get("spec") or {}
            if spec.get("holderIdentity") == "":
                self.mark("handover between replicas")
            elif mishap == "swallow reply" and "acquireTime" not in spec:
                self.mark("renewal applied, answer lost")

    def on_event(self, event: Json) -> None:
        """Judge an Event that was stored: what it calls delivered was, if not on record yet."""
        if event["reason"] != "NotificationSent":
            return
        self.mark("event written")
        uid, channel = event["involvedObject"]["uid"], event["message"].split()[-1]
        answered = {c.attempt for c in self.subjects[uid].calls if 200 <= c.code <= 299}
        if not any(self._of(i, channel) for i in answered):
            self.fail(
                "EV", f"{event['involvedObject']['name']}: {event['message']}, and it was not"
            )

    def on_version(self, document: Json) -> None:
        """Judge a version of an object that was just stored."""
        meta = document["metadata"]
        subject = self.subjects.get(meta["uid"])
        if subject is None:
            self.created(document)
            return
        status = expand(document.get("status") or {})
        version = Version(meta["uid"], meta["uid"], meta["resourceVersion"], status)
        allowed, self.allowed = self.allowed, ""
        if self._by_others(subject, version, allowed):
            return
        old = subject.versions[-1] if subject.versions else None
        subject.versions.append(version)
        subject.ended = subject.ended or self.world.redis_ms() * (version.phase in TERMINAL)
        if old is not None and old.status == status:
            return
        if _is_doubted(status) and not (subject.tainted or subject.excused):
            self.fail("F6", f"{subject.name}: doubted, and nobody else has written its status")
        for fallen in self._fallen(subject, old, version):
            self.fail("S4", f"{subject.name}: {fallen}")
        if old is not None and subject.excused and "phase" not in old.status and "phase" in status:
            self.mark("status wiped and restored")
        for identity, seen in version.states().items():
            self._journaled(subject, version, identity)
            known = self.ever.get(identity)
            if known is not None and known.state < seen.state <= known.refused:
                known.state = seen.state
            if known is None or known.uid != subject.uid or known.state < seen.state:
                self.fail("S13", f"{subject.name}: shows attempt {identity}, which no log had")
            subject.shown[identity] = max(seen.state, subject.shown.get(identity, 0))
        self._retold(subject, version)
        self._numbers(subject, version)
        size = len(json.dumps(status, ensure_ascii=False, separators=(",", ":")).encode())
        if size > self.world.profile.status_bytes + _SLACK:
            self.fail("S14", f"{subject.name}: a status of {size} bytes")
        self._see(subject, old, version)

    def _retold(self, subject: Subject, version: Version) -> None:
        """Judge why attempts have failed: as the log says that has them, whatever a status said."""
        if subject.tainted and "journal" in version.status:
            # Who takes over in an outage knows no more than the status says, until the log is back.
            return
        # An operator's word and a late outcome may both have ended it; the fold prefers one of them.
        logged: dict[str, set[Any]] = defaultdict(set)
        for element in self.world.log_of(subject.uid)[1:]:
            record = (left := salvage(element)) and left.record
            # Its sender knows better than an operator, and a status that journals says so before the log.
            outdone = record and record.kind.resolution and "journal" in version.status
            if record and record.kind.state is AttemptState.FAILED and not outdone:
                logged[record.attempt_id].add(record.body.get("class"))
        for entry in version.attempts:
            identity, told = entry.get("id", ""), entry.get("class")
            received = any(c.attempt == identity for c in subject.calls)
            if told == "notSent" and received and not subject.tainted:
                self.fail("F7", f"{subject.name}: {identity} is called not sent, and was received")
            if entry["status"] == "failed" and told not in logged.get(identity, {told}):
                self.fail(
                    "F7", f"{subject.name}: {identity} failed as {told}, not {logged[identity]}"
                )

    def _by_others(self, subject: Subject, version: Version, allowed: str) -> bool:
        """Take notice of what others write; whether there is nothing in it of ours to judge."""
        if allowed:
            # Gone from the status, and with the log's copy lost as well, gone for good.
            kept = _states(self.world.log_of(subject.uid))
            subject.lost |= {i for i, s in subject.shown.items() if kept.get(i, ("", -1))[1] < s}
        if allowed != "wipe":
            return self._forged(subject, version, forged=bool(allowed))
        subject.shown.clear()
        subject.excused = True
        subject.versions.append(version)
        return True

    @staticmethod
    def _fallen(subject: Subject, old: Version | None, version: Version) -> list[str]:
        """What a version shows less of, but for what others took or wrote, or a person overruled."""
        found = _fallen(old, version) if old is not None else ()
        taken = bool(old and (subject.lost & old.states().keys() or _is_doubted(old.status)))
        return [f for f in found if not (subject.tainted and (taken or f.startswith("phase went")))]

    def _forged(self, subject: Subject, version: Version, *, forged: bool) -> bool:
        """Take notice of what somebody else has written; whether a version shows that still."""
        status = version.status
        if not forged:
            return subject.forged is not None and self._still_forged(subject, version)
        subject.forged, subject.doubted, subject.tainted = status, False, True
        subject.mark |= "journal" in status
        # What has a record was begun, and may be stopped.
        subject.new &= len(self.world.log_of(subject.uid)) < 2
        aged = subject.created > self.world.complete_since(subject.uid) + _MARGIN
        if aged and not subject.claims and not subject.excused and self._lossless(subject):
            subject.new = True
        return True

    def _still_forged(self, subject: Subject, version: Version) -> bool:
        """Judge a version that follows on a forged one; whether it still shows what was made up."""
        status = version.status
        if status == subject.forged:
            return True
        for identity, seen in version.states().items():
            if identity not in self.made_up:
                self._journaled(subject, version, identity)
                subject.shown[identity] = max(seen.state, subject.shown.get(identity, 0))
        conditions = status.get("conditions") or ()
        shown = {a.get("id", "") for a in status.get("deliveryAttempts") or ()}
        waits = {c["type"] for c in conditions if c["status"] == "True"}
        if waits & {"LogUnavailable", "Quarantined"}:
            # It is judged once the log can be read.
            before, after = (_without_words(s) for s in (subject.forged or {}, status))
            if before != after and shown & self.made_up and self._lossless(subject):
                self.fail(
                    "F5", f"{subject.name}: something changes of a status that nobody has judged"
                )
            subject.forged = status
            return True
        if _is_doubted(status):
            self.mark("forged status doubted")
            # What was begun may be stopped.
            subject.new &= len(self.world.log_of(subject.uid)) < 2
            if subject.new and self._lossless(subject):
                self.fail("F4", f"{subject.name}: held, although nobody can have sent anything")
            subject.forged, subject.doubted = status, True
            return True
        if shown & self.made_up or subject.believed:
            excused = subject.believed or self._finished_without_log(subject, status)
            if self._lossless(subject) and not excused:
                self.fail("F1", f"{subject.name}: publishes what nobody made")
            subject.excused = subject.believed = True
            return True
        self.mark("forged status written over")
        if subject.new:
            self.mark("forged status of a new one disregarded")
        subject.forged, subject.doubted = None, False
        return False

    def _finished_without_log(self, subject: Subject, status: Json) -> bool:
        """Whether it may be one whose log has expired: it is too old for anybody to know better."""
        known = self.world.complete_since(subject.uid) + _MARGIN
        log = self.world.log_of(subject.uid)
        return status.get("phase") in TERMINAL and subject.created <= known and not _states(log)

    def _journaled(self, subject: Subject, version: Version, identity: str) -> None:
        """
        Judge an attempt that the status shows first, or knows more of than any log.

        One whose write ahead was lost may be shown first as not sent, beside the next one.
        """
        known, seen = self.ever.get(identity), version.states()[identity]
        channel, state = seen.channel, seen.state
        left = identity not in {
            a.get("id") for a in version.attempts if a.get("class") == "notSent"
        }
        if known is not None and not left:
            known.unsent = True
        if not self.world.profile.journal:
            return
        if known is None:
            where = f"{subject.name} {channel} attempt {identity}"
            self.mark("journaled")
            if state not in (_UNKNOWN, _FAILED):
                self.fail("S1", f"{where}: shown first as {state}")
            # What somebody took out of the status before its log had it is known to nobody.
            shown = {i for i, s in self._shown(subject).items() if s == _SUCCESS} - subject.lost
            over = any(self._of(i, channel) for i in shown)
            if over and left:
                self.fail("S7", f"{where}: journaled after a success that the status shows")
            known = self.ever[identity] = Ever(
                subject.uid, channel, state, unsent=not left, journaled=True
            )  # fmt: skip
            log = self.world.log_of(subject.uid)
            known.barred = self._succeeded(subject, channel, log)
            self._next_opened(subject, channel, identity, log)
            others = {attempt_epoch(AttemptId(i)) for i in subject.shown if self._of(i, channel)}
            if others - {attempt_epoch(AttemptId(identity))}:
                self.mark("journaled after a former owner")
            subject.opened[channel].add(identity)
            # Its owner knows what later ones do as little as an intent of an earlier one that has never led
            # to a send, since Redis kept the answer to itself.
            counted = sum(
                not e.unsent
                and (e is known or e.begun or e.state > 0 or i in subject.shown)
                and not _is_later(attempt_epoch(AttemptId(i)), identity)
                for i, e in ((i, self.ever[i]) for i in subject.opened[channel])
            )
            excused = sum(self._of(i, channel) for i in subject.lost) + subject.orders[channel]
            if counted > subject.most + excused and not subject.excused:
                self.fail("S12", f"{where}: number {counted} of {subject.most}")
        if known.uid == subject.uid and known.state < state:
            # The log learns of it when it is back.
            known.state = state

    def _succeeded(self, subject: Subject, channel: str, log: Sequence[bytes]) -> str:
        """
        Which success of the log forbids that an attempt is journaled, in words; empty if none does.

        One that its writer shows as unknown explains what he does.
        """
        shown = subject.versions[-1].states() if subject.versions else {}
        for other, (name, state) in _states(log).items():
            doubted = other in shown and shown[other].state == _UNKNOWN
            if name == channel and state == _SUCCESS and not doubted and other not in subject.lost:
                return f"the log holds a success, {other}"
        return ""

    def _next_opened(
        self, subject: Subject, channel: str, identity: str, log: Sequence[bytes]
    ) -> None:
        """What stands as unknown in either place when the next one is opened explains a repeat."""
        states = {i: s for i, (_, s) in _states(log).items()}
        for other in subject.shown.keys() | states.keys():
            unknown = _UNKNOWN in (subject.shown.get(other), states.get(other))
            # What nobody has made may be shown, and in a log that has lost something.
            if other != identity and self._of(other, channel) and unknown:
                self.ever[other].uncertain = True

    def _numbers(self, subject: Subject, version: Version) -> None:
        rolled = {
            c["name"]: int(c.get("number", 0))
            for c in (version.status.get("rollup") or {}).get("channels", ())
        }
        last: dict[str, int] = {}
        for entry in version.attempts:
            channel, number = entry["channel"], int(entry["attempt"])
            folded, before = rolled.get(channel, 0), last.get(channel, 0)
            wanted = max(folded, before) + 1
            # Which failed ones are folded away does not depend on what stays between them.
            if number != wanted and not before < number <= folded:
                self.fail("N", f"{subject.name} {channel}: {number}, not {wanted}")
            last[channel] = number

    def _see(self, subject: Subject, old: Version | None, version: Version) -> None:
        kinds = {c["type"] for c in version.status.get("conditions", ()) if c["status"] == "True"}
        if "LateSuccess" in kinds:
            self.mark("late success")
        if "Quarantined" in kinds:
            self.mark("quarantine")
        long = self.world.profile.bulky
        if "rollup" in version.status or (
            long and any(0 < len(a.get("error", "")) <= 260 for a in version.attempts)
        ):
            self.mark("compaction")
        if version.phase == "PartiallySent":
            self.mark("partly sent")
        if any(a.get("class") == "permanent" for a in version.attempts):
            self.mark("permanent failure")
        for channel in version.status.get("channels", ()):
            if channel.get("state") == "Exhausted":
                self.mark("attempts used up")
                self._used_up(subject, channel["name"], version)

    def _used_up(self, subject: Subject, channel: str, version: Version) -> None:
        """Judge an end for lack of attempts: as many as allowed may have reached the receiver."""
        known = {i: e for i, e in self.ever.items() if (e.uid, e.channel) == (subject.uid, channel)}
        # Of what the log lost, nobody may know any more that it did not leave; nor, while Redis is away,
        # of what only the log was told by a former owner.
        unsure = {i for i, s in version.states().items() if s.state == _UNKNOWN} | subject.dropped
        arrived = sum(e.may_have_arrived or i in unsure for i, e in known.items())
        # An order allows one attempt, whatever had ended the channel before.
        allowed = 1 if subject.orders[channel] else subject.most
        # Until the log, as it was read, has the plan (again), a status repeats what it said before.
        read = (version.status.get("log") or {}).get("position") or None
        logged = [salvage(element) for element in self.world.log_of(subject.uid)[1:][:read]]
        planned = any(each and each.record and each.record.id == PLAN_ID for each in logged)
        if arrived < allowed and (planned or not logged):
            self.fail(
                "E1",
                f"{subject.name} {channel}: ended with {arrived} of {allowed} attempts that may have"
                f" reached the receiver, {len(known)} on record",
            )

    def deleted(self, uid: str) -> None:
        """Take notice that an object was deleted."""
        subject = self.subjects[uid]
        subject.gone = True
        if any(s.name == subject.name for s in self.subjects.values() if s is not subject):
            self.mark("name used again")

    # -- receivers ------------------------------------------------------------------------------

    def on_send(self, process: Process, message: Message, channel: str) -> None:
        """Judge a send at its beginning."""
        known = self.ever.get(message.attempt_id)
        where = f"{message.name} {channel} attempt {message.attempt_id}"
        if known is None or known.uid != message.uid or known.channel != channel:
            self.fail("S1", f"{where}: sent without an intent on record")
            return
        known.begun, known.sent_at = True, self.world.loop.time()
        self._holds(process, message.uid, where)
        if known.unsent:
            self.fail("S1", f"{where}: sent although it is on record that it was not")
        notification = process.app.cache.entries.get(message.uid)
        if notification is None or notification.deleted or notification.request.deleting:
            self.fail("S19", f"{where}: sent although the object is known to be going or gone")
        elif (held := self.world.looks.held(process, notification, channel)) > _ON_ITS_WAY:
            self.fail("H3", f"{where}: sent, and known to be held for {held:.1f} s")
        subject = self.subjects[message.uid]
        if known.journaled:
            if self.world.redis.down:
                self.mark("delivered in an outage of all")
            if known.barred and not subject.excused:
                self.fail("S7", f"{where}: {known.barred}")
            # Since the write ahead a claim may have put it into the log, and somebody wiped the status.
            shown = subject.shown.get(message.attempt_id, -1) >= _UNKNOWN
            logged = message.attempt_id in _states(self.world.log_of(message.uid))
            if not (shown or logged or message.attempt_id in subject.lost):
                self.fail("S1", f"{where}: sent before the status shows it")
        elif attempt_epoch(AttemptId(message.attempt_id)) not in subject.claims:
            self.fail("S18", f"{where}: sent without a claim in its epoch")

    def on_call(self, call: Call, channel: str) -> None:
        """Judge a request that a receiver has read whole."""
        subject = self.subjects[call.subject]
        where = f"{subject.name} {channel} attempt {call.attempt}"
        if any(c.attempt == call.attempt for c in subject.calls):
            self.fail("S3", f"{where}: received twice")
        before = [c for c in subject.calls if c.key == call.key]
        if any(c.body != call.body for c in before):
            self.fail("S15", f"{where}: another body under the same key")
        subject.calls.append(call)
        log = self.world.log_of(call.subject)
        if log and _is_later(_epoch(log), call.attempt):
            self.mark("zombie request received")
        if not call.processed:
            return
        processed = [c.attempt for c in before if c.processed] + [call.attempt]
        bare = [a for a in processed if not self._explained(subject, a)]
        # Without Redis, the status is the only record that a new owner of the object's history has.
        wiped = subject.excused and call.attempt in self.ever and self.ever[call.attempt].journaled
        if len(bare) > 1 and not wiped:
            self.fail("B1", f"{where}: a repeat that no recorded unknown explains: {bare}")
        if len(processed) > 1:
            self.mark("explained repeat")
        self._in_order(subject, call, where)

    def _in_order(self, subject: Subject, call: Call, where: str) -> None:
        """Judge what a receiver is told of an incident: no older state after a newer one."""
        known = self.ever[call.attempt]
        newer = [
            s.name
            for s in self.subjects.values()
            if s.incident == subject.incident and s.state != subject.state
            # Whoever is deleted is not found, and nobody reads what is damaged.
            and s.order > subject.order and not s.gone and any(c.processed for c in s.calls)
        ]  # fmt: skip
        if not (subject.incident and newer):
            return
        if self.world.loop.time() - known.sent_at > SEND_TIMEOUT:
            self.mark("arrived later than a send may take")
            return
        if self.world.stepped > known.sent_at - _LOOK:
            # For how long it has been open goes by Redis's clock.
            return
        # An operator has said what became of it, or wanted it; or its log has lost it meanwhile.
        excused = known.judged or subject.orders or subject.gone or subject.corrupt
        if not excused and call.attempt not in subject.dropped:
            self.fail("I1", f"{where}: {subject.state} lands after {', '.join(newer)}")

    def _explained(self, subject: Subject, identity: str) -> bool:
        # Of what was journaled, an operator may have said that it failed while it was on the wire.
        known = self.ever[identity]
        return known.uncertain or (known.journaled and known.judged) or identity in subject.lost

    # -- ownership ------------------------------------------------------------------------------

    def _holds(self, process: Process, uid: str, where: str) -> None:
        """Judge a send by the shard's Lease: it must name who sends until all that he sent is over."""
        shard = process.app.shards.sharding.of(uid)
        holder, identity = self.world.holder_of(shard), process.identity
        # A host whose clock has jumped ends sessions that are not silent.
        if holder != identity and "suspend" not in self.world.profile.faults:
            held = f"held by {holder}" if holder else "free"
            self.fail("X1", f"{where}: {identity} sends it, and shard {shard} is {held}")

    def _session_ended(self, process: Process, name: str, response: Response) -> None:
        """Judge who ends another's session: only one that has been silent."""
        owner, renewed = self.world.sessions.get(name, ("", 0.0))
        if not owner or owner == process.identity:
            return
        if response.code == 409:
            self.mark("session renewed, and not ended")
        if response.code != 200:
            return
        self.mark("session of a silent replica ended")
        silent = self.world.loop.time() - renewed
        # Clocks may differ by 3 % each way.
        if silent < 0.95 * self.world.lease_duration and "suspend" not in self.world.profile.faults:
            self.fail(
                "X2", f"{process.name} ended {owner}'s session, renewed {silent:.1f} s before"
            )

    def handing_over(
        self, process: str, shards: Collection[int], writing: Collection[int], now: float
    ) -> None:
        """
        Judge how long a replica has been handing shards over; nothing is sent in them meanwhile.

        `writing` are those in which a status write is under way.
        """
        places = {(process, n) for n in shards}
        for place in [p for p in self.leaving if p[0] == process and p not in places]:
            del self.leaving[place]
            if self.world.refused:
                self.mark("handed over while a status was refused")
        for place in places:
            since, looked = self.leaving.get(place, (now, now))
            if place[1] in writing:
                since += now - looked
            self.leaving[place] = since, now
            lasting = now - since
            if lasting > _HAND_OVER:
                self.fail(
                    "H1", f"{process} has been handing shard {place[1]} over for {lasting:.0f} s"
                )

    def cut_off(self, process: str, owned: Collection[int], able: set[str], now: float) -> None:
        """Judge who keeps shards although he cannot reach Redis and somebody else can."""
        places = {(process, other) for other in able - {process}} if owned else set()
        for place in [p for p in self.keeping if p[0] == process and p not in places]:
            if now - self.keeping.pop(place) > _NOTICED and not owned:
                self.mark("cut off, and handed over")
        for place in places:
            lasting = now - self.keeping.setdefault(place, now)
            if lasting > _CUT_OFF:
                self.fail(
                    "H2", f"{process} has kept shards for {lasting:.0f} s, and {place[1]} is able"
                )

    # -- the end --------------------------------------------------------------------------------

    def finish(self, *, converged: bool) -> None:
        """Judge what can only be judged at the end."""
        for subject in self.subjects.values():
            for call in subject.calls:
                known = self.ever.get(call.attempt)
                if known is None:
                    self.fail("S2", f"{subject.name}: attempt {call.attempt} is not on record")
                elif known.judged:
                    continue
                elif known.state == _FAILED and call.processed:
                    self.fail("S2", f"{subject.name}: {call.attempt} failed, and was processed")
                elif known.state == _SUCCESS and not 200 <= call.code <= 299:
                    self.fail("S2", f"{subject.name}: {call.attempt} succeeded with {call.code}")
        called = {c.attempt for s in self.subjects.values() for c in s.calls}
        # What its sender left open is on record as unknown, sent or not.
        tried = {e.uid for e in self.ever.values() if e.begun or not e.unsent}
        for subject in self.subjects.values():
            new = subject.new and self._lossless(subject)
            if converged and new and not (subject.gone or subject.corrupt or subject.uid in tried):
                self.fail(
                    "F4", f"{subject.name}: suppressed by what somebody wrote into its status"
                )
        for identity, known in self.ever.items():
            if known.state == _SUCCESS and identity not in called and not known.judged:
                self.fail("S2", f"attempt {identity} succeeded, and was never received")
        for finding in self._oracle(converged=converged):
            self.fail(f"oracle {finding.kind}", str(finding))

    def _oracle(self, *, converged: bool) -> Iterator[Finding]:
        """Ask the checker of the end-to-end tests too, about what Redis has not lost."""
        books, logs, versions = [], {}, {}
        for subject in self.subjects.values():
            # A final phase that somebody has taken back is reached again.
            excused = subject.excused or subject.tainted
            if subject.lost or excused or subject.corrupt or subject.gone:
                continue
            if any(e.judged for e in self.ever.values() if e.uid == subject.uid):
                # It takes every word of a record for the receiver's.
                continue
            elements = self.world.log_of(subject.uid)
            if not elements:
                continue
            log = logs[subject.uid] = Log.read(elements)
            folded = self._folded(subject) - log.states().keys()
            books += [c for c in subject.calls if c.attempt not in folded]
            versions[subject.uid] = subject.versions
        findings = check(books, logs, versions, finished=converged)
        for found in findings.violations:
            if found.kind is not Kind.REPEATED and not self._overtakes(found):
                yield found

    def _overtakes(self, found: Finding) -> bool:
        """
        Whether a finding is of an order that nobody promises.

        The oracle takes the order of arrival for that of sending, and here requests overtake each
        other; B1 is judged without that. The order of a log is its own, but for what it lost with its
        end and was given back behind an outcome that came in between.
        """
        if found.kind is Kind.REORDERED and not found.detail.endswith("in the log"):
            return True
        if found.kind not in (Kind.REORDERED, Kind.AFTER_SUCCESS):
            return False
        # It was opened before; S7 judges each intent when it is accepted.
        return found.detail.split()[1] in self.subjects[found.name].overtaken

    @staticmethod
    def _folded(subject: Subject) -> set[str]:
        """Attempts that the status has as a number only, while the log that held them was lost."""
        if not (subject.dropped and subject.versions):
            return set()
        numbers = {
            c["name"]: int(c.get("number", 0))
            for c in (subject.versions[-1].status.get("rollup") or {}).get("channels", ())
        }
        return {
            identity
            for version in (subject.versions if numbers else ())
            for identity, seen in version.states().items()
            if identity in subject.dropped and seen.number <= numbers.get(seen.channel, 0)
        }

    def unfinished(self) -> list[str]:  # noqa: C901, PLR0912 (one branch for each rule)
        """What is not settled yet, in words; empty once the world has converged."""
        out = []
        for subject in self.subjects.values():
            log = self.world.log_of(subject.uid)
            if subject.corrupt:
                continue
            new = subject.new and self._lossless(subject)
            waits = (
                subject.tainted
                and bool(subject.versions)
                and _is_doubted(subject.versions[-1].status)
            )
            if (subject.forged is not None or waits) and not (subject.gone or new):
                # It waits for a person, or what somebody else has written is believed.
                continue
            if subject.gone:
                if log and self.world.expiry_of(subject.uid) is None:
                    out.append(f"{subject.name} ({subject.uid[:8]}): deleted, log not retired")
                continue
            phase = subject.versions[-1].phase if subject.versions else ""
            where = f"{subject.name} ({subject.uid[:8]})"
            if phase not in TERMINAL:
                out.append(f"{where}: phase {phase or '(none)'}")
                continue
            if "journal" in subject.versions[-1].status:
                out.append(f"{where}: it is marked as journaled")
            if not log:
                continue
            shown = subject.versions[-1].states()
            recorded = _states(log).keys() | subject.dropped
            out += [
                f"{where}: attempt {i} is not in the log"
                for i in shown
                if i in self.ever and self.ever[i].journaled and i not in recorded
            ]
            for identity, (_, state) in _states(log).items():
                at_least = shown[identity].state if identity in shown else 0
                if state == 0:
                    out.append(f"{where}: attempt {identity} is open")
                elif at_least < state and not self._rolled(subject, state):
                    out.append(f"{where}: attempt {identity} is not shown")
            header = snapshot_of(log).header
            if waiting := _waiting(subject, log):
                out.append(f"{where}: ordered and not tried: {', '.join(sorted(waiting))}")
            if header.acked < len(log) - 1:
                out.append(f"{where}: acked {header.acked} of {len(log) - 1}")
            elif self.world.expiry_of(subject.uid) is None:
                out.append(f"{where}: the log has no time to live")
        return out

    def on_mend(self, uid: str, log: list[bytes]) -> None:
        """Take notice that the world has repaired a log, if it can be read again."""
        if is_readable(log):
            self.subjects[uid].corrupt = False
            self.mark("unreadable log repaired")

    def on_restored(self, uid: str, log: list[bytes]) -> None:
        """Take notice that an older copy of a log is in force, which may be an unreadable one."""
        if log and not is_readable(log):
            self.subjects[uid].corrupt = True

    def on_corrupt(self, uid: str, log: list[bytes]) -> None:
        """Take notice that the world has made a log unreadable."""
        assert not is_readable(log), "the codec did not notice"
        self.subjects[uid].corrupt = True


def is_readable(log: list[bytes]) -> bool:
    """Whether the product can read a log."""
    try:
        snapshot_of(log)
    except ContractError:
        return False
    return True


_STATES: Final = {
    "intent": 0, "unknown": 1, "failed": 2, "success": 3,
    "seed.intent": 0, "seed.unknown": 1, "seed.failed": 2, "seed.success": 3,
    "resolve.failed": 2, "resolve.success": 3,
}  # fmt: skip
#: Seconds that a send may take.
SEND_TIMEOUT: Final = 2.0
#: Seconds that may pass between an intent and its send.
_LOOK: Final = 5.0
_EPOCH: Final = re.compile(rb" epoch=(\S+)")
#: The class of a failure as a body holds it.
_NOT_SENT: Final = b"\xa5class\xa7notSent"
_SUPERSEDED: Final = b"\xa5class\xaasuperseded"


def _fields(element: bytes) -> tuple[str, str, str]:
    kind, identity, channel, _ = element.split(b" ", 3)
    name = identity.decode()
    if kind.startswith(b"resolve."):
        name = name.split(":")[1]
    return kind.decode(), name, unquote(channel.decode())


def _is_doubted(status: Json) -> bool:
    conditions = status.get("conditions") or ()
    return any(c["type"] == "RecordTrusted" and c["status"] == "False" for c in conditions)


def _without_words(status: Json) -> Json:
    return {k: v for k, v in status.items() if k != "conditions"}


def _unsent(element: bytes) -> bool:
    return _NOT_SENT in element or _SUPERSEDED in element


def _waiting(subject: Subject, log: Sequence[bytes]) -> set[str]:
    """Channels of a log with an order that neither an attempt nor a success has followed."""
    if not subject.orders:
        return set()
    before: dict[str, set[str]] = {}
    tried: dict[str, dict[str, int]] = defaultdict(dict)
    for element in log[1:]:
        kind, identity, channel = _fields(element)
        state = _STATES.get(kind)
        if kind == "order":
            before[channel] = set(tried[channel])
        elif state is not None and _unsent(element):
            # It was no try, and no order is spent on it.
            tried[channel].pop(identity, None)
        elif state is not None:
            tried[channel][identity] = max(state, tried[channel].get(identity, 0))
    return {
        c
        for c, known in before.items()
        # One without a channel, or for one that only a forger has named, only says that the log decides.
        if c not in ("-", "webhook:elsewhere")
        and set(tried[c]) <= known
        and _SUCCESS not in tried[c].values()
    }


def _states(log: Sequence[bytes]) -> dict[str, tuple[str, int]]:
    out: dict[str, tuple[str, int]] = {}
    for element in log[1:]:
        kind, identity, channel = _fields(element)
        state = _STATES.get(kind)
        if state is not None:
            out[identity] = (channel, max(state, out.get(identity, ("", 0))[1]))
    return out


def _epoch(log: Sequence[bytes]) -> str:
    match = _EPOCH.search(log[0]) if log else None
    return match[1].decode() if match else ""


def _is_later(epoch: str, identity: str) -> bool:
    return epoch_key(Epoch(epoch)) > epoch_key(attempt_epoch(AttemptId(identity)))


def _text(value: Argument) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
