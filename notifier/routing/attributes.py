"""
The attributes of a notification: what routes match on, and what the log and audit show.

All attributes form one flat map of strings. `namespace` and `name` are always the object's own, whatever
its author writes, so a route may trust them. Then come the spec fields, the context and the extensions. The
first source of a key wins: an extension called `type` cannot disguise the type of a notification. Labels
and annotations are not used. An empty spec field or context member counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from syncer.configfile import nearest
from syncer.model.context import CONTEXT_KEYS, flatten_context
from syncer.model.incident import OWN, STATES, incident_of
from syncer.model.resource import Spec

#: Attributes that identify the object; extensions cannot set them.
RESERVED: Final = ("namespace", "name")

#: Attributes taken from the spec, each with the name of the spec field.
SPEC_FIELDS: Final[Mapping[str, str]] = {
    "type": "type",
    "severity": "severity",
    "phase": "phase",
    "review-source": "reviewSource",
    "priority": "priority",
}
#: Every predefined attribute; authors add others as extensions.
KNOWN: Final = tuple(
    dict.fromkeys(
        (
            *RESERVED,
            *SPEC_FIELDS,
            "incident",
            "state",
            "verificationAssessed",
            "verificationDegraded",
            "circuitBreakerActivated",
            *CONTEXT_KEYS,
        )
    )
)
#: Attributes that a notification always has, and the values that the API server accepts.
ALWAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "type": (
        "Escalation", "Simple", "StatusUpdate", "Approval", "ManualReview", "Completion",
    ),
    "priority": ("Critical", "High", "Medium", "Low"),
}  # fmt: skip
#: The same for attributes that it may lack; an extension may then give the name any value.
SOMETIMES: Final[Mapping[str, tuple[str, ...]]] = {
    "review-source": ("AIAnalysis", "WorkflowExecution", "RoutingEngine"),
    "verificationAssessed": ("true", "false"),
    "verificationDegraded": ("true", "false"),
    "circuitBreakerActivated": ("true",),
    "state": STATES,
}
#: Members of a notification that are not attributes, although they look like attributes.
_UNSEEN: Final = frozenset(
    {
        "subject", "body", "clusterID", "retentionDays", "actionLinks", "retryPolicy", "labels",
        "annotations", "workflowName", "actionType", "summary", "context", "extensions", "status",
    }
)  # fmt: skip
#: Beginnings of keys that name an attribute by its path in the object.
_PLACES: Final = (
    "spec.",
    "context.",
    "extensions.",
    "metadata.",
    "labels.",
    "annotations.",
    "status.",
)
#: Longest key that is compared with the known ones, and the least similarity of two keys; 1 is equal.
_COMPARED: Final = 64
_ALIKE: Final = 0.88


def likely_meant(key: str) -> str:
    """
    Return the known attribute of which a key looks like a typo, empty if there is none.

    An author may use any key in extensions, so an unknown key is not a mistake by itself.
    """
    if key in KNOWN or len(key) > _COMPARED:
        return ""
    return nearest(key, {known: known for known in KNOWN}, _ALIKE)


def unseen(key: str) -> str:
    """
    Return why routing never sees a key as an attribute, empty if it may.

    An extension of exactly this name would be an attribute, but nobody who writes such a key means that.
    """
    if key in _UNSEEN:
        return "routing does not look at this member of a notification"
    if key.startswith(_PLACES) and not key.startswith(("labels.", "annotations.")):
        return f"attributes are named without their place, as {key.rpartition('.')[2]}"
    if key.startswith(_PLACES):
        return "labels and annotations take no part in routing; use extensions"
    return ""


def odd_value(key: str, value: str) -> tuple[str, str] | None:
    """
    Return what is odd about the value that a route requires of an attribute, and the fix.

    None if nothing is.
    """
    values = ALWAYS.get(key) or SOMETIMES.get(key)
    if values is None or value in values or (not value and key in SOMETIMES):
        return None
    near = nearest(value[:_COMPARED], {known: known for known in values})
    return (
        f"is a value that {key} never has" + (f": did you mean {near}?" if near else ""),
        f"write {near or 'one of ' + ', '.join(values)}",
    )


def attributes_of(spec: Spec, *, namespace: str, name: str) -> dict[str, str]:
    """
    Return every attribute of a notification, in the order of precedence.

    Keys are as in the routing file: `namespace` and `name` of the object, `type`, `severity`,
    `phase`, `review-source`, `priority`, `incident` and `state`, the flat context, then the extensions
    whose keys are not taken yet. Only an extension may have an empty value; it then counts as present for
    `matchRe`.
    """
    attributes = {"namespace": namespace, "name": name}
    incident, state = incident_of(spec.extensions)
    spec_fields = {
        "type": spec.type,
        "severity": spec.severity,
        "phase": spec.phase,
        "review-source": spec.review_source,
        "priority": spec.priority,
        "incident": incident,
        "state": state,
    }
    attributes.update((key, value) for key, value in spec_fields.items() if value)
    for source in (flatten_context(spec.context), spec.extensions):
        for key, value in source.items():
            if not key.startswith(OWN):
                attributes.setdefault(key, value)
    return attributes


def disguised(extensions: Mapping[str, str], *, namespace: str, name: str) -> tuple[str, ...]:
    """Return the reserved attributes that extensions set to other values, which have no effect."""
    own = {"namespace": namespace, "name": name}
    return tuple(key for key in RESERVED if extensions.get(key, own[key]) != own[key])
