"""
Delivered while Redis is away, on real parts: attempts are written ahead into the status.

Redis is killed and comes back whole; what the receiver saw, the logs and the statuses agree.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import pytest

from syncer.cli import main as cli
from syncer.model.record import Kind, read_attempt
from syncer.model.resource import Json
from tests.e2e.harness import BRISK, BUSY, OK, QUICK, Stage, Step, stage, until
from tests.e2e.journaling import JOURNAL, journaling, replica
from tests.fakes.proxy import ALWAYS, DropRequest, Fault, Proxy
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer
from tests.servers.topology import port_of

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]


#: Elements of the log after an attempt without an answer: header, plan, intent, unknown.
_UNANSWERED: Final = 4
#: Seconds until what was held would go, if another back-off were waited for when Redis is back.
_BACKOFF: Final = 20


def _shows(here: Stage, uid: str, status: str) -> bool:
    return any(a["status"] == status for a in here.watcher.last(uid).attempts)


def _held(here: Stage, uid: str) -> Json:
    return here.watcher.last(uid).condition("LogUnavailable")


async def test_what_its_owner_journaled_goes_on_with_another(
    control_plane: ControlPlane, namespace: str, redis_binary: Path, tmp_path: Path
) -> None:
    """
    The owner is killed in the outage: marked objects and new ones go on, an older one is held.

    It says why, and by the record it goes as soon as Redis is back.
    """
    server = RedisServer(redis_binary)
    async with server, stage(control_plane, server.url, tmp_path) as here:
        here.script("marked", BUSY, OK)
        here.script("older", BUSY, OK)
        first = replica(here, BRISK)
        await first.wait_ready()
        patient = {**QUICK, "initialBackoffSeconds": _BACKOFF}
        older = await here.create("older", retryPolicy=patient)
        await until(lambda: bool(here.receiver.calls("older")), "it has failed once")
        await until(lambda: _shows(here, older, "failed"), "that is shown")
        second = replica(here, BRISK)
        await second.wait_ready()
        await server.kill()
        await journaling(first)
        await asyncio.sleep(4)
        marked = await here.create("marked", retryPolicy={**QUICK, "initialBackoffSeconds": 6})
        await until(lambda: bool(here.receiver.calls("marked")), "it has failed once")
        await until(
            lambda: _shows(here, marked, "failed"),
            "that is shown", within=30,
        )  # fmt: skip
        await asyncio.to_thread(first.kill)
        new = await here.create("new")
        await here.wait_sent([new, marked], within=60)
        await until(lambda: bool(_held(here, older)), "it says that it is held", within=60)
        said = _held(here, older)
        assert (said["status"], said["reason"]) == ("True", "RecordsNotRead")
        assert "it is older than the outage" in said["message"]
        assert len(here.receiver.calls("older")) == 1, "nobody knows what its log holds"
        await server.start()
        back = time.time_ns() // 1_000_000
        await here.wait_phase(older, within=60)
        await until(lambda: not _held(here, older), "it says so no more")
        await here.sound([older, marked, new], within=40)
        assert [len(here.receiver.calls(n)) for n in ("older", "marked", "new")] == [2, 2, 1]
        records = (await here.logs([older]))[older].records
        began = [read_attempt(r).started for r in records if r.kind is Kind.INTENT]
        assert began[-1] <= back + _BACKOFF * 1000


async def test_an_operators_word_of_a_cut_is_heard_before_anything_is_journaled(
    control_plane: ControlPlane, namespace: str, redis_binary: Path, tmp_path: Path
) -> None:
    """
    It says that an attempt was delivered while the owner is cut off, which is back for a moment.

    Wake-ups are not heard again before Redis is away for good: what the owner remembers is no evidence.
    """
    server = RedisServer(redis_binary)
    async with (
        server,
        Proxy(port_of(server)) as proxy,
        stage(control_plane, server.url, tmp_path) as here,
    ):
        here.script("said", Step(drop="after"), OK)
        process = (
            await here.notifier(
                delivery=JOURNAL,
                sync={"liveSweep": "300s", "finishedSweep": "300s", "holdNotice": "2s"},
                redis={"url": f"redis://127.0.0.1:{proxy.port}", "timeout": "1s"},
            )
            .start()
            .wait_ready()
        )
        patient = {**QUICK, "initialBackoffSeconds": 30}
        said = await here.create("said", retryPolicy=patient)
        await until(lambda: bool(here.receiver.calls("said")), "it was sent once")

        async def unknown() -> bool:
            return (await here.lengths([said]))[0] == _UNANSWERED

        await until(unknown, "its result is unknown")
        await proxy.refuse()
        code = await cli.execute(
            [
                "resolve", f"{here.namespace}/said", "--as", "delivered", "--reason", "seen",
                "--redis-url", server.url, "--key-prefix", here.prefix,
                "--kubeconfig", str(here.plane.kubeconfig),
            ]
        )  # fmt: skip
        assert code == 0
        await journaling(process)
        proxy.faults.append(Fault(DropRequest(), b"SUBSCRIBE", times=ALWAYS))
        await proxy.accept()
        await until(
            lambda: bool(process.lines("Redis is back; attempts are no longer journaled")),
            lambda: f"it is back; {process.tail()}",
            within=30,
        )
        await proxy.refuse()

        def heard() -> bool:
            return here.watcher.phase(said) == "Sent"

        # On a busy machine it may hear the word in that moment.
        await until(
            lambda: heard() or bool(_held(here, said)),
            lambda: f"it is held; {here.receiver.calls('said')}; {process.tail()}", within=60,
        )  # fmt: skip
        assert heard() or _held(here, said)["reason"] == "RecordsNotRead"
        assert len(here.receiver.calls("said")) == 1
        proxy.faults.clear()
        await proxy.accept()
        await here.wait_phase(said, within=60)
        assert len(here.receiver.calls("said")) == 1, "nothing follows what a person has said"
