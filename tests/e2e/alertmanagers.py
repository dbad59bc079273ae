"""
Real Alertmanagers, and stand-ins for PagerDuty, Slack and Teams that keep books.

Alertmanager is Debian's. `ALERTMANAGER=built` takes the newer one that `scripts/go/alertmanager` pins,
built once; any other value is a program to use instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from syncer.model.resource import Json
from tests.e2e.gateway import TOKEN, GatewayProcess
from tests.e2e.harness import NotifierProcess, Stage, stage, until
from tests.servers.controlplane import ControlPlane
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess

ROOT: Final = Path(__file__).resolve().parents[2]
_START: Final = 30.0
#: How PagerDuty answers an integration key that is none.
WRONG_KEY: Final = 400
#: Of a subject that the gateway makes of a group.
_HEAD: Final = re.compile(r"\[(FIRING|RESOLVED):\d+\] (\w+)")


def _built() -> Path:
    sys.path.insert(0, str(ROOT))
    from scripts.gobuild import Programs  # noqa: PLC0415 - it is on the path now

    programs = Programs(
        name="alertmanager",
        module=ROOT / "scripts" / "go" / "alertmanager",
        packages={"alertmanager": "github.com/prometheus/alertmanager/cmd/alertmanager"},
        cost="about 2 minutes on 2 cores",
    )
    return programs.ensure() / "alertmanager"


#: Built when this is imported, before the time limit of any test runs.
_GIVEN: Final = os.environ.get("ALERTMANAGER", "prometheus-alertmanager")
_ALERTMANAGER: Final = str(_built()) if _GIVEN == "built" else _GIVEN


class PagerDuty:
    """
    A receiver of pages.

    Attributes:
        calls: Summary of each page, and how it was answered.
        refusing: Every event is answered so, if it is not 0.
        open: Keys of incidents that are open. As PagerDuty documents it, a trigger opens what is not open,
            however late it is, and the end of what is not open is ignored.
        opened: How often each key was opened.
        groups: The group of each key, by the summary of its last event.
        taken: Key and notification of each event that was accepted, in order.
        said: Of Slack and Teams: the states that each was told of each group, in order.
        port: Where it listens.
    """

    def __init__(self, script: Sequence[int]) -> None:
        """Answer the first calls as the script says; its last entry repeats."""
        self.calls: list[tuple[str, int]] = []
        self.refusing = 0
        self.open: set[str] = set()
        self.opened: Counter[str] = Counter()
        self.groups: dict[str, str] = {}
        self.taken: list[tuple[str, str]] = []
        self.said: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.port = 0
        self._script = tuple(script)

    async def page(self, request: web.Request) -> web.Response:
        """Book a call and answer as the script says."""
        event = await request.json()
        code = self._script[min(len(self.calls), len(self._script) - 1)]
        code = self.refusing or code
        if code == 202:
            self._take(event["event_action"], event["dedup_key"])
            # Alertmanager's own integration has none.
            name = event["payload"]["custom_details"].get("correlation_id", "")
            self.taken.append((event["dedup_key"], name))
            heads = _HEAD.findall(event["payload"]["summary"])
            self.groups.update((event["dedup_key"], group) for _, group in heads)
        summary = event["payload"]["summary"].removeprefix("Escalation: ")
        self.calls.append((summary, code))
        if code == WRONG_KEY:
            errors = ["Length of 'routing_key' is incorrect (should be 32 characters)"]
            return web.json_response({"status": "invalid event", "errors": errors}, status=code)
        return web.json_response({"status": "success", "dedup_key": "k"}, status=code)

    async def say(self, request: web.Request) -> web.Response:
        """Book a message of Slack or Teams."""
        state, group = _HEAD.findall(await request.text())[0]
        self.said[request.match_info["kind"]][group].append(state)
        return web.Response(text="ok")

    def _take(self, action: str, key: str) -> None:
        if action == "resolve":
            self.open.discard(key)
        elif key not in self.open:
            self.open.add(key)
            self.opened[key] += 1


@asynccontextmanager
async def pagerduty(script: Sequence[int]) -> AsyncIterator[PagerDuty]:
    """Serve one on a loopback port."""
    here = PagerDuty(script)
    app = web.Application()
    app.router.add_post("/v2/enqueue", here.page)
    app.router.add_post("/say/{kind}", here.say)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    here.port = free_port()
    await web.TCPSite(runner, "127.0.0.1", here.port).start()
    try:
        yield here
    finally:
        await runner.cleanup()


def _program() -> str:
    """Return Alertmanager as the environment says."""
    found = shutil.which(_ALERTMANAGER)
    assert found, f"{_ALERTMANAGER} is missing; `. scripts/lib.sh; ensure_alertmanager` installs it"
    return found


class Alertmanager(ServerProcess):
    """
    One Alertmanager.

    Attributes:
        port: Of its API.
        peer: Of its gossip.
    """

    def __init__(self, folder: Path, config: Json, *, peers: Sequence[int] | None = None) -> None:
        """
        Write its file; nothing runs yet.

        Args:
            folder: Is made, for the file, the data and the log.
            config: Its configuration.
            peers: Gossip ports of others that run; None for one that belongs to no cluster.
        """
        self.port, self.peer = free_port(), free_port()
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        here = f"127.0.0.1:{self.peer}"
        cluster = ["--cluster.listen-address="]
        if peers is not None:
            cluster = [
                f"--cluster.listen-address={here}", f"--cluster.advertise-address={here}",
                "--cluster.peer-timeout=200ms", "--cluster.settle-timeout=5s",
                "--cluster.gossip-interval=50ms", "--cluster.pushpull-interval=1s",
                *(f"--cluster.peer=127.0.0.1:{peer}" for peer in peers),
            ]  # fmt: skip
        super().__init__(
            folder.name,
            [
                _program(), f"--config.file={folder / 'config.json'}",
                f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}",
                *cluster,
            ],
            log=folder / "log",
        )  # fmt: skip

    async def begin(self) -> None:
        """Start it, and wait until it serves its API."""
        await asyncio.to_thread(self.start, lambda: listens(self.port), timeout=_START)

    async def post(self, *alerts: Json) -> None:
        """Post alerts, as Prometheus does."""
        url = f"http://127.0.0.1:{self.port}/api/v2/alerts"
        async with aiohttp.ClientSession() as session, session.post(url, json=alerts) as answer:
            assert answer.status == 200, await answer.text()

    async def metric(self, name: str) -> float:
        """Sum over the series of a metric that are about webhooks."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            text = await answer.text()
        found = re.findall(
            rf'^{name}\{{[^}}]*integration="webhook"[^}}]*\}} (\S+)$', text, re.MULTILINE
        )
        return sum(map(float, found))

    async def peers(self) -> int:
        """How many members its cluster has, by its own word."""
        url = f"http://127.0.0.1:{self.port}/api/v2/status"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            cluster = (await answer.json())["cluster"]
        return len(cluster["peers"]) if cluster["status"] == "ready" else 0


