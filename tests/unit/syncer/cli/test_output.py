"""Tables, documents, ages and texts that are made to fit."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from syncer.cli.output import (
    Table,
    age,
    columns,
    in_words,
    table,
    write_json,
    write_lines,
    write_remark,
)


def test_tables_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are aligned, and widen page by page; what would move a cursor is not shown as it is."""
    assert table([("A", "B"), ("long", "x\x1b[2Jy")]) == ["A     B", "long  x [2Jy"]
    assert table([("A", "B"), ("1", "")], indent="  ") == ["  A  B", "  1"]
    assert table([("A", "B"), ("日本", "y")]) == ["A     B", "日本  y"], (
        "as wide as a terminal shows it"
    )
    assert table([]) == []
    pages = Table({"A": lambda item: item, "B": lambda _: "2"})
    for page in ([], ["1"], ["long"], ["1"]):
        pages.write(page)
    assert capsys.readouterr().out.splitlines() == ["A  B", "1  2", "long  2", "1     2"]


@pytest.mark.parametrize(
    ("ms", "wanted"),
    [
        (-5_000, "0s"), (999, "0s"), (119_000, "119s"), (120_000, "2m"), (7_200_000, "2h"),
        (3 * 86_400_000, "3d"),
    ],
)  # fmt: skip
def test_age(ms: int, wanted: str) -> None:
    """Ages are shown in one unit; one of a clock that is behind is none."""
    assert age(ms) == wanted


def test_documents_are_escaped_and_texts_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Words of any script are written as they are; what commands a terminal is an escape, or a blank."""
    write_json({"a": "é\x9b"})
    write_lines(["one", "two"])
    write_remark("a\x1bb")
    said = capsys.readouterr()
    assert said.out == '{"a": "é\\u009b"}\none\ntwo\n'
    assert said.err == "syncer: a b\n"


@pytest.mark.parametrize("as_json", [True, False])
def test_a_page_is_there_at_once(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for whoever reads a pipe, and waits for what `tail` shows."""
    with io.BytesIO() as raw, io.TextIOWrapper(io.BufferedWriter(raw)) as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        item = SimpleNamespace(as_json=lambda: {"name": "n"})
        Table({"NAME": lambda _: "n"}, json=as_json).write([item])
        assert raw.getvalue().splitlines()[-1] == (b'{"name": "n"}' if as_json else b"n")


def test_characters_take_columns() -> None:
    """Wide ones take two, combining ones none."""
    assert columns("日本e\u0301") == 5


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
