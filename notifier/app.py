"""
The composition root: creates every part of the product and injects what each needs.

It contains wiring only; `notifier.process` has what happens at startup, while the process runs, and at
its end. What a part needs from a higher layer, it gets as an argument: a port, or a function to call. The
outside world comes as one object (`notifier.process.outside`); the simulation passes one of its own.
"""

from __future__ import annotations

from functools import partial

from notifier.audit.assembly import Audit
from notifier.dispatch.allowance import Allowance
from notifier.dispatch.breaker import Breakers
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.retry import delay
from notifier.dispatch.wakeups import WakeUps
from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.process.hold_reader import HoldReader
from notifier.process.lifecycle import Lifecycle
from notifier.process.outside import Outside
from notifier.process.parts import Parts, Progress
from notifier.process.production import production
from notifier.process.reporting import make_reporting
from notifier.process.shards import ShardWork, Takeover, make_manager
from notifier.process.store import make_store
from notifier.reconciler.bounds import DeliveryBounds
from notifier.reconciler.controller import Controller
from notifier.reconciler.journal import Journal
from notifier.reconciler.ports import Ports
from notifier.settings import Loaded
from notifier.version import __version__
from syncer.kube.notification_requests import NotificationRequestClient
from syncer.kube.reflector import Reflector
from syncer.ledger.holds import HoldStore
from syncer.metrics import SyncMetrics
from syncer.rules.resync import Bounds
from syncer.runtime.clock import LedgerTime
from syncer.runtime.stalls import LoopWatch
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache
from syncer.sync.claim import Claimer
from syncer.sync.flushes import Limits
from syncer.sync.recorder import Recorder
from syncer.sync.resync import Resync
from syncer.sync.retention import Retention
from syncer.sync.scrubber import Scrubber
from syncer.sync.status_writer import StatusWriter


async def run(loaded: Loaded, watch: LoopWatch | None = None) -> None:
    """
    Run the product in this process until SIGTERM or SIGINT.

    Args:
        loaded: The settings.
        watch: Of the running loop, if it has one.

    Raises:
        ConfigError: something in the files cannot be used, or another installation's store is there.
    """
    async with production(loaded, watch or LoopWatch()) as outside:
        await Lifecycle(build(loaded, outside)).run()


