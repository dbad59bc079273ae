"""
The context of a notification, as far as it is read.

It is flattened by a fixed table, not by walking whatever is there: the verification's members are renamed
because two of their bare names are taken (`outcome` and `reason`), three members are stored but
deliberately left out (`workflowName`, `actionType`, the verification's `summary`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: Sub-objects of `spec.context` and their members, in upstream's order.
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "lineage": ("remediationRequest", "aiAnalysis"),
    "workflow": ("selectedWorkflow", "confidence", "workflowId", "executionEngine"),
    "analysis": ("approvalReason", "rootCause", "outcome"),
    "review": (
        "reason", "subReason", "humanReviewReason", "rootCauseAnalysis", "alignmentVerdict",
    ),
    "execution": (
        "retryCount", "maxRetries", "lastExitCode", "previousExecution", "timeoutPhase",
        "phaseTimeout",
    ),
    "dedup": ("duplicateCount",),
    "target": ("targetResource",),
    "verification": ("outcome", "reason", "degradedReason"),
}  # fmt: skip


def _flat_key(part: str, member: str) -> str:
    """Return the key of a member; the verification's get a prefix, as in `verificationOutcome`."""
    return f"{part}{member[0].upper()}{member[1:]}" if part == "verification" else member


CONTEXT_KEYS: Final = tuple(
    _flat_key(part, member) for part, members in _MEMBERS.items() for member in members
)


def flatten_context(context: Mapping[str, Any]) -> dict[str, str]:
    """
    Flatten `spec.context` into the keys that routing, log and audit use.

    Members that are absent, empty or not text are skipped. A verification that is present always
    yields `verificationAssessed` and `verificationDegraded`, as `true` or `false`; a review yields
    `circuitBreakerActivated` only when it is true.
    """
    flat: dict[str, str] = {}
    if not context:
        return flat
    for name, members in _MEMBERS.items():
        part = context.get(name)
        if not isinstance(part, Mapping):
            continue
        for member in members:
            value = part.get(member)
            if isinstance(value, str) and value:
                flat[_flat_key(name, member)] = value
        if name == "review" and part.get("circuitBreakerActivated") is True:
            flat["circuitBreakerActivated"] = "true"
        if name == "verification":
            flat["verificationAssessed"] = _word(part.get("assessed"))
            flat["verificationDegraded"] = _word(part.get("degraded"))
    return flat


def workflow_of(context: Mapping[str, Any]) -> tuple[str, str]:
    """Return the id of the workflow and the name that bodies show for it, each empty without one."""
    workflow = context.get("workflow")
    if not isinstance(workflow, Mapping):
        return "", ""
    names = (workflow.get(m) for m in ("workflowId", "selectedWorkflow", "workflowName"))
    identity, selected, name = (text if isinstance(text, str) else "" for text in names)
    return identity or selected, name


def _word(value: object) -> str:
    return "true" if value is True else "false"
