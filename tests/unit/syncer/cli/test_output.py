"""Tables, documents, ages and texts that are made to fit."""

from __future__ import annotations

import io
from collections.abc import Callable
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
    ("shown", "ms", "wanted"),
    [
        (age, -5_000, "0s"), (age, 999, "0s"), (age, 119_000, "119s"), (age, 120_000, "2m"),
        (age, 7_200_000, "2h"), (age, 3 * 86_400_000, "3d"),
        (in_words, -1, "less than a second"), (in_words, 999, "less than a second"),
        (in_words, 1_000, "1 second"), (in_words, 59_999, "59 seconds"), (in_words, 60_000, "1 minute"),
        (in_words, 7_199_000, "119 minutes"), (in_words, 7_200_000, "2 hours"),
        (in_words, 86_400_000, "1 day"), (in_words, 3 * 86_400_000, "3 days"),
    ],
)  # fmt: skip
def test_spans_have_one_unit(shown: Callable[[int], str], ms: int, wanted: str) -> None:
    """Also in words, as a person says it; one of a clock that is behind is none."""
    assert shown(ms) == wanted
