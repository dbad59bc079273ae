"""
Alertmanager's webhook, version 4.

It retries on 5xx only, and not for ever: an alert that fires and resolves while requests are refused is
never sent. It waits for an answer until the flush ends, at least ten seconds.
"""

from __future__ import annotations

from typing import Final

from notifier.gateway.alertgroups import drafts_of
from notifier.gateway.draft import Draft, Incoming, Kind, Options, Reader, Refused, json_object

_VERSION: Final = "4"


def read(incoming: Incoming, options: Options) -> tuple[Draft, ...]:
    """Make drafts of a webhook of version 4; Refused if it is none, or a member has another form."""
    group = Reader(json_object(incoming.body))
    if group.text("version", None) != _VERSION:
        raise Refused("must be 4, Alertmanager's format since 0.4", path="version")
    return drafts_of(group, options, program="alertmanager", key=())


KIND: Final = Kind(
    name="alertmanager", prefix="am", read=read, patience=10.0, max_body=8 << 20, window=1800.0
)
