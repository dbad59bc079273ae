"""How long a finished log is kept."""

from __future__ import annotations

from typing import Final

#: Seconds that a finished log is kept at least, counted from its last append.
MIN_RETENTION_SECONDS: Final = 24 * 3600


def retention_seconds(days: int) -> int:
    """Seconds that a finished log is kept after its last append, by the `retentionDays` of its object."""
    return max(days * 86_400, MIN_RETENTION_SECONDS)
