"""Examples of templates on the pages."""

from __future__ import annotations

import re
from typing import Final

from syncer.model.resource import Json
from tests.docs.pages import DOCS
from tests.unit.notifier.gateway.desired import desired
from tests.unit.notifier.gateway.payloads import alert, alertmanager

PAGE: Final = (DOCS / "templates.md").read_text()


EXAMPLES: Final = re.findall(
    r"^### (.*?)\n\n```gotemplate\n.*?^```\n\n```yaml\n(.*?)^```\n\n```result\n(.*?)^```",
    PAGE,
    re.MULTILINE | re.DOTALL,
)


def one(instance: str, status: str = "firing", **annotations: str) -> Json:
    """An alert of the page's group."""
    labels = {"alertname": "Disk", "instance": instance, "severity": "critical"}
    return alert(instance, status, labels=labels, annotations=annotations)


def notification() -> Json:
    """What the gateway makes of the page's group."""
    payload = alertmanager(
        one(
            "db-1",
            summary="disk is 97 % full & growing",
            runbook_url="https://runbooks.example.org/disk",
        ),
        one("db-2"),
        one("db-3", "resolved"),
        groupLabels={"alertname": "Disk", "cluster": "west"},
        commonLabels={"alertname": "Disk", "severity": "critical", "team": "storage"},
        commonAnnotations={
            "summary": "disk is 97 % full & growing",
            "description": "Less than <3 %> is free.",
        },
    )
    return desired(payload).manifest
