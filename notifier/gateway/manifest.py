"""
From a draft and a mapping to the object that is created. No I/O, no clock.

Each member of the spec comes from the mapping where that has a template for it and the template finds
something that fits, else from the source: a page with a plain subject beats none. What did not fit is an
annotation of the object. Where neither has a member, the request is refused with the place of the template.

Everything is cut to bounds, and a cut text says so: an API server refuses what is too large, and a
refused page is a lost one. An extension never takes the name of what routes trust (`namespace`, `type`,
…): such a label becomes `label_<name>`.
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
#: Label and annotations of what the gateway creates.
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
    What a source's mapping says, compiled; absent members are the source's own.

    Attributes:
        texts: Templates of `type`, `priority`, `severity`, `subject`, `body`, `clusterID`, `id`,
            `incident`, `state`, `namespace` and `retentionDays`, by these names.
        links: Templates of `service`, `url` and `label` of each link.
        retry_policy: Of the spec; empty for the API server's default.
        path: Of the mapping in the gateway's file.
    """

    texts: Mapping[str, Template] = field(default_factory=dict)
    extensions: Mapping[str, Template] = field(default_factory=dict)
    links: tuple[tuple[Template, Template, Template], ...] = ()
    retry_policy: Mapping[str, int] = field(default_factory=dict)
    path: str = "mapping"


class Reading:
    """A mapping that is applied; templates that do not fit are noted, and the source's value is used."""

    def __init__(self, mapping: Rules, draft: Draft) -> None:
        """Read the event's id: empty if the mapping has none, or one that does not fit."""
        self.mapping = mapping
        self.draft = draft
        self.faults: list[str] = []
        self.given = self.text("id")

    def namespace(self, allowed: tuple[str, ...]) -> str:
        """
        Return the namespace of the notification.

        Args:
            allowed: Namespaces that the source may reach.

        Raises:
            Refused: the template finds another one.
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
        """Return what a template finds; the default without one, or where it does not fit the payload."""
        try:
            return default if template is None else template.value(self.draft.view)
        except Unfit as unfit:
            self.note(place, str(unfit))
            return default

    def text(self, key: str) -> str:
        """Return what the template of a member finds, as text."""
        return shown(self.value(self.mapping.texts.get(key), key))

    def note(self, place: str, reason: str) -> None:
        """Note what does not fit."""
        self.faults.append(f"{place}: {reason}")

    def required(self, key: str, default: str) -> str:
        """Return a text that must be there; Refused if neither the mapping nor the source has it."""
        for text in (self.text(key), default):
            if text.strip():
                return text
        template = self.mapping.texts.get(key)
        reason = f"nothing was found by {template.text}" if template else "needs a template"
        reason = next((f[len(key) + 2 :] for f in self.faults if f.startswith(f"{key}: ")), reason)
        raise Refused(reason, path=f"{self.mapping.path}.{key}")

    def word(self, key: str, default: str, words: tuple[str, ...]) -> str:
        """Return one of some words, in any case."""
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
        """Return the source's extensions and the mapping's, which win and are kept first."""
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
        """Return the links that have a target."""
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
        """Return the extensions that say which incident it is about, and its state; empty if none."""
        found = self.text("incident")
        parts = ("given", found) if found else self.draft.incident
        if parts is None:
            return {}
        digest = hashed("", *parts).digest[:DIGITS]
        if self.draft.group and not found:
            # As Alertmanager hashes it, whose own integrations tell PagerDuty so.
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
        reading: What the source read, and its mapping.
        identity: Of the event.
        source: Its name.
        namespace: Where the object is to be.
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
        # The incident comes last, so that nothing that was sent can be it.
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
        identity: Has its name, and its mark.
        source: Name of the source.
        namespace: Where it is to be.
        event: In the words of its sender, by which people look for it.
        spec: Of the notification.
        annotations: Further ones.
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
    """Return a text as the one line that a subject is, cut to its bound."""
    return cut(" ".join(text.split()), _SUBJECT)


def _bounded(text: str) -> str:
    rest = f"\n… {len(text) - _BODY} more characters were left out by the gateway."
    return text if len(text) <= _BODY else text[:_BODY] + rest


def _key(label: str) -> str:
    own = label in KNOWN or label == "source" or label.startswith(OWN)
    return f"label_{label}" if own else label
