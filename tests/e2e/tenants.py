"""Teams with namespaces and receivers of their own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.harness import NotifierProcess, Stage


def routing(here: Stage, *allowed: str) -> dict[str, Any]:
    """Return a file with a receiver for payments, one for the stage's namespace, one for all."""
    hook = {"credentialRef": "slack-ops"}
    return {
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
            {"name": "all", "slackConfigs": [hook]},
            {"name": "pay", "slackConfigs": [hook], "allowedNamespaces": list(allowed)},
            {
                "name": "own",
                "slackConfigs": [hook],
                "allowedNamespaces": [f"{here.namespace[:6]}*"],
            },
        ],
    }


@pytest.fixture
async def here(here: Stage) -> tuple[Stage, NotifierProcess]:
    """A controller with that routing."""
    notifier = here.notifier(events={"enabled": True})
    path = here.folder / "routing.yaml"
    await asyncio.to_thread(path.write_text, json.dumps(routing(here, "prod-*")))
    return here, await notifier.start().wait_ready(60)


async def warnings(here: Stage, uid: str, reason: str) -> list[str]:
    """Return the messages of the events of a reason."""
    path = f"/api/v1/namespaces/{here.namespace}/events"
    answer = await here.api.ask("GET", path)
    return [
        e["message"]
        for e in answer.body["items"]
        if e["reason"] == reason and e["type"] == "Warning" and e["involvedObject"]["uid"] == uid
    ]


def channels(version: Any) -> list[tuple[str, str]]:
    """Return channel and status of each attempt."""
    return [(a["channel"], a["status"]) for a in version.status["deliveryAttempts"]]
