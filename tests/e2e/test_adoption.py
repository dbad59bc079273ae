"""
Taking over from the replaced controller: its unfinished objects are finished, its finished ones left.

Its attempts carry no id, its numbers may repeat, and its counters may say more than its list: all of
that stays as written, and what comes after is added. Nothing is sent that its record already shows as
delivered or as failed for good.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from syncer.model.resource import Json
from syncer.model.times import format_time
from tests.e2e.harness import Stage, until

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


async def test_unfinished_objects_are_finished(here: Stage) -> None:
    """Old attempts stay as written, the next number follows the highest, the budget counts both."""
    busy = "slack webhook returned 503 (retryable): busy"
    old = [entry(1, ago=10 * MINUTE, error=busy), entry(1, ago=10 * MINUTE - 500, error=busy)]
    uid = await left_behind(
        here, "n",
        {
            "phase": "Sending", "reason": "ProcessingDeliveries", "totalAttempts": 2,
            "failedDeliveries": 1, "deliveryAttempts": old,
            "queuedAt": old[0]["timestamp"], "processingStartedAt": old[0]["timestamp"],
        },
    )  # fmt: skip
    here.notifier().start()
    status = (await here.wait_phase(uid)).status
    attempts = status["deliveryAttempts"]
    assert [a["attempt"] for a in attempts] == [1, 1, 2]
    assert [a["status"] for a in attempts] == ["failed", "failed", "success"]
    assert [a["id"] for a in attempts[:2]] == ["0-0", "0-1"]
    assert [a["error"] for a in attempts[:2]] == [busy, busy]
    assert status["totalAttempts"] == 3
    assert status["queuedAt"].startswith(old[0]["timestamp"][:19])
    assert len(here.receiver.calls("n")) == 1


async def test_the_wait_of_the_last_old_attempt_is_kept(here: Stage) -> None:
    """An attempt that ended a moment ago is not repeated before its back-off has passed."""
    policy = {"maxAttempts": 5, "initialBackoffSeconds": 4, "backoffMultiplier": 1}
    ended = time.time()
    uid = await left_behind(
        here, "n",
        {"phase": "Sending", "totalAttempts": 1, "deliveryAttempts": [entry(1, ago=0)]},
        retryPolicy=policy,
    )  # fmt: skip
    here.notifier().start()
    await here.wait_phase(uid)
    assert len(here.receiver.calls("n")) == 1
    # The stored time has whole seconds, so it may be up to one too early.
    assert time.time() - ended >= 3.0


async def test_a_permanent_failure_of_the_old_record_is_final(here: Stage) -> None:
    """The one text that is ever read: upstream's prefix of a final failure."""
    final = "permanent failure: slack webhook returned 404 (permanent failure): no_service"
    uid = await left_behind(
        here, "n",
        {
            "phase": "Sending", "totalAttempts": 1, "failedDeliveries": 1,
            "deliveryAttempts": [entry(1, ago=MINUTE, error=final)],
        },
    )  # fmt: skip
    here.notifier().start()
    status = (await here.wait_phase(uid, "Failed")).status
    assert status["reason"] == "AllDeliveriesFailed"
    assert status["totalAttempts"] == 1
    assert here.receiver.calls("n") == []


async def test_finished_objects_stay_untouched(here: Stage) -> None:
    """A finished object is neither written nor sent, and gets no log."""
    uid = await left_behind(
        here, "done",
        {
            "phase": "Sent", "reason": "AllDeliveriesSucceeded", "totalAttempts": 1,
            "successfulDeliveries": 1,
            "deliveryAttempts": [entry(1, ago=MINUTE, status="success")],
        },
    )  # fmt: skip
    before = await here.api.ask("GET", f"{here.api.requests}/done")
    await here.notifier().start().wait_ready()
    other = await here.create("other")
    await here.wait_phase(other)
    await until(lambda: len(here.receiver.book) == 1, "the other one is delivered", within=30)
    after = await here.api.ask("GET", f"{here.api.requests}/done")
    assert after.revision == before.revision
    assert await here.logs([uid]) == {}
    assert here.receiver.calls("done") == []
