"""
Signs of life: a request says that its sender is alive, and creates no notification.

For senders whose silence is the alarm: Alertmanager's Watchdog, the last step of a backup.
`expectEvery` reports that silence.
"""

from __future__ import annotations

from typing import Final

from notifier.gateway.draft import Draft, Incoming, Kind, Options


def read(_incoming: Incoming, _options: Options) -> tuple[Draft, ...]:
    """Return no draft: the request itself is the sign of life."""
    return ()


KIND: Final = Kind(name="heartbeat", prefix="hb", read=read, patience=3.0)
