"""A migration from the replaced controller."""

from __future__ import annotations

import time
from collections.abc import Callable

from syncer.model.resource import Json
from syncer.model.times import format_time
from tests.e2e.harness import (
    Stage,
)
from tests.integration.api import Reply
from tests.servers.definition import put_back


async def write_as_before(here: Stage, name: str, change: Callable[[Json], None]) -> Reply:
    """Read, keep what that client knows, change it, put it back."""
    read = await here.api.ask("GET", f"{here.api.requests}/{name}")
    status = {"deliveryAttempts": [], **put_back(read.body.get("status") or {})}
    change(status)
    return await here.api.ask(
        "PUT", f"{here.api.requests}/{name}/status", {**read.body, "status": status}
    )


def attempted(status: str, *, minutes: int = 10, phase: str = "Sending") -> Callable[[Json], None]:
    """One more attempt, made some minutes ago, and the counters that follow."""

    def change(written: Json) -> None:
        entries = written["deliveryAttempts"]
        moment = format_time(int(time.time() * 1000) - minutes * 60_000, millis=False)
        entries.append(
            {
                "channel": "slack:ops", "attempt": len(entries) + 1, "timestamp": moment,
                "status": status, "durationSeconds": 0.1,
                **({} if status == "success" else {"error": "slack webhook returned 503"}),
            }
        )  # fmt: skip
        sent = sum(a["status"] == "success" for a in entries)
        written |= {"phase": phase, "totalAttempts": len(entries)}
        written["successfulDeliveries" if sent else "failedDeliveries"] = 1

    return change
