"""
From a draft and a mapping to the object that is created. No I/O, no clock.

Each member of the spec comes from the mapping where that has a template for it and the template finds
something, else from the source: a page with a plain subject beats none. Where neither has it, the request
is refused with the place of the template.

Everything is cut to bounds, and a cut text says so: an API server refuses what is too large, and a
refused page is a lost one. An extension never takes the name of what routes trust (`namespace`, `type`,
…): such a label becomes `label_<name>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from notifier.gateway.draft import Draft, Refused, cut
from notifier.gateway.expressions import Template, shown
from notifier.gateway.identity import Identity
from notifier.routing.attributes import KNOWN
from syncer.model.resource import Json

API_VERSION: Final = "kubernaut.ai/v1alpha1"
#: Label and annotations of what the gateway creates.
SOURCE_LABEL: Final = "notification-ledger/source"
IDENTITY: Final = "notification-ledger/identity"
EVENT: Final = "notification-ledger/event"

TYPES: Final = ("Escalation", "Simple", "StatusUpdate", "Approval", "ManualReview", "Completion")
PRIORITIES: Final = ("Critical", "High", "Medium", "Low")
_SUBJECT: Final = 500
_BODY: Final = 32 * 1024
_EXTENSIONS: Final = 64
_VALUE: Final = 256
_EVENT: Final = 1024
_LINKS: Final = 16
_URL: Final = 2048
_DAYS: Final = (1, 90)
_LABEL: Final = "label_"


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What a source's mapping says, compiled; absent members are the source's own.

    Attributes:
        texts: Templates of `type`, `priority`, `severity`, `subject`, `body`, `clusterID`, `id`,
        `namespace`
            and `retentionDays`, by these names.
        extensions: Templates by extension.
        links: Templates of `service`, `url` and `label` of each link.
        retry_policy: Of the spec; empty for the API server's default.
        path: Of the mapping in the gateway's file.
    """

    texts: Mapping[str, Template] = field(default_factory=dict)
    extensions: Mapping[str, Template] = field(default_factory=dict)
    links: tuple[tuple[Template, Template, Template], ...] = ()
    retry_policy: Mapping[str, int] = field(default_factory=dict)
    path: str = "mapping"

    def find(self, key: str, view: Json) -> Any:
        """Return what a template finds; None without one."""
        template = self.texts.get(key)
        return None if template is None else template.value(view, f"{self.path}.{key}")


def given_id(mapping: Rules, draft: Draft) -> str:
    """Return the event's id by the mapping, empty if it has none."""
    return cut(shown(mapping.find("id", draft.view)), _URL)


def namespace_of(mapping: Rules, draft: Draft, allowed: tuple[str, ...]) -> str:
    """
    Return the namespace of a notification.

    Args:
        mapping: Has a template for it.
        draft: What the source read.
        allowed: Namespaces that the source may reach.

    Raises:
        Refused: the template finds another one.
    """
    found = shown(mapping.find("namespace", draft.view))
    if found not in allowed:
        raise Refused(
            "the payload leads to a namespace that is not in this source's `namespaces`",
            path="namespace", status=403,
        )  # fmt: skip
    return found


def manifest(
    draft: Draft, mapping: Rules, identity: Identity, *, source: str, namespace: str
) -> Json:
    """
    Build the object.

    Args:
        draft: What the source read.
        mapping: Of the source.
        identity: Of the event.
        source: Its name.
        namespace: Where the object is to be.

    Raises:
        Refused: a required member is missing, or has a value that it cannot have.
    """
    view = draft.view
    spec: Json = {
        "type": _word(mapping, "type", view, draft.type, TYPES),
        "priority": _word(mapping, "priority", view, draft.priority, PRIORITIES),
        "subject": _line(_text(mapping, "subject", view, draft.subject)),
        "body": _bounded(_text(mapping, "body", view, draft.body)),
        "extensions": _extensions(draft, mapping, source),
    }
    for key, default in (("severity", draft.severity), ("clusterID", "")):
        value = cut(shown(mapping.find(key, view)) or default, _VALUE)
        if value:
            spec[key] = value
    if links := _links(draft, mapping):
        spec["actionLinks"] = links
    if mapping.retry_policy:
        spec["retryPolicy"] = dict(mapping.retry_policy)
    days = mapping.find("retentionDays", view)
    if days is not None:
        spec["retentionDays"] = _days(days, f"{mapping.path}.retentionDays")
    return {
        "apiVersion": API_VERSION,
        "kind": "NotificationRequest",
        "metadata": {
            "name": identity.name,
            "namespace": namespace,
            "labels": {SOURCE_LABEL: source},
            "annotations": {IDENTITY: identity.digest, EVENT: cut(draft.event, _EVENT)},
        },
        "spec": spec,
    }


def _text(mapping: Rules, key: str, view: Json, default: str) -> str:
    text = shown(mapping.find(key, view))
    text = text if text.strip() else default
    if text.strip():
        return text
    template = mapping.texts.get(key)
    raise Refused(
        f"nothing was found by {template.text}" if template else "needs a template",
        path=f"{mapping.path}.{key}",
    )


def _word(mapping: Rules, key: str, view: Json, default: str, words: tuple[str, ...]) -> str:
    found = shown(mapping.find(key, view)) or default
    by_fold = {word.lower(): word for word in words}
    if found.lower() not in by_fold:
        raise Refused(f"must come to one of {', '.join(words)}", path=f"{mapping.path}.{key}")
    return by_fold[found.lower()]


def _line(text: str) -> str:
    return cut(" ".join(text.split()), _SUBJECT)


def _bounded(text: str) -> str:
    if len(text) <= _BODY:
        return text
    rest = len(text) - _BODY
    return f"{text[:_BODY]}\n… {rest} more characters were left out by the gateway."


def _extensions(draft: Draft, mapping: Rules, source: str) -> dict[str, str]:
    found = {"source": source, **{_key(k): v for k, v in draft.extensions.items()}}
    for key, template in mapping.extensions.items():
        value = template.value(draft.view, f"{mapping.path}.extensions.{key}")
        if value is None:
            found.pop(key, None)
        else:
            found[key] = shown(value)
    # The mapping's are kept first: they are what somebody asked for.
    order = [*mapping.extensions, *(k for k in found if k not in mapping.extensions)]
    kept = [key for key in order if key in found]
    out = {key[:_VALUE]: cut(found[key], _VALUE) for key in kept[:_EXTENSIONS]}
    if len(kept) > _EXTENSIONS:
        out["extensionsLeftOut"] = str(len(kept) - _EXTENSIONS)
    return out


def _key(label: str) -> str:
    return f"{_LABEL}{label}" if label in KNOWN or label == "source" else label


def _links(draft: Draft, mapping: Rules) -> list[Json]:
    links = list(draft.links)
    for number, templates in enumerate(mapping.links):
        path = f"{mapping.path}.links[{number}]"
        service, url, label = (shown(t.value(draft.view, path)) for t in templates)
        links.append((service, url, label))
    return [
        {"service": cut(service, _VALUE), "url": url, "label": cut(label, _VALUE)}
        for service, url, label in links
        if service and label and url.startswith(("http://", "https://")) and len(url) <= _URL
    ][:_LINKS]


def _days(value: Any, path: str) -> int:
    try:
        days = int(value)
    except (TypeError, ValueError, OverflowError):
        raise Refused("must come to a number of days", path=path) from None
    return max(_DAYS[0], min(days, _DAYS[1]))
