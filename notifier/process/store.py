"""
Makes the client of Redis and the log, by the settings.

They decide which servers are fit to be written to, and how long a call may wait for one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from notifier.process.outside import Outside
from notifier.settings import Settings
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.ledger.preflight import unfit
from syncer.sync.clock_skew import Clocks

#: Seconds for which a call to Redis is repeated: if attempts wait for it, and if they are journaled. A
#: claim or an intent that waits while attempts are journaled occupies its worker, or its place in a queue.
_PATIENCE: Final = 15.0
_IMPATIENCE: Final = 2.0


def make_store(
    settings: Settings,
    outside: Outside,
    *,
    on_change: Callable[[], None],
    on_wake_up: Callable[[str], None],
) -> tuple[LedgerClient, RedisLog, Clocks]:
    """
    Make the client, the log, and what compares the clocks of its server; nothing is connected yet.

    Args:
        settings: All settings.
        outside: Makes the client of Redis, and knows the API server's time.
        on_change: Called after another server or store has answered.
        on_wake_up: Called with the uid of a log to which another process has appended.
    """
    clocks = Clocks(outside.api_time)
    client = outside.redis(
        fitness=lambda info: unfit(
            settings.redis.seen_in(info),
            durability=settings.redis.durability,
            ahead=clocks.ahead(info),
        ),
        on_change=on_change,
        on_wake_up=on_wake_up,
    )
    log = RedisLog(
        client,
        replicas=lambda: client.replicas_wanted,
        patience=_IMPATIENCE if settings.delivery.log_outage == "journal" else _PATIENCE,
    )
    return client, log, clocks