def build(loaded: Loaded, outside: Outside) -> Parts:
    """
    Make and wire all parts; nothing runs and nothing is connected yet.

    Args:
        loaded: The settings.
        outside: The world that the product works in.
    """
    settings, monotonic, identity = loaded.settings, outside.monotonic, outside.identity
    delivery, sync, sharding = settings.delivery, settings.sync, settings.sharding
    at_most_once = delivery.guarantee == "atMostOnce"
    progress = Progress()

    metrics = SyncMetrics(outside.registry)
    outside.watch.on_stall(metrics.loop_stalls.observe)
    delivery_metrics = DeliveryMetrics(
        outside.registry,
        events_dropped=lambda: events.dropped,
        egress_denied=outside.egress_denied,
        foreign_objects=lambda: reflector.selection.foreign,
    )
    delivery_metrics.build.labels(__version__).set(1)

    # The log, the cache, and what connects them.
    time = LedgerTime(monotonic, api_time=outside.api_time)
    time.set(round(outside.wall().timestamp() * 1000))
    wake_ups = WakeUps()
    client, log, clocks = make_store(
        settings,
        outside,
        on_change=lambda: controller.reconcile_all(),  # noqa: PLW0108 - made below
        on_wake_up=wake_ups.add,
    )
    cache = Cache(window=sync.window, monotonic=monotonic, audit_limit=settings.audit_limit)
    shards = Shards(sharding.shards)
    queue = WorkQueue(monotonic, group=cache.namespace_of)
    objects = NotificationRequestClient(outside.objects)
    recorder = Recorder(log, cache, time, metrics, identity=identity)
    # Of an attempt whose sender is gone: no jitter, as no other attempt competes with it.
    backoff = partial(delay, jitter=0.0)
    claimer = Claimer(recorder, objects, metrics, backoff=backoff)
    audit: Audit | None = None
    if outside.audit is not None:
        audit = Audit(
            settings,
            outside.audit,
            cache=cache,
            log=log,
            ownership=shards,
            registry=outside.registry,
            now=time.certain,
        )

    # Delivery.
    events, reporter = make_reporting(settings, outside, delivery_metrics)
    breakers = Breakers()
    # Status writes, and attempts that are recorded by one while the log is away.
    status_writer = StatusWriter(
        recorder,
        objects,
        shards,
        metrics,
        limits=Limits(sync.writers, sync.max_status_bytes, at_most_once=at_most_once),
        on_settled=reporter.status_written,
        on_stale=queue.add,
    )
    journal = Journal(
        recorder,
        status_writer,
        notes=lambda: manager,
        api_time=outside.api_time,
        listed=lambda: reflector.synced and not reflector.refused,
        on_change=lambda: controller.reconcile_all(),  # noqa: PLW0108 - made below
        enabled=delivery.log_outage == "journal",
        after=delivery.journal_after,
        allowance=Allowance(delivery.journal_per_second, outside.monotonic),
        on_journaled=lambda basis: delivery_metrics.journaled_attempts.labels(basis).inc(),
        refused=status_writer.schema.journal_refused,
        backoff=backoff,
    )
    ports = Ports(
        queue,
        recorder,
        claimer,
        ownership=shards,
        router=outside.router,
        reporter=reporter,
        metrics=delivery_metrics,
        bounds=DeliveryBounds(at_most_once, max_age=delivery.max_age),
        journal=journal,
    )
    dispatcher = partial(
        Dispatcher,
        per_channel=delivery.per_receiver,
        total=delivery.total,
        rate=delivery.rate_per_second,
        breakers=breakers,
        on_rejected=queue.add,
        on_opened=lambda channel: delivery_metrics.breaker_openings.labels(channel).inc(),
        monotonic=monotonic,
    )
    controller = Controller(ports, dispatcher)
    controller.pause(delivery.paused)
    holds = HoldReader(HoldStore(client), controller, time)

    # What finds what a lost event would have reported.
    resync = Resync(
        recorder,
        shards,
        metrics,
        bounds=Bounds(period=sync.resync),
        blocked=controller.holds.blocked,
        waits=controller.dispatcher.waits,
        request_check=queue.add,
        journals=lambda: journal.active,
        journaled=journal.applies,
    )
    scrubber: Scrubber | None = None
    if sync.scrub_rate:
        scrubber = Scrubber(
            recorder,
            objects,
            shards,
            status_writer,
            metrics,
            rate=sync.scrub_rate,
            on_change=queue.add,
        )
    reflector = Reflector(
        outside.objects,
        None if loaded.namespaces is None else list(loaded.namespaces),
        controller.watch,
        clock=monotonic,
        owned=shards,
        # Who deletes finished objects needs their times; a journaled one may show what its log lacks.
        brief=lambda: not (settings.retention.delete_objects or manager.marks_left),
    )

    # Ownership.
    takeover = Takeover()

    def serving() -> bool:
        return not progress.draining and reflector.answered

    installation, manager = make_manager(
        loaded,
        outside,
        shards,
        owner=ShardWork(shards, controller, takeover),
        # Without Redis nothing can be sent, without lists nothing is known: shards are left to others.
        able=lambda: log.available and serving(),
        journaling=lambda: journal.enabled and serving(),
    )
    return Parts(
        loaded=loaded,
        outside=outside,
        progress=progress,
        takeover=takeover,
        metrics=metrics,
        delivery_metrics=delivery_metrics,
        clocks=clocks,
        client=client,
        log=log,
        cache=cache,
        shards=shards,
        queue=queue,
        wake_ups=wake_ups,
        objects=objects,
        claimer=claimer,
        events=events,
        breakers=breakers,
        controller=controller,
        holds=holds,
        journal=journal,
        sync=status_writer,
        resync=resync,
        retention=Retention(log, objects, shards, time, metrics),
        scrubber=scrubber,
        audit=audit,
        reflector=reflector,
        installation=installation,
        manager=manager,
    )
