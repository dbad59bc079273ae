"""
Flux's notification-controller, provider types `generic` and `generic-hmac`.

Its events have no id. The identity consists of the object, what happened to it, and when: without message
and time, "failed, recovered, failed" on one revision would be one event. Two Alerts on one Provider send
the same event with different metadata, and get the same object.

The incident is the object alone, because it recovers with another reason than it failed with.

Flux retries for as long as the Provider's `timeout`, 15 s by default, and obeys `Retry-After`; if that is
longer than the timeout, the event is lost.
"""

from __future__ import annotations

from typing import Final

from notifier.gateway.draft import Draft, Incoming, Kind, Options, Reader, json_object
from syncer.model.incident import FIRING, RESOLVED
from syncer.model.times import format_time

#: Reasons that mean that an object is in the desired state. A successful rollback is left out, because the
#: release has not succeeded; so are reasons for work in progress (`Progressing`, `DependencyNotReady`).
_WELL: Final = frozenset({
    "ReconciliationSucceeded", "Succeeded", "InstallSucceeded", "UpgradeSucceeded", "TestSucceeded",
    "NewArtifact", "ArtifactUpToDate",
})  # fmt: skip


def read(incoming: Incoming, _options: Options) -> tuple[Draft, ...]:
    """Make a draft of an event; Refused if a member has another form."""
    event = Reader(json_object(incoming.body))
    about = event.object("involvedObject", required=True)
    kind, name = about.text("kind", None), about.text("name", None)
    namespace = about.text("namespace")
    severity = event.choice("severity", ("info", "error", "trace"))
    reason, message = event.text("reason", None), event.text("message")
    # Flux's documentation shows keys with a prefix, but the program sends them without.
    metadata = {k.rpartition("/")[2]: v for k, v in event.texts("metadata").items()}
    revision = metadata.get("originRevision") or metadata.get("revision", "")
    when = event.time("timestamp")
    failed = severity == "error"
    state = FIRING if failed else RESOLVED if severity == "info" and reason in _WELL else ""
    lines = [message, *(f"{key}: {value}" for key, value in sorted(metadata.items()))]
    return (
        Draft(
            identity=(
                about.text("apiVersion"), kind, namespace, name, reason, severity, message, revision,
                format_time(when),
            ),
            view=event.members,
            event=f"flux:{kind}/{namespace}/{name}:{reason}",
            type="Escalation" if failed else "StatusUpdate",
            priority="High" if failed else "Low",
            subject=f"[{severity.upper()}] {kind} {namespace}/{name}: {reason}",
            body="\n".join(line for line in lines if line) or reason,
            severity=severity,
            extensions={
                "objectKind": kind, "objectNamespace": namespace, "objectName": name,
                "eventReason": reason, "controller": event.text("reportingController"),
                **metadata,
            },
            since=when,
            incident=(about.text("apiVersion").partition("/")[0], kind, namespace, name) if state else None,
            state=state,
        ),
    )  # fmt: skip


KIND: Final = Kind(name="flux", prefix="fx", read=read, patience=6.0, retry_after=3, too_many=429)
