"""
The width of an answer, its colours, and texts that fit.

A width of 0 means no limit: output to a file or a pipe is never cut unless asked for. A colour never
carries a meaning by itself; the word stands beside it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TextIO

#: Stands for what was cut.
MARK: Final = "…"
_CODES: Final = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
#: Narrower than this nothing can be read.
_NARROWEST: Final = 20


@dataclass(frozen=True, slots=True)
class Screen:
    """The output's width in columns, 0 for no limit, and whether it shows colours."""

    width: int = 0
    color: bool = False

    def paint(self, text: str, colour: str) -> str:
        """Return a text in a colour; unchanged where there are none, or no colour is named."""
        if not (self.color and colour):
            return text
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def screen_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Screen:
    """
    Return the screen of an output stream.

    Args:
        stream: Where the answer goes.
        environ: `COLUMNS`, `NO_COLOR`, `FORCE_COLOR` and `TERM` are looked at.
    """
    shown = stream.isatty()
    named = environ.get("COLUMNS", "")
    width = int(named) if named.isdecimal() else _columns_of(stream) if shown else 0
    fancy = shown and environ.get("TERM", "dumb") != "dumb"
    color = (fancy or bool(environ.get("FORCE_COLOR"))) and not environ.get("NO_COLOR")
    return Screen(max(width, _NARROWEST) if width else 0, color)


def _columns_of(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0


def columns(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, width: int) -> str:
    """Return a text that takes no more columns, with a mark where something was cut."""
    if columns(text) <= width:
        return text
    out, left = "", width - 1
    for c in text:
        left -= columns(c)
        if left < 0:
            break
        out += c
    return out + MARK if width > 0 else ""


def padded(text: str, width: int) -> str:
    """Return a text filled with blanks to so many columns."""
    return text + " " * (width - columns(text))
