"""
Builds the object of a notification from a draft and a mapping. No I/O, no clock.

Each member of the spec comes from the mapping, if it has a template for the member and the template finds
a value that fits; else from the source: a page with a plain subject is better than none. An annotation of
the object lists the values that did not fit. If neither has a required member, the request is refused with
the path of the template.

Everything is cut to bounds, and a cut text says so: an API server refuses an object that is too large, and
a refused page is lost. An extension never has the name of an attribute that routes trust (`namespace`,
`type`, …): such a label becomes `label_<name>`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from notifier.gateway.draft import Draft, Refused
from notifier.gateway.identity import DIGITS, Identity, hashed
from notifier.routing.attributes import ALWAYS, KNOWN
from notifier.templates.expressions import Unfit, shown
from notifier.templates.text import Template
from syncer.model.event import EVENT, event_label, event_text
from syncer.model.incident import AT, DATA, FIRING, INCIDENT, OWN, STATE, STATES, incident_label
from syncer.model.resource import Json
from syncer.rules.text import cut

API_VERSION: Final = "kubernaut.ai/v1alpha1"
#: Label and annotations of the objects that the gateway creates.
SOURCE_LABEL: Final = "notification-ledger/source"
IDENTITY: Final = "notification-ledger/identity"
FAULTS: Final = "notification-ledger/mapping-faults"

TYPES: Final = ALWAYS["type"]
PRIORITIES: Final = ALWAYS["priority"]
_SUBJECT: Final = 500
_BODY: Final = 32 * 1024
_EXTENSIONS: Final = 64
_VALUE: Final = 256
_FAULT: Final = 1024
_LINKS: Final = 16
_URL: Final = 2048
_DAYS: Final = (1, 90)


@dataclass(frozen=True, slots=True)
class Rules:
    """
    A source's mapping, compiled; an absent member has the source's default.

    Attributes:
        texts: Templates of `type`, `priority`, `severity`, `subject`, `body`, `clusterID`, `id`,
            `incident`, `state`, `namespace` and `retentionDays`, by these names.
        links: Templates of `service`, `url` and `label` of each link.
        retry_policy: Retry policy of the spec; empty for the API server's default.
        path: Path of the mapping in the gateway's file.
    """

    texts: Mapping[str, Template] = field(default_factory=dict)
    extensions: Mapping[str, Template] = field(default_factory=dict)
    links: tuple[tuple[Template, Template, Template], ...] = ()
    retry_policy: Mapping[str, int] = field(default_factory=dict)
    path: str = "mapping"


class Reading:
    """Applies a mapping to a draft; if a template does not fit, it is noted and the source's value used."""

    def __init__(self, mapping: Rules, draft: Draft) -> None:
        """Evaluate the mapping's `id`, which is empty if there is none or it does not fit."""
        self.mapping = mapping
        self.draft = draft
        self.faults: list[str] = []
        self.given = self.text("id")

    def namespace(self, allowed: tuple[str, ...]) -> str:
        """
        Return the namespace of the notification.

        Args:
            allowed: Namespaces that the source may write to.

        Raises:
            Refused: the template finds none of them.
        """
        template = self.mapping.texts.get("namespace")
        if template is None:
            return allowed[0]
        refusal = Refused(
            "the payload leads to a namespace that is not in this source's `namespaces`",
            path="namespace", status=403,
        )  # fmt: skip
        for view in filter(None, (self.draft.view, self.draft.nearest)):
            try:
                found = shown(template.value(view))
            except Unfit as unfit:
                refusal = Refused(str(unfit), path=f"{self.mapping.path}.namespace")
                continue
            if found in allowed:
                return found
        raise refusal

    def value(self, template: Template | None, place: str, default: Any = None) -> Any:
        """Return the value of a template; the default without one, or if it does not fit the payload."""
        try:
            return default if template is None else template.value(self.draft.view)
        except Unfit as unfit:
            self.note(place, str(unfit))
            return default

    def text(self, key: str) -> str:
        """Return the value of a member's template, as text."""
        return shown(self.value(self.mapping.texts.get(key), key))

    def note(self, place: str, reason: str) -> None:
        """Note that a value does not fit, and why."""
        self.faults.append(f"{place}: {reason}")

    def required(self, key: str, default: str) -> str:
        """Return a text that is required; Refused if neither the mapping nor the source has it."""
        for text in (self.text(key), default):
            if text.strip():
                return text
        template = self.mapping.texts.get(key)
        reason = f"nothing was found by {template.text}" if template else "needs a template"
        reason = next((f[len(key) + 2 :] for f in self.faults if f.startswith(f"{key}: ")), reason)
        raise Refused(reason, path=f"{self.mapping.path}.{key}")

    def word(self, key: str, default: str, words: tuple[str, ...]) -> str:
        """Return the one of some words that a template finds in any case; the default if it finds none."""
        found = self.text(key)
        by_fold = {word.lower(): word for word in words}
        if found and found.lower() not in by_fold:
            self.note(key, f"yields none of {', '.join(words)}")
        return by_fold.get(found.lower(), default)

    def days(self) -> int | None:
        """Return the days of retention, within bounds; None for the API server's default."""
        found = self.value(self.mapping.texts.get("retentionDays"), "retentionDays")
        if found is None or found == "":
            return None
        try:
            return max(_DAYS[0], min(int(found), _DAYS[1]))
        except (TypeError, ValueError, OverflowError):
            self.note("retentionDays", "does not yield a number of days")
            return None

    def extensions(self, source: str) -> dict[str, str]:
        """Return the extensions of the source and the mapping; the mapping's win, and are kept first."""
        found = {"source": source, **{_key(k): v for k, v in self.draft.extensions.items()}}
        own = self.mapping.extensions
        for key, template in own.items():
            value = self.value(template, f"extensions.{key}", found.pop(key, None))
            if value is not None:
                found[key] = shown(value)
        kept = [key for key in own if key in found] + [key for key in found if key not in own]
        out = {key[:_VALUE]: cut(found[key], _VALUE) for key in kept[:_EXTENSIONS]}
        if len(kept) > _EXTENSIONS:
            out["extensionsLeftOut"] = str(len(kept) - _EXTENSIONS)
        return out

    def links(self) -> list[Json]:
        """Return the links that are complete and have an http or https URL."""
        own = (
            [shown(self.value(template, f"links[{number}]")) for template in templates]
            for number, templates in enumerate(self.mapping.links)
        )
        return [
            {"service": cut(service, _VALUE), "url": url, "label": cut(label, _VALUE)}
            for service, url, label in (*self.draft.links, *own)
            if service and label and url.startswith(("http://", "https://")) and len(url) <= _URL
        ][:_LINKS]

    def incident(self, source: str, now: int) -> dict[str, str]:
        """Return the extensions with the incident, its state and the time; empty without an incident."""
        found = self.text("incident")
        parts = ("given", found) if found else self.draft.incident
        if parts is None:
            return {}
        digest = hashed("", *parts).digest[:DIGITS]
        if self.draft.group and not found:
            # The hash that Alertmanager's own integrations send to PagerDuty.
            group = self.draft.group.encode("utf-8", "surrogatepass")
            digest += f"/{hashlib.sha256(group).hexdigest()}"
        state = self.word("state", self.draft.state, STATES) or FIRING
        return {INCIDENT: f"gw/{source}/{digest}", STATE: state, AT: str(now)}


