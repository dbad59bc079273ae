"""Settings, and an outside in which nothing can be reached: for tests of how the product is wired."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry

from notifier.contract import Channel
from notifier.outside import Outside, RedisFactory, Stop
from notifier.router import Routed
from notifier.settings import Environment, Loaded, Settings
from syncer.configfile import build
from syncer.kube.client import KubeClient
from syncer.model.errors import Unavailable
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest
from syncer.runtime.clock import ServerTime, monotonic_clock
from syncer.runtime.stalls import LoopWatch
from tests.fakes.memorylog import MemoryClient, MemoryRedis


class NoCluster(KubeClient):
    """A client that cannot connect."""

    def __init__(self) -> None:
        # Nothing of the real one's session is made; the method that would use it is replaced.
        pass

    async def request(self, *_: Any, **__: Any) -> Any:
        """Find nobody; see `KubeClient.request`."""
        raise Unavailable("cannot connect (ECONNREFUSED)")


class NoRouter:
    """Knows one plan, and no channel."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self.in_force = ""
        self.doubts = 0
        self.channels = ()
        self.ended = asyncio.Event()

    async def plan(self, request: NotificationRequest, now: int) -> Routed:
        """Route to no channel."""
        return Routed(Plan((), "nowhere", "nowhere", now, request.content_hash()))

    def channel(self, name: str) -> Channel | None:
        """Know none."""
        return None

    def denial(self, name: str, namespace: str) -> str | None:
        """Refuse nobody."""
        return None

    def not_ready(self, name: str) -> str | None:
        """Have every channel ready."""
        return None

    async def run(self) -> None:
        """Follow no files, until `ended` is set."""
        await self.ended.wait()


class Checks:
    """The admin server's side of readiness, to be asked directly."""

    def __init__(self) -> None:
        self.checks: dict[str, Callable[[], str | None]] = {}
        self.details: dict[str, Callable[[], str | None]] = {}
        self.refresh: Callable[[], Awaitable[float]] | None = None

    def check(self, name: str, check: Callable[[], str | None]) -> None:
        """See `Admin.check`."""
        self.checks[name] = check

    def detail(self, name: str, check: Callable[[], str | None]) -> None:
        """See `Admin.detail`."""
        self.details[name] = check


def settings_with(**members: Any) -> Settings:
    """Settings of a file that holds only what it must, and these members."""
    return build(Settings, {"redis": {"url": "redis://127.0.0.1:1"}, **members}, constants=members)


def loaded_with(path: Path | None = None, **members: Any) -> Loaded:
    """Such a file, as a process has loaded it."""
    return Loaded(settings_with(**members), (), Environment("ns", Path("/routing.yaml")), path)


def unreachable(admin: Checks | None = None, router: NoRouter | None = None) -> Outside:
    """Return one, with a Redis in memory that is down."""
    redis = MemoryRedis(lambda: 0, down=True)
    return Outside(
        identity="host_8081",
        monotonic=monotonic_clock,
        wall=lambda: datetime.now(UTC),
        api_time=ServerTime(),
        objects=NoCluster(),
        leases=NoCluster(),
        redis=cast("RedisFactory", partial(MemoryClient, redis)),
        router=router or NoRouter(),
        audit=None,
        admin=admin or Checks(),
        registry=CollectorRegistry(),
        watch=LoopWatch(),
        egress_denied=lambda: 0,
        stop=Stop(),
    )
