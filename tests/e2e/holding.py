"""A condition that an object shows."""

from __future__ import annotations

from typing import Any

from tests.e2e.harness import Stage


def condition(here: Stage, uid: str) -> dict[str, Any]:
    """The condition LogUnavailable of an object, empty if it has none."""
    version = here.watcher.last(uid)
    found = version.status.get("conditions", []) if version else []
    return next((c for c in found if c["type"] == "LogUnavailable"), {})
