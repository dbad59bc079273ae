"""
Redis and the API server disagree on the time: nothing is done that could not be undone.

The controller as a process on a real Redis; the API server is the stand-in, since a real one shows the
clock of the machine that it runs on, which is Redis's here. A stand-in that is eight days behind is a
Redis that is eight days ahead.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

import pytest

from syncer.model.times import format_time
from tests.e2e.harness import Stage, stage, until
from tests.fakes.apianswers import Request
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.apistate import ApiState
from tests.integration.scripted import write_kubeconfig
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
        kubeconfig = Path(write_kubeconfig(folder / "kubeconfig", server.url))
        plane = SimpleNamespace(
            api=SimpleNamespace(create_namespace=create_namespace),
            server=server.url, admin_token="", ca_file=None, controller_kubeconfig=kubeconfig,
        )  # fmt: skip
        async with stage(
            cast("ControlPlane", plane), redis_url, folder / "stage", sampled=False
        ) as here:
            yield here, server


async def test_a_clock_that_is_ahead_ends_nothing(redis_url: str, tmp_path: Path) -> None:
    """
    What is over, or too old, by Redis's clock alone is neither deleted nor given up, but held.

    Set right, the one goes and the other is sent.
    """
    clock = Clock()
    async with installed(redis_url, tmp_path, clock) as (here, server):
        process = here.notifier(
            retention={"deleteObjects": True}, delivery={"maxAge": "24h"}
        ).start()
        over = await here.create("over", retentionDays=1)
        await here.wait_phase(over)
        await here.wait_acked([over])
        clock.ahead = 8 * DAY
        await process.wait_says(503, WORDS, within=40)
        moment = int((time.time() - 1.01 * DAY) * 1000)
        kept = server.state.get("notificationrequests", here.namespace, "over")
        assert kept is not None
        kept["metadata"]["creationTimestamp"] = format_time(moment, millis=False)
        answer = await here.api.ask(
            "PATCH", f"{here.api.requests}/over/status",
            {"status": {"completionTime": format_time(moment, millis=True)}},
        )  # fmt: skip
        assert answer.code == 200, answer.body
        new = await here.create("new")
        offset = await process.metric("notification_ledger_clock_offset_seconds")
        assert abs(offset - 8 * DAY) < 60
        # Sweeps are a second apart, or a quarter more.
        await asyncio.sleep(2.6)
        assert over not in here.watcher.deleted
        assert here.watcher.phase(new) not in ("Failed", "Sent")
        assert here.receiver.calls("new") == []
        clock.ahead = 0.0
        # By its creation that one is too old by now; what comes later is not.
        later = await here.create("later")
        await here.wait_phase(later)
        await process.wait_says(200, "", within=40)
        await until(lambda: over in here.watcher.deleted, process.tail, within=40)
