"""
GitHub's webhooks.

The delivery's GUID is the identity: it stays the same when somebody has GitHub deliver again. But it is
in a header, and GitHub signs only the body. If that signature is the proof of a request, the body is the
identity, so that a replay by somebody who has recorded a request creates nothing new. GitHub waits
ten seconds and never retries by itself. A ping creates no notification.
"""

from __future__ import annotations

import hashlib
from typing import Final

from notifier.gateway.draft import Draft, Incoming, Kind, Options, Reader, Refused, json_object

#: Members that an event may be about, the most specific first, with the member that has the title of each.
_ABOUT: Final = (
    ("workflow_run", "name"), ("check_run", "name"), ("check_suite", "head_branch"),
    ("deployment_status", "state"), ("release", "name"), ("pull_request", "title"),
    ("issue", "title"), ("discussion", "title"), ("alert", "html_url"),
)  # fmt: skip


def read(incoming: Incoming, options: Options) -> tuple[Draft, ...]:
    """Make a draft of a delivery, none of a ping; Refused if it is not JSON, or a header is missing."""
    if incoming.header("content-type").startswith("application/x-www-form-urlencoded"):
        raise Refused("set the webhook's content type to application/json", status=415)
    event = incoming.header("x-github-event")
    if not event:
        raise Refused("is required, as a header", path="x-github-event", status=400)
    if event == "ping":
        return ()
    payload = Reader(json_object(incoming.body))
    action = payload.text("action")
    repository = payload.object("repository").text("full_name")
    sender = payload.object("sender").text("login")
    title, url, conclusion = "", payload.text("compare"), ""
    for key, name in _ABOUT:
        if isinstance(payload.members.get(key), dict):
            about = payload.object(key)
            title, url = about.text(name), about.text("html_url")
            conclusion = about.text("conclusion") or about.text("state")
            break
    what = " ".join(part for part in (event, action) if part)
    failed = conclusion in {"failure", "timed_out", "error", "action_required"}
    delivery = incoming.header("x-github-delivery")
    lines = [title, f"by {sender}" if sender else "", conclusion, url]
    return (
        Draft(
            identity=_identity(incoming, options, delivery),
            view={**payload.members, "event": event},
            event=f"github:{delivery}",
            type="Escalation" if failed else "StatusUpdate",
            priority="High" if failed else "Low",
            subject=f"{repository or 'GitHub'}: {what}" + (f": {title}" if title else ""),
            body="\n".join(line for line in lines if line) or what,
            severity="error" if failed else "info",
            extensions={
                key: value
                for key, value in {
                    "event": event, "action": action, "repository": repository, "sender": sender,
                    "conclusion": conclusion,
                }.items()
                if value
            },
            links=(("github", url, title or what),),
        ),
    )  # fmt: skip


def _identity(incoming: Incoming, options: Options, delivery: str) -> tuple[object, ...] | None:
    if options.body_alone:
        return ("body", hashlib.sha256(incoming.body).hexdigest())
    return ("delivery", delivery) if delivery else None


KIND: Final = Kind(name="github", prefix="gh", read=read, patience=8.0)