def source(here: Stage, name: str, *, attempts: int = 5, seconds: int = 1, **more: Any) -> Json:
    """Return a source of the gateway for Alertmanagers, with the retry policy of what it creates."""
    policy = {
        "maxAttempts": attempts, "initialBackoffSeconds": seconds, "backoffMultiplier": 1,
    }  # fmt: skip
    common = {"kind": "alertmanager", "namespace": here.namespace, "retryPolicy": policy}
    return {"name": name, **common, **more}


def routed(here: Stage, outside: PagerDuty, route: Json, **more: Any) -> None:
    """
    Write a routing file with the receivers `pager`, `all` (Slack and Teams, too) and `console`.

    `more` are members of the entry of PagerDuty.
    """
    base = f"http://127.0.0.1:{outside.port}"
    for name, secret in (
        ("pager", "R" * 32), ("slack-x", f"{base}/say/slack"), ("teams-x", f"{base}/say/teams"),
    ):  # fmt: skip
        (here.folder / "credentials" / name).write_text(secret)
    pager = [{"credentialRef": "pager", "url": f"{base}/v2/enqueue", **more}]
    receivers: list[Json] = [
        {"name": "pager", "pagerdutyConfigs": pager},
        {
            "name": "all", "pagerdutyConfigs": pager,
            "slackConfigs": [{"credentialRef": "slack-x"}],
            "teamsConfigs": [{"credentialRef": "teams-x"}],
        },
        {"name": "console", "consoleConfigs": [{"enabled": True}]},
    ]  # fmt: skip
    (here.folder / "routing.yaml").write_text(json.dumps({"route": route, "receivers": receivers}))


def alert(name: str, instance: str, starts: float, ends: float | None = None) -> Json:
    """
    Return an alert to post.

    Args:
        name: Its group, where groups are by name.
        instance: Tells the members of a group apart.
        starts: Unix seconds.
        ends: Unix seconds; None for an hour from now.
    """
    return {
        "labels": {"alertname": name, "instance": instance, "severity": "critical"},
        "annotations": {"summary": "disk is full"},
        "startsAt": _stamp(starts),
        "endsAt": _stamp(time.time() + 3600 if ends is None else ends),
        "generatorURL": "http://prometheus.example/graph",
    }


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03}Z"


