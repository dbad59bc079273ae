"""Whether a policy and its binding protect statuses: the chart's do, and what would not is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import pytest

from syncer.rules.status_policy import fault_of
from tests.unit.syncer.rules.policies import POLICY, binding

BOTH: Final = ("a", "b")
#: How the chart binds it to some namespaces.
SELECTOR: Final = {
    "matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]}
    ]
}


def served(policy: Any) -> Any:
    """What the API server adds to a policy."""
    policy = copy.deepcopy(policy)
    where = policy["spec"]["matchConstraints"]
    where |= {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
    where["resourceRules"][0]["scope"] = "*"
    return policy


@pytest.mark.parametrize(
    ("bound", "namespaces"),
    [
        (binding(SELECTOR), BOTH),
        (binding(SELECTOR), ("b",)),
        (binding(), None),
        (binding({}), BOTH),
    ],
    ids=["each watched one", "more than are watched", "all, and all are watched", "all"],
)
def test_the_charts_own_is_in_force(bound: Any, namespaces: tuple[str, ...] | None) -> None:
    """The policy's file, as it is and as the API server shows it, protects what its binding covers."""
    for policy in (POLICY, served(POLICY)):
        assert fault_of(policy, bound, namespaces) == ""


def _rule(**change: Any) -> Callable[[Any, Any], Any]:
    return lambda policy, _: policy["spec"]["matchConstraints"]["resourceRules"][0].update(change)


def _unread(policy: Any, _: Any) -> None:
    """What a policy of somebody else would be, under the same name."""
    policy["spec"] |= {"variables": [], "validations": [{"expression": "true"}]}


VERB: Final = "does not refuse whoever lacks the verb record"
FAULTS: Final[dict[str, tuple[Callable[[Any, Any], Any], str]]] = {
    "an error lets all pass": (lambda p, _: p["spec"].update(failurePolicy="Ignore"), "failurePolicy"),
    "another resource": (_rule(resources=["notificationrequests"]), VERB),
    "another group": (_rule(apiGroups=["example.com"]), VERB),
    "no updates": (_rule(operations=["CREATE"]), VERB),
    "some names only": (_rule(resourceNames=["a"]), VERB),
    "some objects only": (
        lambda p, _: p["spec"]["matchConstraints"].update(objectSelector={"matchLabels": {"a": "b"}}), VERB,
    ),
    "a condition": (lambda p, _: p["spec"].update(matchConditions=[{"expression": "false"}]), VERB),
    "another question": (_unread, VERB),
    "it goes": (lambda p, _: p["metadata"].update(deletionTimestamp="t"), "it is being deleted"),
    "its binding goes": (lambda _, b: b["metadata"].update(deletionTimestamp="t"), "it is being deleted"),
    "its binding is another's": (lambda _, b: b["spec"].update(policyName="x"), "names another policy"),
    "nobody is refused": (
        lambda _, b: b["spec"].update(validationActions=["Audit", "Warn"]), "does not deny",
    ),
    "a namespace is left out": (
        lambda _, b: b["spec"].update(matchResources=binding({"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a"]}
        ]})["spec"]["matchResources"]),
        "does not hold in b",
    ),
    "namespaces by a label": (
        lambda _, b: b["spec"].update(matchResources={"namespaceSelector": {"matchLabels": {"a": "b"}}}),
        "does not hold in a, b",
    ),
    "some of the objects bound": (
        lambda _, b: b["spec"].update(matchResources={"objectSelector": {"matchLabels": {"a": "b"}}}),
        "holds for some objects only",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_protects_nothing_is_named(case: str) -> None:
    """Each change by which a status may be written by others is found, with its reason."""
    change, reason = FAULTS[case]
    policy, bound = served(POLICY), copy.deepcopy(binding(SELECTOR))
    change(policy, bound)
    assert reason in fault_of(policy, bound, BOTH)


def test_all_namespaces_are_more_than_any_list() -> None:
    """Where all namespaces are watched, a binding that lists some leaves out the others."""
    assert "does not hold in all others" in fault_of(POLICY, binding(SELECTOR), None)
