"""
The claim: takes over one notification's log for an epoch, and reconciles log and object.

`ready` is what comes before every decision. It claims the log unless a claim holds, reads what others have
appended, and says why nothing can be decided, if nothing can. What is another replica's is handed in and
forgotten there; what is gone is retired.

The order is part of the protocol. CLAIM comes first: it raises the fence, so that no other process can open
attempts. Then the object is read, then CLAIM runs once more with what only the object showed. If the object
were read first, a success published between the read and the claim would be missed, and sent again.

`syncer.rules.reconcile` decides what follows from the two; this module carries it out. The claim of a
notification whose object is gone retires its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from syncer.ledger.answers import Answer
from syncer.ledger.log import RedisLog
from syncer.metrics import SyncMetrics
from syncer.model.attempt import (
    NO_EPOCH,
    Attempt,
    AttemptState,
    FailureClass,
    attempt_epoch,
    epoch_key,
)
from syncer.model.errors import (
    ContractError,
    Gone,
    KindMissing,
    PortError,
    Unauthorised,
    Unavailable,
)
from syncer.model.ports import Backoff, LeaseTerm, ObjectClient, Ownership
from syncer.model.record import Record, intent_record, read_plan
from syncer.model.resource import NotificationRequest
from syncer.rules.channel_state import counts
from syncer.rules.evidence import Ground, Judgement, Verdict, judge, known_part
from syncer.rules.fold import LogView
from syncer.rules.merge import WRITTEN_AHEAD, exceeds, lacking
from syncer.rules.reconcile import Action, ClaimDecision, Presence, Situation, compare, reconcile
from syncer.rules.restore import fitting, highest_epoch, missing_plan, outcome_of, seeds_of_view
from syncer.rules.retention import retention_seconds
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.sync.cache import Cache
from syncer.sync.journal import Journal
from syncer.sync.notification import DOUBTS, Claim, Notification
from syncer.sync.recorder import Recorder
from syncer.sync.refusals import MissingPermissions

#: Of an object whose status is not looked at.
_UNASKED: Final = Judgement(Verdict.AGREES, "")
#: Seconds until a notification is looked at again if its shard's Lease may carry a note.
_NOTE_PAUSE: Final = 5.0
#: Seconds until an empty log is gone.
_AT_ONCE: Final = 1

logger = logging.getLogger("ledger.claim")
archive = logging.getLogger("ledger.archive")


@dataclass(frozen=True, slots=True)
class Ready:
    """
    A notification of ours that can be decided about.

    Attributes:
        entry: The notification.
        term: The lease term.
        journaled: Its attempts are journaled, as the log is away.
        blocked: Why nothing can be done for it now, empty if something can.
    """

    entry: Notification
    term: LeaseTerm
    journaled: bool = False
    blocked: str = ""


class Claimer:
    """Claims and retires logs, one notification at a time."""

    def __init__(
        self,
        recorder: Recorder,
        objects: ObjectClient,
        metrics: SyncMetrics,
        *,
        journal: Journal,
        ownership: Ownership,
        backoff: Backoff,
        on_started: Callable[[NotificationRequest], None] = lambda _: None,
    ) -> None:
        """
        Use the parts of a recorder.

        Args:
            recorder: Appends to the logs.
            objects: Reads objects.
            metrics: Count claims and what they find.
            journal: Knows whose log must not be used.
            ownership: Knows which notifications are ours.
            backoff: The wait after an attempt whose sender is gone.
            on_started: Called with one that is claimed for the first time in a lease term.
        """
        self.journal = journal
        self.ownership = ownership
        self._on_started = on_started
        #: The process is ending: no attempt is started any more.
        self.draining = False
        self.recorder = recorder
        self.log: RedisLog = recorder.log
        self.cache: Cache = recorder.cache
        self.objects = objects
        self.metrics = metrics
        self._backoff = backoff
        self.permissions = MissingPermissions(
            self.cache, "reads of notifications", lambda e: e.unreadable
        )

    def accepts(self, uid: str) -> bool:
        """Whether new work on a notification may begin in this process."""
        return not self.draining and self.ownership.accepts(uid)

    def may_open(self, entry: Notification, term: LeaseTerm) -> bool:
        """Whether attempts may be opened in the log, as far as this process knows."""
        return not self.journal.blocks(entry.uid) and self.recorder.claim_holds(entry, term)

    # -- before a decision ------------------------------------------------------------------------

    async def ready(self, uid: str) -> Ready | None:
        """
        Make a notification ready for a decision; None if there is nothing to decide, or not now.

        Raises:
            PortError: Redis or the API server did not answer; ask again later.
        """
        entry = self.cache.entries.get(uid)
        term = self.ownership.term_of(uid)
        if entry is not None:
            entry.checking()
        if entry is None or term is None or not self.accepts(uid):
            if entry is not None and term is None:
                await self._leave(entry)
            return None
        if not term.valid(self.cache.monotonic()):
            # The term may become valid again: perhaps only the answer to its renewal was lost.
            return None
        if entry.deleted:
            await self._retire(entry, term)
            return None
        if self.journal.blocks(uid):
            return self._without_log(entry, term)
        if not self.recorder.claim_holds(entry, term) and not await self._claim(entry, term):
            return Ready(entry, term, blocked=entry.blocked) if entry.blocked else None
        await self._catch_up(entry)
        if entry.abandoned:
            # An INTENT arrived after its caller had given it up: only a claim settles it.
            self.recorder.lose_claim(entry, "abandoned")
            if not await self._claim(entry, term):
                return Ready(entry, term, blocked=entry.blocked) if entry.blocked else None
            if entry.abandoned:
                # It could not be settled: try again, with a growing wait.
                self.cache.retry(uid)
                return None
        return Ready(entry, term, blocked=entry.stopped)

    def _without_log(self, entry: Notification, term: LeaseTerm) -> Ready | None:
        """What can be decided about one whose log must not be used; None if too little is known."""
        if self.journal.applies(entry, term):
            self.journal.take_up(entry, term)
            return Ready(entry, term, journaled=True, blocked=entry.stopped)
        # Nothing may be opened in the log until the note is removed; then the journal has everything
        # checked. A write of the note, or of the object, may be under way, and nothing reports its end.
        basis = self.journal.basis(entry, term)
        entry.not_journaling(None if basis.complete else basis)
        self.cache.check_at(entry.uid, self.cache.monotonic() + _NOTE_PAUSE)
        return None

    async def _claim(self, entry: Notification, term: LeaseTerm) -> bool:
        """Claim the log of an entry; returns whether a decision may be based on it."""
        first = entry.claim is None and entry.view.position == 0
        claimed = await self.claim(entry, term)
        logger.debug(
            "claimed", extra={"uid": entry.uid, "rows": claimed.rows, "reason": claimed.message}
        )
        if not await self._usable(entry, term, claimed):
            return False
        if first and not entry.status.terminal and not entry.cancelled:
            self._on_started(entry.request)
        return True

    async def _usable(self, entry: Notification, term: LeaseTerm, claimed: ClaimDecision) -> bool:
        """Note what prevents a decision after a claim; returns whether nothing does."""
        actions = claimed.actions
        if Action.STOP in actions:
            self._fence(entry, term)
            return False
        if Action.DISTRUST in actions:
            self._distrust(entry, term)
            return False
        entry.epochs()
        if Action.ORPHAN in actions:
            await self._retire(entry, term)
            return False
        entry.readable(readable=Action.HOLD not in actions)
        if entry.unreadable:
            self.cache.retry(entry.uid)
            return False
        if Action.NOTHING in actions and not entry.busy:
            self.cache.retire(entry)
            return False
        if entry.claim is None:
            if not entry.quarantine:
                self.cache.retry(entry.uid)
            return False
        return True

    def _fence(self, entry: Notification, term: LeaseTerm) -> None:
        """Stop a notification whose log carries a later epoch than that of our lease term."""
        if not entry.fenced:
            # Logged once: after a restore of etcd this may affect all of them, every half minute.
            logger.error(
                "the log belongs to a later epoch; if etcd was restored, raise sharding.incarnation",
                extra={"uid": entry.uid, "object": entry.request.key, "epoch": term.epoch},
            )
        entry.epochs(fenced=entry.fenced or self.cache.monotonic())
        self.metrics.fenced_notifications.inc()

    def _distrust(self, entry: Notification, term: LeaseTerm) -> None:
        """Stop a notification whose status names what its log and our lease term do not know."""
        if not entry.distrusted and not entry.judged.untrusted:
            logger.error(
                "the status names an epoch that the log does not know; nothing is sent for this"
                " notification",
                extra={
                    "uid": entry.uid,
                    "object": entry.request.key,
                    "named": highest_epoch(entry.request.status),
                    "epoch": term.epoch,
                },
            )
        entry.epochs(distrusted=True)

    async def _catch_up(self, entry: Notification) -> None:
        """Read what others have appended."""
        if not entry.reread:
            return
        known = entry.view.position
        await self.recorder.reread(entry)
        if entry.view.position != known:
            self.cache.mark_dirty(entry)

    # -- notifications that are gone, or another replica's ----------------------------------------

    async def _leave(self, entry: Notification) -> None:
        """Forget a notification of another replica once no work on it is under way here."""
        if entry.in_flight.unrecorded:
            await self.hand_in(entry)
            if not entry.in_flight.unrecorded:
                await self.recorder.log.wake_owner(entry.uid)
            elif not entry.quarantine:
                self.cache.retry(entry.uid)
        if self.ownership.term_of(entry.uid) is not None:
            # Ours again meanwhile: it is listed again, and a listed entry must stay.
            self.cache.check(entry.uid)
            return
        over = entry.deleted or entry.status.terminal
        if not entry.busy and (over or not entry.in_flight.unrecorded):
            # Its owner delivers, publishes and retires it.
            self.cache.forget(entry.uid)

    async def _retire(self, entry: Notification, term: LeaseTerm) -> None:
        if not await self.retire(entry, term) and not entry.in_flight.executing:
            self.cache.retry(entry.uid)

    async def settle(self, entries: Sequence[Notification]) -> None:
        """
        Record in the logs what only this process knows, because nothing is reconciled any more.

        That is what was kept for a claim, and what a log has lost before the status showed it. Whoever
        still owns the log claims it, so that the status can be written, too.
        """
        for entry in entries:
            term = self.ownership.term_of(entry.uid)
            ours = term is not None and term.valid(self.cache.monotonic()) and not entry.deleted
            if not self.recorder.log.available:
                return
            with contextlib.suppress(PortError):
                if term is not None and ours and self._known_here_alone(entry, term):
                    await self.claim(entry, term)
                if entry.in_flight.unrecorded:
                    await self.hand_in(entry)

    def _known_here_alone(self, entry: Notification, term: LeaseTerm) -> bool:
        if entry.in_flight.unrecorded:
            return True
        if self.recorder.claim_holds(entry, term):
            return False
        return bool(entry.abandoned) or exceeds(entry.view, entry.status)

    # -- the claim ------------------------------------------------------------------------------

    async def claim(self, entry: Notification, term: LeaseTerm) -> ClaimDecision:
        """
        Claim the log, compare it with the object, repair what differs.

        With the decision `Action.OPEN`, attempts may be opened under `entry.claim`; with `Action.CLOSE`,
        the claim only serves the last sync.

        Raises:
            PortError: Redis or the API server did not answer; nothing is open, claim again later.
        """
        generation = self.log.generation
        heard = self.log.subscriptions
        own_seeds = self._own_seeds(entry)
        entry.claiming()
        claimed = await self.log.claim(
            entry.uid, term.epoch, name=entry.request.key, seeds=own_seeds
        )
        if claimed.now:
            self.recorder.time.set(claimed.now)
        if claimed.answer is Answer.FENCED:
            self.metrics.fenced.inc()
            return self._count(reconcile(Situation(fenced=True)))
        if claimed.error is not None or claimed.snapshot is None:
            self.recorder.put_in_quarantine(entry, str(claimed.error))
            return self._count(reconcile(Situation(undecodable=True)))
        failpoint(Failpoint.CLAIMED)
        entry.judged.known_empty(
            claimed.snapshot.view.position == 0, asyncio.get_running_loop().time()
        )
        if entry.quarantine:
            entry.intelligible()
            self.cache.mark_dirty(entry)
        self.recorder.adopt(entry, claimed.snapshot)
        if not await self.recorder.record_kept(entry):
            raise Unavailable("the log was lost under its claim")
        if entry.quarantine:
            return self._count(reconcile(Situation(undecodable=True)))
        presence = await self._gather(entry)
        judged = self._judge(entry) if presence is Presence.PRESENT else _UNASKED
        situation = self._situation(entry, term, presence, judged)
        decision = reconcile(situation)
        await self._act(entry, term, decision, situation, judged)
        # The claim is stored last, with generation and stamp of its beginning: a server change in between
        # has it made again, and so does a result that the log could not take, which gives a claim up.
        claimable = Action.OPEN in decision or Action.CLOSE in decision
        current = generation == self.log.generation
        if claimable and current and not (entry.in_flight.unrecorded or entry.quarantine):
            claim = Claim(term.epoch, generation, claimed.stamp)
            entry.claimed(claim, heard=heard, compared=self.recorder.time.latest())
            self._schedule_due(entry)
            # Marks that failed while the log was away must not delay the next write.
            entry.publication.forgive()
            final = entry.status.terminal
            if final or entry.publication.pending:
                # A finished notification lacks a mark or an expiry, which the status writer sets.
                self.cache.mark_dirty(entry, urgent=final)
        return self._count(decision)

    async def _gather(self, entry: Notification) -> Presence:
        if entry.deleted:
            return Presence.ABSENT
        if entry.fresh:
            # First seen in a watch event without status, in this lease term: no process can have
            # published anything that the event does not show.
            return Presence.PRESENT
        request = entry.request
        if self.permissions.waits(request.namespace):
            entry.readable(readable=False)
            return Presence.UNREADABLE
        try:
            current = await self.objects.get(request.namespace, request.name, request)
        except Gone:
            return Presence.ABSENT
        except Unauthorised as error:
            # Known now, and not after the claim: it is what the permission is missed for.
            entry.readable(readable=False)
            self.permissions.withheld(request.namespace, error)
            return Presence.UNREADABLE
        except (KindMissing, ContractError):
            return Presence.UNREADABLE
        self.permissions.granted(request.namespace)
        if current.uid != entry.uid:
            return Presence.ABSENT
        entry.take(current, since=request.resource_version)
        return Presence.PRESENT

    def _own_seeds(self, entry: Notification) -> list[Record]:
        """What this process can give back to a log; the status only says in which order."""
        status = entry.status
        if not self.recorder.evidence.of_entry(entry).protected:
            status = known_part(status, entry.view)
        return seeds_of_view(entry.view, status)

    def _judge(self, entry: Notification) -> Judgement:
        """
        Say what becomes of the status; what that changes in the entry is changed.

        Raises:
            Unavailable: whether the store has lost anything has to be known first.
        """
        evidence = self.recorder.evidence
        about = evidence.of_entry(entry)
        alone = not about.protected and evidence.alone(entry, about)
        judged = judge(entry.request, entry.view, about, alone=alone)
        unsure = judged.verdict in DOUBTS
        entry.judged.suspect(judged.verdict)
        if unsure and self.log.looked_at <= entry.judged.unsure[1]:
            self.log.probe_soon()
            raise Unavailable("a status is judged once the store has been looked at")
        if entry.judged.conclude(judged):
            self.cache.mark_dirty(entry, urgent=True)
        if unsure:
            logger.warning(
                "a status says more than the log, and is not believed",
                extra={
                    "uid": entry.uid, "object": entry.request.key, "reason": judged.reason,
                    "verdict": judged.verdict.value,
                },
            )  # fmt: skip
        return judged

    def _situation(
        self, entry: Notification, term: LeaseTerm, presence: Presence, judged: Judgement
    ) -> Situation:
        status, view = entry.status, entry.view
        believed = judged.verdict is Verdict.BELIEVED
        # A plan never comes from what others may have written, unless nothing else is left of it.
        plan = judged.ground is Ground.POLICY or (believed and not view.position)
        return Situation(
            ahead=believed and epoch_key(highest_epoch(status)) > epoch_key(term.epoch),
            doubted=judged.verdict is Verdict.DOUBTED,
            log_present=view.position > 0,
            presence=presence,
            deleting=entry.request.deleting,
            terminal=status.terminal,
            shown=len(status.attempts),
            comparison=compare(
                log_exceeds=exceeds(view, status), object_exceeds=bool(lacking(view, status))
            ),
            abandoned=len(entry.abandoned),
            unacked=view.publishable[0] > entry.acked,
            unplanned=plan and view.plan is None and bool(status.channels),
            journaled=believed and status.journal is not None,
        )

    async def _act(
        self,
        entry: Notification,
        term: LeaseTerm,
        decision: ClaimDecision,
        situation: Situation,
        judged: Judgement,
    ) -> None:
        actions = decision.actions
        if Action.NOTHING in actions:
            # The log has expired, and the claim has made an empty one, which is taken away again: it would
            # look like one that lost its records. One that was given a record meanwhile has not been
            # audited to its end, so it stays.
            await self.log.retire(entry.uid, term.epoch, ttl=_AT_ONCE, audited=True)
        if Action.SEED in actions:
            await self._seed(entry, term, judged, unplanned=situation.unplanned)
        if Action.ORPHAN in actions:
            entry.gone()
        if Action.RECOVER in actions or Action.ORPHAN in actions:
            await self._recover(entry, term)
        if Action.SYNC in actions or Action.ACK in actions:
            self.cache.mark_dirty(entry, urgent=entry.status.terminal)

    async def _seed(
        self, entry: Notification, term: LeaseTerm, judged: Judgement, *, unplanned: bool
    ) -> None:
        status = entry.status
        lost = lacking(entry.view, status)
        entry.learn([fitting(self._adopted(entry, attempt)) for attempt in lost])
        plan = missing_plan(entry.view, status) if unplanned else None
        entry.learn((), read_plan(plan) if plan else None)
        # All that is known, though the log may hold most of it: it may be lost before this arrives.
        seeds = seeds_of_view(entry.view, status)
        entry.in_flight.offer()
        claimed = await self.log.claim(entry.uid, term.epoch, name=entry.request.key, seeds=seeds)
        if claimed.snapshot is None:
            self.recorder.lose_claim(entry, "seed")
            raise Unavailable("the log changed under its claim")
        self.recorder.adopt(entry, claimed.snapshot)
        if status.journal is not None:
            logger.info(
                "the log takes over what was journaled",
                extra={"uid": entry.uid, "object": entry.request.key, "attempts": len(lost)},
            )
        else:
            self.metrics.repaired.inc()
            self.metrics.loss.inc(len(lost))
            logger.warning(
                "the log had lost what the object shows; restored",
                extra={
                    "uid": entry.uid, "object": entry.request.key, "attempts": len(lost),
                    "because": judged.reason,
                },
            )  # fmt: skip
        self.cache.mark_dirty(entry)

    def _adopted(self, entry: Notification, attempt: Attempt) -> Attempt:
        """An attempt of the replaced controller, with the wait that it would have applied."""
        retriable = attempt.state in (AttemptState.FAILED, AttemptState.UNKNOWN) and (
            attempt.failure is not FailureClass.PERMANENT
        )
        if attempt_epoch(attempt.id) != NO_EPOCH or attempt.due or not retriable:
            return attempt
        wait = self._backoff(entry.request.policy, attempt.number)
        return replace(attempt, due=attempt.ended + wait)

    async def _recover(self, entry: Notification, term: LeaseTerm) -> None:
        policy = entry.request.policy
        for attempt in entry.abandoned:
            number = sum(map(counts, entry.view.of_channel(attempt.channel)))
            due = self.recorder.time.now() + self._backoff(policy, number)
            if await self.recorder.recover(entry, term, attempt, due=due):
                logger.warning(
                    "an attempt was left open by its sender; its result is unknown",
                    extra={
                        "uid": entry.uid,
                        "object": entry.request.key,
                        "channel": attempt.channel,
                        "attempt": attempt.id,
                    },
                )
        self.cache.mark_dirty(entry)

    def _schedule_due(self, entry: Notification) -> None:
        now_ms, now = self.recorder.time.now(), self.cache.monotonic()
        # The waits after attempts whose results are not recorded yet, so the log does not have them.
        under_way = {c: entry.due[c] for c in entry.in_flight.executing.values() if c in entry.due}
        waits = entry.view.waits(now_ms, entry.ordered)
        entry.waits({c: now + wait / 1000 for c, wait in waits.items()} | under_way)

    def _count(self, decision: ClaimDecision) -> ClaimDecision:
        for row in decision.rows:
            self.metrics.claims.labels(row).inc()
        return decision

    # -- a notification of another owner --------------------------------------------------------

    async def hand_in(self, entry: Notification) -> None:
        """
        Append kept outcomes to the log of another owner, after the attempts that only the status shows.

        A log that nobody has claimed since it was lost or created holds its attempts in the order in which
        they are appended; the status has numbered them already.

        Outcomes stay in memory if Redis has lost the log meanwhile, or if results that belong between these
        are on their way to it.

        Raises:
            PortError: Redis did not answer; the rest is kept.
        """
        lost = False
        with contextlib.suppress(ContractError):
            snapshot = await self.log.read(entry.uid)
            lost = snapshot is None
            view = snapshot.view if snapshot else LogView()
            believed = self.recorder.evidence.of_entry(entry).protected
            for shown in lacking(view, entry.request.status):
                if entry.in_flight.executing:
                    # Its outcome may be on its way, and belongs in between.
                    return
                ahead = shown.state is AttemptState.UNKNOWN and shown.error == WRITTEN_AHEAD
                kept = entry.in_flight.unrecorded.get(shown.id)
                foreign = not believed or attempt_epoch(shown.id) == NO_EPOCH
                if kept is None and (ahead or foreign):
                    continue
                record, intent = kept or (
                    outcome_of(shown),
                    intent_record(shown.id, shown.channel, at=shown.started, by="status"),
                )
                # Only the first may make the log anew: a copy of a later one, held up on its way, would
                # make one that lacks what came before it.
                name = entry.request.key if lost else None
                answer = await self.log.outcome(entry.uid, record, intent, name=name)
                if answer.answer is Answer.RECLAIM:
                    return
                lost = False
        await self.recorder.record_kept(entry, anew=lost)

    # -- a deleted notification -----------------------------------------------------------------

    async def retire(self, entry: Notification, term: LeaseTerm) -> bool:
        """
        Retire the log of a deleted notification: settle what is open, archive, set the expiry.

        A log that the audit feed has not read to its end stays; a sweep finds it once that is done.
        Returns True if there is nothing more to do for it now.

        Raises:
            PortError: no answer; call again later.
        """
        if entry.in_flight.executing:
            return False
        # What is known here alone is recorded although the object is gone: what was journaled for it, or
        # what a lost log held.
        seeds = self._own_seeds(entry)
        known = entry.view.position or entry.claim or seeds or entry.in_flight.unrecorded
        if not known and not await self._has_log(entry.uid):
            self.cache.forget(entry.uid)
            return True
        claimed = await self.log.claim(entry.uid, term.epoch, name=entry.request.key, seeds=seeds)
        if claimed.answer is Answer.FENCED:
            self.metrics.fenced.inc()
            return False
        if claimed.snapshot is None:
            self.recorder.put_in_quarantine(entry, str(claimed.error))
            self.cache.forget(entry.uid)
            return True
        self.recorder.adopt(entry, claimed.snapshot)
        entry.intelligible()
        if not await self.recorder.record_kept(entry):
            return False
        await self._recover(entry, term)
        if self._awaits_audit(entry):
            return True
        archive.info(
            "notification deleted; its log",
            extra={"uid": entry.uid, "object": entry.request.key, "ledger": archived(entry)},
        )
        ttl = retention_seconds(entry.request.retention_days)
        answer = await self.log.retire(entry.uid, term.epoch, ttl=ttl, audited=self.cache.auditing)
        if answer is not Answer.OK:
            return False
        self.metrics.orphans.inc()
        self.cache.forget(entry.uid)
        return True

    def _awaits_audit(self, entry: Notification) -> bool:
        """Whether the audit feed has not read the log to its end; if so, leave the log to the feed."""
        if not self.cache.auditing or entry.audited >= entry.view.position:
            return False
        if self.cache.audit_capacity:
            self.cache.mark_unaudited(entry)
        self.cache.forget(entry.uid)
        return True

    async def _has_log(self, uid: str) -> bool:
        (head,) = await self.log.read_headers([uid])
        return head.length > 0


def archived(entry: Notification) -> str:
    """The log as one JSON line, which remains after the object and, later, the log are gone."""
    return json.dumps(
        {
            "uid": entry.uid,
            "object": entry.request.key,
            "plan": list(entry.view.plan.channels) if entry.view.plan else [],
            "attempts": [
                {
                    "id": a.id,
                    "channel": a.channel,
                    "state": a.state.word,
                    "started": a.started,
                    "ended": a.ended,
                    **({"error": a.error} if a.error else {}),
                }
                for a in entry.view.attempts.values()
            ],
        },
        ensure_ascii=False,
    )
