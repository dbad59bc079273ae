"""
Composing the message that a channel sends.

A `Message` is composed for one attempt on one channel, from the object alone, enriched and
sanitised. Retries of one notification to one channel carry the same idempotency key, and a receiver
that knows the key may refuse another body under it. Therefore a request body is made only from values that
cannot change between attempts: uid, namespace, name and the spec, which the API server keeps
immutable. Labels, annotations and the status may change; they are for the file and log channels,
which have no key. The attempt id is sent in a header.

Texts are bounded first (`content.trim`), then sanitised: the largest object costs no more than a large
message does.

In the body the id of a workflow is replaced by its name (`enrich`), in the subject and the stored object it
is not. Sanitising comes afterwards, so the name is sanitised too.

The sanitised whole object is made on demand, because only the file channel needs it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import orjson

from notifier.content.redaction import REDACTED
from notifier.content.sanitise import (
    MAX_DEPTH,
    PIECE_CHARS,
    is_secret_name,
    sanitise,
    sanitise_tree,
    sanitised_pieces,
)
from notifier.content.trim import BODY_CHARS, MORE, OBJECT_CHARS, REST_CHARS, Budget
from notifier.contract import Message
from notifier.templates.places import is_link
from syncer.model.attempt import AttemptId
from syncer.model.context import flatten_context, workflow_of
from syncer.model.incident import DATA, group_hash, incident_key, incident_of
from syncer.model.resource import Json, Spec, parse_spec
from syncer.model.trace import TRACE, trace_of
from syncer.rules.text import shown as printable

#: Characters that names may add to a body. An id of one letter and a name of 1 MiB would make a body too
#: large for memory, and the choice to compose a message in a thread depends on the object's size alone.
MAX_GROWTH: Final = 4 * 1024
#: Maximum characters of the JSON of the alerts.
_DATA_CHARS: Final = 16 * 1024
#: Maximum number of alerts that templates see, because a template may compare each with all others; no
#: gateway passes on more in so few bytes.
_ALERTS: Final = 256
#: Members of that JSON that are maps of texts.
_DATA_MAPS: Final = ("groupLabels", "commonLabels", "commonAnnotations")


def compose(
    document: Mapping[str, Any],
    channel: str,
    attempt_id: AttemptId | str,
    *,
    spec: Spec | None = None,
    live: bool = True,
    installation: str = "",
    breath: Callable[[], None] | None = None,
) -> Message:
    """
    Compose the message of one attempt.

    Args:
        document: The object, as `NotificationRequest.document()` returns it; it is kept and must not
            be changed afterwards.
        channel: Full channel name, for example `slack:ops`.
        attempt_id: Chosen before the send.
        spec: The spec of an earlier message of the object; None to make it now.
        live: Include labels and annotations, which may change.
        installation: Part of the key by which receivers know an incident.
        breath: Called every few milliseconds while a large message is made; None for a small one.

    Raises:
        ValueError: a member of the spec has an impossible type.
    """
    metadata = _mapping(document.get("metadata"))
    status = _mapping(document.get("status"))
    clean = _cleaner(breath or (lambda: None))
    try:
        spec = spec or _shown_spec(document, clean)
    except (TypeError, AttributeError, RecursionError) as exc:
        raise ValueError("the spec is not of the schema's shape") from exc
    labels, annotations = (
        _texts(_shown(metadata.get(part)), clean) if live else {}
        for part in ("labels", "annotations")
    )
    uid = str(metadata.get("uid") or "")
    namespace = str(metadata.get("namespace") or "")
    # Not sanitised: the incidents of two notifications could become equal.
    extensions = _mapping(_mapping(document.get("spec")).get("extensions"))
    data = str(extensions.get(DATA) or "")
    incident, state = incident_of({k: str(v) for k, v in extensions.items()})
    facts = flatten_context(spec.context) | {k: v for k, v in spec.extensions.items() if v}
    return Message(
        uid=uid,
        namespace=namespace,
        name=str(metadata.get("name") or ""),
        attempt_id=attempt_id,
        idempotency_key=idempotency_key(uid, channel),
        spec=spec,
        metadata=facts,
        labels=labels,
        annotations=annotations,
        phase=sanitise(Budget(REST_CHARS).text(str(status.get("phase") or ""))),
        successful=_count(status.get("successfulDeliveries")),
        failed=_count(status.get("failedDeliveries")),
        size=len(spec.subject) + len(spec.body) + sum(map(len, facts.values())) + len(data),
        incident=incident_key(installation, namespace, incident) if incident else "",
        group=group_hash(incident),
        state=state,
        trace=trace_of(_mapping(metadata.get("annotations")).get(TRACE)),
        data=partial(_shown_data, data, clean),
        document=partial(sanitised_document, document),
    )


def sanitised_document(
    source: Mapping[str, Any], breath: Callable[[], None] = lambda: None
) -> Json:
    """
    The whole object, sanitised: apiVersion, kind, metadata, spec, status.

    Managed fields are left out, the body is enriched, everything beyond `OBJECT_CHARS` is left out with a
    mark, and the identity (name, namespace, uid) stays as stored, whatever it looks like.
    """
    metadata = {k: v for k, v in _mapping(source.get("metadata")).items() if k != "managedFields"}
    spec = dict(_mapping(source.get("spec")))
    if isinstance(spec.get("extensions"), Mapping):
        # The sanitiser would break the JSON of the alerts; the body lists them anyway.
        spec["extensions"] = {k: v for k, v in spec["extensions"].items() if k != DATA}
    if isinstance(spec.get("body"), str):
        spec["body"] = enrich(spec["body"], _mapping(spec.get("context")))
        spec["body"] = Budget(BODY_CHARS).text(spec["body"], BODY_CHARS)
    # The spec, which people wrote, comes first in case not everything fits.
    budget = Budget(OBJECT_CHARS)
    shown = {
        "spec": budget.tree(spec, MAX_DEPTH),
        "metadata": budget.tree(metadata, MAX_DEPTH),
        "status": budget.tree(source.get("status") or {}, MAX_DEPTH),
    }
    document: Json = sanitise_tree(
        {
            "apiVersion": source.get("apiVersion", ""),
            "kind": source.get("kind", ""),
            "metadata": shown["metadata"],
            "spec": shown["spec"],
            "status": shown["status"],
        },
        clean=_cleaner(breath),
    )
    document["metadata"].update(
        {k: metadata[k] for k in ("name", "namespace", "uid") if k in metadata}
    )
    return document


def enrich(body: str, context: Mapping[str, Any]) -> str:
    """
    Replace every occurrence of the workflow's id in a body by its name, unless that adds too much.

    The id is `context.workflow.workflowId`, else `selectedWorkflow`.
    """
    identity, name = workflow_of(context)
    grown = body.count(identity) * (len(name) - len(identity))
    return body.replace(identity, name) if identity and name and grown <= MAX_GROWTH else body


def idempotency_key(uid: str, channel: str) -> str:
    """
    Key that is constant for a notification on a channel.

    `nl_` and 52 characters of a-z2-7; it holds no dot, which signed webhooks use as a separator.
    """
    digest = hashlib.sha256(f"{uid}\0{channel}".encode("utf-8", "surrogatepass")).digest()
    return "nl_" + base64.b32encode(digest).decode().rstrip("=").lower()


def _trimmed_links(spec: Spec, budget: Budget) -> list[tuple[str, str, str]]:
    links: list[tuple[str, str, str]] = []
    for service, url, label in spec.action_links:
        if budget.left <= 0:
            links.append((MORE, "", f"{len(spec.action_links) - len(links)} further links"))
            break
        links.append((budget.text(service), budget.text(url), budget.text(label)))
    return links


def _shown(value: object) -> dict[str, str]:
    """The labels or annotations that are shown."""
    return Budget(REST_CHARS).texts({str(k): str(v) for k, v in _mapping(value).items()})


def _shown_spec(document: Mapping[str, Any], clean: Callable[[str], str]) -> Spec:
    """
    The spec as every channel and every attempt sees it: bounded, enriched, sanitised.

    Subject and body have budgets of their own, the rest shares one.

    Raises:
        TypeError, AttributeError, ValueError: a member has an impossible type.
    """
    spec = parse_spec(dict(_mapping(document.get("spec"))))
    budget = Budget(REST_CHARS)

    def shown(text: str) -> str:
        return clean(budget.text(text))

    return Spec(
        type=shown(spec.type),
        priority=shown(spec.priority),
        subject=clean(Budget(REST_CHARS).text(spec.subject)),
        body=clean(Budget(BODY_CHARS).text(enrich(spec.body, spec.context), BODY_CHARS)),
        severity=shown(spec.severity),
        phase=shown(spec.phase),
        review_source=shown(spec.review_source),
        cluster_id=shown(spec.cluster_id),
        remediation_request=shown(spec.remediation_request),
        context=sanitise_tree(budget.tree(spec.context, MAX_DEPTH), clean=clean),
        action_links=tuple(
            (clean(service), clean(url), clean(label))
            for service, url, label in _trimmed_links(spec, budget)
        ),
        extensions=_texts(
            budget.texts({k: v for k, v in spec.extensions.items() if k != DATA}), clean
        ),
        retention_days=spec.retention_days,
    )


def _shown_data(text: str, clean: Callable[[str], str]) -> Json:
    """
    Return the alerts as templates see them: texts and maps of texts, whatever the input contains.

    Texts are sanitised one by one, never the JSON that contains them. An address that may not become a link
    is left out: one such alert must not keep a receiver from learning about the others.
    """
    try:
        found = orjson.loads(text) if 0 < len(text) <= _DATA_CHARS else {}
    except orjson.JSONDecodeError:
        found = {}
    found = _mapping(found)
    listed = found.get("alerts")
    alerts = [a for a in listed if isinstance(a, Mapping)] if isinstance(listed, list) else []
    return {
        "status": clean(_text(found.get("status"))),
        "truncatedAlerts": _count(found.get("truncatedAlerts")) + len(alerts[_ALERTS:]),
        **{key: _texts(found.get(key), clean) for key in _DATA_MAPS},
        "alerts": [
            {key: clean(_text(alert.get(key))) for key in ("status", "startsAt", "endsAt")}
            | {"url": url if is_link(url := clean(_text(alert.get("url")))) else ""}
            | {key: _texts(alert.get(key), clean) for key in ("labels", "annotations")}
            for alert in alerts[:_ALERTS]
        ],
    }


def _cleaner(breath: Callable[[], None]) -> Callable[[str], str]:
    """
    Return a function that sanitises a text and removes characters that mislead a reader.

    It calls `breath` between the pieces of a long text.
    """

    def clean(text: str) -> str:
        breath()
        if len(text) <= PIECE_CHARS:
            return printable(sanitise(text))
        pieces = []
        for piece in sanitised_pieces(text):
            pieces.append(piece)
            breath()
        return printable("".join(pieces))

    return clean


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _text(value: object) -> str:
    """A value as text; empty for null, mappings and lists."""
    return "" if value is None or isinstance(value, (Mapping, list)) else str(value)


def _texts(value: object, sanitise: Callable[[str], str]) -> dict[str, str]:
    return {
        sanitise(str(k)): REDACTED if v and is_secret_name(str(k)) else sanitise(_text(v))
        for k, v in _mapping(value).items()
    }
