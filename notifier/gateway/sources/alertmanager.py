"""
Alertmanager's webhook, version 4.

It retries on 5xx only, and not for ever: an alert that fires and resolves while requests are refused is
never sent. It waits for an answer until the flush ends, at least ten seconds.
"""

from __future__ import annotations

from typing import Final

from notifier.gateway.alertgroups import group_kind
from notifier.gateway.draft import Kind

KIND: Final[Kind] = group_kind(
    "alertmanager", "am", "4", "Alertmanager's format since 0.4", patience=10.0
)
