"""
From a real Prometheus by two real Alertmanagers to a page that is proven.

The Alertmanagers know nothing of each other, as the peers of a cluster that has come apart: both deliver
everything. Those of a cluster are in `test_alertmanager_pair.py`.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

import pytest

from syncer.model.resource import Json
from tests.e2e.alertmanagers import (
    Alertmanager,
    alert,
    grouped,
    pagerduty,
    prometheus,
    routed,
    source,
    webhook,
)
from tests.e2e.gateway import GatewayProcess
from tests.e2e.harness import stage, until
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.new_processes("one test of gateway and controller"),
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240),
]

#: Whether what takes minutes is run, too.
LONG: Final = int(os.environ.get("INCIDENTS", "0")) >= 100
#: Answers of PagerDuty, by call; the last one repeats.
SCRIPT: Final = (503, 503, 202)


async def test_an_alert_becomes_one_proven_page(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    An alert that fires while the API server is away becomes one notification with three attempts.

    Both Alertmanagers send it, and send it again until it is taken; PagerDuty answers 503, 503, 202. When
    the alert is over there is a second notification, which closes the incident, and no third.
    """
    async with (
        stage(control_plane, redis_url, tmp_path / "stage", sampled=False) as here,
        pagerduty(SCRIPT) as outside,
    ):
        gateway = GatewayProcess(
            tmp_path / "gw", control_plane.kubeconfig, [source(here, "am", patience="1s")]
        )
        notifier = here.notifier()
        routed(here, outside, {"receiver": "pager"})
        config = {"route": grouped("ledger"), "receivers": [webhook("ledger", gateway.url("am"))]}
        pair = [Alertmanager(tmp_path / f"alertmanager-{n}", config) for n in range(2)]
        server = prometheus(tmp_path / "prometheus", outside.port, [am.port for am in pair])
        notifier.start()
        gateway.start()
        try:
            await notifier.wait_ready()
            await gateway.wait_ready()
            for am in pair:
                await am.begin()
            await asyncio.to_thread(server.start, lambda: True, timeout=20.0)

            # It fires, and nobody can take it: both are told to come again.
            await control_plane.pause("kube-apiserver")
            outside.full = 1
            requests = "notification_ledger_gateway_requests_total"

            async def refused() -> bool:
                return await gateway.metric(requests, source="am", code="503") >= 3

            await until(refused, lambda: f"503 is answered; {gateway.tail()}", within=60)
            await control_plane.resume("kube-apiserver")

            async def taken(twice: int) -> bool:
                return await gateway.metric(requests, source="am", code="200") >= twice

            def what() -> str:
                return f"paged: {outside.calls}; {gateway.tail()}; {notifier.tail()}"

            await until(lambda: len(outside.calls) == 3, what, within=60)
            await until(lambda: taken(2), what)
            assert outside.calls == [("[FIRING:1] Disk: disk is full", code) for code in SCRIPT]

            # It is over: a second notification, by both, delivered once.
            outside.full = 0
            await until(lambda: len(outside.calls) == 4, what, within=60)
            await until(lambda: taken(4), what)
            assert "[RESOLVED:1] Disk" in outside.calls[3][0]
            assert (outside.open, list(outside.opened.values())) == (set(), [1])

            created = "notification_ledger_gateway_notifications_total"
            assert await gateway.metric(created, source="am", result="duplicate") >= 2
            _, listed = await control_plane.request(
                "GET",
                f"/apis/kubernaut.ai/v1alpha1/namespaces/{here.namespace}/notificationrequests",
            )
            assert len(listed["items"]) == 2
            (first,) = [o for o in listed["items"] if o["spec"]["subject"].startswith("[FIRING:1]")]
            await here.wait_phase(first["metadata"]["uid"])
            version = here.watcher.last(first["metadata"]["uid"])
            assert version is not None
            attempts = version.status["deliveryAttempts"]
            assert [a["status"] for a in attempts] == ["failed", "failed", "success"]
        finally:
            control_plane.heal()
            for process in (*pair, server):
                await asyncio.to_thread(process.kill)
            gateway.kill()


