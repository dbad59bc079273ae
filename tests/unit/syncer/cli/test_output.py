"""Tables, progress and ages on a terminal."""

from __future__ import annotations

import io

import pytest

from syncer.cli.output import Columns, Progress, age, table, write_json, write_lines, write_remark
from syncer.rules.text import plain


class Terminal(io.StringIO):
    """A stream that says that somebody watches."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_progress_is_for_terminals() -> None:
    """A terminal sees how far it is, and nothing of it in the end; a file holds nothing at all."""
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        with Progress("verified", total=4, stream=stream) as progress:
            for _ in range(3):
                progress.step()
        text = stream.getvalue()
        assert ("verified [######------------------] 1/4" in text) is shown
        assert text.endswith("\r") is shown


def test_an_answer_is_not_glued_to_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both go to one terminal the line is taken away before the answer, and comes back after."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("objects") as progress:
        progress.step()
        write_lines(["NAMESPACE  NAME"])
        write_json({"a": 1})
        write_remark("none")
    screen = terminal.getvalue()
    for line in ("NAMESPACE  NAME\n", '{"a": 1}\n', "syncer: none\n"):
        before = screen[: screen.index(line)]
        shown = before.rpartition("\n")[2].rpartition("\r")[2]
        assert shown == "", line
    assert "objects 1" in screen


def test_tables_are_plain() -> None:
    """Columns are aligned, and what would move a cursor is not shown as it is."""
    assert table([("A", "B"), ("long", "x\x1b[2Jy")]) == ["A     B", "long  x [2Jy"]
    assert plain("a\r\nb") == "a  b"
    columns = Columns(("A", "B"))
    assert columns.lines([("1", "2")]) == ["A  B", "1  2"]
    assert columns.lines([("long", "2")]) == ["long  2"]
    assert columns.lines([("1", "2")]) == ["1     2"]


@pytest.mark.parametrize(
    ("ms", "wanted"),
    [(0, "0s"), (119_000, "119s"), (120_000, "2m"), (7_200_000, "2h"), (3 * 86_400_000, "3d")],
)
def test_age(ms: int, wanted: str) -> None:
    """Ages are shown in one unit."""
    assert age(ms) == wanted
