"""
What a tenant may reach: routes and receivers go by the object's own namespace, whatever its author writes.

On a real API server, with a controller as a process.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.harness import Stage, until

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)


def routing(here: Stage, *allowed: str) -> str:
    """Return a file with a receiver for payments, one for the stage's namespace, one for all."""
    hook = {"slackConfigs": [{"credentialRef": "slack-ops"}]}
    return json.dumps({
        "route": {
            "receiver": "all",
            "routes": [
                {"match": {"namespace": "prod-payments"}, "receiver": "pay"},
                {"match": {"name": "prod-db"}, "receiver": "pay"},
                {"match": {"team": "payments"}, "receiver": "pay"},
                {"match": {"namespace": here.namespace, "team": "own"}, "receiver": "own"},
            ],
        },
        "receivers": [
            {"name": "all", **hook},
            {"name": "pay", **hook, "allowedNamespaces": list(allowed)},
            {"name": "own", **hook, "allowedNamespaces": [f"{here.namespace[:6]}*"]},
        ],
    })  # fmt: skip


async def sent(
    here: Stage, name: str, extensions: dict[str, str], phase: str = "Sent"
) -> dict[str, Any]:
    """The only attempt of a notification with such extensions."""
    uid = await here.create(name, extensions=extensions)
    (attempt,) = (await here.wait_phase(uid, phase)).status["deliveryAttempts"]
    return dict(attempt)


async def warned(here: Stage, name: str, reason: str, word: str = "") -> bool:
    """Whether a warning at an object has a reason and holds a word."""
    answer = await here.api.ask("GET", f"/api/v1/namespaces/{here.namespace}/events")
    return any(
        (e["type"], e["reason"], e["involvedObject"]["name"]) == ("Warning", reason, name)
        and word in e["message"]
        for e in answer.body["items"]
    )


async def test_a_notification_gets_where_its_own_namespace_may(here: Stage) -> None:
    """
    What an author says of its place is disregarded; a receiver for others refuses for good.

    Both are told at the object. A new rule holds without a restart.
    """
    notifier = here.notifier(events={"enabled": True})
    path = here.folder / "routing.yaml"
    await asyncio.to_thread(path.write_text, routing(here, "prod-*"))
    await notifier.start().wait_ready(60)

    for key, value in (("namespace", "prod-payments"), ("name", "prod-db")):
        name = f"forged-{key}"
        assert (await sent(here, name, {key: value}))["channel"] == "slack:all"
        await until(
            lambda n=name, k=key: warned(here, n, "ReservedAttribute", k),  # type: ignore[misc]  # of this round
            "the author is told",
        )

    refused = await sent(here, "stranger", {"team": "payments"}, "Failed")
    assert (refused["channel"], refused["class"]) == ("slack:pay", "permanent")
    assert f"takes no notifications of namespace {here.namespace}" in refused["error"]
    assert here.receiver.calls("stranger") == []
    await until(lambda: warned(here, "stranger", "ReceiverRefused"), "an event names the rule")

    mine = await sent(here, "mine", {"team": "own", "namespace": "elsewhere"})
    assert (mine["channel"], mine["status"]) == ("slack:own", "success")
    await asyncio.to_thread(path.write_text, routing(here, here.namespace))
    await until(
        lambda: any("generation=2" in str(line["event"]) for line in notifier.lines()),
        notifier.tail,
    )
    assert (await sent(here, "later", {"team": "payments"}))["status"] == "success"
