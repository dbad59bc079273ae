"""
What a pod and a role of this chart may be: the restricted Pod Security Standard and some rules more.

Each function lists what is wrong, in words; an empty list is a pass. The standard's own rules are
there because a namespace that enforces it would refuse the pod; the others are this project's.
"""

from __future__ import annotations

from typing import Final

from syncer.model.resource import Json

_VOLUMES: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
#: Volumes that hold what somebody else has written.
_GIVEN: Final = {"configMap", "downwardAPI", "projected", "secret"}
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
    pod = spec.get("securityContext") or {}
    found = [f"{flag} is on" for flag in ("hostNetwork", "hostPID", "hostIPC") if spec.get(flag)]
    if bool(spec.get("automountServiceAccountToken", True)) is not token:
        found.append("automountServiceAccountToken is wrong")
    if spec.get("enableServiceLinks") is not False:
        found.append("enableServiceLinks is not off")
    for volume in spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds or not kinds <= _VOLUMES:
            found.append(f"volume {volume['name']} is a {', '.join(sorted(kinds)) or 'nothing'}")
    given = {v["name"] for v in spec.get("volumes") or [] if set(v) & _GIVEN}
    for container in _containers(spec):
        faults = {**_beyond_restricted(container, pod), **_beyond_ours(container)}
        found += [f"{container['name']} {fault}" for fault, there in faults.items() if there]
        found += [
            f"{container['name']} mounts {mount['name']} to write to it"
            for mount in container.get("volumeMounts") or []
            if mount["name"] in given and mount.get("readOnly") is not True
        ]
    return found


def _beyond_restricted(container: Json, pod: Json) -> dict[str, bool]:
    """What the standard forbids a container, and whether it is so."""
    own = container.get("securityContext") or {}
    said = {**pod, **own}
    capabilities = own.get("capabilities") or {}
    profile = (said.get("seccompProfile") or {}).get("type")
    return {
        "may run as root": said.get("runAsNonRoot") is not True,
        "runs as root": said.get("runAsUser") == 0,
        "has no seccomp profile": profile not in {"RuntimeDefault", "Localhost"},
        "may gain rights": own.get("allowPrivilegeEscalation") is not False,
        "is privileged": bool(own.get("privileged")),
        "keeps capabilities": "ALL" not in (capabilities.get("drop") or []),
        "adds capabilities": bool(set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}),
        "has a port of the host": any("hostPort" in port for port in container.get("ports") or []),
    }


def _beyond_ours(container: Json) -> dict[str, bool]:
    """What this project forbids one besides, and whether it is so."""
    own = container.get("securityContext") or {}
    resources = container.get("resources") or {}
    last_words = container.get("terminationMessagePolicy")
    image = container["image"]
    versioned = "@" in image or ":" in image.rpartition("/")[2]
    return {
        **{
            f"has no {place} of {what}": what not in (resources.get(place) or {})
            for place, what in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory"))
        },
        "may write to its root": not own.get("readOnlyRootFilesystem"),
        "does not leave its last words for `kubectl describe pod`": (
            last_words != "FallbackToLogsOnError"
        ),
        "has an image without a version": image.endswith(":latest") or not versioned,
    }


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
