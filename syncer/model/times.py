"""
Times: Unix milliseconds here, RFC 3339 in UTC in Kubernetes.

Milliseconds are written where the field is ours or the type takes them. The API server accepts more than
a calendar knows (a year 0, a letter before the fraction): what cannot be read counts as absent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

#: The first and the last millisecond that can be written.
_FIRST: Final = -62_135_596_800_000
_LAST: Final = 253_402_300_799_999
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 (UTC throughout)


def parse_time(text: str | None) -> int:
    """Read RFC 3339 as Unix milliseconds, 0 for an absent time; ValueError if it is no time."""
    if not text:
        return 0
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(_FIRST, min(round(when.timestamp() * 1000), _LAST))


@lru_cache(maxsize=1024)
def time_of(text: str | None) -> int:
    """As `parse_time`, for a time that the API server accepted; 0 for one that cannot be read."""
    try:
        return parse_time(text.upper() if text else text)
    except ValueError:
        return 0


def format_time(ms: int, *, millis: bool = True) -> str:
    """
    Write Unix milliseconds as RFC 3339 in UTC, with or without three digits of a second; empty for 0.

    A number beyond the calendar, as somebody may write it into a hold, is its first or last moment.
    """
    if not ms:
        return ""
    seconds, rest = divmod(max(_FIRST, min(ms, _LAST)), 1000)
    text = second_text(seconds)
    return f"{text}.{rest:03d}Z" if millis else f"{text}Z"


@lru_cache(maxsize=1024)
def second_text(second: int) -> str:
    """The time of a Unix second, without a zone; OverflowError beyond the calendar."""
    # The times of one notification, and of those that are handled with it, share a few seconds.
    # Not strftime, which writes the year 1 with one digit.
    return (_EPOCH + timedelta(seconds=second)).isoformat()
