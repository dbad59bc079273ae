"""
Grafana's webhook contact point: Alertmanager's groups, with an organisation and more links.

It sends each flush once and waits 30 seconds for the answer; any failure is final. Hence the patience.
"""

from __future__ import annotations

from typing import Final

from notifier.gateway.alertgroups import group_kind
from notifier.gateway.draft import Kind

KIND: Final[Kind] = group_kind(
    "grafana",
    "gf",
    "1",
    "Grafana's format",
    patience=25.0,
    key=lambda group: (group.number("orgId"),),
)
