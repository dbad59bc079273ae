"""
What real programs sent, byte by byte, becomes what was agreed on.

Each file of `recorded` says which code of which version sent it. A few lines of Go around that code, or
Alertmanager itself, sent an invented event to a server that wrote down what came. Left out are headers of
the connection and credentials. The key of Flux's signature is below.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from notifier.gateway.auth import Signature, check_signature
from notifier.gateway.draft import Draft, Incoming, Options, Refused
from notifier.gateway.kinds import KINDS

RECORDED: Final = Path(__file__).with_name("recorded")


def request(name: str) -> Incoming:
    """Return a recorded request as the server has it."""
    found = json.loads((RECORDED / f"{name}.json").read_text())
    assert found["method"] == "POST"
    headers = {key.lower(): value for key, value in found["headers"].items()}
    return Incoming(headers, found["body"].encode())


def draft(name: str) -> Draft:
    """Return the one notification that it becomes."""
    (made,) = KINDS[name.partition("-")[0]].read(request(name), Options())
    return made


_ALERTS: Final = (
    "{0}: alertname=Disk, instance=node-1, severity=critical\n  summary: disk is full\n\n"
    "{0}: alertname=Disk, instance=node-2, severity=critical\n  summary: disk is full"
)
#: What each becomes: type, priority, severity, subject, body, event.
GOLDEN: Final[dict[str, tuple[Any, ...]]] = {
    f"alertmanager-{version}-{state}": (
        *what, _ALERTS.format(f"{state} since 2026-11-27 04:00:00 UTC"),
        'alertmanager:{}:{alertname="Disk"}',
    )
    for version in ("0.25",)
    for state, what in (
        ("firing", ("Escalation", "Critical", "critical", "[FIRING:2] Disk: disk is full")),
        ("resolved", ("Completion", "Critical", "critical", "[RESOLVED:2] Disk: disk is full")),
    )
} | {
    "argocd": (
        "Escalation", "High", "error", "Application guestbook: on-sync-failed",
        ("phase: Failed\nhealth: Degraded\nmessage: one or more objects failed to apply, reason:"
        ' Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1'),
        ("argocd:/argocd/argocd/guestbook#5d1e7a52-6f0c-4c38-9f6b-3e4b7c0a9d11/on-sync-failed/"
        "2026-11-27T04:00:00Z"),
    ),
    "flux": (
        "Escalation", "High", "error", "[ERROR] Kustomization apps/podinfo: HealthCheckFailed",
        ("health check failed after 30s: timeout waiting for: [Deployment/apps/podinfo status:"
        " 'InProgress']\nrevision: main@sha1:53e28ff20cc530b9ada2173fbbd64d48338583ba\n"
        "summary: production"),
        "flux:Kustomization/apps/podinfo:HealthCheckFailed",
    ),
}  # fmt: skip


def test_nothing_that_was_recorded_is_left_out() -> None:
    """Each file is agreed on."""
    assert {path.stem for path in RECORDED.glob("*.json")} == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_what_was_recorded_becomes_what_was_agreed_on(name: str) -> None:
    """A recorded request, headers and all."""
    made = draft(name)
    found = (made.type, made.priority, made.severity, made.subject, made.body, made.event)
    assert found == GOLDEN[name]


def test_the_signature_of_flux_is_valid() -> None:
    """As Flux makes it, over the bytes that were sent; and of this key alone."""
    asked = Signature("flux", "", "", 300)
    check_signature(request("flux"), asked, [b"flux-signing-key"], 0)
    with pytest.raises(Refused, match="x-signature matches none"):
        check_signature(request("flux"), asked, [b"another"], 0)


@pytest.mark.parametrize("version", ["0.25"])
def test_a_resolved_group_is_another_event(version: str) -> None:
    """Of the same group, with the same alerts."""
    firing, over = (draft(f"alertmanager-{version}-{state}") for state in ("firing", "resolved"))
    assert firing.event == over.event
    assert firing.identity != over.identity
