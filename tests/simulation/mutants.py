"""
The product with one protection switched off, to prove that the simulation would notice.

Each mutant replaces some functions for the time of a run and changes nothing else. Where the
protection is a script's, the text of the script is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

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
from notifier.reconciler.holds import Holds
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
from syncer.model.resource import NotificationRequest, Status
from syncer.rules.evidence import Circumstances, Ground
from syncer.rules.fold import LogView
from syncer.rules.journal import Basis
from syncer.rules.plan import NO_HOLDS
from syncer.rules.reconcile import Presence
from syncer.sharding.assignment import Hold, ShardState
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

F = TypeVar("F", bound=Callable[..., Any])

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


#: A function that is replaced: its place and name, what takes its calls, and whether that gets it first.
Change = tuple[object, str, Any, bool]
MUTANTS: Final[dict[str, list[Change]]] = {}


def replaces(mutant: str, place: object, name: str, *, around: bool = False) -> Callable[[F], F]:
    """Have a function take the calls of another, which it gets first if it is `around` that one."""

    def register(made: F) -> F:
        MUTANTS.setdefault(mutant, []).append((place, name, made, around))
        return made

    return register


around: Final = functools.partial(replaces, around=True)


def _given(made: Callable[..., Any], was: Any) -> Callable[..., Any]:
    known = functools.partial(made, was)

    # A partial function would not become a method.
    @functools.wraps(known)
    def called(*args: Any, **named: Any) -> Any:
        return known(*args, **named)

    return called


@contextlib.contextmanager
def _instead(*changes: Change) -> Iterator[None]:
    before = [(place, name, vars(place)[name]) for place, name, *_ in changes]
    for (place, name, made, given), (_, _, was) in zip(changes, before, strict=True):
        new = _given(made, was) if given else made
        _takes_the_calls_of(was, new)
        setattr(place, name, new)
    try:
        yield
    finally:
        for place, name, was in before:
            setattr(place, name, was)
        _running.clear()


def switched_off(mutant: str) -> AbstractContextManager[None]:
    """Let a mutant live within; none without a name."""
    return _instead(*MUTANTS[mutant] if mutant else ())


def keep_finished_for(seconds: int) -> AbstractContextManager[None]:
    """Finished logs expire after so many seconds, whatever their objects ask for; unless it is 0."""
    places = (syncer.sync.claim, syncer.sync.status_writer, feed, syncer.rules.evidence)
    return _instead(
        *((place, "retention_seconds", lambda _: seconds, False) for place in places if seconds)
    )


@around("ack before patch", StatusWriter, "_write")
async def ack_before_patch(
    was: Any, self: StatusWriter, notification: Any, wanted: Any, patch: Any
) -> Any:
    """The log is marked as published before the status is written."""
    position, chain = notification.view.publishable
    if position:
        await self.recorder.log.ack(notification.uid, position, chain, ttl=0)
    return await was(self, notification, wanted, patch)


@around("overwrite instead of union", syncer.sync.status_writer, "merge")
def overwrite(was: Any, status: Any, view: Any, facts: Any, **rest: Any) -> Any:
    """The status becomes what the log says, and gives nothing back to it."""
    return was(replace(status, attempts=(), rollup=None), view, facts, **rest)


@replaces("send before intent", Outcomes, "open")
async def send_before_intent(
    self: Outcomes, notification: Any, term: Any, channel: str, *, limit: int
) -> Any:
    """Sending does not wait for the log's permission."""
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


@replaces("no resourceVersion", NotificationRequestClient, "patch")
async def no_resource_version(
    self: NotificationRequestClient, namespace: str, name: str, status: Any, *, resource_version: str,
) -> Any:  # fmt: skip
    """A status is written into whatever version of the object there is."""
    answer = await self._client.request(
        "PATCH",
        f"{object_path(namespace, name)}/status",
        params={"fieldManager": FIELD_MANAGER},
        body={"status": status},
        content_type=MERGE_PATCH,
        timeout=self._timeout,
    )
    return readable(answer)


@replaces("stale read at the claim", Claimer, "_gather")
async def stale_read(_self: Claimer, notification: Any) -> Presence:
    """Claiming believes the object as it was seen last."""
    return Presence.ABSENT if notification.deleted else Presence.PRESENT


@around("order never spent", LogView, "_attempt")
def order_never_spent(was: Any, self: LogView, record: Any) -> None:
    """An order sets every attempt aside, those that followed it too."""
    was(self, record)
    if record.channel in self.orders and not self.opened:
        self.orders[record.channel] = frozenset(a.id for a in self.of_channel(record.channel))


