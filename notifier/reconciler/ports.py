"""The parts that the modules of this package share, as one object that the composition root makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.reconciler.decisions import DeliveryBounds
from notifier.reconciler.incidents import Incidents
from notifier.reporter import EventReporter
from notifier.router import Router
from syncer.model.ports import Ownership
from syncer.sync.cache import Cache
from syncer.sync.claim import Claimer
from syncer.sync.journal import Journal
from syncer.sync.recorder import Recorder


@dataclass(frozen=True, slots=True, eq=False)
class Ports:
    """
    The shared parts of one controller.

    Attributes:
        queue: Holds the uids to reconcile.
        recorder: Appends to the logs, and has the cache of the notifications.
        claimer: Claims and retires logs.
        ownership: Knows which notifications are ours.
        router: Chooses and knows channels.
        reporter: Reports steps of the delivery.
        metrics: Counters of the delivery.
        bounds: Bounds of delivery.
        journal: Records attempts in the status while the log is away, if enabled.
        incidents: Looks up what else is about an incident; None where nothing is.
        installation: Returns the installation's id, by which receivers tell incidents apart.
        explorer: Address of the explorer, empty if no message is to have a link there.
    """

    queue: WorkQueue
    recorder: Recorder
    claimer: Claimer
    ownership: Ownership
    router: Router
    reporter: EventReporter
    metrics: DeliveryMetrics
    bounds: DeliveryBounds
    journal: Journal
    incidents: Incidents | None = None
    installation: Callable[[], str] = lambda: ""
    explorer: str = ""

    @property
    def cache(self) -> Cache:
        """The notifications that this process knows."""
        return self.recorder.cache
