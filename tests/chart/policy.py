"""
What a pod and a role of this chart may be: the restricted Pod Security Standard and some rules more.

Each function lists what is wrong, in words; an empty list is a pass. The standard's own rules are
there because a namespace that enforces it would refuse the pod; the others are this project's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from syncer.model.resource import Json

_VOLUMES: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
#: Rights that must be limited to names.
_NAMED: Final = {
    ("apiextensions.k8s.io", "customresourcedefinitions", "get"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", "get"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings", "get"),
}
#: Every right that anything in the chart may have: group, resource, verb.
RIGHTS: Final = {
    ("kubernaut.ai", "notificationrequests", "get"),
    ("kubernaut.ai", "notificationrequests", "list"),
    ("kubernaut.ai", "notificationrequests", "watch"),
    *(
        ("kubernaut.ai", "notificationrequests/status", verb)
        for verb in ("patch", "record", "correct")
    ),
    ("", "events", "create"),
    *(
        ("coordination.k8s.io", "leases", verb)
        for verb in ("get", "list", "watch", "create", "patch", "delete", "record")
    ),
    *(
        ("notification-ledger.dev", "deliveryholds", verb)
        for verb in ("get", "list", "watch", "create", "patch")
    ),
    ("notification-ledger.dev", "deliveryholds/status", "patch"),
    *_NAMED,
}


def faults_of_pod(spec: Json, *, token: bool) -> list[str]:
    """List what a pod must not be; `token` says whether it may have a service account's token."""
    found = list(_restricted(spec))
    if bool(spec.get("automountServiceAccountToken", True)) is not token:
        found.append("automountServiceAccountToken is wrong")
    if spec.get("enableServiceLinks") is not False:
        found.append("enableServiceLinks is not off")
    for container in _containers(spec):
        name = container["name"]
        resources = container.get("resources") or {}
        found += [
            f"{name} has no {place} of {what}"
            for place, what in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory"))
            if what not in (resources.get(place) or {})
        ]
        if not (container.get("securityContext") or {}).get("readOnlyRootFilesystem"):
            found.append(f"{name} may write to its root")
        if container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            found.append(f"{name} does not leave its last words for `kubectl describe pod`")
        image = container["image"]
        if image.endswith(":latest") or not (":" in image.rpartition("/")[2] or "@" in image):
            found.append(f"{name} has an image without a version")
    return found


def _restricted(spec: Json) -> Iterator[str]:  # noqa: C901, PLR0912 - one branch for each rule
    pod = spec.get("securityContext") or {}
    for flag in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(flag):
            yield f"{flag} is on"
    for volume in spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds or not kinds <= _VOLUMES:
            yield f"volume {volume['name']} is a {', '.join(sorted(kinds)) or 'nothing'}"
    for container in _containers(spec):
        own = container.get("securityContext") or {}
        name = container["name"]

        def said(key: str, own: Json = own) -> object:
            return own.get(key, pod.get(key))

        if said("runAsNonRoot") is not True:
            yield f"{name} may run as root"
        if said("runAsUser") == 0:
            yield f"{name} runs as root"
        profile = said("seccompProfile")
        if not isinstance(profile, dict) or profile.get("type") not in {
            "RuntimeDefault",
            "Localhost",
        }:
            yield f"{name} has no seccomp profile"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may gain rights"
        if own.get("privileged"):
            yield f"{name} is privileged"
        capabilities = own.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or []):
            yield f"{name} keeps capabilities"
        if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
            yield f"{name} adds capabilities"
        if any("hostPort" in port for port in container.get("ports") or []):
            yield f"{name} has a port of the host"


def _containers(spec: Json) -> list[Json]:
    return [*(spec.get("initContainers") or []), *spec["containers"]]


def faults_of_role(rules: list[Json], allowed: set[tuple[str, str, str]]) -> list[str]:
    """List the rights of a role that are not among those allowed, or lack a name."""
    found = []
    for rule in rules:
        if set(rule) - {"apiGroups", "resources", "verbs", "resourceNames"}:
            found.append(f"a rule says more: {sorted(rule)}")
        for group in rule.get("apiGroups") or []:
            for resource in rule.get("resources") or []:
                for verb in rule["verbs"]:
                    right = (group, resource, verb)
                    if right not in allowed:
                        found.append(f"may {verb} {resource} of {group or 'core'}")
                    if right in _NAMED and not rule.get("resourceNames"):
                        found.append(f"may {verb} any of {resource}")
    return found