@dataclass(eq=False)
class Paging:
    """Alertmanagers, the gateway, the controller, and the outside."""

    here: Stage
    outside: PagerDuty
    gateway: GatewayProcess
    replicas: list[NotifierProcess]
    peers: list[Alertmanager] = field(default_factory=list)

    @property
    def notifier(self) -> NotifierProcess:
        """The controller, or the first of its replicas."""
        return self.replicas[0]

    async def post(self, *alerts: Json) -> None:
        """Tell all Alertmanagers the same."""
        for peer in self.peers:
            await peer.post(*alerts)

    async def wait(
        self, condition: Callable[[], bool | Awaitable[bool]], within: float = 60
    ) -> None:
        """Wait for a condition, and say what was paged if it does not come."""
        await until(condition, self.what, within=within)

    async def objects(self, source: str = "") -> list[Json]:
        """All notifications, or those of a source."""
        query = f"?labelSelector=notification-ledger/source={source}" if source else ""
        answer = await self.here.api.ask("GET", f"{self.here.api.requests}{query}")
        return list(answer.body["items"])

    async def over(self) -> bool:
        """Whether no notification is still to be sent."""
        phases = {one.get("status", {}).get("phase") for one in await self.objects()}
        return phases <= {"Sent", "Failed"}

    async def wait_objects(self, count: int) -> None:
        """Wait until there are so many notifications."""

        async def there() -> bool:
            return len(await self.objects()) >= count

        await until(there, self.what)

    def what(self) -> str:
        """What was paged, and what the programs say."""
        called = f"open: {self.outside.open}; called: {self.outside.calls[-20:]}"
        return f"{called}; {self.gateway.tail()}; {self.notifier.tail()}"


@asynccontextmanager
async def paging(  # noqa: PLR0913 - each of them is for one part of it
    plane: ControlPlane,
    redis_url: str,
    folder: Path,
    config: Callable[[Paging, int], Json],
    *,
    sources: Mapping[str, Json] | None = None,
    route: Json | None = None,
    script: Sequence[int] = (202,),
    peers: int = 1,
    replicas: int = 1,
    settings: Mapping[str, Any] | None = None,
    **entry: Any,
) -> AsyncIterator[Paging]:
    """
    Start everything from Alertmanager to PagerDuty, and end it.

    Args:
        plane: Shared with other tests.
        redis_url: Shared, too.
        folder: For files and logs.
        config: Returns the configuration of each Alertmanager, by its number.
        sources: Members of the gateway's sources, by name; by default one, `am`.
        route: Of the routing file; everything goes to the pager by default.
        script: How PagerDuty answers the first calls; the last one repeats.
        peers: How many Alertmanagers there are; several are a cluster.
        replicas: Of the controller.
        settings: Of each replica.
        entry: Members of PagerDuty's entry in the routing file.
    """
    async with (
        stage(plane, redis_url, folder / "stage", sampled=False) as here,
        pagerduty(script) as outside,
    ):
        named = [source(here, name, **more) for name, more in (sources or {"am": {}}).items()]
        gateway = GatewayProcess(folder / "gw", plane.kubeconfig, named)
        made = Paging(
            here, outside, gateway, [here.notifier(**(settings or {})) for _ in range(replicas)]
        )
        routed(here, outside, route or {"receiver": "pager"}, **entry)
        for n in range(peers):
            known = [peer.peer for peer in made.peers] if peers > 1 else None
            folder_of = folder / f"alertmanager-{n}"
            made.peers.append(Alertmanager(folder_of, config(made, n), peers=known))
        try:
            for process in (*made.replicas, gateway):
                process.start()
            for process in (*made.replicas, gateway):
                await process.wait_ready()
            for peer in made.peers:
                await peer.begin()
            yield made
        finally:
            plane.heal()
            for peer in made.peers:
                await asyncio.to_thread(peer.kill)
            gateway.kill()


def to_gateway(here: Paging, _n: int) -> Json:
    """Return the configuration of an Alertmanager that sends all to the source `am`."""
    return {"route": grouped("am"), "receivers": [webhook("am", here.gateway.url("am"))]}


def webhook(name: str, url: str) -> Json:
    """Return a receiver of Alertmanager's that is a source of the gateway."""
    http = {"authorization": {"credentials": TOKEN}}
    return {"name": name, "webhook_configs": [{"url": url, "http_config": http}]}


def grouped(receiver: str, **more: Any) -> Json:
    """Return a route by the name of alerts, which is flushed every second and repeats hourly."""
    return {
        "receiver": receiver, "group_by": ["alertname"], "group_wait": "1s",
        "group_interval": "1s", "repeat_interval": "1h", **more,
    }  # fmt: skip


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
