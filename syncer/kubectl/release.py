"""
Which release is meant, and which of its pods runs the command.

All decisions use the pods that kubectl lists by the labels of the chart. A ready pod is preferred; one
that only runs is accepted, with a remark: while Redis is away no pod is ready, and `doctor` is needed
most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from syncer.kubectl.exits import NOT_ASKED, SEVERAL, PluginError

#: What the chart puts on every pod of a controller, whatever the release is called.
LABELS: Final = (
    "app.kubernetes.io/part-of=notification-ledger,app.kubernetes.io/component=controller"
)
#: The same of every explorer.
EXPLORER: Final = (
    "app.kubernetes.io/part-of=notification-ledger,app.kubernetes.io/component=explorer"
)
_INSTANCE: Final = "app.kubernetes.io/instance"
_CONTAINER: Final = "controller"


class Pod(NamedTuple):
    """A pod that runs; `container` is the controller's."""

    name: str
    container: str
    ready: bool


class Release(NamedTuple):
    """A release, by its pods that run; there may be none."""

    namespace: str
    name: str
    pods: list[Pod]

    @property
    def key(self) -> str:
        """As `--release` takes it."""
        return f"{self.namespace}/{self.name}"


def releases_of(listed: Mapping[str, Any]) -> list[Release]:
    """Return the releases of a list of pods, each with its pods that run."""
    found: dict[tuple[str, str], list[Pod]] = {}
    for item in listed.get("items") or []:
        meta, status = item.get("metadata") or {}, item.get("status") or {}
        name = str((meta.get("labels") or {}).get(_INSTANCE) or "")
        pods = found.setdefault((str(meta.get("namespace")), name), [])
        containers = [str(c.get("name")) for c in (item.get("spec") or {}).get("containers") or []]
        if status.get("phase") != "Running" or meta.get("deletionTimestamp") or not containers:
            continue
        container = _CONTAINER if _CONTAINER in containers else containers[0]
        states = [c for c in status.get("containerStatuses") or [] if c.get("name") == container]
        if any("running" in (c.get("state") or {}) for c in states):
            ready = all(c.get("ready") for c in states)
            pods.append(Pod(str(meta.get("name")), container, ready))
    return [
        Release(namespace, name, sorted(pods, key=lambda pod: (not pod.ready, pod.name)))
        for (namespace, name), pods in sorted(found.items())
    ]


def choose(
    releases: Sequence[Release], *, wanted: str, where: str, labels: str = LABELS
) -> Release:
    """
    Return the release that is meant.

    Of several none is taken for likelier: anybody can put these labels on a pod of his own namespace, and
    would answer for the controller there.

    Args:
        releases: That were found.
        wanted: `name` or `namespace/name`, empty if none was named.
        where: In words, where they were looked for.
        labels: By which they were looked for.

    Raises:
        PluginError: there is none, or several might be meant.
    """
    namespace, slash, name = wanted.rpartition("/")
    found = [
        r
        for r in releases
        if not wanted or (r.name == name and (not slash or r.namespace == namespace))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        listed = "".join(f"\n  --release {r.key}" for r in found)
        raise PluginError(SEVERAL, f"several releases are installed {where}; choose one:{listed}")
    others = ", ".join(r.key for r in releases)
    if others:
        raise PluginError(NOT_ASKED, f"no release {wanted!r} {where}; found: {others}")
    raise PluginError(
        NOT_ASKED,
        f"no release of notification-ledger {where}: no pod has the labels {labels}; name its namespace:"
        " `kubectl ledger -n NAMESPACE COMMAND`",
    )


def pod_of(release: Release) -> Pod:
    """Return the pod to ask; PluginError if none runs."""
    if not release.pods:
        raise PluginError(
            NOT_ASKED,
            f"no pod of release {release.key} runs;"
            f" `kubectl -n {release.namespace} describe pods` says why",
        )
    return release.pods[0]
