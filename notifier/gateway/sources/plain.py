"""
Plain JSON: for any program that can POST an object. Everything comes from the mapping.

The mapping's `id` distinguishes events. Without it, the header `webhook-id` (Standard Webhooks) does,
which stays the same in retries. Without that header, or where only the body is signed, equal bytes
within ten minutes are one event.
"""

from __future__ import annotations

from typing import Final

from notifier.gateway.draft import Draft, Incoming, Kind, Options, json_object


def read(incoming: Incoming, options: Options) -> tuple[Draft, ...]:
    """Make a draft of a JSON object; Refused if it is not one."""
    event = "" if options.body_alone else incoming.header("webhook-id")
    return (
        Draft(
            identity=("webhook-id", event) if event else None,
            view=json_object(incoming.body),
            event=f"webhook:{event}" if event else "",
        ),
    )


KIND: Final = Kind(name="json", prefix="js", read=read, patience=20.0)
