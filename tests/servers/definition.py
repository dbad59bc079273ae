"""
Our CustomResourceDefinition, and from it that of Kubernaut: what most tests run on.

Ours has members of the status and bounds that upstream's does not have, and one more selectable field.
Taken away, what is left prunes and refuses what upstream's does; its texts do not matter.
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import yaml

from syncer.kube.crd import render_crd
from syncer.model.carried import ENTRY_MEMBERS, MEMBERS
from tests.servers.controlplane import ControlPlane

Json = dict[str, Any]

CRD_NAME: Final = "notificationrequests.kubernaut.ai"
#: Where the API server has it.
CRD_PATH: Final = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD_NAME}"
#: A write that is tried only: whether a member of ours is known decides how it is answered.
_TRIED: Final = (
    "/apis/kubernaut.ai/v1alpha1/namespaces/default/notificationrequests"
    "?dryRun=All&fieldValidation=Strict"
)
_TRIAL: Final[Json] = {
    "apiVersion": "kubernaut.ai/v1alpha1",
    "kind": "NotificationRequest",
    "metadata": {"name": "tried"},
    "spec": {"type": "Simple", "priority": "Low", "subject": "s", "body": "b"},
    "status": {"uncertainAttempts": 1},
}
#: Seconds until a definition is in force.
_PATIENCE: Final = 60.0
#: Bounds of ours on the spec; that of the subject is upstream's.
_BOUNDS = ("maxLength", "maxItems", "maxProperties")


def load_crd() -> Json:
    """Our definition as a fresh dictionary."""
    crd: Json = yaml.load(render_crd(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (safe)
    return crd


def upstream_form(crd: Json | None = None) -> Json:
    """Return our definition, or one made from it, without what upstream's lacks."""
    crd = copy.deepcopy(crd or load_crd())
    (version,) = crd["spec"]["versions"]
    version["selectableFields"] = [
        f for f in version["selectableFields"] if f["jsonPath"].startswith(".spec.")
    ]
    spec, status = (
        version["schema"]["openAPIV3Schema"]["properties"][p] for p in ("spec", "status")
    )
    del status["default"]
    subject = spec["properties"]["subject"]["maxLength"]
    _loosen(spec)
    spec["properties"]["subject"]["maxLength"] = subject
    for member in MEMBERS:
        del status["properties"][member]
    attempts = status["properties"]["deliveryAttempts"]
    for member in ENTRY_MEMBERS:
        del attempts["items"]["properties"][member]
    for bound in ("maxItems", "x-kubernetes-list-type"):
        del attempts[bound]
    return crd


def put_back(status: Json) -> Json:
    """A status as a program of upstream's types writes it again: what those know, times to the second."""
    out = {k: v for k, v in status.items() if k not in MEMBERS}
    if entries := status.get("deliveryAttempts"):
        out["deliveryAttempts"] = [
            {k: v for k, v in e.items() if k not in ENTRY_MEMBERS}
            | {"timestamp": e["timestamp"][:19] + "Z"}
            for e in entries
        ]
    return out


def serve(plane: ControlPlane, crd: Json) -> None:
    """Have a real API server serve a definition; returns once it is in force."""
    # Fixtures of a module come and go between tests, when it may be at rest.
    plane.heal()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crd.json"
        file.write_text(json.dumps(crd))
        plane.api.apply_crd(file)
    members = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"][
        "properties"
    ]
    wanted = 201 if "uncertainAttempts" in members else 400
    deadline = time.monotonic() + _PATIENCE
    # What describes the type and what serves it follow the definition each on its own, and after a rest
    # late: only a write tells what holds for writes.
    while (answer := plane.api.request("POST", _TRIED, json.dumps(_TRIAL))).status != wanted:
        assert time.monotonic() < deadline, f"the definition is not in force: {answer.text}"
        time.sleep(0.05)


def _loosen(schema: Any) -> None:
    if isinstance(schema, dict):
        for bound in _BOUNDS:
            schema.pop(bound, None)
        for child in schema.get("properties", {}).values():
            _loosen(child)
        _loosen(schema.get("items"))
        _loosen(schema.get("additionalProperties"))
