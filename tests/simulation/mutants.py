"""
The product with one protection switched off, to prove that the simulation would notice.

Each mutant replaces one function for the time of a run and changes nothing else. Where the
protection is a script's, the text of the script is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

import notifier.reconciler.controller
import notifier.reconciler.decisions
import notifier.reconciler.incidents
import syncer.rules.channel_state
import syncer.rules.evidence
import syncer.rules.merge
import syncer.sharding.manager
import syncer.sync.claim
import syncer.sync.status_writer
from notifier.audit import feed
from notifier.dispatch.workqueue import WorkQueue
from notifier.process.sweeps import Sweep, Sweeps
from notifier.reconciler.attempt import Sender
from syncer.kube.client import MERGE_PATCH
from syncer.kube.lease_term import LeaseTerm, Session
from syncer.kube.leases import LeaseRecord, Leases
from syncer.kube.notification_requests import (
    FIELD_MANAGER,
    NotificationRequestClient,
    object_path,
    readable,
)
from syncer.ledger.answers import Answer, Appended, Proof
from syncer.ledger.lua import CLAIM, INTENT, RECOVER, RETIRE, Script
from syncer.model.attempt import Attempt, join
from syncer.model.lineage import Lineage
from syncer.model.record import Plan, intent_record
from syncer.model.resource import Status
from syncer.rules.evidence import Circumstances, Ground
from syncer.rules.fold import LogView
from syncer.rules.journal import Basis
from syncer.rules.plan import NO_HOLDS
from syncer.rules.reconcile import Presence
from syncer.sharding.assignment import HandOver, Hold, ShardState
from syncer.sharding.manager import ShardManager
from syncer.sharding.shard_leases import ShardLeases
from syncer.sharding.view import LeaseView
from syncer.sync.attempts import Outcomes
from syncer.sync.claim import Claimer
from syncer.sync.evidence import Evidence
from syncer.sync.journal import Journal
from syncer.sync.notification import Notification
from syncer.sync.recorder import Recorder
from syncer.sync.status_writer import Flushed, StatusWriter
from syncer.sync.sweeps import Resync
from tests.fakes.memorylog import MemoryClient
from tests.simulation.network import SimLane

#: Background calls of a mutant; the loop holds tasks by weak references only.
_running: set[asyncio.Task[Any]] = set()


def _takes_the_calls_of(was: Any, made: Any) -> None:
    """TypeError for what could not be called in its place: a call that fails would kill every mutant."""
    was, made = (getattr(each, "__func__", each) for each in (was, made))
    if not inspect.isfunction(was):
        return
    given = inspect.signature(was).parameters.values()
    named = {p.name: None for p in given if p.kind is p.KEYWORD_ONLY}
    inspect.signature(made).bind(*(p for p in given if p.kind < p.VAR_POSITIONAL), **named)


@contextlib.contextmanager
def _instead(*changes: tuple[object, str, object]) -> Iterator[None]:
    before = [(place, name, vars(place)[name]) for place, name, _ in changes]
    for (place, name, made), (_, _, was) in zip(changes, before, strict=True):
        _takes_the_calls_of(was, made)
        setattr(place, name, made)
    try:
        yield
    finally:
        for place, name, was in before:
            setattr(place, name, was)
        _running.clear()


def keep_finished_for(seconds: int) -> AbstractContextManager[None]:
    """Finished logs expire after so many seconds, whatever their objects ask for; unless it is 0."""
    places = (syncer.sync.claim, syncer.sync.status_writer, feed, syncer.rules.evidence)
    return _instead(
        *((place, "retention_seconds", lambda _: seconds) for place in places if seconds)
    )


def _with(script: Script, changes: dict[str, str]) -> tuple[object, str, object]:
    """A script with other conditions in the place of some."""
    text = script.plain
    for condition, other in changes.items():
        assert f"if {condition} then" in text, f"{script.name} has no condition {condition}"
        text = text.replace(f"if {condition} then", f"if {other} then")
    return script, "plain", text


def no_fence() -> AbstractContextManager[None]:
    """Every claim holds, and no script looks at the epoch."""
    return _instead(
        (
            Recorder,
            "claim_holds",
            lambda _self, notification, _term: notification.claim is not None,
        ),
        _with(CLAIM, {"order < 0": "false", "order > 0": "order ~= 0"}),
        _with(INTENT, {"stored ~= epoch": "false"}),
        _with(RECOVER, {"stored ~= epoch": "false"}),
        _with(RETIRE, {"stored ~= ARGV[1]": "false"}),
    )


def ack_before_patch() -> AbstractContextManager[None]:
    """The log is marked as published before the status is written."""
    write: Any = vars(StatusWriter)["_write"]

    async def hasty(self: StatusWriter, notification: Any, wanted: Any, patch: Any) -> Any:
        position, chain = notification.view.publishable
        if position:
            await self.recorder.log.ack(notification.uid, position, chain, ttl=0)
        return await write(self, notification, wanted, patch)

    return _instead((StatusWriter, "_write", hasty))


def overwrite() -> AbstractContextManager[None]:
    """The status becomes what the log says, and gives nothing back to it."""
    merge: Any = vars(syncer.sync.status_writer)["merge"]

    def log_alone(status: Any, view: Any, facts: Any, **rest: Any) -> Any:
        return merge(replace(status, attempts=(), rollup=None), view, facts, **rest)

    return _instead(
        (syncer.sync.status_writer, "merge", log_alone),
        (syncer.sync.claim, "lacking", lambda _view, _status: ()),
    )


def send_before_intent() -> AbstractContextManager[None]:
    """Sending does not wait for the log's permission."""

    async def unasked(
        self: Outcomes, notification: Any, term: Any, channel: str, *, limit: int
    ) -> Any:
        recorder = self.recorder
        identity = recorder.next_id(term.epoch)
        record = intent_record(identity, channel, at=recorder.time.now(), by="mutant")
        notification.in_flight.begin(identity, channel)
        view, stamp = notification.view, notification.claim.stamp if notification.claim else ""
        proof = Proof(term.epoch, stamp, view.position, view.chain)
        call = recorder.log.intent(notification.uid, proof, record, limit=limit, guard=lambda: True)
        task = asyncio.create_task(call)
        _running.add(task)
        notification.news()
        return Appended(Answer.OK), record

    return _instead((Outcomes, "open", unasked))


