"""
Texts that are an interface, durations as Go prints them, and texts of others made harmless.

What authors and receivers write ends up on terminals: in logs, tables, conditions. It must not move a
cursor, change a colour, begin a line that looks like one of ours, or turn the direction of writing so that
it reads as something else. What does is in one table here, for every place that shows a foreign text:

- `escaped`: one line, each such character as its escape; loses nothing;
- `escaped_json`: the same for JSON that is already written; the document stays equal;
- `neutral`: several lines stay, every other such character becomes U+FFFD;
- `plain`: one line, every character that is not printable becomes a blank; for tables;
- `shown`: for receivers: several lines stay, what nobody sees and what turns the direction goes;
- `one_line`: the same for a header.

What joins letters and emoji (U+200C, U+200D) is no such character, nor is what flags are made of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

#: C0, DEL, C1; ends of lines by Unicode; marks, embeddings, overrides and isolates of direction.
_COMMANDS: Final = frozenset({*range(0x20), *range(0x7F, 0xA0)})
_BREAKS: Final = frozenset({0x2028, 0x2029})
_DIRECTIONS: Final = frozenset(
    {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
)
#: Soft hyphen, zero width, invisible operators, deprecated formats, annotations, the tag of a language.
_UNSEEN: Final = frozenset(
    {0x00AD, 0x180E, 0x200B, *range(0x2060, 0x2066), *range(0x206A, 0x2070), 0xFEFF}
    | {*range(0xFFF9, 0xFFFC), 0xE0001}
)
_UNSAFE: Final = _COMMANDS | _BREAKS | _DIRECTIONS | _UNSEEN
_TAB: Final = 0x09
_LINE_FEED: Final = 0x0A

_ESCAPED: Final = {c: chr(c).encode("unicode_escape").decode() for c in _UNSAFE - {_TAB}}
#: JSON escapes C0 by itself; a line break between members of an indented document is none of a text.
_ESCAPED_JSON: Final = {
    c: f"\\u{c:04x}" if c < 0x10000 else json.dumps(chr(c))[1:-1]
    for c in _UNSAFE - frozenset(range(0x20))
}


def _any_of(codes: Iterable[int]) -> re.Pattern[str]:
    return re.compile(f"[{''.join(map(re.escape, map(chr, sorted(codes))))}]")


#: Find whether there is anything to do, ten times as quickly as a translation that changes nothing.
_ANY: Final = _any_of(_ESCAPED)
_ANY_JSON: Final = _any_of(_ESCAPED_JSON)
#: Characters of a JSON document from which on all but ASCII is escaped if anything is: a translation looks
#: each character up, a tenth of a second for the largest.
_LARGE: Final = 64 * 1024
_NEUTRAL: Final = dict.fromkeys(_UNSAFE - {_TAB, _LINE_FEED}, "\ufffd")
#: A line of Windows ends in two characters; the first of them goes.
_SHOWN: Final = (
    _NEUTRAL
    | dict.fromkeys(_DIRECTIONS | _UNSEEN | {0x0D}, "")
    | dict.fromkeys(_BREAKS | {0x0B, 0x0C, 0x85}, "\n")
)
_RUN: Final = re.compile(f"{_any_of(_UNSAFE).pattern}+")


def escaped(text: str) -> str:
    """A text on one line; a tab stays."""
    return text.translate(_ESCAPED) if _ANY.search(text) else text


def escaped_json(document: str) -> str:
    """Return a JSON document whose texts show nothing unsafe; it parses to the same values."""
    if not _ANY_JSON.search(document):
        return document
    if len(document) > _LARGE:
        return json.dumps(json.loads(document), indent=2 if "\n" in document else None)
    return document.translate(_ESCAPED_JSON)


def neutral(text: str) -> str:
    """Return a text whose line feeds and tabs stay."""
    return text.translate(_NEUTRAL) if _ANY.search(text) else text


def shown(text: str) -> str:
    """A text for people who read it elsewhere; its line feeds and tabs stay."""
    return text.translate(_SHOWN) if _ANY.search(text) else text


def one_line(text: str) -> str:
    """A text on one line, each run of unsafe characters a blank; for headers."""
    return _RUN.sub(" ", text).strip()


def plain(text: str) -> str:
    """A text on one line, without characters that move a cursor or change a colour."""
    return "".join(c if c.isprintable() else " " for c in text)


def cut(text: str, length: int) -> str:
    """Return a text of so many characters at most, with a mark where something was cut."""
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
