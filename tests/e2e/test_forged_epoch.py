"""
A status that names an epoch which nobody has issued, on real parts.

Whoever may write the status of one object can put any attempt id there. That stops this object, since
its status is not to be believed; it is no evidence against the cluster, and stops nothing else.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from syncer.model.carried import fold
from tests.e2e.harness import BUSY, LEASE_SECONDS, QUICK, Stage, until

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

FORGED: Final[dict[str, Any]] = {
    "id": "7.1-1", "channel": "slack:ops", "attempt": 1, "status": "failed", "error": "forged",
    "timestamp": "2026-01-01T00:00:00Z",
}  # fmt: skip


async def test_a_forged_attempt_stops_its_own_object_alone(here: Stage) -> None:
    """After a restart the replica is ready, sends all others, and says which one it does not believe."""
    process = here.notifier()
    here.script("forged", BUSY)
    here.script("waits", BUSY)
    uids = {}
    for name in ("forged", "also-forged"):
        uids[name] = await here.create(name, retryPolicy=QUICK)
        status = fold({"phase": "Retrying", "deliveryAttempts": [FORGED], "totalAttempts": 1})
        answer = await here.api.ask(
            "PATCH", f"{here.api.requests}/{name}/status", {"status": status}
        )
        assert answer.code == 200, answer.body
    await process.start().wait_ready()
    other = await here.create("other")
    await here.wait_phase(other)

    async def held() -> bool:
        name = "notification_ledger_held_notifications"
        return await process.metric(name, reason="epoch-ahead") == len(uids)

    await until(held, process.tail, within=20)
    # As long as a fence must last before it is held against the cluster, and some more.
    seen = process.lines("the status names an epoch that the log does not know;"
                         " nothing is sent for this notification")  # fmt: skip
    assert {line["uid"] for line in seen} == set(uids.values())
    later = await here.create("waits", retryPolicy={**QUICK, "maxAttempts": 9})
    await until(
        lambda: len(here.receiver.calls("waits")) > LEASE_SECONDS + 2, process.tail, within=60
    )
    code, text = await process.ask("/readyz")
    assert (code, "incarnation" in text) == (200, False), text
    assert not here.receiver.calls("forged")
    assert not here.receiver.calls("also-forged")
    assert later not in here.watcher.deleted
