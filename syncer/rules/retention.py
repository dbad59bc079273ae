"""How long a finished log is kept."""

from __future__ import annotations

from typing import Final

#: Shortest time in seconds for which a finished log is kept, counted from its last append.
MIN_RETENTION_SECONDS: Final = 24 * 3600


def retention_seconds(days: int) -> int:
    """Seconds for which a finished log is kept after its last append, from its object's `retentionDays`."""
    return max(days * 86_400, MIN_RETENTION_SECONDS)
