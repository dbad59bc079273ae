"""
A receiver that is down, and its fallback: an hour of upstream's back-off, at a fifteenth of its length.

The receiver answers 503 to everything, so its circuit breaker opens and most attempts are never made: the
notifications reach the fallback by its time. A replica ends and starts in the middle.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Final

import pytest

from syncer.model.incident import INCIDENT, STATE, incident_label
from syncer.model.resource import Json
from tests.e2e.harness import BUSY, OK, TERMINAL, Receiver, Stage, Step, until
from tests.integration.api import notification

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

MANY = 30
#: Seconds after which a fallback's turn comes.
AFTER = 12
FIRST, SPARE = "slack:ops", "slack:spare"
POLICY = {
    "maxAttempts": 4, "initialBackoffSeconds": 2, "backoffMultiplier": 2, "maxBackoffSeconds": 60,
}  # fmt: skip


def routed(folder: Path, url: str, spare: Json | None = None, after: int = AFTER) -> None:
    """Write that the stage's receiver is the fallback of the one at a URL."""
    (folder / "credentials" / "down").write_text(url)
    routing = {
        "route": {"receiver": "ops", "fallback": "spare", "fallbackAfter": f"{after}s"},
        "receivers": [
            {"name": "ops", "slackConfigs": [{"credentialRef": "down"}]},
            spare or {"name": "spare", "slackConfigs": [{"credentialRef": "slack-ops"}]},
        ],
    }
    (folder / "routing.yaml").write_text(json.dumps(routing))


def shown(here: Stage, uid: str) -> tuple[str, dict[str, str]]:
    """Phase and states of the channels of a notification."""
    version = here.watcher.last(uid)
    return version.phase, {c["name"]: c["state"] for c in version.status["channels"]}


def told(receiver: Receiver) -> Counter[str]:
    """How often a receiver has accepted each."""
    return Counter(call.subject for call in receiver.book if call.processed)


@pytest.fixture
async def down() -> AsyncIterator[Receiver]:
    """A receiver that is busy, and refuses one notification for good."""
    async with Receiver((BUSY,)) as receiver:
        receiver.scripts["refused"] = (Step(400, "invalid_payload"),)
        yield receiver


@pytest.mark.stage(sampled=True)
async def test_everything_reaches_it_once_and_the_first_nothing_twice(
    here: Stage, down: Receiver
) -> None:
    """What is refused for good goes at once, the rest in time; afterwards the first one is used again."""
    process = here.notifier()
    routed(here.folder, down.url)
    await process.start().wait_ready()
    refused = await here.create("refused", retryPolicy=POLICY)
    version = await here.wait_phase(refused, "PartiallySent")
    first, spare = version.attempts
    waited = datetime.fromisoformat(spare["startedAt"]) - datetime.fromisoformat(first["timestamp"])
    assert waited.total_seconds() < AFTER, "at once"
    names = [f"n-{n}" for n in range(MANY)]
    uids = [await here.create(name, retryPolicy=POLICY) for name in names]
    await asyncio.sleep(1)
    assert told(here.receiver) == {"refused": 1}
    process.sigterm()
    await process.wait_exit()
    await process.start().wait_ready()
    once = dict.fromkeys([*names, "refused"], 1)
    await until(lambda: told(here.receiver) == once, process.tail, within=60)
    assert any(call.code == 503 for call in down.book)
    down.default = (OK,)
    # The first one may have used up its attempts, or hears of it after all.
    await until(lambda: TERMINAL.issuperset(map(here.watcher.phase, uids)), process.tail, within=90)
    late = await here.create("late")
    await here.wait_phase(late)
    assert shown(here, late) == ("Sent", {FIRST: "Delivered", SPARE: "NotNeeded"})
    assert told(here.receiver) == once
    arrived = told(down)
    assert set(arrived.values()) == {1}
    for uid, name in zip(uids, names, strict=True):
        phase, states = shown(here, uid)
        assert phase == ("Sent" if arrived[name] else "PartiallySent")
        assert states[SPARE] == "Delivered"
    await here.sound([*uids, refused, late], others=[down])


#: What the spare one is sent of an incident: something new, a change of what it had made, and its end.
WEBHOOK: Final = {
    "credentialRef": "slack-ops",
    "payload": {"subject": "open {{ subject }}"},
    "id": "id",
    "update": {"method": "PATCH", "payload": {"subject": "edit {{ answer }} {{ subject }}"}},
    "resolve": {"method": "PATCH", "payload": {"subject": "close {{ answer }} {{ subject }}"}},
}


@pytest.mark.stage(sampled=True)
async def test_what_was_opened_there_is_changed_and_closed_there(
    here: Stage, down: Receiver
) -> None:
    """By the id that it gave, over a takeover; also once the first one can be reached again."""
    process = here.notifier(delivery={"webhook": {"enabled": True}})
    routed(here.folder, down.url, {"name": "spare", "webhookConfigs": [WEBHOOK]}, after=3)
    here.receiver.default = (Step(body='{"id": 77}'),)
    await process.start().wait_ready()
    uids = []

    async def told_of(name: str, state: str, call: str) -> None:
        body = notification(name, subject=name, retryPolicy=POLICY)
        body["spec"]["extensions"] = {INCIDENT: "disk", STATE: state}
        body["metadata"]["labels"] = {INCIDENT: incident_label("disk")}
        made = await here.api.ask("POST", here.api.requests, body)
        uids.append(made.body["metadata"]["uid"])
        await until(lambda: told(here.receiver)[call] == 1, process.tail, within=60)

    await told_of("a", "firing", "open a")
    # What it was told is on record; else another one would open it once more, and say so.
    await until(
        lambda: "success" in {line["state"] for line in process.lines("attempt recorded")},
        process.tail,
    )
    process.kill()
    await process.start().wait_ready()
    await told_of("b", "firing", "edit 77 b")
    down.default = (OK,)
    await told_of("c", "resolved", "close 77 c")
    await until(lambda: TERMINAL.issuperset(map(here.watcher.phase, uids)), process.tail, within=90)
    assert told(here.receiver) == dict.fromkeys(["open a", "edit 77 b", "close 77 c"], 1)
    assert set(told(down).values()) == {1}
    assert told(down)["c"] == 1
    assert any(call.code == 503 for call in down.book)
    await here.sound(uids, others=[down])
