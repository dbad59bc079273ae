"""
A highly available pair of real Alertmanagers: what makes a notification, and what does not.

The two gossip, as the documentation asks for. That does not keep both from delivering what both were trying
to deliver when the gateway came back; the name of the object does. `ALERTMANAGER=built` runs this with the
newer version that `scripts/go/alertmanager` pins.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web

from syncer.model.incident import AT
from syncer.model.resource import Json
from tests.e2e.alertmanagers import Paging, alert, grouped, paging, webhook
from tests.e2e.harness import until
from tests.servers.controlplane import ControlPlane
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer

#: Groups in the test that kills; 200 take some minutes.
GROUPS: Final = int(os.environ.get("INCIDENTS", "24"))

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(240 if GROUPS < 100 else 600),
]

#: Seconds after which neither peer still has an older state of the group in hand: ten times what the second
#: one waits for the first. One that sends such a state after a resolution has Alertmanager take the next
#: change for known, and nothing of it can be seen from outside.
_SETTLE: Final = 3.0
#: Seconds within which the group that repeats is a duplicate, and after which Alertmanager repeats it.
WINDOW: Final = 6
REPEAT: Final = 8
#: Where everything goes but what is about the disk.
_DISK: Final = {
    "receiver": "console", "routes": [{"match": {"alertname": "Disk"}, "receiver": "pager"}],
}  # fmt: skip
_CREATED: Final = "notification_ledger_gateway_notifications_total"
_IN_FLIGHT: Final = "notification_ledger_gateway_requests_in_flight"
_FAILED: Final = "alertmanager_notification_requests_failed_total"


def order_of(document: Json) -> tuple[str, int]:
    """Which of an incident's is newer: by the API server's time, and the gateway's within a second."""
    return document["metadata"]["creationTimestamp"], int(document["spec"]["extensions"][AT])


