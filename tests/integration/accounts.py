"""
Who may do what in a test: accounts with exactly the verbs that it names, and policies of admission.

A client can be any of the accounts.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
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
_POLICIES: Final = "/apis/admissionregistration.k8s.io/v1"
#: Policies and what puts them in force, by kind.
_PLURALS: Final = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"


def make(plane: ControlPlane, path: str, body: Json) -> Json:
    """Create one object as administrator."""
    answer = plane.api.request("POST", path, json.dumps(body))
    assert answer.status == 201, answer.text
    made: Json = answer.json
    return made


def refer(plane: ControlPlane, where: str, role: str, kind: str, subject: Json) -> None:
    """Bind somebody to a role, under the name of the role."""
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
    body = {"metadata": {"name": role}, "roleRef": ref, "subjects": [subject]}
    make(plane, f"{where}/rolebindings", body)


@contextmanager
def admitting(plane: ControlPlane, documents: Iterable[Json]) -> Iterator[None]:
    """Install policies and their bindings; they go with the context."""
    with ExitStack() as installed:
        for document in documents:
            path = f"{_POLICIES}/{_PLURALS[document['kind']]}"
            name = make(plane, path, document)["metadata"]["name"]
            installed.callback(plane.api.request, "DELETE", f"{path}/{name}")
        yield


def bind(
    plane: ControlPlane, namespace: str, name: str, rules: Sequence[Json], *, home: str = ""
) -> None:
    """Grant rights in a namespace to a service account, which may live elsewhere (`home`)."""
    where = f"{_RBAC}/namespaces/{namespace}"
    make(plane, f"{where}/roles", {"metadata": {"name": name}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": home or namespace}
    refer(plane, where, name, "Role", subject)


def account(
    plane: ControlPlane, namespace: str, name: str, verbs: Mapping[str, Sequence[str]]
) -> None:
    """Create a service account, and grant it verbs by kind in its namespace."""
    make(plane, f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
    rules = [
        {"apiGroups": [KINDS[kind][0]], "resources": [KINDS[kind][1]], "verbs": list(granted)}
        for kind, granted in verbs.items()
    ]
    bind(plane, namespace, name, rules)


def token_of(plane: ControlPlane, namespace: str, name: str, *audiences: str) -> str:
    """A token of a service account, as a pod gets it by a projected volume."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    spec = {"expirationSeconds": 3600} | ({"audiences": audiences} if audiences else {})
    return str(make(plane, path, {"spec": spec})["status"]["token"])


@asynccontextmanager
async def as_account(
    plane: ControlPlane, namespace: str, name: str, *, home: str = ""
) -> AsyncIterator[Api]:
    """Open a client of a namespace as a service account, which may live elsewhere (`home`)."""
    token = token_of(plane, home or namespace, name)
    async with Api(plane.server, token, plane.ca_file, namespace) as client:
        yield client
