"""
The composition root: creates every part of the product and injects what each needs.

It contains wiring only; startup, the running loops and shutdown are in `notifier.process`. A part gets
whatever it needs from a higher layer as an argument: a port, or a function to call. The outside world comes
as one object (`notifier.outside`); the simulation passes its own.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

from notifier.audit.feed import AuditFeed
from notifier.audit.metrics import AuditMetrics
from notifier.dispatch.breaker import Breakers
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.outside import Outside
from notifier.progress import Progress, Takeover
from notifier.reconciler.attempt import Ports
from notifier.reconciler.controller import Controller, make_manager
from notifier.reconciler.decisions import DeliveryBounds
from notifier.reconciler.incidents import Incidents
from notifier.reconciler.operator_holds import HoldKeeper
from notifier.reporter import EventReporter
from notifier.settings import Loaded
from notifier.version import __version__
from syncer.kube.events import EventRecorder
from syncer.kube.notification_requests import NotificationRequestClient
from syncer.kube.reflector import Reflector
from syncer.kube.status_policy import StatusPolicy
from syncer.ledger.log import RedisLog
from syncer.ledger.preflight import Clocks, unfit
from syncer.ledger.subscriber import WakeUps
from syncer.metrics import SyncMetrics
from syncer.rules.backoff import delay
from syncer.rules.status_policy import State
from syncer.runtime.clock import LedgerTime
from syncer.sharding.installation import Installation
from syncer.sharding.manager import ShardManager
from syncer.sharding.ownership import Shards
from syncer.sync.allowance import Allowance
from syncer.sync.attempts import Outcomes
from syncer.sync.cache import Cache
from syncer.sync.claim import Claimer
from syncer.sync.evidence import Evidence
from syncer.sync.journal import Journal
from syncer.sync.notifications import Notifications
from syncer.sync.recorder import Recorder
from syncer.sync.retention import Retention
from syncer.sync.scrubber import Scrubber
from syncer.sync.status_writer import StatusWriter
from syncer.sync.sweeps import Resync, Sweeper

#: Seconds for which a call to Redis is repeated: if attempts wait for Redis, and if they are journaled
#: instead. In the second case a waiting claim or intent would block a worker or a place in a queue.
_PATIENCE: Final = 15.0
_IMPATIENCE: Final = 2.0


class Parts:
    """
    The parts of the product, wired; each gets its dependencies when it is created.

    Attributes:
        loaded: The settings, and the file that they come from.
        outside: The outside world: clocks, clients, channels.
        takeover: Starts sweeps early when a shard is acquired.
        clocks: How far Redis's clock is ahead of the API server's.
        client: The Redis client; `log` uses it.
        wake_ups: Uids of logs that other processes have appended to.
        audit: The audit feed, None if there is no sink.
        scrubber: The self-audit, None if it is switched off.
    """

    installation: Final[Installation]
    manager: Final[ShardManager]

    def __init__(self, loaded: Loaded, outside: Outside) -> None:
        """Create and wire all parts; nothing runs and nothing is connected yet."""
        self.loaded: Final = loaded
        self.outside: Final = outside
        self.settings: Final = loaded.settings
        self.monotonic: Final = outside.monotonic
        self.progress: Final = Progress()
        self.takeover: Final = Takeover()
        delivery, sync, events = self.settings.delivery, self.settings.sync, self.settings.events
        at_most_once = delivery.at_most_once

        self.metrics: Final = SyncMetrics(outside.registry)
        outside.watch.observe = self.metrics.loop_lag.observe
        self.events: Final = EventRecorder(
            outside.objects, instance=outside.identity,
            rate=events.per_second, burst=events.burst, queue=events.burst,
        )  # fmt: skip
        self.delivery_metrics: Final = DeliveryMetrics(
            outside.registry,
            events_dropped=lambda: self.events.dropped,
            egress_denied=outside.egress_denied,
            foreign_objects=lambda: self.reflector.foreign,
        )
        self.delivery_metrics.build.labels(__version__).set(1)

        # The log, the cache, and the parts between them.
        time = LedgerTime(self.monotonic, api_time=outside.api_time)
        time.set(round(outside.wall().timestamp() * 1000))
        self.wake_ups: Final = WakeUps()
        self.clocks: Final = Clocks(outside.api_time)
        self.client: Final = outside.redis(
            fitness=self._unfit,
            on_change=lambda: self.controller.reconcile_all(),  # noqa: PLW0108 - made below
            on_wake_up=self.wake_ups.add,
        )
        journaling = delivery.log_outage == "journal"
        self.log: Final = RedisLog(self.client, patience=_IMPATIENCE if journaling else _PATIENCE)
        self.cache: Final = Cache(
            window=sync.window, monotonic=self.monotonic, audit_limit=self.settings.audit_limit
        )
        self.shards: Final = Shards(self.settings.sharding.shards)
        self.queue: Final = WorkQueue(self.monotonic, group=self.cache.namespace_of)
        self.objects: Final = NotificationRequestClient(outside.objects)
        self.status_policy: Final = StatusPolicy(
            outside.objects, sync.status_policy, loaded.namespaces, self.monotonic
        )
        self.evidence: Final = Evidence(
            self.log,
            time,
            protected=lambda: self.status_policy.found.state is State.IN_FORCE,
            adopted_before=lambda: (
                self.settings.adoption.moment or self.installation.since or math.inf
            ),
            lineage=lambda uid: self.manager.held.lineage(self.manager.shard_of(uid)),
            marked=lambda uid: self.manager.marked(uid),  # noqa: PLW0108 - made below
            at_most_once=at_most_once,
        )
        recorder = Recorder(
            self.log, self.cache, time, self.metrics, identity=outside.identity,
            evidence=self.evidence,
        )  # fmt: skip
        # Back-off after an abandoned attempt; no jitter, because nothing competes with it.
        backoff = partial(delay, jitter=0.0)
        self.audit: Final = (
            AuditFeed(
                cache=self.cache, log=self.log, ownership=self.shards, sinks=outside.audit.sinks,
                metrics=AuditMetrics(outside.registry), now=time.certain,
                buffer=self.settings.buffer, max_age=self.settings.audit.max_age,
                at_most_once=at_most_once,
            )
            if outside.audit is not None
            else None
        )  # fmt: skip

        reporter = EventReporter(self.events if events.enabled else None, self.delivery_metrics)
        self.breakers: Final = Breakers()
        self.status_writer: Final = StatusWriter(
            recorder, self.objects, self.shards, self.metrics,
            writers=sync.writers, status_bytes=sync.max_status_bytes, at_most_once=at_most_once,
            on_settled=reporter.status_written,
        )  # fmt: skip
        self.journal: Final = Journal(
            recorder,
            self.status_writer,
            notes=lambda: self.manager,
            api_time=outside.api_time,
            listed=lambda: self.reflector.synced and not self.reflector.refused,
            on_change=lambda: self.controller.reconcile_all(),  # noqa: PLW0108 - made below
            enabled=journaling,
            after=delivery.journal_after,
            allowance=Allowance(delivery.journal_per_second, self.monotonic),
            on_journaled=lambda basis: self.delivery_metrics.journaled_attempts.labels(basis).inc(),
            backoff=backoff,
        )
        self.claimer: Final = Claimer(
            recorder, self.objects, self.metrics, journal=self.journal, ownership=self.shards,
            backoff=backoff, on_started=reporter.started,
        )  # fmt: skip
        outcomes = Outcomes(
            self.claimer, on_recorded=reporter.recorded,
            hold_mistakes=delivery.on_operator_error == "hold",
        )  # fmt: skip
        self.notifications: Final = Notifications(outcomes)
        ports = Ports(
            self.queue, self.notifications, router=outside.router, reporter=reporter,
            bounds=DeliveryBounds(at_most_once, delivery.max_age),
            incidents=Incidents(self.objects, self.log, outside.router, time.now, at_most_once),
            installation=lambda: self.installation.id, explorer=delivery.explorer_url,
        )  # fmt: skip
        dispatcher = partial(
            Dispatcher, per_channel=delivery.per_receiver, total=delivery.total,
            rate=delivery.rate_per_second, breakers=self.breakers, on_rejected=self.queue.add,
            on_opened=lambda channel: self.delivery_metrics.breaker_openings.labels(channel).inc(),
            monotonic=self.monotonic,
        )  # fmt: skip
        self.controller: Final[Controller] = Controller(
            ports, dispatcher, self.shards, self.takeover
        )
        self.controller.pause(delivery.paused)
        self.hold_keeper: Final = HoldKeeper(
            loaded, outside, self.controller.placed, self.shards,
            idle=lambda: self.controller.holds.paused or bool(self._idle_because()),
        )  # fmt: skip

        # These find the changes whose events were lost.
        self.resync: Final = Resync(self.claimer, self.controller.waits)
        self.sweeper: Final = Sweeper(self.claimer)
        self.retention: Final = Retention(self.log, self.objects, self.shards, time, self.metrics)
        self.scrubber: Final = (
            Scrubber(self.status_writer, sync.scrub_rate) if sync.scrub_rate else None
        )
        self.reflector: Final[Reflector] = Reflector(
            outside.objects,
            None if loaded.namespaces is None else list(loaded.namespaces),
            self.notifications,
            clock=self.monotonic,
            owned=self.shards,
            # Brief lists lack the times that a deletion goes by, and journaled attempts, which the log of a
            # finished notification may lack.
            brief=lambda: (
                not (self.settings.retention.delete_objects or self.manager.held.marks_left)
            ),
            on_missed=self.metrics.watch_missed.inc,
        )
        # Without Redis writes nothing can be sent, and without lists no object is known: other replicas
        # take the shards then.
        self.installation, self.manager = make_manager(
            loaded, outside, self.shards, owner=self.controller,
            able=lambda: self.client.able and self._serving(),
            # If Redis answers but refuses writes, outcomes may still be accepted, and logs can be read.
            without_writes=lambda: (self.journal.enabled or self.log.available) and self._serving(),
            problem=self._idle_because,
            store=lambda: self.log.lineage,
        )  # fmt: skip

    def _idle_because(self) -> str:
        """Why no attempt can be opened now, empty if attempts can."""
        return "" if self.journal.active else self.client.unavailable_reason or ""

    def _unfit(self, info: dict[str, str]) -> str | None:
        """Why attempts must not be recorded on a Redis server, judged by its INFO; None if they may."""
        redis, ahead = self.settings.redis, self.clocks.ahead(info)
        return unfit(redis.seen_in(info), durability=redis.durability, ahead=ahead)

    def _serving(self) -> bool:
        return not self.progress.draining and self.reflector.answered
