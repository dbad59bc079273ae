"""
The Lease `<name>-map`: what all replicas of an installation must agree on, and who they are.

*Shards.* Their number, and the function that tells the shard of a uid, decide which Lease guards which
notification, so two replicas must never believe in different ones. The first replica writes both down as
one annotation (`syncer.rules.shards.Sharding`): the number is then refused at the start where the settings
have another one, and the function is taken as it is found. Who changes the annotation, with the
installation scaled to zero, has changed either; a replica that still runs finds out with its next beat and
leaves. Deleting the Lease instead would make another installation of it, to which the logs do not belong.

*Identity.* The Lease's uid is written into Redis, where it distinguishes this installation's logs from
those of another cluster that was given the same store.

*Members.* Each replica keeps one annotation alive with its name and whether it could own a shard, and
sees the others by watching theirs change on its own clock. It is how a newcomer makes itself known, so
that shards are evenly distributed. Safety does not depend on it: the shards' Leases alone decide who acts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from syncer.kube.client import MERGE_PATCH, Json, KubeClient
from syncer.model.errors import ConfigError, Conflict, Gone
from syncer.rules.shards import Sharding

_TIMEOUT: Final = 5.0
_SHARDS: Final = "notification-ledger/shards"
_MEMBER: Final = "member.notification-ledger/"
#: Silence, in multiples of the time after which a member counts as gone, until its entry is removed.
_FORGET: Final = 10


@dataclass(slots=True)
class _Sighting:
    value: str
    since: float
    willing: bool


class Installation:
    """
    One replica's view of the map Lease.

    Attributes:
        sharding: How notifications are divided, as `found` has found it.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        shards: int,
        alive_for: float,
        clock: Callable[[], float],
    ) -> None:
        """
        Prepare; no request is sent yet.

        Args:
            client: The one for leases.
            namespace: Of the Lease.
            name: Of the installation.
            identity: Of this replica.
            shards: As configured.
            alive_for: Seconds of silence after which a member counts as gone.
            clock: Boot-time seconds.
        """
        self._client = client
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace, safe='')}/leases"
        self._path = f"{self._leases}/{quote(name, safe='')}-map"
        self._name = name
        self._namespace = namespace
        self.sharding = Sharding(shards)
        self._alive_for = alive_for
        self._clock = clock
        self._own = _MEMBER + hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._beats = 0
        self._seen: dict[str, _Sighting] = {}

    async def found(self) -> str:
        """
        Find or found the installation; returns its id, without blanks.

        Raises:
            ConfigError: it has another number of shards, or tells them apart in a way not known here.
            PortError: the API server did not answer; call again.
        """
        try:
            lease = await self._client.request("GET", self._path, timeout=_TIMEOUT)
        except Gone:
            lease = await self._create()
        if _SHARDS not in _annotations(lease):
            # None that writes the function down leaves out the number.
            lease = await self._patch({_SHARDS: str(Sharding(self.sharding.shards, "crc32"))})
        recorded = _recorded(lease)
        if recorded is not None and recorded.shards == self.sharding.shards:
            self.sharding = recorded
        self._agree(lease)
        return f"{self._namespace}/{self._name}@{lease['metadata']['uid']}"

    async def _create(self) -> Json:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": f"{self._name}-map",
                "namespace": self._namespace,
                "annotations": {_SHARDS: str(self.sharding)},
            },
            "spec": {"holderIdentity": self._name},
        }
        try:
            return await self._client.request("POST", self._leases, body=body, timeout=_TIMEOUT)
        except Conflict:
            return await self._client.request("GET", self._path, timeout=_TIMEOUT)

    def _agree(self, lease: Json) -> None:
        recorded = _recorded(lease)
        if recorded != self.sharding:
            shards = self.sharding.shards
            wanted = Sharding(shards, recorded.function if recorded else self.sharding.function)
            raise ConfigError(
                f"is {shards}, but the Lease {self._name}-map says"
                f" {_annotations(lease).get(_SHARDS)}; to change the number scale to 0 first, then:"
                f" kubectl annotate lease --overwrite -n {self._namespace} {self._name}-map"
                f" {_SHARDS}={wanted}",
                path="sharding.shards",
            )

    async def beat(self, *, willing: bool) -> int:
        """
        Say that this replica lives, and count those that live and could own a shard.

        Args:
            willing: Whether this replica could own a shard now.

        Returns:
            Members that are alive and willing, this one included if it is.

        Raises:
            ConfigError: the number of shards is another one now; nothing may be worked on.
            PortError: not answered; the last count may be used on.
        """
        self._beats += 1
        change: dict[str, str | None] = {self._own: f"{self._beats} {int(willing)}"}
        change |= dict.fromkeys(self._forgotten())
        lease = await self._patch(change)
        self._agree(lease)
        self._look(_annotations(lease))
        return self._count()

    async def leave(self) -> None:
        """Take the own entry away, so that the others need not wait for its silence."""
        await self._patch({self._own: None})

    async def _patch(self, annotations: dict[str, str | None]) -> Json:
        return await self._client.request(
            "PATCH",
            self._path,
            body={"metadata": {"annotations": annotations}},
            content_type=MERGE_PATCH,
            timeout=_TIMEOUT,
        )

    def _look(self, annotations: dict[str, str]) -> None:
        now = self._clock()
        found = {k: v for k, v in annotations.items() if k.startswith(_MEMBER)}
        for key in set(self._seen) - set(found):
            del self._seen[key]
        for key, value in found.items():
            known = self._seen.get(key)
            if known is None or known.value != value:
                self._seen[key] = _Sighting(value, now, value.endswith(" 1"))

    def _count(self) -> int:
        now = self._clock()
        return sum(s.willing and now - s.since <= self._alive_for for s in self._seen.values())

    def _forgotten(self) -> list[str]:
        limit = self._clock() - _FORGET * self._alive_for
        return [k for k, s in self._seen.items() if s.since < limit and k != self._own]


def _recorded(lease: Json) -> Sharding | None:
    return Sharding.read(_annotations(lease).get(_SHARDS, ""))


def _annotations(lease: Json) -> dict[str, str]:
    return dict((lease.get("metadata") or {}).get("annotations") or {})
