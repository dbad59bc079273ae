"""The check of the admission policy that keeps others from writing statuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from syncer.cli.access import Access
from syncer.cli.doctor.result import Result, ok, unknown, warn
from syncer.kube.client import KubeClient
from syncer.kube.status_policy import find
from syncer.model.errors import PortError
from syncer.rules.status_policy import Finding, State

CHECK: Final = "status-policy"


async def read_policy(at: Access, kube: KubeClient, namespaces: Sequence[str]) -> Finding:
    """Look at it; `namespaces` is empty for all. Never raises for what the API server answers."""
    if not at.configured:
        return Finding(State.UNKNOWN, "its name is in the settings file")
    try:
        return await find(kube, at.settings.sync.status_policy, namespaces or None)
    except (PortError, TimeoutError) as error:
        return Finding(State.UNKNOWN, str(error))


def check_policy(found: Finding) -> Result:
    """Check whether the API server lets nobody but the controller write statuses."""
    if found.state is State.IN_FORCE:
        return ok(CHECK, "nobody else may write statuses")
    if found.state is State.UNKNOWN:
        text = f"whether others may write statuses is not known: {found.reason}"
        return unknown(
            CHECK, text, "give the settings file (--config), and get on the policy and its binding"
        )
    text = f"whoever may patch statuses may forge them: {found.reason}"
    return warn(CHECK, text, "upgrade the chart with admission.enabled, or apply its policy")
