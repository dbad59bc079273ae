"""
The reconciler: decides what one notification needs now, and starts it.

`reconcile(uid)` is level-triggered and serial per notification: it claims the log unless it holds a
claim, asks for a decision based on the current state, and hands due attempts to the dispatcher or sets a
timer. Between two calls it remembers only the last decision (`Notification.last_check`). The resync derives
from that what to reconcile again, so that no return path has to arrange it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import Final

from notifier.contract import Outcome
from notifier.dispatch.breaker import Reject, refusal
from notifier.dispatch.dispatcher import Dispatcher
from notifier.reconciler.attempt import Attempts
from notifier.reconciler.decisions import Decisions
from notifier.reconciler.holds import Holds
from notifier.reconciler.ports import Ports
from syncer.model.errors import PortError
from syncer.model.ports import LeaseTerm
from syncer.rules.channel_state import counts
from syncer.rules.plan import (
    Await,
    Decision,
    Deliver,
    Finish,
    GiveUp,
    Resolve,
    withheld,
)
from syncer.rules.reconcile import Action, ClaimDecision
from syncer.rules.resync import Check
from syncer.sync.notification import Notification

logger = logging.getLogger("ledger.delivery")

#: Seconds until a notification is reconciled again if its shard's Lease may carry a note.
_NOTE_PAUSE: Final = 5.0


@dataclass(eq=False)
class Reconciler:
    """Handles the keys of the work queue."""

    ports: Ports
    holds: Holds
    decisions: Decisions
    attempts: Attempts
    dispatcher: Dispatcher

    async def work(self) -> None:
        """One worker: handle keys until cancelled."""
        while True:
            uid = await self.ports.queue.get()
            try:
                decided = await self.reconcile(uid) is not None
                if decided or uid not in self.ports.cache.entries:
                    # Without a decision, the growing wait continues.
                    self.ports.queue.succeeded(uid)
            except PortError as error:
                wait = self.ports.queue.retry(uid)
                logger.info(
                    "a notification could not be checked and is tried again",
                    extra={"uid": uid, "error": str(error), "seconds": round(wait, 1)},
                )
            except Exception:
                # A poison object delays only itself, by a growing wait.
                logger.exception(
                    "a notification could not be handled and is tried again", extra={"uid": uid}
                )
                self.ports.queue.retry(uid)
            finally:
                self.ports.queue.done(uid)

    async def reconcile(self, uid: str) -> Decision | None:
        """
        Decide for one notification, and start what is due.

        Returns:
            The decision, None if there is nothing to decide or nothing can be decided now.

        Raises:
            PortError: Redis or the API server did not answer; reconcile again later.
        """
        entry = self.ports.cache.entries.get(uid)
        term = self.ports.ownership.term_of(uid)
        if entry is not None:
            entry.checking()
        if entry is None or term is None or not self.holds.accepts(uid):
            if entry is not None and term is None:
                await self._leave(entry)
            return None
        if not term.valid(self.ports.cache.monotonic()):
            # The term may become valid again: perhaps only the answer to its renewal was lost.
            return None
        if entry.deleted:
            await self._retire(entry, term)
            return None
        if self.ports.journal.blocks(uid):
            return await self._without_log(entry, term)
        if not self.ports.recorder.claim_holds(entry, term) and not await self._claim(entry, term):
            return self._unclaimed(entry)
        await self._catch_up(entry)
        if entry.abandoned:
            # An INTENT arrived after its caller had given it up: only a claim settles it.
            self.ports.recorder.lose_claim(entry, "abandoned")
            if not await self._claim(entry, term):
                return self._unclaimed(entry)
            if entry.abandoned:
                # It could not be settled: try again, with a growing wait.
                self.ports.queue.retry(entry.uid)
                return None
        return await self._decide(entry, term)

    async def _without_log(self, entry: Notification, term: LeaseTerm) -> Decision | None:
        """Decide for an entry whose log must not be used; None if too little is known."""
        if self.ports.journal.applies(entry, term):
            self.ports.journal.take_up(entry, term)
            return await self._decide(entry, term, journaled=True)
        # Nothing may be opened in the log until the note is removed; then the journal has everything
        # checked. A write of the note, or of the object, may be under way, and nothing reports its end.
        basis = self.ports.journal.basis(entry, term)
        entry.not_journaling(None if basis.complete else basis)
        self.ports.queue.add_at(entry.uid, self.ports.cache.monotonic() + _NOTE_PAUSE)
        return None

    async def _decide(
        self, entry: Notification, term: LeaseTerm, *, journaled: bool = False
    ) -> Decision:
        """Decide for an entry whose log is claimed, or not needed, and act on the decision."""
        if stopped := _stopped(entry):
            return self._decided(entry, Await(stopped))
        decision = self.decisions.next(entry)
        if isinstance(decision, Resolve):
            if not entry.request.specified:
                return self._decided(entry, Await("the object has no spec yet"))
            plan, doubts = await self.ports.router.plan(
                entry.request, self.ports.recorder.time.now()
            )
            if self.ports.incidents is not None:
                plan = await self.ports.incidents.routed(entry.request, plan)
            if journaled:
                self.ports.recorder.plan_journaled(entry, plan)
            else:
                await self.ports.recorder.plan(entry, plan)
            if doubts:
                self.ports.reporter.routed_in_doubt(entry.request, plan.channels, doubts)
            decision = self.decisions.next(entry)
        rejected = self._start(entry, decision, journaled=journaled)
        self._decided(entry, decision)
        if journaled:
            return decision
        for channel, rejection in rejected.items():
            await self._note_rejection(entry, channel, rejection)
        for channel, reason in withheld(decision):
            await self._note_held(entry, channel, reason)
        if isinstance(decision, GiveUp):
            await self._give_up(entry, term, decision)
        return decision

    # -- the claim ------------------------------------------------------------------------------

    async def _claim(self, entry: Notification, term: LeaseTerm) -> bool:
        """Claim the log of an entry; returns whether a decision may be based on it."""
        first = entry.claim is None and entry.view.position == 0
        claimed = await self.ports.claimer.claim(entry, term)
        logger.debug(
            "claimed", extra={"uid": entry.uid, "rows": claimed.rows, "reason": claimed.message}
        )
        if not await self._usable(entry, term, claimed):
            return False
        if first and not entry.status.terminal and not entry.cancelled:
            self.ports.reporter.started(entry.request)
        return True

    async def _usable(self, entry: Notification, term: LeaseTerm, claimed: ClaimDecision) -> bool:
        """Record what prevents a decision after a claim; returns whether nothing does."""
        actions = claimed.actions
        if Action.STOP in actions:
            self.holds.fence(entry, term.epoch)
            self.ports.metrics.fenced_notifications.inc()
            return False
        if Action.DISTRUST in actions:
            self.holds.distrust(entry, term.epoch)
            return False
        entry.epochs()
        if Action.ORPHAN in actions:
            await self._retire(entry, term)
            return False
        entry.readable(readable=Action.HOLD not in actions)
        if entry.unreadable:
            self.ports.queue.retry(entry.uid)
            return False
        if Action.NOTHING in actions and not entry.busy:
            self.ports.cache.retire(entry)
            return False
        if entry.claim is None:
            if not entry.quarantine:
                self.ports.queue.retry(entry.uid)
            return False
        return True

    def _unclaimed(self, entry: Notification) -> Decision | None:
        """The decision for an entry that cannot be claimed, None if the claim is tried again soon."""
        reason = self.holds.blocked(entry)
        decision = self._decided(entry, Await(reason)) if reason else None
        # What may pass soon is also tried again with a growing wait, which a decision would reset.
        return None if entry.unreadable else decision

    async def _catch_up(self, entry: Notification) -> None:
        """Read what others have appended."""
        if not entry.reread:
            return
        known = entry.view.position
        await self.ports.recorder.reread(entry)
        if entry.view.position != known:
            self.ports.cache.mark_dirty(entry)

    # -- notifications that are gone, or another replica's ----------------------------------------

    async def _leave(self, entry: Notification) -> None:
        """Forget a notification of another replica once no work on it is under way here."""
        if entry.in_flight.unrecorded:
            await self.ports.claimer.hand_in(entry)
            if not entry.in_flight.unrecorded:
                await self.ports.recorder.log.wake_owner(entry.uid)
            elif not entry.quarantine:
                self.ports.queue.retry(entry.uid)
        if self.ports.ownership.term_of(entry.uid) is not None:
            # Ours again meanwhile: it is listed again, and a listed entry must stay.
            self.ports.queue.add(entry.uid)
            return
        over = entry.deleted or entry.status.terminal
        if not entry.busy and (over or not entry.in_flight.unrecorded):
            # Its owner delivers, publishes and retires it.
            self.ports.cache.forget(entry.uid)

    async def _retire(self, entry: Notification, term: LeaseTerm) -> None:
        if not await self.ports.claimer.retire(entry, term) and not entry.in_flight.executing:
            self.ports.queue.retry(entry.uid)

    # -- acting on decisions ----------------------------------------------------------------------

    def _start(
        self, entry: Notification, decision: Decision, *, journaled: bool
    ) -> dict[str, Reject]:
        """Act on a decision; returns what a circuit breaker rejects, by channel."""
        rejected: dict[str, Reject] = {}
        for channel in decision.channels if isinstance(decision, Deliver) else ():
            submit = partial(
                self.dispatcher.submit,
                entry.uid,
                channel,
                due=entry.due.get(channel, self.ports.cache.monotonic()),
                priority=entry.request.priority,
                namespace=entry.request.namespace,
                tried=sum(map(counts, entry.view.of_channel(channel))),
            )
            if journaled:
                self.attempts.submit_in_turn(entry, channel, submit)
            elif (rejection := submit()) is not None:
                rejected[channel] = rejection
        if isinstance(decision, Finish):
            self.ports.cache.mark_dirty(entry, urgent=True)
        if decision.then is not None:
            self.ports.queue.add_at(entry.uid, decision.then)
        return rejected

    def _decided(self, entry: Notification, decision: Decision) -> Decision:
        """Remember a decision: when the next is needed, and which channels are in progress or queued."""
        started = decision.channels if isinstance(decision, Deliver | GiveUp) else ()
        check = Check(
            at=self.ports.cache.monotonic(),
            by=math.inf if decision.then is None else decision.then,
            version=entry.request.resource_version,
            position=entry.view.position,
            channels=tuple(dict.fromkeys((*started, *entry.in_flight.executing.values()))),
        )
        entry.decided(check, tuple(channel for channel, _ in withheld(decision)))
        return decision

    async def _note_held(self, entry: Notification, channel: str, reason: str) -> None:
        """Record in the log, once, why a due channel is held back."""
        known = entry.view.last_skip.get(channel)
        await self._skip(entry, channel, reason)
        noted = entry.view.last_skip.get(channel)
        if noted is not None and noted != known:
            self.ports.reporter.held(entry.request, channel, noted)

    async def _give_up(self, entry: Notification, term: LeaseTerm, decision: GiveUp) -> None:
        """Record in the log why due channels are given up, and end them."""
        for channel in decision.channels:
            await self._skip(entry, channel, decision.reason)
            outcome = Outcome.permanent(decision.reason)
            await self.attempts.give_up(entry, term, channel, outcome)

    async def _note_rejection(self, entry: Notification, channel: str, rejection: Reject) -> None:
        """
        Report, once, that an attempt waits for its receiver's circuit breaker.

        It waits in the receiver's queue and does not count as an attempt.
        """
        reason = refusal(channel, rejection)
        if entry.view.last_skip.get(channel) == reason:
            return
        if await self._skip(entry, channel, reason):
            made = sum(map(counts, entry.view.of_channel(channel)))
            self.ports.reporter.rejected(entry.request, channel, reason, made)

    async def _skip(self, entry: Notification, channel: str, reason: str) -> bool:
        """Record, once, why a due attempt is not made; False if Redis did not answer."""
        try:
            await self.ports.recorder.skip(entry, channel, reason)
        except PortError:
            return False
        return True


def _stopped(entry: Notification) -> str:
    """Why no decision is made for an entry whose log is claimed; empty if one may be made."""
    if entry.cancelled:
        return "the object is being deleted"
    return "held by the self-audit" if entry.violation else ""
