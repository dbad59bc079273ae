"""An API server that keeps Leases, and one of them acquired."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from syncer.kube.lease_term import LeaseTimings, Session
from syncer.kube.leases import LeaseRecord
from syncer.model.errors import Ambiguous, Conflict
from syncer.sharding.shard_leases import ShardLeases
from syncer.sharding.view import Sighting


class Server:
    """One Lease, written by compare-and-swap; an answer may be lost, or a write come late."""

    def __init__(self) -> None:
        self.lease = LeaseRecord("nl-0", "u", "10", annotations={})
        self.lose = False
        #: Set when an answer may be given that is held up.
        self.gate: asyncio.Event | None = None

    async def get(self, name: str, *, timeout: float) -> LeaseRecord:
        """Answer what is stored."""
        return self.lease

    async def create(
        self, name: str, annotations: Mapping[str, str], spec: Any, *, timeout: float
    ) -> LeaseRecord:
        """Make it anew."""
        self.lease = LeaseRecord(
            name, "u2", "90", spec["holderIdentity"], annotations=dict(annotations)
        )
        return self.lease

    async def patch(
        self, name: str, version: str, annotations: Mapping[str, str | None], spec: Any, *, timeout: float
    ) -> LeaseRecord:  # fmt: skip
        """Write it."""
        self._write(version, annotations, spec)
        if self.lose:
            self.lose = False
            raise Ambiguous("no answer")
        answer = self.lease
        if self.gate is not None:
            await self.gate.wait()
        return answer

    def _write(self, version: str, annotations: Mapping[str, str | None], spec: Any) -> None:
        if version != self.lease.resource_version:
            raise Conflict("another version")
        kept = {**(self.lease.annotations or {}), **annotations}
        self.lease = replace(
            self.lease,
            resource_version=str(int(version) + 1),
            holder=spec.get("holderIdentity", self.lease.holder),
            transitions=spec.get("leaseTransitions", self.lease.transitions),
            annotations={k: v for k, v in kept.items() if v is not None},
        )


async def acquire(held: ShardLeases, server: Server) -> None:
    """Take the shard."""
    session = Session("s", 0.0, LeaseTimings())
    assert await held.acquire(0, session, Sighting(server.lease, 0.0)) is not None
