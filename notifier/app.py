"""
The composition root: settings become adapters, adapters become loops, loops get an owner.

Order of the start: the health port first (it is our identity), then everything that can be wrong in
the files (exit 1, before anything is touched), then the servers we depend on, each waited for with its
reason in `/readyz`. Nothing is sent before Redis has said whose it is, the objects are listed, and a
lease is held.

Order of the end (SIGTERM): no new work; attempts under way end and are recorded; statuses are written;
the lease is released; exit 0. Each step has its share of the grace period. What cannot be recorded in
time is left open in the log, where the next owner finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from notifier.audit.assembly import Audit
from notifier.channels.egress import EgressGuard, EgressMode
from notifier.channels.email import MailClient
from notifier.channels.file import FileChannel
from notifier.channels.http import HttpClient
from notifier.channels.log import LogChannel
from notifier.channels.registry import ChannelRegistry
from notifier.content.sanitise import sanitise
from notifier.dispatch.breaker import Breakers
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.retry import delay
from notifier.dispatch.wakeups import WakeUps
from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.process.pause import PauseSwitch
from notifier.reconciler.controller import Controller
from notifier.reconciler.ports import DeliveryBounds
from notifier.reporter import EventReporter
from notifier.router import LiveRouter, Router
from notifier.routing.reload import Routing
from notifier.settings import Loaded
from notifier.version import __version__
from syncer.kube.client import KubeClient
from syncer.kube.crd import missing_fields, missing_rules, refused_values
from syncer.kube.events import EventLimits, EventRecorder
from syncer.kube.leases import Lease, LeaseTerm, LeaseTimings
from syncer.kube.notification_requests import StatusStore
from syncer.kube.reflector import Reflector
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.ledger.preflight import Severity, preflight, unfit
from syncer.metrics import HOLDS, QUARANTINED, SyncMetrics
from syncer.model.errors import (
    ConfigError,
    ContractError,
    Gone,
    PortError,
    Unauthorised,
)
from syncer.model.resource import NotificationRequest, RetryPolicy
from syncer.rules.resync import Bounds
from syncer.rules.text import neutral
from syncer.runtime.clock import LedgerTime, MonotonicClock, ServerTime, monotonic_clock
from syncer.runtime.failpoints import Failpoint, armed, failpoint
from syncer.runtime.health import AdminServer, raise_descriptor_limit
from syncer.runtime.offload import SWITCH_INTERVAL
from syncer.runtime.stalls import LoopWatch
from syncer.runtime.supervise import critical, restarting
from syncer.sharding.installation import Installation
from syncer.sharding.manager import ShardKeeper
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache
from syncer.sync.claim import Reconciler
from syncer.sync.clock_skew import Clocks
from syncer.sync.recorder import Recorder
from syncer.sync.resync import Resync
from syncer.sync.retention import Retention
from syncer.sync.scrubber import Scrubber
from syncer.sync.status_writer import Limits, SyncLoop

logger = logging.getLogger("ledger")

#: Enough that the claims of a start share round trips: 500 took half the time that 16 need.
WORKERS: Final = 64
#: Logs in one question of a sweep: claims and intents wait behind it for a few milliseconds.
_SWEEP_PAGE: Final = 256
#: Seconds between looks at how far the start-up reconciliation is, and after which it is said late.
_RECONCILED_POLL: Final = 0.25
_RECONCILED_LATE: Final = 600.0
#: Seconds after which shards are taken although objects are still being listed.
_LONG_LIST: Final = 1.0
_CONNECT_PAUSE: Final = 1.0
#: Seconds between looks at how late the event loop is.
_PULSE: Final = 0.5
#: Seconds of the drain for recording, publishing and releasing, after the sends have ended.
_DRAIN_RECORD: Final = 5.0
_DRAIN_SYNC: Final = 8.0
#: Events and audit have theirs side by side.
_DRAIN_EVENTS: Final = 2.0
_DRAIN_AUDIT: Final = 3.0


class Stopped(Exception):
    """The process was asked to end and has drained."""


@dataclass(slots=True)
class Progress:
    """What the start has reached; `/readyz` tells it."""

    redis: str | None = "not connected yet"
    cluster: str | None = "not connected yet"
    shards: str | None = "no shard is looked at yet"
    draining: bool = False


class App:
    """One process: everything it owns, and its life."""

    def __init__(self, loaded: Loaded, watch: LoopWatch | None = None) -> None:
        """
        Build what needs no server; `watch` is that of the loop in which it will run.

        Raises:
            ConfigError: something in the files cannot be used.
        """
        settings, environment = loaded.settings, loaded.environment
        self.loaded = loaded
        self.settings = settings
        self.progress = Progress()
        self.watch = watch or LoopWatch()
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.metrics = SyncMetrics(self.registry)
        self.watch.stalled = self.metrics.loop_stalls.observe
        self.delivery_metrics = DeliveryMetrics(self.registry)
        self.delivery_metrics.egress_denied.read = lambda: guard.denied
        self.delivery_metrics.build.labels(__version__).set(1)
        #: How many notifications are held, by the reason.
        self.holds: Callable[[], Counter[str]] = Counter
        self.admin = AdminServer(self.registry, refresh=self._refresh)
        self.routing = Routing(
            environment.routing_path,
            Path(settings.delivery.credentials.dir),
            native=settings.delivery.native,
        )
        #: Every clock of the process: deadlines and waits, and the time that Leases show.
        self.monotonic: MonotonicClock = monotonic_clock
        self.started = self.monotonic()
        self.wall: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.api_time = ServerTime(self.monotonic)
        self.time = LedgerTime(self.monotonic, witness=self.api_time)
        self.clocks = Clocks(self.api_time)
        self.file = self._file_channel()
        guard = EgressGuard(EgressMode(settings.egress.mode), settings.egress.allow)
        try:
            self.http_client = HttpClient(
                guard=guard,
                ca_file=settings.egress.ca_bundle,
                connections=settings.delivery.total,
            )
            self.mail = (
                MailClient(guard=guard, ca_file=settings.egress.ca_bundle)
                if settings.delivery.email.enabled
                else None
            )
        except OSError as error:
            raise ConfigError(
                f"cannot be read: {type(error).__name__}", path="egress.caBundle"
            ) from error
        self.channels = ChannelRegistry(
            lambda: self.routing.current,
            self.http_client,
            http_timeout=settings.delivery.slack.timeout,
            file=self.file,
            log=LogChannel(settings.delivery.log.format) if settings.delivery.log.enabled else None,
            native=settings.delivery.native,
            mail=self.mail,
            mail_timeout=settings.delivery.email.timeout,
            dedup_namespace=settings.delivery.pagerduty.dedup_namespace,
        )
        self.router: Router = LiveRouter(self.routing, self.channels)
        self.client = LedgerClient(
            settings.redis.url.get_secret_value(),
            prefix=settings.redis.key_prefix,
            timeout=settings.redis.timeout,
        )
        durability = settings.redis.durability
        self.client.confirming = durability == "strict"
        self.client.judge = self._judge
        self.log = RedisLog(
            self.client,
            replicas=lambda: self.client.replicas_wanted,
        )
        self.cache = Cache(
            window=settings.sync.window,
            monotonic=self.monotonic,
            audit_limit=settings.buffer.buffer_size if settings.auditing else None,
        )
        self.shards = Shards(settings.sharding.shards)
        self.audit: Audit | None = None
        if settings.auditing:
            self.audit = Audit(
                loaded,
                cache=self.cache,
                log=self.log,
                ownership=self.shards,
                guard=guard,
                registry=self.registry,
                now=self.time.certain,
            )
        self.queue = WorkQueue(self.monotonic, group=self.cache.namespace_of)
        self.breakers = Breakers()
        #: Set once this process has owned a shard; sweeps look at what is ours then.
        self.owning = asyncio.Event()
        #: Set by a signal, or by what makes this replica leave.
        self.stop = asyncio.Event()
        #: Why it left without a signal.
        self.refusal: ConfigError | None = None

    def _judge(self, info: dict[str, str]) -> str | None:
        """Why a Redis server must not be given attempts, None if it may."""
        redis = self.settings.redis
        return unfit(
            redis.seen_in(info), durability=redis.durability, ahead=self.clocks.ahead(info)
        )

    def _file_channel(self) -> FileChannel | None:
        file = self.settings.delivery.file
        if not file.output_dir:
            return None
        channel = FileChannel(file.output_dir, file.format, timeout_s=file.timeout)
        channel.prepare()
        return channel

    # -- life -------------------------------------------------------------------------------------

    async def run(self) -> int:
        """
        Run until SIGTERM or SIGINT; returns the exit code.

        Raises:
            ConfigError: found only now, for example a store that belongs to another installation.
        """
        loop = asyncio.get_running_loop()
        sys.setswitchinterval(SWITCH_INTERVAL)
        self.watch.look_from_outside()
        raise_descriptor_limit()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        try:
            port = await self._bind()
            self.routing.load_initial()
            identity = f"{socket.gethostname()}_{port}"
            logger.info(
                "starting",
                extra={
                    "version": __version__,
                    "identity": identity,
                    "namespaces": self.loaded.namespaces or "*",
                    "lease_seconds": self.settings.lease_duration,
                },
            )
            await self.http_client.open()
            if self.audit is not None:
                await self.audit.open()
            with contextlib.suppress(Stopped):
                await self._serve(identity)
        finally:
            await self._close()
        if self.refusal is not None:
            raise self.refusal
        return 0

    async def _bind(self) -> int:
        health = self.settings.controller.health_probe_addr
        metrics = self.settings.controller.metrics_addr
        checks: dict[str, Callable[[], str | None]] = {
            "shutdown": lambda: "draining" if self.progress.draining else None,
            "redis": lambda: self.progress.redis or self.client.unavailable_reason,
            "cluster": lambda: self.progress.cluster,
            "shards": lambda: self.progress.shards,
        }
        if self.audit is not None and self.audit.gate is not None:
            gate = self.audit.gate
            checks["datastorage"] = lambda: gate.problem
        for name, check in checks.items():
            self.admin.check(name, check)
        self.admin.detail("routing", lambda: self.routing.problem)
        self.admin.detail("failpoints", armed)
        try:
            port = await self.admin.bind(
                health.host, health.port, health=True, metrics=health == metrics
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {health}: {error.strerror or type(error).__name__}",
                path="controller.healthProbeAddr",
            ) from error
        if health != metrics:
            try:
                await self.admin.bind(metrics.host, metrics.port, health=False, metrics=True)
            except OSError as error:
                raise ConfigError(
                    f"cannot listen on {metrics}: {error.strerror or type(error).__name__}",
                    path="controller.metricsAddr",
                ) from error
        return port

    async def _serve(self, identity: str) -> None:
        agent = f"notification-ledger/{__version__}"
        async with contextlib.AsyncExitStack() as stack:
            kubeconfig = self.loaded.environment.kubeconfig
            objects, leases = [
                await stack.enter_async_context(
                    await KubeClient.connect(kubeconfig, user_agent=f"{agent} ({purpose})")
                )
                for purpose in ("objects", "leases")
            ]
            parts = Parts(self, objects, leases, identity)
            try:
                async with asyncio.TaskGroup() as group:
                    for name, work in parts.critical():
                        group.create_task(critical(name, work), name=name)
                    for sweep in parts.sweeps():
                        group.create_task(
                            restarting(
                                sweep.name, sweep.work, every=sweep.every, sooner=sweep.sooner
                            ),
                            name=sweep.name,
                        )
                    group.create_task(critical("pulse", self._pulse), name="pulse")
                    group.create_task(parts.bring_up(group), name="bring-up")
                    group.create_task(parts.end(), name="end")
            except BaseExceptionGroup as ended:
                # `Stopped` cancels everything else; what else went wrong on the way still counts.
                _, others = ended.split(Stopped)
                if others is not None:
                    raise others from None
                raise Stopped from None

    async def _pulse(self) -> None:
        """Measure how late the event loop is."""
        while True:
            asked = self.monotonic() + _PULSE
            await asyncio.sleep(_PULSE)
            late = max(0.0, self.monotonic() - asked)
            self.metrics.loop_lag.observe(late)
            self.watch.late(late)

    async def _close(self) -> None:
        self.watch.close()
        await self.http_client.close()
        if self.mail is not None:
            self.mail.close()
        if self.audit is not None:
            await self.audit.close()
        if self.file is not None:
            self.file.close()
        await self.client.close()
        await self.admin.close()

    def _refresh(self) -> None:
        phases = Counter(e.request.status.phase or "Pending" for e in self.cache.entries.values())
        phases.update(f.phase for f in self.cache.finished.values())
        for phase in ("Pending", "Sending", "Retrying", "Sent", "PartiallySent", "Failed"):
            self.delivery_metrics.active.labels(phase).set(phases.get(phase, 0))
        self.metrics.loop_stall.set(self.watch.longest())
        self.metrics.live.set(len(self.cache.entries))
        self.metrics.finished.set(len(self.cache.finished))
        self.metrics.dirty_oldest.set(self.cache.oldest_dirty())
        held = self.holds()
        for reason in HOLDS:
            self.metrics.held.labels(reason).set(held[reason])
        self.metrics.quarantined.set(held[QUARANTINED])
        self.metrics.log_available.set(
            self.log.unavailable_reason is None and self.progress.redis is None
        )
        self.metrics.clock_offset.set(self.clocks.worst or 0.0)
        self.metrics.shards.set(self.shards.shards)
        self.metrics.shards_owned.set(len(self.shards.owned))
        left = [
            t.left(self.monotonic()) for t in self.shards.owned.values() if isinstance(t, LeaseTerm)
        ]
        self.metrics.lease_margin.set(min(left, default=0.0))
        self.delivery_metrics.routing_stale.set(self.routing.problem is not None)
        self.delivery_metrics.routing_doubts.set(self.routing.current.config.doubts)
        for channel, state in self.breakers.states(self.monotonic()).items():
            self.delivery_metrics.breaker.labels(channel).set(state)
        self.delivery_metrics.queue_depth.set(len(self.queue))
        self.delivery_metrics.delayed.set(self.queue.delayed)
        if self.audit is not None:
            self.audit.feed.refresh()


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Repeated work: its name, one round, seconds between rounds, and what brings one forward."""

    name: str
    work: Callable[[], Awaitable[None]]
    every: float
    sooner: asyncio.Event | None = None