def no_resource_version() -> AbstractContextManager[None]:
    """A status is written into whatever version of the object there is."""

    async def blind(
        self: NotificationRequestClient, namespace: str, name: str, status: Any, *, resource_version: str,
    ) -> Any:  # fmt: skip
        answer = await self._client.request(
            "PATCH",
            f"{object_path(namespace, name)}/status",
            params={"fieldManager": FIELD_MANAGER},
            body={"status": status},
            content_type=MERGE_PATCH,
            timeout=self._timeout,
        )
        return readable(answer)

    return _instead((NotificationRequestClient, "patch", blind))


def no_recovery() -> AbstractContextManager[None]:
    """What an earlier owner left open stays open."""

    async def leave(*_: Any, **__: Any) -> bool:
        return True

    every = Sweeps.rounds

    def others(sweeps: Sweeps) -> list[Sweep]:
        return [sweep for sweep in every(sweeps) if sweep.name != "self-audit"]

    # The self-audit stops the sends of what is left open twice, which is another end than the one
    # looked for here.
    return _instead((Recorder, "recover", leave), (Sweeps, "rounds", others))


def stale_read() -> AbstractContextManager[None]:
    """Claiming believes the object as it was seen last."""

    async def remembered(_self: Claimer, notification: Any) -> Presence:
        return Presence.ABSENT if notification.deleted else Presence.PRESENT

    return _instead((Claimer, "_gather", remembered))


_STAMP: Final = {"stamp ~= ARGV[8]": "false"}


def no_reclaim() -> AbstractContextManager[None]:
    """Another server or store changes nothing, for the client or for the script."""
    history = {"not base or chain_at(base, position) ~= ARGV[7]": "false"}
    return _instead(
        (MemoryClient, "generation", property(lambda _: 0, lambda *_: None)),
        _with(INTENT, _STAMP | history),
    )