class Gate:
    """
    Stands between one Alertmanager and the gateway.

    Attributes:
        gateway: Where it sends what it lets pass.
        firing: How it answers groups that fire, in the gateway's place; 0 lets them pass.
        refused: How many it has answered itself.
    """

    def __init__(self) -> None:
        """Serve nothing yet."""
        self.firing, self.refused, self.port = 0, 0, free_port()
        self.gateway = ""
        app = web.Application()
        app.router.add_post("/", self._pass)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def begin(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def end(self) -> None:
        """Stop that."""
        await self._runner.cleanup()

    async def _pass(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.firing and json.loads(body)["status"] == "firing":
            self.refused += 1
            return web.Response(status=self.firing)
        headers = {k: request.headers[k] for k in ("Authorization", "Content-Type")}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(self.gateway, data=body) as answer,
        ):
            return web.Response(status=answer.status)


@dataclass(eq=False)
class Pair(Paging):
    """
    Two Alertmanagers that gossip.

    Attributes:
        began: When it was there.
        kills: Of replicas and gateway.
        outages: Of Redis.
        seen: The notifications, as they were last looked at.
    """

    began: float = field(default_factory=time.time)
    kills: int = 0
    outages: int = 0
    seen: list[Json] = field(default_factory=list)

    async def refused(self) -> bool:
        """Whether both were told to come again, and are waiting for an answer once more."""
        failed = [await peer.metric(_FAILED) for peer in self.peers]
        return min(failed) >= 1 and await self.gateway.metric(_IN_FLIGHT) == 2

    async def collapsed(self) -> bool:
        """Whether one of them met what the other one had made."""
        return await self.gateway.metric(_CREATED, source="once", result="duplicate") >= 1

    async def repeated(self) -> bool:
        """Whether there is a notification, and two repeats of it."""
        return len(await self.objects("again")) >= 3

    async def wait_paged(self, pages: Sequence[str]) -> None:
        """Wait until PagerDuty got these calls and no others."""
        await self.wait(lambda: [summary for summary, _ in self.outside.calls] == list(pages))

    async def post_all(
        self, groups: Sequence[str], instance: str = "a", *, over: bool = False
    ) -> None:
        """Tell both of an alert in each group, some at a time; `over` ends it."""
        for n in range(0, len(groups), 20):
            ends = time.time() if over else None
            changed = (alert(g, instance, self.began, ends) for g in groups[n : n + 20])
            await self.post(*changed)
            await asyncio.sleep(1)

    async def harm(self, server: RedisServer) -> None:
        """Kill replicas and gateway in turn, without end, and have Redis be away at times."""
        victims = (*self.replicas, self.gateway)
        while True:
            await asyncio.sleep(2)
            victim = victims[self.kills % len(victims)]
            await asyncio.to_thread(victim.kill)
            self.kills += 1
            await asyncio.sleep(1)
            victim.start()
            if self.kills % 2:
                await server.pause()
                self.outages += 1
                await asyncio.sleep(3)
                await server.resume()

    async def mend(self, server: RedisServer) -> None:
        """Have all of it run again."""
        await server.resume()
        for process in (*self.replicas, self.gateway):
            if not process.running:
                process.start()

    def why(self) -> str:
        """What is open, all notifications about it in their order, and what the programs say."""
        open_ = {self.outside.groups[key] for key in self.outside.open}
        about = sorted(
            f"{o['metadata']['creationTimestamp']} {o['spec']['subject']}: {o.get('status')}"
            for o in self.seen
            if o["spec"]["extensions"]["alertname"] in open_
        )
        tails = [process.tail() for process in (*self.replicas, self.gateway)]
        return "\n".join([str(self.left()), *about, *tails])

    def left(self) -> list[str]:
        """Return what was opened somewhere and is not closed there."""
        said = (
            f"{kind} {group}: {states}"
            for kind, groups in self.outside.said.items()
            for group, states in groups.items()
            if "RESOLVED" not in states
        )
        return [*sorted(self.outside.open), *said]

    def misordered(self) -> list[str]:
        """Return what PagerDuty took of an incident after something newer, by the order of the objects."""
        order = {o["metadata"]["name"]: order_of(o) for o in self.seen}
        newest: dict[str, str] = {}
        found = []
        for key, name in self.outside.taken:
            if order[name] < order[newest.get(key, name)]:
                found.append(f"{self.outside.groups[key]}: {name} after {newest[key]}")
            else:
                newest[key] = name
        return found

    async def settled(self) -> bool:
        """Whether nothing is open, and no notification unfinished."""
        self.seen = await self.objects("once")
        phases = {(o.get("status") or {}).get("phase") for o in self.seen}
        return not self.left() and phases <= {"Sent", "Failed", "PartiallySent"}

    async def joined(self) -> bool:
        """Whether each knows the other one."""
        return [await peer.peers() for peer in self.peers] == [2, 2]


@asynccontextmanager
async def pair_of(
    plane: ControlPlane,
    redis_url: str,
    folder: Path,
    *,
    route: Json | None = None,
    gates: Sequence[Gate] = (),
    attempts: int = 5,
    **more: Any,
) -> AsyncIterator[Pair]:
    """
    Start a pair and all behind it, and end it.

    Args:
        plane: Shared with other tests.
        redis_url: For the controller.
        folder: For files and logs.
        route: Of the routing file.
        gates: One before each Alertmanager's way to the gateway, or none.
        attempts: That a notification has.
        more: As `paging` takes it.
    """

    def config(made: Paging, n: int) -> Json:
        once, again = map(made.gateway.url, ("once", "again"))
        if gates:
            gates[n].gateway, once = once, f"http://127.0.0.1:{gates[n].port}"
        repeats = grouped("again", matchers=['alertname="Again"'], repeat_interval=f"{REPEAT}s")
        return {
            "route": grouped("once", routes=[repeats]),
            "receivers": [webhook("once", once), webhook("again", again)],
        }

    sources: dict[str, Json] = {
        "once": {"patience": "1s", "attempts": attempts}, "again": {"dedupWindow": f"{WINDOW}s"},
    }  # fmt: skip
    async with AsyncExitStack() as listening:
        for gate in gates:
            await gate.begin()
            listening.push_async_callback(gate.end)
        async with paging(
            plane, redis_url, folder, config, sources=sources, route=route or _DISK, peers=2,
            **more,
        ) as made:  # fmt: skip
            pair = Pair(**vars(made))
            await pair.wait(pair.joined)
            yield pair


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
    async with pair_of(control_plane, redis_url, tmp_path, script=(503, 503, 200)) as pair:
        here, outside = pair.here, pair.outside
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
        attempts = here.watcher.last(first["metadata"]["uid"]).attempts
        assert [a["status"] for a in attempts] == ["failed", "failed", "success"]


async def test_an_end_that_a_late_report_undid_is_told_again(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    One peer ends an incident while the other still tries to report that it has grown, and is then heard.

    That one reports the end again, as it was reported.
    """
    gates = early, late = Gate(), Gate()
    async with pair_of(control_plane, redis_url, tmp_path, gates=gates) as pair:
        outside = pair.outside
        await pair.post(alert("Disk", "a", pair.began))
        pages = ["[FIRING:1] Disk: disk is full"]
        await pair.wait_paged(pages)
        await asyncio.sleep(_SETTLE)

        # The one gives up a report at once, the other tries again for ten seconds.
        early.firing, late.firing = 400, 503
        await pair.post(alert("Disk", "b", pair.began))
        await until(lambda: late.refused > 0, "the other one tries")
        now = time.time()
        await pair.post(*(alert("Disk", i, pair.began, now) for i in ("a", "b")))
        pages.append("[RESOLVED:2] Disk: disk is full")
        await pair.wait_paged(pages)
        late.firing = 0
        pages += ["[FIRING:2] Disk: disk is full", pages[-1]]
        await pair.wait_paged(pages)
        assert not outside.open
        assert list(outside.opened.values()) == [2]


async def test_every_incident_that_ends_is_closed_whatever_dies(
    control_plane: ControlPlane, redis_binary: Path, tmp_path: Path
) -> None:
    """
    Groups fire, grow, flap and end, while both replicas and the gateway are killed and Redis is away.

    The books of PagerDuty, Slack and Teams say so: what was opened is closed, and nothing opens it again.
    """
    server = RedisServer(redis_binary)
    names = [f"G{n}" for n in range(GROUPS)]
    async with (
        server,
        pair_of(
            control_plane,
            server.url,
            tmp_path,
            route={"receiver": "all"},
            attempts=10,
            replicas=2,
            settings={"sharding": {"shards": 4}},
        ) as pair,  # fmt: skip
    ):
        outside = pair.outside
        harm = asyncio.create_task(pair.harm(server))
        await pair.post_all(names)
        await until(
            lambda: len(outside.opened) == GROUPS,
            lambda: f"opened: {outside.opened}",
            within=120,
        )
        await pair.post_all(names[::2], over=True)
        await pair.post_all(names[1::2], "b")
        await asyncio.sleep(_SETTLE)
        await pair.post_all(names[::4])
        await asyncio.sleep(_SETTLE)
        await pair.post_all(names, over=True)
        await pair.post_all(names[1::2], "b", over=True)
        harm.cancel()
        await asyncio.gather(harm, return_exceptions=True)
        assert pair.kills >= 3, "each was killed"
        assert pair.outages, "Redis was away"
        await pair.mend(server)
        await until(pair.settled, pair.why, within=150, every=1.0)
        await asyncio.sleep(_SETTLE)
        # Alertmanager may have told of something again meanwhile.
        await until(pair.settled, pair.why, within=60, every=1.0)
        assert pair.misordered() == []
        assert {kind: len(groups) for kind, groups in outside.said.items()} == {
            "slack": GROUPS, "teams": GROUPS,
        }  # fmt: skip
