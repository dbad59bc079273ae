"""
What programs send, in the form that each documents.

They are written from the programs' formats, to be changed by tests; `recorded` has what programs sent.
"""

from __future__ import annotations

from typing import Any, Final

from syncer.model.resource import Json

ZERO: Final = "0001-01-01T00:00:00Z"


def alert(fingerprint: str = "aaaa", status: str = "firing", **more: Any) -> Json:
    """One alert of Alertmanager's."""
    return {
        "status": status,
        "labels": {"alertname": "Disk", "instance": fingerprint, "severity": "critical"},
        "annotations": {"summary": "disk is full"},
        "startsAt": "2026-11-27T04:00:00.123456789Z",
        "endsAt": ZERO,
        "generatorURL": "http://prometheus/graph?g0",
        "fingerprint": fingerprint,
        **more,
    }


def alertmanager(*alerts: Json, **more: Any) -> Json:
    """Alertmanager's webhook, version 4."""
    return {
        "version": "4",
        "receiver": "gw",
        "status": "firing",
        "alerts": list(alerts or (alert(),)),
        "groupKey": '{}:{alertname="Disk"}',
        "truncatedAlerts": 0,
        "groupLabels": {"alertname": "Disk"},
        "commonLabels": {"alertname": "Disk", "severity": "critical", "namespace": "shop"},
        "commonAnnotations": {"summary": "disk is full"},
        "externalURL": "http://alertmanager-0:9093",
        **more,
    }


def grafana(**more: Any) -> Json:
    """Grafana's webhook contact point; a start with a zone, as it sends them."""
    one = alert(
        startsAt="2026-11-27T05:00:00.123456789+01:00", dashboardURL="https://g/d/1", orgId=2
    )
    return alertmanager(one, version="1", orgId=2, title="[FIRING:1] Disk", state="alerting") | more


FLUX: Final[Json] = {
    "involvedObject": {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "namespace": "apps",
        "name": "podinfo", "uid": "u", "resourceVersion": "7",
    },
    "severity": "error",
    "timestamp": "2026-11-27T04:00:00Z",
    "message": "health check failed",
    "reason": "HealthCheckFailed",
    "metadata": {"revision": "main@sha1:0123", "cluster": "prod"},
    "reportingController": "kustomize-controller",
    "reportingInstance": "kustomize-controller-0",
}  # fmt: skip

ARGOCD: Final[Json] = {
    "specversion": "1.0",
    "id": "uid-1/on-sync-failed/2026-11-27T04:00:00Z",
    "source": "/argocd/argocd/guestbook",
    "type": "on-sync-failed",
    "data": {
        "app": "guestbook", "phase": "Failed", "health": "Degraded", "sync": "OutOfSync",
        "message": "one or more objects failed to apply", "revision": "0123", "project": "default",
        "url": "https://argocd/applications/guestbook",
    },
}  # fmt: skip

CLOUDEVENT: Final[Json] = {
    "specversion": "1.0", "id": "a1", "source": "/falco", "type": "io.example.alarm",
    "subject": "door", "team": "security", "data": {"open": True},
}  # fmt: skip

NOTIFICATION: Final[Json] = {
    "key": "backup/1", "subject": "Backup failed", "body": "The disk is full.", "type": "Escalation",
    "priority": "High", "severity": "error", "extensions": {"team": "storage"},
    "links": [{"service": "ci", "url": "https://ci/1", "label": "Run"}],
    "incident": "backup", "state": "firing",
}  # fmt: skip

GITHUB: Final[Json] = {
    "action": "completed",
    "workflow_run": {
        "name": "CI", "conclusion": "failure", "html_url": "https://github.com/o/r/actions/runs/1",
    },
    "repository": {"full_name": "o/r"},
    "sender": {"login": "octocat"},
}  # fmt: skip
