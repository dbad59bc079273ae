"""The clients beside each other: what one makes the other finds, and both learn what became of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

import pytest

from notifier.client.apiserver import ApiServer
from notifier.client.gateway import Gateway
from syncer.model.errors import Gone, Rejected, Unauthorised
from syncer.model.trace import TRACE
from tests.beside import eventually
from tests.integration.running_gateway import TOKEN, Outside, outside, stored, token

__all__ = ["outside", "token"]

TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_both_make_one_object_of_one_call(outside: Outside) -> None:
    """Once for each key, whichever way it goes; the object has everything that the call says."""
    call: dict[str, Any] = {
        "subject": "Backup failed", "body": "The disk is full.", "key": "backup/1", "type": "Escalation",
        "priority": "High", "severity": "error", "extensions": {"team": "storage", "type": "own"},
        "links": [("ci", "https://ci.example.org/1", "Run")], "incident": "backup", "state": "resolved",
        "traceparent": TRACEPARENT,
    }  # fmt: skip
    async with (
        outside.gateway(outside.source(name="jobs", kind="notification")) as here,
        Gateway(f"http://127.0.0.1:{here.port}/v1/jobs/", TOKEN) as one,
        ApiServer("default", source="jobs", kubeconfig=outside.kubeconfig) as two,
    ):
        made = await one.notify(**call)
        for client in (one, two):
            again = await client.notify(**call)
            assert (again.name, again.uid, again.duplicate) == (made.name, made.uid, True)
            result = await client.wait(made, timeout=0.1)
            assert (result.uid, result.finished, result.outcome) == (made.uid, False, "pending")
        assert stored(outside.server) == [made.name]
        (found,) = outside.server.state.objects("notificationrequests")
        assert found["metadata"]["annotations"][TRACE] == TRACEPARENT
        spec = found["spec"]
        assert (spec["type"], spec["priority"], spec["severity"]) == (
            "Escalation",
            "High",
            "error",
        )
        assert spec["actionLinks"][0]["url"] == "https://ci.example.org/1"
        assert (spec["extensions"]["team"], spec["extensions"]["label_type"]) == (
            "storage",
            "own",
        )
        assert spec["extensions"]["notification-ledger/state"] == "resolved"

        other = await two.notify(**call | {"key": "backup/2"})
        assert (other.duplicate, other.name == made.name) == (False, False)
        for client in (one, two):
            with pytest.raises(Rejected, match="priority: must be one of"):
                await client.notify("s", "b", key="k", priority="high")
        for client in (one, two):
            with pytest.raises(Gone):
                await client.wait(replace(other, name="nt-none"))
        async with Gateway(f"http://127.0.0.1:{here.port}/v1/jobs", "wrong") as stranger:
            with pytest.raises(Unauthorised, match="one of this source's tokens"):
                await stranger.notify("s", "b", key="k")


async def test_the_end_of_an_outage_of_the_api_server_is_waited_for(outside: Outside) -> None:
    """Neither client gives up while there is time: the notification is made when the server is back."""
    jobs = outside.source(name="jobs", kind="notification", patience="300ms", retryAfter=1)
    async with (
        outside.gateway(jobs) as here,
        Gateway(f"http://127.0.0.1:{here.port}/v1/jobs", TOKEN) as one,
        ApiServer("default", kubeconfig=outside.kubeconfig) as two,
    ):
        await outside.server.stop()
        calls = [asyncio.create_task(client.notify("s", "b", key="k")) for client in (one, two)]
        await eventually(lambda: here.count("requests_total", source="jobs", code="503"))
        await outside.server.start()
        made = await asyncio.gather(*calls)
    assert [m.duplicate for m in made] == [False, False]
