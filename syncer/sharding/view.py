"""
What this process knows of the Leases of its installation, and since when; no I/O.

The view is fed by one list and watch (`syncer.kube.leases`), in the order of resourceVersions, and by
nothing else: answers to our own writes do not change it, so its versions only move forward. It may be
behind the server; whoever acts on it does so by compare-and-swap.

A Lease that has not changed keeps the time at which it was first seen, across a new list as well. A deleted
one is remembered for as long as its holder may still rely on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from syncer.kube.leases import LeaseRecord
from syncer.model.resource import version_key

#: Key of the label that names the installation.
LABEL: Final = "notification-ledger/installation"
#: Annotation of the map's Lease: how the installation is divided (`syncer.rules.shards.Sharding`).
SHARDS: Final = "notification-ledger/shards"
#: Annotation of a shard's Lease: uid of the session that holds it.
SESSION: Final = "notification-ledger/session"
#: Annotation of a session's Lease: whether its replica could own a shard now.
ABLE: Final = "notification-ledger/able"
#: Annotation of a session's Lease: why its replica opens no attempt now, for operators; empty if it does.
PROBLEM: Final = "notification-ledger/problem"
#: Annotations of a session's Lease: the routing in force, in words, and why it is not that of the files.
ROUTING: Final = "notification-ledger/routing"
ROUTING_PROBLEM: Final = "notification-ledger/routing-problem"
#: Annotation of a session's Lease: the namespaces that its replica watches (`syncer.sharding.neighbours`).
NAMESPACES: Final = "notification-ledger/namespaces"
#: `leaseDurationSeconds` of a shard that a session holds, which lasts for as long as that does. What
#: somebody writes by hand beside the annotation of a session has another one.
FOREVER: Final = 2**31 - 1
#: The same of one that was released: the least that is valid.
RELEASED: Final = 1


def session_name(installation: str, identity: str) -> str:
    """Return the name of the Lease of a replica's session."""
    return f"{installation}-session-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def session_of(lease: LeaseRecord) -> str:
    """
    Return the uid of the session that holds a shard's Lease.

    It is empty for one that is free, or was not written by a session: then its duration is another one.
    """
    return lease.annotation(SESSION) if lease.holder and lease.duration >= FOREVER else ""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A Lease as it is now, and the second at which this resourceVersion was seen first."""

    lease: LeaseRecord
    since: float


@dataclass(frozen=True, slots=True)
class Departure:
    """
    A Lease as it was last.

    Attributes:
        since: Second at which its last write was seen; where a list alone shows that it is gone, that of
            the list, because there may have been a later one.
        at: Second at which it was gone.
    """

    lease: LeaseRecord
    since: float
    at: float


class LeaseView:
    """
    All Leases of an installation, as one replica sees them.

    Attributes:
        sessions: Those of them that are sessions, by uid; some may be over.
        departed: Those that are gone, by uid.
        version: resourceVersion up to which all of it is known; empty before the first list.
        began: Second of the first list.
    """

    def __init__(
        self,
        installation: str,
        *,
        duration: float,
        clock: Callable[[], float],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Know nothing yet.

        The names of the Leases begin with `installation`. `duration` is in seconds, for Leases that state
        none; `clock` gives monotonic seconds. `on_change` is called after each change, but not for a
        renewal, which only puts off what is done.
        """
        self.installation = installation
        self.leases: dict[str, Sighting] = {}
        self.sessions: dict[str, Sighting] = {}
        self.departed: dict[str, Departure] = {}
        self.version = ""
        self.began = 0.0
        self._duration = duration
        self._clock = clock
        self._on_change = on_change

    def replace(self, leases: list[LeaseRecord], version: str) -> None:
        """Replace everything by a complete list and its resourceVersion."""
        if not self.version:
            self.began = self._clock()
        present = {lease.name for lease in leases}
        for name in [n for n in self.leases if n not in present]:
            self._depart(name)
        for lease in leases:
            self._see(lease)
        self._advance(version)

    def put(self, lease: LeaseRecord) -> None:
        """Note a Lease that was created or written."""
        known = self.sessions.get(lease.uid)
        renewal = known is not None and lease.renews(known.lease)
        self._see(lease)
        self.version = lease.resource_version
        if not renewal:
            self._on_change()

    def remove(self, lease: LeaseRecord) -> None:
        """Take the last state of a Lease that is gone."""
        known = self.leases.get(lease.name)
        if known is not None:
            self._depart(lease.name, known.since)
        self._advance(lease.resource_version)

    def shows(self, version: str) -> bool:
        """Whether the view includes a write with this resourceVersion."""
        return version_key(version) <= version_key(self.version)

    def version_of(self, name: str) -> str:
        """Return the resourceVersion in which a Lease is known, empty if it is not."""
        found = self.leases.get(name)
        return found.lease.resource_version if found else ""

    def name_of(self, n: int) -> str:
        """Return the name of a shard's Lease."""
        return f"{self.installation}-{n}"

    def shard(self, n: int) -> Sighting | None:
        """Return the Lease of a shard."""
        return self.leases.get(self.name_of(n))

    def map(self) -> LeaseRecord | None:
        """Return the Lease that all replicas agree on."""
        found = self.leases.get(f"{self.installation}-map")
        return found.lease if found else None

    def lasts(self, lease: LeaseRecord) -> float:
        """
        Seconds for which the holder of a Lease may rely on it after its last write.

        At most as long as this replica's own, whatever it states: anybody who may create Leases could state
        years, and be taken for a replica for as long.
        """
        return min(lease.duration, self._duration) if lease.duration > 0 else self._duration

    def forget(self) -> None:
        """Forget deleted Leases whose holders can no longer rely on them."""
        now = self._clock()
        for uid, gone in list(self.departed.items()):
            if now >= gone.at + self.lasts(gone.lease):
                del self.departed[uid]

    def _see(self, lease: LeaseRecord) -> None:
        known = self.leases.get(lease.name)
        if known is not None and known.lease.uid != lease.uid:
            self._depart(lease.name)
            known = None
        if known is None or known.lease.resource_version != lease.resource_version:
            # Now, after it arrived: to wait too long is safe, too short is not.
            seen = self.leases[lease.name] = Sighting(lease, self._clock())
            if lease.name.startswith(f"{self.installation}-session-"):
                self.sessions[lease.uid] = seen

    def _depart(self, name: str, since: float | None = None) -> None:
        known, now = self.leases.pop(name), self._clock()
        self.sessions.pop(known.lease.uid, None)
        at = now if since is None else since
        self.departed[known.lease.uid] = Departure(known.lease, at, now)

    def _advance(self, version: str) -> None:
        self.version = version
        self._on_change()
