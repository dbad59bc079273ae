"""Attributes: the flat map that routes match on."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.routing.attributes import (
    RESERVED,
    attributes_of,
    disguised,
    flatten_context,
    likely_meant,
    unseen,
)
from syncer.model.resource import parse_spec

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


OWN = {"namespace": "team-a", "name": "disk-full"}


@pytest.mark.parametrize("key", RESERVED)
def test_no_author_says_what_an_object_is(key: str) -> None:
    """Namespace and name are the object's own; an extension of that name loses, and is told of."""
    spec = parse_spec({"type": "Simple", "extensions": {key: "prod-payments", "team": "x"}})
    assert attributes_of(spec, **OWN)[key] == OWN[key]
    assert disguised(spec.extensions, **OWN) == (key,)
    assert disguised({key: OWN[key]}, **OWN) == ()
    assert disguised({}, **OWN) == ()


def test_spec_wins_over_context_wins_over_extensions() -> None:
    """An extension can add attributes and replace none."""
    spec = parse_spec(
        {
            "type": "ManualReview",
            "priority": "High",
            "severity": "critical",
            "phase": "verifying",
            "reviewSource": "AIAnalysis",
            "subject": "s",
            "body": "b",
            "context": {"review": {"reason": "from context"}},
            "extensions": {
                "type": "Simple",
                "reason": "from extensions",
                "team": "sre",
                "empty": "",
            },
        }
    )
    assert attributes_of(spec, **OWN) == OWN | {
        "type": "ManualReview",
        "severity": "critical",
        "phase": "verifying",
        "review-source": "AIAnalysis",
        "priority": "High",
        "reason": "from context",
        "team": "sre",
        "empty": "",
    }


def test_empty_spec_fields_leave_space_for_extensions() -> None:
    """A field that is empty is absent, so an extension may name it."""
    spec = parse_spec({"type": "Simple", "extensions": {"severity": "low"}})
    assert attributes_of(spec, **OWN) == OWN | {
        "type": "Simple",
        "priority": "Medium",
        "severity": "low",
    }


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


LIKELY = {
    "another case": ("SEVERITY", "severity"),
    "a letter too few": ("remediationReqest", "remediationRequest"),
    "the attribute itself": ("severity", ""),
    "nothing alike": ("team", ""),
    "one of the author's that is longer": ("severityOfTheIncident", ""),
    "longer than any, though alike": ("remediationRequest" + "t" * 47, ""),
}


@pytest.mark.parametrize("case", LIKELY)
def test_what_is_likely_meant(case: str) -> None:
    """A key is doubted only if it looks like an attribute that is known without being it."""
    key, wanted = LIKELY[case]
    assert likely_meant(key) == wanted


#: A key of a route, and why no notification matches it.
NEVER: Final = {
    "a member that routing does not look at": ("body", "routing does not look at this member"),
    "with its place": ("spec.priority", "without their place, as priority"),
    "a label": ("metadata.labels.team", "without their place, as team"),
    "a label without its place": ("labels.team", "take no part in routing; use extensions"),
    "an annotation": ("annotations.team", "take no part in routing; use extensions"),
    "an attribute": ("priority", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", NEVER)
def test_what_routing_never_sees(case: str) -> None:
    """It is said of a route, with what to write instead."""
    key, why = NEVER[case]
    found = unseen(key)
    assert (why in found) if why else found == ""
