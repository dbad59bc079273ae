"""
The border of the record: all that the notifier knows of this package, and may ask of it.

What is to be decided about a notification begins with `ready`: its log is claimed and read, or it is said
why it cannot be. `freeze` puts its plan on record, `note` why a due attempt is not made, and an `attempt`
is a context: its intent is recorded on entry, its outcome on exit. Whatever else changes in a
notification, this package changes; it asks for the next decision by three hooks of the cache (`check`,
`check_at`, `retry`).

The reflector reports that an object is new, has changed, is gone, or is followed by another replica
(`upsert`, `delete`, `release`). Such a call only updates the cache and requests a check. It ignores events
without news: the version that an own write returned, and objects that have ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

from syncer.kube.notification_requests import Unreadable
from syncer.model.errors import PortError
from syncer.model.outcome import Outcome
from syncer.model.ports import LeaseTerm
from syncer.model.record import Plan, read_plan
from syncer.model.resource import NotificationRequest, version_key
from syncer.rules.reconcile import Action, ClaimDecision
from syncer.rules.restore import fitting, highest_epoch, missing_plan
from syncer.sync.attempts import Outcomes, Permit
from syncer.sync.cache import Cache, Finished
from syncer.sync.notification import Notification

__all__ = ["Cache", "Finished", "Notification", "Notifications", "Permit", "Ready"]

logger = logging.getLogger("ledger.delivery")

#: Seconds until a notification is looked at again if its shard's Lease may carry a note.
_NOTE_PAUSE: Final = 5.0


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


@dataclass(eq=False)
class Notifications:
    """The notifications of this process, and their record; see `syncer.kube.reflector.Sink`."""

    outcomes: Outcomes
    _: KW_ONLY
    #: Called with one that is claimed for the first time in a lease term.
    on_started: Callable[[NotificationRequest], None] = lambda _: None
    #: Called with each version of an object that is handed over.
    on_shown: Callable[[NotificationRequest], None] = lambda _: None
    #: The process is ending: no attempt is started any more.
    draining: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Show what it is made of."""
        self.claimer, self.journal = self.outcomes.claimer, self.outcomes.journal
        self.recorder, self.ownership = self.claimer.recorder, self.outcomes.ownership
        self.cache, self.time = self.recorder.cache, self.recorder.time

    def accepts(self, uid: str) -> bool:
        """Whether new work on a notification may begin in this process."""
        return not self.draining and self.ownership.accepts(uid)

    # -- one decision, one attempt ----------------------------------------------------------------

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

    async def freeze(self, ready: Ready, plan: Plan) -> None:
        """Put the plan of a notification on record; an earlier one stays in force."""
        if ready.journaled:
            self.recorder.plan_journaled(ready.entry, plan)
        else:
            await self.recorder.plan(ready.entry, plan)

    async def note(self, entry: Notification, channel: str, why: str) -> bool:
        """Record, once, why a due attempt is not made; False if Redis did not answer."""
        try:
            await self.recorder.skip(entry, channel, why)
        except PortError:
            return False
        return True

    def may_open(self, entry: Notification, term: LeaseTerm) -> bool:
        """Whether attempts may be opened in the log, as far as this process knows."""
        return not self.journal.blocks(entry.uid) and self.recorder.claim_holds(entry, term)

    def attempt(
        self, entry: Notification, term: LeaseTerm, channel: str, *, limit: int | None
    ) -> Permit:
        """Return an attempt, to be entered; without `limit`, it is recorded in the status first."""
        return Permit(self.outcomes, entry, term, channel, limit)

    async def give_up(
        self, entry: Notification, term: LeaseTerm, channel: str, outcome: Outcome, *, limit: int
    ) -> None:
        """
        End a channel, if the log may be used; see `Outcomes.give_up`.

        Raises:
            PortError: Redis did not answer; the claim is given up.
        """
        if self.may_open(entry, term):
            await self.outcomes.give_up(entry, term, channel, outcome, limit=limit)

    # -- the claim ------------------------------------------------------------------------------

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
        claimed = await self.claimer.claim(entry, term)
        logger.debug(
            "claimed", extra={"uid": entry.uid, "rows": claimed.rows, "reason": claimed.message}
        )
        if not await self._usable(entry, term, claimed):
            return False
        if first and not entry.status.terminal and not entry.cancelled:
            self.on_started(entry.request)
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
        self.claimer.metrics.fenced_notifications.inc()

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
            await self.claimer.hand_in(entry)
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
        if not await self.claimer.retire(entry, term) and not entry.in_flight.executing:
            self.cache.retry(entry.uid)

    # -- what the reflector reports -----------------------------------------------------------------

    def upsert(self, request: NotificationRequest, *, first_seen_by_watch: bool) -> None:
        """Take a version of an object; only a new or later one leads to work."""
        self.on_shown(request)
        entry = self.cache.entries.get(request.uid)
        if entry is not None:
            self._update(entry, request)
            return
        if request.status.terminal and not (first_seen_by_watch and self._suspect(request)):
            # One that was journaled is claimed too, once its log is there (`Sweeps.journaled`).
            self.cache.sum_up(request)
            return
        # Its status has been wiped: where attempts are journaled, nothing else says what was sent.
        wiped = request.uid in self.cache.finished
        self.cache.finished.pop(request.uid, None)
        term = self.ownership.term_of(request.uid)
        # A lagging watch shows objects as they were before the lease term, when a predecessor may have
        # published: only a version newer than the acquiring Lease write is certainly new.
        fresh = (
            first_seen_by_watch
            and not wiped
            and not request.status.phase
            and term is not None
            and version_key(request.resource_version) > version_key(term.epoch.partition(".")[2])
        )
        self.cache.entries[request.uid] = Notification(request, fresh=fresh, doubtful=wiped)
        self.cache.check(request.uid)

    def _suspect(self, request: NotificationRequest) -> bool:
        """Whether a final phase has to be compared with the log: others may have written it."""
        about = self.recorder.evidence.of(request.uid)
        ours = self.ownership.term_of(request.uid) is not None
        known = about.protected or request.uid in self.cache.finished
        return ours and not known and request.created >= about.adopted_before

    def _update(self, entry: Notification, request: NotificationRequest) -> None:
        known = entry.request.resource_version
        if version_key(request.resource_version) <= version_key(known):
            return
        # Own writes come back with the version that the write returned; this is another client's write.
        if not request.raw and self.ownership.term_of(request.uid) is not None:
            # Only an outline, of an object that was gone for a while: claim it again, and read it.
            entry.shared()
            self.recorder.lose_claim(entry, "outline")
            self.cache.check(request.uid)
            return
        before = entry.request.status
        entry.observe(request)
        self.recorder.compare(entry, before)
        if entry.claim is not None:
            self.cache.mark_dirty(entry)
        self.cache.check(request.uid)

    def has(self, uid: str, resource_version: str) -> bool:
        """Whether this very version is known already, as after every own write."""
        entry = self.cache.entries.get(uid)
        if entry is not None:
            return entry.request.resource_version == resource_version
        finished = self.cache.finished.get(uid)
        return finished is not None and finished.resource_version == resource_version

    def delete(
        self,
        uid: str,
        namespace: str,
        name: str,
        last: Callable[[], NotificationRequest | Unreadable] | None = None,
    ) -> None:
        """Cancel a notification: nothing more is sent, and attempts under way are still recorded."""
        del namespace, name
        summary = self.cache.finished.pop(uid, None)
        if summary is not None and summary.journaled and last is not None:
            # Nothing else has its attempts, until its log does.
            self._keep(last())
        entry = self.cache.entries.get(uid)
        if entry is not None:
            entry.gone()
            self.cache.check(uid)

    def _keep(self, gone: NotificationRequest | Unreadable) -> None:
        if isinstance(gone, Unreadable):
            return
        about = self.recorder.evidence.of(gone.uid)
        if not (about.protected or about.marked):
            return
        entry = self.cache.entries[gone.uid] = Notification(gone, deleted=True)
        entry.learn([fitting(attempt) for attempt in gone.status.attempts])
        plan = missing_plan(entry.view, gone.status)
        entry.learn((), read_plan(plan) if plan else None)
        self.cache.check(gone.uid)

    def release(self, uid: str) -> bool:
        """
        Forget a notification whose shard is no longer ours, although its object exists.

        Returns:
            False while a task works on it, or while its results are not recorded anywhere: it is kept.
        """
        self.cache.finished.pop(uid, None)
        entry = self.cache.entries.get(uid)
        if entry is None:
            return True
        if entry.busy or entry.in_flight.unrecorded:
            entry.epochs()
            self.cache.check(uid)
            return False
        self.cache.forget(uid)
        return True
