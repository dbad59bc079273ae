"""
A replica of a version without sessions, as far as Leases show it: for tests of an upgrade beside one.

It follows the rules of that version: one Lease a shard, renewed every period; a Lease is free when its
resourceVersion has not changed for the duration that it states, also when it was deleted since; released
is one that names nobody and says one second. It counts members by annotations of the map Lease whose values
change, takes free shards below its share, and releases what is above it. It sends nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tests.integration.api import Api

MEMBER: Final = "member.notification-ledger/"


@dataclass
class Seen:
    """A Lease as it was read last, and since when this version of it is known."""

    version: str
    holder: str
    duration: float
    transitions: int
    at: float


@dataclass
class Predecessor:
    """
    One such replica.

    Attributes:
        owned: Shards that it holds, with the version of the write that acquired them.
        others: Replicas that it counts besides itself.
    """

    api: Api
    name: str
    identity: str
    shards: int
    period: float
    duration: int
    owned: dict[int, str] = field(default_factory=dict)
    others: int = 0
    _seen: dict[int, Seen] = field(default_factory=dict)
    _members: dict[str, tuple[str, float]] = field(default_factory=dict)
    _free: dict[int, float] = field(default_factory=dict)
    _beats: int = 0

    async def run(self) -> None:
        """Compete until cancelled; then nothing is released."""
        while True:
            await self._beat()
            for n in range(self.shards):
                await self._turn(n)
            await asyncio.sleep(self.period)

    async def leave(self) -> None:
        """Release everything, as a drain does."""
        for n in list(self.owned):
            await self._release(n)
        await self._patch("map", {"metadata": {"annotations": {self._own: None}}})

    @property
    def _own(self) -> str:
        return MEMBER + hashlib.sha256(self.identity.encode()).hexdigest()[:16]

    @property
    def _share(self) -> int:
        return -(-self.shards // (self.others + 1))

    async def _beat(self) -> None:
        self._beats += 1
        change = {"metadata": {"annotations": {self._own: f"{self._beats} 1"}}}
        found = await self._patch("map", change)
        now = time.monotonic()
        shown = found.body["metadata"].get("annotations") or {}
        members = {k: v for k, v in shown.items() if k.startswith(MEMBER)}
        for key in set(self._members) - set(members):
            del self._members[key]
        for key, value in members.items():
            if self._members.get(key, ("", 0.0))[0] != value:
                self._members[key] = (value, now)
        alive = [
            key
            for key, (value, since) in self._members.items()
            if value.endswith(" 1") and now - since <= self.duration
        ]
        self.others = len([key for key in alive if key != self._own])

    async def _turn(self, n: int) -> None:
        if n in self.owned:
            await self._renew(n)
        else:
            await self._compete(n)

    async def _renew(self, n: int) -> None:
        if len(self.owned) > self._share:
            await self._release(n)
            return
        answer = await self._write(n, self._spec())
        if answer.code == 409:
            seen = await self._read(n)
            if seen is None or seen.holder != self.identity:
                del self.owned[n]

    async def _compete(self, n: int) -> None:
        seen = await self._read(n)
        known, now = self._seen.get(n), time.monotonic()
        if known is not None and known.holder != self.identity:
            released = not known.holder and known.duration <= 1
            if not released and now < known.at + known.duration:
                return
        if not (known and known.holder):
            since = self._free.setdefault(n, now)
            if len(self.owned) >= self._share and now - since <= self.duration:
                return
        spec = self._spec(acquire=True, transitions=seen.transitions + 1 if seen else 0)
        if seen is None:
            meta = {"name": f"{self.name}-{n}"}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
            answer = await self.api.ask("POST", self.api.leases, {**body, "spec": spec})
        else:
            answer = await self._write(n, spec)
        if answer.code < 300:
            self._note(n, answer.body)
            self._free.pop(n, None)
            self.owned[n] = answer.body["metadata"]["resourceVersion"]

    async def _release(self, n: int) -> None:
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _time()}
        answer = await self._write(n, spec)
        if answer.code == 409:
            await self._read(n)
            answer = await self._write(n, spec)
        if answer.code == 200:
            del self.owned[n]

    def _spec(self, *, acquire: bool = False, transitions: int = 0) -> dict[str, Any]:
        now = _time()
        spec = {
            "holderIdentity": self.identity, "leaseDurationSeconds": self.duration, "renewTime": now,
        }  # fmt: skip
        return spec | ({"acquireTime": now, "leaseTransitions": transitions} if acquire else {})

    async def _read(self, n: int) -> Seen | None:
        answer = await self.api.ask("GET", f"{self.api.leases}/{self.name}-{n}")
        return self._note(n, answer.body) if answer.code == 200 else None

    def _note(self, n: int, document: dict[str, Any]) -> Seen:
        version, spec = document["metadata"]["resourceVersion"], document["spec"]
        known = self._seen.get(n)
        at = known.at if known is not None and known.version == version else time.monotonic()
        seen = self._seen[n] = Seen(
            version,
            spec.get("holderIdentity") or "",
            float(spec.get("leaseDurationSeconds") or self.duration),
            int(spec.get("leaseTransitions") or 0),
            at,
        )
        return seen

    async def _write(self, n: int, spec: dict[str, Any]) -> Any:
        version = self._seen[n].version
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        answer = await self._patch(str(n), body)
        if answer.code == 200:
            self._note(n, answer.body)
        return answer

    async def _patch(self, which: str, body: dict[str, Any]) -> Any:
        return await self.api.ask("PATCH", f"{self.api.leases}/{self.name}-{which}", body)


def _time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
