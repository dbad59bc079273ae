"""
What a process may remember of a notification at any moment: legal combinations of an entry's members.

They hold after every callback of a process, not only where servers see something of it. A world in which
they are looked at takes twice the time, so every fourth one is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from syncer.sync.cache import Entry

#: Seeds that are divisible by this are looked at.
EVERY: Final = 4
RULES: Final[dict[str, Callable[[Entry], bool]]] = {
    "urgent, and nothing to publish": lambda e: not e.urgent or e.dirty_since is not None,
    "to be published, and neither scheduled nor being written": lambda e: (
        e.dirty_since is None or e.writing or e.ticket != math.inf
    ),
    "scheduled, and nothing to publish": lambda e: (
        e.dirty_since is not None or e.writing or e.ticket == math.inf
    ),
    "an attempt is unsent or ahead, and nobody executes it": lambda e: (
        e.never_sent | e.ahead <= e.executing.keys() and e.seeded <= e.ahead
    ),
    "an attempt is executed, and its result known": lambda e: e.executing.keys().isdisjoint(
        e.unrecorded
    ),
    "acknowledged beyond the log": lambda e: e.acked <= e.view.position,
    "quarantined, and claimed": lambda e: not e.quarantine or e.claim is None,
    "given its time to live, and not over": lambda e: (
        not e.expiring or (e.acked == e.view.position and not e.view.opened)
    ),
    # One that another controller has finished may have no plan, and is resent all the same.
    "tried, and not planned": lambda e: (
        e.view.plan is not None or not e.executing or bool(e.view.orders)
    ),
    "never looked at, and something known of it": lambda e: (
        not e.fresh or not (e.acked or e.quarantine)
    ),
    "results kept, and claimed": lambda e: not e.unrecorded or e.claim is None,
    "held without a log, and since never": lambda e: not e.without_log or e.without_log_since > 0,
}


def illegal(entry: Entry) -> str:
    """Return which rule an entry breaks, empty if it breaks none."""
    return next((name for name, holds in RULES.items() if not holds(entry)), "")
