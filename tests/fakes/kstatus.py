"""
The rules of kstatus (`sigs.k8s.io/cli-utils`) for a custom resource, as its documentation states them.

This is a table of published rules, not kstatus itself, which is a library in Go.
"""

from __future__ import annotations

from syncer.model.resource import Json


def kstatus(body: Json) -> str:
    """Return the status that kstatus computes of an object."""
    status = body.get("status") or {}
    if body["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if (
        status.get("observedGeneration", body["metadata"]["generation"])
        != (body["metadata"]["generation"])
    ):
        return "InProgress"
    conditions = [(c["type"], c["status"]) for c in status.get("conditions") or []]
    for condition in conditions:
        if condition == ("Reconciling", "True"):
            return "InProgress"
        if condition == ("Stalled", "True"):
            return "Failed"
    ready = next((word for kind, word in conditions if kind == "Ready"), "True")
    return "Current" if ready == "True" else "InProgress"
