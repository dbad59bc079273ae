"""The parts that the modules of this package share, as one object that the composition root makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from notifier.dispatch.workqueue import WorkQueue
from notifier.reconciler.decisions import DeliveryBounds
from notifier.reconciler.incidents import Incidents
from notifier.reporter import EventReporter
from notifier.router import Router
from syncer.sync.notifications import Notifications


@dataclass(frozen=True, slots=True, eq=False)
class Ports:
    """
    The shared parts of one controller.

    Attributes:
        queue: Holds the uids to reconcile.
        notifications: All that is known of each, and its record.
        router: Chooses and knows channels.
        reporter: Reports steps of the delivery.
        bounds: Bounds of delivery.
        incidents: Looks up what else is about an incident; None where nothing is.
        installation: Returns the installation's id, by which receivers tell incidents apart.
        explorer: Address of the explorer, empty if no message is to have a link there.
    """

    queue: WorkQueue
    notifications: Notifications
    router: Router
    reporter: EventReporter
    bounds: DeliveryBounds
    incidents: Incidents | None = None
    installation: Callable[[], str] = lambda: ""
    explorer: str = ""
