"""
Argo CD's notifications, webhook service.

The body comes from a template of the user. This module reads the body that the template in docs/gateway.md
yields: a CloudEvent whose id consists of the application, the trigger and the start of the operation, so
that Argo CD's duplicates (it sends before it saves) are one event. Argo CD's default method is GET, without
a content type.

Argo CD has one worker, so a slow answer stops all its notifications. It tries three times, within seven
seconds or three times `Retry-After`.
"""

from __future__ import annotations

from typing import Final

from notifier.gateway.draft import Draft, Incoming, Kind, Options, Reader, json_object
from syncer.model.incident import FIRING, RESOLVED

#: The incident that each trigger of the catalog is about (sync or health), and the incident's state.
_INCIDENTS: Final = {
    "on-sync-failed": ("sync", FIRING),
    "on-sync-status-unknown": ("sync", FIRING),
    "on-sync-succeeded": ("sync", RESOLVED),
    "on-health-degraded": ("health", FIRING),
    "on-deployed": ("health", RESOLVED),
}
#: Parts of the names of triggers, phases and health states that mean trouble.
_BAD: Final = ("fail", "degrad", "error", "unknown", "missing")
_SHOWN: Final = ("phase", "health", "sync", "message", "revision", "project", "repoURL")


def read(incoming: Incoming, _options: Options) -> tuple[Draft, ...]:
    """Make a draft of an event; Refused if a member has another form."""
    event = Reader(json_object(incoming.body))
    identity = event.text("id", None)
    source, trigger = event.text("source", None), event.text("type", None)
    data = event.object("data")
    shown = {key: text for key in _SHOWN if (text := data.text(key))}
    app = data.text("app") or source.rpartition("/")[2]
    words = f"{trigger} {shown.get('phase', '')} {shown.get('health', '')}".lower()
    about, state = _INCIDENTS.get(trigger, ("", ""))
    bad = any(word in words for word in _BAD)
    return (
        Draft(
            identity=(source, identity),
            view=event.members,
            event=f"argocd:{source}#{identity}",
            type="Escalation" if bad else "StatusUpdate",
            priority="High" if bad else "Low",
            subject=f"Application {app}: {trigger}",
            body="\n".join(f"{key}: {text}" for key, text in shown.items()) or trigger,
            severity="error" if bad else "info",
            extensions={"app": app, "trigger": trigger, **shown},
            links=(("argocd", data.text("url"), "Application"),),
            incident=(source, about) if about else None,
            state=state,
        ),
    )


KIND: Final = Kind(
    name="argocd", prefix="ac", read=read, patience=10.0, retry_after=15, too_many=429
)