@replaces("log with an order expires", Notification, "ends_at")
def order_expires(self: Notification, position: int) -> bool:
    """A log may expire although an order waits in it."""
    settled = self.request.status.terminal and not self.view.opened
    return settled and position == self.view.position


@replaces("no resync", Resync, "round")
async def no_resync(_self: Resync) -> None:
    """Only events, wake-ups and timers have anything looked at."""


@around("key of a failed look kept", WorkQueue, "done")
def key_kept(was: Any, self: WorkQueue, key: str) -> None:
    """A key whose look has failed is never given back, so nobody gets it again."""
    if key not in self._failures:
        was(self, key)


@around("resync of claimed logs only", Resync, "_reason")
def only_claimed(
    was: Any, self: Resync, notification: Notification, now: float, *, away: bool
) -> Any:
    """The resync leaves out what is not claimed, as the sweep of live logs does."""
    return was(self, notification, now, away=away) if notification.claim else None


@replaces("hand-over waits for what backs off", notifier.reconciler.controller, "_under_way")
def patient_hand_over(notification: Notification, _held_up: object, *, paused: bool) -> bool:
    """A hand-over waits for every status, one that is refused too."""
    del paused
    return notification.busy or notification.publication.pending


@around("unable replica keeps its shards", syncer.sharding.manager, "hand_over")
def keep_what_cannot_be_served(
    was: Any, owned: Any, *, unable: float | None, **rest: Any
) -> tuple[int, str] | None:
    """Shards are handed over to be shared, and for no other reason."""
    decided: tuple[int, str] | None = None
    if unable is None:
        decided = was(owned, unable=None, **rest)
    return decided


@replaces("shards taken before the session is ended", ShardManager, "_end")
async def shards_before_the_end(self: ShardManager, lease: LeaseRecord) -> None:
    """Who has seen nothing of a session for long enough takes its shards, and does not end it."""
    self._ended.add(lease.uid)


@around("session ended without its resourceVersion", Leases, "delete")
async def end_uncompared(
    was: Any, self: Leases, name: str, uid: str, _version: str = "", **rest: Any
) -> None:
    """A session is ended whatever has been renewed since it was seen."""
    await was(self, name, uid, **rest)


@around("deadline taken from a shard's Lease", syncer.sharding.manager, "state_of")
def deadline_of_a_shard(
    was: Any, view: LeaseView, n: int, identity: str, now: float, ended: Any = ()
) -> Any:
    """A shard's Lease expires for others although only its holder's session is renewed."""
    state, seen = was(view, n, identity, now, ended), view.shard(n)
    if state.hold is Hold.HELD and seen and now >= seen.since + view.lasts(seen.lease):
        return ShardState(Hold.ORPHANED, holder=seen.lease.holder)
    return state


@replaces("session that ended goes on", ShardManager, "_lost")
def session_goes_on(_self: ShardManager, _session: Session) -> None:
    """The terms of a session that is over go on in the next one."""


@around("session that ended goes on", ShardManager, "_begun")
def session_goes_on_adopted(was: Any, self: ShardManager, session: Session) -> None:
    """The next session adopts them."""
    for term in self.held.terms.values():
        term.session = session
    was(self, session)


@around("absent session is over", syncer.sharding.manager, "state_of")
def absent_is_over(
    was: Any, view: LeaseView, n: int, identity: str, now: float, ended: Any = ()
) -> Any:
    """What a session held is taken as soon as its Lease is gone, whoever deleted that."""
    return was(view, n, identity, now, {*ended, *view.departed})


@around("every object trusted", Journal, "basis")
def every_object_trusted(was: Any, self: Journal, notification: Notification, term: Any) -> Basis:
    """Whoever cannot read a log takes what the object shows for all there is."""
    found: Basis = was(self, notification, term)
    return Basis.MARKED if found is Basis.OLDER else found


@around("mark of an earlier outage counts", Journal, "basis")
def any_mark_counts(was: Any, self: Journal, notification: Notification, term: Any) -> Basis:
    """A mark says that all is in the status, also one that was set under the note of an earlier outage."""
    found: Basis = was(self, notification, term)
    old = found is Basis.OLDER and notification.request.status.journal is not None
    return Basis.MARKED if old else found


@replaces("log used under a note", ShardManager, "remove_notes")
async def note_stays(_self: ShardManager) -> int:
    """The Lease says for ever that attempts are journaled, and they are opened in the log all the same."""
    return 0