class Parts:
    """What exists only while the servers' clients do, and the steps of start and end."""

    def __init__(self, app: App, objects: KubeClient, leases: KubeClient, identity: str) -> None:
        """Wire the loops."""
        settings = app.settings
        self.app = app
        self.objects = objects
        self.leases = leases
        self.identity = identity
        objects.on_time = leases.on_time = app.api_time.set
        self.store = StatusStore(objects)
        self._acquired = (asyncio.Event(), asyncio.Event())
        #: Sweeps that have been through once since a shard was owned, with what they looked at.
        self._swept: dict[str, int] = {}
        self._wake_ups = WakeUps()
        self.events = EventRecorder(
            objects,
            instance=identity,
            limits=EventLimits(
                queue=settings.events.burst,
                rate=settings.events.per_second,
                burst=settings.events.burst,
            ),
        )
        reporter = EventReporter(self._emit, app.delivery_metrics)
        self.recorder = Recorder(app.log, app.cache, app.time, app.metrics, identity=identity)
        self.reconciler = Reconciler(self.recorder, self.store, app.metrics, backoff=backoff)
        self.retention = Retention(app.log, self.store, app.shards, app.time, app.metrics)
        at_most_once = settings.delivery.guarantee == "atMostOnce"
        self.controller = Controller(
            cache=app.cache,
            queue=app.queue,
            recorder=self.recorder,
            claimer=self.reconciler,
            ownership=app.shards,
            router=app.router,
            reporter=reporter,
            metrics=app.delivery_metrics,
            bounds=DeliveryBounds(at_most_once, max_age=settings.delivery.max_age),
            dispatcher=lambda run: Dispatcher(
                run,
                per_channel=settings.delivery.per_receiver,
                total=settings.delivery.total,
                rate=settings.delivery.rate_per_second,
                breakers=app.breakers,
                postponed=app.queue.add,
                opened=lambda channel: app.delivery_metrics.breaker_openings.labels(channel).inc(),
                monotonic=app.monotonic,
            ),
        )
        self.controller.pause(settings.delivery.paused)
        app.delivery_metrics.running.set_function(lambda: self.controller.dispatcher.running)
        self.sync = SyncLoop(
            self.recorder,
            self.store,
            app.shards,
            app.metrics,
            limits=Limits(
                writers=settings.sync.writers,
                status_bytes=settings.sync.max_status_bytes,
                at_most_once=at_most_once,
            ),
            on_settled=reporter.settled,
            on_stale=app.queue.add,
        )
        self.resync = Resync(
            self.recorder,
            app.shards,
            app.metrics,
            bounds=Bounds(period=settings.sync.resync),
            blocked=self.controller.holds.blocked,
            waits=self.controller.dispatcher.waits,
            look_at=app.queue.add,
        )
        self.scrubber: Scrubber | None = None
        if settings.sync.scrub_rate:
            self.scrubber = Scrubber(
                self.recorder,
                self.store,
                app.shards,
                self.sync,
                app.metrics,
                rate=settings.sync.scrub_rate,
                on_change=app.queue.add,
            )
        app.delivery_metrics.oldest_due.set_function(self.controller.overdue.oldest)
        app.holds = self.controller.holds.by_reason
        app.delivery_metrics.events_dropped.read = lambda: self.events.counts.dropped
        app.client.on_change = self.controller.reconcile_all
        app.client.on_wake_up = self._wake_ups.add
        app.admin.check("schema", lambda: self.sync.schema_problem)
        app.admin.check("status", lambda: self.sync.access_problem)
        app.admin.check(
            "epoch", lambda: self.controller.holds.fence_problem(settings.lease_duration)
        )
        namespaces = app.loaded.namespaces
        self.reflector = Reflector(
            objects,
            list(namespaces) if namespaces is not None else None,
            self.controller.watch,
            clock=app.monotonic,
            # Who deletes finished objects has to know when they ended.
            brief=not settings.retention.delete_objects,
        )
        sharding = settings.sharding
        namespace = app.loaded.environment.namespace
        timings = LeaseTimings(
            renew_deadline=sharding.renew_deadline,
            retry_period=sharding.retry_period,
            margin=sharding.margin,
            send_timeout=settings.delivery.largest_timeout,
        )
        self.installation = Installation(
            leases,
            namespace,
            sharding.lease_name,
            identity,
            shards=sharding.shards,
            alive_for=timings.duration,
            clock=app.monotonic,
        )
        self.keeper = ShardKeeper(
            app.shards,
            self.installation,
            self,
            lambda n, willing: Lease(
                leases,
                namespace,
                f"{sharding.lease_name}-{n}",
                identity,
                timings,
                incarnation=sharding.incarnation,
                clock=app.monotonic,
                wall=app.wall,
                willing=willing,
            ),
            # Without Redis nothing could be sent: shards are left to a replica that has it.
            able=self._able,
            refused=self._refuse,
            period=timings.retry_period,
            patience=timings.duration,
            clock=app.monotonic,
        )

    def _able(self) -> bool:
        app = self.app
        if not app.log.available or app.progress.draining:
            return False
        # While objects are still being listed, others are quicker, if there are any.
        return self.reflector.synced or self.keeper.alone

    def _refuse(self, error: ConfigError) -> None:
        logger.error("this replica must leave: %s", error)
        self.app.refusal = error
        self.app.stop.set()

    def _emit(
        self,
        request: NotificationRequest,
        kind: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        discriminator: str,
    ) -> None:
        if self.app.settings.events.enabled:
            shown = neutral(sanitise(message))
            self.events.emit(request, kind, reason, shown, discriminator=discriminator)

    # -- loops ----------------------------------------------------------------------------------

    def critical(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """Loops that must never end, with their names."""
        loops: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("redis", self.app.client.run),
            ("sync", self.sync.run),
            ("routing", self.app.routing.run),
            ("events", self.events.run),
        ]
        loops += [(f"worker-{n}", self.controller.reconciler.work) for n in range(WORKERS)]
        loops.append(("pokes", self._heed_wake_ups))
        if self.app.loaded.path is not None:
            switch = PauseSwitch(
                self.app.loaded.path, self.controller.pause, paused=self.controller.holds.paused
            )
            loops.append(("pause-switch", switch.run))
        if self.app.audit is not None:
            loops += self.app.audit.loops()
        return loops

    def sweeps(self) -> list[Sweeper]:
        """Work that is done again and again."""
        sync = self.app.settings.sync
        wanted = self.app.settings.retention.delete_objects
        retention = [Sweeper("retention-sweep", self._sweep_expired, sync.finished_sweep)]
        return [
            *(retention if wanted else []),
            Sweeper("resync", self._resync, sync.resync),
            Sweeper("live-sweep", self._sweep_live, sync.live_sweep),
            Sweeper("finished-sweep", self._sweep_finished, sync.finished_sweep, self._acquired[0]),
            Sweeper("orphan-sweep", self._sweep_orphans, sync.finished_sweep, self._acquired[1]),
            Sweeper("holds", self._note_holds, min(5.0, sync.hold_notice / 2)),
            *(
                [Sweeper("self-audit", self.scrubber.round, sync.scrub_pause)]
                if self.scrubber
                else []
            ),
        ]

    async def bring_up(self, group: asyncio.TaskGroup) -> None:
        """
        Wait for the servers, one after the other, and say meanwhile what is missing.

        Raises:
            ConfigError: the store or the lease map belongs to somebody else.
        """
        installation = await self._installation()
        await self._open_redis(installation)
        group.create_task(critical("reflector", self.reflector.run), name="reflector")
        group.create_task(self._watch_readiness(), name="readiness")
        # A collection for every seven hundred objects made took a seventh of the CPU.
        gc.set_threshold(50_000, 20, 50)
        shards, late = None, self.app.monotonic() + _LONG_LIST
        while not self.reflector.synced:
            if shards is None and self.app.monotonic() > late:
                # What is due need not wait for a hundred thousand that are not.
                shards = group.create_task(self._keep_shards(), name="shards")
            await asyncio.sleep(0.05)
        # What was listed at the start stays; it need not be walked by every collection.
        gc.freeze()
        failpoint(Failpoint.LISTED)
        if shards is None:
            await self._check_crd()
            group.create_task(self._keep_shards(), name="shards")
        else:
            for wanted in self._acquired:
                wanted.set()
            await self._check_crd()
        group.create_task(self._say_reconciled(), name="reconciled")

    async def _say_reconciled(self) -> None:
        """
        Say once when everything that was there at the start has been looked at.

        That is: every unfinished notification of ours is claimed, or it was said why it cannot be;
        every finished one was held against its log; logs without an object were let go.
        """
        app = self.app
        await app.owning.wait()
        late = app.monotonic() + _RECONCILED_LATE
        while True:
            swept = len(self._swept) == len(self._acquired) and not any(
                e.is_set() for e in self._acquired
            )
            unclaimed = self.controller.holds.unclaimed()
            if swept and not unclaimed:
                break
            if app.monotonic() > late:
                logger.warning(
                    "start-up reconciliation is not done", extra={"unclaimed": unclaimed}
                )
                return
            await asyncio.sleep(_RECONCILED_POLL)
        logger.info(
            "start-up reconciliation done",
            extra={
                "seconds": round(app.monotonic() - app.started, 2),
                "unfinished": len(app.cache.entries),
                **self._swept,
            },
        )

    async def _installation(self) -> str:
        while True:
            try:
                return await self.installation.found()
            except PortError as error:
                self._waiting("cluster", str(error))
            await asyncio.sleep(_CONNECT_PAUSE)

    async def _open_redis(self, installation: str) -> None:
        while True:
            try:
                await self.app.client.open(installation)
                break
            except (PortError, TimeoutError) as error:
                self._waiting("redis", str(error) or "Redis does not answer in time")
            await asyncio.sleep(_CONNECT_PAUSE)
        for finding in preflight(
            self.app.client.info,
            durability=self.app.settings.redis.durability,
            ahead=self.app.clocks.worst,
        ):
            if finding.severity is Severity.REFUSE:
                raise ConfigError(f"{finding.text}; {finding.fix}", path="redis")
            logger.warning("Redis: %s; %s", finding.text, finding.fix)
        self.app.progress.redis = None

    def _waiting(self, what: Literal["redis", "cluster"], why: str) -> None:
        if getattr(self.app.progress, what) != why:
            logger.warning("waiting for %s: %s", what, why)
            setattr(self.app.progress, what, why)

    async def _watch_readiness(self) -> None:
        while True:
            reflector = self.reflector
            problem = reflector.problem
            if not reflector.synced:
                problem = problem or "objects are not listed yet"
            self.app.progress.cluster = problem
            self.app.progress.shards = self.keeper.problem
            await asyncio.sleep(0.1)

    async def _check_crd(self) -> None:
        """Say at the start what the served CRD would prune, if it may be read."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        try:
            served = await self.objects.request(
                "GET", f"{path}/notificationrequests.kubernaut.ai", timeout=5.0
            )
        except Unauthorised:
            logger.info("the CRD may not be read; the first status write will show what is pruned")
            return
        except PortError as error:
            logger.info("the CRD could not be read", extra={"error": str(error)})
            return
        lost = missing_fields(served) + refused_values(served)
        if lost:
            self._say_pruned(lost)
        if missing_rules(served):
            logger.info("the served CRD has none of the server-side rules, or not all")

    def _say_pruned(self, lost: Sequence[str]) -> None:
        logger.warning(
            "the served CRD is older than this version: these status members or values are pruned"
            " or refused by the API server; apply the CRD of this version (notifier crd)",
            extra={"members": list(lost)[:50]},
        )

    # -- ownership ------------------------------------------------------------------------------

    async def _keep_shards(self) -> None:
        await self.keeper.run()
        # Released: the drain has ended it, and the process follows.
        await asyncio.Event().wait()

    def begin(self, shard: int) -> int:
        """Look anew at a shard's notifications; how many are unfinished."""
        failpoint(Failpoint.LEASE_ACQUIRED)
        self.app.owning.set()
        # What the shard's last owner left: finished but not marked, deleted but not let go.
        for wanted in self._acquired:
            wanted.set()
        return self.controller.on_started_leading(lambda uid: self.app.shards.covers(shard, uid))

    async def quiesce(self, shard: int, seconds: float) -> bool:
        """Let a shard fall quiet and be published; False if it did not in time."""
        return await self.controller.quiesce(
            lambda uid: self.app.shards.covers(shard, uid), seconds
        )

    # -- sweeps ---------------------------------------------------------------------------------

    async def _resync(self) -> None:
        await self.resync.round()
        self.controller.dispatcher.refill()

    async def _sweep_live(self) -> None:
        await self.app.owning.wait()
        entries = [e for e in self.app.cache.entries.values() if e.claim is not None]
        for start in range(0, len(entries), _SWEEP_PAGE):
            found = await self.reconciler.sweep_live(entries[start : start + _SWEEP_PAGE])
            for uid in found:
                self.app.queue.add(uid)
            if found:
                logger.info("records of others were found", extra={"logs": len(found)})

    async def _heed_wake_ups(self) -> None:
        while True:
            await self._heed(await self._wake_ups.get())

    async def _heed(self, uid: str) -> None:
        """Read a log of ours again because somebody says that it holds something new."""
        app = self.app
        if app.shards.term_of(uid) is None:
            return
        entry = app.cache.entries.get(uid)
        if entry is not None:
            entry.reread = True
            app.cache.mark_dirty(entry)
            app.queue.add(uid)
        elif uid in app.cache.finished:
            await self._reopen(uid)
        else:
            with contextlib.suppress(PortError):
                ((_, length, ttl),) = await app.log.read_headers([uid])
                if length and ttl < 0:
                    # A log without an object that we know of, and not let go yet.
                    self._acquired[1].set()

    def _begin_sweep(self, name: str, acquired: asyncio.Event) -> None:
        # What was acquired up to now is in this round; what comes meanwhile asks for another.
        acquired.clear()
        self._swept.pop(name, None)

    async def _sweep_finished(self) -> None:
        await self.app.owning.wait()
        self._begin_sweep("finished", self._acquired[0])
        if not self.reflector.synced:
            return
        summaries = [s for s in self.app.cache.finished.values() if self.app.shards.term_of(s.uid)]
        lost = 0
        room = self.app.cache.audit_room
        for start in range(0, len(summaries), _SWEEP_PAGE):
            sweep = await self.reconciler.sweep_finished(summaries[start : start + _SWEEP_PAGE])
            lost += sweep.lost
            for uid in sweep.reopened:
                await self._reopen(uid)
            for uid in sweep.unaudited[:room]:
                await self._reopen(uid)
            room = max(0, room - len(sweep.unaudited))
        logger.debug(
            "finished objects looked at", extra={"objects": len(summaries), "no_log": lost}
        )
        self._swept["finished"] = len(summaries)

    async def _sweep_expired(self) -> None:
        await self.app.owning.wait()
        deleted = await self.retention.sweep(list(self.app.cache.finished.values()))
        if deleted:
            logger.info("finished objects are deleted", extra={"objects": deleted})

    async def _note_holds(self) -> None:
        self.controller.overdue.mark_held(
            available=self.app.log.unavailable_reason is None,
            notice=self.app.settings.sync.hold_notice,
        )

    async def _reopen(self, uid: str) -> None:
        summary = self.app.cache.finished.get(uid)
        if summary is None:
            return
        # One that does not parse has no status that could be compared with its log.
        cache = self.app.cache
        with contextlib.suppress(PortError, ContractError):
            try:
                request = await self.store.get(summary.namespace, summary.name)
            except Gone:
                request = None
            if request is not None and request.uid == uid:
                cache.reopen(request)
                self.app.queue.add(uid)
            elif cache.finished.get(uid) is summary:
                # Its deletion was not seen: the log is the orphan sweep's to let go.
                del cache.finished[uid]

    async def _sweep_orphans(self) -> None:
        await self.app.owning.wait()
        self._begin_sweep("logs", self._acquired[1])
        namespaces = self.app.loaded.namespaces

        def known(uid: str) -> bool:
            return uid in self.app.cache.entries or uid in self.app.cache.finished

        def watched(namespace: str) -> bool:
            return namespaces is None or namespace in namespaces

        if not self.reflector.synced:
            return
        sweep = await self.reconciler.sweep_orphans(self.app.shards, known, watched)
        self._swept["logs"] = sweep.looked_at
        if sweep.retired:
            logger.info("logs of deleted objects retired", extra={"logs": sweep.retired})

    # -- the end --------------------------------------------------------------------------------

    async def end(self) -> None:
        """
        Wait for the signal, or for a reason to leave without one; drain, and leave.

        Raises:
            Stopped: always, after the drain.
        """
        app = self.app
        await app.stop.wait()
        app.progress.draining = True
        logger.info("draining")
        unrecorded = await self.controller.drain(
            sending=app.settings.delivery.largest_timeout + 2.0, recording=_DRAIN_RECORD
        )
        unsynced = await self.sync.drain(app.monotonic() + _DRAIN_SYNC)
        unaudited, _ = await asyncio.gather(self._drain_audit(), self.events.drain(_DRAIN_EVENTS))
        released = await self.keeper.release()
        logger.info(
            "drained",
            extra={
                "unrecorded": unrecorded,
                "unsynced": unsynced,
                "unaudited": unaudited,
                "released": released,
            },
        )
        raise Stopped

    async def _drain_audit(self) -> int:
        return await self.app.audit.feed.drain(_DRAIN_AUDIT) if self.app.audit else 0


def backoff(policy: RetryPolicy, n: int) -> int:
    """Wait after an attempt whose sender is gone; without jitter, as nobody competes for it."""
    return delay(policy, n, 0.0)


def version_line() -> str:
    """What `notifier --version` prints."""
    return f"notification-ledger {__version__} (Python {sys.version.split()[0]})"
