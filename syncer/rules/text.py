"""
Making foreign text harmless to show, and durations in Go's notation.

Text from authors and receivers ends up on terminals: in logs, tables and conditions. It must not move the
cursor, change a colour, begin a line that looks like one of ours, or reverse the writing direction so that
it reads as something else. The unsafe characters are listed once, here, for every place that shows foreign
text:

- `escaped`: one line, each unsafe character as its escape; loses nothing;
- `escaped_json`: the same for a JSON document that is already rendered; it parses to the same values;
- `neutral`: line feeds stay, every other unsafe character becomes U+FFFD;
- `plain`: one line, every character that is not printable becomes a blank; for tables;
- `shown`: for receivers: line feeds stay, invisible and direction-changing characters are removed;
- `one_line`: one line, each run of unsafe characters becomes a blank; for headers.

The joiners of letters and emoji (U+200C, U+200D) are not unsafe, nor are the characters that form flags.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

#: C0, DEL, C1; Unicode line breaks; directional marks, embeddings, overrides and isolates.
_COMMANDS: Final = frozenset({*range(0x20), *range(0x7F, 0xA0)})
_BREAKS: Final = frozenset({0x2028, 0x2029})
_DIRECTIONS: Final = frozenset(
    {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
)
#: Soft hyphen, zero width, invisible operators, deprecated formats, annotations, the language tag.
_UNSEEN: Final = frozenset(
    {0x00AD, 0x180E, 0x200B, *range(0x2060, 0x2066), *range(0x206A, 0x2070), 0xFEFF}
    | {*range(0xFFF9, 0xFFFC), 0xE0001}
)
_UNSAFE: Final = _COMMANDS | _BREAKS | _DIRECTIONS | _UNSEEN
_TAB: Final = 0x09
_LINE_FEED: Final = 0x0A

_ESCAPED: Final = {c: chr(c).encode("unicode_escape").decode() for c in _UNSAFE - {_TAB}}
#: Without C0: JSON escapes it within strings, and the line breaks of an indented document must stay.
_ESCAPED_JSON: Final = {
    c: f"\\u{c:04x}" if c < 0x10000 else json.dumps(chr(c))[1:-1]
    for c in _UNSAFE - frozenset(range(0x20))
}


def _any_of(codes: Iterable[int]) -> re.Pattern[str]:
    return re.compile(f"[{''.join(map(re.escape, map(chr, sorted(codes))))}]")


#: Search before translating: ten times as fast as a translation that changes nothing.
_ANY: Final = _any_of(_ESCAPED)
_ANY_JSON: Final = _any_of(_ESCAPED_JSON)
#: Length in characters above which all non-ASCII of a JSON document is escaped if anything has to be:
#: a translation looks up each character, which takes 0.1 s for the largest documents.
_LARGE: Final = 64 * 1024
_NEUTRAL: Final = dict.fromkeys(_UNSAFE - {_TAB, _LINE_FEED}, "\ufffd")
#: CR is removed, because Windows ends a line with CR and LF.
_SHOWN: Final = (
    _NEUTRAL
    | dict.fromkeys(_DIRECTIONS | _UNSEEN | {0x0D}, "")
    | dict.fromkeys(_BREAKS | {0x0B, 0x0C, 0x85}, "\n")
)
_RUN: Final = re.compile(f"{_any_of(_UNSAFE).pattern}+")


def escaped(text: str) -> str:
    """Return a text on one line, with each unsafe character escaped; tabs stay."""
    return text.translate(_ESCAPED) if _ANY.search(text) else text


def escaped_json(document: str) -> str:
    """Return a JSON document without unsafe characters; it parses to the same values."""
    if not _ANY_JSON.search(document):
        return document
    if len(document) > _LARGE:
        return json.dumps(json.loads(document), indent=2 if "\n" in document else None)
    return document.translate(_ESCAPED_JSON)


def neutral(text: str) -> str:
    """Return a text with each unsafe character replaced by U+FFFD; line feeds and tabs stay."""
    return text.translate(_NEUTRAL) if _ANY.search(text) else text


def shown(text: str) -> str:
    """Return a text as receivers show it to people; line feeds and tabs stay."""
    return text.translate(_SHOWN) if _ANY.search(text) else text


def one_line(text: str) -> str:
    """Return a text on one line, each run of unsafe characters as one blank; for headers."""
    return _RUN.sub(" ", text).strip()


def plain(text: str) -> str:
    """Return a text on one line, each character that is not printable as a blank."""
    return "".join(c if c.isprintable() else " " for c in text)


def cut(text: str, length: int) -> str:
    """Return at most `length` characters of a text, ending in an ellipsis if it was cut."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def go_duration(ms: int) -> str:
    """
    A duration in Go's notation, as the replaced controller prints back-offs: `30s`, `1m30s`, `1.05s`.
    """  # noqa: D200 - too long for one line
    if ms == 0:
        return "0s"
    sign, ms = ("-", -ms) if ms < 0 else ("", ms)
    if ms < 1000:
        return f"{sign}{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 1000}.{rest % 1000:03d}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"
