"""
Grafana's webhook contact point: Alertmanager's groups, with an organisation and more links.

It sends each flush once and waits 30 seconds for the answer; any failure is final. Hence the patience.
"""

from __future__ import annotations

from typing import Final

from notifier.gateway.alertgroups import drafts_of
from notifier.gateway.draft import Draft, Incoming, Kind, Options, Reader, Refused, json_object

_VERSION: Final = "1"


def read(incoming: Incoming, options: Options) -> tuple[Draft, ...]:
    """Make drafts of a webhook of version 1; Refused if it is none, or a member has another form."""
    group = Reader(json_object(incoming.body))
    if group.text("version", None) != _VERSION:
        raise Refused("must be 1, Grafana's format", path="version")
    return drafts_of(group, options, program="grafana", key=(group.number("orgId"),))


KIND: Final = Kind(
    name="grafana", prefix="gf", read=read, patience=25.0, max_body=8 << 20, window=1800.0
)
