"""
Taking over from the replaced controller: its unfinished objects are finished, its finished ones left.

Its attempts carry no id, its numbers may repeat, and its counters may say more than its list: all of
that stays as written, and what comes after is added. Nothing is sent that its record already shows as
delivered or as failed for good.
"""

from __future__ import annotations

import time
from typing import Any, Final

import pytest

from syncer.model.resource import Json
from syncer.model.times import format_time
from tests.e2e.harness import Stage

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(120),
]

MINUTE = 60_000


def entry(number: int, *, ago: int, status: str = "failed", error: str = "") -> Json:
    """One attempt as the replaced controller wrote it, ended so many milliseconds ago."""
    ended = format_time(int(time.time() * 1000) - ago, millis=False)
    out: Json = {
        "channel": "slack:ops", "attempt": number, "timestamp": ended, "status": status,
        "durationSeconds": 0.12,
    }  # fmt: skip
    return out | ({"error": error} if error else {})


async def left_behind(here: Stage, name: str, status: Json, **spec: Any) -> str:
    """Create an object with the status that another controller left."""
    uid = await here.create(name, **spec)
    answer = await here.api.ask("PATCH", f"{here.api.requests}/{name}/status", {"status": status})
    assert answer.code == 200, answer.body
    return uid


BUSY: Final = "slack webhook returned 503 (retryable): busy"
#: The one text that is ever read: upstream's prefix of a final failure.
FINAL: Final = "permanent failure: slack webhook returned 404 (permanent failure): no_service"


async def test_what_another_controller_left_goes_on_and_what_it_ended_stays(here: Stage) -> None:
    """
    Old attempts stay as written and count; their waits and final failures are kept.

    A finished object is neither written nor sent, and gets no log.
    """
    old = [entry(1, ago=10 * MINUTE, error=BUSY), entry(1, ago=10 * MINUTE - 500, error=BUSY)]
    began = old[0]["timestamp"]
    tried = await left_behind(
        here, "tried",
        {
            "phase": "Sending", "reason": "ProcessingDeliveries", "totalAttempts": 2,
            "failedDeliveries": 1, "deliveryAttempts": old,
            "queuedAt": began, "processingStartedAt": began,
        },
    )  # fmt: skip
    failed = await left_behind(
        here, "failed",
        {
            "phase": "Sending", "totalAttempts": 1, "failedDeliveries": 1,
            "deliveryAttempts": [entry(1, ago=MINUTE, error=FINAL)],
        },
    )  # fmt: skip
    done = await left_behind(
        here, "done",
        {
            "phase": "Sent", "reason": "AllDeliveriesSucceeded", "totalAttempts": 1,
            "successfulDeliveries": 1,
            "deliveryAttempts": [entry(1, ago=MINUTE, status="success")],
        },
    )  # fmt: skip
    before = await here.api.ask("GET", f"{here.api.requests}/done")
    ended = time.time()
    waits = await left_behind(
        here, "waits",
        {"phase": "Sending", "totalAttempts": 1, "deliveryAttempts": [entry(1, ago=0)]},
        retryPolicy={"maxAttempts": 5, "initialBackoffSeconds": 8, "backoffMultiplier": 1},
    )  # fmt: skip
    await here.notifier().start().wait_ready()

    status = (await here.wait_phase(tried)).status
    attempts = status["deliveryAttempts"]
    assert [(a["attempt"], a["status"]) for a in attempts] == [
        (1, "failed"), (1, "failed"), (2, "success"),
    ]  # fmt: skip
    assert [(a["id"], a["error"]) for a in attempts[:2]] == [("0-0", BUSY), ("0-1", BUSY)]
    assert status["totalAttempts"] == 3
    assert status["queuedAt"].startswith(began[:19])

    status = (await here.wait_phase(failed, "Failed")).status
    assert (status["reason"], status["totalAttempts"]) == ("AllDeliveriesFailed", 1)

    await here.wait_phase(waits)
    # The stored time has whole seconds, so it may be up to one too early.
    assert time.time() - ended >= 7.0

    after = await here.api.ask("GET", f"{here.api.requests}/done")
    assert after.revision == before.revision
    assert await here.logs([done]) == {}
    calls = {name: len(here.receiver.calls(name)) for name in ("tried", "failed", "done", "waits")}
    assert calls == {"tried": 1, "failed": 0, "done": 0, "waits": 1}
