"""
Recurring holds: the window that is open at a given time, or the next one.

A cron expression gives the starts of the windows in a time zone, with Debian cron's treatment of clock
changes; all windows have the same length. A hold whose expression or zone cannot be read holds all the time
between its start and its end: a mistake must not release messages that somebody wanted to hold. The
condition `Matched` says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from syncer.model.hold import Hold

#: Number of overlapping windows that are joined at once; later ones are looked at when these are over.
_OVERLAP: Final = 100


def current(hold: Hold, now: int) -> Hold:
    """
    Return a hold with the start and end of the window that is open at a given time, or of the next one.

    A hold that does not recur, has ended, or has a recurrence that cannot be read is returned unchanged.
    """
    recurrence = hold.recurrence
    if recurrence is None or now >= hold.until or problem_of(hold):
        return hold
    lasts = timedelta(milliseconds=recurrence.duration)
    moment = datetime.fromtimestamp(max(now, hold.since) / 1000, UTC)
    begins = CronSim(recurrence.cron, (moment - lasts).astimezone(ZoneInfo(recurrence.zone)))
    # If there is no further window, take a time after the end of any hold.
    never = moment + timedelta(days=400)
    start = end = next(begins, never)
    for _ in range(_OVERLAP):
        following = next(begins, never)
        if following > moment:
            break
        end = following
    return replace(
        hold,
        start=max(_ms(start), hold.start),
        until=min(_ms(end) + recurrence.duration, hold.until),
    )


def currently(holds: Iterable[Hold], now: int) -> tuple[Hold, ...]:
    """Return each hold as `current` does."""
    return tuple(current(hold, now) for hold in holds)


def problem_of(hold: Hold) -> str:
    """Why the recurrence of a hold cannot be read, so that it holds without a break; empty if it can."""
    recurrence = hold.recurrence
    if recurrence is None:
        return ""
    try:
        CronSim(recurrence.cron, datetime.fromtimestamp(0, ZoneInfo(recurrence.zone)))
    except (CronSimError, ValueError, OSError, KeyError) as error:
        return f"its recurrence cannot be read, so it holds without a break: {error}"
    return ""


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
