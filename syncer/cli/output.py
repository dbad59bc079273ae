"""
Output: tables for people, JSON lines for programs, a progress line on a terminal.

Answers go to standard output, everything else to standard error. The progress line is written only to a
terminal, so that neither a file nor a pipe ever holds it, and is erased before anything else is written,
which may be the same terminal. Texts from objects and receivers are shown without control characters.
"""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Self, TextIO

from syncer.cli.screen import MARK, Screen, columns, cut, padded
from syncer.rules.text import escaped_json, plain

#: Seconds between updates of the progress line.
_REFRESH: Final = 0.2
_BAR: Final = 24


def table(rows: Sequence[Sequence[str]], *, indent: str = "", width: int = 0) -> list[str]:
    """
    Rows as aligned lines; the first one is the head.

    Where that is wider than it may be, each row becomes a few lines of its own, named by the head: nothing
    is cut, and no line is longer.

    Args:
        rows: Cells.
        indent: Stands before each line.
        width: Columns, 0 for any number.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(columns(row[n]) for row in cells) for n in range(len(cells[0]))] if cells else []
    lines = [
        (indent + "  ".join(padded(cell, w) for cell, w in zip(row, widths, strict=True))).rstrip()
        for row in cells
    ]
    if not width or all(columns(line) <= width for line in lines):
        return lines
    head, *rest = cells
    return [line for row in rest for line in _stacked(head, row, indent, width)]


def _stacked(head: Sequence[str], row: Sequence[str], indent: str, width: int) -> list[str]:
    """One row as lines: its first cell, and below it each other cell that is not empty, with its name."""
    lines = textwrap.wrap(row[0], width, initial_indent=indent, subsequent_indent=indent)
    under = indent + "  "
    for name, cell in zip(head[1:], row[1:], strict=True):
        if cell:
            text = f"{name.lower()}: {cell}" if name else cell
            lines += textwrap.wrap(
                text, max(width, len(under) + 10), initial_indent=under,
                subsequent_indent=under + "  ",
            )  # fmt: skip
    return lines


class Columns:
    """
    A table that is written page by page; a column widens where a page needs it, and stays so.

    `cut` counts the cells that were cut to fit the screen.
    """

    def __init__(
        self,
        head: Sequence[str],
        screen: Screen = Screen(),  # noqa: B008 - a frozen value
        *,
        flexible: Mapping[str, int] = MappingProxyType({}),
        colours: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """
        Begin with the head, which comes with the first page.

        Args:
            head: Names of the columns.
            screen: What it is shown on.
            flexible: Columns that may be cut, each with the columns of the screen that it keeps.
            colours: Of cells, by their text.
        """
        self._head: Sequence[str] | None = head
        self._names = tuple(head)
        self._widths = [columns(cell) for cell in head]
        self._screen = screen
        self._flexible = {self._names.index(name): least for name, least in flexible.items()}
        self._colours = colours
        self.cut = 0

    def lines(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """One page as aligned lines."""
        cells = [[plain(cell) for cell in row] for row in rows]
        lines = []
        self._widths = [
            max([w, *(columns(r[n]) for r in cells)]) for n, w in enumerate(self._widths)
        ]
        fitting = self._fitting()
        if self._head is not None:
            head = self._line(self._head, fitting, counted=False)
            lines.append(self._screen.paint(head, "bold"))
            self._head = None
        return lines + [self._line(row, fitting) for row in cells]

    def _fitting(self) -> list[int]:
        """Widths of the columns on this screen: the widest that may be cut gives first."""
        widths = list(self._widths)
        over = sum(widths) + 2 * (len(widths) - 1) - self._screen.width
        while self._screen.width and over > 0:
            giving = [n for n, least in self._flexible.items() if widths[n] > least]
            if not giving:
                break
            most = max(widths[n] for n in giving)
            widest = [n for n in giving if widths[n] == most]
            # As far as the next widest, at once: a cell may be as long as its author likes.
            floor = max(
                *(self._flexible[n] for n in widest),
                *(widths[n] for n in giving if widths[n] < most), 0,
            )  # fmt: skip
            step = min(over // len(widest), most - floor)
            for n in widest if step else widest[:over]:
                widths[n] -= step or 1
                over -= step or 1
        return widths

    def _line(self, row: Sequence[str], widths: Sequence[int], *, counted: bool = True) -> str:
        out = []
        for cell, width in zip(row, widths, strict=True):
            fits = cut(cell, width)
            self.cut += counted and fits != cell
            filled = padded(fits, width)
            out.append(self._screen.paint(filled, self._colours.get(cell, "")))
        return "  ".join(out).rstrip()

    def report_cut(self) -> None:
        """Report cells that were cut, and how to see them in full."""
        if self.cut:
            write_remark(
                f"{MARK} marks text cut to fit {self._screen.width} columns; COLUMNS=0 cuts nothing"
            )


def write_lines(lines: Iterable[str]) -> None:
    """Write lines of an answer."""
    Progress.clear()
    for line in lines:
        sys.stdout.write(line + "\n")


def write_json(document: Any) -> None:
    """Write one JSON document on one line."""
    Progress.clear()
    sys.stdout.write(escaped_json(json.dumps(document, ensure_ascii=False)) + "\n")


def write_answer(document: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Write a part of an answer in one of its two forms."""
    if as_json:
        write_json(document)
    else:
        write_lines(lines)


def write_page(
    columns: Columns, page: Sequence[Any], *, json: bool, cells: Callable[[Any], Sequence[str]],
    as_json: Callable[[Any], Any] = lambda item: item.as_json(),
) -> None:  # fmt: skip
    """Write one page of a table, or a JSON object for each item, at once, also into a pipe."""
    if json:
        for item in page:
            write_json(as_json(item))
    elif page:
        write_lines(columns.lines([cells(item) for item in page]))
    sys.stdout.flush()


def write_remark(text: str, program: str = "syncer") -> None:
    """Write a remark that is not part of the answer."""
    Progress.clear()
    sys.stderr.write(f"{program}: {plain(text)}\n")


def in_words(ms: int) -> str:
    """Format a span of time as a person says it: `42 seconds`, `1 hour`, `119 minutes`."""
    seconds = max(0, ms) // 1000
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds == size or seconds >= 2 * size:
            return f"{seconds // size} {unit}{'s' if seconds >= 2 * size else ''}"
    return "less than a second"


def span(ms: int) -> str:
    """A span of time that may be short, in words."""
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s" if ms < 60_000 else in_words(ms)


def age(ms: int) -> str:
    """Format a span of time in one unit: `42s`, `17m`, `5h`, `3d`."""
    seconds = max(0, ms) // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


class Progress:
    """A progress line for long work; silent unless the stream is a terminal."""

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
