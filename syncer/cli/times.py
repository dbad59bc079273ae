"""Spans of time on the command line."""

from __future__ import annotations

import re
from typing import Final

from syncer.configfile import parse_duration
from syncer.model.errors import ConfigError

#: Whole days at the beginning of a span of time.
_DAYS: Final = re.compile(r"([0-9]{1,4})d")


def seconds_of(text: str, option: str) -> float:
    """
    Parse a span of time: as in the settings file, and with days in front (`3d`, `1d12h`).

    Raises:
        ConfigError: it is none; the message names the option.
    """
    days = _DAYS.match(text.strip())
    rest = text.strip()[days.end() :] if days else text
    try:
        more = parse_duration(rest) if rest or not days else 0.0
        return more + (86_400 * int(days[1]) if days else 0)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}, or 3d") from None