def no_stamp() -> AbstractContextManager[None]:
    """Neither the client nor the script sees another server, but the script another history of its log."""
    return _instead(
        (MemoryClient, "generation", property(lambda _: 0, lambda *_: None)), _with(INTENT, _STAMP)
    )


def not_sent_counted() -> AbstractContextManager[None]:
    """An attempt that did not leave uses up one of its channel's, like any other."""
    return _instead((syncer.rules.channel_state, "counts", lambda _attempt: True))


def order_never_spent() -> AbstractContextManager[None]:
    """An order sets every attempt aside, those that followed it too."""
    attempt: Any = vars(LogView)["_attempt"]

    def renewed(self: LogView, record: Any) -> None:
        attempt(self, record)
        if record.channel in self.orders and not self.opened:
            self.orders[record.channel] = frozenset(a.id for a in self.of_channel(record.channel))

    return _instead((LogView, "_attempt", renewed))


def order_expires() -> AbstractContextManager[None]:
    """A log may expire although an order waits in it."""

    def ends_at(self: Notification, position: int) -> bool:
        settled = self.request.status.terminal and not self.view.opened
        return settled and position == self.view.position

    return _instead((Notification, "ends_at", ends_at))


def no_resync() -> AbstractContextManager[None]:
    """Only events, wake-ups and timers have anything looked at."""

    async def nothing(_self: Resync) -> None:
        return None

    return _instead((Resync, "round", nothing))


def key_kept() -> AbstractContextManager[None]:
    """A key whose look has failed is never given back, so nobody gets it again."""
    done: Any = vars(WorkQueue)["done"]

    def kept(self: WorkQueue, key: str) -> None:
        if key not in self._failures:
            done(self, key)

    return _instead((WorkQueue, "done", kept))


def only_claimed() -> AbstractContextManager[None]:
    """The resync leaves out what is not claimed, as the sweep of live logs does."""
    reason: Any = vars(Resync)["_reason"]

    def claimed(self: Resync, notification: Notification, now: float, *, away: bool) -> Any:
        return reason(self, notification, now, away=away) if notification.claim else None

    return _instead((Resync, "_reason", claimed))


def patient_hand_over() -> AbstractContextManager[None]:
    """A hand-over waits for every status, one that is refused too."""

    def unpublished(notification: Notification, _held_up: object, *, paused: bool) -> bool:
        del paused
        return notification.busy or notification.publication.pending

    return _instead((notifier.reconciler.controller, "_under_way", unpublished))


def keep_what_cannot_be_served() -> AbstractContextManager[None]:
    """Shards are handed over to be shared, and for no other reason."""
    decide: Any = vars(syncer.sharding.manager)["hand_over"]

    def shared(owned: Any, *, unable: float | None, **rest: Any) -> HandOver:
        if unable is not None:
            return HandOver((), "kept")
        decided: HandOver = decide(owned, unable=None, **rest)
        return decided

    return _instead((syncer.sharding.manager, "hand_over", shared))


def shards_before_the_end() -> AbstractContextManager[None]:
    """Who has seen nothing of a session for long enough takes its shards, and does not end it."""

    async def believed(self: ShardManager, lease: LeaseRecord) -> None:
        self._ended.add(lease.uid)

    return _instead((ShardManager, "_end", believed))


def end_uncompared() -> AbstractContextManager[None]:
    """A session is ended whatever has been renewed since it was seen."""
    delete: Any = vars(Leases)["delete"]

    async def blind(self: Leases, name: str, uid: str, _version: str = "", **rest: Any) -> None:
        await delete(self, name, uid, **rest)

    return _instead((Leases, "delete", blind))


def deadline_of_a_shard() -> AbstractContextManager[None]:
    """A shard's Lease expires for others although only its holder's session is renewed."""
    judged: Any = vars(syncer.sharding.manager)["state_of"]

    def expired(view: LeaseView, n: int, identity: str, now: float, ended: Any = ()) -> Any:
        state, seen = judged(view, n, identity, now, ended), view.shard(n)
        if state.hold is Hold.HELD and seen and now >= seen.since + view.lasts(seen.lease):
            return ShardState(Hold.ORPHANED, holder=seen.lease.holder)
        return state

    return _instead((syncer.sharding.manager, "state_of", expired))


