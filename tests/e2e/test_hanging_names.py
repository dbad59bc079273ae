"""Receivers below a zone whose name servers do not answer, beside one that is well."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest

from tests.e2e.hanging_names import HANGS
from tests.e2e.harness import Stage, until

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)

DEAD, EACH, LIVE = 60, 5, 20


@pytest.mark.xdist_group("alone")
@pytest.mark.stage(send_timeout=10.0)
async def test_dead_names_leave_the_others_alone(here: Stage) -> None:
    """Sixty dead names, each with five notifications: the live receiver's go at once, at the first try."""
    notifier = here.notifier()
    notifier.module = "tests.e2e.hanging_names"
    names = [f"r{n}" for n in range(DEAD)]
    hosts = {n: f"{n}.dead.test" for n in names} | {"live": "hooks.live.test"}
    for name, host in hosts.items():
        url = here.receiver.url.replace("127.0.0.1", host)
        (here.folder / "credentials" / name).write_text(url)
    routing = {
        "route": {
            "receiver": "live",
            "routes": [{"match": {"to": n}, "receiver": n} for n in names],
        },
        "receivers": [{"name": n, "slackConfigs": [{"credentialRef": n}]} for n in hosts],
    }
    (here.folder / "routing.yaml").write_text(json.dumps(routing))
    await notifier.start().wait_ready()
    dead = [await here.create(f"{n}-{i}", extensions={"to": n}) for i in range(EACH) for n in names]
    waited: list[float] = []
    seconds: list[float] = []
    for i in range(LIVE):
        name, began = f"live-{i}", time.monotonic()
        uid = await here.create(name)
        version = await here.wait_phase(uid)
        waited.append(here.receiver.calls(name)[0].at - began)
        (attempt,) = version.status["deliveryAttempts"]
        seconds.append(attempt["durationSeconds"])
        await asyncio.sleep(0.1)
    # Behind the dead ones each would wait for a look-up that hangs, and send when that is over.
    assert sorted(waited)[LIVE // 2] < HANGS / 4, sorted(waited)
    assert sorted(seconds)[-2] < HANGS / 4, sorted(seconds)

    async def given_up() -> bool:
        logs = await here.logs(dead)
        classes = Counter(
            record.body.get("class") for log in logs.values() for record in log.records
        )
        return classes["transient"] > 0 and classes["notSent"] > 0

    await until(given_up, "some look-ups hang, and some have no thread", within=60)
