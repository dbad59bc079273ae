"""
The border of the record: all that the notifier knows of this package, and may ask of it.

What is to be decided about a notification begins with `ready`: its log is claimed and read, or it is said
why it cannot be. `freeze` puts its plan on record, `note` why a due attempt is not made, and an `attempt`
is a context: its intent is recorded on notification, its outcome on exit. Whatever else changes in a
notification, this package changes; it asks for the next decision by three hooks of the cache (`check`,
`check_at`, `retry`).

The reflector reports that an object is new, has changed, is gone, or is followed by another replica
(`upsert`, `delete`, `release`). Such a call only updates the cache and requests a check. It ignores events
without news: the version that an own write returned, and objects that have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from syncer.kube.notification_requests import Unreadable
from syncer.model.resource import NotificationRequest, version_key
from syncer.rules.restore import fitting, missing_plan
from syncer.sync.attempts import Outcomes, Permit
from syncer.sync.cache import Cache, Finished
from syncer.sync.claim import Ready
from syncer.sync.notification import Notification

__all__ = ["Cache", "Finished", "Notification", "Notifications", "Permit", "Ready"]


@dataclass(eq=False)
class Notifications:
    """The notifications of this process, and their record; see `syncer.kube.reflector.Sink`."""

    outcomes: Outcomes
    #: Called with each version of an object that is handed over.
    on_shown: Callable[[NotificationRequest], None] = lambda _: None

    def __post_init__(self) -> None:
        """Show what it is made of, and have each call go straight to what carries it out."""
        self.claimer, self.journal = self.outcomes.claimer, self.outcomes.journal
        self.recorder, self.ownership = self.claimer.recorder, self.claimer.ownership
        self.cache, self.time = self.recorder.cache, self.recorder.time
        self.ready, self.accepts, self.may_open = (
            self.claimer.ready, self.claimer.accepts, self.claimer.may_open,
        )  # fmt: skip
        self.freeze, self.note = self.recorder.freeze, self.recorder.note
        self.attempt, self.give_up = partial(Permit, self.outcomes), self.outcomes.give_up

    # -- what the reflector reports -----------------------------------------------------------------

    def upsert(self, request: NotificationRequest, *, first_seen_by_watch: bool) -> None:
        """Take a version of an object; only a new or later one leads to work."""
        self.on_shown(request)
        notification = self.cache.entries.get(request.uid)
        if notification is not None:
            self._update(notification, request)
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
        self.cache.entries[request.uid] = Notification(
            request, fresh=fresh, doubtful=wiped, reopened=wiped
        )
        self.cache.check(request.uid)

    def _suspect(self, request: NotificationRequest) -> bool:
        """Whether a final phase has to be compared with the log: others may have written it."""
        about = self.recorder.evidence.of(request.uid)
        ours = self.ownership.term_of(request.uid) is not None
        known = about.protected or request.uid in self.cache.finished
        return ours and not known and request.created >= about.adopted_before

    def _update(self, notification: Notification, request: NotificationRequest) -> None:
        known = notification.request.resource_version
        if version_key(request.resource_version) <= version_key(known):
            return
        # Own writes come back with the version that the write returned; this is another client's write.
        if not request.raw and self.ownership.term_of(request.uid) is not None:
            # Only an outline, of an object that was gone for a while: claim it again, and read it.
            notification.shared()
            self.recorder.lose_claim(notification, "outline")
            self.cache.check(request.uid)
            return
        before = notification.request.status
        notification.observe(request)
        self.recorder.compare(notification, before)
        if notification.claim is not None:
            self.cache.mark_dirty(notification)
        self.cache.check(request.uid)

    def has(self, uid: str, resource_version: str) -> bool:
        """Whether this very version is known already, as after every own write."""
        notification = self.cache.entries.get(uid)
        known = notification.request if notification else self.cache.finished.get(uid)
        return known is not None and known.resource_version == resource_version

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
        notification = self.cache.entries.get(uid)
        if notification is not None:
            notification.gone()
            self.cache.check(uid)

    def _keep(self, gone: NotificationRequest | Unreadable) -> None:
        about = self.recorder.evidence.of(gone.uid)
        if isinstance(gone, Unreadable) or not (about.protected or about.marked):
            return
        notification = self.cache.entries[gone.uid] = Notification(gone, deleted=True)
        notification.learn(
            [fitting(attempt) for attempt in gone.status.attempts],
            missing_plan(notification.view, gone.status),
        )
        self.cache.check(gone.uid)

    def release(self, uid: str) -> bool:
        """
        Forget a notification whose shard is no longer ours, although its object exists.

        Returns:
            False while a task works on it, or while its results are not recorded anywhere: it is kept.
        """
        notification = self.cache.entries.get(uid)
        if notification is not None and (notification.busy or notification.in_flight.unrecorded):
            notification.epochs()
            self.cache.check(uid)
            return False
        self.cache.forget(uid)
        return True
