"""Looking: list and explain, on real servers."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from notifier.gateway.draft import Incoming
from notifier.gateway.settings import of_document
from notifier.gateway.translation import translate
from tests.e2e.harness import Stage, Step, until
from tests.integration.api import notification
from tests.integration.operating import (
    NO_SWEEPS,
    Operator,
    RawLog,
    owner,
)
from tests.unit.notifier.gateway.payloads import alert, alertmanager

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)


async def sent(here: Stage, *names: str) -> list[RawLog]:
    """Notifications that are sent, and whose logs expire."""
    raws = [RawLog(here, await here.create(name)) for name in names]
    for raw in raws:
        await raw.wait_expiry()
    return raws


async def test_settings_file_says_where_to_look(
    here: Stage, operator: Operator, tmp_path: Path
) -> None:
    """With the controller's file no other namespace is asked for than those that it watches."""
    async with owner(here.notifier(sync=NO_SWEEPS)):
        await sent(here, "a")
    for namespace, rows in ((here.namespace, 1), ("elsewhere", 0)):
        config = tmp_path / "config.yaml"
        redis = {"url": here.redis_url, "keyPrefix": here.prefix}
        config.write_text(json.dumps({"redis": redis, "controller": {"namespaces": [namespace]}}))
        answer = await operator.run("list", "-o", "json", config=str(config))
        assert (answer.code, len(answer.lines)) == (0, rows)


async def test_list_and_its_filters(here: Stage, operator: Operator) -> None:
    """Each notification is one row, and each filter takes what it says."""
    here.script("lost", Step(drop="after"))
    async with owner(here.notifier(sync=NO_SWEEPS)):
        first, _ = await sent(here, "a", "b")
        slow = {"maxAttempts": 5, "initialBackoffSeconds": 300, "maxBackoffSeconds": 300}
        lost = await here.create("lost", retryPolicy=slow)
        await here.wait_phase(lost, "Sending")
        document = notification("held", subject="held")
        document["metadata"]["annotations"] = {"notification-ledger/hold": "true"}
        await here.api.ask("POST", here.api.requests, document)
        uid = (await here.api.ask("GET", f"{here.api.requests}/held")).body["metadata"]["uid"]
        await until(lambda: _there(RawLog(here, uid)), "it is seen")
        await RawLog(here, lost).spoil(0, b"no header")
        await first.head(lambda h: replace(h, acked=1))

        async def names(*words: str) -> list[str]:
            answer = await operator.run("list", "-n", here.namespace, "-o", "json", *words)
            assert answer.code == 0, answer.err
            return sorted(line["name"] for line in answer.lines)

        assert await names() == ["a", "b", "held", "lost"]
        assert await names("--phase", "Sent") == ["a", "b"]
        assert await names("--phase", "none", "--phase", "pending", "--phase", "sending") == [
            "held", "lost",
        ]  # fmt: skip
        assert await names("--state", "unknown") == ["lost"]
        assert await names("--state", "held") == ["held"]
        assert await names("--state", "quarantined") == ["lost"]
        unsynced = set(await names("--state", "unsynced"))
        assert "a" in unsynced
        assert not unsynced & {"b", "lost"}
        assert await names("--since", "1h", "--state", "lost") == []
        text = await operator.run("list", "-n", here.namespace, "--state", "unknown, held")
        head, _, row = text.out.splitlines()
        assert head.split()[:4] == ["NOTIFICATION", "PHASE", "AGE", "SEVERITY"]
        assert row.split()[:2] == [f"{here.namespace}/lost", "Sending"]
    nobody = await operator.run("list", "-n", here.namespace, "--since", "soon")
    assert (nobody.code, nobody.err) == (
        2,
        (
            "syncer: --since: must be a duration such as 500ms, 10s or 1m30s, or 3d, or a time such as"
            " 2026-01-31T08:00:00Z\n"
        ),
    )  # fmt: skip


async def _there(raw: RawLog) -> bool:
    return len(await raw.elements()) > 1


async def test_a_notification_is_found_by_its_sender_s_words(
    here: Stage, operator: Operator
) -> None:
    """What the gateway made of a group is listed and explained by its group key, the newest of several."""
    given = {
        "name": "am", "kind": "alertmanager", "namespace": here.namespace,
        "auth": {"insecure": True},
    }  # fmt: skip
    ((source, _),) = of_document({"sources": [given]}).sources.values()
    # `explain` looks in every namespace, and other tests have such groups.
    group = f'{{}}:{{alertname="{here.namespace}"}}'
    async with owner(here.notifier(sync=NO_SWEEPS)):
        for payload in (
            alertmanager(alert(), groupKey=group),
            alertmanager(alert(status="resolved"), groupKey=group),
            alertmanager(alert(), groupKey="{}:{}"),
        ):  # fmt: skip
            ((desired,), _) = translate(
                source, Incoming({}, json.dumps(payload).encode()), time.time()
            )
            answer = await here.api.ask("POST", here.api.requests, desired.manifest)
            assert answer.code == 201, answer
            # The API server's times are whole seconds: which is the newest must be beyond doubt.
            await asyncio.sleep(1.1)
    event = f"alertmanager:{group}"
    where = ("-n", here.namespace, "--event", event)
    listed = await operator.run("list", "-o", "json", *where)
    assert (listed.code, len(listed.lines)) == (0, 2)
    newest = max(listed.lines, key=lambda row: row["created"])["name"]
    explained = await operator.run("explain", "--event", f" {event}")
    assert f"EVENT   {event}" in explained.out
    assert f"\n{here.namespace}/{newest}  uid " in explained.out
    assert "the newest of 2 of this event" in explained.err
    absent = await operator.run("explain", "--event", "alertmanager:nobody")
    assert (absent.code, absent.out) == (3, "")
    assert "there is no notification of the event 'alertmanager:nobody'" in absent.err
    part = await operator.run("list", "-o", "json", "-n", here.namespace, "--event", group)
    assert part.lines == listed.lines
    idle = await operator.run("resend", "-n", here.namespace, "--failed", "--dry-run")
    assert (idle.code, "nothing that matches has failed" in idle.err) == (1, True)


async def test_records_are_shown(here: Stage, operator: Operator) -> None:
    """Of an object with its log, and of a log whose object was deleted."""
    async with owner(here.notifier(sync=NO_SWEEPS)):
        (raw,) = await sent(here, "n")
    answer = await operator.run("explain", "--records", f"{here.namespace}/n", "-o", "json")
    (found,) = answer.lines
    assert (answer.code, found["differences"]) == (0, [])
    assert [r["kind"] for r in found["log"]["records"]] == ["plan", "intent", "success"]
    await here.api.ask("DELETE", f"{here.api.requests}/n")
    for words in ([f"{here.namespace}/n"], [raw.uid], [f"{here.namespace}/n", "--records"]):
        alone = await operator.run("explain", *words)
        assert alone.code == 5
        assert f"{here.namespace}/n  uid {raw.uid}" in alone.out
        assert "not published" not in alone.out
        first, *_, last = alone.out.splitlines()
        told = (
            first.startswith("Delivered to ")
            and " The object was deleted; its log is kept" in first
        )
        assert told != last.startswith("log and status were not compared")
    absent = await operator.run("explain", "--records", f"{here.namespace}/x")
    assert absent.code == 3
