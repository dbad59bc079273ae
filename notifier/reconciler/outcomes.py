"""
Recording outcomes in the log.

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
from typing import Final

from notifier.contract import PERMANENT, Outcome
from notifier.reconciler.ports import Ports
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass, attempt_epoch
from syncer.model.conditions import bounded
from syncer.model.errors import PortError
from syncer.model.ports import LeaseTerm
from syncer.model.record import LOG_ERROR_BYTES, Record
from syncer.model.resource import RetryPolicy
from syncer.model.trace import trace_id
from syncer.rules.backoff import MISTAKE_PATIENCE, mistake_delay, next_delay, unsent_delay
from syncer.rules.channel_state import counts, uncounted_run
from syncer.rules.merge import exceeds
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.sync.notification import Notification

logger = logging.getLogger("ledger.delivery")

#: Classes of attempts without a call to the receiver.
_NO_CALL: Final = frozenset({FailureClass.NOT_SENT, FailureClass.SUPERSEDED})


@dataclass(eq=False)
class Outcomes:
    """Records outcomes, sets the next due time, and has the notification reconciled again."""

    ports: Ports
    #: Attempts whose outcome is known and being recorded, by the task that does it.
    recording: dict[asyncio.Task[None], AttemptId] = field(default_factory=dict, init=False)
    #: Uniform in [-1, 1), for back-off.
    jitter: Callable[[], float] = field(
        default_factory=lambda: partial(random.uniform, -1.0, 1.0), init=False
    )

    def submit(
        self, entry: Notification, intent: Record, outcome: Outcome, seconds: float
    ) -> asyncio.Task[None]:
        """
        Start recording an outcome, in a task that outlives the caller.

        Args:
            entry: The notification.
            intent: The attempt's intent.
            outcome: The attempt's outcome.
            seconds: Duration of the send.
        """
        recording = asyncio.create_task(
            self.record(entry, intent, outcome, seconds), name=f"record-{entry.uid}"
        )
        self.recording[recording] = intent.attempt_id
        recording.add_done_callback(self.recording.pop)
        return recording

    def waiting(self, entry: Notification, intent: Record, outcome: Outcome) -> Outcome:
        """
        Return what to record of an outcome: that of an operator's mistake waits, if so configured.

        It counts in no limit then; a host that is not known was sent nothing. After a day it is final.
        """
        if not (outcome.mistake and self.ports.bounds.hold_mistakes):
            return outcome
        if outcome.state is not AttemptState.FAILED:
            return outcome
        earlier = [a for a in entry.view.of_channel(intent.channel) if a.id != intent.id]
        began = min((a.started for a in uncounted_run(earlier) if a.started), default=None)
        if began is not None and self.ports.recorder.time.now() - began > MISTAKE_PATIENCE:
            final = outcome.error.removeprefix(PERMANENT)
            return Outcome.permanent(f"not mended within a day: {final}", code=outcome.code)
        sent = outcome.failure is FailureClass.PERMANENT
        return replace(
            outcome,
            failure=FailureClass.OPERATOR if sent else FailureClass.NOT_SENT,
            error=outcome.error.removeprefix(PERMANENT),
        )

    def submit_not_sent(self, entry: Notification, intent: Record) -> None:
        """Start recording that nothing was sent for an intent that log or status may hold."""
        where = "status" if intent.attempt_id in entry.in_flight.ahead else "log"
        outcome = Outcome.not_sent(f"the {where} did not confirm the attempt, so it was not sent")
        self.submit(entry, intent, outcome, 0.0)

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
                await self.settle(list(self.ports.cache.entries.values()))
        left = list(self.recording)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)

    async def settle(self, entries: Sequence[Notification]) -> None:
        """
        Record in the logs what only this process knows, because nothing is reconciled any more.

        That is what was kept for a claim, and what a log has lost before the status showed it. Whoever
        still owns the log claims it, so that the status can be written, too.
        """
        for entry in entries:
            term = self.ports.ownership.term_of(entry.uid)
            ours = (
                term is not None and term.valid(self.ports.cache.monotonic()) and not entry.deleted
            )
            if not self.ports.recorder.log.available:
                return
            with contextlib.suppress(PortError):
                if term is not None and ours and self._known_here_alone(entry, term):
                    await self.ports.claimer.claim(entry, term)
                if entry.in_flight.unrecorded:
                    await self.ports.claimer.hand_in(entry)

    def _known_here_alone(self, entry: Notification, term: LeaseTerm) -> bool:
        if entry.in_flight.unrecorded:
            return True
        if self.ports.recorder.claim_holds(entry, term):
            return False
        return bool(entry.abandoned) or exceeds(entry.view, entry.status)

    async def record(
        self, entry: Notification, intent: Record, outcome: Outcome, seconds: float
    ) -> None:
        """Record an outcome; the arguments are those of `submit`."""
        earlier = [a for a in entry.view.of_channel(intent.channel) if a.id != intent.id]
        left = [a for a in earlier if counts(a)]
        wait = self._wait(entry.request.policy, outcome, earlier, len(left))
        plan = entry.view.plan
        planned = plan.digest(intent.channel) if plan else ""
        attempt = _ended(intent, outcome, self.ports.recorder.time.now(), wait, seconds)
        attempt = replace(attempt, words=_words(outcome, planned), answer=outcome.answer)
        until = None if wait is None else self.ports.cache.monotonic() + wait / 1000
        entry.wait(attempt.channel, until)
        recorded = await self._close(entry, attempt, intent)
        failpoint(Failpoint.AFTER_OUTCOME)
        if recorded and not self._owns(entry.uid, intent.attempt_id):
            # A result of an earlier lease term: wake the owner, so that it need not wait for its sweep.
            await self.ports.recorder.log.wake_owner(entry.uid)
        _log(entry, attempt, recorded=recorded)
        if outcome.failure not in _NO_CALL:
            self.ports.reporter.attempted(entry.request, attempt, left[-1] if left else None)
        if outcome.by_rule:
            self.ports.reporter.denied(entry.request, attempt.channel, attempt.error)
        elif attempt.failure not in {None, FailureClass.NOT_SENT}:
            self.ports.reporter.failed(entry.request, attempt)
        self.ports.queue.add(entry.uid)

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
            delay = mistake_delay if outcome.mistake else unsent_delay
            return delay(len(uncounted_run(earlier)) + 1, self.jitter())
        return next_delay(policy, left + 1, self.jitter(), outcome.retry_after)

    async def _close(self, entry: Notification, attempt: Attempt, intent: Record) -> bool:
        """Record the outcome where its intent was recorded: in the log, or in the status."""
        if intent.attempt_id in entry.in_flight.ahead:
            self.ports.recorder.close_in_memory(entry, attempt, intent)
            return True
        patience = self.ports.journal.patience
        return await self.ports.recorder.close(
            entry,
            attempt,
            intent,
            patience=self.ports.bounds.outcome_patience if patience is None else patience,
            keep=patience is not None,
        )

    def _owns(self, uid: str, attempt_id: AttemptId) -> bool:
        """Whether an attempt belongs to the current lease term."""
        term = self.ports.ownership.term_of(uid)
        return (
            term is not None
            and term.epoch == attempt_epoch(attempt_id)
            and term.valid(self.ports.cache.monotonic())
        )


def _ended(intent: Record, outcome: Outcome, now: int, wait: int | None, seconds: float) -> Attempt:
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
    )


def _words(outcome: Outcome, planned: str) -> str:
    """What the record says of templates: their digest, another one of the plan, why they did not fit."""
    if not outcome.digest:
        return ""
    changed = f", planned {planned}" if planned not in {"", outcome.digest} else ""
    failed = f", not used: {bounded(outcome.unworded, LOG_ERROR_BYTES)}" if outcome.unworded else ""
    return f"templates {outcome.digest}{changed}{failed}"


def _log(entry: Notification, attempt: Attempt, *, recorded: bool) -> None:
    logger.log(
        logging.INFO if attempt.failure in {None, FailureClass.SUPERSEDED} else logging.WARNING,
        "attempt recorded" if recorded else "attempt not recorded",
        extra={
            "uid": entry.uid,
            "object": entry.request.key,
            "channel": attempt.channel,
            "attempt": attempt.id,
            "state": attempt.state.word,
            "class": attempt.failure.value if attempt.failure else None,
            "code": attempt.code or None,
            "error": attempt.error or None,
            "ms": attempt.duration,
            "trace_id": trace_id(entry.request.trace),
        },
    )
