"""Attributes: the flat map that routes match on."""

from __future__ import annotations

from typing import Final

import pytest

from notifier.routing.attributes import (
    RESERVED,
    attributes_of,
    disguised,
    likely_meant,
    unseen,
)
from syncer.model.resource import parse_spec

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
