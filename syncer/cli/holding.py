"""
The holds of operators, for the commands that place, list and release them, and for those that look.

`hold` and `release` replace the record of all holds by one that holds one more or one less
(`syncer.ledger.holds`). They claim nothing and touch no log; the owner of a notification leaves in its log
why it is not sent. `holds` counts by the rule that the controller obeys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from syncer.cli.access import Access
from syncer.cli.explanation import Rules, explain
from syncer.cli.output import Progress, in_words
from syncer.cli.scan import Joined, Scan, objects, read_logs
from syncer.ledger.holds import HoldStore
from syncer.ledger.reading import read_log
from syncer.model.errors import ContractError
from syncer.model.hold import Hold
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.channel_state import State
from syncer.rules.holds import concerns, held_channels, holds_channel, selector_of
from syncer.rules.plan import withheld

HEAD = ("ID", "ENDS", "BY", "HOLDS", "WHAT", "REASON")
FLEXIBLE = {"BY": 8, "WHAT": 20, "REASON": 14}
COLOURS = {"released": "dim", "ended": "dim"}

#: States of a channel in a status after which nothing more is due.
_FINISHED = frozenset(s.value for s in State if s.finished)


async def read_holds(at: Access) -> tuple[tuple[Hold, ...], str]:
    """
    Read the holds on record, for a command that can do without; and why that is not possible.

    Raises:
        PortError: Redis does not answer, or refuses.
    """
    try:
        return (await HoldStore(at.client).read()).holds, ""
    except ContractError as error:
        return (), str(error)


def is_held(request: NotificationRequest, holds: Sequence[Hold], *, now: int) -> bool:
    """
    Whether an operator holds back a channel of a notification that its status does not show as finished.

    Args:
        request: The notification.
        holds: All on record.
        now: Redis time in milliseconds.
    """
    status = request.status
    if not holds or status.terminal:
        return False
    # Before there is a plan only what holds every channel is known to hold it.
    channels = [c.name for c in status.channels if c.state not in _FINISHED]
    if not status.channels:
        channels = [""]
    return bool(held_channels(request, channels, holds, now=now, clock=0.0))


async def count_held(
    at: Access, holds: Sequence[Hold], namespaces: Sequence[str], *, now: int
) -> tuple[Counter[str], list[str]]:
    """
    Count, by hold, the notifications of which it keeps a due attempt from being made now.

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
    delivery = at.settings.delivery
    rules = Rules(delivery.at_most_once, delivery.paused, delivery.max_age, holds=tuple(holds))
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


def cells_of(hold: Hold, held: int | None, now: int) -> tuple[str, ...]:
    """
    Return a hold as cells of a table.

    Args:
        hold: The hold.
        held: How many notifications it holds, None if that is not known.
        now: Redis time in milliseconds.
    """
    if hold.released:
        ends, by = "released", f"{hold.by}, {hold.released_by}"
    elif hold.in_force(now):
        ends, by = f"in {in_words(hold.until - now)}", hold.by
    else:
        ends, by = "ended", hold.by
    count = "-" if held is None else str(held)
    return (hold.id, ends, by, count, selector_of(hold), hold.reason)


def as_json(hold: Hold, held: int | None, now: int) -> dict[str, Any]:
    """
    Return a hold as one JSON object; the keys are an interface.

    Args:
        hold: The hold.
        held: How many notifications it holds, None if that is not known.
        now: Redis time in milliseconds.
    """
    return {
        "id": hold.id,
        "inForce": hold.in_force(now),
        "placed": format_time(hold.at),
        "until": format_time(hold.until),
        "by": hold.by,
        "reason": hold.reason,
        "receivers": list(hold.receivers),
        "namespaces": list(hold.namespaces),
        "types": list(hold.types),
        "severities": list(hold.severities),
        "released": format_time(hold.released) or None,
        "releasedBy": hold.released_by or None,
        "holds": held,
    }
