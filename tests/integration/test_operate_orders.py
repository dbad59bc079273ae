"""Resend requests, manual resolutions, holds: what an operator records, and what the owner does."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from syncer.model.record import Kind
from tests.e2e.harness import CHANNEL, Stage, Step, until
from tests.integration.api import notification
from tests.integration.operating import (
    BY,
    NO_SWEEPS,
    Operator,
    RawLog,
    owner,
    patch,
    quiet,
    status_of,
)

pytestmark = pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)

GONE = Step(404, "no such hook")


async def shown(here: Stage, name: str, count: int) -> dict[str, Any]:
    """
    Wait until a status shows so many attempts that were sent; returns it with these alone.

    One that was opened and not sent, as on a machine so busy that a lease runs out, counts for nothing.
    """
    status: dict[str, Any] = {}

    async def there() -> bool:
        nonlocal status
        status = await status_of(here, name)
        attempts = status.get("deliveryAttempts", [])
        status["deliveryAttempts"] = [a for a in attempts if a.get("class") != "notSent"]
        return len(status["deliveryAttempts"]) == count

    await until(there, f"{name} shows {count} attempts")
    return status


async def test_failed_channel_is_sent_once_more(here: Stage, operator: Operator) -> None:
    """A request after the end makes one attempt with provenance; the phase stays, the status shows it."""
    here.script("late", GONE, Step())
    async with owner(here.notifier(sync=NO_SWEEPS)):
        uid = await here.create("late")
        await here.wait_phase(uid, "Failed")
        raw = RawLog(here, uid)
        await raw.wait_expiry()
        lost = ("list", "-n", here.namespace, "--state", "lost", "-o", "json")
        assert [line["name"] for line in (await operator.run(*lost)).lines] == ["late"]
        dry = await operator.run(
            "resend", f"{here.namespace}/late", "--reason", "hook is back", "--dry-run"
        )
        assert (dry.code, await raw.by(Kind.ORDER)) == (0, [])
        answer = await operator.run(
            "resend", f"{here.namespace}/late", "--reason", "hook is back", "--by", BY
        )
        assert answer.code == 0, answer.err
        assert answer.out == f"recorded: {CHANNEL}: one more attempt, after 1\n"
        status = await shown(here, "late", 2)
        await raw.wait_expiry()
    assert status["phase"] == "Failed"
    assert [a["status"] for a in status["deliveryAttempts"]] == ["failed", "success"]
    late = next(c for c in status["conditions"] if c["type"] == "LateSuccess")
    assert late["status"] == "True"
    assert len(here.receiver.calls("late")) == 2
    assert (await operator.run(*lost)).lines == []
    row = await operator.run("list", "-n", here.namespace, "--phase", "failed")
    assert re.search(
        r"/late +Failed .* delivered later, recorded at [-\dT:]+Z$", row.out, re.MULTILINE
    )
    (order,) = await raw.by(Kind.ORDER)
    assert (order.body["by"], order.body["why"]) == (BY, "hook is back")
    first, *later = await raw.by(Kind.INTENT)
    assert "order" not in first.body
    assert {intent.body["order"] for intent in later} == {order.id}
    refused = await operator.run("resend", f"{here.namespace}/late", "--reason", "again")
    assert (refused.code, refused.err) == (
        1, "syncer: no channel has ended without success\n",
    )  # fmt: skip
    named = await operator.run(
        "resend", f"{here.namespace}/late", "--reason", "again", "--receiver", CHANNEL
    )
    assert named.code == 1
    assert "nothing is sent after a recorded success" in named.err


async def test_order_survives_the_owner(here: Stage, operator: Operator) -> None:
    """An order given while nobody owns is carried out by the next owner, once."""
    here.script("later", GONE, GONE, Step())
    process = here.notifier(sync=NO_SWEEPS)
    async with owner(process):
        uid = await here.create("later")
        await here.wait_phase(uid, "Failed")
        await RawLog(here, uid).wait_expiry()
    given = await operator.run("resend", f"{here.namespace}/later", "--reason", "x")
    assert given.code == 0
    again = await operator.run("resend", f"{here.namespace}/later", "--reason", "x")
    assert (again.code, again.err) == (1, "syncer: no channel has ended without success\n")
    async with owner(process):
        status = await shown(here, "later", 2)
        await RawLog(here, uid).wait_expiry()
    assert [a["class"] for a in status["deliveryAttempts"]] == ["permanent", "permanent"]
    assert len(here.receiver.calls("later")) == 2, "one attempt for one order"


async def test_verdict_ends_a_retry(here: Stage, operator: Operator) -> None:
    """What an operator knows to have arrived is not sent again, and the phase follows at once."""
    here.script("seen", Step(drop="after"))
    async with owner(here.notifier(sync=NO_SWEEPS)):
        slow = {"maxAttempts": 5, "initialBackoffSeconds": 60, "maxBackoffSeconds": 60}
        uid = await here.create("seen", retryPolicy=slow)
        status = await shown(here, "seen", 1)
        assert status["deliveryAttempts"][0]["status"] == "unknown"
        answer = await operator.run(
            "resolve", f"{here.namespace}/seen", "--as", "delivered", "--reason", "seen in the channel",
            "--by", BY,
        )  # fmt: skip
        assert answer.code == 0, answer.err
        await here.wait_phase(uid, "Sent")
    status = await status_of(here, "seen")
    assert [a["status"] for a in status["deliveryAttempts"]] == ["success"]
    assert status.get("uncertainAttempts", 0) == 0
    assert len(here.receiver.calls("seen")) == 1
    (resolution,) = await RawLog(here, uid).by(Kind.RESOLVE_SUCCESS)
    assert (resolution.body["by"], resolution.body["why"]) == (BY, "seen in the channel")
    stands = await operator.run(
        "resolve", f"{here.namespace}/seen", "--as", "failed", "--reason", "no",
        "--attempt", str(resolution.attempt_id),
    )  # fmt: skip
    assert stands.code == 1
    assert "recorded as success, which stands" in stands.err


async def test_verdict_of_failure_allows_an_order(here: Stage, operator: Operator) -> None:
    """Under at-most-once an unknown result ends the channel; resolution and request send it again."""
    here.script("lost", Step(drop="before"), Step())
    async with owner(here.notifier(sync=NO_SWEEPS, delivery={"guarantee": "atMostOnce"})) as app:
        uid = await here.create("lost")
        await here.wait_phase(uid, "Failed")
        config = str(app.loaded.path)
        answer = await operator.run(
            "resolve", f"{here.namespace}/lost", "--as", "failed", "--reason", "not there",
            config=config,
        )  # fmt: skip
        assert answer.code == 0, answer.err
        ordered = await operator.run(
            "resend", f"{here.namespace}/lost", "--reason", "not there", config=config
        )
        assert ordered.code == 0, ordered.err
        status = await shown(here, "lost", 2)
    assert [a["status"] for a in status["deliveryAttempts"]] == ["failed", "success"]
    assert (
        status["deliveryAttempts"][0]["error"]
        == "not delivered, according to an operator: not there"
    )


async def test_paused_for_all(here: Stage) -> None:
    """Paused, nothing is sent; a change of the file lets all go on, without a restart."""
    process = here.notifier(sync=NO_SWEEPS, delivery={"paused": True})
    async with owner(process) as app:
        uids = [await here.create(name) for name in ("one", "two")]
        for uid in uids:
            await until(lambda u=uid: _skipped(RawLog(here, u)), "the log says why")  # type: ignore[misc]  # bound now
        await quiet(0.3)
        assert here.receiver.book == []
        path = app.loaded.path
        assert path is not None
        document = json.loads(await asyncio.to_thread(path.read_text))
        document["delivery"]["paused"] = False
        await asyncio.to_thread(path.write_text, json.dumps(document))
        for uid in uids:
            await here.wait_phase(uid, "Sent")
    skips = [s.body["why"] for u in uids for s in await RawLog(here, u).by(Kind.SKIP)]
    assert skips == ["held: delivery is paused for all (delivery.paused)"] * 2
    assert len(here.receiver.book) == 2


async def test_too_old_is_not_sent(here: Stage, operator: Operator) -> None:
    """
    What waits for its author, and is then older than the limit, fails for good without a call.

    An order sends it all the same.
    """
    async with owner(here.notifier(sync=NO_SWEEPS, delivery={"maxAge": "1s"})):
        uid = await _held(here, "old", "change 42")
        raw = RawLog(here, uid)
        await until(lambda: _skipped(raw), "it is held")
        # Creation times are whole seconds.
        await quiet(2.2)
        await patch(here, "old", {"metadata": {"annotations": None}})
        await here.wait_phase(uid, "Failed")
        assert here.receiver.book == []
        status = await status_of(here, "old")
        (attempt,) = status["deliveryAttempts"]
        assert attempt["error"] == ("permanent failure: not sent: older than delivery.maxAge (1s)")
        assert [skip.body["why"] for skip in await raw.by(Kind.SKIP)] == [
            "held: the annotation notification-ledger/hold says: change 42",
            "not sent: older than delivery.maxAge (1s)",
        ]
        answer = await operator.run("resend", f"{here.namespace}/old", "--reason", "still wanted")
        assert answer.code == 0, answer.err
        await shown(here, "old", 2)
    assert len(here.receiver.calls("old")) == 1


async def _held(here: Stage, name: str, why: str) -> str:
    """Create an object with the annotation."""
    document = notification(name, subject=name)
    document["metadata"]["annotations"] = {"notification-ledger/hold": why}
    reply = await here.api.ask("POST", here.api.requests, document)
    assert reply.code == 201, reply.body
    return str(reply.body["metadata"]["uid"])


async def _skipped(raw: RawLog) -> bool:
    return bool(await raw.elements()) and bool(await raw.by(Kind.SKIP))
