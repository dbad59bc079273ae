"""
What this process knows of one live notification, and every transition of it.

Anybody reads the members of a `Notification`; they are assigned in this module and in the registry
(`syncer.sync.cache`) alone, which `scripts/check` verifies by their names. Whoever wants to change one
calls a transition: a method whose name says what happens. It asserts what must hold before, and changes
all that follows from it in memory. That a status is written then, or a check made, is up to the registry.

Four value objects hold what changes together: `InFlight`, `Judged`, `Publication` and `Outage`. Nothing in
any of them is a source of truth. docs/architecture.md draws the states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from syncer.ledger.answers import Snapshot
from syncer.model.attempt import NO_IDS, Attempt, AttemptId, Epoch, drop, without
from syncer.model.record import Plan, Record, read_attempt
from syncer.model.resource import NO_STATUS, NotificationRequest, Status, version_key
from syncer.rules.evidence import Judgement, Verdict
from syncer.rules.fold import LogView
from syncer.rules.journal import Basis
from syncer.rules.merge import exceeds
from syncer.rules.recognise import poorer
from syncer.rules.resync import Check

#: Verdicts by which a status is not believed.
DOUBTS: Final = frozenset({Verdict.DISREGARDED, Verdict.DOUBTED})
#: One for all whose status is as sure as it can be: each would take 80 bytes.
SURE: Final = (Verdict.AGREES, 0.0)


@dataclass(frozen=True, slots=True)
class Claim:
    """
    Right to open attempts in one log.

    INTENT has the server compare `epoch` and `stamp`, the answer to the first CLAIM, which a later one does
    not renew. `generation` only has a log claimed again that opens nothing, once another server answers.
    """

    epoch: Epoch
    generation: int
    stamp: str


@dataclass(slots=True)
class InFlight:
    """
    Attempts that tasks of this process carry out, and outcomes that no log has yet.

    Attributes:
        executing: Open attempts that tasks of this process carry out, with their channels.
        never_sent: Those of which no byte has left, because the log has not allowed it yet.
        ahead: Those that are journaled.
        seeded: Journaled ones that the log may have received.
        unrecorded: Results that could not be written to the log, with their intents.
    """

    executing: dict[AttemptId, str] = field(default_factory=dict)
    never_sent: frozenset[AttemptId] = NO_IDS
    ahead: frozenset[AttemptId] = NO_IDS
    seeded: frozenset[AttemptId] = NO_IDS
    unrecorded: dict[AttemptId, tuple[Record, Record]] = field(default_factory=dict)

    def begin(self, attempt_id: AttemptId, channel: str) -> None:
        """A task carries out an attempt; nothing may be sent before its intent is recorded."""
        assert attempt_id not in self.executing, "its id is new"
        assert attempt_id not in self.unrecorded, "no result of it is known"
        self.executing[attempt_id] = channel
        self.never_sent |= {attempt_id}

    def journal(self, attempt_id: AttemptId) -> None:
        """The attempt is recorded in the status first."""
        assert attempt_id in self.never_sent, "it is journaled before anything leaves"
        self.ahead |= {attempt_id}

    def offer(self) -> None:
        """What is journaled is offered to a log, which may take it whatever is answered."""
        if self.ahead:
            self.seeded |= self.ahead

    def leave(self, attempt_id: AttemptId) -> None:
        """From now on bytes may leave."""
        self.never_sent = without(self.never_sent, attempt_id)

    def end(self, attempt_id: AttemptId) -> None:
        """No task carries it out any more."""
        drop(self.executing, attempt_id)
        self.never_sent = without(self.never_sent, attempt_id)
        self.ahead = without(self.ahead, attempt_id)
        self.seeded = without(self.seeded, attempt_id)

    def keep(self, attempt_id: AttemptId, record: Record, intent: Record) -> None:
        """Its result is known here alone, until a log has confirmed it."""
        self.end(attempt_id)
        self.unrecorded[attempt_id] = (record, intent)

    def recorded(self, attempt_id: AttemptId) -> None:
        """A log has confirmed a result that was kept."""
        drop(self.unrecorded, attempt_id)


@dataclass(slots=True)
class Publication:
    """
    The write of a notification's status.

    Attributes:
        dirty_since: Second of the first unpublished change, None if there is none.
        urgent: The change is final and must not wait for the window.
        ticket: Second at which its write is due, infinite if none is scheduled, negative while it waits for
            its turn.
        writing: A write is under way.
        failures: Writes that failed in a row, the last one at `last_failure`.
        jitter: Share of the back-off to wait after the last of them.
        unwritten: Why the last status was not written, empty if it was.
        ending: Version of the object to which a final phase was written, unless that write was refused.
    """

    dirty_since: float | None = None
    urgent: bool = False
    ticket: float = math.inf
    writing: bool = False
    failures: int = 0
    last_failure: float = 0.0
    jitter: float = 1.0
    unwritten: str = ""
    ending: str = ""

    @property
    def pending(self) -> bool:
        """Whether there are unpublished changes."""
        return self.dirty_since is not None

    def mark(self, now: float, *, urgent: bool) -> None:
        """There is a change to publish; the second of the first one is kept."""
        if self.dirty_since is None:
            self.dirty_since = now
        self.urgent = self.urgent or urgent

    def fail(self, now: float, jitter: float, *, before: int | None = None) -> None:
        """A write has failed; what was to be published still is, and backs off."""
        self.failures = (self.failures if before is None else before) + 1
        self.last_failure, self.jitter = now, jitter
        self.mark(now, urgent=False)

    def begin(self) -> None:
        """A write is under way."""
        assert not self.writing, "one write at a time"
        self.writing = True

    def over(self) -> None:
        """The write is over, whatever came of it."""
        self.writing = False

    def cover(self) -> None:
        """A write includes everything known now; later changes are marked again."""
        self.dirty_since, self.urgent, self.ticket = None, False, math.inf

    def clean(self) -> None:
        """All is published, or not ours to publish."""
        self.cover()
        self.failures = 0

    def forgive(self) -> None:
        """The next write need not wait for those that failed."""
        self.failures = 0

    def unclear(self) -> None:
        """A write counts as failed until it is read back: a hand-over does not wait for it."""
        self.failures = max(self.failures, 1)

    def refuse(self, error: str) -> bool:
        """A status is not written; returns whether for another reason than at the last try."""
        known, self.unwritten = self.unwritten, error
        return known != error

    def final_at(self, version: str) -> None:
        """The last version of the object to which a final phase may have been written."""
        self.ending = version


@dataclass(slots=True)
class Judged:
    """
    What comes of comparing the object's status with the log.

    Attributes:
        own: What holds in the place of the object's status, which is disregarded; None where it is not.
        untrusted: Why its record cannot be trusted, so that nothing is sent; empty if it can.
        claimed_at: Second of the loop's clock at which the log was last read by a claim.
        born: That of the first claim of this lease term, if it found that there was no log; else 0.
        alone: Nobody but this process can have done anything for it, in this lease term.
        compared: When a claim compared log and object last, in Unix milliseconds, 0 if none has.
        unsure: The verdict on its status that was reached last, and the claim at which that was first.
        rewrites: How often another client has written what is disregarded.
    """

    own: Status | None = None
    untrusted: str = ""
    claimed_at: float = 0.0
    born: float = 0.0
    alone: bool = False
    compared: float = 0.0
    unsure: tuple[Verdict, float] = SURE
    rewrites: int = 0

    def known_empty(self, empty: bool, now: float) -> None:
        """A claim has read the log, and knows whether there was none."""
        if empty and not self.claimed_at:
            self.born = now
        self.claimed_at = now

    def prove_alone(self, alone: bool) -> None:
        """It is known whether anybody else can have done anything for it."""
        assert self.born, "only a log that this process made proves it"
        self.alone = alone

    def suspect(self, verdict: Verdict) -> None:
        """This is the verdict of a claim; of a doubt it counts since when it is one."""
        if verdict not in DOUBTS:
            self.unsure = SURE
        elif self.unsure[0] is not verdict:
            self.unsure = verdict, self.claimed_at

    def conclude(self, judged: Judgement) -> bool:
        """The verdict holds; returns whether the status has to show something else now."""
        if judged.verdict is not Verdict.DISREGARDED:
            self.own = None
        else:
            self.disregard(NO_STATUS)
        doubted = judged.reason if judged.verdict is Verdict.DOUBTED else ""
        known, self.untrusted = self.untrusted, doubted
        return known != doubted or self.own is not None

    def disregard(self, before: Status) -> None:
        """What another client has written is disregarded, and what stood there before holds."""
        if self.own is None:
            self.own = before

    def rewritten(self) -> int:
        """It is certainly false; returns how often that was so."""
        assert self.own is not None, "something holds in its place"
        self.rewrites += 1
        return self.rewrites

    def agree(self) -> None:
        """The object's status holds."""
        self.own = None


