"""
A hold of an operator, and everything that could make the product forget it.

Real processes: the owner is killed, Redis is emptied while another process runs, and the command is the one
that people type. The receiver's own book says what was sent.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import CHANNEL, Stage, stage, until
from tests.servers.controlplane import ControlPlane
from tests.servers.starts import run_beside

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(120),
]


async def syncer(here: Stage, *words: str) -> list[dict[str, Any]]:
    """Run the command in a process of its own; returns the lines of its answer."""
    ended = await run_beside([
        "syncer", *words, "--json", "--redis-url", here.redis_url, "--key-prefix", here.prefix,
        "--kubeconfig", str(here.plane.kubeconfig),
    ])  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


async def test_a_hold_is_forgotten_by_nobody(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """Not by the next owner of a killed one, nor by an emptied Redis; the release sends, once."""
    async with stage(control_plane, redis_url, tmp_path, sampled=False) as here:
        first = here.notifier(sync={"window": "100ms"})
        first.start()
        await first.wait_ready()
        (hold,) = await syncer(
            here, "hold", "--receiver", CHANNEL, "--until", "1h", "--reason", "they mend it"
        )

        async def in_force(process: Any) -> bool:
            return bool(await process.metric("notification_ledger_holds") == 1)

        await until(lambda: in_force(first), first.tail, within=30)
        critical = await here.create("critical", priority="Critical")

        async def held(process: Any) -> bool:
            metric = "notification_ledger_held_notifications"
            return bool(await process.metric(metric, reason="operator") == 1)

        await until(lambda: held(first), first.tail, within=30)
        await asyncio.to_thread(first.kill)

        second = here.notifier(sync={"window": "100ms"})
        second.start()
        await second.wait_ready()
        await until(lambda: held(second), second.tail, within=60)
        assert await second.metric("notification_ledger_held_critical_seconds") > 0
        await here.redis.flushall()
        key = f"{here.prefix}:holds"

        async def back() -> bool:
            # The command believes a store whose metadata are there again.
            named = await here.redis.get(f"{here.prefix}:meta")
            return bool(named) and hold["id"].encode() in (await here.redis.get(key) or b"")

        await until(back, second.tail, within=60)
        await until(lambda: held(second), second.tail, within=60)
        assert here.receiver.book == []

        (released,) = await syncer(here, "release", hold["id"])
        assert released["letGo"] is True
        await here.wait_phase(critical, within=60)
        assert len(here.receiver.calls("critical")) == 1
        assert second.lines("holds that Redis had lost are restored")
        findings = await here.findings(finished=False)
        assert not findings.violations, str(findings)
