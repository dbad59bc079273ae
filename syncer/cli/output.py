"""
Output: tables for people, JSON lines for programs, a progress line on a terminal.

Answers go to standard output, everything else to standard error. The progress line is written only to a
terminal, so that neither a file nor a pipe ever holds it, and is erased before anything else is written,
which may be the same terminal. Texts from objects and receivers are shown without control characters.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self, TextIO

from syncer.rules.text import escaped_json, plain

#: Seconds between updates of the progress line.
_REFRESH: Final = 0.2
_BAR: Final = 24


def table(rows: Sequence[Sequence[str]], *, indent: str = "") -> list[str]:
    """Rows as aligned lines; the first one is the head."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))] if cells else []
    return [
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
        .rstrip()
        for row in cells
    ]  # fmt: skip


class Columns:
    """A table that is written page by page; a column widens where a page needs it, and stays so."""

    def __init__(self, head: Sequence[str]) -> None:
        """Begin with the head, which comes with the first page."""
        self._head: Sequence[str] | None = head
        self._widths = [len(cell) for cell in head]

    def lines(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """One page as aligned lines."""
        cells = [[plain(cell) for cell in row] for row in rows]
        if self._head is not None:
            cells.insert(0, list(self._head))
            self._head = None
        self._widths = [max(w, *(len(r[n]) for r in cells)) for n, w in enumerate(self._widths)]
        return [
            "  ".join(c.ljust(w) for c, w in zip(r, self._widths, strict=True)).rstrip()
            for r in cells
        ]


def write_lines(lines: Iterable[str]) -> None:
    """Write lines of an answer."""
    Progress.clear()
    for line in lines:
        sys.stdout.write(line + "\n")


def write_json(document: Any) -> None:
    """Write one JSON document on one line."""
    Progress.clear()
    sys.stdout.write(escaped_json(json.dumps(document, ensure_ascii=False)) + "\n")


def write_remark(text: str) -> None:
    """Write a remark that is no part of the answer."""
    Progress.clear()
    sys.stderr.write(f"syncer: {plain(text)}\n")


def age(ms: int) -> str:
    """Format a span of time in one unit: `42s`, `17m`, `5h`, `3d`."""
    seconds = max(0, ms) // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


class Progress:
    """A line that shows how far long work is; silent unless the stream is a terminal."""

    #: The one whose line is on the terminal now.
    _drawn: Progress | None = None

    def __init__(self, what: str, *, total: int = 0, stream: TextIO | None = None) -> None:
        """`total` is 0 where it is not known."""
        self._what = what
        self._total = total
        self._stream = stream if stream is not None else sys.stderr
        self._shown = self._stream.isatty()
        self._began = time.monotonic()
        self._next = 0.0
        self._width = 0
        self.done = 0

    def __enter__(self) -> Self:
        """Return the line, which the first step draws."""
        return self

    def __exit__(self, *_: object) -> None:
        """Erase the line."""
        self.erase()

    @classmethod
    def clear(cls) -> None:
        """Erase whichever line is on the terminal; the next step draws it anew."""
        if Progress._drawn is not None:
            Progress._drawn.erase()

    def erase(self) -> None:
        """Erase the line, until the next step."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
        self._width = 0
        if Progress._drawn is self:
            Progress._drawn = None

    def step(self, count: int = 1) -> None:
        """Count so many more as done."""
        self.done += count
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next = now + _REFRESH
            self._draw(now)

    def _draw(self, now: float) -> None:
        rate = self.done / max(0.001, now - self._began)
        if self._total:
            share = min(1.0, self.done / self._total)
            full = round(share * _BAR)
            bar = "#" * full + "-" * (_BAR - full)
            left = (self._total - self.done) / rate if rate else 0.0
            text = f"{self._what} [{bar}] {self.done}/{self._total}  {rate:.0f}/s  {left:.0f}s left"
        else:
            text = f"{self._what} {self.done}  {rate:.0f}/s"
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = max(self._width, len(text))
        Progress._drawn = self
