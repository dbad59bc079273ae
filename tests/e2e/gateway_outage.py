"""
Alertmanager, the gateway and the API server, two of which are taken away: what becomes of each group.

Groups fire in three parts: while all is well, while the API server is away, and when it is back. In each
part the gateway is killed in the middle of its work and started again at once, as a kubelet would, and
again and again during the outage. Alertmanager is real and left alone: its retries are the only queue.
Every group must be delivered, and none twice, by the receiver's own book.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.e2e.alertmanagers import Alertmanager, alert, grouped, webhook
from tests.e2e.gateway import GatewayProcess
from tests.e2e.harness import Stage, stage, until
from tests.servers.controlplane import ControlPlane

#: Seconds between two kills while the API server is away.
_BETWEEN: Final = 5.0
_IN_FLIGHT: Final = "notification_ledger_gateway_requests_in_flight"
_RESULTS: Final = "notification_ledger_gateway_notifications_total"


@dataclass(slots=True)
class Tale:
    """
    What has happened.

    Attributes:
        groups: How many have fired.
        kills: SIGKILLs of the gateway.
        requests: Of Alertmanager, retries included.
        failed: Of these, what was not answered 200.
        collapsed: Requests that found the notification of an earlier one.
        objects: Notifications that were made.
        delivered: Calls that the receiver got, by group.
        lost: Groups of which it got none.
        seconds: From the first alert to the last delivery.
    """

    groups: int
    kills: int = 0
    requests: int = 0
    failed: int = 0
    collapsed: int = 0
    objects: int = 0
    delivered: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        """Groups that were not delivered."""
        return self.groups - len(self.delivered)

    @property
    def twice(self) -> int:
        """Groups that were delivered more than once."""
        return sum(n > 1 for n in self.delivered.values())


class _Play:
    """The parts, and what is done to them."""

    def __init__(self, here: Stage, folder: Path, groups: int) -> None:
        source = {"name": "am", "kind": "alertmanager", "namespace": here.namespace}
        self.here = here
        self.tale = Tale(groups)
        self.gateway = GatewayProcess(folder / "gw", here.plane.kubeconfig, [source])
        route = grouped("ledger", group_wait="0s", group_interval="5s")
        config = {"route": route, "receivers": [webhook("ledger", self.gateway.url("am"))]}
        self.alertmanager = Alertmanager(folder / "alertmanager", config)

    async def fire(self, numbers: Sequence[int]) -> None:
        """Post alerts, each of which is a group."""
        now = time.time()
        await self.alertmanager.post(*(alert(f"Group-{n:04}", "a", now) for n in numbers))

    async def kill(self) -> None:
        """Kill the gateway and start it again; what it has counted is lost with it."""
        self.tale.collapsed += await self._collapsed()
        await asyncio.to_thread(self.gateway.kill)
        self.tale.kills += 1
        await asyncio.to_thread(self.gateway.start)

    async def kill_after(self, count: int) -> None:
        """Kill it as soon as more than so many groups have their object: the next are under way."""
        made = self.here.watcher.versions
        await until(
            lambda: len(made) > count, lambda: f"some are created; {self.gateway.tail()}",
            within=90, every=0.002,
        )  # fmt: skip
        await self.kill()

    async def outage(self, seconds: float, groups: Sequence[int]) -> None:
        """Take the API server away, and have these fire meanwhile; the gateway is killed all the time."""
        ends = time.monotonic() + seconds
        await self.here.plane.kill_apiserver()
        await self.fire(groups)
        while (left := ends - time.monotonic()) > 0:
            await asyncio.sleep(min(_BETWEEN, left))
            await until(self._waiting, lambda: f"requests wait; {self.gateway.tail()}", within=60)
            await self.kill()

    async def settled(self) -> None:
        """Wait until Alertmanager has nothing left to send, and everything is delivered."""
        await until(
            self._sent, lambda: f"all is sent; {self.gateway.tail()}", within=180, every=0.5
        )
        seen = self.here.watcher.versions
        await until(
            lambda: all(self.here.watcher.phase(uid) == "Sent" for uid in seen),
            lambda: f"all is delivered: {Counter(map(self.here.watcher.phase, seen))}",
            within=180, every=0.5,
        )  # fmt: skip

    async def told(self) -> Tale:
        """Count."""
        am, tale = self.alertmanager, self.tale
        tale.requests = int(await am.metric("alertmanager_notification_requests_total"))
        tale.failed = int(await am.metric("alertmanager_notification_requests_failed_total"))
        tale.collapsed += await self._collapsed()
        listed = await self.here.api.ask("GET", self.here.api.requests)
        tale.objects = len(listed.body["items"])
        tale.delivered = Counter(call.subject for call in self.here.receiver.book)
        return tale

    async def _collapsed(self) -> int:
        return int(await self.gateway.metric(_RESULTS, source="am", result="duplicate"))

    async def _waiting(self) -> bool:
        return await self.gateway.metric(_IN_FLIGHT) > 0

    async def _sent(self) -> bool:
        am = self.alertmanager
        flushes = await am.metric("alertmanager_notifications_total")
        failed = await am.metric("alertmanager_notifications_failed_total")
        return (
            flushes - failed >= self.tale.groups
            and len(self.here.watcher.versions) >= self.tale.groups
            and not await self._waiting()
        )


async def play(
    plane: ControlPlane,
    redis_url: str,
    folder: Path,
    *,
    groups: int,
    away: float,
    say: Callable[[str], None] = lambda _text: None,
) -> Tale:
    """
    Have it happen.

    Args:
        plane: Whose API server is taken away; it is back at the end.
        redis_url: For the controller.
        folder: For files.
        groups: How many fire.
        away: Seconds for which there is no API server.
        say: Told how far it is.
    """
    async with stage(plane, redis_url, folder / "stage", sampled=False) as here:
        act = _Play(here, folder, groups)
        third = groups // 3
        notifier = here.notifier().start()
        act.gateway.start()
        try:
            await notifier.wait_ready()
            await act.gateway.wait_ready()
            await act.alertmanager.begin()
            began = time.monotonic()
            say(f"{third} of {groups} groups fire")
            await act.fire(range(third))
            await act.kill_after(0)
            await until(
                lambda: len(here.watcher.versions) >= third, "the first third is created", within=90
            )
            say(f"the API server is away for {away:g} s")
            await act.outage(away, range(third, 2 * third))
            back = asyncio.create_task(asyncio.to_thread(plane.heal))
            await act.fire(range(2 * third, groups))
            await act.kill_after(third)
            await back
            say("all is back")
            await act.settled()
            act.tale.seconds = time.monotonic() - began
            return await act.told()
        finally:
            with contextlib.suppress(Exception):
                await asyncio.to_thread(plane.heal)
            await asyncio.to_thread(act.alertmanager.kill)
            await asyncio.to_thread(act.gateway.kill)
