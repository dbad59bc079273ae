"""Tables, documents and ages."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from syncer.cli.output import (
    Column,
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
