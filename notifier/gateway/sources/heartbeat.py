"""
Signs of life: a request says that its sender lives, and becomes no notification.

For what sends in order to be missed when it does not: Alertmanager's Watchdog, the last line of a backup.
`expectEvery` reports its silence.
"""

from __future__ import annotations

from typing import Final

from notifier.gateway.draft import Draft, Incoming, Kind, Options


def read(incoming: Incoming, options: Options) -> tuple[Draft, ...]:
    """Make nothing of any request."""
    del incoming, options  # what it says is that it was sent
    return ()


KIND: Final = Kind(name="heartbeat", prefix="hb", read=read, patience=3.0)
