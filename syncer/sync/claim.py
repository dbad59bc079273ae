"""
Start-up and takeover: bring one notification's log and object together, then open it for sending.

Gather, decide, act. The order of the gathering is part of the protocol: CLAIM first (it raises the
fence, so that nobody else can open attempts), the object *after* it, then CLAIM once more with what
only the object knew. Whoever reads the object first can miss a success that was published between
the read and the claim, and send again.

What follows from the pair is decided by `syncer.rules.reconcile`; this module only performs it. The
sweeps find what no event reports: logs without an object, finished objects whose log is not marked
as published, records that somebody else appended.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from syncer.ledger.codec import decode_header
from syncer.ledger.log import Answer, RedisLog, Snapshot
from syncer.metrics import SyncMetrics
from syncer.model.attempt import (
    NO_EPOCH,
    Attempt,
    AttemptState,
    FailureClass,
    attempt_epoch,
    epoch_key,
    wait_of,
)
from syncer.model.errors import (
    ContractError,
    Gone,
    KindMissing,
    PortError,
    Unauthorised,
    Unavailable,
)
from syncer.model.ports import Backoff, LeaseTerm, Ownership, StatusStore
from syncer.model.record import Header, attempt_record, plan_record
from syncer.model.resource import NotificationRequest, RetryPolicy, Status
from syncer.rules.channel_state import counts
from syncer.rules.merge import exceeds, lacking
from syncer.rules.reconcile import Action, Presence, Situation, Verdict, compare, reconcile
from syncer.rules.restore import highest_epoch, plan_of_status, recordable, seeds_of_view
from syncer.rules.retention import retention_seconds
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.sync.cache import Cache, Claim, Entry, Finished
from syncer.sync.recorder import Recorder

logger = logging.getLogger("ledger.startup")
archive = logging.getLogger("ledger.archive")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one pass over finished objects or orphaned logs found."""

    looked_at: int
    reopened: tuple[str, ...] = ()
    unaudited: tuple[str, ...] = ()
    retired: int = 0
    lost: int = 0


