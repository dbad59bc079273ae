"""
A slip in the routing file, on a real API server: the file is good, and means something else.

Nothing refuses such a file, and the notification ends on the console, delivered. What is left is that
somebody is told: an event at the object, and a number that an alert watches.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest

from tests.e2e.harness import Stage, until
from tests.e2e.tenants import channels, warnings

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)

HOOK: Final = [{"credentialRef": "slack-ops"}]
CONSOLE: Final = {"name": "console", "consoleConfigs": [{"enabled": True}]}


def routing(match: dict[str, str], pager: dict[str, Any]) -> dict[str, Any]:
    """Return a file that sends one thing to a pager and the rest to the console."""
    return {
        "route": {"receiver": "console", "routes": [{"match": match, "receiver": "pager"}]},
        "receivers": [CONSOLE, {"name": "pager", **pager}],
    }


SLIPS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "a kind that does not exist": (
        routing({"priority": "Critical"}, {"discordConfigs": HOOK}),
        'receivers[1].discordConfigs is unknown and ignored, so receiver "pager" is the console',
    ),
    "an attribute that does not exist": (
        routing({"prioritty": "Critical"}, {"slackConfigs": HOOK}),
        'route.routes[0] matches "prioritty", where priority may be meant',
    ),
}
GOOD: Final = routing({"priority": "Critical"}, {"slackConfigs": HOOK})


@pytest.mark.parametrize("slip", SLIPS)
async def test_a_slip_is_told_at_the_object_and_counted(here: Stage, slip: str) -> None:
    """A critical notification that ends on the console warns at the object; a mended file does not."""
    file, text = SLIPS[slip]
    notifier = here.notifier(events={"enabled": True})
    path = here.folder / "routing.yaml"
    await asyncio.to_thread(path.write_text, json.dumps(file))
    await notifier.start().wait_ready(60)
    uid = await here.create("fire", priority="Critical")
    assert channels(await here.wait_phase(uid)) == [("console", "success")]

    async def told() -> bool:
        return await warnings(here, uid, "RoutingDoubtful") == [
            f"Routed to console, perhaps by mistake: {text}"
        ]

    await until(told, "the event names the slip", within=30)
    metric = "notification_ledger_routing_doubtful_keys"
    await until(lambda: _is(notifier.metric(metric), 1), "it is counted", within=30)
    await asyncio.to_thread(path.write_text, json.dumps(GOOD))
    await until(lambda: _is(notifier.metric(metric), 0), "the file is mended", within=30)
    mended = await here.create("mended", priority="Critical")
    assert channels(await here.wait_phase(mended)) == [("slack:pager", "success")]
    # Its own events are written by now, so one of the other kind would be there as well.
    await until(lambda: _sent(here, mended), "its events are written", within=30)
    assert await warnings(here, mended, "RoutingDoubtful") == []


async def _is(value: Any, wanted: float) -> bool:
    return bool(await value == wanted)


async def _sent(here: Any, uid: str) -> bool:
    answer = await here.api.ask("GET", f"/api/v1/namespaces/{here.namespace}/events")
    return any(
        e["reason"] == "NotificationSent" and e["involvedObject"]["uid"] == uid
        for e in answer.body["items"]
    )
