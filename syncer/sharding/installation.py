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

from syncer.kube.client import MERGE_PATCH, Json, KubeClient
from syncer.kube.leases import lease_path
from syncer.model.errors import ConfigError, Conflict, Gone, Unavailable
from syncer.model.times import time_of
from syncer.rules.shards import Sharding
from syncer.sharding.view import LABEL, SHARDS

logger = logging.getLogger("ledger.shards")

_TIMEOUT: Final = 5.0


class Installation:
    """One replica's view of the map Lease; `sharding` is as `found` has found it."""

    def __init__(self, client: KubeClient, namespace: str, name: str, *, shards: int) -> None:
        """
        Prepare; no request is sent yet.

        The client is the one for leases; `shards` is as configured.
        """
        self._client = client
        self._leases = lease_path(namespace)
        self._path = lease_path(namespace, f"{name}-map")
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
            return await self._find()
        except (AttributeError, KeyError, TypeError) as error:
            raise Unavailable(f"what answers for the Lease {self._name}-map is none") from error

    async def _find(self) -> str:
        try:
            lease = await self._client.request("GET", self._path, timeout=_TIMEOUT)
        except Gone:
            lease = await self._create()
        uid = self._uid = lease["metadata"]["uid"]
        self.since = time_of(lease["metadata"].get("creationTimestamp"))
        if (lease["metadata"].get("labels") or {}).get(LABEL) != self._name:
            lease = await self._patch()
        self.agree((lease["metadata"].get("annotations")) or {})
        self.id = f"{self._namespace}/{self._name}@{uid}"
        return self.id

    async def _create(self) -> Json:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": f"{self._name}-map",
                "namespace": self._namespace,
                "labels": {LABEL: self._name},
                "annotations": {SHARDS: str(self.sharding)},
            },
            "spec": {"holderIdentity": self._name},
        }
        try:
            made = await self._client.request("POST", self._leases, body=body, timeout=_TIMEOUT)
        except Conflict:
            return await self._client.request("GET", self._path, timeout=_TIMEOUT)
        self.new = True
        return made

    def agree(self, annotations: Mapping[str, str]) -> None:
        """Compare the Lease with what was found at the start; ConfigError if shards are other ones."""
        text = annotations.get(SHARDS)
        if text != str(self.sharding):
            raise ConfigError(
                f"is {self.sharding.shards}, but the Lease {self._name}-map says {text}; to change the"
                f" number scale to 0 first, then: kubectl annotate lease --overwrite -n {self._namespace}"
                f" {self._name}-map {SHARDS}={self.sharding}",
                path="shards",
            )

    def compare(self, uid: str) -> None:
        """Note the uid that the Lease has now, empty if it is gone; replicas that run go on without it."""
        problem = None
        if uid != self._uid:
            problem = (
                f"the Lease {self._name}-map was {'made anew' if uid else 'deleted'}, so a replica that"
                " starts does not own the logs in Redis, and exits; see 'etcd was restored' in recovery.md"
            )
            if problem != self.problem:
                logger.error("%s", problem)
        self.problem = problem

    async def put_label(self) -> None:
        """Restore the label that makes the Lease visible to all, after somebody has removed it."""
        try:
            await self._patch()
        except Gone:
            self.compare("")
            raise

    async def _patch(self) -> Json:
        return await self._client.request(
            "PATCH",
            self._path,
            body={"metadata": {"labels": {LABEL: self._name}}},
            content_type=MERGE_PATCH,
            timeout=_TIMEOUT,
        )