def manifest(
    reading: Reading, identity: Identity, *, source: str, namespace: str, now: int
) -> Json:
    """
    Build the object.

    Args:
        reading: The draft, with the source's mapping applied.
        identity: Names of the event.
        source: Name of the source.
        namespace: Namespace of the object.
        now: Unix milliseconds.

    Raises:
        Refused: a required member is missing.
    """
    draft, mapping = reading.draft, reading.mapping
    spec: Json = {
        "type": reading.word("type", draft.type, TYPES),
        "priority": reading.word("priority", draft.priority, PRIORITIES),
        "subject": line(reading.required("subject", draft.subject)),
        "body": _bounded(reading.required("body", draft.body)),
        # The incident comes last, so that no extension from a payload can replace it.
        "extensions": {
            **reading.extensions(source),
            **({DATA: draft.data} if draft.data else {}),
            **reading.incident(source, now),
        },
    }
    for key, default in (("severity", draft.severity), ("clusterID", "")):
        value = cut(reading.text(key) or default, _VALUE)
        if value:
            spec[key] = value
    if links := reading.links():
        spec["actionLinks"] = links
    if mapping.retry_policy:
        spec["retryPolicy"] = dict(mapping.retry_policy)
    if (days := reading.days()) is not None:
        spec["retentionDays"] = days
    faults = cut("; ".join(reading.faults), _FAULT)
    return object_of(
        identity,
        source=source,
        namespace=namespace,
        event=draft.event,
        spec=spec,
        annotations={FAULTS: faults} if faults else {},
    )


def object_of(
    identity: Identity,
    *,
    source: str,
    namespace: str,
    event: str,
    spec: Json,
    annotations: Json | None = None,
) -> Json:
    """
    Return the object around a spec.

    Args:
        identity: Has the object's name, and the hash for its annotation.
        source: Name of the source.
        namespace: Namespace of the object.
        event: Text in the terms of the source by which people search for the event; may be empty.
        spec: Spec of the notification.
        annotations: Further annotations.
    """
    labels = {SOURCE_LABEL: source}
    marks = {IDENTITY: identity.digest, **(annotations or {})}
    if incident := spec["extensions"].get(INCIDENT):
        labels[INCIDENT] = incident_label(incident)
    if event:
        labels[EVENT] = event_label(event)
        marks[EVENT] = event_text(event)
    return {
        "apiVersion": API_VERSION,
        "kind": "NotificationRequest",
        "metadata": {
            "name": identity.name,
            "namespace": namespace,
            "labels": labels,
            "annotations": marks,
        },
        "spec": spec,
    }


def line(text: str) -> str:
    """Return a text as one line, cut to the bound of a subject."""
    return cut(" ".join(text.split()), _SUBJECT)


def _bounded(text: str) -> str:
    rest = f"\n… {len(text) - _BODY} more characters were left out by the gateway."
    return text if len(text) <= _BODY else text[:_BODY] + rest


def _key(label: str) -> str:
    own = label in KNOWN or label == "source" or label.startswith(OWN)
    return f"label_{label}" if own else label
