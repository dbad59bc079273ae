"""An entry of the index."""

from __future__ import annotations

from typing import Any

from syncer.model.carried import fold
from syncer.model.resource import NotificationRequest, parse_object
from syncer.model.times import format_time
from tests.unit.syncer.cli.samples import NOW


def made(  # noqa: PLR0913 - what a test varies
    name: str, *, age: int = 0, namespace: str = "ns", phase: str = "Sent", error: str = "",
    hold: str | None = None, unknown: bool = False, version: int = 1, channel: str = "slack:ops",
    event: str = "",
) -> NotificationRequest:  # fmt: skip
    """A notification, so many seconds old."""
    created = NOW - age * 1000
    attempt: dict[str, Any] = {
        "id": f"0.7-{version}", "channel": channel, "attempt": 1,
        "status": "unknown" if unknown else "failed" if error else "success",
        "timestamp": format_time(created),
    }  # fmt: skip
    if error:
        attempt["error"] = error
    return parse_object({
        "metadata": {
            "uid": f"{namespace}/{name}", "namespace": namespace, "name": name,
            "resourceVersion": str(version), "creationTimestamp": format_time(created),
            "annotations": {
                **({} if hold is None else {"notification-ledger/hold": hold}),
                **({"notification-ledger/event": event} if event else {}),
            },
        },
        "spec": {"type": "Simple"},
        "status": fold({
            "phase": phase, "deliveryAttempts": [attempt], "totalAttempts": 1,
            "channels": [{"name": channel, "state": "Failed" if phase == "Failed" else "Delivered"}],
        }),
    })  # fmt: skip