def session_goes_on() -> AbstractContextManager[None]:
    """The terms of a session that is over go on in the next one."""
    begun: Any = vars(ShardManager)["_begun"]

    def lost(_self: ShardManager, _session: Session) -> None:
        return None

    def adopted(self: ShardManager, session: Session) -> None:
        for term in self._held.terms.values():
            term.session = session
        begun(self, session)

    return _instead((ShardManager, "_lost", lost), (ShardManager, "_begun", adopted))


def absent_is_over() -> AbstractContextManager[None]:
    """What a session held is taken as soon as its Lease is gone, whoever deleted that."""
    judged: Any = vars(syncer.sharding.manager)["state_of"]

    def hasty(view: LeaseView, n: int, identity: str, now: float, ended: Any = ()) -> Any:
        return judged(view, n, identity, now, {*ended, *view.departed})

    return _instead((syncer.sharding.manager, "state_of", hasty))


def clock_unasked() -> AbstractContextManager[None]:
    """A send begins in every term that nobody has ended."""
    return _instead(
        (LeaseTerm, "valid", lambda term, _now: not term.ended),
        (LeaseTerm, "may_send", lambda term, *_: not term.ended),
    )


def deletion_ignored() -> AbstractContextManager[None]:
    """Only an object that is gone is sent no more."""
    return _instead(
        (Notification, "cancelled", property(lambda notification: notification.deleted))
    )


def every_object_trusted() -> AbstractContextManager[None]:
    """Whoever cannot read a log takes what the object shows for all there is."""
    known: Any = vars(Journal)["basis"]

    def trusting(self: Journal, notification: Notification, term: Any) -> Basis:
        found: Basis = known(self, notification, term)
        return Basis.MARKED if found is Basis.OLDER else found

    return _instead((Journal, "basis", trusting))


def any_mark_counts() -> AbstractContextManager[None]:
    """A mark says that all is in the status, also one that was set under the note of an earlier outage."""
    known: Any = vars(Journal)["basis"]

    def marked(self: Journal, notification: Notification, term: Any) -> Basis:
        found: Basis = known(self, notification, term)
        old = found is Basis.OLDER and notification.request.status.journal is not None
        return Basis.MARKED if old else found

    return _instead((Journal, "basis", marked))


def note_stays() -> AbstractContextManager[None]:
    """The Lease says for ever that attempts are journaled, and they are opened in the log all the same."""

    async def nothing(_self: ShardManager) -> int:
        return 0

    return _instead(
        (Journal, "blocks", lambda journal, _uid: journal.active),
        (ShardManager, "remove_notes", nothing),
    )


def clock_unasked_after_the_write() -> AbstractContextManager[None]:
    """The lease of a journaled attempt is looked at before the write ahead, and not after it."""
    send: Any = vars(Sender)["send"]

    async def sure(
        self: Sender, notification: Notification, term: Any, *rest: Any, **named: Any
    ) -> Any:
        if rest[0].attempt_id in notification.in_flight.ahead:
            term = SimpleNamespace(may_send=lambda *_: True)
        return await send(self, notification, term, *rest, **named)

    return _instead((Sender, "send", sure))


def written_under_an_old_claim() -> AbstractContextManager[None]:
    """What was known in another lease term, or of another server, is published in this one."""
    return _instead((StatusWriter, "_may_write", lambda *_: True))


def holds_disregarded() -> AbstractContextManager[None]:
    """What operators hold back is sent all the same."""
    decide: Any = vars(notifier.reconciler.decisions)["decide"]

    def unheld(**given: Any) -> Any:
        return decide(**{**given, "held": "", "holds": NO_HOLDS})

    return _instead((notifier.reconciler.decisions, "decide", unheld))


def followed_unjudged() -> AbstractContextManager[None]:
    """While a log is away, counters and message follow whatever a status says."""
    return _instead((StatusWriter, "_unjudged", lambda *_: False))


def not_written_ahead() -> AbstractContextManager[None]:
    """A journaled attempt is sent, and written when its result is."""

    async def unwritten(
        _self: StatusWriter, notification: Notification, _term: Any, journal: str
    ) -> Flushed:
        notification.journaling(journal)
        return Flushed.WRITTEN

    return _instead((StatusWriter, "write_ahead", unwritten))


