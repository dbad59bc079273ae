"""
The attributes of a notification: what routes match on, and what the log and audit show.

Everything is a flat map of strings. `namespace` and `name` are the object's own, whatever its author
writes: they are what a route may trust. Then come the spec fields, the context and the extensions,
and the first writer of a key keeps it: an extension called `type` cannot disguise the type of a
notification. Labels and annotations take no part. A spec field or context member that is empty is
absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from syncer.configfile import nearest
from syncer.model.context import CONTEXT_KEYS, flatten_context
from syncer.model.incident import OWN, STATES, incident_of
from syncer.model.resource import Spec

#: Attributes that say what an object is; no author sets them.
RESERVED: Final = ("namespace", "name")

#: Attributes that are fields of the spec, each with its member there.
SPEC_FIELDS: Final[Mapping[str, str]] = {
    "type": "type",
    "severity": "severity",
    "phase": "phase",
    "review-source": "reviewSource",
    "priority": "priority",
}
#: Every attribute that is not an author's own choice.
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
#: Attributes that a notification always has, and the values that the API server lets through.
ALWAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "type": (
        "Escalation", "Simple", "StatusUpdate", "Approval", "ManualReview", "Completion",
    ),
    "priority": ("Critical", "High", "Medium", "Low"),
}  # fmt: skip
#: The same of one that it may lack; then an extension may have any value under this name.
SOMETIMES: Final[Mapping[str, tuple[str, ...]]] = {
    "review-source": ("AIAnalysis", "WorkflowExecution", "RoutingEngine"),
    "verificationAssessed": ("true", "false"),
    "verificationDegraded": ("true", "false"),
    "circuitBreakerActivated": ("true",),
    "state": STATES,
}
#: Members of a notification that are not attributes, although they look like some.
_UNSEEN: Final = frozenset(
    {
        "subject", "body", "clusterID", "retentionDays", "actionLinks", "retryPolicy", "labels",
        "annotations", "workflowName", "actionType", "summary", "context", "extensions", "status",
    }
)  # fmt: skip
#: Ways of naming an attribute by its place in the object.
_PLACES: Final = (
    "spec.",
    "context.",
    "extensions.",
    "metadata.",
    "labels.",
    "annotations.",
    "status.",
)
#: Longest key that is compared with the known ones, and how alike two must be; 1 is equal.
_COMPARED: Final = 64
_ALIKE: Final = 0.88


def likely_meant(key: str) -> str:
    """
    Return the known attribute that a key looks like without being it, empty if there is none.

    An author may use any key in extensions, so a key that is not known is no mistake by itself.
    """
    if key in KNOWN or len(key) > _COMPARED:
        return ""
    return nearest(key, {known: known for known in KNOWN}, _ALIKE)


def unseen(key: str) -> str:
    """
    Say why routing never sees an attribute, empty if it may.

    An extension of that very name would make it one, which nobody means who writes such a key.
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
    Say what is odd about a value that a route wants an attribute to have, and what to do.

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
    Every attribute of a notification, in the order of precedence.

    Keys are as in the routing file: `namespace` and `name` of the object, `type`, `severity`,
    `phase`, `review-source`, `priority`, `incident` and `state`, the flat context, then the extensions
    that name no key taken before. Only an extension may have an empty value; it is there for `matchRe`,
    which asks for presence.
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
    """Return the reserved attributes that extensions set to something else; they have no effect."""
    own = {"namespace": namespace, "name": name}
    return tuple(key for key in RESERVED if extensions.get(key, own[key]) != own[key])
