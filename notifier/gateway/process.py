"""
The process of the gateway: files, ports, signals, and an orderly end.

It has no state and no Redis, and owns no Lease: any number of replicas run side by side. It is ready as
soon as it listens, even if the API server does not answer: requests wait here for the API server, which
they could not do if the Service removed the pod.

At SIGTERM it stops being ready first, and accepts requests for as long as a Service needs to notice;
then the port closes, and requests in flight are answered.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from notifier.gateway.access import Access
from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.reviews import Reviews
from notifier.gateway.server import Gateway
from notifier.gateway.settings import Loaded
from notifier.gateway.silence import LABEL, Expectation
from notifier.gateway.submit import KubeObjects, Submitter
from notifier.gateway.tls import Tls
from notifier.version import USER_AGENT, __version__
from syncer.kube.client import KubeClient
from syncer.kube.leases import Leases
from syncer.model.errors import ConfigError
from syncer.runtime.clock import monotonic_clock
from syncer.runtime.connections import binding
from syncer.runtime.health import AdminServer, process_registry
from syncer.runtime.stalls import LoopWatch
from syncer.runtime.supervise import beside, restarting
from syncer.settings import own_namespace

logger = logging.getLogger("ledger.gateway")


async def run(loaded: Loaded, watch: LoopWatch) -> None:
    """
    Run until SIGTERM.

    Raises:
        ConfigError: a secret cannot be read, an address is in use, or no API server is configured.
    """
    settings = loaded.settings
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        stack.callback(watch.close)
        registry = process_registry()
        admin = AdminServer(registry)
        stack.push_async_callback(admin.close)
        listening = False
        admin.check("listening", lambda: None if listening else "not listening yet")
        admin.check("shutdown", lambda: "draining" if stop.is_set() else None)
        health, metrics = settings.health_probe_addr, settings.metrics_addr
        with binding(health, "healthProbeAddr"):
            await admin.bind(health.host, health.port, health=True, metrics=False)
        with binding(metrics, "metricsAddr"):
            await admin.bind(metrics.host, metrics.port, health=False, metrics=True)
        tls = tls_of(loaded)
        sources = {
            name: Access(
                auth,
                f"sources[{number}].auth",
                monotonic_clock,
                source=source,
                review=lambda *asked: reviews.check(*asked),  # noqa: PLW0108 - `reviews` is made below
                tls=tls,
            )
            for number, (name, (source, auth)) in enumerate(loaded.sources.items())
        }
        client = await stack.enter_async_context(
            await KubeClient.connect(
                os.environ.get("KUBECONFIG"), user_agent=f"{USER_AGENT} (gateway)"
            )
        )
        reviews = Reviews(client, monotonic_clock)
        stack.push_async_callback(reviews.close)
        submitter = Submitter(KubeObjects(client), time.time)
        stack.push_async_callback(submitter.close)
        admin.detail("apiserver", lambda: submitter.problem or None)
        series = GatewayMetrics(registry)
        expectations = _expectations(loaded, client, submitter, series)
        gateway = Gateway(
            sources,
            submitter,
            series,
            settings.limits,
            tls=tls.context if tls is not None else None,
            now=time.time,
            heard=lambda name: expectations[name].heard() if name in expectations else None,
        )
        stack.push_async_callback(gateway.close)
        for name, expectation in expectations.items():
            watching = restarting(
                f"the watch for {name}", expectation.round, every=expectation.step
            )
            await stack.enter_async_context(beside(watching))
        with binding(settings.listen, "listen"):
            port = await gateway.bind(*settings.listen)
        listening = True
        gc.freeze()
        logger.info(
            "the gateway listens",
            extra={"version": __version__, "port": port, "sources": sorted(sources)},
        )
        await stop.wait()
        logger.info("the gateway is shutting down", extra={"in_flight": gateway.in_flight})
        await asyncio.sleep(settings.shutdown_delay)


def tls_of(loaded: Loaded, clock: Callable[[], float] = monotonic_clock) -> Tls | None:
    """Return the certificates of the gateway, None without TLS; ConfigError if one cannot be used."""
    given = loaded.settings.tls
    if given is None:
        return None
    authorities = {
        name: (asked.ca_files, f"sources[{number}].auth.clientCertificate.caFiles")
        for number, (name, (_, auth)) in enumerate(loaded.sources.items())
        if (asked := auth.client_certificate) is not None
    }
    return Tls(given, authorities, clock)


def _expectations(
    loaded: Loaded, client: KubeClient, submitter: Submitter, metrics: GatewayMetrics
) -> dict[str, Expectation]:
    """
    Return the watchers of the sources that are expected to send.

    Raises:
        ConfigError: there are some, but the namespace of their Leases is unknown.
    """
    expected = [source for source, _ in loaded.sources.values() if source.expect_every]
    given = loaded.settings.leases
    namespace = given.namespace or own_namespace()
    if expected and not namespace:
        raise ConfigError(
            "is required outside a pod, where a source has expectEvery", path="leases.namespace"
        )
    leases = Leases(client, namespace, (LABEL, given.prefix))
    return {
        one.name: Expectation(one, leases, submitter, metrics, clock=monotonic_clock, now=time.time)
        for one in expected
    }
