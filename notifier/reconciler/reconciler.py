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

from notifier.contract import Outcome
from notifier.dispatch.breaker import refusal
from notifier.dispatch.dispatcher import Dispatcher
from notifier.reconciler.attempt import Attempts, Ports
from notifier.reconciler.decisions import Decisions
from syncer.model.errors import PortError
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
from syncer.rules.resync import Check
from syncer.sync.notifications import Notification, Ready

logger = logging.getLogger("ledger.delivery")


@dataclass(eq=False)
class Reconciler:
    """Handles the keys of the work queue."""

    ports: Ports
    decisions: Decisions
    attempts: Attempts
    dispatcher: Dispatcher

    async def work(self) -> None:
        """One worker: handle keys until cancelled."""
        while True:
            uid = await self.ports.queue.get()
            try:
                decided = await self.reconcile(uid) is not None
                if decided or uid not in self.ports.notifications.cache.entries:
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
        ready = await self.ports.notifications.ready(uid)
        if ready is None:
            return None
        if ready.blocked:
            decision = self._decided(ready.notification, Await(ready.blocked))
            # A cause that may pass soon is also checked again with a growing wait, which a decision would
            # reset.
            soon = ready.notification.unreadable and not ready.journaled
            return None if soon else decision
        return await self._decide(ready)

    async def _decide(self, ready: Ready) -> Decision:
        """Decide for a notification whose log is claimed, or not needed, and act on the decision."""
        notification = ready.notification
        decision = self.decisions.next(notification)
        if isinstance(decision, Resolve):
            if not notification.request.specified:
                return self._decided(notification, Await("the object has no spec yet"))
            now = self.ports.notifications.time.now()
            plan, doubts = await self.ports.router.plan(notification.request, now)
            plan = await self.ports.incidents.routed(notification.request, plan)
            await self.ports.notifications.freeze(notification, plan, journaled=ready.journaled)
            if doubts:
                self.ports.reporter.routed_in_doubt(notification.request, plan.channels, doubts)
            decision = self.decisions.next(notification)
        rejected = self._start(notification, decision, journaled=ready.journaled)
        self._decided(notification, decision)
        if ready.journaled:
            return decision
        for channel, reason in rejected.items():
            # The attempt waits in the receiver's queue, does not count, and is reported once.
            if await self.ports.notifications.note(notification, channel, reason):
                made = sum(map(counts, notification.view.of_channel(channel)))
                self.ports.reporter.rejected(notification.request, channel, reason, made)
        for channel, reason in withheld(decision):
            if await self.ports.notifications.note(notification, channel, reason):
                self.ports.reporter.held(notification.request, channel, reason)
        for channel in decision.channels if isinstance(decision, GiveUp) else ():
            # The log first gets the reason why the channel is given up, then its end.
            await self.ports.notifications.note(notification, channel, decision.reason)
            outcome = Outcome.permanent(decision.reason)
            limit = self.decisions.limit(notification, channel)
            await self.ports.notifications.give_up(
                notification, ready.term, channel, outcome, limit=limit
            )
        return decision

    # -- acting on decisions ----------------------------------------------------------------------

    def _start(
        self, notification: Notification, decision: Decision, *, journaled: bool
    ) -> dict[str, str]:
        """Act on a decision; returns why circuit breakers reject attempts, by channel."""
        rejected: dict[str, str] = {}
        for channel in decision.channels if isinstance(decision, Deliver) else ():
            submit = partial(
                self.dispatcher.submit,
                notification.uid,
                channel,
                due=notification.due.get(channel, self.ports.notifications.cache.monotonic()),
                priority=notification.request.priority,
                namespace=notification.request.namespace,
                tried=sum(map(counts, notification.view.of_channel(channel))),
            )
            if journaled:
                self.attempts.submit_in_turn(notification, channel, submit)
            elif (rejection := submit()) is not None:
                rejected[channel] = refusal(channel, rejection)
        if isinstance(decision, Finish):
            self.ports.notifications.cache.mark_dirty(notification, urgent=True)
        if decision.then is not None:
            self.ports.queue.add_at(notification.uid, decision.then)
        return rejected

    def _decided(self, notification: Notification, decision: Decision) -> Decision:
        """Remember a decision: when the next is needed, and which channels are in progress or queued."""
        started = decision.channels if isinstance(decision, Deliver | GiveUp) else ()
        check = Check(
            at=self.ports.notifications.cache.monotonic(),
            by=math.inf if decision.then is None else decision.then,
            version=notification.request.resource_version,
            position=notification.view.position,
            channels=tuple(dict.fromkeys((*started, *notification.in_flight.executing.values()))),
        )
        notification.decided(check, tuple(channel for channel, _ in withheld(decision)))
        return decision
