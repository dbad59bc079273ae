"""
Holds that recur: the window of a hold that is open at a time, or the next one.

A cron expression names the beginnings of the windows in a time zone, as Debian's cron understands it
through changes of the clock; each window lasts equally long. What has an expression or a zone that nobody
can read holds all the time between its start and its end: a mistake must not let go what somebody wanted
to hold. The condition `Matched` says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from syncer.model.hold import Hold

#: Windows that may overlap; what begins in between is looked at when the last of these is over.
_OVERLAP: Final = 100


def current(hold: Hold, now: int) -> Hold:
    """
    Return a hold as it is at a time: with the start and end of the window that is open, or comes next.

    One that does not recur, or that has ended, or whose recurrence cannot be read, is returned as it is.
    """
    recurrence = hold.recurrence
    if recurrence is None or now >= hold.until or problem_of(hold):
        return hold
    lasts = timedelta(milliseconds=recurrence.duration)
    moment = datetime.fromtimestamp(max(now, hold.since) / 1000, UTC)
    begins = CronSim(recurrence.cron, (moment - lasts).astimezone(ZoneInfo(recurrence.zone)))
    # A window that never comes begins after the end of any hold.
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
    """Return holds as they are at a time."""
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
