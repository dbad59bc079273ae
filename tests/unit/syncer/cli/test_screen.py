"""How wide an answer is, when it has colours, and how texts are made to fit."""

from __future__ import annotations

import io
import os
from typing import Any, Final

import pytest

from syncer.cli.output import Screen, Table, columns, cut, in_words, padded, screen_of, table
from tests.unit.syncer.cli.samples import members


class Stream(io.StringIO):
    """A stream that is a terminal, or is not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """As made."""
        return self._terminal


#: Whether it is a terminal, the environment, and the width.
WIDTHS: Final[dict[str, tuple[bool, dict[str, str], int]]] = {
    "the variable, also in a pipe": (False, {"COLUMNS": "90"}, 90),
    "a variable of 0 is no bound": (True, {"COLUMNS": "0"}, 0),
    "a variable that is no number": (False, {"COLUMNS": "wide"}, 0),
    "a pipe has no bound": (False, {}, 0),
    "a terminal that does not say": (True, {}, 0),
    "nothing can be read that is narrower": (True, {"COLUMNS": "3"}, 20),
}


@pytest.mark.parametrize("case", WIDTHS)
def test_width(case: str) -> None:
    """Variable, then terminal; where nothing is known, nothing is cut."""
    terminal, environ, wanted = WIDTHS[case]
    assert screen_of(Stream(terminal=terminal), environ).width == wanted


def test_the_width_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no variable says anything it is asked for."""
    size = os.terminal_size((101, 30))
    monkeypatch.setattr("os.get_terminal_size", lambda _number: size)
    stream = Stream(terminal=True)
    monkeypatch.setattr(stream, "fileno", lambda: 1)
    assert screen_of(stream, {}).width == 101


#: Whether it is a terminal, the environment, and whether there are colours.
COLOURS: Final[dict[str, tuple[bool, dict[str, str], bool]]] = {
    "a terminal": (True, {"TERM": "xterm"}, True),
    "a pipe": (False, {"TERM": "xterm"}, False),
    "a terminal that can do nothing": (True, {"TERM": "dumb"}, False),
    "a terminal without a name": (True, {}, False),
    "whoever wants none": (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
    "an empty wish is none": (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
    "forced": (False, {"FORCE_COLOR": "1"}, True),
    "forced, and not wanted": (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
}


@pytest.mark.parametrize("case", COLOURS)
def test_colours(case: str) -> None:
    """They are for terminals whose user does not mind; a variable says otherwise."""
    terminal, environ, wanted = COLOURS[case]
    screen = screen_of(Stream(terminal=terminal), environ)
    assert screen.color is wanted
    assert screen.paint("x", "red") == ("\x1b[31mx\x1b[0m" if wanted else "x")
    assert screen.paint("x", "") == "x"


def test_what_is_cut_bears_a_mark() -> None:
    """A text of other scripts is measured as a terminal shows it."""
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    assert cut("abc", 1) == "…"
    assert cut("abc", 0) == ""
    assert columns("日本e\u0301") == 5
    assert cut("日本語", 4) == "日…"
    assert padded("日", 4) == "日  "


HEAD: Final = ("NAMESPACE", "NAME", "PHASE", "NOTES")
ROWS: Final = [
    ("payments", "disk-full-on-node-17-of-the-second-rack", "Failed", "slack:ops: timeout " * 6),
    ("a", "b", "Sent", ""),
]


@pytest.mark.parametrize("width", [80, 100, 60])
def test_a_table_fits_the_screen(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The widest columns give way, as far as they may; what was cut is marked and reported."""
    found = Table(members(*HEAD, NAME=20, NOTES=10), screen=Screen(width))
    lines = found.lines(ROWS)
    assert width - 1 <= max(map(len, lines)) <= width
    assert lines[1].endswith("…")
    assert "payments" in lines[1]
    assert lines[2].split() == ["a", "b", "Sent"]
    found.report_cut()
    assert f"… marks text cut to fit {width} columns; COLUMNS=0 cuts nothing" in (
        capsys.readouterr().err
    )


def test_a_table_without_a_bound_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is cut, nothing is reported; neither is a column that may not be."""
    found = Table(members(*HEAD, NAME=20, NOTES=10), screen=Screen())
    assert ROWS[0][3].rstrip() in found.lines(ROWS)[1]
    found.report_cut()
    fixed = Table(members(*HEAD), screen=Screen(40))
    assert ROWS[0][1] in fixed.lines(ROWS)[1]
    fixed.report_cut()
    assert capsys.readouterr().err == ""


def test_colours_do_not_move_a_column() -> None:
    """A cell is filled before it is painted."""
    found = Table(members("A", "B"), screen=Screen(0, color=True), colours={"Failed": "red"})
    head, first, second = found.lines([("Failed", "x"), ("Sent", "y")])
    assert head == "\x1b[1mA       B\x1b[0m"
    assert first == "\x1b[31mFailed\x1b[0m  x"
    assert second == "Sent    y"


def test_a_wide_table_becomes_lines() -> None:
    """Where it does not fit each row is told in lines, by the names of the columns; all of it is there."""
    rows: list[Any] = [
        ("attempt", "opened", "result", "error"),
        ("0.7-1", "2027-01-15T07:59:10.000Z", "failed, may be retried", "the hook is busy " * 5),
        ("0.7-2", "2027-01-15T07:59:40.000Z", "success", ""),
    ]
    assert len(table(rows)) == 3
    assert table(rows, width=200) == table(rows)
    lines = table(rows, indent="  ", width=60)
    assert lines == [
        "  0.7-1",
        "    opened: 2027-01-15T07:59:10.000Z",
        "    result: failed, may be retried",
        "    error: the hook is busy the hook is busy the hook is",
        "      busy the hook is busy the hook is busy",
        "  0.7-2",
        "    opened: 2027-01-15T07:59:40.000Z",
        "    result: success",
    ]


@pytest.mark.parametrize(
    ("ms", "wanted"),
    [
        (-1, "less than a second"), (999, "less than a second"), (1_000, "1 second"),
        (59_999, "59 seconds"), (60_000, "1 minute"), (7_199_000, "119 minutes"), (7_200_000, "2 hours"),
        (86_400_000, "1 day"), (3 * 86_400_000, "3 days"),
    ],
)  # fmt: skip
def test_spans_in_words(ms: int, wanted: str) -> None:
    """One unit, as a person says it."""
    assert in_words(ms) == wanted
