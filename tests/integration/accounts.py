"""Service accounts of a test: with exactly the verbs that it names, and a client that is one of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from syncer.model.resource import Json
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane

#: Resources by a short name: group, and resource.
KINDS: Final = {
    "objects": ("kubernaut.ai", "notificationrequests"),
    "statuses": ("kubernaut.ai", "notificationrequests/status"),
    "leases": ("coordination.k8s.io", "leases"),
    "holds": ("notification-ledger.dev", "deliveryholds"),
}
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"


def make(plane: ControlPlane, path: str, body: Json) -> Json:
    """Create one object as administrator."""
    answer = plane.api.request("POST", path, json.dumps(body))
    assert answer.status == 201, answer.text
    made: Json = answer.json
    return made


def account(
    plane: ControlPlane, namespace: str, name: str, verbs: Mapping[str, Sequence[str]]
) -> None:
    """Create a service account, and grant it verbs by kind in its namespace."""
    make(plane, f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
    rules = [
        {"apiGroups": [KINDS[kind][0]], "resources": [KINDS[kind][1]], "verbs": list(granted)}
        for kind, granted in verbs.items()
    ]
    where = f"{_RBAC}/namespaces/{namespace}"
    make(plane, f"{where}/roles", {"metadata": {"name": name}, "rules": rules})
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    body = {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}
    make(plane, f"{where}/rolebindings", body)


@asynccontextmanager
async def as_account(
    plane: ControlPlane, namespace: str, name: str, *, home: str = ""
) -> AsyncIterator[Api]:
    """Open a client of a namespace as a service account, which may live elsewhere (`home`)."""
    path = f"/api/v1/namespaces/{home or namespace}/serviceaccounts/{name}/token"
    token = make(plane, path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    async with Api(plane.server, token, plane.ca_file, namespace) as client:
        yield client
