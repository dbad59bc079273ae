"""Notifications by what the gateway made them of: an event, in the words of its sender."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from syncer.cli.access import Access
from syncer.cli.exits import Absent
from syncer.cli.output import write_remark
from syncer.cli.scan import Scan, objects
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
    newest, count = None, 0
    async with aclosing(objects(at, Scan(), namespaces, labels=selector)) as pages:
        async for page in pages:
            for found in page:
                if isinstance(found, NotificationRequest) and found.event == event_text(event):
                    count += 1
                    if newest is None or found.created >= newest.created:
                        newest = found
    if newest is None:
        async with aclosing(objects(at, Scan(), namespaces)) as pages:
            async for page in pages:
                for found in page:
                    if isinstance(found, NotificationRequest) and event in (found.event or ""):
                        count += 1
                        if newest is None or found.created >= newest.created:
                            newest = found
    if newest is None:
        among = f" in {', '.join(namespaces)}" if namespaces else ""
        raise Absent(f"there is no notification of the event {plain(event)!r}{among}")
    if count > 1:
        write_remark(f"the newest of {count} of this event; `list --event` shows all")
    return newest.key
