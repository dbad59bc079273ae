"""The parts of the product, as `notifier.app.build` has wired them."""

from __future__ import annotations

from dataclasses import dataclass

from notifier.audit.assembly import Audit
from notifier.dispatch.breaker import Breakers
from notifier.dispatch.wakeups import WakeUps
from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.process.hold_reader import HoldReader
from notifier.process.outside import Outside
from notifier.process.shards import Takeover
from notifier.reconciler.controller import Controller
from notifier.reconciler.journal import Journal
from notifier.settings import Loaded, Settings
from syncer.kube.events import EventRecorder
from syncer.kube.notification_requests import NotificationRequestClient
from syncer.kube.reflector import Reflector
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.metrics import SyncMetrics
from syncer.runtime.clock import MonotonicClock
from syncer.sharding.installation import Installation
from syncer.sharding.manager import ShardManager
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache
from syncer.sync.claim import Claimer
from syncer.sync.clock_skew import Clocks
from syncer.sync.resync import Resync
from syncer.sync.retention import Retention
from syncer.sync.scrubber import Scrubber
from syncer.sync.status_writer import StatusWriter


@dataclass(slots=True)
class Progress:
    """
    What is missing before this process can work, None for what is there.

    Attributes:
        redis: Whether Redis was reached and may be used.
        cluster: Whether the installation was found, and is followed.
        shards: Whether shards are looked at.
        listed: Whether all objects of ours were listed once; shards that come later are listed while the
            others are worked on.
        draining: The process is about to end.
    """

    redis: str | None = "not connected yet"
    cluster: str | None = "not connected yet"
    shards: str | None = "shards are not examined yet"
    listed: bool = False
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """
    What the startup, the sweeps, the gauges and the shutdown work with.

    Attributes:
        loaded: The settings, and the file that they come from.
        outside: The world that the product works in.
        progress: How far the start has come.
        takeover: Starts sweeps early when a shard is acquired.
        clocks: How far Redis's clock is ahead of the API server's.
        client: Of Redis; `log` goes through it.
        queue: Notifications that must be looked at.
        wake_ups: Uids of logs that others have appended to.
        claimer: Claims logs, and compares them with what is known.
        audit: None where no sink takes audit events.
        scrubber: None where the self-audit is switched off.
    """

    loaded: Loaded
    outside: Outside
    progress: Progress
    takeover: Takeover
    metrics: SyncMetrics
    delivery_metrics: DeliveryMetrics
    clocks: Clocks
    client: LedgerClient
    log: RedisLog
    cache: Cache
    shards: Shards
    queue: WorkQueue
    wake_ups: WakeUps
    objects: NotificationRequestClient
    claimer: Claimer
    events: EventRecorder
    breakers: Breakers
    controller: Controller
    holds: HoldReader
    journal: Journal
    sync: StatusWriter
    resync: Resync
    retention: Retention
    scrubber: Scrubber | None
    audit: Audit | None
    reflector: Reflector
    installation: Installation
    manager: ShardManager

    @property
    def settings(self) -> Settings:
        """What the settings file says."""
        return self.loaded.settings

    @property
    def monotonic(self) -> MonotonicClock:
        """Boot-time seconds."""
        return self.outside.monotonic