@dataclass(frozen=True, slots=True)
class Outage:
    """
    Delivery while the log is away.

    Attributes:
        since: Second since which a due attempt could not be made without Redis, 0 if none.
        shown: Whether that has lasted long enough for the status to show it.
        note: Name of the note under which this process has journaled it, empty if it has not.
        missing: Why it must wait while the log is away and others are journaled, None if it need not.
    """

    since: float = 0.0
    shown: bool = False
    note: str = ""
    missing: Basis | None = None


#: One for all whose log is there.
NO_OUTAGE: Final = Outage()


@dataclass(slots=True)
class Notification:
    """
    One live notification.

    Attributes:
        request: Newest version of the object that this process has seen.
        uid: Identity of the notification, which every version has.
        fresh: First seen in a watch event without status, in this lease term.
        deleted: The object is gone; nothing is sent any more.
        doubtful: The newest version came from the watch and shows less than the one before: the object is
            read again before anything is merged with it.
        reopened: It was finished; its log has what was sent, and its status may have it no more.
        unreadable: The object could not be read at the last claim.
        judged: What comes of comparing its status with its log.

        view: Fold of its log up to `view.position`.
        claim: None until claimed, and after a claim turned out to be stale.
        told: How often it was said that others may have appended to the log.
        heeded: How many of these a read of the log came after.
        quarantine: Why the log cannot be read, empty if it can.
        fenced: Second since which the log is known to carry a later epoch than ours, 0 if it is not.
        distrusted: The status names an epoch, or more, that the log does not know. Anyone who may write a
            status can cause that.
        violation: What the self-audit found that the rules exclude; nothing is sent while it is set.
        acked: Position up to which the log is marked as published.
        audited: Position up to which the log is marked as handed to the audit feed's sinks.
        expiring: The log has been given its time to live.
        known_in: Lease term of the last claim; everything recorded since then is in memory.
        heard: Number of the subscription to wake-ups during which the log was last known to hold no more.

        in_flight: Its attempts here, and their outcomes that no log has.
        due: Second of the monotonic clock before which a channel must not be tried again.
        withheld: Due channels that the last decision held back.
        last_check: The last check that ended with a decision, None if a later one did not.
        unchecked_since: Second since which the resync requests a check without success, 0 if it does not.

        publication: The write of its status.
        outage: Its delivery while the log is away.
    """

    # The object.
    request: NotificationRequest
    uid: str = field(init=False)
    fresh: bool = False
    deleted: bool = False
    doubtful: bool = False
    reopened: bool = False
    unreadable: bool = field(default=False, init=False)
    judged: Judged = field(default_factory=Judged, init=False)

    # Its log.
    view: LogView = field(default_factory=LogView, init=False)
    claim: Claim | None = field(default=None, init=False)
    told: int = field(default=0, init=False)
    heeded: int = field(default=0, init=False)
    quarantine: str = field(default="", init=False)
    fenced: float = field(default=0.0, init=False)
    distrusted: bool = field(default=False, init=False)
    violation: str = field(default="", init=False)
    acked: int = field(default=0, init=False)
    audited: int = field(default=0, init=False)
    expiring: bool = field(default=False, init=False)
    known_in: Epoch | None = field(default=None, init=False)
    heard: int = field(default=0, init=False)

    # Its attempts and decisions here.
    in_flight: InFlight = field(default_factory=InFlight, init=False)
    due: dict[str, float] = field(default_factory=dict, init=False)
    withheld: tuple[str, ...] = field(default=(), init=False)
    last_check: Check | None = field(default=None, init=False)
    unchecked_since: float = field(default=0.0, init=False)

    publication: Publication = field(default_factory=Publication, init=False)
    outage: Outage = field(default=NO_OUTAGE, init=False)

    def __post_init__(self) -> None:
        """Cache the uid, which is read most often."""
        self.uid = self.request.uid

    # -- what follows from the members ------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The status by which everything goes: the object's, unless that is disregarded."""
        return self.request.status if self.judged.own is None else self.judged.own

    @property
    def cancelled(self) -> bool:
        """Whether nothing more is sent: the object is gone, or is being deleted."""
        return self.deleted or self.request.deleting

    @property
    def reread(self) -> bool:
        """Whether the view may lack records of others: read the log again before relying on it."""
        return self.told != self.heeded

    @property
    def busy(self) -> bool:
        """Whether a task still works on it."""
        return bool(self.in_flight.executing) or self.publication.writing

    @property
    def abandoned(self) -> list[Attempt]:
        """Open attempts of the log that no task of this process carries out."""
        executing = self.in_flight.executing
        return [a for a in self.view.attempts.values() if a.open and a.id not in executing]

    @property
    def closing(self) -> bool:
        """
        Whether the object may have a final phase that this process has not seen.

        The view can fall behind a phase that was written: with `atMostOnce` an unknown result ends a
        channel, and a manual resolution reverses that.
        """
        ending = self.publication.ending
        return ending == self.request.resource_version and bool(ending)

    @property
    def shown_whole(self) -> bool:
        """Whether it is finished, was journaled, and its status alone tells all that is known of it."""
        status, note = self.status, self.outage.note
        return (
            status.terminal
            and self.claim is None
            and bool(note)
            and status.journal == note
            and not (self.doubtful or self.violation or self.view.opened or self.view.ordered)
            and status.rollup is None
            and not exceeds(self.view, status)
        )

    @property
    def blocked(self) -> str:
        """The known reason why it cannot be claimed, empty if there is none."""
        reasons = (
            (self.quarantine, "its log cannot be read"),
            (self.fenced, "its log belongs to a later epoch"),
            (self.judged.untrusted, "its record cannot be trusted"),
            (self.distrusted, "its status names an epoch that its log does not know"),
            (self.unreadable, "its object cannot be read"),
        )
        return next((reason for holds, reason in reasons if holds), "")

    @property
    def stopped(self) -> str:
        """Why nothing is decided for it although it may be claimed, empty if something is."""
        if self.cancelled:
            return "the object is being deleted"
        return "held by the self-audit" if self.violation else ""

    def ends_at(self, position: int) -> bool:
        """Whether a mark at this position covers all of the log of a finished notification."""
        return (
            self.status.terminal
            and self.status.journal is None
            and not self.view.opened
            and position == self.view.position
            and not (self.view.ordered or self.in_flight.unrecorded)
        )

    # -- transitions: the object ------------------------------------------------------------------

    def observe(self, seen: NotificationRequest) -> None:
        """
        A newer version comes from the watch.

        A watch that was opened under an older CRD keeps dropping members which that CRD
        lacks. A version that shows less than the one before is therefore not trusted until the object was
        read.
        """
        self.doubtful = self.doubtful or poorer(seen.status, self.request.status)
        self.request = seen

    def take(self, answer: NotificationRequest, *, since: str) -> None:
        """
        The API server has answered about the object, read or written.

        The watch may have delivered a later version than `since`, the one known when the request was sent,
        and will not deliver it again. If it has delivered the same version, the answer is used.
        """
        known = self.request.resource_version
        if known == since or version_key(answer.resource_version) >= version_key(known):
            self.request = answer
            self.doubtful = False

    def shared(self) -> None:
        """Others may have published what this process has not seen."""
        self.fresh = False

    def lead(self) -> None:
        """A lease term begins; others may have owned it: what was known of it alone is known no more."""
        self.fresh = self.judged.alone = False
        self.outage = replace(self.outage, note="")
        self.judged.claimed_at = self.judged.born = 0.0

    def gone(self) -> None:
        """The object is gone, and nothing is published of it any more."""
        self.deleted, self.fenced, self.distrusted = True, 0.0, False
        self.publication.clean()

    def readable(self, *, readable: bool) -> None:
        """A claim could read the object, or could not."""
        self.unreadable = not readable

    # -- transitions: the log ---------------------------------------------------------------------

    def claiming(self) -> None:
        """The log is about to be claimed: no earlier claim outlives a try that fails."""
        self.claim = None
        self.in_flight.offer()

    def claimed(self, claim: Claim, *, heard: int = 0, compared: float = 0.0) -> None:
        """The log is claimed and compared with the object; all that is recorded is in memory."""
        assert not self.quarantine, "a log that cannot be read cannot be claimed"
        assert not self.in_flight.unrecorded, "the log has all that is known"
        self.claim, self.known_in = claim, claim.epoch
        self.heard, self.judged.compared = heard, compared
        # From now on we publish what a later claim must see.
        self.shared()
        self.outage = replace(self.outage, note="", missing=None)

    def lose(self) -> None:
        """The claim is stale."""
        self.claim = None

    def epochs(self, *, fenced: float = 0.0, distrusted: bool = False) -> None:
        """A claim has found the epochs in order, or the log fenced since then, or the status ahead."""
        assert not (fenced and distrusted), "a status is judged once the log is claimed"
        self.fenced, self.distrusted = fenced, distrusted

    def unintelligible(self, reason: str) -> None:
        """The log cannot be read."""
        assert reason, "the reason is shown"
        self.quarantine, self.claim = reason, None

    def intelligible(self) -> None:
        """The log can be read again."""
        self.quarantine = ""

    def news(self) -> None:
        """Others may have appended to the log."""
        self.told += 1

    def caught_up(self, told: int) -> None:
        """The log was read after so many news; what came during the read is not covered by it."""
        assert told <= self.told, "only what was said is covered"
        # A read that began earlier may end later.
        self.heeded = max(self.heeded, told)

    def hear(self, subscription: int) -> None:
        """During this subscription to wake-ups the log was known to hold no more."""
        self.heard = subscription

    def read(self, snapshot: Snapshot) -> None:
        """The fold of a log as it was read takes the place of the view."""
        view = snapshot.view
        for channel in view.pending:
            if self.view.order_ids.get(channel) != view.order_ids[channel]:
                # A resend request makes the channel due at once, whatever its wait was.
                self.due.pop(channel, None)
        acked, audited = snapshot.header.acked, snapshot.header.audited
        if view.position != self.view.position or acked < self.acked or audited < self.audited:
            # An append removes the expiry, and so does a store that has lost the mark which set it.
            self.expiring = False
        for record, _ in self.in_flight.unrecorded.values():
            # Only known here: a decision without it would repeat a finished attempt.
            view.learn(read_attempt(record))
        self.view = view
        self.acked, self.audited = acked, audited
        if self.acked:
            # Somebody has published; after a term of ours, that may be another.
            self.shared()

    def extend(self, record: Record) -> None:
        """A record was appended to the log; that has removed its expiry."""
        self.view.apply(record)
        self.expiring = False

    def learn(self, attempts: Sequence[Attempt], plan: Plan | None = None) -> None:
        """This is known besides what the log says, and the next claim records it."""
        for attempt in attempts:
            self.view.learn(attempt)
        self.view.plan = plan or self.view.plan

    def acknowledge(self, position: int, *, expiring: bool) -> None:
        """The log is marked as published."""
        assert position <= self.view.position, "only what was read is acknowledged"
        self.acked, self.expiring = max(self.acked, position), expiring

    def audit(self, position: int, *, expiring: bool = False) -> None:
        """The log is marked as handed to the audit feed's sinks."""
        self.audited, self.expiring = max(self.audited, position), self.expiring or expiring

    def object_to(self, violation: str) -> None:
        """The self-audit has found this, or nothing."""
        self.violation = violation

    # -- transitions: attempts and decisions ------------------------------------------------------

    def waits(self, due: dict[str, float]) -> None:
        """These are the waits of all its channels."""
        self.due = due

    def wait(self, channel: str, until: float | None) -> None:
        """A channel must not be tried again before that second; None if nothing is waited for."""
        if until is None:
            self.due.pop(channel, None)
        else:
            self.due[channel] = until

    def checking(self) -> None:
        """A check is under way."""
        self.last_check = None

    def decided(self, check: Check, withheld: tuple[str, ...]) -> None:
        """A check has ended with a decision."""
        self.last_check, self.withheld, self.unchecked_since = check, withheld, 0.0

    def unchecked(self, since: float) -> None:
        """A check was requested in vain since that second; 0 if none is needed."""
        self.unchecked_since = since

    # -- transitions: the outage of the log -------------------------------------------------------

    def held(self, since: float, *, shown: bool) -> None:
        """A due attempt waits for the log since that second, or none does if it is 0."""
        assert since or not shown, "what is shown has begun"
        self.outage = replace(self.outage, since=since, shown=shown)

    def journaling(self, note: str) -> None:
        """Its attempts may be journaled under this note."""
        self.outage = replace(self.outage, note=note, missing=None)

    def not_journaling(self, missing: Basis | None) -> None:
        """Its attempts must wait, for that reason."""
        self.outage = replace(self.outage, missing=missing)
