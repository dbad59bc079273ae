"""
How many notifications each hold keeps back now.

The rule that the controller obeys decides this, for each notification that a hold concerns, from its
log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing

from syncer.cli.access import Access
from syncer.cli.explanation import Rules, explain
from syncer.cli.output import Progress
from syncer.cli.scan import Joined, Scan, objects, read_logs
from syncer.ledger.reading import read_log
from syncer.model.hold import Hold
from syncer.model.resource import NotificationRequest
from syncer.rules.holds import concerns, holds_channel
from syncer.rules.plan import withheld


async def count_held(
    at: Access, holds: Sequence[Hold], namespaces: Sequence[str], *, now: int
) -> tuple[Counter[str], list[str]]:
    """
    Count, for each hold, the notifications with a due attempt that it keeps back now.

    One that two holds keep counts for both.

    Args:
        at: Open connections.
        holds: In force.
        namespaces: Only these; empty for all.
        now: Redis time in milliseconds.

    Returns:
        The numbers, and a line for each object that exists and cannot be read.

    Raises:
        ConfigError: there is no way to the API server.
        PortError: a server does not answer, or refuses.
    """
    found: Counter[str] = Counter()
    unread: list[str] = []
    rules = Rules.of(at, tuple(holds))
    with Progress("objects") as progress:
        async with aclosing(objects(at, Scan(), namespaces)) as pages:
            async for page in pages:
                wanted = []
                for one in page:
                    if not isinstance(one, NotificationRequest):
                        unread.append(f"{one.key}: {one.text}")
                    elif not one.status.terminal and any(concerns(h, one) for h in holds):
                        wanted.append((one.uid, one))
                for joined in await read_logs(at, wanted) if wanted else ():
                    found.update(_held_by(joined, holds, rules, now))
                progress.step(len(page))
    return found, unread


def _held_by(joined: Joined, holds: Sequence[Hold], rules: Rules, now: int) -> list[str]:
    request = joined.request
    if request is None:
        return []
    decision = explain(request, read_log(joined.elements), rules, now=now).rule
    kept = [channel for channel, _ in withheld(decision)]
    return [h.id for h in holds if concerns(h, request) and any(holds_channel(h, c) for c in kept)]
