"""
The PagerDuty channel: Events API v2.

The deduplication key is the object's name, as in the replaced controller, so repeats of one notification
join one alert. A setting prepends the namespace, because equal names in two namespaces would share an alert
too. The body is not sent; the details of the analysis are.

A notification of an incident goes beyond the replaced controller. Its key is the incident's, the end of the
incident resolves the alert, and body, labels and links are sent. PagerDuty shows the details of an alert's
first event, and ignores a resolve event for an alert that it does not know.

An event may have 512 KiB. The root cause is cut first, then the longest remaining text, until the event
fits, always at a code point.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any, Final

from notifier.channels.base import Provider, cut_to_size
from notifier.channels.http import HttpClient
from notifier.channels.vendor import VendorChannel
from notifier.content.mrkdwn import shorten_plain
from notifier.contract import Channel, Message
from syncer.model.incident import OWN

KIND: Final = "pagerduty"
ENDPOINT: Final = "https://events.pagerduty.com/v2/enqueue"
EVENT_BYTES: Final = 512 * 1024
SUMMARY_CHARS: Final = 1024
DEDUP_CHARS: Final = 255

#: Service name of a link whose target is shown as an image.
IMAGE: Final = "image"
#: Sources of an alert's members: the first attribute that is present and not empty.
_MEMBERS: Final = {
    "source": ("instance", "cluster", "source", "namespace"),
    "component": ("component", "job", "app", "objectName", "label_namespace", "namespace"),
    "group": ("group", "cluster", "label_namespace", "objectNamespace"),
    "class": ("class", "alertname", "eventReason", "trigger"),
}
_SEVERITY: Final = {"Critical": "critical", "High": "error", "Medium": "warning", "Low": "info"}


def pagerduty_channel(
    http_client: HttpClient,
    routing_key: Provider,
    *,
    url: str = ENDPOINT,
    dedup_namespace: bool = False,
    groups: bool = False,
    timeout_s: float,
) -> Channel:
    """
    Return the channel of one integration.

    Args:
        http_client: Sends the requests.
        routing_key: Provider of the integration key.
        url: Address of the API; PagerDuty's own unless a receiver names another.
        dedup_namespace: Put the namespace before the deduplication key.
        groups: Use Alertmanager's own key for a notification about a group of its alerts.
        timeout_s: Deadline of one request in seconds.
    """
    body = partial(pagerduty_body, dedup_namespace=dedup_namespace, groups=groups)
    return VendorChannel(
        http_client, KIND, routing_key, "pagerduty routing key", body, url=url, timeout_s=timeout_s
    )


def pagerduty_payload(
    message: Message, routing_key: str, *, dedup_namespace: bool = False, groups: bool = False
) -> dict[str, Any]:
    """The event before it is cut to size."""
    spec = message.spec
    details = {
        "notification_type": spec.type,
        "correlation_id": message.name,
        "rca_summary": message.fact("analysis", "rootCause"),
        "confidence": message.fact("workflow", "confidence"),
        "affected_resource": message.fact("target", "targetResource"),
        "kubectl_command": message.chat_command(),
    }
    payload: dict[str, Any] = {
        "summary": shorten_plain(spec.subject, SUMMARY_CHARS),
        "severity": _SEVERITY.get(spec.priority, "warning"),
        "source": "kubernaut",
        **({"component": message.namespace} if message.namespace else {}),
        "custom_details": {k: v for k, v in details.items() if v},
    }
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": (groups and message.group)
        or _dedup_key(message, with_namespace=dedup_namespace),
        "payload": payload,
    }
    if message.incident:
        _tell_incident(event, message)
    if message.words:
        given = dict(message.words.payload or {})
        payload["custom_details"] |= given.pop("details", {})
        if message.words.body:
            payload["custom_details"]["body"] = spec.body
        event["payload"] |= {k: v for k, v in given.items() if v}
    return event


def _tell_incident(event: dict[str, Any], message: Message) -> None:
    """Add the members that the replaced controller's event does not have."""
    spec, payload = message.spec, event["payload"]
    labels = {k: v for k, v in spec.extensions.items() if v and not k.startswith(OWN)}
    own = {"cluster": spec.cluster_id, "namespace": message.namespace, **labels}
    for member, names in _MEMBERS.items():
        payload[member] = next((own[name] for name in names if own.get(name)), "")
    event["payload"] = {k: v for k, v in payload.items() if v or k == "summary"}
    payload["custom_details"] |= {"body": spec.body, "severity": spec.severity, "labels": labels}
    if message.resolved:
        event["event_action"] = "resolve"
        return
    event["client"] = "notification-ledger"
    links = message.links
    if links:
        event["client_url"] = links[0][1]
    for service, url, text in links:
        if service == IMAGE and url.startswith("https://"):
            event.setdefault("images", []).append({"src": url, "alt": text})
        else:
            event.setdefault("links", []).append({"href": url, "text": text})


def _dedup_key(message: Message, *, with_namespace: bool) -> str:
    named = f"{message.namespace}/{message.name}" if with_namespace else message.name
    dedup = message.incident or named
    if len(dedup) <= DEDUP_CHARS:
        return dedup
    # Keep the beginning and add a digest: names often differ only at the end.
    digest = hashlib.sha256(dedup.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{dedup[: DEDUP_CHARS - 17]}~{digest}"


def pagerduty_body(
    message: Message,
    routing_key: str,
    *,
    dedup_namespace: bool = False,
    groups: bool = False,
    limit: int = EVENT_BYTES,
) -> bytes:
    """
    The event as bytes, at most `limit` of them.

    Raises:
        ValueError: the parts that cannot be cut are larger than that.
    """
    event = pagerduty_payload(message, routing_key, dedup_namespace=dedup_namespace, groups=groups)
    details = event["payload"]["custom_details"]
    texts = [(details, name) for name, text in details.items() if isinstance(text, str)]
    return cut_to_size(
        event, limit, texts, order=lambda _, name: (name != "rca_summary", -len(details[name]))
    )