async def test_an_incident_of_alertmanagers_own_integration_is_joined(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """With `dedupKey: alertmanager` both open one and the same, and close it."""
    async with (
        stage(control_plane, redis_url, tmp_path / "stage", sampled=False) as here,
        pagerduty((202,)) as outside,
    ):
        gateway = GatewayProcess(
            tmp_path / "gw", control_plane.kubeconfig, [source(here, "am", patience="1s")]
        )
        notifier = here.notifier()
        routed(here, outside, {"receiver": "pager"}, dedupKey="alertmanager")
        own = {"routing_key": "R" * 32, "url": f"http://127.0.0.1:{outside.port}/v2/enqueue"}
        receiver = webhook("both", gateway.url("am")) | {"pagerduty_configs": [own]}
        am = Alertmanager(tmp_path / "am", {"route": grouped("both"), "receivers": [receiver]})
        notifier.start()
        gateway.start()
        try:
            await notifier.wait_ready()
            await gateway.wait_ready()
            await am.begin()

            def what() -> str:
                return f"called: {outside.calls}; {gateway.tail()}; {notifier.tail()}"

            began = time.time()
            await am.post(alert("Disk", "a", began))
            await until(lambda: len(outside.calls) == 2, what, within=60)
            assert list(outside.opened.values()) == [1], "the second trigger opens nothing"
            await am.post(alert("Disk", "a", began, time.time()))
            await until(lambda: len(outside.calls) == 4, what, within=60)
            assert (outside.open, list(outside.opened.values())) == (set(), [1])
        finally:
            await asyncio.to_thread(am.kill)
            gateway.kill()


async def test_every_incident_that_ends_is_closed_where_it_was_opened(  # noqa: PLR0915 - one story
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    Labels drift within a group, and a receiver refuses while an alert fires, ends, and fires again.

    What pages is critical alone, so the end of the group, a warning by then, has no route to the pager.
    """
    async with (
        stage(control_plane, redis_url, tmp_path / "stage", sampled=False) as here,
        pagerduty((202,)) as outside,
    ):
        retrying = source(here, "am", attempts=10, seconds=2)
        gateway = GatewayProcess(tmp_path / "gw", control_plane.kubeconfig, [retrying])
        notifier = here.notifier()
        critical = {"receiver": "pager", "match": {"priority": "Critical"}}
        routed(here, outside, {"receiver": "console", "routes": [critical]})
        config = {"route": grouped("ledger"), "receivers": [webhook("ledger", gateway.url("am"))]}
        am = Alertmanager(tmp_path / "alertmanager", config)
        notifier.start()
        gateway.start()

        def what() -> str:
            return f"paged: {outside.calls}; {outside.open}; {gateway.tail()}; {notifier.tail()}"

        async def subjects(count: int) -> bool:
            return len(await listed()) >= count

        async def listed() -> list[Json]:
            path = f"/apis/kubernaut.ai/v1alpha1/namespaces/{here.namespace}/notificationrequests"
            return list((await control_plane.request("GET", path))[1]["items"])

        async def over() -> bool:
            phases = {one.get("status", {}).get("phase") for one in await listed()}
            return phases <= {"Sent", "Failed"}

        now = time.time()
        warning = alert("Drift", "w", now)
        warning["labels"]["severity"] = "warning"
        try:
            await notifier.wait_ready()
            await gateway.wait_ready()
            await am.begin()

            # It fires, a lesser one joins, it ends, and the lesser one ends.
            await am.post(alert("Drift", "c", now))
            await until(lambda: len(outside.open) == 1, what)
            await am.post(warning)
            await until(lambda: subjects(2), what)
            await am.post(alert("Drift", "c", now, time.time()))
            await until(lambda: subjects(3), what)
            await am.post(warning | {"endsAt": alert("Drift", "w", now, time.time())["endsAt"]})
            await until(lambda: not outside.open, what)
            assert list(outside.opened.values()) == [1]

            # The receiver refuses; meanwhile it fires, ends, fires again, and ends.
            outside.refusing = True
            known = 4
            for n in range(2):
                began = time.time()
                await am.post(alert("Flap", "f", began))
                known += 1
                await until(lambda: subjects(known), what)  # noqa: B023 - awaited here
                if n == 0:
                    await until(lambda: any("Flap" in c[0] for c in outside.calls), what)
                await am.post(alert("Flap", "f", began, time.time()))
                known += 1
                await until(lambda: subjects(known), what)  # noqa: B023 - awaited here
            refused = len(outside.calls)
            outside.refusing = False
            await until(
                lambda: any("[RESOLVED:1] Flap" in c[0] for c in outside.calls[refused:]),
                what,
                within=60,
            )
            await until(over, what, within=60)
            assert [c for c in outside.calls[refused:] if c[0].startswith("[FIRING")] == []
            assert outside.open == set()

            # The critical one ends while the receiver refuses. The lesser one goes elsewhere.
            outside.refusing = True
            began = time.time()
            stays = warning | {"labels": warning["labels"] | {"alertname": "Left"}}
            for changed in (
                [alert("Left", "c", began), stays], [alert("Left", "c", began, time.time())],
            ):  # fmt: skip
                await am.post(*changed)
                known += 1
                await until(lambda: subjects(known), what)  # noqa: B023 - awaited here
            outside.refusing = False
            await until(lambda: len(outside.open) == 1, what, within=60)
            await am.post(stays | {"endsAt": alert("Left", "w", now, time.time())["endsAt"]})
            await until(lambda: not outside.open, what, within=60)

            # It goes on: what fires now is an incident again.
            await am.post(alert("Flap", "f", time.time()))
            await until(lambda: len(outside.open) == 1, what)
        finally:
            await asyncio.to_thread(am.kill)
            gateway.kill()


async def test_what_a_group_has_too_many_of_neither_closes_nor_opens_wrongly(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    A payload cut by `max_alerts` ends nothing, and 101 alerts are 101 incidents, the last one the group's.

    Alertmanager cuts before it computes the status: it calls a group resolved whose second alert fires.
    """
    async with (
        stage(control_plane, redis_url, tmp_path / "stage", sampled=False) as here,
        pagerduty((202,)) as outside,
    ):
        gateway = GatewayProcess(
            tmp_path / "gw", control_plane.kubeconfig,
            [source(here, "cut"), source(here, "each", per="alert")],
        )  # fmt: skip
        notifier = here.notifier()
        routed(here, outside, {"receiver": "pager"})
        each = {"receiver": "each", "matchers": ["alertname = Many"]}
        cut = webhook("cut", gateway.url("cut"))
        cut["webhook_configs"][0]["max_alerts"] = 1
        am = Alertmanager(
            tmp_path / "alertmanager",
            {
                "route": grouped("cut", routes=[each]),
                "receivers": [cut, webhook("each", gateway.url("each"))],
            },
        )
        notifier.start()
        gateway.start()

        def what() -> str:
            counted = (len(outside.open), len(outside.calls))
            return f"open and calls: {counted}; {gateway.tail()}; {notifier.tail()}"

        async def opened(count: int, calls: int) -> None:
            await until(
                lambda: (len(outside.open), len(outside.calls)) == (count, calls), what, within=60
            )

        now = time.time()
        many = [alert("Many", f"i{n:03}", now) for n in range(101)]
        try:
            await notifier.wait_ready()
            await gateway.wait_ready()
            await am.begin()

            await am.post(alert("Cut", "a", now), alert("Cut", "b", now))
            await opened(1, 1)
            await am.post(alert("Cut", "a", now, time.time()))
            await opened(1, 2)
            assert outside.calls[1][0].startswith("[FIRING] Cut"), "it is not said how many"
            await am.post(alert("Cut", "b", now, time.time()))
            await opened(0, 3)

            await am.post(*many)
            await opened(101, 104)
            # Who was the rest of the group becomes an incident of its own, and the rest is over.
            first = alert("Many", "i000", now, time.time())
            await am.post(first)
            await opened(100, 107)
            # What has ended is repeated, as Prometheus does, and makes the group as large as it was.
            await am.post(
                first, *(alert("Many", f"i{n:03}", now, time.time()) for n in range(1, 101))
            )
            await until(lambda: not outside.open, what, within=60)
            assert set(outside.opened.values()) == {1}, "none was opened twice"
        finally:
            await asyncio.to_thread(am.kill)
            gateway.kill()


@pytest.mark.skipif(not LONG, reason="takes two minutes; INCIDENTS=200 runs it")
async def test_an_alert_that_comes_back_with_its_start_is_an_incident_again(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """It is reported byte for byte as before: only the time since tells it from a late peer."""
    async with (
        stage(control_plane, redis_url, tmp_path / "stage", sampled=False) as here,
        pagerduty((202,)) as outside,
    ):
        gateway = GatewayProcess(tmp_path / "gw", control_plane.kubeconfig, [source(here, "am")])
        notifier = here.notifier()
        routed(here, outside, {"receiver": "pager"})
        config = {"route": grouped("am"), "receivers": [webhook("am", gateway.url("am"))]}
        am = Alertmanager(tmp_path / "alertmanager", config)
        notifier.start()
        gateway.start()

        def what() -> str:
            return f"called: {outside.calls}; {gateway.tail()}; {notifier.tail()}"

        began = time.time()
        try:
            await notifier.wait_ready()
            await gateway.wait_ready()
            await am.begin()
            await am.post(alert("Disk", "a", began))
            await until(lambda: len(outside.calls) == 1, what, within=30)
            await am.post(alert("Disk", "a", began, time.time()))
            await until(lambda: len(outside.calls) == 2, what, within=30)
            await asyncio.sleep(125 - (time.time() - began))
            await am.post(alert("Disk", "a", began))
            await until(lambda: len(outside.calls) == 3, what, within=30)
            assert list(outside.opened.values()) == [2]
            await am.post(alert("Disk", "a", began, time.time()))
            await until(lambda: not outside.open, what, within=30)
        finally:
            await asyncio.to_thread(am.kill)
            gateway.kill()
