"""A lease term that is held, and the document of a notification."""

from __future__ import annotations

from typing import Any

from syncer.model.attempt import Epoch
from syncer.model.carried import fold


class Held:
    """A lease term that never ends."""

    epoch = Epoch("0.9")
    since: int = 0

    def valid(self, now: float) -> bool:
        """Yes."""
        return True

    def may_send(self, now: float, send_timeout: float) -> bool:
        """Yes."""
        return True


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
