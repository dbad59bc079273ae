"""
A highly available pair of real Alertmanagers: what makes a notification, and what does not.

The two gossip, as the documentation asks for. That does not keep both from delivering what both were trying
to deliver when the gateway came back; the name of the object does. `ALERTMANAGER=built` runs this with the
newer version that `scripts/go/alertmanager` pins.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from syncer.model.resource import Json
from tests.e2e.alertmanagers import Alertmanager, PagerDuty, alert, grouped, pagerduty, webhook
from tests.e2e.gateway import GatewayProcess
from tests.e2e.harness import Stage, stage, until
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]

#: Seconds after which neither peer still has an older state of the group in hand: ten times what the second
#: one waits for the first. One that sends such a state after a resolution has Alertmanager take the next
#: change for known, and nothing of it can be seen from outside.
_SETTLE: Final = 3.0
#: Seconds within which the group that repeats is a duplicate, and after which Alertmanager repeats it.
WINDOW: Final = 6
REPEAT: Final = 8
_CREATED: Final = "notification_ledger_gateway_notifications_total"
_IN_FLIGHT: Final = "notification_ledger_gateway_requests_in_flight"
_FAILED: Final = "alertmanager_notification_requests_failed_total"


class Pair:
    """Two Alertmanagers, the gateway, the controller and PagerDuty."""

    def __init__(self, here: Stage, outside: PagerDuty, folder: Path) -> None:
        common = {
            "kind": "alertmanager", "namespace": here.namespace,
            "retryPolicy": {
                "maxAttempts": 5, "initialBackoffSeconds": 1, "backoffMultiplier": 1,
            },
        }  # fmt: skip
        self.here, self.outside = here, outside
        sources: list[Json] = [
            {"name": "once", "patience": "1s", **common},
            {"name": "again", "dedupWindow": f"{WINDOW}s", **common},
        ]
        self.gateway = GatewayProcess(folder / "gw", here.plane.kubeconfig, sources)
        self.notifier = here.notifier()
        pager = {"credentialRef": "pager", "url": f"http://127.0.0.1:{outside.port}/v2/enqueue"}
        (here.folder / "credentials" / "pager").write_text("R" * 32)
        (here.folder / "routing.yaml").write_text(
            json.dumps({
                "route": {
                    "receiver": "quiet",
                    "routes": [{"match": {"alertname": "Disk"}, "receiver": "pager"}],
                },
                "receivers": [
                    {"name": "pager", "pagerdutyConfigs": [pager]},
                    {"name": "quiet", "consoleConfigs": [{"enabled": True}]},
                ],
            })
        )  # fmt: skip
        repeats = grouped("again", matchers=['alertname="Again"'], repeat_interval=f"{REPEAT}s")
        config = {
            "route": grouped("once", routes=[repeats]),
            "receivers": [webhook(name, self.gateway.url(name)) for name in ("once", "again")],
        }
        one = Alertmanager(folder / "alertmanager-0", config, peers=())
        self.peers = (one, Alertmanager(folder / "alertmanager-1", config, peers=(one.peer,)))

    async def begin(self) -> None:
        """Start everything, and wait until the two know each other."""
        self.notifier.start()
        self.gateway.start()
        await self.notifier.wait_ready()
        await self.gateway.wait_ready()
        for peer in self.peers:
            await peer.begin()
        await until(self._joined, "each is one of two", within=60)

    def kill(self) -> None:
        """End what the stage does not."""
        for peer in self.peers:
            peer.kill()
        self.gateway.kill()

    async def post(self, *changed: Json) -> None:
        """Tell both the same."""
        for peer in self.peers:
            await peer.post(*changed)

    async def refused(self) -> bool:
        """Whether both were told to come again, and are waiting for an answer once more."""
        failed = [await peer.metric(_FAILED) for peer in self.peers]
        return min(failed) >= 1 and await self.gateway.metric(_IN_FLIGHT) == 2

    async def collapsed(self) -> bool:
        """Whether one of them met what the other one had made."""
        return await self.gateway.metric(_CREATED, source="once", result="duplicate") >= 1

    async def objects(self, source: str) -> list[Json]:
        """Notifications of a source."""
        answer = await self.here.api.ask(
            "GET", f"{self.here.api.requests}?labelSelector=notification-ledger/source={source}"
        )
        return list(answer.body["items"])

    async def repeated(self) -> bool:
        """Whether there is a notification, and two repeats of it."""
        return len(await self.objects("again")) >= 3

    async def wait_paged(self, pages: Sequence[str]) -> None:
        """Wait until PagerDuty got these calls and no others."""

        def what() -> str:
            calls = self.outside.calls
            return f"{pages}; paged: {calls}; {self.gateway.tail()}; {self.notifier.tail()}"

        await until(
            lambda: [summary for summary, _ in self.outside.calls] == list(pages), what, within=60
        )

    async def _joined(self) -> bool:
        return [await peer.peers() for peer in self.peers] == [2, 2]


async def test_what_makes_a_notification_of_a_pair(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    Retries and twins make none; resolution, flap, growth and the repeat interval make one each.

    PagerDuty answers 503, 503, 200, so the first has three attempts on record. The alert fires while the
    API server is away, and both peers are in the middle of their retries when it is back.
    """
    fired, over, grown = (
        f"[{count}] Disk: disk is full" for count in ("FIRING:1", "RESOLVED:1", "FIRING:2")
    )
    async with (
        stage(control_plane, redis_url, tmp_path / "stage", sampled=False) as here,
        pagerduty((503, 503, 200)) as outside,
    ):
        pair = Pair(here, outside, tmp_path)
        try:
            await pair.begin()

            # Retries and twins.
            await control_plane.pause("kube-apiserver")
            began = time.time()
            await pair.post(alert("Disk", "a", began))
            await until(pair.refused, lambda: f"both try again; {pair.gateway.tail()}", within=60)
            await control_plane.resume("kube-apiserver")
            await until(pair.collapsed, "both are answered", within=60)
            pages = [fired] * 3
            await pair.wait_paged(pages)
            assert [code for _, code in outside.calls] == [503, 503, 200]
            (first,) = await pair.objects("once")

            # What repeats, from here on, beside everything else.
            await pair.post(alert("Again", "a", time.time()))
            for instance, ends, page in (
                ("a", True, over), ("a", False, fired), ("b", False, grown),
            ):  # fmt: skip
                await asyncio.sleep(_SETTLE)
                now = time.time()
                starts, until_then = (began, now) if ends else (now, None)
                await pair.post(alert("Disk", instance, starts, until_then))
                pages.append(page)
                await pair.wait_paged(pages)

            await until(pair.repeated, "two repeats", within=60)
            made = sorted(
                datetime.fromisoformat(o["metadata"]["creationTimestamp"])
                for o in await pair.objects("again")
            )
            # Their times are whole seconds.
            assert min((b - a).total_seconds() for a, b in pairwise(made)) >= WINDOW - 1, made
            subjects = sorted(o["spec"]["subject"] for o in await pair.objects("once"))
            assert subjects == sorted([fired, over, fired, grown])
            await pair.wait_paged(pages)

            await here.wait_phase(first["metadata"]["uid"])
            version = here.watcher.last(first["metadata"]["uid"])
            assert version is not None
            attempts = version.status["deliveryAttempts"]
            assert [a["status"] for a in attempts] == ["failed", "failed", "success"]
        finally:
            control_plane.heal()
            await asyncio.to_thread(pair.kill)