def result_not_kept() -> AbstractContextManager[None]:
    """A journaled attempt's result is in the view alone, which the next claim replaces."""
    close: Any = vars(Outcomes)["close_in_memory"]

    def unkept(
        self: Outcomes, notification: Notification, attempt: Any, intent: Any, **rest: Any
    ) -> None:
        close(self, notification, attempt, intent, **rest)
        notification.in_flight.unrecorded.pop(attempt.id, None)
        notification.view.forget(attempt.id)

    return _instead((Outcomes, "close_in_memory", unkept))


def shown_before_its_record() -> AbstractContextManager[None]:
    """A result is in the view, and so in the next write of the status, before the log has taken it."""
    close: Any = vars(Outcomes)["close"]

    async def early(
        self: Outcomes, notification: Notification, attempt: Any, intent: Any, **rest: Any
    ) -> bool:
        notification.view.learn(attempt)
        self.cache.mark_dirty(notification)
        recorded: bool = await close(self, notification, attempt, intent, **rest)
        return recorded

    return _instead((Outcomes, "close", early))


def old_claim_goes_on() -> AbstractContextManager[None]:
    """Who has written into the status alone goes on with the claim of before."""
    lose: Any = vars(Recorder)["lose_claim"]

    def kept(self: Recorder, notification: Notification, cause: str) -> None:
        if cause != "journal":
            lose(self, notification, cause)

    return _instead((Recorder, "lose_claim", kept))


def marked_stay_summed_up() -> AbstractContextManager[None]:
    """A finished object is never claimed again, although its log may lack what it shows."""

    async def nothing(self: Sweeps) -> None:
        pass

    return _instead((Sweeps, "journaled", nothing))


def outcomes_alone() -> AbstractContextManager[None]:
    """A former owner gives a log what it kept, and nothing of what came before."""

    async def alone(self: Claimer, notification: Notification) -> None:
        await self.recorder.record_kept(notification, anew=True)

    return _instead((Claimer, "hand_in", alone))


def plan_of_a_status() -> AbstractContextManager[None]:
    """A log without a plan is given that of the status."""
    situation: Any = vars(Claimer)["_situation"]

    def planned(self: Claimer, notification: Notification, *rest: Any) -> Any:
        shown = bool(notification.status.channels) and notification.view.plan is None
        return replace(situation(self, notification, *rest), unplanned=shown)

    return _instead((Claimer, "_situation", planned))


def stored_status_decides() -> AbstractContextManager[None]:
    """What is decided and merged goes by the status as it is stored."""
    return _instead(
        (Notification, "status", property(lambda notification: notification.request.status))
    )


def every_phase_supported() -> AbstractContextManager[None]:
    """A final phase is final, whatever the attempts on record lead to."""
    return _instead((syncer.rules.evidence, "supported", lambda *_: True))


def retold_attempts_believed() -> AbstractContextManager[None]:
    """Of an attempt that both know, the status says why it failed."""
    united: Any = vars(syncer.rules.merge)["_unite"]

    def believing(status: Status, view: LogView, **how: Any) -> list[Attempt]:
        told = {a.id: a for a in status.attempts}
        return [join(told.get(a.id, a), a) for a in united(status, view, **how)]

    return _instead((syncer.rules.merge, "_unite", believing))


def attempts_without_grounds() -> AbstractContextManager[None]:
    """Whatever a status shows enters the log, as if the store had lost it."""
    known: Any = vars(Circumstances)["ground"]

    def lost(self: Circumstances, request: Any) -> Ground:
        return known(self, request) or Ground.LOSS

    return _instead((Circumstances, "ground", lost))


def absence_always_believed() -> AbstractContextManager[None]:
    """Where there is no log, nothing was ever sent."""
    return _instead(
        (Circumstances, "complete", lambda *_: True), (Circumstances, "ground", lambda *_: None)
    )


def store_not_compared() -> AbstractContextManager[None]:
    """Another store, or another history of it, counts as the one that was noted."""
    same = Lineage("one", 0)
    return _instead((ShardLeases, "_compared", lambda *_: same))


