"""
The holds of operators, for the commands that place, list and release them, and for those that look.

`hold` and `release` replace the record of all holds by one that holds one more or one less
(`syncer.ledger.holds`). They claim nothing and touch no log; the owner of a notification leaves in its log
why it is not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from syncer.cli.access import Access
from syncer.cli.output import in_words
from syncer.ledger.holds import HoldStore
from syncer.model.errors import ContractError
from syncer.model.hold import Hold
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.holds import keep_back, selector_of

HEAD = ("ID", "ENDS", "BY", "HOLDS", "WHAT", "REASON")
FLEXIBLE = {"BY": 8, "WHAT": 20, "REASON": 14}
COLOURS = {"released": "dim", "ended": "dim"}


async def read_holds(at: Access) -> tuple[tuple[Hold, ...], str]:
    """
    Read the holds on record, and why they cannot be read, for a command that can do without.

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
    return keep_back(holds, request, [(c.name, c.state) for c in status.channels], now=now)


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
