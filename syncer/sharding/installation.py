"""
The Lease `<name>-map`: what all replicas of an installation must agree on.

*Shards.* Their number, and the function that maps a uid to its shard, decide which Lease guards which
notification, so all replicas must use the same ones. The first replica records both in one annotation
(`syncer.rules.shards.Sharding`): a replica that has another number or function refuses to start. To change
the number, scale the installation to zero and change the annotation; a replica that still runs notices that
and exits. Deleting the Lease instead would create
another installation, to which the logs do not belong.

*Identity.* The Lease's uid is written into Redis, where it distinguishes this installation's logs from
those of another cluster that was given the same store.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from syncer.kube.leases import LeaseRecord, Leases
from syncer.model.errors import ConfigError, Conflict, Gone
from syncer.rules.shards import Sharding
from syncer.sharding.view import SHARDS

logger = logging.getLogger("ledger.shards")

_TIMEOUT: Final = 5.0


class Installation:
    """One replica's view of the map Lease; `sharding` is as `found` has found it."""

    def __init__(self, leases: Leases, namespace: str, name: str, *, shards: int) -> None:
        """Prepare; no request is sent yet. `shards` is as configured."""
        self._leases = leases
        self._map = f"{name}-map"
        self._name = name
        self._namespace = namespace
        self.sharding = Sharding(shards)
        #: Why a replica that starts now would be refused, None if it would not.
        self.problem: str | None = None
        #: Whether this process has founded it.
        self.new = False
        #: Unix milliseconds at which it was founded.
        self.since = 0
        self._uid = ""
        #: Its name and that of its Lease's uid, without blanks; empty until it is found.
        self.id = ""

    async def found(self) -> str:
        """
        Find or found the installation; returns its id, without blanks.

        Raises:
            ConfigError: it has another number of shards, or tells them apart in a way not known here.
            PortError: the API server did not answer, or with something else; call again.
        """
        try:
            lease = await self._leases.get(self._map, timeout=_TIMEOUT)
        except Gone:
            lease = await self._create()
        self._uid, self.since = lease.uid, lease.created
        self.agree(lease.annotations)
        self.id = f"{self._namespace}/{self._name}@{lease.uid}"
        return self.id

    async def _create(self) -> LeaseRecord:
        shards, spec = {SHARDS: str(self.sharding)}, {"holderIdentity": self._name}
        try:
            made = await self._leases.create(self._map, shards, spec, timeout=_TIMEOUT)
        except Conflict:
            return await self._leases.get(self._map, timeout=_TIMEOUT)
        self.new = True
        return made

    def agree(self, annotations: Mapping[str, str]) -> None:
        """Compare the Lease with what was found at the start; ConfigError if shards are other ones."""
        text = annotations.get(SHARDS)
        if text != str(self.sharding):
            raise ConfigError(
                f"is {self.sharding.shards}, but the Lease {self._map} says {text}; to change the"
                f" number scale to 0 first, then: kubectl annotate lease --overwrite -n {self._namespace}"
                f" {self._map} {SHARDS}={self.sharding}",
                path="shards",
            )

    def compare(self, uid: str) -> None:
        """Note the uid that the Lease has now, empty if it is gone; replicas that run go on without it."""
        problem = None
        if uid != self._uid:
            problem = (
                f"the Lease {self._map} was {'made anew' if uid else 'deleted'}, so a replica that"
                " starts does not own the logs in Redis, and exits; see 'etcd was restored' in recovery.md"
            )
            if problem != self.problem:
                logger.error("%s", problem)
        self.problem = problem

    async def put_label(self) -> None:
        """Restore the label that makes the Lease visible to all, after somebody has removed it."""
        try:
            await self._leases.put_label(self._map, timeout=_TIMEOUT)
        except Gone:
            self.compare("")
            raise
