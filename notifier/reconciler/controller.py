"""
The delivery controller: looks at one notification, decides, and has it done.

`reconcile(uid)` is level-triggered and serial per notification: it reads what is known now (object,
fold of the log, due times, what is executing), asks the plan, and starts attempts or sets an alarm.
`attempt(uid, channel)` runs in a lane and is one attempt from beginning to end:

    deadline check, INTENT, deadline check, send, OUTCOME

Between an accepted INTENT and its OUTCOME every way out writes something: sent and answered, sent and
unclear, not sent after all. So does an INTENT whose answer was lost: nothing was sent for it, which is
recorded whether the log has the intent or not, and until then its channel waits. Only the end of the
process leaves an open intent, and the next owner settles that one as unknown.

What was not sent uses up no attempt (`syncer.rules.channel_state.counts`) and has a back-off of its own.

Cancellation passes through a send, but not through the recording of its result: that is shielded, and
the drain waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final, Protocol

from notifier.content.message import compose
from notifier.content.sanitise import sanitise
from notifier.contract import Channel, Message, Outcome
from notifier.dispatch.breaker import refusal
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.retry import next_delay, unsent_delay
from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.router import Router
from syncer.ledger.log import Answer, Appended
from syncer.metrics import (
    EPOCH_AHEAD,
    FENCED,
    NO_LOG,
    NOT_SENT,
    ON_HOLD,
    PAUSED,
    QUARANTINED,
    SELF_AUDIT,
)
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass, attempt_epoch
from syncer.model.conditions import ATTEMPTS_NOT_SENT, bounded, find_condition
from syncer.model.errors import PortError
from syncer.model.ports import LeaseTerm, Ownership
from syncer.model.record import LOG_ERROR_BYTES, Record, read_attempt
from syncer.model.resource import (
    Json,
    NotificationRequest,
    Spec,
    Status,
    render_status,
    version_key,
)
from syncer.rules.channel_state import State, counts, unsent_run
from syncer.rules.merge import Facts, channel_states_of, merge
from syncer.rules.plan import (
    Await,
    Decision,
    Deliver,
    Finish,
    GiveUp,
    Resolve,
    WaitUntil,
    Withhold,
    decide,
    hold_of,
    stale_of,
)
from syncer.rules.reconcile import Action
from syncer.rules.restore import highest_epoch
from syncer.rules.resync import Look
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.runtime.offload import SMALL, Breath, offload
from syncer.sync.cache import Cache, Entry, summary
from syncer.sync.claim import Reconciler, abandoned
from syncer.sync.recorder import Recorder

logger = logging.getLogger("ledger.delivery")

#: A send that has not ended this long after its channel's own timeout is given up as unknown.
_GRACE: Final = 2.0
#: Seconds between looks at a server that must not be given attempts.
_UNFIT_PAUSE: Final = 5.0
#: Seconds in which a large message must be composed, those before it included.
_COMPOSE: Final = 10.0
#: Large notifications whose cleaned specs are kept.
_SHOWN: Final = 16
#: Characters of an annotation that are looked at; a hundred are shown.
_NOTE_CHARS: Final = 1024
#: Words of a channel's state in a status that say that nothing more is due.
_FINISHED: Final = frozenset(s.value for s in State if s.finished)


class Hooks(Protocol):
    """Who wants to know of decisions: events, metrics of upstream's names."""

    def started(self, request: NotificationRequest) -> None:
        """A notification is looked at for the first time in this tenure."""
        ...

    def attempted(
        self, request: NotificationRequest, attempt: Attempt, before: Attempt | None
    ) -> None:
        """An attempt was made and its result recorded; `before` is the channel's earlier one."""
        ...

    def doubted(
        self, request: NotificationRequest, channels: tuple[str, ...], doubts: tuple[str, ...]
    ) -> None:
        """A notification was routed, perhaps not where the routing file means to send it."""
        ...

    def denied(self, request: NotificationRequest, channel: str, why: str) -> None:
        """The receiver of a channel takes nothing of the notification's namespace."""
        ...

    def postponed(self, request: NotificationRequest, channel: str, why: str, made: int) -> None:
        """A due attempt waits for its receiver's breaker; `made` attempts were made before."""
        ...


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """
    Bounds of delivery.

    Attributes:
        at_most_once: Stop at an attempt whose result is unknown.
        max_age: Seconds after which a notification is not sent any more, 0 for no limit.
        outcome_patience: Seconds for which an outcome is held in memory while Redis is away.
        identity: Of this process, for upstream's events.
    """

    at_most_once: bool = False
    max_age: float = 0.0
    outcome_patience: float = 7 * 86400.0


