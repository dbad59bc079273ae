"""A policy on statuses, and its binding."""

from __future__ import annotations

from typing import Any, Final

import yaml

from tests.conftest import STATUS_POLICY

POLICY: Final = yaml.safe_load(STATUS_POLICY.read_text())


NAME: Final = POLICY["metadata"]["name"]


def binding(selector: dict[str, Any] | None = None) -> Any:
    """A binding of the policy, as the chart makes it for some namespaces, or for all."""
    spec: dict[str, Any] = {"policyName": NAME, "validationActions": ["Deny"]}
    if selector is not None:
        spec["matchResources"] = {"namespaceSelector": selector}
    return {"metadata": {"name": NAME}, "spec": spec}
