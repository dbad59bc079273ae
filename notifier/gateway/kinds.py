"""The kinds of sources by name."""

from __future__ import annotations

from typing import Final

from notifier.gateway.draft import Kind
from notifier.gateway.sources import (
    alertmanager,
    argocd,
    cloudevents,
    flux,
    github,
    grafana,
    heartbeat,
    notification,
    plain,
)

_SOURCES: Final = (
    alertmanager, argocd, cloudevents, flux, github, grafana, heartbeat, notification, plain,
)  # fmt: skip
KINDS: Final[dict[str, Kind]] = {source.KIND.name: source.KIND for source in _SOURCES}
