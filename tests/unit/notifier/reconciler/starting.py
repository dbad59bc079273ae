"""The document of a notification."""

from __future__ import annotations

from typing import Any

from syncer.model.carried import fold


def document(name: str, version: int, *, due: str = "", phase: str = "Retrying") -> dict[str, Any]:
    """An object as listed, whose channel is to be tried again at a time."""
    channel = {"name": "c", "state": "retrying"} | ({"nextRetryTime": due} if due else {})
    return {
        "metadata": {
            "uid": f"uid-{name}", "namespace": "n", "name": name, "resourceVersion": str(version),
        },
        "spec": {"type": "Simple"},
        "status": fold({"phase": phase, "channels": [channel]}),
    }  # fmt: skip
