"""Tables, progress and ages on a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from syncer.cli.output import (
    Column,
    Progress,
    Screen,
    Table,
    age,
    table,
    write_json,
    write_lines,
    write_remark,
)
from syncer.rules.text import plain
from tests.unit.syncer.cli.samples import members


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
        assert ("verified 1/4" in text) is shown
        assert text.endswith("\r") is shown


def test_an_answer_is_not_glued_to_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both go to one terminal the line is taken away before the answer, and comes back after."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("objects") as progress:
        writes: list[Callable[[], None]] = [
            lambda: write_lines(["NAMESPACE  NAME"]), lambda: write_json({"a": 1}),
            lambda: write_remark("none"),
        ]  # fmt: skip
        for write in writes:
            progress._next = 0.0
            progress.step()
            write()
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
    assert table([("A", "B"), ("long", "y")], width=7) == ["A     B", "long  y"]
    assert table([("A", "B"), ("long", "y")], width=6) == ["long", "  b: y"]
    narrow = table([("A", "B"), ("long", "some words")], width=3)
    assert narrow == ["lon", "g", "  b: some", "    words"], "a cell keeps ten columns"
    assert table([]) == []
    pages = Table(members("A", "B"))
    assert pages.lines([("1", "2")]) == ["A  B", "1  2"]
    assert pages.lines([("long", "2")]) == ["long  2"]
    assert pages.lines([("1", "2")]) == ["1     2"]


@pytest.mark.parametrize(
    ("ms", "wanted"),
    [(0, "0s"), (119_000, "119s"), (120_000, "2m"), (7_200_000, "2h"), (3 * 86_400_000, "3d")],
)
def test_age(ms: int, wanted: str) -> None:
    """Ages are shown in one unit."""
    assert age(ms) == wanted


class Times:
    """Seconds that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


def drawn(terminal: Terminal) -> list[str]:
    """Each line that was drawn."""
    return [line.rstrip(" ") for line in terminal.getvalue().split("\r") if line.strip(" ")]


def test_progress_says_how_far_and_how_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what was done since the beginning, and of how many, if that is known."""
    times, terminal = Times(monkeypatch), Terminal()
    with Progress("verified", total=100, stream=terminal) as progress:
        for done in (0, 20, 30, 100):
            times.now += 10
            progress.step(done - progress.done)
    assert drawn(terminal) == [
        "verified 0/100  0/s",
        "verified 20/100  1/s",
        "verified 30/100  1/s",
        "verified 100/100  2/s",
    ]
    terminal = Terminal()
    with Progress("objects", stream=terminal) as progress:
        times.now += 10
        progress.step(30)
    assert drawn(terminal) == ["objects 30  3/s"]


def test_progress_is_drawn_five_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps between are counted."""
    times, terminal = Times(monkeypatch), Terminal()
    with Progress("p", total=2, stream=terminal) as progress:
        progress.step()
        times.now += 0.1
        progress.step()
        assert len(drawn(terminal)) == 1
        times.now += 0.1
        progress.step()
        assert progress.done == 3
    first, second = drawn(terminal)
    assert first.startswith("p 1/2  1000/s")
    assert second.startswith("p 3/2  15/s")


def test_a_shorter_line_leaves_nothing_of_a_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is filled with blanks to the longest so far, and erased as a whole, once."""
    times, terminal = Times(monkeypatch), Terminal()
    progress = Progress("p", stream=terminal)
    progress.step(1_000)
    times.now += 1_000
    progress.step()
    long, short = "p 1000  1000000/s", "p 1001  1/s"
    assert terminal.getvalue() == f"\r{long}\r{short.ljust(len(long))}"
    progress.erase()
    progress.erase()
    assert terminal.getvalue().endswith("\r" + " " * len(long) + "\r")
    assert terminal.getvalue().count("\r") == 4


def test_what_clears_the_line_is_whoever_drew_it() -> None:
    """Another progress that ends, and drew nothing, leaves it."""
    one, other = Terminal(), Terminal()
    shown = Progress("shown", stream=one)
    shown.step()
    with Progress("quiet", stream=other):
        pass
    Progress.clear()
    assert one.getvalue().endswith("\r")
    assert other.getvalue() == ""
    Progress.clear()


@pytest.mark.parametrize("ms", [-5_000, 999])
def test_an_age_below_a_second_is_none(ms: int) -> None:
    """So is one of a clock that is behind."""
    assert age(ms) == "0s"


def test_documents_are_escaped_and_texts_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Words of any script are written as they are; what commands a terminal is an escape, or a blank."""
    write_json({"a": "é\x9b"})
    write_lines(["one", "two"])
    write_remark("a\x1bb")
    said = capsys.readouterr()
    assert said.out == '{"a": "é\\u009b"}\none\ntwo\n'
    assert said.err == "syncer: a b\n"


def test_an_empty_table_has_no_lines() -> None:
    """Neither does it fail for want of a head; an indent stands before each line."""
    assert table([]) == []
    assert table([("A",)]) == ["A"]
    assert table([("A", "B"), ("1", "")], indent="  ") == ["  A  B", "  1"]


def one_by_one(widths: list[int], least: dict[int, int], width: int) -> list[int]:
    """The widest column that may be cut gives one column of the screen, again and again."""
    over = sum(widths) + 2 * (len(widths) - 1) - width
    while over > 0 and (giving := [n for n, keeps in least.items() if widths[n] > keeps]):
        widths[max(giving, key=lambda n: widths[n])] -= 1
        over -= 1
    return widths


@pytest.mark.parametrize(
    "widths", [[10, 40, 40, 40], [5, 90, 30, 31], [60, 9, 8, 7], [20, 21, 22, 23], [1, 300, 1, 2]]
)
@pytest.mark.parametrize("width", [20, 60, 79, 80, 81, 120])
def test_the_widest_columns_give(widths: list[int], width: int) -> None:
    """As if one column of the screen after the other was taken; those that give are equally wide."""
    columns = members("c0", "c1", "c2", "c3", c1=10, c2=16, c3=14)
    found = Table(columns, screen=Screen(width))
    found._widths = list(widths)
    wanted = one_by_one(list(widths), {1: 10, 2: 16, 3: 14}, width)
    assert [w - one for w, one in zip(wanted, found._fitting(), strict=True)] <= [1] * 4
    assert 0 <= sum(wanted) - sum(found._fitting()) <= 2


def test_a_cell_may_be_as_long_as_its_author_likes() -> None:
    """What does not fit is taken off at once."""
    found = Table(members("a", "b", "c", b=10, c=10), screen=Screen(80))
    found._widths = [6, 10**12, 10**12]
    assert found._fitting() == [6, 35, 35]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_page_is_there_at_once(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for whoever reads a pipe, and waits for what `tail` shows."""
    with io.BytesIO() as raw, io.TextIOWrapper(io.BufferedWriter(raw)) as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        item = SimpleNamespace(as_json=lambda: {"name": "n"})
        Table([Column("NAME", lambda _: "n")], json=as_json, screen=Screen(0)).write([item])
        assert raw.getvalue().splitlines()[-1] == (b'{"name": "n"}' if as_json else b"n")
