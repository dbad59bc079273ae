"""Messages for the channel tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from notifier.content.message import compose
from notifier.contract import Message
from notifier.routing.models import EmailConfig

UID = "0a1b2c3d-0000-4000-8000-000000000001"


def document(**spec: Any) -> dict[str, Any]:
    """A small object; keyword arguments go into its spec, `name` and `namespace` excepted."""
    metadata = {
        "name": spec.pop("name", "disk-full"),
        "namespace": spec.pop("namespace", "ops"),
        "uid": UID,
        "resourceVersion": "7",
        **spec.pop("metadata", {}),
    }
    status = spec.pop("status", {})
    return {
        "apiVersion": "kubernaut.ai/v1alpha1",
        "kind": "NotificationRequest",
        "metadata": metadata,
        "spec": {
            "type": "Escalation",
            "priority": "Critical",
            "subject": "Disk full",
            "body": "a **loud** word",
            **spec,
        },
        "status": status,
    }


def untrimmed(**spec: Any) -> Message:
    """A message whose spec has these members in full, larger than any that is composed."""
    made = message()
    return replace(made, spec=replace(made.spec, **spec))


def message(channel: str = "slack:ops", attempt: str = "0.5-1", **spec: Any) -> Message:
    """A message of such an object."""
    return compose(document(**spec), channel, attempt)


def mail_entry(sender: str, to: str, name: str = "", **server: Any) -> EmailConfig:
    """An entry of mail as it is once it has been read; `server` is `host`, `port` and the like."""
    return EmailConfig(sender=sender, to=to, sender_name=name, **server)
