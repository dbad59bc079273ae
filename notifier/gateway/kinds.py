"""The kinds of sources by name."""

from __future__ import annotations

from typing import Final

from notifier.gateway.alertgroups import ALERTMANAGER, GRAFANA
from notifier.gateway.draft import Kind
from notifier.gateway.sources import (
    argocd,
    cloudevents,
    flux,
    github,
    heartbeat,
    notification,
    plain,
)

KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        ALERTMANAGER, GRAFANA, argocd.KIND, cloudevents.KIND, flux.KIND, github.KIND, heartbeat.KIND,
        notification.KIND, plain.KIND,
    )
}  # fmt: skip
