"""What an object shows."""

from __future__ import annotations

from typing import Any


def shown(**members: Any) -> dict[str, Any]:
    """A status with one failed attempt, as edited by hand."""
    notification = {
        "channel": "console", "attempt": 1, "status": "failed", "id": "0.3-1",
        "timestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return {"phase": "Retrying", "deliveryAttempts": [notification | members], "totalAttempts": 1}