def every_mark_believed() -> AbstractContextManager[None]:
    """A status that says that it is journaled is believed, whether or not there was an outage."""
    return _believing(marked=True)


def every_object_adopted() -> AbstractContextManager[None]:
    """Every object is another controller's, as its status has it."""
    return _believing(adopted_before=math.inf)


def _believing(**changed: object) -> AbstractContextManager[None]:
    known: Any = vars(Evidence)["of"]

    def of(self: Evidence, uid: str, **more: Any) -> Circumstances:
        about: Circumstances = replace(known(self, uid, **more), **changed)
        return about

    return _instead((Evidence, "of", of))


def absence_believed_unseen() -> AbstractContextManager[None]:
    """What a log lacks was never there, although nobody has asked since whether the store is the same."""
    return _instead((SimLane, "looked_at", property(lambda _: math.inf)))


def nothing_supersedes() -> AbstractContextManager[None]:
    """What is older is sent whatever came after it."""
    return _instead((notifier.reconciler.incidents, "superseded_by", lambda *_: ""))


def nobody_waits() -> AbstractContextManager[None]:
    """What another notification of the incident has on the wire is not waited for."""
    return _instead((notifier.reconciler.incidents, "waits_for", lambda *_: ""))


def fallback_at_once() -> AbstractContextManager[None]:
    """A fallback is used together with what it stands by for."""

    def at_once(plan: Plan | None, *_: object) -> dict[str, int]:
        return {each.channel: 0 for each in plan.fallbacks} if plan else {}

    return _instead((notifier.reconciler.decisions, "opening", at_once))


MUTANTS: Final[dict[str, Callable[[], AbstractContextManager[None]]]] = {
    "no fence": no_fence,
    "ack before patch": ack_before_patch,
    "overwrite instead of union": overwrite,
    "send before intent": send_before_intent,
    "no resourceVersion": no_resource_version,
    "no recovery": no_recovery,
    "stale read at the claim": stale_read,
    "failover without re-claim": no_reclaim,
    "no stamp": no_stamp,
    "notSent counted": not_sent_counted,
    "order never spent": order_never_spent,
    "log with an order expires": order_expires,
    "no resync": no_resync,
    "key of a failed look kept": key_kept,
    "resync of claimed logs only": only_claimed,
    "hand-over waits for what backs off": patient_hand_over,
    "unable replica keeps its shards": keep_what_cannot_be_served,
    "deletion ignored until it is done": deletion_ignored,
    "shards taken before the session is ended": shards_before_the_end,
    "session ended without its resourceVersion": end_uncompared,
    "deadline taken from a shard's Lease": deadline_of_a_shard,
    "session that ended goes on": session_goes_on,
    "absent session is over": absent_is_over,
    "no clock asked before a send": clock_unasked,
    "every object trusted": every_object_trusted,
    "mark of an earlier outage counts": any_mark_counts,
    "log used under a note": note_stays,
    "no clock asked after the write ahead": clock_unasked_after_the_write,
    "written under an old claim": written_under_an_old_claim,
    "status followed unjudged": followed_unjudged,
    "holds disregarded": holds_disregarded,
    "journaled after the send": not_written_ahead,
    "journaled result not kept": result_not_kept,
    "result shown before its record": shown_before_its_record,
    "old claim goes on after journaling": old_claim_goes_on,
    "marked object summed up": marked_stay_summed_up,
    "outcomes handed in alone": outcomes_alone,
    "plan of a status": plan_of_a_status,
    "stored status decides": stored_status_decides,
    "every final phase supported": every_phase_supported,
    "attempts without grounds": attempts_without_grounds,
    "retold attempts believed": retold_attempts_believed,
    "absence always believed": absence_always_believed,
    "store not compared": store_not_compared,
    "every mark believed": every_mark_believed,
    "every object adopted": every_object_adopted,
    "absence believed unseen": absence_believed_unseen,
    "nothing supersedes": nothing_supersedes,
    "fallback used at once": fallback_at_once,
    "nobody waits for another of an incident": nobody_waits,
}
