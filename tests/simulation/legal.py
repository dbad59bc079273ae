"""
What a process may remember of a notification at any moment: legal combinations of a notification's members.

They hold after every callback of a process, not only where servers see something of it. A world in which
they are looked at takes twice the time, so every fourth one is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from syncer.sync.notification import Notification

#: Seeds that are divisible by this are looked at.
EVERY: Final = 4
RULES: Final[dict[str, Callable[[Notification], bool]]] = {
    "urgent, and nothing to publish": lambda e: not e.publication.urgent or e.publication.pending,
    "to be published, and neither scheduled nor being written": lambda e: (
        not e.publication.pending or e.publication.writing or e.publication.ticket != math.inf
    ),
    "gone, and to be published": lambda e: not (e.deleted and e.publication.pending),
    "scheduled, and nothing to publish": lambda e: (
        e.publication.pending or e.publication.writing or e.publication.ticket == math.inf
    ),
    "an attempt is unsent or ahead, and nobody executes it": lambda e: (
        e.in_flight.never_sent | e.in_flight.ahead <= e.in_flight.executing.keys()
        and e.in_flight.seeded <= e.in_flight.ahead
    ),
    "an attempt is executed, and its result known": lambda e: (
        e.in_flight.executing.keys().isdisjoint(e.in_flight.unrecorded)
    ),
    "acknowledged beyond the log": lambda e: e.acked <= e.view.position,
    "quarantined, and claimed": lambda e: not e.quarantine or e.claim is None,
    "given its time to live, and not over": lambda e: (
        not e.expiring or (e.acked == e.view.position and not e.view.opened)
    ),
    # One that another controller has finished may have no plan, and is resent all the same. Nothing is
    # decided by what a former owner reads of a log that its own late outcome has made anew.
    "tried, and not planned": lambda e: (
        e.view.plan is not None
        or not e.in_flight.executing
        or bool(e.view.orders)
        or (e.claim is None and not e.outage.note)
    ),
    "never looked at, and acknowledged": lambda e: not e.fresh or not e.acked,
    "results kept, and claimed": lambda e: not e.in_flight.unrecorded or e.claim is None,
    "held without a log, and since never": lambda e: not e.outage.shown or e.outage.since > 0,
}


def illegal(notification: Notification) -> str:
    """Return which rule a notification breaks, empty if it breaks none."""
    return next((name for name, holds in RULES.items() if not holds(notification)), "")
