"""
The five alerts that matter most, fired by a real Prometheus that scrapes a real controller.

The rules are those of the chart; only the waits are shortened (`for`, and the five minutes after which
an attempt counts as overdue), since nobody wants a test of half an hour.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import pytest
import yaml

from tests.docs.alerts import RULES
from tests.e2e.harness import BUSY, OK, QUICK, NotifierProcess, Stage, stage, until
from tests.integration.operating import waiting
from tests.servers.controlplane import ControlPlane
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.redis import RedisServer, find_binary

pytestmark = pytest.mark.timeout(240)

#: Seconds in place of the minutes that an attempt may be overdue.
OVERDUE: Final = 3


class Prometheus:
    """A server that scrapes one controller twice a second."""

    def __init__(self, folder: Path, target: int) -> None:
        program = shutil.which("prometheus")
        assert program, "prometheus is missing; `. scripts/lib.sh; ensure_prometheus` installs it"
        rules = yaml.safe_load(RULES.read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule["for"] = "0s"
                if rule["alert"] == "NotificationLedgerDeliveriesOverdue":
                    shorter = re.sub(r"> 300$", f"> {OVERDUE}", rule["expr"])
                    assert shorter != rule["expr"]
                    rule["expr"] = shorter
        folder.mkdir()
        (folder / "rules.json").write_text(json.dumps(rules))
        scrape = {"job_name": "notifier", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(folder / "rules.json")],
            "scrape_configs": [scrape],
        }
        (folder / "prometheus.json").write_text(json.dumps(config))
        self.port = free_port()
        #: What was firing when it was asked last.
        self.seen: set[str] = set()
        self.process = ServerProcess(
            "prometheus",
            [
                program, f"--config.file={folder / 'prometheus.json'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            log=folder / "prometheus.log",
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        """Start."""
        await asyncio.to_thread(self.process.start, lambda: True, timeout=20.0)

        async def ready() -> bool:
            return bool(await self._ask("/api/v1/status/buildinfo"))

        await until(ready, "Prometheus answers")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End."""
        await asyncio.to_thread(self.process.kill)

    async def firing(self) -> set[str]:
        """Names of the alerts that are firing now."""
        answer = await self._ask("/api/v1/alerts")
        alerts = answer.get("data", {}).get("alerts", [])
        self.seen = {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}
        return self.seen

    async def scraped(self) -> bool:
        """Whether it has series of the controller."""
        answer = await self._ask("/api/v1/query?query=notification_ledger_shards")
        return bool(answer.get("data", {}).get("result"))

    async def _ask(self, path: str) -> dict[str, Any]:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                found: dict[str, Any] = await answer.json() if answer.status == 200 else {}
                return found
        except (aiohttp.ClientError, OSError):
            return {}


async def fired(prometheus: Prometheus, here: Stage, *names: str) -> None:
    """Wait until all of these are firing."""

    async def all_of_them() -> bool:
        return await prometheus.firing() >= {f"NotificationLedger{name}" for name in names}

    def what() -> str:
        return f"{names} are firing; these are: {prometheus.seen}; {here.processes[0].tail()}"

    await until(all_of_them, what, within=60, every=0.2)


async def test_the_five_that_matter_most(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A damaged log, a lost record, Redis away, what is overdue then, and a shard without an owner."""
    async with (
        RedisServer(find_binary("redis-server"), appendfsync="always") as server,
        stage(control_plane, server.url, tmp_path / "stage", sampled=False) as here,
    ):
        # Else what is overdue would be journaled, and a process that finds no Redis would take shards.
        process: NotifierProcess = here.notifier(delivery={"logOutage": "hold"})
        await process.start().wait_ready()
        policy = {**QUICK, "initialBackoffSeconds": 60}
        # Two failures leave the receiver's breaker closed.
        for name in ("damaged", "lost"):
            here.script(name, BUSY, OK)
        damaged, lost = [await here.create(n, retryPolicy=policy) for n in ("damaged", "lost")]
        await waiting(here, "damaged", damaged)
        await waiting(here, "lost", lost)
        async with Prometheus(tmp_path / "prometheus", process.metrics_port) as prometheus:

            async def quiet() -> bool:
                # Not before its first scrape: until then "down" is true.
                return await prometheus.scraped() and not await prometheus.firing()

            await until(
                quiet, lambda: f"nothing fires at first; {prometheus.seen}", within=60, every=0.2
            )
            process.kill()
            key = f"{here.prefix}:{{{damaged}}}"
            newest: Any = await here.redis.lindex(key, -1)
            flipped: Any = newest[:-1] + bytes([newest[-1] ^ 1])
            await here.redis.lset(key, -1, flipped)
            await here.redis.rpop(f"{here.prefix}:{{{lost}}}")
            process.start()
            await fired(prometheus, here, "Quarantined", "RecordsLost")
            await server.kill()
            overdue = await here.create("overdue")
            await fired(prometheus, here, "RedisUnavailable", "DeliveriesOverdue")
            # A process that finds no Redis takes no shard.
            process.kill()
            process.start()
            await fired(prometheus, here, "ShardUnowned", "RedisUnavailable")
            await server.start()

            async def over() -> bool:
                left = await prometheus.firing()
                return not left & {
                    "NotificationLedgerShardUnowned", "NotificationLedgerRedisUnavailable",
                    "NotificationLedgerDeliveriesOverdue", "NotificationLedgerDown",
                }  # fmt: skip

            await until(over, "what was mended does not fire any more", within=40, every=0.2)
            await here.wait_phase(overdue)
