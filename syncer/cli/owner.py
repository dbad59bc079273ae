"""
Who works on a notification: whether its namespace is watched, and who owns its shard.

The two most common reasons why nothing is sent are that the controller watches other namespaces, or that no
controller runs. The settings file shows the first; the Leases of the installation that the store names show
the second. Facts that cannot be determined are reported with the reason, and never treated as an answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Final

from syncer.cli.access import Access
from syncer.cli.installation import Store, StoreState, read_map
from syncer.kube.client import KubeClient
from syncer.kube.leases import LeaseRecord, Leases
from syncer.model.attempt import NO_EPOCH
from syncer.model.conditions import LOG_UNAVAILABLE, find_condition
from syncer.model.errors import Gone, PortError
from syncer.model.journal import NOTE, Note, parse_note
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time, parse_time
from syncer.rules.fold import LogView, ReadLog
from syncer.rules.journal import basis
from syncer.rules.restore import missing_plan
from syncer.rules.shards import Sharding
from syncer.sharding.view import LABEL, PROBLEM, SHARDS, session_name, session_of

_TIMEOUT: Final = 5.0
#: Minimum seconds without a renewal of a session after which its replica counts as gone.
_RENEWED: Final = 10.0


@dataclass(frozen=True, slots=True)
class Owner:
    """
    Who works on one notification.

    Attributes:
        watched: Whether its namespace is watched, None if that is not known.
        shard: Its shard, -1 if that is not known.
        holder: The replica that holds the shard's Lease, empty if none does, None if that is not known.
        idle: Why the holder opens no attempts now, according to its session; empty if it does.
        note: The note in the Lease that attempts are journaled, None if there is none.
        unread: Sentences about what could not be determined, and why.
        missing: Why no controller can have worked on the notification, empty if one may have.
    """

    watched: bool | None = None
    shard: int = -1
    holder: str | None = None
    idle: str = ""
    unread: tuple[str, ...] = ()
    missing: str = ""
    note: Note | None = None

    @property
    def problem(self) -> str:
        """Why no replica works on the notification, empty if one does, or if that is not known."""
        if self.watched is False:
            return "its namespace is not among those that the controller watches"
        if self.missing:
            return self.missing
        if self.holder == "":
            return f"no replica owns its shard ({self.shard}): no controller runs, or none that can serve"
        return f"its owner {self.holder} opens no attempt: {self.idle}" if self.idle else ""


async def find_owner(at: Access, store: Store, *, namespace: str, uid: str, home: str) -> Owner:
    """
    Find out who works on a notification; never raises, whatever the API server answers.

    Args:
        at: Open connections.
        store: The store, checked.
        namespace: Namespace of the notification.
        uid: Uid of the notification.
        home: Namespace of the controller, empty if that is not known.
    """
    named, unread = at.settings.controller.namespaces if at.configured else "", list[str]()
    home = home or store.home
    watched = (
        None
        if not (named or (home and at.configured))
        else (named == "*" or namespace in (named or (home,)))
    )
    if not at.configured:
        unread.append("which namespaces are watched is not known without --config")
    elif watched is None:
        unread.append("which namespace is watched is not known: it is the controller's own")
    if store.state is StoreState.NEW:
        return Owner(watched, unread=tuple(unread), missing=store.text)
    sharding = sharding_of(store.map)
    shard = -1 if sharding is None else sharding.of(uid)
    found, problem = Owner(), store.text
    if store.map is not None:
        problem = "the installation does not say how many there are"
        if at.kube is not None and sharding is not None:
            try:
                found, problem = await read_shard(at.kube, store.home, store.lease, shard), ""
            except PortError as error:
                problem = str(error)
    if problem:
        unread.append(f"who owns its shard is not known: {problem}")
    return replace(found, watched=watched, shard=shard, unread=tuple(unread))


def sharding_of(lease: LeaseRecord | None) -> Sharding | None:
    """Return how an installation is divided into shards, from its map Lease; None if that does not say."""
    return Sharding.read(lease.annotation(SHARDS)) if lease is not None else None


async def read_shard(kube: KubeClient, namespace: str, installation: str, shard: int) -> Owner:
    """
    Read the holder of a shard, and the journal note in its Lease; no other field of the result is set.

    Args:
        kube: The API server.
        namespace: Namespace of the Lease.
        installation: Name of the installation, the first part of the Lease's name.
        shard: Number of the shard.

    Raises:
        PortError: the shard's Lease, or the session of its holder, could not be read.
    """
    leases = Leases(kube, namespace, (LABEL, installation))
    try:
        lease = await leases.get(f"{installation}-{shard}", timeout=_TIMEOUT)
    except Gone:
        return Owner(holder="")
    note = parse_note(lease.annotation(NOTE))
    if note is not None and note.kept != lease.transitions:
        # The latest acquisition did not keep the note, so it does not count.
        note = None
    if not (uid := session_of(lease)):
        return Owner(holder="", note=note)
    try:
        session = await leases.get(session_name(installation, lease.holder), timeout=_TIMEOUT)
    except Gone:
        return Owner(holder="", note=note)
    holder = holder_of(session, now=time.time()) if session.uid == uid else ""
    return Owner(holder=holder, idle=session.annotation(PROBLEM) if holder else "", note=note)


def holder_of(lease: LeaseRecord, *, now: float) -> str:
    """
    Return the holder of a session, empty if the session has expired according to its own times.

    `now` is in Unix seconds. A session is renewed every few seconds, so a dead replica shows soon; the
    local clock may differ from the replica's by some seconds.
    """
    lasts = max(_RENEWED, lease.duration / 2)
    return lease.holder if now - parse_time(lease.renew_time) / 1000 < lasts else ""


async def store_without_redis(at: Access, *, home: str, reason: str) -> Store:
    """
    Return the installation that the settings or their defaults name, because the store cannot be read.

    Args:
        at: Open connections.
        home: Namespace of the controller, empty if that is not known.
        reason: Why Redis was not read.
    """
    name = at.settings.sharding.lease_name
    if not home or at.kube is None:
        text = at.problem or "the controller's namespace is not known"
        return Store(StoreState.UNCHECKED, text, lease=name)
    try:
        found = await read_map(at.kube, home, name)
    except PortError as error:
        return Store(StoreState.UNCHECKED, str(error), home, name, error=error)
    text = reason if found else f"there is no Lease {home}/{name}-map"
    return Store(StoreState.UNCHECKED, text, home, name, found)


def log_by_status(request: NotificationRequest) -> ReadLog:
    """Return the content of the status in the form of a log without records and header."""
    view = LogView()
    for shown in request.status.attempts:
        view.learn(shown)
    view.plan = missing_plan(view, request.status)
    return ReadLog(None, (), view)


def held_back(request: NotificationRequest, owner: Owner) -> str:
    """Return why nothing is sent until Redis is back, empty if attempts go on without it."""
    if owner.note is None:
        if owner.holder is None:
            return "Redis does not answer, and whether attempts are journaled is not known"
        return (
            "Redis does not answer, and attempts are not journaled (according to its shard's Lease)"
        )
    if complete(request, owner.note):
        return ""
    held = find_condition(request.status.conditions, LOG_UNAVAILABLE)
    return held.message if held is not None else ""


def complete(request: NotificationRequest, note: Note) -> bool:
    """Whether the status shows everything that was recorded, whoever owns the shard."""
    return basis(request, note, known_in=None, epoch=NO_EPOCH).complete


def remarks(request: NotificationRequest, owner: Owner, reason: str) -> list[str]:
    """
    Return remarks for the reader of an answer that was made without the log.

    Args:
        request: The object.
        owner: Who works on it.
        reason: Why the log was not read, empty if it was.
    """
    out = [f"its log was not read, so this comes from its status alone: {reason}"] if reason else []
    mark, note = request.status.journal, owner.note
    if note is not None:
        out.append(
            f"attempts of its shard are journaled in the status since {format_time(note.since)}"
            f" (outage {note.name})"
        )
        if reason and not complete(request, note):
            out.append(
                "it is older than the outage: it continues only if its owner has read its log since it"
                " took the shard"
            )
    if mark and (note is None or note.name != mark):
        out.append(f"attempts were journaled in its status in the outage {mark}")
    return out
