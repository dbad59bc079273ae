"""
Without a policy, whoever may patch a status can write anything: none of it decides.

The controller is told of no policy, so a status is a claim to it. The statuses are written with the
administrator's token, right after the object is created or before any controller runs.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from syncer.model.carried import fold
from syncer.model.resource import Json
from tests.e2e.harness import BUSY, OK, QUICK, NotifierProcess, Stage, until
from tests.servers.starts import run_beside

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

#: An object has to be three seconds younger than the installation, and its creation is told in whole ones.
MARGIN: Final = 4.0
PATIENT: Final[Json] = {**QUICK, "initialBackoffSeconds": 8}


def entry(status: str, identity: str, number: int = 1, channel: str = "slack:ops") -> Json:
    """An attempt that never was."""
    return {
        "id": identity, "channel": channel, "attempt": number, "status": status, "error": "forged",
        "timestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip


SUCCESS: Final = [entry("success", "0.1-77")]
FAILURES: Final = [entry("failed", f"0.1-{n}", n) for n in range(1, 6)]
FORGED: Final[dict[str, Json]] = {
    "sent": {"phase": "Sent"},
    "failed": {"phase": "Failed", "totalAttempts": 5},
    "sent-with-a-success": {"phase": "Sent", "deliveryAttempts": SUCCESS, "totalAttempts": 1},
    "success": {"phase": "Sending", "deliveryAttempts": SUCCESS},
    "used-up": {"phase": "Retrying", "deliveryAttempts": FAILURES, "totalAttempts": 5},
    "folded": {
        "phase": "Retrying",
        "rollup": {
            "through": 5,
            "channels": [
                {"name": "slack:ops", "failed": 5, "lastId": "9.9-9", "number": 5, "notSent": 0}
            ],
        },
    },
    "planned": {"phase": "Sending", "channels": [{"name": "slack:board", "state": "Pending"}]},
    "journaled": {
        "phase": "Sent", "deliveryAttempts": SUCCESS, "journal": {"outage": "0.1-1"},
    },
    "later-epoch": {"phase": "Sending", "log": {"position": 9, "epoch": "9.9", "store": "aa"}},
    "large": {"phase": "Sent", "totalAttempts": 2**31 - 1, "successfulDeliveries": 2**31 - 1},
}  # fmt: skip


async def write(here: Stage, name: str, status: Json) -> None:
    """Patch a status, folded as the controller would."""
    body = {"status": fold(status)}
    answer = await here.api.ask("PATCH", f"{here.api.requests}/{name}/status", body)
    assert answer.code == 200, answer.body


async def unprotected(here: Stage, **settings: Any) -> NotifierProcess:
    """A controller that knows of no policy, and an installation that is old enough."""
    process = await here.notifier(sync={"statusPolicy": ""}, **settings).start().wait_ready()
    await asyncio.sleep(MARGIN)
    return process


async def of_log(here: Stage, uid: str) -> str:
    """The log as text."""
    (elements,) = (await here.logs([uid])).values()
    return repr(elements)


async def trusted(here: Stage, name: str) -> Json | None:
    """The condition that says that a record cannot be trusted."""
    answer = await here.api.ask("GET", f"{here.api.requests}/{name}")
    found = (answer.body.get("status") or {}).get("conditions") or []
    return next((c for c in found if c["type"] == "RecordTrusted"), None)


@pytest.mark.parametrize("running", [True, False], ids=["seen by the watch", "found at the start"])
async def test_what_was_never_handled_is_delivered(here: Stage, running: bool) -> None:
    """Whatever its status says: by the routing file, once, and the status becomes the truth."""
    process = await unprotected(here)
    if not running:
        process.kill()
    uids = {}
    for name, status in FORGED.items():
        uids[name] = await here.create(name, retryPolicy=QUICK)
        await write(here, name, status)
    if not running:
        process.start()
    await until(
        lambda: all(len(here.receiver.calls(name)) == 1 for name in FORGED),
        lambda: f"{[n for n in FORGED if not here.receiver.calls(n)]}", within=40,
    )  # fmt: skip
    for name, uid in uids.items():
        await here.wait_phase(uid)
        await here.wait_acked([uid])
        status = here.watcher.last(uid).status
        shown = [(a["status"], a["attempt"]) for a in status["deliveryAttempts"]]
        assert (name, shown) == (name, [("success", 1)])
        assert status["totalAttempts"] == 1 or name == "large", name
        log = await of_log(here, uid)
        assert "forged" not in log
        assert "seed" not in log
        assert "board" not in log
    assert len(here.receiver.book) == len(FORGED)


async def test_a_writer_that_does_not_stop(here: Stage) -> None:
    """A status is forged again and again while its notification is tried: it is delivered all the same."""
    await unprotected(here)
    here.script("n", BUSY, BUSY, OK)
    uid = await here.create("n", retryPolicy=QUICK)
    for n in range(40):
        await write(
            here, "n", {"phase": "Sent", "deliveryAttempts": [entry("success", f"0.1-{n}")]}
        )
        await asyncio.sleep(0.1)
    await until(lambda: len(here.receiver.calls("n")) == 3, "it is delivered")
    await until(
        lambda: here.watcher.last(uid).status.get("totalAttempts") == 3,
        "the status is the truth again", within=60,
    )  # fmt: skip
    assert "seed" not in await of_log(here, uid)


async def test_what_may_have_been_sent_waits_for_a_person(here: Stage) -> None:
    """An owner that has died, a status that says more than the log: neither sent again nor delivered."""
    process = await unprotected(here)
    here.script("n", BUSY, OK)
    uid = await here.create("n", retryPolicy=PATIENT)
    await until(lambda: bool(here.watcher.last(uid).attempts), process.tail)
    process.kill()
    await write(here, "n", {"phase": "Sent", "deliveryAttempts": SUCCESS, "totalAttempts": 1})
    await process.start().wait_ready()
    # A final phase is looked at by the sweep of finished ones.
    await process.wait_metric("held_notifications", 1, reason="record-untrusted")
    condition = await trusted(here, "n")
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", "StatusBeyondLog")
    assert "verify --repair --unwitnessed" in condition["message"]
    assert "syncer resend" in condition["message"]
    assert len(here.receiver.calls("n")) == 1
    assert "seed" not in await of_log(here, uid)


async def test_a_store_that_was_emptied_is_restored(here: Stage) -> None:
    """A loss that is known, by whoever starts next, lets the statuses of then speak."""
    process = await unprotected(here)
    here.script("n", BUSY, OK)
    done = await here.create("done")
    uid = await here.create("n", retryPolicy=PATIENT)
    await here.wait_phase(done)
    await until(lambda: bool(here.watcher.last(uid).attempts), process.tail)
    process.kill()
    await here.redis.flushall()
    process.start()
    await here.wait_phase(uid, within=60)
    assert "seed.failed" in await of_log(here, uid)
    assert len(here.receiver.calls("n")) == 2
    assert len(here.receiver.calls("done")) == 1
    assert not await trusted(here, "n")


async def test_what_another_controller_left_is_adopted(here: Stage) -> None:
    """Older than the installation, or than `adoption.before`: finished ones stay, others go on."""
    old = {"phase": "Sending", "deliveryAttempts": [entry("failed", "")], "totalAttempts": 1}
    sent = {"phase": "Sent", "deliveryAttempts": [entry("success", "")], "totalAttempts": 1}
    await here.create("old", retryPolicy=QUICK)
    await here.create("old-sent")
    await write(here, "old", old)
    await write(here, "old-sent", sent)
    await asyncio.sleep(2)
    process = await unprotected(here)
    process.sigterm()
    await process.wait_exit()
    # The other one has gone on meanwhile.
    await here.create("later-sent")
    await write(here, "later-sent", sent)
    await asyncio.sleep(2)
    answer = await here.api.ask("GET", f"{here.api.requests}/later-sent")
    late = answer.body["metadata"]["creationTimestamp"]
    process = (
        await here.notifier(sync={"statusPolicy": ""}, adoption={"before": late[:17] + "59Z"})
        .start()
        .wait_ready()
    )
    last = await here.create("last")
    await here.wait_phase(last, within=40)
    assert len(here.receiver.calls("old")) == 1
    assert not here.receiver.calls("old-sent")
    assert not here.receiver.calls("later-sent")
    assert not await trusted(here, "later-sent")
    verified = await run_beside(
        ("syncer", "verify", "-n", here.namespace, "--config", str(process._config),
         "--kubeconfig", str(here.plane.controller_kubeconfig)),
    )  # fmt: skip
    assert verified.returncode == 0, verified.stdout
