"""
One attempt from beginning to end, made when the dispatcher starts it.

    deadline check, INTENT, deadline check, send, OUTCOME

While the log is away, a status write takes the place of INTENT (`syncer.sync.journal`), if enough
is known about the notification.

After an accepted INTENT, every way out records an outcome: answered, unclear, or not sent after all
(`notifier.reconciler.outcomes`). Cancellation interrupts the send, but not the recording of its outcome,
which is shielded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from notifier.contract import Channel, Outcome
from notifier.reconciler.decisions import Decisions
from notifier.reconciler.holds import Holds
from notifier.reconciler.outcomes import Outcomes
from notifier.reconciler.ports import Ports
from notifier.reconciler.sending import Sender
from syncer.ledger.answers import HISTORY, SERVER, Answer, Appended
from syncer.model.attempt import AttemptState
from syncer.model.errors import PortError
from syncer.model.ports import LeaseTerm
from syncer.model.record import Record
from syncer.rules.plan import Deliver
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.sync.notification import Notification

logger = logging.getLogger("ledger.delivery")

#: Seconds until an attempt is tried again while Redis is unfit for attempts.
_UNFIT_PAUSE: Final = 5.0
#: Seconds until an attempt is tried again if the lease does not cover it.
_LEASE_PAUSE: Final = 0.5
#: Seconds until an attempt is tried again that must not come before another of its incident.
_ORDER_PAUSE: Final = 1.0
#: Seconds until one is looked at again that is superseded, which cannot be recorded while the log is away.
_SUPERSEDED_PAUSE: Final = 30.0
#: Seconds between checks whether a status write has ended, before an attempt is journaled.
_WRITE_POLL: Final = 0.05


@dataclass(eq=False)
class Attempts:
    """Makes attempts, and ends channels that are given up."""

    ports: Ports
    holds: Holds
    decisions: Decisions
    sender: Sender
    outcomes: Outcomes
    #: Why Redis is unfit for attempts, as last logged.
    _unfit: str | None = field(default=None, init=False)
    #: Attempts that wait for their turn to be journaled, and those that have it.
    _waiting: set[tuple[str, str]] = field(default_factory=set, init=False)
    _turns: set[tuple[str, str]] = field(default_factory=set, init=False)

    async def run(  # noqa: PLR0911 (one return for each thing that stops an attempt)
        self, uid: str, channel: str
    ) -> Outcome | None:
        """
        Make one attempt, if it is still due.

        Everything is checked again: since the decision, the object may have been deleted, the lease term
        may have ended, or another attempt may have been made.

        Returns:
            The outcome, None if no attempt was made.
        """
        entry = self.ports.cache.entries.get(uid)
        term = self.ports.ownership.term_of(uid)
        has_turn = (uid, channel) in self._turns
        self._turns.discard((uid, channel))
        if entry is None or term is None or not self.holds.accepts(uid):
            return None
        if not self.still_due(entry, term, channel):
            self.ports.queue.add(uid)
            return None
        if self.holds.placed.unknown():
            # The due time is kept: an attempt that waits for the holds, or the log, is due nevertheless.
            self.ports.queue.add_at(uid, self.ports.cache.monotonic() + _UNFIT_PAUSE)
            return None
        if self.ports.journal.applies(entry, term):
            if not has_turn:
                # It was submitted before the outage.
                self.ports.queue.add(uid)
                return None
            return await self._run_journaled(entry, term, channel)
        if not self._fit():
            self.ports.queue.add_at(uid, self.ports.cache.monotonic() + _UNFIT_PAUSE)
            return None
        if await self._not_ready(entry, channel) or await self._late(entry, term, channel):
            return None
        via = self.ports.router.channel(channel)
        if not self._covered(entry, term, via):
            return None
        failpoint(Failpoint.BEFORE_INTENT)
        try:
            answer, intent = await self._open(entry, term, channel)
        except PortError as error:
            # If the intent may have been recorded, `Outcomes.submit_not_sent` records that nothing was
            # sent.
            self.ports.recorder.lose_claim(entry, "intent")
            wait = self.ports.queue.retry(uid)
            # What concerns every attempt is logged once, as an outage.
            away = self.ports.recorder.log.unavailable_reason is not None
            logger.log(
                logging.INFO if away else logging.WARNING,
                "an attempt is held: the log did not take its intent",
                extra={"uid": uid, "channel": channel, "error": str(error), "seconds": wait},
            )
            return None
        if not _accepted(answer):
            self._refused(entry, intent, answer)
            return None
        failpoint(Failpoint.AFTER_INTENT)
        return await self._make(entry, term, intent, via, confirmed=answer.confirmed)

    def submit_in_turn(
        self, entry: Notification, channel: str, submit: Callable[[], object]
    ) -> None:
        """
        Submit an attempt once it may be journaled.

        It waits in no receiver's slot: there, hundreds that came first would go before what is more urgent.
        """
        key = (entry.uid, channel)
        if key in self._turns:
            submit()
        elif key not in self._waiting:
            self._waiting.add(key)

            def given(_: asyncio.Future[None]) -> None:
                self._waiting.discard(key)
                self._turns.add(key)
                submit()

            self.ports.journal.turn(entry, channel).add_done_callback(given)

    def waits(self, uid: str, channel: str) -> bool:
        """Whether an attempt waits for its turn to be journaled."""
        return (uid, channel) in self._waiting

    async def _run_journaled(
        self, entry: Notification, term: LeaseTerm, channel: str
    ) -> Outcome | None:
        """Make one attempt that is first recorded in the status."""
        if await self._not_ready(entry, channel, noted=False):
            return None
        if await self._late(entry, term, channel, journaled=True):
            return None
        while entry.publication.writing and self.ports.journal.applies(entry, term):
            await asyncio.sleep(_WRITE_POLL)
        # Meanwhile there may be another term or another decision, or the log may be back.
        ours = self.ports.ownership.term_of(entry.uid) is term and self.holds.accepts(entry.uid)
        if not (
            ours
            and self.ports.journal.applies(entry, term)
            and self.still_due(entry, term, channel)
        ):
            self.ports.queue.add(entry.uid)
            return None
        via = self.ports.router.channel(channel)
        if not self._covered(entry, term, via):
            return None
        failpoint(Failpoint.BEFORE_INTENT)
        intent = await self.ports.journal.open(
            entry, term, channel, in_doubt=self.outcomes.submit_not_sent
        )
        if intent is None:
            self.ports.queue.retry(entry.uid)
            return None
        failpoint(Failpoint.AFTER_INTENT)
        return await self._make(entry, term, intent, via)

    def _covered(self, entry: Notification, term: LeaseTerm, via: Channel | None) -> bool:
        """Whether the lease covers a send that begins now; if not, the attempt is tried again soon."""
        if term.may_send(self.ports.cache.monotonic(), via.timeout_s if via else 0.0):
            return True
        self.ports.queue.add_at(entry.uid, self.ports.cache.monotonic() + _LEASE_PAUSE)
        return False

    async def _make(
        self,
        entry: Notification,
        term: LeaseTerm,
        intent: Record,
        via: Channel | None,
        *,
        confirmed: bool = True,
    ) -> Outcome:
        """
        Send an attempt whose intent is recorded, in the log or in the status, and record its outcome.

        Without enough replicas of Redis that have `confirmed` the intent, nothing is sent.
        """
        outcome = Outcome.not_sent("cancelled before it was sent")
        began = self.ports.cache.monotonic()
        try:
            if confirmed:
                sent = await self._send(entry, term, intent, via)
                outcome = self.outcomes.waiting(entry, intent, sent)
            else:
                outcome = Outcome.not_sent("no replica of the log confirmed the attempt in time")
            failpoint(Failpoint.AFTER_SEND)
        except asyncio.CancelledError:
            if intent.attempt_id not in entry.in_flight.never_sent:
                outcome = Outcome.unknown("the process ended while waiting for an answer")
            raise
        finally:
            # Cancelling the send must not cancel its recording. `Outcomes.drain` waits for the recording
            # rather than this task: whoever cancels the task has a deadline, and Redis may be away.
            recording = self.outcomes.submit(
                entry, intent, outcome, self.ports.cache.monotonic() - began
            )
        await asyncio.shield(recording)
        return outcome

    async def _send(
        self, entry: Notification, term: LeaseTerm, intent: Record, via: Channel | None
    ) -> Outcome:
        """Send an attempt whose intent is recorded, unless another one of its incident goes before it."""
        others, answer = self.ports.incidents, ""
        if others is not None:
            ahead = intent.attempt_id in entry.in_flight.ahead
            if late := await others.overtaken(entry.request, intent, via, journaled=ahead):
                return late
            if via is not None and via.keeps_state and entry.request.incident and not ahead:
                try:
                    tried = entry.view.of_channel(intent.channel)
                    answer = await others.answer(entry.request, intent.channel, via, tried)
                except PortError as error:
                    return Outcome.not_sent(f"what was made of its incident is not known: {error}")
        sent = await self.sender.send(entry, term, intent, via, answer=answer)
        if via is not None and sent.answer:
            sent = replace(sent, answer=f"{via.keeps_state}/{sent.answer}")
        return sent

    async def give_up(
        self, entry: Notification, term: LeaseTerm, channel: str, outcome: Outcome
    ) -> None:
        """
        End a channel that is given up, by recording an attempt that is certainly not sent.

        The end is thereby on record like any other, and every reader of log or status sees the reason.

        Args:
            entry: The notification.
            term: Under which its log is claimed.
            channel: Full channel name.
            outcome: Of that attempt; its text says why.

        Raises:
            PortError: Redis did not answer; the claim is given up.
        """
        if not self._may_open(entry, term):
            return
        try:
            answer, intent = await self._open(entry, term, channel)
        except PortError:
            self.ports.recorder.lose_claim(entry, "intent")
            raise
        if not _accepted(answer):
            self._refused(entry, intent, answer)
            return
        logger.info(
            "a notification is given up",
            extra={
                "uid": entry.uid, "object": entry.request.key,
                "channel": channel, "reason": outcome.error,
            },
        )  # fmt: skip
        self.outcomes.submit(entry, intent, outcome, 0.0)

    def still_due(self, entry: Notification, term: LeaseTerm, channel: str) -> bool:
        """Whether an attempt that was due when it was submitted is still due."""
        if entry.cancelled or entry.violation:
            return False
        if not (self.ports.journal.applies(entry, term) or self._may_open(entry, term)):
            return False
        decision = self.decisions.next(entry)
        return isinstance(decision, Deliver) and channel in decision.channels

    def _may_open(self, entry: Notification, term: LeaseTerm) -> bool:
        """Whether attempts may be opened in the log, as far as this process knows."""
        return not self.ports.journal.blocks(entry.uid) and self.ports.recorder.claim_holds(
            entry, term
        )

    def _fit(self) -> bool:
        """Whether Redis is fit for attempts; logs each change once, not for every waiting attempt."""
        unfit = self.ports.recorder.log.unfit
        if unfit != self._unfit:
            self._unfit = unfit
            if unfit is not None:
                logger.error(
                    "attempts are held: Redis is not fit for them", extra={"reason": unfit}
                )
            else:
                logger.warning("Redis is fit for attempts again")
        return unfit is None

    async def _open(
        self, entry: Notification, term: LeaseTerm, channel: str
    ) -> tuple[Appended, Record]:
        """Ask the log for permission; if its answer is lost, the attempt is recorded as not sent."""
        return await self.ports.recorder.open(
            entry,
            term,
            channel,
            limit=self.decisions.limit(entry, channel),
            in_doubt=self.outcomes.submit_not_sent,
        )

    async def _not_ready(self, entry: Notification, channel: str, *, noted: bool = True) -> bool:
        """
        Whether a channel must wait, for example for a missing credential; if so, its due time is moved.

        If `noted`, the reason is recorded in the log, where that is possible.
        """
        problem = self.ports.router.not_ready(channel)
        if problem is None:
            return False
        entry.wait(channel, self.ports.cache.monotonic() + problem.seconds)
        self.ports.queue.add_at(entry.uid, entry.due[channel])
        if noted:
            with contextlib.suppress(PortError):
                await self.ports.recorder.skip(entry, channel, problem.reason)
        return True

    async def _late(
        self, entry: Notification, term: LeaseTerm, channel: str, *, journaled: bool = False
    ) -> bool:
        """
        Whether an attempt must not be made now, since another notification of its incident is newer.

        It is given up then; where that cannot be recorded, or the other is on the wire, it waits.
        """
        incidents, first = self.ports.incidents, not entry.view.of_channel(channel)
        if incidents is None or channel in entry.ordered:
            return False
        via = self.ports.router.channel(channel)
        if not incidents.may_be_late(entry.request, channel, via, first=first):
            return False
        try:
            newer, waits = await incidents.look(entry.request, channel, via, journaled=journaled)
            if not self.still_due(entry, term, channel):
                # The look took its time: it was deleted meanwhile, is held, or has ended.
                self.ports.queue.add(entry.uid)
                return True
            if newer and not journaled:
                await self.give_up(entry, term, channel, Outcome.superseded(newer))
                return True
            if waits and not journaled:
                await self.ports.recorder.skip(entry, channel, waits)
        except PortError as error:
            wait = self.ports.queue.retry(entry.uid)
            logger.info(
                "an attempt waits: what else is about its incident is not known",
                extra={"uid": entry.uid, "channel": channel, "error": str(error), "seconds": wait},
            )
            return True
        if newer or waits:
            pause = _ORDER_PAUSE if waits else _SUPERSEDED_PAUSE
            entry.wait(channel, self.ports.cache.monotonic() + pause)
            self.ports.queue.add_at(entry.uid, entry.due[channel])
        return bool(newer or waits)

    def _refused(self, entry: Notification, intent: Record, answer: Appended) -> None:
        """Arrange for the log to be read or claimed again after it has refused an intent."""
        logger.info(
            "an attempt was not opened",
            extra={
                "uid": entry.uid,
                "object": entry.request.key,
                "channel": intent.channel,
                "attempt": intent.id,
                "answer": answer.answer.value,
                "detail": answer.detail,
            },
        )
        if answer.answer in (Answer.DONE, Answer.EXHAUSTED, Answer.DUP):
            entry.news()
        else:
            detail = answer.detail if answer.detail in (SERVER, HISTORY) else ""
            self.ports.recorder.lose_claim(entry, detail or answer.answer.value.lower())
        self.ports.queue.add(entry.uid)


def _accepted(answer: Appended) -> bool:
    """Whether the log has accepted an INTENT, now or in an earlier try of the same call."""
    return answer.answer is Answer.OK or (
        answer.answer is Answer.DUP and answer.rank == AttemptState.INTENT
    )