@around("no clock asked after the write ahead", Sender, "send")
async def clock_unasked_after_the_write(
    was: Any, self: Sender, notification: Notification, term: Any, *rest: Any, **named: Any
) -> Any:
    """The lease of a journaled attempt is looked at before the write ahead, and not after it."""
    if rest[0].attempt_id in notification.in_flight.ahead:
        term = SimpleNamespace(may_send=lambda *_: True)
    return await was(self, notification, term, *rest, **named)


@around("holds disregarded", notifier.reconciler.decisions, "decide")
def holds_disregarded(was: Any, **given: Any) -> Any:
    """What operators hold back is sent all the same."""
    return was(**{**given, "held": "", "holds": NO_HOLDS})


@replaces("holds disregarded", Holds, "hold")
def none_held(_self: Holds, _request: NotificationRequest, _channel: str) -> bool:
    """The last check before a send finds none either."""
    return False


@replaces("journaled after the send", StatusWriter, "write_ahead")
async def not_written_ahead(
    _self: StatusWriter, notification: Notification, _term: Any, journal: str
) -> Flushed:
    """A journaled attempt is sent, and written when its result is."""
    notification.journaling(journal)
    return Flushed.WRITTEN


@around("journaled result not kept", Outcomes, "close_in_memory")
def result_not_kept(
    was: Any, self: Outcomes, notification: Notification, attempt: Any, intent: Any, **rest: Any
) -> None:
    """A journaled attempt's result is in the view alone, which the next claim replaces."""
    was(self, notification, attempt, intent, **rest)
    notification.in_flight.unrecorded.pop(attempt.id, None)
    notification.view.forget(attempt.id)


@around("result shown before its record", Outcomes, "close")
async def shown_before_its_record(
    was: Any, self: Outcomes, notification: Notification, attempt: Any, intent: Any, **rest: Any
) -> bool:
    """A result is in the view, and so in the next write of the status, before the log has taken it."""
    notification.view.learn(attempt)
    self.cache.mark_dirty(notification)
    recorded: bool = await was(self, notification, attempt, intent, **rest)
    return recorded


@around("old claim goes on after journaling", Recorder, "lose_claim")
def old_claim_goes_on(was: Any, self: Recorder, notification: Notification, cause: str) -> None:
    """Who has written into the status alone goes on with the claim of before."""
    if cause != "journal":
        was(self, notification, cause)


@replaces("marked object summed up", Sweeps, "journaled")
async def marked_stay_summed_up(self: Sweeps) -> None:
    """A finished object is never claimed again, although its log may lack what it shows."""


@around("plan of a status", Claimer, "_situation")
def plan_of_a_status(was: Any, self: Claimer, notification: Notification, *rest: Any) -> Any:
    """A log without a plan is given that of the status."""
    shown = bool(notification.status.channels) and notification.view.plan is None
    return replace(was(self, notification, *rest), unplanned=shown)


@around("retold attempts believed", syncer.rules.merge, "_unite")
def retold_attempts_believed(was: Any, status: Status, view: LogView, **how: Any) -> list[Attempt]:
    """Of an attempt that both know, the status says why it failed."""
    told = {a.id: a for a in status.attempts}
    return [join(told.get(a.id, a), a) for a in was(status, view, **how)]


@around("attempts without grounds", Circumstances, "ground")
def attempts_without_grounds(was: Any, self: Circumstances, request: Any) -> Ground:
    """Whatever a status shows enters the log, as if the store had lost it."""
    return was(self, request) or Ground.LOSS


@replaces("fallback used at once", notifier.reconciler.decisions, "opening")
def fallback_at_once(plan: Plan | None, *_: object) -> dict[str, int]:
    """A fallback is used together with what it stands by for."""
    return {each.channel: 0 for each in plan.fallbacks} if plan else {}


@replaces("no recovery", Recorder, "recover")
async def no_recovery(*_: Any, **__: Any) -> bool:
    """What an earlier owner left open stays open; the claim that is made anew for it waits a second."""
    await asyncio.sleep(1)
    return True


@around("no recovery", Sweeps, "rounds")
def no_recovery_in_sweeps(was: Any, self: Sweeps) -> list[Sweep]:
    """Without the self-audit, which stops the sends of what is left open twice: that is another end."""
    return [sweep for sweep in was(self) if sweep.name != "self-audit"]


