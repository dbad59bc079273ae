"""The context of a notification: the flat map that routing and messages see."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.model.context import flatten_context

FULL: dict[str, Any] = {
    "lineage": {"remediationRequest": "rr", "aiAnalysis": "ai"},
    "workflow": {
        "selectedWorkflow": "sw",
        "confidence": "0.9",
        "workflowId": "id",
        "executionEngine": "tekton",
        "workflowName": "not flattened",
        "actionType": "not flattened",
    },
    "analysis": {"approvalReason": "ar", "rootCause": "rc", "outcome": "analysed"},
    "review": {
        "reason": "r",
        "subReason": "sr",
        "humanReviewReason": "hr",
        "rootCauseAnalysis": "rca",
        "alignmentVerdict": "av",
        "circuitBreakerActivated": True,
    },
    "execution": {
        "retryCount": "1",
        "maxRetries": "3",
        "lastExitCode": "137",
        "previousExecution": "pe",
        "timeoutPhase": "tp",
        "phaseTimeout": "10m",
    },
    "dedup": {"duplicateCount": "4"},
    "target": {"targetResource": "Pod/x"},
    "verification": {
        "assessed": True,
        "outcome": "verified",
        "reason": "vr",
        "degraded": True,
        "degradedReason": "dr",
        "summary": "not flattened",
    },
}


def test_every_member_has_its_flat_key() -> None:
    """The whole table, renamed members included, and nothing that is not in it."""
    assert flatten_context(FULL) == {
        "remediationRequest": "rr",
        "aiAnalysis": "ai",
        "selectedWorkflow": "sw",
        "confidence": "0.9",
        "workflowId": "id",
        "executionEngine": "tekton",
        "approvalReason": "ar",
        "rootCause": "rc",
        "outcome": "analysed",
        "reason": "r",
        "subReason": "sr",
        "humanReviewReason": "hr",
        "rootCauseAnalysis": "rca",
        "alignmentVerdict": "av",
        "circuitBreakerActivated": "true",
        "retryCount": "1",
        "maxRetries": "3",
        "lastExitCode": "137",
        "previousExecution": "pe",
        "timeoutPhase": "tp",
        "phaseTimeout": "10m",
        "duplicateCount": "4",
        "targetResource": "Pod/x",
        "verificationOutcome": "verified",
        "verificationReason": "vr",
        "verificationDegradedReason": "dr",
        "verificationAssessed": "true",
        "verificationDegraded": "true",
    }


CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "nothing gives nothing": ({}, {}),
    "empty members are absent": ({"analysis": {"rootCause": ""}, "review": {"reason": ""}}, {}),
    "a breaker that did not open is absent": ({"review": {"circuitBreakerActivated": False}}, {}),
    "a verification says both words": (
        {"verification": {"assessed": False}},
        {"verificationAssessed": "false", "verificationDegraded": "false"},
    ),
    "members of foreign sub-objects are left out": ({"other": {"reason": "x"}}, {}),
    "a sub-object that is none is left out": ({"review": "x", "target": None}, {}),
    "a member that is no text is left out": ({"dedup": {"duplicateCount": 4}}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_context_is_flattened(case: str) -> None:
    """Absent, empty and untyped members do not count."""
    context, flat = CASES[case]
    assert flatten_context(context) == flat


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(sorted(FULL)),
        JSON
        | st.fixed_dictionaries(
            {"reason": JSON, "assessed": JSON, "circuitBreakerActivated": JSON}
        ),
    )
)
def test_any_context_flattens_to_texts(context: dict[str, Any]) -> None:
    """Whatever was stored, the result is a flat map of non-empty texts."""
    flat = flatten_context(context)
    assert all(isinstance(value, str) and value for value in flat.values())
