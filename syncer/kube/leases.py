"""
Leases: the calls on them, and one list and watch that shows all Leases of an installation.

All Leases of an installation have a label in common, so one watch shows sessions, shards and map in one
order, that of their resourceVersions. Like the watch of notifications (`syncer.kube.reflector`), it is
level-based: any failure leads to a new list. The list is a quorum read, and a list that is older than the
state seen before is refused.

Lost events are noticed because a process's own renewals come back on this watch: a stream that is silent
for longer than a few renewals, or does not show them, is given up, and the Leases are listed again.

Writes are compare-and-swap by resourceVersion, deletions by uid or by both; nothing is repeated here.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol, Self
from urllib.parse import quote

from syncer.kube.answers import event_of
from syncer.kube.client import MERGE_PATCH, Json, KubeClient
from syncer.kube.errors import OLDER_STATE
from syncer.model.errors import ContractError, Expired, PortError, Unavailable
from syncer.model.resource import version_key
from syncer.model.times import time_of
from syncer.rules.backoff import equal_jitter, exponential, late_jitter

_API: Final = "/apis/coordination.k8s.io/v1/namespaces"
_FIELD_MANAGER: Final = {"fieldManager": "notification-controller"}
_PAGE: Final = "500"
#: Seconds after which the server ends a watch; up to a quarter more is added.
_WATCH_SECONDS: Final = 240.0

logger = logging.getLogger("ledger.kube")


def lease_path(namespace: str, name: str = "") -> str:
    """Return the path of a Lease, or of all Leases of a namespace."""
    path = f"{_API}/{quote(namespace, safe='')}/leases"
    return f"{path}/{quote(name, safe='')}" if name else path


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The content of a Lease; `duration` is 0 and `renew_time` empty if the Lease states none."""

    name: str
    uid: str
    resource_version: str
    holder: str = ""
    transitions: int = 0
    duration: float = 0.0
    renew_time: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    #: When it was created, in Unix milliseconds, 0 if that is not known.
    created: int = 0

    @classmethod
    def of(cls, document: Json) -> Self:
        """Read a Lease; ContractError if it has no identity, or a member of a wrong type."""
        try:
            meta, spec = document["metadata"], document.get("spec") or {}
            return cls(
                name=str(meta["name"]),
                uid=str(meta["uid"]),
                resource_version=str(int(meta["resourceVersion"])),
                holder=str(spec.get("holderIdentity") or ""),
                transitions=int(spec.get("leaseTransitions") or 0),
                duration=float(spec.get("leaseDurationSeconds") or 0),
                renew_time=str(spec.get("renewTime") or ""),
                annotations={str(k): str(v) for k, v in (meta.get("annotations") or {}).items()},
                created=time_of(meta.get("creationTimestamp")),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ContractError("a lease cannot be read") from error

    def renews(self, earlier: LeaseRecord) -> bool:
        """Whether nothing but version and time of renewal differs from an earlier version."""
        return (
            self.annotations == earlier.annotations
            and (self.name, self.uid, self.holder, self.transitions, self.duration)
            == (earlier.name, earlier.uid, earlier.holder, earlier.transitions, earlier.duration)
        )  # fmt: skip

    def annotation(self, key: str) -> str:
        """Return an annotation; empty if there is none."""
        return self.annotations.get(key, "")


class Leases:
    """Calls on the Leases of one installation; each raises `PortError`s."""

    def __init__(self, client: KubeClient, namespace: str, label: tuple[str, str]) -> None:
        """
        Prepare; no request is sent.

        The client is used for Leases only, so that nothing else can delay a renewal. `label` is the key
        and value of the label that all these Leases carry.
        """
        self._client = client
        self._namespace = namespace
        self.label = label

    async def get(self, name: str, *, timeout: float) -> LeaseRecord:
        """Read a Lease from a quorum; `Gone` if there is none."""
        path = lease_path(self._namespace, name)
        return _read(await self._client.request("GET", path, timeout=timeout))

    async def create(
        self, name: str, annotations: Mapping[str, str], spec: Json, *, timeout: float
    ) -> LeaseRecord:
        """Create a Lease; `Conflict` if there is one of that name."""
        meta: Json = {
            "name": name, "namespace": self._namespace,
            "labels": dict([self.label]), "annotations": dict(annotations),
        }  # fmt: skip
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
        answer = await self._client.request(
            "POST",
            lease_path(self._namespace),
            params=_FIELD_MANAGER,
            body={**body, "spec": spec},
            timeout=timeout,
        )
        return _read(answer)

    async def patch(
        self,
        name: str,
        version: str,
        annotations: Mapping[str, str | None],
        spec: Json,
        *,
        timeout: float,
    ) -> LeaseRecord:
        """
        Write a Lease, and its label with it. A PUT would create a missing Lease.

        Args:
            name: Name of the Lease.
            version: resourceVersion that the Lease must have, else `Conflict`.
            annotations: Annotations to set; a value of None removes one.
            spec: Members to set.
            timeout: Seconds.
        """
        meta: Json = {
            "labels": dict([self.label]), "annotations": dict(annotations),
            "resourceVersion": version,
        }  # fmt: skip
        return _read(await self._patch(name, {"metadata": meta, "spec": spec}, timeout))

    async def put_label(self, name: str, *, timeout: float) -> None:
        """Write only the label, whatever else the Lease holds; its holder sees that as an edit."""
        await self._patch(name, {"metadata": {"labels": dict([self.label])}}, timeout)

    async def _patch(self, name: str, body: Json, timeout: float) -> Json:
        return await self._client.request(
            "PATCH",
            lease_path(self._namespace, name),
            params=_FIELD_MANAGER,
            body=body,
            content_type=MERGE_PATCH,
            timeout=timeout,
        )

    async def delete(self, name: str, uid: str, version: str = "", *, timeout: float) -> None:
        """
        Delete a Lease if it is still the one that is meant.

        Args:
            name: Name of the Lease.
            uid: Uid that the Lease must have, else `Conflict`.
            version: resourceVersion that it must have as well; empty for any.
            timeout: Seconds.
        """
        conditions = {"uid": uid} | ({"resourceVersion": version} if version else {})
        await self._client.request(
            "DELETE",
            lease_path(self._namespace, name),
            body={"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions},
            timeout=timeout,
        )

    async def list(self, *, timeout: float) -> tuple[list[LeaseRecord], str]:
        """Return all Leases of the installation, and the resourceVersion of the list."""
        found: list[LeaseRecord] = []
        params = {"labelSelector": "=".join(self.label), "limit": _PAGE}
        while True:
            page = await self._client.request(
                "GET", lease_path(self._namespace), params=params, timeout=timeout
            )
            try:
                meta = page.get("metadata") or {}
                found += [_read(item) for item in page.get("items") or ()]
                token, version = meta.get("continue"), meta.get("resourceVersion")
            except (AttributeError, TypeError) as error:
                raise Unavailable("the answer is not a list of leases") from error
            if not token:
                return found, str(version or "")
            params["continue"] = str(token)

    def watch(
        self, version: str, *, seconds: float, timeout: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """
        Watch all Leases of the installation.

        Args:
            version: resourceVersion after which the watch begins.
            seconds: Seconds after which the server ends the watch.
            timeout: Seconds within which the answer must begin; also the longest silence.
        """
        params = {
            "watch": "1",
            "labelSelector": "=".join(self.label),
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        return self._client.stream(
            lease_path(self._namespace), params, connect_timeout=timeout, idle_timeout=timeout
        )


def _read(document: Json) -> LeaseRecord:
    try:
        return LeaseRecord.of(document)
    except ContractError as error:
        raise Unavailable(str(error)) from error


class LeaseSink(Protocol):
    """Receives the Leases that a `LeaseWatch` shows."""

    def replace(self, leases: list[LeaseRecord], version: str) -> None:
        """Replace everything by a complete list and its resourceVersion."""

    def put(self, lease: LeaseRecord) -> None:
        """Note a Lease that was created or written."""

    def remove(self, lease: LeaseRecord) -> None:
        """Note the last state of a Lease that was deleted, or has lost the label."""


class LeaseWatch:
    """Lists, then watches, without end; `problem` says why its view may be out of date, or is None."""

    def __init__(
        self,
        leases: Leases,
        sink: LeaseSink,
        *,
        lagging: Callable[[], bool],
        patience: float,
    ) -> None:
        """
        Prepare; `run` starts.

        `lagging` returns whether one of this process's renewals should have been shown by now. `patience`
        is the timeout of a call, the longest silence, and the longest pause after a failure, in seconds.
        """
        self.problem: str | None = "leases are not listed yet"
        self._leases = leases
        self._sink = sink
        self._lagging = lagging
        self._patience = patience
        #: Where the next watch begins; empty: list first.
        self._resume = ""
        #: Newest resourceVersion shown; never cleared.
        self._newest = ""
        #: Loop time (seconds) at which a list or an event was last received.
        self._shown_at = float("-inf")
        #: The problem that was last logged; empty after a watch that brought an event.
        self._logged = ""
        #: Watches in a row that brought no event.
        self._streak = 0

    async def run(self) -> None:
        """Follow until cancelled; no answer of the server ends it."""
        while True:
            self._streak += 1
            try:
                if not self._resume:
                    await self._list()
                await self._follow()
            except PortError as error:
                self._resume = ""
                self.problem = f"watch of leases: {error}"
                if self.problem != self._logged:
                    logger.info("watch of leases interrupted: %s", error)
                self._logged = self.problem
            if self._streak:
                pause = exponential(0.1, self._patience, self._streak)
                await asyncio.sleep(equal_jitter(pause, random.random()))  # noqa: S311 - jitter

    def silent_for(self) -> float:
        """Seconds since a list or an event was last received."""
        return asyncio.get_running_loop().time() - self._shown_at

    def relist(self) -> None:
        """List again after the next event, because the view has turned out to be out of date."""
        self._resume = ""

    async def _list(self) -> None:
        found, version = await self._leases.list(timeout=self._patience)
        if version_key(version) < version_key(self._newest):
            raise Unavailable(OLDER_STATE)
        self._resume = self._newest = version
        self._shown_at = asyncio.get_running_loop().time()
        self._sink.replace(found, version)

    async def _follow(self) -> None:
        async with self._leases.watch(
            self._resume,
            seconds=late_jitter(_WATCH_SECONDS, random.random()),  # noqa: S311 - jitter
            timeout=self._patience,
        ) as lines:
            self.problem = None
            async for line in lines:
                self._event(line)
                self._shown_at = asyncio.get_running_loop().time()
                if self._lagging():
                    raise Unavailable("the watch does not show this replica's own renewals")
                self._streak, self._logged = 0, ""
                if not self._resume:
                    return

    def _event(self, line: bytes) -> None:
        kind, document = event_of(line)
        try:
            lease = LeaseRecord.of(document)
        except ContractError as error:
            raise Expired(str(error)) from None
        # An event that is not newer must not undo the state that was shown already.
        if version_key(lease.resource_version) > version_key(self._newest):
            self._newest = lease.resource_version
            self._resume = self._resume and self._newest
            if kind == "DELETED":
                self._sink.remove(lease)
            else:
                self._sink.put(lease)
