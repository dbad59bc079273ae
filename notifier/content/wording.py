"""
Rendering a message with its receiver's templates.

Templates see the notification as every channel shows it, sanitised and bounded, and its alerts. The subject
and body that they yield replace the notification's, and the template of a payload sees the replaced texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from notifier.contract import Message, Words
from notifier.templates.expressions import Unfit
from notifier.templates.wording import SEVERITIES, Wording
from syncer.model.incident import OWN
from syncer.model.resource import Json


def view_of(message: Message) -> Json:
    """Return a message as templates see it."""
    spec, data = message.spec, message.data()
    return {
        **data,
        "id": message.idempotency_key,
        "namespace": message.namespace,
        "name": message.name,
        "incident": message.incident,
        "answer": message.answer,
        "state": message.state,
        "status": data.get("status") or message.state,
        "type": spec.type,
        "priority": spec.priority,
        "severity": spec.severity,
        "phase": spec.phase,
        "cluster": spec.cluster_id,
        "subject": spec.subject,
        "body": spec.body,
        "labels": {k: v for k, v in spec.extensions.items() if not k.startswith(OWN)},
        "context": spec.context,
        "links": [
            {"service": service, "url": url, "label": text} for service, url, text in message.links
        ],
    }


def worded(message: Message, wording: Wording) -> Message:
    """
    Return a message rendered with templates.

    Raises:
        Unfit: a template does not fit the notification; the text begins with its name and quotes no value.
    """
    view = view_of(message)
    found: dict[str, str] = {}
    for name, template in wording.texts.items():
        found[name] = _rendered(name, template, view)
        if name in view:
            view[name] = found[name]
    spec = message.spec
    if subject := " ".join(found.get("subject", "").split()):
        spec = replace(spec, subject=subject)
    if "body" in found:
        spec = replace(spec, body=found["body"])
    if link := found.get("titleLink"):
        spec = replace(spec, action_links=(("title", link, "Open"), *spec.action_links))
    payload = None
    if wording.payload is not None:
        payload = _rendered("payload", wording.payload, view)
        if isinstance(payload, Mapping) and str(payload.get("severity", "info")) not in SEVERITIES:
            raise Unfit(f"severity: yields none of {', '.join(sorted(SEVERITIES))}")
    size = message.size - len(message.spec.body) + len(spec.body)
    return replace(message, spec=spec, words=Words("body" in found, payload), size=size)


def _rendered(name: str, template: Any, view: Json) -> Any:
    try:
        return template.render(view)
    except Unfit as unfit:
        raise Unfit(f"{name}: {unfit}") from None
