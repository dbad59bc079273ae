"""Notifications by what the gateway made them of: an event, in the words of its sender."""

from __future__ import annotations

from collections.abc import Sequence

from syncer.cli.access import Access
from syncer.cli.exits import Absent
from syncer.cli.output import write_remark
from syncer.cli.scan import walk
from syncer.model.event import EVENT, event_label, event_text
from syncer.model.resource import NotificationRequest
from syncer.rules.text import plain


async def find_event(at: Access, event: str, namespaces: Sequence[str]) -> str:
    """
    Return `namespace/name` of the newest notification of an event, or of one that has this part.

    Args:
        at: Open connections.
        event: In the words of its sender.
        namespaces: Only these; empty for all.

    Raises:
        Absent: there is none.
        PortError: the API server does not answer, or refuses.
    """
    selector = f"{EVENT}={event_label(event)}"
    selector, found = f"{EVENT}={event_label(event)}", list[NotificationRequest]()
    async for one in walk(at, namespaces, labels=selector):
        if isinstance(one, NotificationRequest) and one.event == event_text(event):
            found.append(one)
    if not found:
        async for one in walk(at, namespaces):
            if isinstance(one, NotificationRequest) and event in (one.event or ""):
                found.append(one)
    if not found:
        among = f" in {', '.join(namespaces)}" if namespaces else ""
        raise Absent(f"there is no notification of the event {plain(event)!r}{among}")
    if len(found) > 1:
        write_remark(f"the newest of {len(found)} of this event; `list --event` shows all")
    return max(found, key=lambda one: one.created).key
