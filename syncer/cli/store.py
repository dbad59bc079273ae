"""
Whose store is it? The check that the controller makes at its start, before a command believes or writes.

The store metadata under `<prefix>:meta` names format and installation, and an installation is the uid of a
Lease. So a store of this cluster names a Lease that is there, with that uid; whoever has typed the address
of another cluster's Redis, or of an empty one, is told so instead of being shown a thousand lost logs, or
writing them anew.

A store without metadata has not been used by a controller under this prefix. The controller would take it;
a command has nothing there to read, and only an import has something to write. Where the Lease may not be
read, the check could not be made, and says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote

from syncer.cli.access import Access
from syncer.kube.client import Json, KubeClient
from syncer.ledger.replies import parse_meta
from syncer.ledger.store import store_of
from syncer.model.errors import ConfigError, Gone, PortError

_TIMEOUT: Final = 10.0


class Whose(StrEnum):
    """What came of the check; a store of somebody else is an error instead."""

    OURS = "ours"
    NEW = "new"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Store:
    """
    Whose store it is.

    Attributes:
        whose: What came of the check.
        text: What that means, empty for `OURS`.
        home: Namespace of the installation that the store names, empty without one.
        lease: Name of the installation, likewise.
        map: The Lease of the installation, None if it was not read.
        error: Why it could not be read, None if it was not asked for.
    """

    whose: Whose
    text: str = ""
    home: str = ""
    lease: str = ""
    map: Json | None = None
    error: PortError | None = None

    @property
    def remark(self) -> str:
        """What is to be told where the answer may mean less than it seems, empty if it does not."""
        if self.whose is Whose.UNCHECKED:
            return f"whose store this is was not checked: {self.text}"
        return self.text


def told_home() -> str:
    """The controller's namespace as this process is told it, empty if it is not."""
    return os.environ.get("KUBERNAUT_CONTROLLER_NAMESPACE", "").strip()


async def check_store(at: Access, *, home: str = "") -> Store:
    """
    Find out whose store it is.

    Args:
        at: Where.
        home: Namespace of the controller, empty if that is not known.

    Raises:
        ConfigError: it belongs to an installation that is not this cluster's, or not the configured one,
            or has another format.
        PortError: Redis does not answer.
    """
    client = at.client
    meta: bytes | None = await client.command("GET", client.meta_key)
    # Format first: what another version has written says nothing that could be compared.
    store_of(meta, prefix=client.prefix, installation="")
    named = parse_meta(meta).get("installation", "")
    if not named:
        return Store(
            Whose.NEW,
            f"no controller has used this store under the prefix {client.prefix!r} yet; compare redis.url"
            " and redis.keyPrefix with the controller's own",
        )
    place, _, uid = named.partition("@")
    namespace, _, name = place.partition("/")
    if not (namespace and name and uid):
        return Store(Whose.UNCHECKED, f"installation {named!r} names no Lease")
    expected = at.settings.sharding.lease_name if at.configured else name
    wanted = f"{home or namespace}/{expected}"
    if place != wanted:
        # As the controller of that name would find it.
        store_of(meta, prefix=client.prefix, installation=wanted)
    if at.kube is None:
        text = f"the API server is not asked: {at.problem}"
        return Store(Whose.UNCHECKED, text, namespace, name)
    try:
        found = await _lease(at.kube, namespace, f"{name}-map")
    except PortError as error:
        text = f"the Lease {namespace}/{name}-map could not be read: {error}"
        return Store(Whose.UNCHECKED, text, namespace, name, error=error)
    if found is None or (found.get("metadata") or {}).get("uid") != uid:
        raise ConfigError(
            f"keys with prefix {client.prefix!r} belong to installation {named!r}, and this cluster has no"
            f" such Lease ({namespace}/{name}-map): this Redis is another cluster's, or the kubeconfig is",
            path="redis.url",
        )
    return Store(Whose.OURS, "", namespace, name, found)


async def _lease(kube: KubeClient, namespace: str, name: str) -> Json | None:
    """A Lease, None if there is none."""
    path = (
        f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace, safe='')}"
        f"/leases/{quote(name, safe='')}"
    )
    try:
        return await kube.request("GET", path, timeout=_TIMEOUT)
    except Gone:
        return None
