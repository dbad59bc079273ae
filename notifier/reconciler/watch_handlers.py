"""
What the reflector reports: an object is new, has changed, is gone, or is followed by another replica.

A handler only updates the cache and wakes the reconciler. It ignores events without news: the version
that an own write returned, and objects that have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from notifier.dispatch.workqueue import WorkQueue
from syncer.kube.notification_requests import Unreadable
from syncer.model.ports import Ownership
from syncer.model.record import read_plan
from syncer.model.resource import NotificationRequest, version_key
from syncer.rules.restore import fitting, missing_plan
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification
from syncer.sync.recorder import Recorder


@dataclass(eq=False)
class WatchHandlers:
    """Turns versions of objects into keys of the work queue; see `syncer.kube.reflector.Sink`."""

    cache: Cache
    queue: WorkQueue
    recorder: Recorder
    ownership: Ownership
    #: Called with each version of an object that is handed over.
    on_shown: Callable[[NotificationRequest], None] = lambda _: None

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
        self.queue.add(request.uid)

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
            self.queue.add(request.uid)
            return
        before = entry.request.status
        entry.observe(request)
        self.recorder.compare(entry, before)
        if entry.claim is not None:
            self.cache.mark_dirty(entry)
        self.queue.add(request.uid)

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
            self.queue.add(uid)

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
        self.queue.add(gone.uid)

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
            self.queue.add(uid)
            return False
        self.cache.forget(uid)
        return True
