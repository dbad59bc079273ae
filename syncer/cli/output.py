"""
Output: tables for people, JSON lines for programs.

Answers go to standard output, everything else to standard error. Texts from objects and receivers are
shown without control characters.

A width of 0 means no limit: output to a file or a pipe is never cut unless asked for. A colour never
carries a meaning by itself; the word stands beside it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TextIO

from syncer.rules.text import escaped_json, plain

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
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.color and colour else text


def screen_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Screen:
    """
    Return the screen of an output stream.

    Args:
        stream: Where the answer goes.
        environ: `COLUMNS`, `NO_COLOR`, `FORCE_COLOR` and `TERM` are looked at.
    """
    shown, named, width = stream.isatty(), environ.get("COLUMNS", ""), 0
    if named.isdecimal():
        width = int(named)
    elif shown:
        with suppress(OSError, ValueError):
            width = os.get_terminal_size(stream.fileno()).columns
    fancy = shown and environ.get("TERM", "dumb") != "dumb"
    color = (fancy or bool(environ.get("FORCE_COLOR"))) and not environ.get("NO_COLOR")
    return Screen(max(width, _NARROWEST) if width else 0, color)


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
    kept = text[: max(0, width - 1)]
    while kept and columns(kept) > width - 1:
        kept = kept[:-1]
    return kept + MARK if width > 0 else ""


def padded(text: str, width: int) -> str:
    """Return a text filled with blanks to so many columns."""
    return text + " " * (width - columns(text))


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


class Column(NamedTuple):
    """
    A column: its name, and what a cell of it says of an item.

    Where the table is wider than the screen, a cell is cut to `least` columns of it at most; 0: never.
    """

    name: str
    cell: Callable[[Any], str]
    least: int = 0


class Table:
    """
    Items as a table that is written page by page, or as JSON; a column widens where a page needs it.

    `cut` counts the cells that were cut to fit the screen.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        json: bool = False,
        as_json: Callable[[Any], Any] = lambda item: item.as_json(),
        colours: Mapping[str, str] = MappingProxyType({}),
        screen: Screen | None = None,
    ) -> None:
        """
        Begin with the head, which comes with the first page.

        Args:
            columns: Of the table.
            json: Write each item as JSON instead.
            as_json: Makes the document of an item.
            colours: Of cells, by their text.
            screen: What it is shown on; the one of standard output if it is not given.
        """
        self._columns = columns
        self._as_json = as_json if json else None
        self._colours = colours
        self._screen = screen or screen_of(sys.stdout)
        self._widths = [len(column.name) for column in columns]
        self._begun = False
        self.cut = 0

    def write(self, items: Sequence[Any]) -> None:
        """Write one page at once, also into a pipe."""
        if self._as_json is not None:
            for item in items:
                write_json(self._as_json(item))
        elif items:
            write_lines(self.lines(items))
        sys.stdout.flush()

    def lines(self, items: Sequence[Any]) -> list[str]:
        """One page as aligned lines."""
        rows = [[plain(column.cell(item)) for column in self._columns] for item in items]
        self._widths = list(map(max, self._widths, *(map(columns, row) for row in rows)))
        widths, out = self._fitting(), []
        if not self._begun:
            self._begun = True
            head = (cut(c.name, w).ljust(w) for c, w in zip(self._columns, widths, strict=True))
            out.append(self._screen.paint("  ".join(head).rstrip(), "bold"))
        for row in rows:
            cells = [cut(cell, width) for cell, width in zip(row, widths, strict=True)]
            self.cut += cells != row
            filled = map(padded, cells, widths)
            painted = (
                self._screen.paint(full, self._colours.get(cell, ""))
                for full, cell in zip(filled, row, strict=True)
            )
            out.append("  ".join(painted).rstrip())
        return out

    def _fitting(self) -> list[int]:
        """Widths of the columns on this screen: those that may be cut give as far as the widest may be."""
        room = self._screen.width - 2 * (len(self._widths) - 1)

        def capped(most: int) -> list[int]:
            return [
                min(width, max(most, column.least)) if column.least else width
                for column, width in zip(self._columns, self._widths, strict=True)
            ]

        if not self._screen.width or sum(self._widths) <= room:
            return self._widths
        return capped(bisect_right(range(1, room + 1), room, key=lambda most: sum(capped(most))))

    def report_cut(self) -> None:
        """Report cells that were cut, and how to see them in full."""
        if self.cut:
            write_remark(
                f"{MARK} marks text cut to fit {self._screen.width} columns; COLUMNS=0 cuts nothing"
            )


def write_lines(lines: Iterable[str]) -> None:
    """Write lines of an answer."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def write_json(document: Any) -> None:
    """Write one JSON document on one line."""
    sys.stdout.write(escaped_json(json.dumps(document, ensure_ascii=False)) + "\n")


def write_answer(document: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Write a part of an answer in one of its two forms."""
    if as_json:
        write_json(document)
    else:
        write_lines(lines)


def write_remark(text: str, program: str = "syncer") -> None:
    """Write a remark that is not part of the answer; nothing if it is empty."""
    if text:
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


#: What only the developers of the replaced controller understand; the record keeps their words.
_PLAIN: Final = (
    (re.compile(r".*RegisterChannel\(\).*", re.DOTALL),
     "this kind of channel is switched off in the controller's settings (`delivery`)"),
    (re.compile(r"^permanent failure: (.*) \(permanent failure\)$", re.DOTALL), r"failed for good: \1"),
)  # fmt: skip


def translated(error: str) -> str:
    """Return an error in words of this product."""
    for pattern, text in _PLAIN:
        error = pattern.sub(text, error)
    return error
