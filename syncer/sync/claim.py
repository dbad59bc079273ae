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
from syncer.model.record import Record
from syncer.model.resource import NotificationRequest
from syncer.rules.channel_state import counts
from syncer.rules.evidence import Ground, Judgement, Verdict, judge, known_part
from syncer.rules.merge import exceeds, lacking
from syncer.rules.reconcile import Action, ClaimDecision, Presence, Situation, reconcile
from syncer.rules.restore import fitting, highest_epoch, missing_plan, seeds_of_view
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
        notification: The notification.
        term: The lease term.
        journaled: Its attempts are journaled, as the log is away.
        blocked: Why nothing can be done for it now, empty if something can.
    """

    notification: Notification
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

    def may_open(self, notification: Notification, term: LeaseTerm) -> bool:
        """Whether attempts may be opened in the log, as far as this process knows."""
        return not self.journal.blocks(notification.uid) and self.recorder.claim_holds(
            notification, term
        )

    # -- before a decision ------------------------------------------------------------------------

    async def ready(self, uid: str) -> Ready | None:
        """
        Make a notification ready for a decision; None if there is nothing to decide, or not now.

        Raises:
            PortError: Redis or the API server did not answer; ask again later.
        """
        notification = self.cache.entries.get(uid)
        term = self.ownership.term_of(uid)
        if notification is not None:
            notification.checking()
        if notification is None or term is None or not self.accepts(uid):
            if notification is not None and term is None:
                await self._leave(notification)
            return None
        if not term.valid(self.cache.monotonic()):
            # The term may become valid again: perhaps only the answer to its renewal was lost.
            return None
        if notification.deleted:
            await self._retire(notification, term)
            return None
        if self.journal.blocks(uid):
            return self._without_log(notification, term)
        usable = self.recorder.claim_holds(notification, term) or await self._claim(
            notification, term
        )
        if usable:
            if notification.reread and await self.recorder.reread(notification):
                self.cache.mark_dirty(notification)
            if notification.abandoned:
                # An INTENT arrived after its caller had given it up: only a claim settles it.
                self.recorder.lose_claim(notification, "abandoned")
                usable = await self._claim(notification, term)
                if usable and notification.abandoned:
                    # It could not be settled: try again, with a growing wait.
                    self.cache.retry(uid)
                    return None
        if not usable and not notification.blocked:
            return None
        blocked = notification.stopped if usable else notification.blocked
        return Ready(notification, term, blocked=blocked)

    def _without_log(self, notification: Notification, term: LeaseTerm) -> Ready | None:
        """What can be decided about one whose log must not be used; None if too little is known."""
        if self.journal.applies(notification, term):
            self.journal.take_up(notification, term)
            return Ready(notification, term, journaled=True, blocked=notification.stopped)
        # Nothing may be opened in the log until the note is removed; then the journal has everything
        # checked. A write of the note, or of the object, may be under way, and nothing reports its end.
        basis = self.journal.basis(notification, term)
        notification.not_journaling(None if basis.complete else basis)
        self.cache.check_at(notification.uid, self.cache.monotonic() + _NOTE_PAUSE)
        return None

    async def _claim(self, notification: Notification, term: LeaseTerm) -> bool:
        """Claim the log of a notification; returns whether a decision may be based on it."""
        first = notification.claim is None and notification.view.position == 0
        claimed = await self.claim(notification, term)
        logger.debug(
            "claimed",
            extra={"uid": notification.uid, "rows": claimed.rows, "reason": claimed.message},
        )
        if not await self._usable(notification, term, claimed):
            return False
        if first and not notification.status.terminal and not notification.cancelled:
            self._on_started(notification.request)
        return True

    async def _usable(
        self, notification: Notification, term: LeaseTerm, claimed: ClaimDecision
    ) -> bool:
        """Note what prevents a decision after a claim; returns whether nothing does."""
        actions = claimed.actions
        if Action.STOP in actions:
            self._fence(notification, term)
            return False
        if Action.DISTRUST in actions:
            self._distrust(notification, term)
            return False
        notification.epochs()
        if Action.ORPHAN in actions:
            await self._retire(notification, term)
            return False
        notification.readable(readable=Action.HOLD not in actions)
        if Action.NOTHING in actions and not notification.busy:
            self.cache.retire(notification)
            return False
        if notification.claim is None and not notification.quarantine:
            self.cache.retry(notification.uid)
        return notification.claim is not None

    def _fence(self, notification: Notification, term: LeaseTerm) -> None:
        """Stop a notification whose log carries a later epoch than that of our lease term."""
        if not notification.fenced:
            # Logged once: after a restore of etcd this may affect all of them, every half minute.
            logger.error(
                "the log belongs to a later epoch; if etcd was restored, raise sharding.incarnation",
                extra={
                    "uid": notification.uid,
                    "object": notification.request.key,
                    "epoch": term.epoch,
                },
            )
        notification.epochs(fenced=notification.fenced or self.cache.monotonic())
        self.metrics.fenced_notifications.inc()

    def _distrust(self, notification: Notification, term: LeaseTerm) -> None:
        """Stop a notification whose status names what its log and our lease term do not know."""
        if not notification.distrusted and not notification.judged.untrusted:
            logger.error(
                "the status names an epoch that the log does not know; nothing is sent for this"
                " notification",
                extra={
                    "uid": notification.uid,
                    "object": notification.request.key,
                    "named": highest_epoch(notification.request.status),
                    "epoch": term.epoch,
                },
            )
        notification.epochs(distrusted=True)

    # -- notifications that are gone, or another replica's ----------------------------------------

    async def _leave(self, notification: Notification) -> None:
        """Forget a notification of another replica once no work on it is under way here."""
        if notification.in_flight.unrecorded:
            await self.recorder.record_kept(notification, anew=True)
            if not notification.in_flight.unrecorded:
                await self.recorder.log.client.wake_up(notification.uid)
            elif not notification.quarantine:
                self.cache.retry(notification.uid)
        if self.ownership.term_of(notification.uid) is not None:
            # Ours again meanwhile: it is listed again, and a listed notification must stay.
            self.cache.check(notification.uid)
            return
        over = notification.deleted or notification.status.terminal
        if not notification.busy and (over or not notification.in_flight.unrecorded):
            # Its owner delivers, publishes and retires it.
            self.cache.forget(notification.uid)

    async def _retire(self, notification: Notification, term: LeaseTerm) -> None:
        if not await self.retire(notification, term) and not notification.in_flight.executing:
            self.cache.retry(notification.uid)

    async def settle(self, notifications: Sequence[Notification]) -> None:
        """
        Record in the logs what only this process knows, because nothing is reconciled any more.

        That is what was kept for a claim, and what a log has lost before the status showed it. Whoever
        still owns the log claims it, so that the status can be written, too.
        """
        for notification in notifications:
            term = self.ownership.term_of(notification.uid)
            ours = (
                term is not None and term.valid(self.cache.monotonic()) and not notification.deleted
            )
            if not self.recorder.log.available:
                return
            with contextlib.suppress(PortError):
                if term is not None and ours and self._known_here_alone(notification, term):
                    await self.claim(notification, term)
                if notification.in_flight.unrecorded:
                    await self.recorder.record_kept(notification, anew=True)

    def _known_here_alone(self, notification: Notification, term: LeaseTerm) -> bool:
        return bool(notification.in_flight.unrecorded) or (
            not self.recorder.claim_holds(notification, term)
            and (bool(notification.abandoned) or exceeds(notification.view, notification.status))
        )

    # -- the claim ------------------------------------------------------------------------------

    async def claim(self, notification: Notification, term: LeaseTerm) -> ClaimDecision:
        """
        Claim the log, compare it with the object, repair what differs.

        With the decision `Action.OPEN`, attempts may be opened under its claim; with `Action.CLOSE`,
        the claim only serves the last sync.

        Raises:
            PortError: Redis or the API server did not answer; nothing is open, claim again later.
        """
        generation = self.log.client.generation
        heard = self.log.client.subscriptions
        own_seeds = self._own_seeds(notification)
        notification.claiming()
        claimed = await self.log.claim(
            notification.uid, term.epoch, name=notification.request.key, seeds=own_seeds
        )
        if claimed.now:
            self.recorder.time.set(claimed.now)
        if claimed.answer is Answer.FENCED:
            self.metrics.fenced.inc()
            return self._count(reconcile(Situation(fenced=True)))
        if claimed.error is not None or claimed.snapshot is None:
            self.recorder.put_in_quarantine(notification, str(claimed.error))
            return self._count(reconcile(Situation(undecodable=True)))
        failpoint(Failpoint.CLAIMED)
        notification.judged.known_empty(
            claimed.snapshot.view.position == 0, asyncio.get_running_loop().time()
        )
        if notification.quarantine:
            notification.intelligible()
            self.cache.mark_dirty(notification)
        self.recorder.adopt(notification, claimed.snapshot)
        if not await self.recorder.record_kept(notification):
            raise Unavailable("the log was lost under its claim")
        if notification.quarantine:
            return self._count(reconcile(Situation(undecodable=True)))
        presence = await self._gather(notification)
        judged = self._judge(notification) if presence is Presence.PRESENT else _UNASKED
        situation = self._situation(notification, term, presence, judged)
        decision = reconcile(situation)
        await self._act(notification, term, decision, situation, judged)
        # The claim is stored last, with generation and stamp of its beginning: a server change in between
        # has it made again, and so does a result that the log could not take, which gives a claim up.
        claimable = Action.OPEN in decision or Action.CLOSE in decision
        current = generation == self.log.client.generation
        if (
            claimable
            and current
            and not (notification.in_flight.unrecorded or notification.quarantine)
        ):
            claim = Claim(term.epoch, generation, claimed.stamp)
            notification.claimed(claim, heard=heard, compared=self.recorder.time.latest())
            self._schedule_due(notification)
            # Marks that failed while the log was away must not delay the next write.
            notification.publication.forgive()
            final = notification.status.terminal
            if final or notification.publication.pending:
                # A finished notification lacks a mark or an expiry, which the status writer sets.
                self.cache.mark_dirty(notification, urgent=final)
        return self._count(decision)

    async def _gather(self, notification: Notification) -> Presence:
        if notification.deleted:
            return Presence.ABSENT
        if notification.fresh:
            # First seen in a watch event without status, in this lease term: no process can have
            # published anything that the event does not show.
            return Presence.PRESENT
        request = notification.request
        if self.permissions.waits(request.namespace):
            notification.readable(readable=False)
            return Presence.UNREADABLE
        try:
            current = await self.objects.get(request.namespace, request.name, request)
        except Gone:
            return Presence.ABSENT
        except Unauthorised as error:
            # Known now, and not after the claim: it is what the permission is missed for.
            notification.readable(readable=False)
            self.permissions.withheld(request.namespace, error)
            return Presence.UNREADABLE
        except (KindMissing, ContractError):
            return Presence.UNREADABLE
        self.permissions.granted(request.namespace)
        if current.uid != notification.uid:
            return Presence.ABSENT
        notification.take(current, since=request.resource_version)
        return Presence.PRESENT

    def _own_seeds(self, notification: Notification) -> list[Record]:
        """What this process can give back to a log; the status only says in which order."""
        status = notification.status
        if not self.recorder.evidence.of_entry(notification).protected:
            status = known_part(status, notification.view)
        return seeds_of_view(notification.view, status)

    def _judge(self, notification: Notification) -> Judgement:
        """
        Say what becomes of the status; what that changes in the notification is changed.

        Raises:
            Unavailable: whether the store has lost anything has to be known first.
        """
        evidence = self.recorder.evidence
        about = evidence.of_entry(notification)
        alone = not about.protected and evidence.alone(notification, about)
        judged = judge(notification.request, notification.view, about, alone=alone)
        unsure = judged.verdict in DOUBTS
        notification.judged.suspect(judged.verdict)
        if unsure and self.log.client.looked_at <= notification.judged.unsure[1]:
            self.log.client.probe_now.set()
            raise Unavailable("a status is judged once the store has been looked at")
        if notification.judged.conclude(judged):
            self.cache.mark_dirty(notification, urgent=True)
        if unsure:
            logger.warning(
                "a status says more than the log, and is not believed",
                extra={
                    "uid": notification.uid, "object": notification.request.key, "reason": judged.reason,
                    "verdict": judged.verdict.value,
                },
            )  # fmt: skip
        return judged

    def _situation(
        self, notification: Notification, term: LeaseTerm, presence: Presence, judged: Judgement
    ) -> Situation:
        status, view = notification.status, notification.view
        believed = judged.verdict is Verdict.BELIEVED
        # A plan never comes from what others may have written, unless nothing else is left of it.
        plan = judged.ground is Ground.POLICY or (believed and not view.position)
        return Situation(
            ahead=believed and epoch_key(highest_epoch(status)) > epoch_key(term.epoch),
            doubted=judged.verdict is Verdict.DOUBTED,
            log_present=view.position > 0,
            presence=presence,
            deleting=notification.request.deleting,
            terminal=status.terminal,
            shown=len(status.attempts),
            log_exceeds=exceeds(view, status),
            # What the end of a log's time explains is not given to the one that was made anew.
            object_exceeds=judged.verdict is not Verdict.AGREES and bool(lacking(view, status)),
            abandoned=len(notification.abandoned),
            unacked=view.publishable[0] > notification.acked,
            unplanned=plan and view.plan is None and bool(status.channels),
            journaled=believed and status.journal is not None,
        )

    async def _act(
        self,
        notification: Notification,
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
            await self.log.retire(notification.uid, term.epoch, ttl=_AT_ONCE, audited=True)
        if Action.SEED in actions:
            await self._seed(notification, term, judged, unplanned=situation.unplanned)
        if Action.ORPHAN in actions:
            notification.gone()
        if Action.RECOVER in actions or Action.ORPHAN in actions:
            await self._recover(notification, term)
        if Action.SYNC in actions or Action.ACK in actions:
            self.cache.mark_dirty(notification, urgent=notification.status.terminal)

    async def _seed(
        self, notification: Notification, term: LeaseTerm, judged: Judgement, *, unplanned: bool
    ) -> None:
        status = notification.status
        lost = lacking(notification.view, status)
        notification.learn(
            [fitting(self._adopted(notification, attempt)) for attempt in lost],
            missing_plan(notification.view, status) if unplanned else None,
        )
        # All that is known, though the log may hold most of it: it may be lost before this arrives.
        seeds = seeds_of_view(notification.view, status)
        notification.in_flight.offer()
        claimed = await self.log.claim(
            notification.uid, term.epoch, name=notification.request.key, seeds=seeds
        )
        if claimed.snapshot is None:
            self.recorder.lose_claim(notification, "seed")
            raise Unavailable("the log changed under its claim")
        self.recorder.adopt(notification, claimed.snapshot)
        if status.journal is not None:
            logger.info(
                "the log takes over what was journaled",
                extra={
                    "uid": notification.uid,
                    "object": notification.request.key,
                    "attempts": len(lost),
                },
            )
        else:
            self.metrics.repaired.inc()
            self.metrics.loss.inc(len(lost))
            logger.warning(
                "the log had lost what the object shows; restored",
                extra={
                    "uid": notification.uid, "object": notification.request.key, "attempts": len(lost),
                    "because": judged.reason,
                },
            )  # fmt: skip
        self.cache.mark_dirty(notification)

    def _adopted(self, notification: Notification, attempt: Attempt) -> Attempt:
        """An attempt of the replaced controller, with the wait that it would have applied."""
        retriable = attempt.state in (AttemptState.FAILED, AttemptState.UNKNOWN) and (
            attempt.failure is not FailureClass.PERMANENT
        )
        if attempt_epoch(attempt.id) != NO_EPOCH or attempt.due or not retriable:
            return attempt
        wait = self._backoff(notification.request.policy, attempt.number)
        return replace(attempt, due=attempt.ended + wait)

    async def _recover(self, notification: Notification, term: LeaseTerm) -> None:
        policy = notification.request.policy
        for attempt in notification.abandoned:
            number = sum(map(counts, notification.view.of_channel(attempt.channel)))
            due = self.recorder.time.now() + self._backoff(policy, number)
            if await self.recorder.recover(notification, term, attempt, due=due):
                logger.warning(
                    "an attempt was left open by its sender; its result is unknown",
                    extra={
                        "uid": notification.uid,
                        "object": notification.request.key,
                        "channel": attempt.channel,
                        "attempt": attempt.id,
                    },
                )
        self.cache.mark_dirty(notification)

    def _schedule_due(self, notification: Notification) -> None:
        now_ms, now = self.recorder.time.now(), self.cache.monotonic()
        # The waits after attempts whose results are not recorded yet, so the log does not have them.
        under_way = {
            c: notification.due[c]
            for c in notification.in_flight.executing.values()
            if c in notification.due
        }
        waits = notification.view.waits(now_ms, notification.view.ordered)
        notification.waits({c: now + wait / 1000 for c, wait in waits.items()} | under_way)

    def _count(self, decision: ClaimDecision) -> ClaimDecision:
        for row in decision.rows:
            self.metrics.claims.labels(row).inc()
        return decision

    # -- a deleted notification -----------------------------------------------------------------

    async def retire(self, notification: Notification, term: LeaseTerm) -> bool:
        """
        Retire the log of a deleted notification: settle what is open, archive, set the expiry.

        A log that the audit feed has not read to its end stays; a sweep finds it once that is done.
        Returns True if there is nothing more to do for it now.

        Raises:
            PortError: no answer; call again later.
        """
        if notification.in_flight.executing:
            return False
        # What is known here alone is recorded although the object is gone: what was journaled for it, or
        # what a lost log held.
        seeds = self._own_seeds(notification)
        known = (
            notification.view.position
            or notification.claim
            or seeds
            or notification.in_flight.unrecorded
        )
        if not known and not (await self.log.read_headers([notification.uid]))[0].length:
            self.cache.forget(notification.uid)
            return True
        claimed = await self.log.claim(
            notification.uid, term.epoch, name=notification.request.key, seeds=seeds
        )
        if claimed.answer is Answer.FENCED:
            self.metrics.fenced.inc()
            return False
        if claimed.snapshot is None:
            self.recorder.put_in_quarantine(notification, str(claimed.error))
            self.cache.forget(notification.uid)
            return True
        self.recorder.adopt(notification, claimed.snapshot)
        notification.intelligible()
        if not await self.recorder.record_kept(notification):
            return False
        await self._recover(notification, term)
        if self.cache.auditing and notification.audited < notification.view.position:
            # The feed has not read it to its end: it is left to the feed.
            if self.cache.audit_capacity:
                self.cache.mark_unaudited(notification)
            self.cache.forget(notification.uid)
            return True
        archive.info(
            "notification deleted; its log",
            extra={
                "uid": notification.uid,
                "object": notification.request.key,
                "ledger": archived(notification),
            },
        )
        ttl = retention_seconds(notification.request.retention_days)
        answer = await self.log.retire(
            notification.uid, term.epoch, ttl=ttl, audited=self.cache.auditing
        )
        if answer is not Answer.OK:
            return False
        self.metrics.orphans.inc()
        self.cache.forget(notification.uid)
        return True


def archived(notification: Notification) -> str:
    """The log as one JSON line, which remains after the object and, later, the log are gone."""
    return json.dumps(
        {
            "uid": notification.uid,
            "object": notification.request.key,
            "plan": list(notification.view.plan.channels) if notification.view.plan else [],
            "attempts": [
                {
                    "id": a.id,
                    "channel": a.channel,
                    "state": a.state.word,
                    "started": a.started,
                    "ended": a.ended,
                    **({"error": a.error} if a.error else {}),
                }
                for a in notification.view.attempts.values()
            ],
        },
        ensure_ascii=False,
    )
