"""
Redis and the API server disagree on the time: nothing is done that could not be undone.

The controller as a process on a real Redis; the API server is the stand-in, since a real one shows the
clock of the machine that it runs on, which is Redis's here. A stand-in that is eight days behind is a
Redis that is eight days ahead.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

import pytest

from syncer.model.times import format_time
from tests.e2e.harness import NotifierProcess, Stage, stage, until
from tests.fakes.apianswers import Request
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.apistate import ApiState
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

DAY: Final = 86_400.0
WORDS: Final = "ahead of the API server's"


class Clock:
    """The API server's clock; `ahead` is how far ahead of it Redis's is, in seconds."""

    ahead = 0.0

    def __call__(self) -> float:
        """Unix seconds."""
        return time.time() - self.ahead


@asynccontextmanager
async def installed(
    redis_url: str, folder: Path, clock: Clock
) -> AsyncIterator[tuple[Stage, FakeApiServer]]:
    """A stage on the stand-in."""
    state = ApiState(now=clock)

    def create_namespace(name: str) -> None:
        body = json.dumps({"metadata": {"name": name}}).encode()
        state.answer(Request("POST", "/api/v1/namespaces", {}, body))

    async with FakeApiServer(state) as server:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "c",
                    "clusters": [{"name": "c", "cluster": {"server": server.url}}],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                }
            )
        )  # fmt: skip
        plane = SimpleNamespace(
            api=SimpleNamespace(create_namespace=create_namespace),
            server=server.url, admin_token="", ca_file=None, controller_kubeconfig=kubeconfig,
        )  # fmt: skip
        async with stage(
            cast("ControlPlane", plane), redis_url, folder / "stage", sampled=False
        ) as here:
            yield here, server


async def ready(process: NotifierProcess, code: int, words: str) -> None:
    """Wait until readiness answers so."""

    async def answers() -> bool:
        found, text = await process.ask("/readyz")
        return found == code and words in text

    await until(answers, lambda: f"readiness is {code}, {words!r}; {process.tail()}", within=40)


async def test_a_clock_that_is_ahead_deletes_nothing(redis_url: str, tmp_path: Path) -> None:
    """An object whose days have passed by Redis's clock alone stays; set right, it goes."""
    clock = Clock()
    async with installed(redis_url, tmp_path, clock) as (here, server):
        process = here.notifier(retention={"deleteObjects": True})
        process.start()
        uid = await here.create("over", retentionDays=1)
        await here.wait_phase(uid)
        await here.wait_acked([uid])
        clock.ahead = 8 * DAY
        await ready(process, 503, WORDS)
        moment = int((time.time() - 1.01 * DAY) * 1000)
        ended = format_time(moment, millis=True)
        kept = server.state.get("notificationrequests", here.namespace, "over")
        assert kept is not None
        kept["metadata"]["creationTimestamp"] = format_time(moment, millis=False)
        answer = await here.api.ask(
            "PATCH", f"{here.api.requests}/over/status", {"status": {"completionTime": ended}}
        )
        assert answer.code == 200, answer.body
        offset = await process.metric("notification_ledger_clock_offset_seconds")
        assert abs(offset - 8 * DAY) < 60
        # Sweeps are a second apart; a probe notices the other clock within ten.
        rounds = time.monotonic() + 5
        await until(lambda: time.monotonic() > rounds, "sweeps have passed", within=20)
        assert uid not in here.watcher.deleted
        clock.ahead = 0.0
        await until(lambda: uid in here.watcher.deleted, process.tail, within=40)


async def test_a_clock_that_is_ahead_gives_nothing_up(redis_url: str, tmp_path: Path) -> None:
    """What is new by the API server's clock is held, not too old; once all agree, sends go on."""
    clock = Clock()
    clock.ahead = 8 * DAY
    async with installed(redis_url, tmp_path, clock) as (here, _):
        process = here.notifier(delivery={"maxAge": "24h"})
        process.start()
        await ready(process, 503, WORDS)
        uid = await here.create("new")
        rounds = time.monotonic() + 5
        await until(lambda: time.monotonic() > rounds, "it was looked at", within=20)
        assert here.watcher.phase(uid) not in ("Failed", "Sent")
        assert here.receiver.book == []
        clock.ahead = 0.0
        again = await here.create("later")
        await here.wait_phase(again)
        await ready(process, 200, "")
