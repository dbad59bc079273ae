"""
The outside world of a real process: its ports are sockets, files, threads and signals.

The order matters. The health port comes first, because it is part of this process's identity, and only one
process can hold it. Then the files are checked, so that a misconfigured process ends before it contacts a
server. Then come the parts that need the running event loop.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from notifier.app import Parts
from notifier.audit.assembly import Outlets
from notifier.channels.egress import EgressGuard
from notifier.channels.file import FileChannel
from notifier.channels.http import HttpClient
from notifier.channels.log import LogChannel
from notifier.channels.registry import ChannelRegistry
from notifier.outside import Outside, RedisFactory, Stop
from notifier.process.lifecycle import Lifecycle
from notifier.router import LiveRouter
from notifier.routing.reload import Routing
from notifier.settings import Loaded, Settings
from notifier.version import USER_AGENT, __version__
from syncer.kube.client import KubeClient
from syncer.ledger.client import LedgerClient
from syncer.model.errors import ConfigError, reason_of
from syncer.runtime.clock import ServerTime, monotonic_clock
from syncer.runtime.connections import binding
from syncer.runtime.health import AdminServer, process_registry
from syncer.runtime.stalls import LoopWatch

if TYPE_CHECKING:
    from notifier.channels.email import MailClient

logger = logging.getLogger("ledger")


async def run(loaded: Loaded, watch: LoopWatch) -> None:
    """
    Run the product in this process until SIGTERM or SIGINT; `watch` observes the running loop.

    Raises:
        ConfigError: something in the files cannot be used, or the store belongs to another installation.
    """
    async with production(loaded, watch) as outside:
        await Lifecycle(Parts(loaded, outside)).run()


@asynccontextmanager
async def production(loaded: Loaded, watch: LoopWatch) -> AsyncIterator[Outside]:
    """
    Create the outside world of this process, and close it at the end.

    Raises:
        ConfigError: something in the files cannot be used, or a port is taken.
    """
    settings = loaded.settings
    async with AsyncExitStack() as stack:
        # For a startup that fails; after a successful one the watch is closed first, see below.
        stack.callback(watch.close)
        stop = Stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.requested.set)
        registry = process_registry()
        admin = AdminServer(registry)
        stack.push_async_callback(admin.close)
        identity = f"{socket.gethostname()}_{await _bind(admin, settings, stop)}"

        guard = EgressGuard(settings.egress.mode, settings.egress.allow)
        routing = Routing(
            loaded.environment.routing_path,
            Path(settings.delivery.credentials.dir),
            native=settings.delivery.native,
        )
        file = _file_channel(settings)
        if file is not None:
            stack.callback(file.close)
        http_client, mail = _clients(settings, guard)
        if mail is not None:
            stack.callback(mail.close)
        stack.push_async_callback(http_client.aclose)
        audit = Outlets(loaded, guard) if settings.auditing else None
        if audit is not None:
            stack.push_async_callback(audit.close)
        redis = _redis(settings, stack)
        routing.load_initial()
        logger.info(
            "starting",
            extra={
                "version": __version__,
                "identity": identity,
                "namespaces": loaded.namespaces or "*",
                "lease_seconds": settings.lease_duration,
                "loop": type(asyncio.get_running_loop()).__module__.partition(".")[0],
            },
        )

        api_time = ServerTime(monotonic_clock)
        objects, leases = [
            await stack.enter_async_context(
                await KubeClient.connect(
                    loaded.environment.kubeconfig,
                    user_agent=f"{USER_AGENT} ({purpose})",
                    on_time=api_time.set,
                    # The client of Leases never yields: a Lease that is not renewed in time is lost.
                    yields=purpose == "objects",
                    watches=len(loaded.namespaces or ("*",)) + 1,
                )
            )
            for purpose in ("objects", "leases")
        ]
        # Closed first, because the time that the other parts take to close is not a stall.
        stack.callback(watch.close)
        yield Outside(
            identity=identity,
            monotonic=monotonic_clock,
            wall=lambda: datetime.now(UTC),
            api_time=api_time,
            objects=objects,
            leases=leases,
            redis=redis,
            router=LiveRouter(routing, _channels(settings, routing, http_client, mail, file)),
            audit=audit,
            admin=admin,
            registry=registry,
            watch=watch,
            egress_denied=lambda: guard.denied,
            stop=stop,
        )


async def _bind(admin: AdminServer, settings: Settings, stop: Stop) -> int:
    """Listen for health and metrics; returns the health port."""
    health = settings.controller.health_probe_addr
    metrics = settings.controller.metrics_addr
    # A probe may come before the product exists, which later replaces these checks with its own.
    admin.check("shutdown", lambda: "draining" if stop.requested.is_set() else None)
    for name in ("redis", "cluster", "shards"):
        admin.check(name, lambda: "not connected yet")
    with binding(health, "controller.healthProbeAddr"):
        port = await admin.bind(health.host, health.port, health=True, metrics=health == metrics)
    if health != metrics:
        with binding(metrics, "controller.metricsAddr"):
            await admin.bind(metrics.host, metrics.port, health=False, metrics=True)
    return port


def _file_channel(settings: Settings) -> FileChannel | None:
    file = settings.delivery.file
    if not file.output_dir:
        return None
    channel = FileChannel(file.output_dir, file.format, timeout_s=file.timeout)
    channel.prepare()
    return channel


def _clients(settings: Settings, guard: EgressGuard) -> tuple[HttpClient, MailClient | None]:
    ca_file = settings.egress.ca_bundle
    try:
        http_client = HttpClient(guard=guard, ca_file=ca_file, connections=settings.delivery.total)
        if not settings.delivery.email.enabled:
            return http_client, None
        from notifier.channels.email import MailClient  # noqa: PLC0415 (1 MiB, and off by default)

        return http_client, MailClient(guard=guard, ca_file=ca_file)
    except OSError as error:
        raise ConfigError(f"cannot be read: {reason_of(error)}", path="egress.caBundle") from error


def _redis(settings: Settings, stack: AsyncExitStack) -> RedisFactory:
    """
    Return the factory of the Redis client; `stack` closes the client.

    Raises:
        ConfigError: the URL cannot be used.
    """
    make = partial(
        LedgerClient,
        settings.redis.url.get_secret_value(),
        prefix=settings.redis.key_prefix,
        timeout=settings.redis.timeout,
        confirming=settings.redis.durability == "strict",
        probing=True,
    )
    # Checks the URL before any server is contacted; nothing is connected.
    make()

    def closed_at_the_end(
        *,
        fitness: Callable[[dict[str, str]], str | None],
        on_change: Callable[[], None],
        on_wake_up: Callable[[str], None],
    ) -> LedgerClient:
        client = make(fitness=fitness, on_change=on_change, on_wake_up=on_wake_up)
        stack.push_async_callback(client.close)
        return client

    return closed_at_the_end


def _channels(
    settings: Settings,
    routing: Routing,
    http_client: HttpClient,
    mail: MailClient | None,
    file: FileChannel | None,
) -> ChannelRegistry:
    delivery = settings.delivery
    return ChannelRegistry(
        lambda: routing.current,
        http_client,
        http_timeout=delivery.slack.timeout,
        file=file,
        log=LogChannel(delivery.log.format) if delivery.log.enabled else None,
        native=delivery.native,
        mail=mail,
        mail_timeout=delivery.email.timeout,
        dedup_namespace=delivery.pagerduty.dedup_namespace,
    )
