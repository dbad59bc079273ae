"""Texts that are an interface, durations as Go prints them, and texts of others made harmless."""

from __future__ import annotations


def plain(text: str) -> str:
    """A text on one line, without characters that move a cursor or change a colour."""
    return "".join(c if c.isprintable() else " " for c in text)


def go_duration(ms: int) -> str:
    """
    A duration in Go's notation, as the replaced controller prints back-offs: `30s`, `1m30s`, `1.05s`.
    """  # noqa: D200 - too long for one line
    if ms == 0:
        return "0s"
    sign, ms = ("-", -ms) if ms < 0 else ("", ms)
    if ms < 1000:
        return f"{sign}{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 1000}.{rest % 1000:03d}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"
