"""
Output: tables for people, JSON lines for programs.

Answers go to standard output, everything else to standard error. Texts from objects and receivers are
shown without control characters. Columns are as wide as their contents; a terminal wraps longer lines.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from syncer.rules.text import escaped_json, plain


def columns(text: str) -> int:
    """Return how many columns a text occupies on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def table(
    rows: Iterable[Sequence[str]], *, indent: str = "", widths: dict[int, int] | None = None
) -> list[str]:
    """
    Return rows as aligned lines; the first row is the header.

    Args:
        rows: Cells.
        indent: Text before each line.
        widths: Minimum width of each column, by its number; updated in place.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = {} if widths is None else widths
    for row in cells:
        widths |= {n: max(columns(cell), widths.get(n, 0)) for n, cell in enumerate(row)}
    return [
        indent + "  ".join(c + " " * (widths[n] - columns(c)) for n, c in enumerate(row)).rstrip()
        for row in cells
    ]


#: The function that returns an item's text for a column, by the column's name.
Columns = Mapping[str, Callable[[Any], str]]


class Table:
    """Writes items page by page, as a table or as JSON; a column widens when a page needs it."""

    def __init__(
        self,
        columns: Columns,
        *,
        json: bool = False,
        as_json: Callable[[Any], Any] = lambda item: item.as_json(),
    ) -> None:
        """
        Prepare; the header is written with the first page.

        Args:
            columns: Columns of the table.
            json: Write each item as JSON instead.
            as_json: Returns the JSON document of an item.
        """
        self._columns = columns
        self._as_json = as_json if json else None
        self._widths: dict[int, int] = {}
        self._head = [list(columns)]

    def write(self, items: Sequence[Any]) -> None:
        """Write one page, and flush it so that a pipe gets it at once."""
        if self._as_json is not None:
            for item in items:
                write_json(self._as_json(item))
        elif items:
            rows = [
                *self._head,
                *([cell(item) for cell in self._columns.values()] for item in items),
            ]
            self._head = []
            write_lines(table(rows, widths=self._widths))
        sys.stdout.flush()


def write_lines(lines: Iterable[str]) -> None:
    """Write lines of an answer."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def write_json(document: Any) -> None:
    """Write one JSON document on one line."""
    sys.stdout.write(escaped_json(json.dumps(document, ensure_ascii=False)) + "\n")


def write_answer(document: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Write a part of an answer, as JSON or as lines."""
    if as_json:
        write_json(document)
    else:
        write_lines(lines)


def write_remark(text: str, program: str = "syncer") -> None:
    """Write a remark that is not part of the answer; nothing if it is empty."""
    if text:
        sys.stderr.write(f"{program}: {plain(text)}\n")


def in_words(ms: int) -> str:
    """Format a span of time as a person would say it: `42 seconds`, `1 hour`, `119 minutes`."""
    seconds = max(0, ms) // 1000
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds == size or seconds >= 2 * size:
            return f"{seconds // size} {unit}{'s' if seconds >= 2 * size else ''}"
    return "less than a second"


def age(ms: int) -> str:
    """Format a span of time in one unit: `42s`, `17m`, `5h`, `3d`."""
    seconds = max(0, ms) // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


#: Errors that only the developers of the replaced controller understand; the record keeps the original.
_PLAIN: Final = (
    (re.compile(r".*RegisterChannel\(\).*", re.DOTALL),
     "this kind of channel is switched off in the controller's settings (`delivery`)"),
    (re.compile(r"^permanent failure: (.*) \(permanent failure\)$", re.DOTALL), r"failed for good: \1"),
)  # fmt: skip


def translated(error: str) -> str:
    """Return an error in the words of this product."""
    for pattern, text in _PLAIN:
        error = pattern.sub(text, error)
    return error