class Controller:
    """Decides and delivers for every notification in the cache."""

    def __init__(  # noqa: PLR0913 (wiring: each is a part or a number of its own)
        self,
        *,
        cache: Cache,
        queue: WorkQueue,
        recorder: Recorder,
        reconciler: Reconciler,
        ownership: Ownership,
        router: Router,
        hooks: Hooks,
        metrics: DeliveryMetrics,
        settings: DeliverySettings,
        dispatcher: Callable[[Controller], Dispatcher],
        jitter: Callable[[], float] = lambda: random.uniform(-1.0, 1.0),  # noqa: S311 - jitter
    ) -> None:
        """`jitter` is uniform in [-1, 1); `dispatcher` makes the lanes that run `attempt`."""
        self.cache = cache
        self.queue = queue
        self.recorder = recorder
        recorder.in_doubt = self._settle_doubt
        self.reconciler = reconciler
        self.ownership = ownership
        self.router = router
        self.hooks = hooks
        self.metrics = metrics
        self.settings = settings
        self.jitter = jitter
        self.dispatcher = dispatcher(self)
        self.draining = False
        #: Deliveries are held back, for all notifications.
        self.paused = False
        #: Notifications whose log carries a later epoch, and since when.
        self.fenced: dict[str, float] = {}
        #: Those whose status names one that their log does not know. Whoever may write a status can
        #: bring that about, so it is held against the one object alone.
        self.distrusted: set[str] = set()
        #: Attempts whose result is known and being recorded, by the task that does it.
        self.recording: dict[asyncio.Task[None], AttemptId] = {}
        #: What is shown of large notifications that were composed lately: their channels share it.
        self._shown: dict[tuple[str, int], Spec] = {}
        #: Why Redis must not be given attempts, as it was last said.
        self._unfit: str | None = None

    # -- what the reflector reports -------------------------------------------------------------

    def upsert(self, request: NotificationRequest, *, first_seen_by_watch: bool) -> None:
        """Take a version of an object; only what is news leads to work."""
        entry = self.cache.entries.get(request.uid)
        if entry is None:
            if request.status.terminal:
                self.cache.finished[request.uid] = summary(request)
                return
            self.cache.finished.pop(request.uid, None)
            term = self.ownership.term_of(request.uid)
            # A watch that lags shows objects as they were before the tenure, when its predecessor
            # may have published: only what is newer than the acquiring Lease write is news.
            fresh = (
                first_seen_by_watch
                and not request.status.phase
                and term is not None
                and version_key(request.resource_version)
                > version_key(term.epoch.partition(".")[2])
            )
            self.cache.entries[request.uid] = Entry(request, fresh=fresh)
            self.queue.add(request.uid)
            return
        known = entry.request.resource_version
        if version_key(request.resource_version) > version_key(known):
            # Ours come back with the version that the write returned; this is somebody else's.
            if not request.raw and self.ownership.term_of(request.uid) is not None:
                # Only an outline, of an object that went and came back: claim it anew, and read it.
                entry.fresh = False
                self.recorder.lose_claim(entry, "outline")
                self.queue.add(request.uid)
                return
            entry.observe(request)
            if (
                request.status.terminal
                and self.ownership.term_of(request.uid) is None
                and not entry.busy
            ):
                # Another replica has finished it; what its log still needs is that one's business.
                self.cache.retire(entry)
                return
            if entry.claim is not None:
                self.cache.mark_dirty(entry)
            self.queue.add(request.uid)

    def has(self, uid: str, resource_version: str) -> bool:
        """Whether this very version is known already, as that of each own write is."""
        entry = self.cache.entries.get(uid)
        if entry is not None:
            return entry.request.resource_version == resource_version
        finished = self.cache.finished.get(uid)
        return finished is not None and finished.resource_version == resource_version

    def delete(self, uid: str, namespace: str, name: str) -> None:
        """Deleting is cancelling: nothing more is sent, what is on the wire is still recorded."""
        del namespace, name
        self.cache.finished.pop(uid, None)
        self.fenced.pop(uid, None)
        self.distrusted.discard(uid)
        entry = self.cache.entries.get(uid)
        if entry is not None:
            entry.deleted = True
            self.cache.clean(entry)
            self.queue.add(uid)

    def on_started_leading(self, ours: Callable[[str], bool]) -> int:
        """
        Look anew, under a new epoch, at what is ours; how many notifications are unfinished.

        What an earlier tenure saw for the first time may have been published by others since.
        """
        mine = [e for e in self.cache.entries.values() if ours(e.uid)]
        # What has waited longest first: after a long absence thousands may have to be claimed.
        for entry in sorted(mine, key=_expected):
            entry.fresh = False
            self.queue.add(entry.uid)
        return len(mine)

    def pause(self, paused: bool) -> None:
        """Hold all deliveries back, or let them go on; attempts under way end as they do."""
        if paused != self.paused:
            self.paused = paused
            logger.warning("deliveries are paused" if paused else "deliveries go on")
            self.look_at_all()

    def look_at_all(self) -> None:
        """Look anew at every live notification: what holds for all of them has changed."""
        for uid in self.cache.entries:
            self.queue.add(uid)

    def unclaimed(self) -> int:
        """How many live notifications of ours have not been claimed, and nothing says why."""
        return sum(
            entry.claim is None
            and not entry.quarantine
            and uid not in self.fenced
            and uid not in self.distrusted
            and self.ownership.term_of(uid) is not None
            for uid, entry in self.cache.entries.items()
        )

    def fence_problem(self, patience: float) -> str | None:
        """
        Say that logs carry a later epoch than ours although we have owned them for long enough.

        A short while after a takeover the old owner meets fences too; what lasts is a cluster whose
        resourceVersions have fallen back. Logs alone are evidence of that, since only a claim writes
        their epoch; what statuses name is none. One log among others that can be claimed is a matter
        of its own, and held as such: it takes two, or that nothing can be claimed.
        """
        now = self.cache.monotonic()
        ours = {
            uid: entry
            for uid, entry in self.cache.entries.items()
            if self.ownership.term_of(uid) is not None
        }
        # What is another's or over by now, is in the right hands.
        self.fenced = {uid: since for uid, since in self.fenced.items() if uid in ours}
        self.distrusted &= ours.keys()
        lasting = sum(now - since > patience for since in self.fenced.values())
        if not lasting or (lasting == 1 and any(e.claim is not None for e in ours.values())):
            return None
        return (
            f"{lasting} log(s) in Redis carry a later epoch than this cluster gives out; after a"
            " restore of etcd or a move, raise sharding.incarnation"
        )

    async def quiesce(self, ours: Callable[[str], bool], seconds: float) -> bool:
        """
        Wait until nothing of ours is under way that can end; False if that takes too long.

        That is: no send is on the wire, its result is in the log, and the status is written. What is
        backing off is not waited for: a status that the API server refuses, or a result that Redis
        cannot take. The log, or the result when it comes, tells the next owner of either.

        New work must have been stopped by then (`Ownership.accepts`).
        """
        deadline = self.cache.monotonic() + seconds
        while self.cache.monotonic() < deadline:
            mine = [e for e in self.cache.entries.values() if ours(e.uid)]
            for entry in mine:
                if entry.dirty_since is not None and not (entry.failures or entry.urgent):
                    self.cache.mark_dirty(entry, urgent=True)
            held_up = frozenset() if self.recorder.log.available else {*self.recording.values()}
            if not any(_under_way(e, held_up) for e in mine):
                return True
            await asyncio.sleep(0.05)
        return False

    def _accepts(self, uid: str) -> bool:
        return not self.draining and self.ownership.accepts(uid)

    # -- deciding -------------------------------------------------------------------------------

    async def work(self) -> None:
        """One worker: handle keys until cancelled."""
        while True:
            uid = await self.queue.get()
            try:
                decided = await self.reconcile(uid) is not None
                if decided or uid not in self.cache.entries:
                    # What was put off without a decision keeps its growing wait.
                    self.queue.succeeded(uid)
            except asyncio.CancelledError:
                raise
            except PortError as error:
                wait = self.queue.retry(uid)
                logger.info(
                    "a notification waits",
                    extra={"uid": uid, "error": str(error), "seconds": round(wait, 1)},
                )
            except Exception:
                # A poison object costs its own turn, with a growing wait, and nobody else's.
                logger.exception("a notification could not be handled", extra={"uid": uid})
                self.queue.retry(uid)
            finally:
                self.queue.done(uid)

    async def reconcile(self, uid: str) -> Decision | None:
        """
        Look at one notification and start what is due.

        Whoever returns or raises without a decision leaves `entry.look` empty, and the resync has it
        looked at again: no way out of here has to see to that by itself.

        Raises:
            PortError: Redis or the API server did not answer; look again later.
        """
        entry = self.cache.entries.get(uid)
        term = self.ownership.term_of(uid)
        if entry is not None:
            entry.look = None
        if entry is None or term is None or not self._accepts(uid):
            if entry is not None and term is None and entry.unrecorded:
                await self.recorder.record_kept(entry)
                if not entry.unrecorded:
                    await self.recorder.wake_owner(uid)
            self._forget_stranger(entry, term)
            return None
        if not term.valid(self.cache.monotonic()):
            # It may be valid again without another term: the answer to a renewal was lost, not the renewal.
            return None
        return await self._look_at(entry, term)

    async def _look_at(self, entry: Entry, term: LeaseTerm) -> Decision | None:
        if entry.deleted:
            await self._let_go(entry, term)
            return None
        if not self.recorder.claim_holds(entry, term) and not await self._claim(entry, term):
            return self._unclaimed(entry)
        if entry.reread:
            await self._reread(entry)
        if abandoned(entry):
            # An INTENT of ours that its caller had given up came in late: only a claim settles it.
            self.recorder.lose_claim(entry, "abandoned")
            if not await self._claim(entry, term):
                return self._unclaimed(entry)
            if abandoned(entry):
                # It could not be settled: looked at again, but not at once and for ever.
                self.queue.retry(entry.uid)
                return None
        if stopped := _stopped(entry):
            return self._looked(entry, Await(stopped))
        decision = self._decide(entry)
        if isinstance(decision, Resolve):
            if not entry.request.specified:
                return self._looked(entry, Await("the object has no spec yet"))
            await self._freeze(entry)
            decision = self._decide(entry)
        postponed = self._perform(entry, decision)
        self._looked(entry, decision)
        for channel in postponed:
            await self._postponed(entry, channel)
        await self._put_on_record(entry, term, decision)
        return decision

    def _looked(self, entry: Entry, decision: Decision) -> Decision:
        """Note a look that came to a decision, when the next one is wanted, and in whose hands it is."""
        by: float | None = None
        started: tuple[str, ...] = ()
        match decision:
            case Deliver(channels, then, _) | GiveUp(channels, then, _):
                by, started = then, channels
            case Withhold(_, then, _):
                by = then
            case WaitUntil(at, _):
                by = at
            case Await() | Finish() | Resolve():
                pass
        entry.look = Look(
            at=self.cache.monotonic(),
            by=math.inf if by is None else by,
            version=entry.request.resource_version,
            position=entry.view.position,
            channels=tuple(dict.fromkeys((*started, *entry.executing.values()))),
        )
        entry.asked = 0.0
        return decision

    def blocked(self, entry: Entry) -> str:
        """What keeps an entry from being claimed and is known, empty if nothing does."""
        if entry.quarantine:
            return "its log cannot be read"
        if entry.uid in self.fenced:
            return "its log belongs to a later epoch"
        if entry.uid in self.distrusted:
            return "its status names an epoch that its log does not know"
        return "its object cannot be read" if entry.unreadable else ""

    def _unclaimed(self, entry: Entry) -> Decision | None:
        why = self.blocked(entry)
        decision = self._looked(entry, Await(why)) if why else None
        # What may be over soon is tried again with a growing wait as well, which this is no end of.
        return None if entry.unreadable else decision

    def _forget_stranger(self, entry: Entry | None, term: LeaseTerm | None) -> None:
        if entry is None or term is not None or entry.busy:
            return
        if entry.deleted:
            # Its log is another's to let go; should that one not come to it, a sweep finds it.
            self.cache.forget(entry.uid)
        elif entry.request.status.terminal:
            # Another replica has finished it; what its log still needs is that one's business.
            self.cache.retire(entry)

    async def _reread(self, entry: Entry) -> None:
        known = entry.view.position
        await self.recorder.reread(entry)
        if entry.view.position != known:
            self.cache.mark_dirty(entry)

    async def _claim(self, entry: Entry, term: LeaseTerm) -> bool:
        first = entry.claim is None and entry.view.position == 0
        verdict = await self.reconciler.claim(entry, term)
        logger.debug(
            "claimed", extra={"uid": entry.uid, "rows": verdict.rows, "says": verdict.says}
        )
        if Action.STOP in verdict:
            if entry.uid not in self.fenced:
                # Once: after a restore of etcd it may be every one of them, every half minute.
                logger.error(
                    "the log belongs to a later epoch; if etcd was restored, raise"
                    " sharding.incarnation",
                    extra={"uid": entry.uid, "object": entry.request.key, "epoch": term.epoch},
                )
            self.metrics.fenced_notifications.inc()
            self.fenced.setdefault(entry.uid, self.cache.monotonic())
            return False
        self.fenced.pop(entry.uid, None)
        if Action.DISTRUST in verdict:
            if entry.uid not in self.distrusted:
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
            self.distrusted.add(entry.uid)
            return False
        self.distrusted.discard(entry.uid)
        if Action.ORPHAN in verdict:
            await self._let_go(entry, term)
            return False
        entry.unreadable = Action.HOLD in verdict
        if entry.unreadable:
            self.queue.retry(entry.uid)
            return False
        if Action.NOTHING in verdict and not entry.busy:
            self.cache.retire(entry)
            return False
        if entry.claim is None:
            if not entry.quarantine:
                self.queue.retry(entry.uid)
            return False
        entry.fresh = False
        if first and not entry.request.status.terminal and not entry.cancelled:
            self.hooks.started(entry.request)
        return True

    async def _let_go(self, entry: Entry, term: LeaseTerm) -> None:
        if not await self.reconciler.retire(entry, term) and not entry.executing:
            self.queue.retry(entry.uid)

    def _decide(self, entry: Entry, *, idle: AbstractSet[str] = frozenset()) -> Decision:
        view, status, hold = entry.view, entry.request.status, entry.request.hold
        # Cleaned beyond what is shown: a secret of which only the head is shown must be recognised too.
        hold = None if hold is None else sanitise(hold[:_NOTE_CHARS])
        return decide(
            planned=view.plan is not None,
            terminal=status.terminal or entry.closing,
            channel_states=channel_states_of(view, status, self._facts(entry)),
            executing=frozenset(entry.executing.values()) - idle,
            due=entry.due,
            now=self.cache.monotonic(),
            ordered=entry.ordered,
            held=hold_of(hold, paused=self.paused),
            # The API server's time, which `created` is of, or Redis's if that is earlier.
            stale=stale_of(
                entry.request.created, self.recorder.time.certain(), self.settings.max_age
            ),
        )

    def _facts(self, entry: Entry) -> Facts:
        request = entry.request
        return Facts(request.generation, request.policy, self.settings.at_most_once)

    async def _freeze(self, entry: Entry) -> None:
        """Have the channels chosen, and put on record."""
        plan, doubts = await self.router.plan(entry.request, self.recorder.time.now())
        await self.recorder.plan(entry, plan)
        if doubts:
            self.hooks.doubted(entry.request, plan.channels, doubts)

    def _perform(self, entry: Entry, decision: Decision) -> list[str]:
        """Do what was decided; returns the channels whose breaker makes a due attempt wait."""
        postponed = []
        match decision:
            case Deliver(channels, then, _):
                for channel in channels:
                    held = self.dispatcher.submit(
                        entry.uid,
                        channel,
                        due=entry.due.get(channel, self.cache.monotonic()),
                        priority=entry.request.priority,
                        namespace=entry.request.namespace,
                        tried=sum(map(counts, entry.view.of_channel(channel))),
                    )
                    if held is not None:
                        postponed.append(channel)
                if then is not None:
                    self.queue.add_at(entry.uid, then)
            case Withhold(_, then, _) | GiveUp(_, then, _):
                # What holds it back says so when it ends; only other due times need an alarm.
                if then is not None:
                    self.queue.add_at(entry.uid, then)
            case WaitUntil(at, _):
                self.queue.add_at(entry.uid, at)
            case Finish():
                self.cache.mark_dirty(entry, urgent=True)
            case Await() | Resolve():
                pass
        return postponed

    async def _put_on_record(self, entry: Entry, term: LeaseTerm, decision: Decision) -> None:
        """What a decision not to send leaves in the log."""
        match decision:
            case Withhold(channels, _, why):
                for channel in channels:
                    await self._say(entry, channel, why)
            case GiveUp(channels, _, why):
                for channel in channels:
                    await self._give_up(entry, term, channel, why)
            case _:
                pass

    async def _postponed(self, entry: Entry, channel: str) -> None:
        """Say once why an attempt is not made yet; it waits in its lane, and none is consumed."""
        why = refusal(channel)
        if entry.view.last_skip.get(channel) == why:
            return
        if await self._say(entry, channel, why):
            made = sum(map(counts, entry.view.of_channel(channel)))
            self.hooks.postponed(entry.request, channel, why, made)

    async def _say(self, entry: Entry, channel: str, why: str) -> bool:
        """Put on record, once, why a due attempt is not made; False if Redis did not answer."""
        try:
            await self.recorder.skip(entry, channel, why)
        except PortError:
            return False
        return True

    async def _give_up(self, entry: Entry, term: LeaseTerm, channel: str, why: str) -> None:
        """
        End a channel that is not to be tried any more, by an attempt that certainly is not sent.

        So the end is on record like any other, and every reader of the log or the status sees why.
        """
        await self._say(entry, channel, why)
        if not self.recorder.claim_holds(entry, term):
            return
        try:
            answer, intent = await self.recorder.open(
                entry, term, channel, limit=self._limit(entry, channel)
            )
        except PortError:
            self.recorder.lose_claim(entry, "intent")
            raise
        if not _permits(answer):
            await self._refused(entry, channel, intent, answer)
            return
        logger.info(
            "a notification is given up",
            extra={"uid": entry.uid, "object": entry.request.key, "channel": channel, "why": why},
        )
        self._keep(entry, channel, intent, Outcome.permanent(why), 0.0)

    def note_holds(self, *, available: bool, notice: float) -> None:
        """
        Have the status of objects whose due attempt waits for the log say so, and stop saying so.

        Args:
            available: Whether attempts can be opened.
            notice: Seconds of waiting from which on it is said.
        """
        now = self.cache.monotonic()
        for entry in self.cache.entries.values():
            ours = self.ownership.term_of(entry.uid) is not None
            waiting = ours and not available and not entry.cancelled and self._is_due(entry)
            if not waiting:
                entry.held_since = 0.0
                if entry.held:
                    entry.held = False
                    self.cache.mark_dirty(entry)
                continue
            entry.held_since = entry.held_since or now
            if not entry.held and now - entry.held_since >= notice:
                entry.held = True
                self.cache.mark_dirty(entry)

    def holds(self) -> Counter[str]:
        """How many unfinished notifications of ours are held, by the reason."""
        found: Counter[str] = Counter()
        for entry in self.cache.entries.values():
            if entry.cancelled or (entry.request.status.terminal and not entry.quarantine):
                continue
            if self.ownership.term_of(entry.uid) is not None:
                found[self._held_for(entry)] += 1
        del found[""]
        return found

    def _held_for(self, entry: Entry) -> str:
        if entry.quarantine:
            return QUARANTINED
        if entry.violation:
            return SELF_AUDIT
        if entry.uid in self.fenced:
            return FENCED
        if entry.uid in self.distrusted:
            return EPOCH_AHEAD
        if entry.held_since:
            return NO_LOG
        if find_condition(entry.request.status.conditions, ATTEMPTS_NOT_SENT):
            return NOT_SENT
        if hold_of(entry.request.hold, paused=False):
            return ON_HOLD
        return PAUSED if self.paused else ""

    def oldest_due(self) -> float:
        """Seconds for which the longest waiting due attempt of ours has been due, 0 if none is."""
        now = self.recorder.time.now()
        oldest = 0.0
        for entry in self.cache.entries.values():
            if entry.cancelled or self.ownership.term_of(entry.uid) is None:
                continue
            oldest = max(oldest, self._overdue(entry, now, oldest))
        return oldest

    def _overdue(self, entry: Entry, now: int, least: float) -> float:
        """How long an entry has an attempt due; anything if that is not more than `least`."""
        view, request = entry.view, entry.request
        if request.status.terminal or hold_of(request.hold, paused=self.paused):
            return 0.0
        if entry.claim is None or view.plan is None:
            # Not looked at yet: its first attempt is due since it was created; a later one since
            # its object says so.
            return (now - (_expected(entry) or request.created)) / 1000
        since: dict[str, int] = {}
        # One that asks the log for permission waits for it: nothing of it is under way.
        executing = {c for i, c in entry.executing.items() if i not in entry.never_sent}
        for channel in view.plan.channels:
            tried = view.of_channel(channel)
            # By the log, not by the alarms: those are moved on by whatever holds an attempt up.
            at = next((a.due for a in reversed(tried) if not a.open), request.created)
            if at and channel not in executing and (now - at) / 1000 > least:
                since[channel] = at
        if not since:
            return 0.0
        channel_states = channel_states_of(view, request.status, self._facts(entry))
        unfinished = {s.channel for s in channel_states if not s.state.finished}
        return max(((now - at) / 1000 for c, at in since.items() if c in unfinished), default=0.0)

    def _is_due(self, entry: Entry) -> bool:
        if entry.request.status.terminal or entry.quarantine:
            return False
        if entry.claim is None and entry.view.position == 0:
            return _shows_due(entry.request.status, self.recorder.time.now())
        # An attempt that still asks the log for permission holds its channel up like any other.
        asking = {c for i, c in entry.executing.items() if i in entry.never_sent}
        return isinstance(self._decide(entry, idle=asking), Deliver | Resolve)

    # -- one attempt ----------------------------------------------------------------------------

    async def attempt(self, uid: str, channel: str) -> Outcome | None:
        """
        Make one attempt, if it is still to be made.

        Everything is looked at anew: between the decision and the lane's turn the object may have
        been deleted, the tenure lost, or another attempt made.

        Returns:
            What it came to, None if it was not made.
        """
        entry = self.cache.entries.get(uid)
        term = self.ownership.term_of(uid)
        if entry is None or term is None or not self._accepts(uid):
            return None
        if not self._still_due(entry, term, channel):
            self.queue.add(uid)
            return None
        if not self._fit():
            # Its due time stays: what is held by the log is due all the same.
            self.queue.add_at(uid, self.cache.monotonic() + _UNFIT_PAUSE)
            return None
        hold = self.router.hold(channel)
        if hold is not None:
            entry.due[channel] = self.cache.monotonic() + hold.seconds
            self.queue.add_at(uid, entry.due[channel])
            with contextlib.suppress(PortError):
                await self.recorder.skip(entry, channel, hold.reason)
            return None
        sender = self.router.channel(channel)
        timeout = sender.timeout_s if sender else 0.0
        if not term.may_send(self.cache.monotonic(), timeout):
            self.queue.add_at(uid, self.cache.monotonic() + 0.5)
            return None
        failpoint(Failpoint.BEFORE_INTENT)
        try:
            answer, intent = await self.recorder.open(
                entry, term, channel, limit=self._limit(entry, channel)
            )
        except PortError as error:
            # Where the intent may be recorded, `in_doubt` has it settled as not sent.
            self.recorder.lose_claim(entry, "intent")
            wait = self.queue.retry(uid)
            logger.warning(
                "an attempt is held: the log does not answer",
                extra={"uid": uid, "channel": channel, "error": str(error), "seconds": wait},
            )
            return None
        if not _permits(answer):
            await self._refused(entry, channel, intent, answer)
            return None
        failpoint(Failpoint.AFTER_INTENT)
        outcome = Outcome.not_sent("cancelled before it was sent")
        began = self.cache.monotonic()
        try:
            if answer.confirmed:
                outcome = await self._send(entry, term, channel, sender, intent)
            else:
                outcome = Outcome.not_sent("no replica of the log confirmed the attempt in time")
            failpoint(Failpoint.AFTER_SEND)
        except asyncio.CancelledError:
            if intent.attempt_id not in entry.never_sent:
                outcome = Outcome.unknown("the process ended while waiting for an answer")
            raise
        finally:
            # Cancelling the send must not cancel the record of it; `settle` waits for that, not we:
            # whoever cancels has a bound, and Redis may be away.
            kept = self._keep(entry, channel, intent, outcome, self.cache.monotonic() - began)
        await asyncio.shield(kept)
        return outcome

    def _fit(self) -> bool:
        """Whether Redis may be given attempts; a change is said once, not for each that is held."""
        unfit = self.recorder.log.unfit
        if unfit != self._unfit:
            self._unfit = unfit
            if unfit is not None:
                logger.error("attempts are held: Redis is not fit for them", extra={"why": unfit})
            else:
                logger.warning("Redis is fit for attempts again")
        return unfit is None

    def _keep(
        self, entry: Entry, channel: str, intent: Record, outcome: Outcome, seconds: float
    ) -> asyncio.Task[None]:
        """Have an outcome recorded, whatever becomes of the caller."""
        recording = asyncio.create_task(
            self._record(entry, channel, intent, outcome, seconds), name=f"record-{entry.uid}"
        )
        self.recording[recording] = intent.attempt_id
        recording.add_done_callback(self.recording.pop)
        return recording

    def _settle_doubt(self, entry: Entry, intent: Record) -> None:
        """Have it recorded that nothing was sent for an intent that the log may hold."""
        outcome = Outcome.not_sent("the log did not confirm the attempt, so it was not sent")
        self._keep(entry, intent.channel, intent, outcome, 0.0)

    async def settle(self, seconds: float) -> int:
        """Wait for outcomes that are being recorded; how many were left, and were given up."""
        if self.recording:
            await asyncio.wait(list(self.recording), timeout=seconds)
        left = list(self.recording)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)

    def _still_due(self, entry: Entry, term: LeaseTerm, channel: str) -> bool:
        if entry.cancelled or entry.violation or not self.recorder.claim_holds(entry, term):
            return False
        decision = self._decide(entry)
        return isinstance(decision, Deliver) and channel in decision.channels

    def _limit(self, entry: Entry, channel: str) -> int:
        """
        Largest number of attempts that the log may hold for a channel (argument of INTENT).

        The script counts ids and cannot see which of them left. So it is told what is there by the
        view that the decision rests on, and how many more the rule allows.
        """
        channel_states = channel_states_of(entry.view, entry.request.status, self._facts(entry))
        left = next((s.left for s in channel_states if s.channel == channel), 0)
        return len(entry.view.of_channel(channel)) + left

    async def _refused(self, entry: Entry, channel: str, intent: Record, answer: Appended) -> None:
        logger.info(
            "an attempt was not opened",
            extra={
                "uid": entry.uid,
                "object": entry.request.key,
                "channel": channel,
                "attempt": intent.id,
                "answer": answer.answer.value,
                "detail": answer.detail,
            },
        )
        if answer.answer in (Answer.DONE, Answer.EXHAUSTED, Answer.DUP):
            entry.reread = True
        else:
            self.recorder.lose_claim(entry, answer.answer.value.lower())
        self.queue.add(entry.uid)

    async def _send(  # noqa: PLR0911 (one answer for each thing that stops a send)
        self, entry: Entry, term: LeaseTerm, channel: str, sender: Channel | None, intent: Record
    ) -> Outcome:
        if sender is None:
            return Outcome.permanent(
                f"channel not registered: {channel} (DD-NOT-007: use RegisterChannel() to register)"
            )
        if why := self.router.denial(channel, entry.request.namespace):
            return Outcome.denied(why)
        try:
            message = await self._compose(entry, channel, intent, with_status=sender.shows_status)
        except ValueError as error:
            return Outcome.permanent(f"the message cannot be composed ({type(error).__name__})")
        except TimeoutError:
            return Outcome.not_sent("the message was not composed in time")
        if entry.cancelled:
            return Outcome.not_sent("the notification was deleted before it was sent")
        # The last look at the clock: nothing but the send itself may stand between it and the wire.
        if not term.may_send(self.cache.monotonic(), sender.timeout_s):
            return Outcome.not_sent("the lease would not have covered the send")
        self.recorder.sending(entry, intent.attempt_id)
        try:
            async with asyncio.timeout(sender.timeout_s + _GRACE):
                return await sender.send(message)
        except TimeoutError:
            return Outcome.unknown("the channel did not end within its own deadline")
        except Exception as error:
            logger.exception(
                "a channel raised; it must answer with an outcome",
                extra={"uid": entry.uid, "channel": channel, "attempt": intent.id},
            )
            return Outcome.unknown(f"the channel failed unexpectedly ({type(error).__name__})")

    def _owns(self, uid: str, attempt_id: AttemptId) -> bool:
        """Whether an attempt is of the tenure that holds now."""
        term = self.ownership.term_of(uid)
        return (
            term is not None
            and term.epoch == attempt_epoch(attempt_id)
            and term.valid(self.cache.monotonic())
        )

    async def _compose(
        self, entry: Entry, channel: str, intent: Record, *, with_status: bool
    ) -> Message:
        """
        The message; where the object's status is shown, with that of now, behind which it lags.

        Raises:
            ValueError: the spec is not of the schema's shape.
            TimeoutError: it is large, and was not done in time.
        """
        request = entry.request
        status: Json | None = None
        if with_status:
            merged = merge(
                request.status, entry.view, self._facts(entry), now=self.recorder.time.now()
            )
            status = render_status(merged.status)

        size = len(request.raw)
        # The spec of an object never changes, but it may come after the object.
        known = (request.uid, request.generation)

        def work() -> Message:
            document = request.document()
            if status is not None:
                document["status"] = status
            breath = Breath()
            spec = self._shown.get(known)
            message = compose(
                document, channel, intent.attempt_id, spec=spec, live=with_status, breath=breath
            )
            if size > SMALL:
                self._shown[known] = message.spec
                while len(self._shown) > _SHOWN:
                    self._shown.pop(next(iter(self._shown)))
            return message

        return await offload(work, size=size, seconds=_COMPOSE)

    async def _record(
        self, entry: Entry, channel: str, intent: Record, outcome: Outcome, seconds: float
    ) -> None:
        policy = entry.request.policy
        earlier = [a for a in entry.view.of_channel(channel) if a.id != intent.id]
        left = [a for a in earlier if counts(a)]
        wait = 0
        retriable = outcome.state is not AttemptState.SUCCESS and (
            outcome.failure is not FailureClass.PERMANENT
        )
        if outcome.failure is FailureClass.NOT_SENT:
            wait = unsent_delay(unsent_run(earlier) + 1, self.jitter())
        elif retriable:
            wait = next_delay(policy, len(left) + 1, self.jitter(), outcome.retry_after)
        now = self.recorder.time.now()
        attempt = replace(
            read_attempt(intent),
            state=outcome.state,
            ended=now,
            due=now + wait if retriable else 0,
            duration=round(seconds * 1000),
            failure=outcome.failure,
            error=bounded(outcome.error, LOG_ERROR_BYTES),
            code=outcome.code,
        )
        if retriable:
            entry.due[channel] = self.cache.monotonic() + wait / 1000
        else:
            entry.due.pop(channel, None)
        recorded = await self.recorder.close(
            entry, attempt, intent, patience=self.settings.outcome_patience
        )
        failpoint(Failpoint.AFTER_OUTCOME)
        if recorded and not self._owns(entry.uid, intent.attempt_id):
            # A fact from an earlier tenure: whoever owns the log now should not wait for its sweep.
            await self.recorder.wake_owner(entry.uid)
        logger.log(
            logging.INFO if outcome.state is AttemptState.SUCCESS else logging.WARNING,
            "attempt recorded" if recorded else "attempt not recorded",
            extra={
                "uid": entry.uid,
                "object": entry.request.key,
                "channel": channel,
                "attempt": attempt.id,
                "state": attempt.state.word,
                "class": attempt.failure.value if attempt.failure else None,
                "code": attempt.code or None,
                "error": attempt.error or None,
                "ms": attempt.duration,
            },
        )
        if outcome.failure is not FailureClass.NOT_SENT:
            self.hooks.attempted(entry.request, attempt, left[-1] if left else None)
        if outcome.by_rule:
            self.hooks.denied(entry.request, channel, attempt.error)
        self.queue.add(entry.uid)


def _stopped(entry: Entry) -> str:
    """Why nothing is decided for an entry whose log is claimed, empty if it is."""
    if entry.cancelled:
        return "the object is being deleted"
    return "held by the self-audit" if entry.violation else ""


def _under_way(entry: Entry, held_up: AbstractSet[AttemptId]) -> bool:
    """Whether something of an entry goes on that will end; `held_up` is what Redis cannot take."""
    if any(attempt not in held_up for attempt in entry.executing):
        return True
    return not entry.failures and (entry.writing or entry.dirty_since is not None)


def _permits(answer: Appended) -> bool:
    return answer.answer is Answer.OK or (
        answer.answer is Answer.DUP and answer.rank == AttemptState.INTENT
    )


def _expected(entry: Entry) -> int:
    """When the object says that its next attempt is due; 0, at once, if it says nothing."""
    return min((c.next_retry for c in entry.request.status.channels if c.next_retry), default=0)


def _shows_due(status: Status, now: int) -> bool:
    """Whether an object by itself, its log not read yet, says that an attempt is due by now."""
    return not status.channels or any(
        c.state not in _FINISHED and c.next_retry <= now for c in status.channels
    )
