"""
The demo, run as a newcomer runs it: the program of `scripts/demo`, its output and its exit code.

What the shell script adds (the virtual environment) is there already. The comparison on which the
exit code rests is tested by itself, with books and records that do not agree.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import redis.asyncio as redis_asyncio

from syncer.model.record import Kind, Record
from tests.servers.controlplane import ControlPlane

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = ROOT / "scripts" / "demo.py"
_WITHIN: Final = 100.0


async def _demo(*arguments: str, **env: str) -> tuple[dict[str, Any], list[str]]:
    """What it prints, and the lines beside; one that does not end is killed, servers by their guards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), "--json", *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **env},
    )  # fmt: skip
    try:
        async with asyncio.timeout(_WITHIN):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, err.decode()
    assert out.count(b"\n") == 1, "not exactly one line on standard output"
    return json.loads(out), err.decode().splitlines()


async def test_demo_on_the_stand_in() -> None:
    """The demo needs nothing but Python, and its three attempts are all on record."""
    shown, _ = await _demo()
    assert shown["differences"] == []
    assert shown["agree"] is True
    assert shown["phase"] == "Sent"
    assert shown["attempts"] == 3
    assert shown["receiverCalls"] == 3
    assert shown["recordedBeforeCall"] == 3
    # The plan, and an intent and an outcome for each attempt.
    assert shown["logRecords"] == 7
    assert 1 <= shown["statusWrites"] <= 4
    first, second = shown["secondsBetweenCalls"]
    # Back-off of 1 s, never below it; then 2 s with up to 10 % of jitter.
    assert first >= 1.0
    assert second >= 1.8
    assert shown["seconds"] >= 2.8
    assert shown["redisCli"].startswith("redis-cli -u redis://127.0.0.1:")
    assert shown["redisCli"].endswith(f"LRANGE 'nl:{{{shown['uid']}}}' 0 -1")
    assert shown["apiServer"] == "a stand-in"
    assert shown["redis"].startswith("Valkey ")


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_demo_on_somebodys_own_parts(control_plane: ControlPlane, redis_url: str) -> None:
    """On a person's cluster and Redis the demo leaves nothing behind, and says what it did."""
    control_plane.heal()
    client = redis_asyncio.Redis.from_url(redis_url)
    try:
        await client.set("mine", "untouched")
        shown, said = await _demo(
            "--kubeconfig", str(control_plane.kubeconfig), DEMO_REDIS_URL=redis_url
        )
        left = await client.keys("*")
    finally:
        await client.aclose()
    assert (shown["phase"], shown["attempts"], shown["receiverCalls"]) == ("Sent", 3, 3)
    assert left == [b"mine"]
    made = next(line for line in said if line.startswith("created the namespace "))
    name = made.rpartition(" ")[2]
    assert f"deleted the namespace {name}" in said
    answer, namespace = await control_plane.request("GET", f"/api/v1/namespaces/{name}")
    # Without its controller a namespace stays marked for ever.
    assert answer == 404 or "deletionTimestamp" in namespace["metadata"]


# -- what the exit code rests on ---------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    """Return the program as a module."""
    spec = importlib.util.spec_from_file_location("demo_program", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


RECORDS: Final = (
    Record(Kind.PLAN, "plan", "-"),
    Record(Kind.INTENT, "0.7-1", "slack:ops"),
    Record(Kind.FAILED, "0.7-1", "slack:ops"),
    Record(Kind.INTENT, "0.7-2", "slack:ops"),
    Record(Kind.SUCCESS, "0.7-2", "slack:ops"),
)
#: When, attempt, key, answer, and whether the intent was on record.
CALLS: Final = ((0.1, "0.7-1", "nl_a", 503, True), (1.2, "0.7-2", "nl_a", 200, True))
SHOWN: Final = [{"id": "0.7-1", "status": "failed"}, {"id": "0.7-2", "status": "success"}]
STATUS: Final = {"totalAttempts": 2, "deliveryAttempts": SHOWN}

#: What is observed otherwise than when everything agrees, and what is said of it.
DISAGREEMENTS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "an outcome is missing": (
        {"records": [*RECORDS[:2], *RECORDS[3:]]}, "was answered 503 and recorded as []",
    ),
    "an intent is missing": ({"records": [RECORDS[0], *RECORDS[2:]]}, "the log opened ['0.7-2']"),
    "the receiver was called once too often": (
        {"calls": [*CALLS, CALLS[1]]}, "the receiver counted 3",
    ),
    "the status forgot an attempt": (
        {"status": {**STATUS, "deliveryAttempts": SHOWN[1:]}}, "the status lists ['0.7-2']",
    ),
    "the status counts too few": ({"status": {**STATUS, "totalAttempts": 1}}, "totalAttempts is 1"),
    "a failure is recorded as a success": (
        {"records": [*RECORDS[:2], replace(RECORDS[2], kind=Kind.SUCCESS), *RECORDS[3:]]},
        "503 and recorded as ['success']",
    ),
    "a request came before its intent": (
        {"calls": [CALLS[0], (*CALLS[1][:4], False)]}, "before it was on record",
    ),
    "attempts differ in their idempotency key": (
        {"calls": [CALLS[0], (1.2, "0.7-2", "nl_b", 200, True)]}, "idempotency key was not the same",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DISAGREEMENTS, ids=str)
def test_disagreement_is_told(demo: ModuleType, case: str) -> None:
    """Each way in which record and receiver can disagree is found and named."""
    change, sentence = DISAGREEMENTS[case]
    seen = demo.Seen()
    seen.records, seen.status = change.get("records", RECORDS), change.get("status", STATUS)
    seen.calls = [demo.Call(*call[:4], recorded=call[4]) for call in change.get("calls", CALLS)]
    assert sentence in "; ".join(demo.differences(seen))
