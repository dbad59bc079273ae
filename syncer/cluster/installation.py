"""
The Lease `<name>-map`: how many shards an installation has, and the uid that names it.

The number of shards decides which Lease guards which notification, so two replicas must never believe
in different ones. The first replica writes it down here; another number is refused until the Lease is
deleted, with the installation scaled to zero. The Lease's uid is stamped into Redis, where it tells
this installation's logs from those of another cluster that was given the same store.
"""

from __future__ import annotations

from typing import Final

from syncer.api.errors import ConfigError, Conflict, Gone
from syncer.cluster.client import KubeClient

_TIMEOUT: Final = 5.0
_SHARDS: Final = "notification-ledger/shards"


async def claim_installation(
    client: KubeClient, namespace: str, name: str, *, shards: int
) -> str:
    """
    Find or found the installation; returns its id, without blanks.

    Raises:
        ConfigError: it was founded with another number of shards.
        PortError: the API server did not answer; call again.
    """
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    path = f"{leases}/{name}-map"
    try:
        found = await client.request("GET", path, timeout=_TIMEOUT)
    except Gone:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": f"{name}-map", "annotations": {_SHARDS: str(shards)}},
            "spec": {"holderIdentity": f"shards={shards}"},
        }
        try:
            found = await client.request("POST", leases, body=body, timeout=_TIMEOUT)
        except Conflict:
            found = await client.request("GET", path, timeout=_TIMEOUT)
    recorded = found["metadata"].get("annotations", {}).get(_SHARDS, str(shards))
    if recorded != str(shards):
        raise ConfigError(
            f"is {shards}, but this installation was founded with {recorded} (Lease {name}-map);"
            " scale to 0, delete that Lease, then change the number",
            path="sharding.shards",
        )
    return f"{namespace}/{name}@{found['metadata']['uid']}"
