"""
Who should own which shard: what to take, whose session to end, what to hand over; pure.

A shard is held for as long as its holder's session lasts. A session whose Lease has not changed for its
duration, at most for our own, as seen on our clock, may be ended; what it held may be taken once its end is
certain, and not before. So a shard is

- *mine*: its Lease bears our name, and we hold no term: a dead predecessor's, or that of a session of ours
  that is over. It is taken at once, with a new epoch.
- *orphaned*: its holder's session has ended. Whoever comes first takes it, even above its share, because an
  owner with too much load is better than none.
- *free*: released, or never held. It is taken below the share, or after a while by anybody.
- *held*: all else.

If a person deletes a Lease, its holder may not know yet: the shard counts as held for a LeaseDuration.
A shard whose Lease names no session counts as held until that Lease has not changed for its duration.

The share is arithmetic and distributes work; safety comes from sessions, compare-and-swap and the fences.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from syncer.kube.leases import LeaseRecord
from syncer.model.conditions import bounded
from syncer.model.resource import version_key
from syncer.sharding.view import ABLE, RELEASED, LeaseView, session_of


def share(shards: int, members: int) -> int:
    """The most shards that one of several replicas should hold; all of them if it is alone."""
    return -(-shards // max(1, members))


def hand_over(
    owned: Collection[int], *, shards: int, others: int, unable: float | None, patience: float
) -> tuple[int, str] | None:
    """
    Return the shard that a replica should hand over now, and the reason; None if all stay.

    Above its share it gives up the highest-numbered shards. One that cannot serve gives up all of
    them, but not for a short outage, which costs less than claiming every log again; and not while no
    other replica can serve either, since then nothing would be gained, and shards would move in circles.

    Args:
        owned: Shards held, those that are being handed over already left out.
        shards: Of the installation.
        others: How many other replicas are able to serve.
        unable: Seconds for which this one has not been, None if it is.
        patience: Seconds of that from which on it hands over.
    """
    if unable is None:
        wanted = len(owned) > share(shards, others + 1)
        reason = f"above the share of {others + 1} replicas"
    else:
        wanted = unable > patience and others > 0
        reason = f"unable to serve for {unable:.0f} s, and another replica is able"
    return (max(owned), reason) if owned and wanted else None


class Fitness:
    """
    Whether a replica counts as able to serve, by what it is and was.

    One that cannot reach Redis takes nothing and is not counted, so that no shard is handed to one that
    could not use it. If that lasts for a LeaseDuration it hands over all of its shards, as long as another
    one is able, and is on probation: it counts again once it has been able for as long, or at once if no
    other replica is. A connection that comes and goes must not move the shards back and forth.
    """

    def __init__(self, patience: float) -> None:
        """Start as able to serve; `patience` is a LeaseDuration in seconds."""
        self._patience = patience
        self._unable_since: float | None = None
        #: Second since which it has been able again, on probation; else None.
        self._probation: float | None = None

    def check(self, *, able: bool, others: int, now: float) -> bool:
        """
        Tell whether it counts now.

        Args:
            able: Whether it is able now.
            others: How many other replicas are.
            now: Second of the monotonic clock.
        """
        if not able:
            if self._unable_since is None:
                self._unable_since = now
            if self._probation is not None:
                self._probation = now
            return False
        self._unable_since = None
        if self._probation is not None and others and now - self._probation <= self._patience:
            return False
        self._probation = None
        return True

    def probe(self, now: float) -> None:
        """Put it on probation: it hands over what it cannot serve."""
        self._probation = now

    def unable_for(self, now: float) -> float | None:
        """Seconds for which it has not been able, None if it is."""
        return None if self._unable_since is None else now - self._unable_since


class Hold(Enum):
    """How a shard is held."""

    MINE = auto()
    ORPHANED = auto()
    FREE = auto()
    HELD = auto()


@dataclass(frozen=True, slots=True)
class ShardState:
    """
    How a shard is held, as far as the view shows.

    Attributes:
        since: Second since which it is free.
        until: Second at which one that is held has to be looked at again.
        holder: Who held one that is orphaned.
        session: uid of the session that held it, whose end has to be confirmed before it is taken.
    """

    hold: Hold
    since: float = 0.0
    until: float = math.inf
    holder: str = ""
    session: str = ""


def state_of(
    view: LeaseView, n: int, identity: str, now: float, ended: Iterable[str]
) -> ShardState:
    """
    Tell how a shard is held by anybody but a term of ours.

    Args:
        view: What is known.
        n: The shard.
        identity: Our own.
        now: Second of the monotonic clock.
        ended: uids of sessions whose end was confirmed.
    """
    seen = view.shard(n)
    if seen is None:
        return _absent(view, n, identity, now)
    lease = seen.lease
    if lease.holder == identity:
        return ShardState(Hold.MINE)
    if not lease.holder:
        # Erased by hand if it does not look released: then its holder does not know yet.
        free = seen.since if lease.duration <= RELEASED else seen.since + view.lasts(lease)
        return ShardState(Hold.FREE, since=free) if now >= free else _held(free)
    uid = session_of(lease)
    if uid in ended:
        return ShardState(Hold.ORPHANED, holder=lease.holder)
    if session := view.sessions.get(uid):
        # It is ended first, however long it has been silent.
        return _held(session.since + view.lasts(session.lease))
    if gone := view.departed.get(uid):
        until = gone.since + view.lasts(gone.lease)
    else:
        until = seen.since + view.lasts(lease)
    if now < until:
        return _held(until)
    return ShardState(Hold.ORPHANED, holder=lease.holder, session=uid)


def _absent(view: LeaseView, n: int, identity: str, now: float) -> ShardState:
    gone = [d for d in view.departed.values() if d.lease.name == view.name_of(n)]
    last = max(gone, key=lambda d: d.at, default=None)
    if last is None:
        return ShardState(Hold.FREE, since=view.began)
    known = last.lease.holder == identity or not last.lease.holder
    free = last.at if known else last.at + view.lasts(last.lease)
    return ShardState(Hold.FREE, since=free) if now >= free else _held(free)


def _held(until: float) -> ShardState:
    return ShardState(Hold.HELD, until=until)


def silent_sessions(view: LeaseView, own: str, now: float) -> list[LeaseRecord]:
    """
    Return the sessions that may be ended: unchanged for their duration, as seen on the own clock.

    Args:
        view: What is known.
        own: uid of our own session, which is not among them.
        now: Second of the monotonic clock.
    """
    return [
        s.lease
        for s in view.sessions.values()
        if s.lease.uid != own and now >= s.since + view.lasts(s.lease)
    ]


def able_sessions(view: LeaseView, identity: str, now: float) -> int:
    """Count the other replicas that live and could own a shard."""
    return sum(
        now < s.since + view.lasts(s.lease) and s.lease.annotation(ABLE) == "true"
        for s in view.sessions.values()
        if s.lease.holder != identity
    )


def choose(
    states: Mapping[int, ShardState], *, missing: int, now: float, patience: float
) -> list[int]:
    """
    Choose the shards to take now.

    Args:
        states: Of all shards that we hold no term of.
        missing: How many more the share allows.
        now: Second of the monotonic clock.
        patience: Seconds after which a free shard is taken even above the share.
    """
    free = [n for n, s in states.items() if s.hold is Hold.FREE]
    late = [n for n in free if now > states[n].since + patience]
    urgent = [n for n, s in states.items() if s.hold in {Hold.MINE, Hold.ORPHANED}]
    below = [n for n in free if n not in late][: max(0, missing - len(urgent) - len(late))]
    return sorted({*urgent, *late, *below})


def look_again(view: LeaseView, states: Iterable[ShardState], now: float) -> float:
    """Return the second at which time alone changes something; infinity if only an event does."""
    ends = (s.since + view.lasts(s.lease) for s in view.sessions.values())
    return min((t for t in (*(s.until for s in states), *ends) if t > now), default=math.inf)


def loss_of(view: LeaseView, n: int, held: LeaseRecord, identity: str, session: str) -> str:
    """
    Tell why a term of ours is over although its session is not; empty if it is not.

    Args:
        view: What is known; one that is behind our own write shows nothing.
        n: The shard.
        held: Its Lease as our last write has left it.
        identity: Our own.
        session: uid of our session.
    """
    if not view.shows(held.resource_version):
        return ""
    seen = view.shard(n)
    if seen is None:
        return "the lease was deleted"
    lease = seen.lease
    if version_key(lease.resource_version) <= version_key(held.resource_version):
        return ""
    if lease.holder != identity:
        return f"taken by {bounded(lease.holder, 100) or 'nobody'}"
    if session_of(lease) != session or lease.transitions != held.transitions:
        return "taken by another process with our name"
    return ""
