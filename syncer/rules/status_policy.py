"""
Whether an admission policy and its binding keep everyone but the controller from writing statuses.

A status that only the controller can have written is trusted; any other is untrusted input. The question
has three answers (`State`). A policy that is not recognised counts as absent: relying on a policy that does
not hold is worse than having none. Its text is not compared with the one of this version, because during an
upgrade the policy may be that of another version.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from syncer.model.resource import GROUP, PLURAL, Json

_NAMESPACE: Final = "kubernetes.io/metadata.name"


class State(StrEnum):
    """
    Whether the policy protects statuses; values of a label.

    *In force*: policy and binding exist, a violation is denied, and every watched namespace is covered.
    *Absent*: one of these was seen not to hold. *Unknown*: nothing was read.
    """

    UNKNOWN = "unknown"
    IN_FORCE = "in-force"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Finding:
    """A state and its reason; the reason is empty if the policy is in force."""

    state: State
    reason: str = ""


def fault_of(policy: Json, binding: Json, namespaces: Collection[str] | None) -> str:
    """Return why a policy and its binding do not protect the watched namespaces, empty if they do."""
    rules, bound = policy.get("spec") or {}, binding.get("spec") or {}
    if any(o["metadata"].get("deletionTimestamp") for o in (policy, binding)):
        return "it is being deleted"
    if rules.get("failurePolicy", "Fail") != "Fail":
        return "its failurePolicy is not Fail"
    if not _asks_for_the_verb(rules):
        return "it does not refuse whoever lacks the verb record on notificationrequests/status"
    if bound.get("policyName") != policy["metadata"]["name"]:
        return "its binding names another policy"
    if "Deny" not in (bound.get("validationActions") or ()):
        return "its binding does not deny (validationActions)"
    return _uncovered(bound.get("matchResources") or {}, namespaces)


def _asks_for_the_verb(rules: Json) -> bool:
    """Whether every change of a status is checked for the verb `record`."""
    where = rules.get("matchConstraints") or {}
    limits = (rules.get("matchConditions"), where.get("excludeResourceRules"),
              where.get("namespaceSelector"), where.get("objectSelector"))  # fmt: skip
    statuses = any(
        {GROUP, "*"} & set(rule.get("apiGroups") or ())
        and {f"{PLURAL}/status", "*/*"} & set(rule.get("resources") or ())
        and {"UPDATE", "*"} & set(rule.get("operations") or ())
        and not rule.get("resourceNames")
        for rule in where.get("resourceRules") or ()
    )
    text = json.dumps([rules.get("variables"), rules.get("validations")])
    return statuses and not any(limits) and "check('record')" in text


def _uncovered(where: Json, namespaces: Collection[str] | None) -> str:
    """Return which watched namespaces a binding leaves out, in words; empty if none."""
    if any(where.get(k) for k in ("resourceRules", "excludeResourceRules", "objectSelector")):
        return "its binding holds for some objects only"
    selector: dict[str, Any] = where.get("namespaceSelector") or {}
    if not any(selector.values()):
        return ""
    covered: set[str] = set()
    match selector:
        case {"matchExpressions": [{"key": key, "operator": "In", "values": [*values]}]} if (
            key == _NAMESPACE and not selector.get("matchLabels")
        ):
            covered.update(values)
    left = sorted(set(namespaces) - covered) if namespaces is not None else ["all others"]
    return f"its binding does not hold in {', '.join(left[:5])}" if left else ""
