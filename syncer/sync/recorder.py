"""
Appends to the log of a notification, and the view that follows the log.

Every append answers with its position and the chain of the element before. The view advances only if both
are as expected; otherwise another process has written in between, and the log is read again. So the view
never claims a record that was not read, and an ACK is always true.

Facts (outcomes) are written whether or not the claim holds; opening an attempt, or settling that of
another process (intent, recover), needs a current claim.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Final

from syncer.ledger.answers import Answer, Appended, Snapshot
from syncer.ledger.codec import stored
from syncer.ledger.log import RedisLog
from syncer.metrics import SyncMetrics
from syncer.model.attempt import (
    Attempt,
    AttemptId,
    AttemptState,
    Epoch,
    FailureClass,
    make_attempt_id,
)
from syncer.model.errors import ContractError, PortError, Rejected, Unauthorised
from syncer.model.ports import LeaseTerm
from syncer.model.record import (
    MAX_SKIPS,
    Plan,
    Record,
    attempt_record,
    intent_record,
    plan_record,
    skip_record,
)
from syncer.model.resource import Status
from syncer.rules.evidence import Verdict, judge
from syncer.rules.merge import SENDER_ENDED, lacking
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Cache
from syncer.sync.evidence import Evidence
from syncer.sync.notification import Notification

logger = logging.getLogger("ledger.record")

#: From so many rewrites of a status on the wait grows no more.
_REWRITES: Final = 16


class Recorder:
    """Appends to logs and keeps the views in the cache up to date."""

    def __init__(
        self,
        log: RedisLog,
        cache: Cache,
        time: LedgerTime,
        metrics: SyncMetrics,
        *,
        identity: str,
        evidence: Evidence | None = None,
    ) -> None:
        """`identity` names this process in intents; without `evidence`, statuses are its own word."""
        self.log = log
        self.cache = cache
        self.time = time
        self.metrics = metrics
        self.evidence = evidence or Evidence(log, time)
        # A look-up by label costs as much as the observation; there is one for each script and state.
        self.append_seconds = functools.cache(metrics.append_seconds.labels)
        self._outcomes = functools.cache(metrics.outcomes.labels)
        self._identity = identity
        self._counters: defaultdict[Epoch, Iterator[int]] = defaultdict(functools.partial(count, 1))

    def next_id(self, epoch: Epoch) -> AttemptId:
        """Return a new attempt id, which no process ever uses again."""
        return make_attempt_id(epoch, next(self._counters[epoch]))

    def claim_holds(self, notification: Notification, term: LeaseTerm) -> bool:
        """Whether attempts may be opened under the notification's claim, as far as this process knows."""
        return self.claimed(notification, term) and term.valid(self.cache.monotonic())

    def claimed(self, notification: Notification, term: LeaseTerm) -> bool:
        """Whether the notification's claim is of this term and of the store that answers now."""
        claim = notification.claim
        return (
            claim is not None
            and claim.epoch == term.epoch
            and claim.generation == self.log.client.generation
        )

    def lose_claim(self, notification: Notification, cause: str) -> None:
        """Note that the claim is stale; a check claims the log again."""
        if notification.claim is not None:
            self.metrics.reclaims.labels(cause).inc()
            notification.lose()
            self.cache.check(notification.uid)

    def compare(self, notification: Notification, before: Status) -> None:
        """
        Give up the claim if the status, which was `before`, now says what the view lacks.

        Where only the owner writes a status, that is a journaled one, and the last write of a former owner
        that has arrived late. Where others may write it, the next claim judges it, unless it is certainly
        false: then what was there before holds, and is written again.
        """
        if notification.claim is None:
            return
        about, status = self.evidence.of_entry(notification), notification.request.status
        if about.protected:
            if status.journal is not None and lacking(notification.view, status):
                self.lose_claim(notification, "journal")
            return
        alone = self.evidence.alone(notification, about)
        if (
            judge(notification.request, notification.view, about, alone=alone).verdict
            is Verdict.AGREES
        ):
            notification.judged.agree()
            return
        notification.judged.disregard(before)
        if not alone:
            self.lose_claim(notification, "status")
            return
        if (rewrites := notification.judged.rewritten()) > 1:
            # Another client writes it again and again: neither of the two shall wear out the API server.
            self.cache.failed(notification, before=min(rewrites, _REWRITES) - 1)
        self.cache.mark_dirty(notification, urgent=True)

    def shows_what_is_known(self, notification: Notification) -> bool:
        """Whether the status says no more than is known, or is believed, and so is what no log has."""
        about = self.evidence.of_entry(notification)
        if notification.in_flight.unrecorded and about.ground(notification.request) is None:
            return False
        judged = judge(notification.request, notification.view, about)
        return judged.verdict in (Verdict.AGREES, Verdict.BELIEVED)

    # -- appends ------------------------------------------------------------------------------

    async def freeze(
        self, notification: Notification, plan: Plan, *, journaled: bool = False
    ) -> None:
        """
        Put the plan on record; an earlier one stays in force.

        One that is `journaled` is kept while the log is away: the status shows it, and the next claim
        records it.
        """
        if journaled:
            notification.learn((), plan)
            self.lose_claim(notification, "journal")
        else:
            await self._note(notification, plan_record(plan))
            self.cache.mark_dirty(notification)

    async def note(self, notification: Notification, channel: str, why: str) -> bool:
        """
        Record why a due attempt is not made, unless the channel's last record has the same reason.

        Returns:
            Whether it is recorded now: not while Redis is away, nor in a log that is full of them.
        """
        view, now = notification.view, self.time.now()
        if view.last_skip.get(channel) == why or view.skips >= MAX_SKIPS:
            return False
        record = skip_record(f"skip:{view.position + 1}:{now}", channel, at=now, why=why)
        with contextlib.suppress(PortError):
            await self._note(notification, record)
        return notification.view.last_skip.get(channel) == why

    async def _note(self, notification: Notification, record: Record) -> None:
        try:
            with self.append_seconds("note").time():
                answer = await self.log.note(notification.uid, record)
        except ContractError as error:
            self.put_in_quarantine(notification, str(error))
            return
        if not self.advance(notification, answer, [record]):
            await self.reread(notification)

    def begin(self, notification: Notification, term: LeaseTerm, channel: str) -> Record:
        """Begin an attempt; nothing may be sent until its intent is recorded."""
        attempt_id = self.next_id(term.epoch)
        view = notification.view
        intent = intent_record(
            attempt_id, channel, at=self.time.now(), by=self._identity,
            order=view.order_ids[channel] if channel in view.ordered else "",
        )  # fmt: skip
        notification.in_flight.begin(attempt_id, channel)
        return intent

    def count(self, attempt: Attempt) -> None:
        """Count an outcome."""
        superseded = attempt.failure is FailureClass.SUPERSEDED
        self._outcomes(FailureClass.SUPERSEDED.value if superseded else attempt.state.word).inc()
        if attempt.failure is FailureClass.NOT_SENT:
            self.metrics.not_sent.inc()

    async def record_kept(self, notification: Notification, *, anew: bool = False) -> bool:
        """
        Record the outcomes that were kept while the log could not be read; False if the log is gone.

        Call it when the log can be read again, before its open attempts are settled as unknown; also from
        time to time if another process owns the log now, because that process does not know these
        outcomes. With `anew` the first of them creates a log that is gone; else the claim is given up.

        Raises:
            PortError: Redis did not answer; the rest is kept.
        """
        for attempt_id, (record, intent) in list(notification.in_flight.unrecorded.items()):
            name, anew = notification.request.key if anew else None, False
            try:
                answer = await self.log.outcome(notification.uid, record, intent, name=name)
            except Unauthorised:
                raise
            except (ContractError, Rejected) as error:
                if not notification.quarantine:
                    self.put_in_quarantine(notification, str(error))
                return True
            if answer.answer is Answer.RECLAIM:
                self.lose_claim(notification, "lost")
                return False
            notification.in_flight.recorded(attempt_id)
            if not self.advance(notification, answer, [intent, record][2 - answer.count :]):
                await self.reread(notification)
            logger.warning(
                "an outcome is recorded now that the log can be read again",
                extra={
                    "uid": notification.uid,
                    "object": notification.request.key,
                    "attempt": attempt_id,
                },
            )
            self.cache.mark_dirty(notification)
        return True

    async def recover(
        self, notification: Notification, term: LeaseTerm, abandoned: Attempt, *, due: int
    ) -> bool:
        """
        Record an open attempt that no process executes as unknown: its sender ended before its outcome.

        Returns:
            False if the claim no longer holds.
        """
        settled = replace(
            abandoned, state=AttemptState.UNKNOWN, ended=self.time.now(), due=due,
            failure=FailureClass.UNCERTAIN,
            error=SENDER_ENDED,
        )  # fmt: skip
        record = attempt_record(settled)
        answer = await self.log.recover(notification.uid, term.epoch, record)
        if answer.answer is Answer.RECLAIM:
            self.lose_claim(notification, "recover")
            return False
        if answer.answer is Answer.OK:
            self.metrics.recovered.inc()
            self._outcomes(settled.state.word).inc()
        if not self.advance(notification, answer, [record]):
            await self.reread(notification)
        return True

    # -- the view -------------------------------------------------------------------------------

    def advance(
        self, notification: Notification, answer: Appended, records: Sequence[Record]
    ) -> bool:
        """Apply what was appended; False where nothing was, or others have: the log is to be read again."""
        view = notification.view
        expected = view.position + answer.count
        if (
            answer.answer is not Answer.OK
            or answer.position != expected
            or answer.before != view.chain
        ):
            return False
        *others, last = records
        for record in others:
            notification.extend(stored(record, view.chain, view.position + 1))
        # The answer contains the chain of the last one; computing it again is a third of an append.
        notification.extend(last.stored_at(answer.position, answer.chain))
        if any(r.kind.state is not AttemptState.INTENT for r in records):
            self.cache.mark_unaudited(notification)
        return True

    async def reread(self, notification: Notification) -> bool:
        """
        Read and fold the log again; returns whether it ends elsewhere than the view did.

        If the log no longer holds what the view has seen, the claim is given up and the view kept:
        the next claim offers it to the log as seeds.
        """
        heard, told = self.log.client.subscriptions, notification.told
        known = notification.view.position
        try:
            snapshot = await self.log.read(notification.uid)
        except ContractError as error:
            self.put_in_quarantine(notification, str(error))
            return notification.view.position != known
        notification.caught_up(told)
        if snapshot is None or not notification.view.begins(snapshot.records):
            self.lose_claim(notification, "history")
        else:
            plan = notification.view.plan
            self.adopt(notification, snapshot)
            if notification.claim is None:
                # One that is journaled alone is still what was decided; the next claim records it.
                notification.learn((), notification.view.plan or plan)
            notification.hear(heard)
        return notification.view.position != known

    def adopt(self, notification: Notification, snapshot: Snapshot) -> None:
        """Replace the view by the fold of a log as it was read."""
        view = snapshot.view
        if view.conflicts > notification.view.conflicts:
            self.metrics.conflicting.inc(view.conflicts - notification.view.conflicts)
        notification.read(snapshot)
        if view.position > notification.audited:
            self.cache.mark_unaudited(notification)

    def put_in_quarantine(self, notification: Notification, reason: str) -> None:
        """Stop sends for a notification whose log cannot be read; its bytes stay as they are."""
        if not notification.quarantine:
            logger.error(
                "a log cannot be read; nothing is sent for this notification",
                extra={
                    "uid": notification.uid,
                    "object": notification.request.key,
                    "reason": reason,
                },
            )
        self.lose_claim(notification, "quarantine")
        notification.unintelligible(reason)
        self.cache.mark_dirty(notification, urgent=True)
