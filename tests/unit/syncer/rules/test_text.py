"""Which characters are made harmless, at the borders of each range, and durations as Go prints them."""

from __future__ import annotations

import json

import pytest

from syncer.rules.text import (
    cut,
    escaped,
    escaped_json,
    go_duration,
    neutral,
    one_line,
    plain,
    shown,
)

#: First and last of each range that does something to a terminal, and what lies just outside.
UNSAFE = [
    0x00,
    0x1F,
    0x7F,
    0x80,
    0x9F,
    0x061C,
    0x200E,
    0x200F,
    0x2028,
    0x2029,
    0x202A,
    0x202E,
    0x2066,
    0x2069,
    0x00AD,
    0x180E,
    0x200B,
    0x2060,
    0x2065,
    0x206A,
    0x206F,
    0xFEFF,
    0xFFF9,
    0xFFFB,
    0xE0001,
]
SAFE = [
    0x20, 0x7E, 0xA0, 0x061B, 0x061D, 0x200C, 0x200D, 0x2010, 0x2027, 0x202F, 0x205F, 0x2070, 0xFE0F,
    0xFFFC, 0xE0020,
]  # fmt: skip


@pytest.mark.parametrize("code", UNSAFE, ids=hex)
def test_what_is_made_harmless(code: int) -> None:
    """Such a character is shown as its escape, or not at all."""
    text = f"a{chr(code)}b"
    assert escaped(text) == "a" + chr(code).encode("unicode_escape").decode() + "b"
    assert neutral(text) == "a\ufffdb"
    assert plain(text) == "a b"
    assert one_line(text) == "a b"
    commands = code in range(0x20) or code in range(0x7F, 0xA0)
    assert shown(text) == ("a\ufffdb" if commands else "a\nb" if code in {0x2028, 0x2029} else "ab")
    document = json.dumps(text, ensure_ascii=False)
    written = escaped_json(document)
    assert chr(code) not in written
    assert json.loads(written) == text


@pytest.mark.parametrize("code", SAFE, ids=hex)
def test_what_is_left_alone(code: int) -> None:
    """A neighbour of a range is none of it."""
    text = f"a{chr(code)}b"
    assert {escaped(text), neutral(text), shown(text), one_line(text)} == {text}
    document = json.dumps(text, ensure_ascii=False)
    assert escaped_json(document) == document


def test_tabs_and_line_feeds() -> None:
    """A tab stays everywhere but in tables, a line feed only where several lines may be."""
    text = "a\tb\nc"
    assert escaped(text) == "a\tb\\nc"
    assert neutral(text) == shown(text) == text
    assert shown("a\r\nb\x85c\x0cd") == "a\nb\nc\nd"
    assert one_line("\ta\r\n\u202eb") == "a b"
    assert plain(text) == "a b c"
    assert escaped_json('{\n\t"a": 1\n}') == '{\n\t"a": 1\n}'


@pytest.mark.parametrize("indent", [None, 2])
def test_a_large_document_is_written_in_ascii(indent: int | None) -> None:
    """If anything in it is unsafe: to look each of its characters up would hold up everybody."""
    value = {"a": "é" * 70_000, "b": ["c"]}
    safe = json.dumps(value, ensure_ascii=False, indent=indent)
    assert escaped_json(safe) == safe
    shown = escaped_json(json.dumps({**value, "d": "\u2028"}, ensure_ascii=False, indent=indent))
    assert shown == json.dumps({**value, "d": "\u2028"}, indent=indent)


DURATIONS = {
    0: "0s", 1: "1ms", 999: "999ms", 1_000: "1s", 1_050: "1.05s", 30_000: "30s", 59_999: "59.999s",
    60_000: "1m0s", 91_050: "1m31.05s", 3_599_999: "59m59.999s", 3_600_000: "1h0m0s",
    3_661_001: "1h1m1.001s", 90_000_000: "25h0m0s", -1: "-1ms", -1_500: "-1.5s", -60_000: "-1m0s",
    -3_600_000: "-1h0m0s",
}  # fmt: skip


@pytest.mark.parametrize("ms", DURATIONS)
def test_durations(ms: int) -> None:
    """Hours, minutes and seconds follow each other, without trailing noughts of the fraction."""
    assert go_duration(ms) == DURATIONS[ms]


def test_what_is_cut_bears_a_mark() -> None:
    """A text that is short enough is whole."""
    assert (cut("abcdef", 6), cut("abcdefg", 6)) == ("abcdef", "abcde…")
