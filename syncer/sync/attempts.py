"""
Attempts on record: what happens between the permission to send and the record of what came of it.

A `Permit` is one attempt. Its intent is recorded on notification, in the log or, while that is away, in the
status; its outcome on exit, whatever happened in between. Cancellation interrupts the send, but not the
recording of its outcome, which is shielded.

Once an INTENT has been accepted, or may have been, an outcome is recorded whatever happens to the
attempt's task: a separate task records it, which outlives a cancelled send and which shutdown waits for.
If the answer to an INTENT was lost, nothing was sent, and that is recorded whether or not the log has the
intent. Only the end of the process leaves an intent open; the next owner records it as unknown.

The wait before the next attempt is chosen here, once, and is part of the record. An attempt that was not
sent does not count against the budget (`syncer.rules.channel_state.counts`) and has its own back-off.

What a receiver refuses by an operator's mistake ends the channel, as in the replaced controller, or waits
(`delivery.onOperatorError`); here alone that is decided, and the class on record says what was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Final, Self

from syncer.ledger.answers import HISTORY, SERVER, Answer, Appended, Proof, Tries
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass, attempt_epoch
from syncer.model.conditions import bounded
from syncer.model.errors import ContractError, PortError, Rejected, Unauthorised
from syncer.model.outcome import PERMANENT, Outcome
from syncer.model.ports import LeaseTerm
from syncer.model.record import LOG_ERROR_BYTES, Record, attempt_record
from syncer.model.resource import NotificationRequest, RetryPolicy
from syncer.model.trace import trace_id
from syncer.rules.backoff import MISTAKE_PATIENCE, delay, mistake_delay, unsent_delay
from syncer.rules.channel_state import counts, uncounted_run
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.runtime.supervise import end
from syncer.sync.claim import Claimer
from syncer.sync.notification import Notification

#: Seconds before an outcome that was refused is tried again; then it is kept.
_REFUSED_PAUSES: Final = (0.1, 0.4, 1.5, 6.0)

logger = logging.getLogger("ledger.delivery")


@dataclass(eq=False)
class Outcomes:
    """Records outcomes, sets the next due time, and has the notification reconciled again."""

    claimer: Claimer
    #: An operator's mistake waits until it is mended, instead of failing the channel.
    hold_mistakes: bool = False
    #: Called with each attempt that is over, its outcome, and the last one before it that may have left.
    on_recorded: Callable[[NotificationRequest, Attempt, Outcome, Attempt | None], None] = (
        lambda _r, _a, _o, _b: None
    )
    #: Attempts whose outcome is known and being recorded, by the task that does it.
    recording: dict[asyncio.Task[None], AttemptId] = field(default_factory=dict, init=False)
    #: Uniform in [-1, 1), for back-off.
    jitter: Callable[[], float] = field(
        default_factory=lambda: partial(random.uniform, -1.0, 1.0), init=False
    )

    def __post_init__(self) -> None:
        """Record through the claimer's recorder."""
        self.recorder, self.cache = self.claimer.recorder, self.claimer.cache
        self.journal, self.ownership = self.claimer.journal, self.claimer.ownership

    def submit(
        self, notification: Notification, intent: Record, outcome: Outcome, seconds: float
    ) -> asyncio.Task[None]:
        """
        Start recording an outcome, in a task that outlives the caller.

        Args:
            notification: The notification.
            intent: The attempt's intent.
            outcome: The attempt's outcome.
            seconds: Duration of the send.
        """
        recording = asyncio.create_task(
            self.record(notification, intent, outcome, seconds), name=f"record-{notification.uid}"
        )
        self.recording[recording] = intent.attempt_id
        recording.add_done_callback(self.recording.pop)
        return recording

    async def open(
        self,
        notification: Notification,
        term: LeaseTerm,
        channel: str,
        *,
        limit: int,
    ) -> tuple[Appended, Record]:
        """
        Record an intent, which allows the send.

        Only `OK`, or `DUP` with the state `intent` (the echo of this very call), allows it. The
        attempt is then listed in `notification.executing` until `close` is called.

        Args:
            notification: The notification.
            term: The lease term in which its log was claimed.
            channel: The channel to send on.
            limit: Attempts of the channel that the log may hold, this one included.

        Raises:
            PortError: given up. If the intent is or may still be recorded, it is recorded that nothing was
                sent, and the channel waits until then.
        """
        record, claim = self.recorder.begin(notification, term, channel), notification.claim
        view, stamp = notification.view, claim.stamp if claim else ""
        # Of before the first try: the log that takes a repetition may have fallen back.
        proof = Proof(term.epoch, stamp, view.position, view.chain)
        opened, tries = False, Tries()
        try:
            with self.recorder.append_seconds("intent").time():
                answer = await self.recorder.log.intent(
                    notification.uid,
                    proof,
                    record,
                    limit=limit,
                    tries=tries,
                    # The decision is based on this very claim; a later one does not count.
                    guard=lambda: (
                        notification.claim is claim
                        and self.recorder.claim_holds(notification, term)
                        and not notification.cancelled
                    ),
                )
            if answer.answer is Answer.OK:
                self.recorder.metrics.intents.inc()
                tries.uncertain = True
                # If this fails, no task sends, so none would ever close the attempt.
                if not self.recorder.advance(notification, answer, [record]):
                    await self.recorder.reread(notification)
                opened = True
            elif answer.permits:
                notification.news()
                opened = True
            elif answer.detail in (SERVER, HISTORY):
                # What the log has lost may be in the object alone; the probe finds the other logs.
                notification.shared()
                self.recorder.log.client.probe_now.set()
        except ContractError as error:
            self.recorder.put_in_quarantine(notification, str(error))
            answer = Appended(Answer.RECLAIM, detail="the log cannot be read")
        finally:
            if not opened:
                if tries.uncertain:
                    self.submit_not_sent(notification, record)
                else:
                    notification.in_flight.end(record.attempt_id)
        return answer, record

    def waiting(self, notification: Notification, intent: Record, outcome: Outcome) -> Outcome:
        """
        Return what to record of an outcome: that of an operator's mistake waits, if so configured.

        It counts in no limit then; a host that is not known was sent nothing. After a day it is final.
        """
        held = outcome.mistake and self.hold_mistakes
        if not held or outcome.state is not AttemptState.FAILED:
            return outcome
        earlier = [a for a in notification.view.of_channel(intent.channel) if a.id != intent.id]
        began = min((a.started for a in uncounted_run(earlier) if a.started), default=None)
        if began is not None and self.recorder.time.now() - began > MISTAKE_PATIENCE:
            final = outcome.error.removeprefix(PERMANENT)
            return Outcome.permanent(f"not mended within a day: {final}", code=outcome.code)
        sent = outcome.failure is FailureClass.PERMANENT
        return replace(
            outcome,
            failure=FailureClass.OPERATOR if sent else FailureClass.NOT_SENT,
            error=outcome.error.removeprefix(PERMANENT),
        )

    async def give_up(
        self,
        notification: Notification,
        term: LeaseTerm,
        channel: str,
        outcome: Outcome,
        *,
        limit: int,
    ) -> None:
        """
        End a channel, if its log may be used, by recording an attempt that is certainly not sent.

        The end is thereby on record like any other, and every reader of log or status sees the reason.

        Args:
            notification: The notification.
            term: Under which its log is claimed.
            channel: Full channel name.
            outcome: Of that attempt; its text says why.
            limit: Attempts of the channel that the log may hold, this one included.

        Raises:
            PortError: Redis did not answer; the claim is given up.
        """
        permit = Permit(self, notification, term, channel, limit)
        if self.claimer.may_open(notification, term) and await permit.open():
            logger.info(
                "a notification is given up",
                extra={
                    "uid": notification.uid, "object": notification.request.key,
                    "channel": channel, "reason": outcome.error,
                },
            )  # fmt: skip
            permit.outcome = outcome
            permit.close()

    def submit_not_sent(self, notification: Notification, intent: Record) -> None:
        """Start recording that nothing was sent for an intent that log or status may hold."""
        where = "status" if intent.attempt_id in notification.in_flight.ahead else "log"
        outcome = Outcome.not_sent(f"the {where} did not confirm the attempt, so it was not sent")
        self.submit(notification, intent, outcome, 0.0)

    async def drain(self, seconds: float) -> int:
        """
        Wait for outcomes that are being recorded, and have logs hold what else is known here alone.

        Returns:
            How many recordings were given up after `seconds`.
        """
        give_up = asyncio.get_running_loop().time() + seconds
        if self.recording:
            await asyncio.wait(list(self.recording), timeout=seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(give_up):
                await self.claimer.settle(list(self.cache.entries.values()))
        left = list(self.recording)
        await end(*left)
        return len(left)

    async def record(
        self, notification: Notification, intent: Record, outcome: Outcome, seconds: float
    ) -> None:
        """Record an outcome; the arguments are those of `submit`."""
        earlier = [a for a in notification.view.of_channel(intent.channel) if a.id != intent.id]
        left = [a for a in earlier if counts(a)]
        wait = self._wait(notification.request.policy, outcome, earlier, len(left))
        plan = notification.view.plan
        planned = plan.digest(intent.channel) if plan else ""
        words = _words(outcome, planned)
        attempt = _ended(intent, outcome, self.recorder.time.now(), wait, seconds, words=words)
        until = None if wait is None else self.cache.monotonic() + wait / 1000
        notification.wait(attempt.channel, until)
        recorded = True
        if intent.attempt_id in notification.in_flight.ahead:
            # The status has its intent, and its outcome.
            self.close_in_memory(notification, attempt, intent)
        else:
            recorded = await self.close(
                notification, attempt, intent, patience=self.journal.patience
            )
        failpoint(Failpoint.AFTER_OUTCOME)
        if recorded and not self._owns(notification.uid, intent.attempt_id):
            # A result of an earlier lease term: wake the owner, so that it need not wait for its sweep.
            await self.recorder.log.client.wake_up(notification.uid)
        _log(notification, attempt, recorded=recorded)
        self.on_recorded(notification.request, attempt, outcome, left[-1] if left else None)
        self.cache.check(notification.uid)

    def _wait(
        self, policy: RetryPolicy, outcome: Outcome, earlier: Sequence[Attempt], left: int
    ) -> int | None:
        """
        Milliseconds until the next attempt, None if the channel is finished.

        Of its `earlier` attempts, so many have `left`: they may have reached the receiver.
        """
        if outcome.failure in {None, FailureClass.PERMANENT, FailureClass.SUPERSEDED}:
            return None
        if outcome.failure in {FailureClass.NOT_SENT, FailureClass.OPERATOR}:
            uncounted = mistake_delay if outcome.mistake else unsent_delay
            return uncounted(len(uncounted_run(earlier)) + 1, self.jitter())
        return delay(policy, left + 1, self.jitter(), outcome.retry_after)

    def close_in_memory(
        self,
        notification: Notification,
        attempt: Attempt,
        intent: Record,
        *,
        cause: str = "journal",
    ) -> None:
        """
        Keep an outcome while the log is away: the next claim records it, and a journaled status shows it.

        It is kept until a log has confirmed it, because a claim under way replaces the view.

        Args:
            notification: The notification.
            attempt: The attempt with its outcome.
            intent: The attempt's intent.
            cause: Why the claim is given up, for the metric.
        """
        notification.in_flight.keep(attempt.id, attempt_record(attempt), intent)
        notification.learn([attempt])
        self.recorder.count(attempt)
        self.recorder.lose_claim(notification, cause)
        self.cache.mark_dirty(notification, urgent=True)

    async def close(
        self,
        notification: Notification,
        attempt: Attempt,
        intent: Record,
        *,
        patience: float,
    ) -> bool:
        """
        Record the outcome of an attempt; tries for `patience` seconds.

        If the log cannot be read, or if Redis or a proxy in front of it keeps refusing the record, the
        outcome stays in memory until a claim can read the log again, because no other process knows it. The
        same applies if Redis did not answer in time, and if the log is gone (a claim creates it again and
        adds the earlier attempts first). If this process ends before that, the next owner finds the attempt
        open and records it as unknown.

        Returns:
            False if the log cannot be read, or refuses the record.
        """
        try:
            return await self._close(notification, attempt, intent, patience)
        finally:
            # Not before the log was read again, which takes an await: where attempts are journaled, a
            # decision without this one would repeat it.
            notification.in_flight.end(intent.attempt_id)
            # After it, because a status waits for its window while an attempt is on the wire.
            self.cache.mark_dirty(notification)

    async def _close(
        self, notification: Notification, attempt: Attempt, intent: Record, patience: float
    ) -> bool:
        record = attempt_record(attempt)
        try:
            with self.recorder.append_seconds("outcome").time():
                answer = await self._record_outcome(notification, record, intent, patience)
        except Unauthorised:
            self.close_in_memory(notification, attempt, intent, cause="refused")
            return True
        except (ContractError, Rejected) as error:
            logger.error(
                "an outcome could not be recorded; it is kept until the log can be read again",
                extra={"uid": notification.uid, "attempt": attempt.id, "error": str(error)},
            )
            notification.in_flight.keep(attempt.id, record, intent)
            self.recorder.put_in_quarantine(notification, str(error))
            return False
        except PortError:
            self.close_in_memory(notification, attempt, intent)
            return True
        if answer.answer is Answer.RECLAIM:
            self.close_in_memory(notification, attempt, intent, cause="lost")
            return True
        self.recorder.count(attempt)
        try:
            new = [intent, record][2 - answer.count :]
            if not self.recorder.advance(notification, answer, new):
                await self.recorder.reread(notification)
        except PortError:
            # The outcome is recorded; the next check claims the log, and reads the rest of it.
            notification.learn([attempt])
            self.recorder.lose_claim(notification, "journal")
            notification.news()
        return True

    async def _record_outcome(
        self, notification: Notification, record: Record, intent: Record, patience: float
    ) -> Appended:
        """Record an outcome; retries a refusal, which may come from a proxy during a failover."""
        for pause in _REFUSED_PAUSES:
            try:
                return await self.recorder.log.outcome(
                    notification.uid, record, intent, name=None, patience=patience
                )
            except Unauthorised:
                # The log has already retried this for the whole time.
                raise
            except Rejected:
                await asyncio.sleep(pause)
        return await self.recorder.log.outcome(
            notification.uid, record, intent, name=None, patience=patience
        )

    def _owns(self, uid: str, attempt_id: AttemptId) -> bool:
        """Whether an attempt belongs to the current lease term."""
        term = self.ownership.term_of(uid)
        return (
            term is not None
            and term.epoch == attempt_epoch(attempt_id)
            and term.valid(self.cache.monotonic())
        )


@dataclass(eq=False, slots=True)
class Permit:
    """
    One attempt, from its intent to its outcome, as an asynchronous context.

    Without `sends` the body must send nothing; with it, it says by `outcome` what came of the send.

    Attributes:
        outcomes: Records them.
        notification: The notification.
        term: The lease term in which the attempt is made.
        channel: Full channel name.
        limit: Attempts of the channel that the log may hold, this one included; None if it is journaled.
        intent: None while it is not on record.
        sends: Whether it may be sent.
        outcome: None if it is not on record.
        began: Second at which it was.
    """

    outcomes: Outcomes
    notification: Notification
    term: LeaseTerm
    channel: str
    limit: int | None
    intent: Record | None = None
    sends: bool = False
    outcome: Outcome | None = None
    began: float = 0.0

    async def open(self) -> bool:
        """
        Put the attempt on record; returns whether it is.

        Raises:
            PortError: the log did not answer. If it may have the intent, it is told that nothing was sent.
        """
        notification, outcomes = self.notification, self.outcomes
        if self.limit is None:
            self.intent = await outcomes.journal.open(
                notification, self.term, self.channel, in_doubt=outcomes.submit_not_sent
            )
            self.sends = self.intent is not None
            if not self.sends:
                outcomes.cache.retry(notification.uid)
        else:
            try:
                answer, intent = await outcomes.open(
                    notification, self.term, self.channel, limit=self.limit
                )
            except PortError:
                outcomes.recorder.lose_claim(notification, "intent")
                raise
            if answer.permits:
                self.intent, self.sends = intent, answer.confirmed
            else:
                self._refused(intent, answer)
        self.began = outcomes.cache.monotonic()
        if self.intent is None:
            return False
        why = "cancelled before it was sent"
        if not self.sends:
            why = "no replica of the log confirmed the attempt in time"
        self.outcome = Outcome.not_sent(why)
        return True

    def close(self) -> asyncio.Task[None] | None:
        """Start recording the outcome of what is on record."""
        if self.intent is None or self.outcome is None:
            return None
        self.outcome = self.outcomes.waiting(self.notification, self.intent, self.outcome)
        seconds = self.outcomes.cache.monotonic() - self.began
        return self.outcomes.submit(self.notification, self.intent, self.outcome, seconds)

    async def __aenter__(self) -> Self:
        """Have the attempt permitted; a log that does not answer permits none, and it is tried again."""
        failpoint(Failpoint.BEFORE_INTENT)
        uid, log = self.notification.uid, self.outcomes.recorder.log
        try:
            opened = await self.open()
        except PortError as error:
            wait = self.outcomes.cache.retry(uid)
            # What concerns every attempt is logged once, as an outage.
            logger.log(
                logging.WARNING if log.client.unavailable_reason is None else logging.INFO,
                "an attempt is held: the log did not take its intent",
                extra={"uid": uid, "channel": self.channel, "error": str(error), "seconds": wait},
            )
            return self
        if opened:
            failpoint(Failpoint.AFTER_INTENT)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Record the outcome, whatever has ended the body."""
        asking = self.notification.in_flight.never_sent
        left = self.intent is not None and self.intent.attempt_id not in asking
        if left and isinstance(error, asyncio.CancelledError):
            self.outcome = Outcome.unknown("the process ended while waiting for an answer")
        # Cancelling the send must not cancel its recording. `Outcomes.drain` waits for the recording rather
        # than for this task: whoever cancels the task has a deadline, and Redis may be away.
        recording = self.close()
        if recording is not None and kind is None:
            await asyncio.shield(recording)

    def _refused(self, intent: Record, answer: Appended) -> None:
        """Arrange for the log to be read or claimed again after it has refused an intent."""
        logger.info(
            "an attempt was not opened",
            extra={
                "uid": self.notification.uid,
                "object": self.notification.request.key,
                "channel": intent.channel,
                "attempt": intent.id,
                "answer": answer.answer.value,
                "detail": answer.detail,
            },
        )
        if answer.answer in (Answer.DONE, Answer.EXHAUSTED, Answer.DUP):
            self.notification.news()
        else:
            detail = answer.detail if answer.detail in (SERVER, HISTORY) else ""
            self.outcomes.recorder.lose_claim(
                self.notification, detail or answer.answer.value.lower()
            )
        self.outcomes.cache.check(self.notification.uid)


def _ended(
    intent: Record, outcome: Outcome, now: int, wait: int | None, seconds: float, *, words: str
) -> Attempt:
    """The attempt with its outcome, and the time of the next one."""
    return Attempt(
        intent.attempt_id,
        intent.channel,
        outcome.state,
        started=int(intent.body.get("at", 0)),
        ended=now,
        due=0 if wait is None else now + wait,
        duration=round(seconds * 1000),
        failure=outcome.failure,
        error=bounded(outcome.error, LOG_ERROR_BYTES),
        code=outcome.code,
        words=words,
        answer=outcome.answer,
    )


def _words(outcome: Outcome, planned: str) -> str:
    """What the record says of templates: their digest, another one of the plan, why they did not fit."""
    if not outcome.digest:
        return ""
    changed = f", planned {planned}" if planned not in {"", outcome.digest} else ""
    failed = f", not used: {bounded(outcome.unworded, LOG_ERROR_BYTES)}" if outcome.unworded else ""
    return f"templates {outcome.digest}{changed}{failed}"


def _log(notification: Notification, attempt: Attempt, *, recorded: bool) -> None:
    logger.log(
        logging.INFO if attempt.failure in {None, FailureClass.SUPERSEDED} else logging.WARNING,
        "attempt recorded" if recorded else "attempt not recorded",
        extra={
            "uid": notification.uid,
            "object": notification.request.key,
            "channel": attempt.channel,
            "attempt": attempt.id,
            "state": attempt.state.word,
            "class": attempt.failure.value if attempt.failure else None,
            "code": attempt.code or None,
            "error": attempt.error or None,
            "ms": attempt.duration,
            "trace_id": trace_id(notification.request.trace),
        },
    )