class Reconciler:
    """Claims logs and repairs divergence, one notification at a time."""

    def __init__(
        self,
        recorder: Recorder,
        store: StatusStore,
        metrics: SyncMetrics,
        *,
        backoff: Backoff,
    ) -> None:
        """`backoff` gives the wait after an attempt whose sender is gone."""
        self.recorder = recorder
        self.log: RedisLog = recorder.log
        self.cache: Cache = recorder.cache
        self.store = store
        self.metrics = metrics
        self._backoff = backoff

    # -- one notification -----------------------------------------------------------------------

    async def claim(self, entry: Entry, term: LeaseTerm) -> Verdict:
        """
        Claim the log, compare it with the object, repair what differs.

        Afterwards, if the verdict holds `Action.OPEN`, attempts may be opened under `entry.claim`; with
        `Action.CLOSE` the claim serves the last sync alone.

        Raises:
            PortError: Redis or the API server did not answer; nothing is open, claim again later.
        """
        before = Claim(term.epoch, self.log.generation)
        own_seeds = seeds_of_view(entry.view)
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
        self._adopt(entry, claimed.snapshot)
        await self.recorder.record_kept(entry)
        if entry.quarantine:
            return self._count(reconcile(Situation(undecodable=True)))
        presence = await self._gather(entry)
        verdict = reconcile(self._situation(entry, term, presence))
        await self._act(entry, term, verdict)
        # The claim is stored last and as of its beginning: a server change in between voids it.
        claimable = Action.OPEN in verdict or Action.CLOSE in verdict
        if claimable and before.generation == self.log.generation:
            entry.claim = before
            self._schedule_due(entry)
            if entry.request.status.terminal:
                # It was brought back because a mark or an expiry was missing: have that looked at.
                self.cache.mark_dirty(entry, urgent=True)
        return self._count(verdict)

    def _adopt(self, entry: Entry, snapshot: Snapshot) -> None:
        if entry.quarantine:
            entry.quarantine = ""
            self.cache.mark_dirty(entry)
        self.recorder.adopt(entry, snapshot)

    async def _gather(self, entry: Entry) -> Presence:
        if entry.deleted:
            return Presence.ABSENT
        if entry.fresh:
            # Seen for the first time by a watch event without status, in this tenure: nobody can
            # have published anything that the event does not show.
            return Presence.PRESENT
        request = entry.request
        try:
            current = await self.store.get(request.namespace, request.name)
        except Gone:
            return Presence.ABSENT
        except (KindMissing, Unauthorised, ContractError):
            return Presence.UNREADABLE
        if current.uid != entry.uid:
            return Presence.ABSENT
        entry.take(current, since=request.resource_version)
        return Presence.PRESENT

    def _situation(self, entry: Entry, term: LeaseTerm, presence: Presence) -> Situation:
        status, view = entry.request.status, entry.view
        return Situation(
            ahead=epoch_key(highest_epoch(status)) > epoch_key(term.epoch),
            log_present=view.position > 0,
            presence=presence,
            deleting=entry.request.deleting,
            terminal=status.terminal,
            shown=len(status.attempts),
            comparison=compare(
                log_exceeds=exceeds(view, status), object_exceeds=bool(lacking(view, status))
            ),
            abandoned=len(abandoned(entry)),
            unacked=view.publishable[0] > entry.acked,
            unplanned=view.plan is None and bool(status.channels),
        )

    async def _act(self, entry: Entry, term: LeaseTerm, verdict: Verdict) -> None:
        if Action.NOTHING in verdict:
            # The claim has made an empty log, which must not stay for ever.
            ttl = retention_seconds(entry.request.retention_days)
            await self.log.retire(entry.uid, term.epoch, ttl=ttl, audited=self.cache.auditing)
        if Action.SEED in verdict:
            await self._seed(entry, term)
        if Action.ORPHAN in verdict:
            entry.deleted = True
        if Action.RECOVER in verdict or Action.ORPHAN in verdict:
            await self._recover(entry, term)
        if Action.SYNC in verdict or Action.ACK in verdict:
            self.cache.mark_dirty(entry, urgent=entry.request.status.terminal)

    async def _seed(self, entry: Entry, term: LeaseTerm) -> None:
        status = entry.request.status
        lost = lacking(entry.view, status)
        seeds = [attempt_record(recordable(self._adopted(entry, a)), seed=True) for a in lost]
        if entry.view.plan is None and status.channels:
            seeds.insert(0, plan_record(plan_of_status(status)))
        claimed = await self.log.claim(entry.uid, term.epoch, name=entry.request.key, seeds=seeds)
        if claimed.snapshot is None:
            self.recorder.lose_claim(entry, "seed")
            raise Unavailable("the log changed under its claim")
        self.recorder.adopt(entry, claimed.snapshot)
        self.metrics.repaired.inc()
        self.metrics.loss.inc(len(lost))
        logger.warning(
            "the log had lost what the object shows; restored",
            extra={"uid": entry.uid, "object": entry.request.key, "attempts": len(lost)},
        )
        self.cache.mark_dirty(entry)

    def _adopted(self, entry: Entry, attempt: Attempt) -> Attempt:
        """An attempt of the replaced controller, with the wait that it would have kept."""
        retriable = attempt.state in (AttemptState.FAILED, AttemptState.UNKNOWN) and (
            attempt.failure is not FailureClass.PERMANENT
        )
        if attempt_epoch(attempt.id) != NO_EPOCH or attempt.due or not retriable:
            return attempt
        wait = self._backoff(entry.request.policy, attempt.number)
        return replace(attempt, due=attempt.ended + wait)

    async def _recover(self, entry: Entry, term: LeaseTerm) -> None:
        policy = entry.request.policy
        for attempt in abandoned(entry):
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

    def _schedule_due(self, entry: Entry) -> None:
        now_ms, now = self.recorder.time.now(), self.cache.monotonic()
        # The wait after an attempt whose result is yet to be recorded; the log cannot tell it.
        under_way = {c: entry.due[c] for c in entry.executing.values() if c in entry.due}
        entry.due.clear()
        ordered = entry.ordered
        for attempt in entry.view.attempts.values():
            # What an operator orders is due at once, whatever the wait was before.
            before = entry.view.orders[attempt.channel] if attempt.channel in ordered else ()
            if attempt.due and attempt.id not in before:
                entry.due[attempt.channel] = now + wait_of(attempt, now_ms) / 1000
        entry.due |= under_way

    def _count(self, verdict: Verdict) -> Verdict:
        for row in verdict.rows:
            self.metrics.claims.labels(row).inc()
        return verdict

    # -- logs without an object -----------------------------------------------------------------

    async def retire(self, entry: Entry, term: LeaseTerm) -> bool:
        """
        Let go of a deleted notification: settle what is open, archive, give the log its expiry.

        A log that the audit feed has not finished with keeps its place until it has; a sweep finds it
        then.

        Returns:
            True when nothing more is to be done for it now.

        Raises:
            PortError: not answered; call again later.
        """
        if entry.executing:
            return False
        if entry.view.position == 0 and entry.claim is None and not await self._has_log(entry.uid):
            self.cache.forget(entry.uid)
            return True
        claimed = await self.log.claim(entry.uid, term.epoch, name=entry.request.key)
        if claimed.answer is Answer.FENCED:
            self.metrics.fenced.inc()
            return False
        if claimed.snapshot is None:
            self.recorder.put_in_quarantine(entry, str(claimed.error))
            self.cache.forget(entry.uid)
            return True
        self.recorder.adopt(entry, claimed.snapshot)
        entry.claim = Claim(term.epoch, self.log.generation)
        await self.recorder.record_kept(entry)
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

    def _awaits_audit(self, entry: Entry) -> bool:
        """Whether the audit feed has not handed a deleted one over yet; if so, leave it to the feed."""
        if not self.cache.auditing or entry.audited >= entry.view.position:
            return False
        if self.cache.audit_room:
            self.cache.mark_unaudited(entry)
        self.cache.forget(entry.uid)
        return True

    async def _has_log(self, uid: str) -> bool:
        (_, length, _) = (await self.log.read_headers([uid]))[0]
        return length > 0

    async def sweep_orphans(
        self,
        ownership: Ownership,
        known: Callable[[str], bool],
        watched: Callable[[str], bool],
    ) -> Sweep:
        """
        Find logs whose object is gone, and retire those that are ours.

        Args:
            ownership: Tells which shards are ours.
            known: Whether an object with this uid exists, as of a complete list.
            watched: Whether objects of a namespace are watched here; others are not ours to judge.
        """
        looked, retired = 0, 0
        async for uids in self.log.scan():
            strangers = [u for u in uids if not known(u) and ownership.term_of(u)]
            looked += len(uids)
            for uid, (element, length, ttl) in zip(
                strangers, await self.log.read_headers(strangers), strict=True
            ):
                header = _header(element)
                term = ownership.term_of(uid)
                if header is None or term is None:
                    continue
                namespace, _, name = header.object.partition("/")
                if not watched(namespace):
                    continue
                if ttl >= 0:
                    if header.audited < length - 1 and self.cache.audit_room:
                        self.cache.mark_unaudited(
                            Entry(tombstone(uid, namespace, name), deleted=True)
                        )
                    continue
                if not await self._really_gone(uid, namespace, name):
                    continue
                request = tombstone(uid, namespace, name)
                try:
                    retired += await self.retire(Entry(request, deleted=True), term)
                except PortError as error:
                    logger.info("an orphaned log waits", extra={"uid": uid, "error": str(error)})
        return Sweep(looked, retired=retired)

    async def _really_gone(self, uid: str, namespace: str, name: str) -> bool:
        try:
            current = await self.store.get(namespace, name)
        except Gone:
            return True
        except (PortError, ContractError):
            return False
        return current.uid != uid

    # -- finished objects -----------------------------------------------------------------------

    async def sweep_finished(self, summaries: Sequence[Finished]) -> Sweep:
        """
        Compare finished objects with the headers of their logs, one round trip for many.

        A log that is wholly marked as published, or gone, needs nothing. One that holds more is
        reopened: its uid is returned and the caller claims it. One that only the audit feed has
        not finished with is named apart: the caller holds no more of these than the feed can take.
        """
        reopened: list[str] = []
        unaudited: list[str] = []
        lost = 0
        heads = await self.log.read_headers([s.uid for s in summaries])
        for finished, (element, length, ttl) in zip(summaries, heads, strict=True):
            if element is None:
                lost += 1
                continue
            header = _header(element)
            if header is None or header.acked < length - 1:
                reopened.append(finished.uid)
            elif ttl == -1:
                lagging = self.cache.auditing and header.audited < length - 1
                (unaudited if lagging else reopened).append(finished.uid)
        return Sweep(
            len(summaries), reopened=tuple(reopened), unaudited=tuple(unaudited), lost=lost
        )

    async def sweep_live(self, entries: Sequence[Entry]) -> list[str]:
        """
        Read again every live log that somebody else has appended to.

        Returns:
            Uids to be looked at: of those logs, and of any that holds an open attempt which nobody
            here carries out (an INTENT that arrived after its caller had given it up).
        """
        found: list[str] = []
        lengths = await self.log.read_headers([e.uid for e in entries])
        for entry, (_, length, _) in zip(entries, lengths, strict=True):
            if entry.claim is None or entry.busy:
                continue
            if length - 1 != entry.view.position:
                await self.recorder.reread(entry)
                self.cache.mark_dirty(entry)
                found.append(entry.uid)
            elif abandoned(entry):
                found.append(entry.uid)
        return found


# -- pure helpers ---------------------------------------------------------------------------------


def abandoned(entry: Entry) -> list[Attempt]:
    """Open attempts of the log that no task of this process carries out."""
    return [a for a in entry.view.attempts.values() if a.open and a.id not in entry.executing]


def tombstone(uid: str, namespace: str, name: str) -> NotificationRequest:
    """A stand-in for an object that only its log remembers."""
    return NotificationRequest(
        uid=uid,
        namespace=namespace,
        name=name,
        resource_version="",
        generation=0,
        created=0,
        deleting=True,
        priority="",
        policy=RetryPolicy(),
        retention_days=7,
        status=Status(),
    )


def archived(entry: Entry) -> str:
    """A whole log as one JSON line: what remains when the object and, later, its log are gone."""
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


def _header(element: bytes | None) -> Header | None:
    if element is None:
        return None
    try:
        return decode_header(element)
    except ContractError:
        return None
