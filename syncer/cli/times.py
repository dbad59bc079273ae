"""Durations and times on the command line."""

from __future__ import annotations

import re
import time
from typing import Final

from syncer.configfile import parse_duration
from syncer.model.errors import ConfigError
from syncer.model.times import parse_time

#: Whole days at the beginning of a duration.
_DAYS: Final = re.compile(r"([0-9]{1,4})d")
#: A number without a unit, which the settings would read as seconds; only 0 needs no unit.
_BARE: Final = re.compile(r"([0-9]{1,4}d)?[0-9.]*[1-9][0-9.]*")


def now_here() -> int:
    """Return this machine's time in Unix milliseconds, for use where Redis time is not available."""
    return time.time_ns() // 1_000_000


def seconds_of(text: str, option: str) -> float:
    """Parse a duration, as in settings or with days (`3d`, `1d12h`); else ConfigError."""
    if _BARE.fullmatch(text.strip()):
        raise ConfigError(f"{option}: {text} has no unit: write {text}m or {text}h")
    days = _DAYS.match(text.strip())
    rest = text.strip()[days.end() :] if days else text
    try:
        more = parse_duration(rest) if rest or not days else 0.0
        return more + (86_400 * int(days[1]) if days else 0)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}, or 3d") from None


def end_of(text: str, option: str, now: int) -> int:
    """
    Parse a future time, a duration from now or RFC 3339; returns Unix milliseconds.

    Args:
        text: The text as typed.
        option: Name of the option, for errors.
        now: Unix milliseconds.

    Raises:
        ConfigError: the text is neither.
    """
    moment = moment_of(text, option, now)
    return moment if "T" in text.upper() else 2 * now - moment


def moment_of(text: str, option: str, now: int) -> int:
    """
    Parse a past time, a duration before now or RFC 3339; returns Unix milliseconds.

    Args:
        text: The text as typed.
        option: Name of the option, for errors.
        now: Unix milliseconds.

    Raises:
        ConfigError: the text is neither.
    """
    if "T" in text.upper():
        try:
            return parse_time(text.strip().upper())
        except ValueError:
            raise ConfigError(f"{option}: must be a time such as 2026-01-31T08:00:00Z") from None
    try:
        return now - round(1000 * seconds_of(text, option))
    except ConfigError as error:
        raise ConfigError(f"{error}, or a time such as 2026-01-31T08:00:00Z") from None