@around("every mark believed", Evidence, "of")
def every_mark_believed(was: Any, self: Evidence, uid: str, **more: Any) -> Circumstances:
    """A status that says that it is journaled is believed, whether or not there was an outage."""
    return replace(cast("Circumstances", was(self, uid, **more)), marked=True)


@around("every object adopted", Evidence, "of")
def every_object_adopted(was: Any, self: Evidence, uid: str, **more: Any) -> Circumstances:
    """Every object is another controller's, as its status has it."""
    return replace(cast("Circumstances", was(self, uid, **more)), adopted_before=math.inf)


def _with(script: Script, changes: dict[str, str]) -> str:
    """The text of a script with other conditions in the place of some."""
    text = script.plain
    for condition, other in changes.items():
        assert f"if {condition} then" in text, f"{script.name} has no condition {condition}"
        text = text.replace(f"if {condition} then", f"if {other} then")
    return text


_STAMP: Final = {"stamp ~= ARGV[8]": "false"}
_HISTORY: Final = {"not base or chain_at(base, position) ~= ARGV[7]": "false"}
_NO_GENERATION: Final = property(lambda _: 0, lambda *_: None)

for _mutant, _place, _name, _made in (
    (
        "no fence",
        Recorder,
        "claim_holds",
        lambda _self, notification, _term: notification.claim is not None,
    ),
    ("no fence", CLAIM, "plain", _with(CLAIM, {"order < 0": "false", "order > 0": "order ~= 0"})),
    ("no fence", INTENT, "plain", _with(INTENT, {"stored ~= epoch": "false"})),
    ("no fence", RECOVER, "plain", _with(RECOVER, {"stored ~= epoch": "false"})),
    ("no fence", RETIRE, "plain", _with(RETIRE, {"stored ~= ARGV[1]": "false"})),
    ("overwrite instead of union", syncer.sync.claim, "lacking", lambda _view, _status: ()),
    # Another server or store changes nothing, for the client or for the script.
    ("failover without re-claim", MemoryClient, "generation", _NO_GENERATION),
    ("failover without re-claim", INTENT, "plain", _with(INTENT, _STAMP | _HISTORY)),
    # The script does see another history of its log.
    ("no stamp", MemoryClient, "generation", _NO_GENERATION),
    ("no stamp", INTENT, "plain", _with(INTENT, _STAMP)),
    # An attempt that did not leave uses up one of its channel's, like any other.
    ("notSent counted", syncer.rules.channel_state, "counts", lambda _attempt: True),
    # A send begins in every term that nobody has ended.
    ("no clock asked before a send", LeaseTerm, "valid", lambda term, _now: not term.ended),
    ("no clock asked before a send", LeaseTerm, "may_send", lambda term, *_: not term.ended),
    # Only an object that is gone is sent no more.
    (
        "deletion ignored until it is done",
        Notification,
        "cancelled",
        property(lambda notification: notification.deleted),
    ),
    ("log used under a note", Journal, "blocks", lambda journal, _uid: journal.active),
    # What was known in another lease term, or of another server, is published in this one.
    ("written under an old claim", StatusWriter, "_may_write", lambda *_: True),
    # While a log is away, counters and message follow whatever a status says.
    ("status followed unjudged", StatusWriter, "_unjudged", lambda *_: False),
    # What is decided and merged goes by the status as it is stored.
    (
        "stored status decides",
        Notification,
        "status",
        property(lambda notification: notification.request.status),
    ),
    # A final phase is final, whatever the attempts on record lead to.
    ("every final phase supported", syncer.rules.evidence, "supported", lambda *_: True),
    # Where there is no log, nothing was ever sent.
    ("absence always believed", Circumstances, "complete", lambda *_: True),
    ("absence always believed", Circumstances, "ground", lambda *_: None),
    # What a log lacks was never there, although nobody has asked since whether the store is the same.
    ("absence believed unseen", SimLane, "looked_at", property(lambda _: math.inf)),
    # What is older is sent whatever came after it.
    ("nothing supersedes", notifier.reconciler.incidents, "superseded_by", lambda *_: ""),
    # What another notification of the incident has on the wire is not waited for.
    (
        "nobody waits for another of an incident",
        notifier.reconciler.incidents,
        "waits_for",
        lambda *_: "",
    ),
    # Another store, or another history of it, counts as the one that was noted.
    ("store not compared", ShardLeases, "_compared", lambda *_: Lineage("one", 0)),
):
    MUTANTS.setdefault(_mutant, []).append((_place, _name, _made, False))
