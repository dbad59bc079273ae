"""
The alerts of the chart in a real Prometheus that scrapes a real controller; only their waits are shortened.

What fires each of them is in `test_alerts.py`, and which series a controller shows when is in the tests of
its gauges.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
import yaml

from syncer.model.resource import Json
from tests.docs.alerts import RULES
from tests.e2e.harness import page, stage, until
from tests.servers.controlplane import ControlPlane
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.redis import RedisServer, find_binary


def prometheus(folder: Path, target: int, rules: Json, port: int) -> ServerProcess:
    """One that scrapes and decides twice a second."""
    program = shutil.which("prometheus")
    assert program, "prometheus is missing; `. scripts/lib.sh; ensure_prometheus` installs it"
    folder.mkdir()
    (folder / "rules.json").write_text(json.dumps(rules))
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(folder / "rules.json")],
        "scrape_configs": [
            {"job_name": "notifier", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        ],
    }
    (folder / "config.json").write_text(json.dumps(config))
    return ServerProcess(
        "prometheus",
        [
            program, f"--config.file={folder / 'config.json'}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        ],
        log=folder / "log",
    )  # fmt: skip


@pytest.mark.timeout(240)
async def test_an_outage_of_redis_fires_and_ends(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    """Once it is over nothing fires, not even that there is no controller."""
    rules = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule["for"] = "0s"
    port = free_port()
    async with (
        RedisServer(find_binary("redis-server")) as redis,
        stage(control_plane, redis.url, tmp_path / "stage", sampled=False) as here,
    ):
        process = await here.notifier().start().wait_ready()
        server = prometheus(tmp_path / "prometheus", process.metrics_port, rules, port)

        async def unavailable() -> bool:
            _, text = await page(port, "/api/v1/alerts")
            return "NotificationLedgerRedisUnavailable" in text

        async def quiet() -> bool:
            _, text = await page(port, "/api/v1/alerts")
            return not json.loads(text)["data"]["alerts"]

        await asyncio.to_thread(server.start, lambda: True, timeout=20.0)
        try:
            await redis.kill()
            await until(unavailable, process.tail, within=60)
            await redis.start()
            await until(quiet, process.tail, within=60)
        finally:
            await asyncio.to_thread(server.kill)
