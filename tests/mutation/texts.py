"""
Mutants of what is no Python: the Lua scripts, and the templates of the chart.

Each changes one place of one line. A pattern finds places; what it finds within a text or a comment is left
alone, for no test is meant to notice. No change makes a text that its language refuses to read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Final, NamedTuple

from tests.mutation.operators import Mutant

_SWAPPED: Final = {
    "==": "~=", "~=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", " + ": " - ", " - ": " + ",
    " and ": " or ", " or ": " and ", "true": "false", "false": "true", "not ": "",
    "eq ": "ne ", "ne ": "eq ", "gt ": "ge ", "lt ": "le ", "ge ": "gt ", "le ": "lt ",
    "and ": "or ", "or ": "and ",
}  # fmt: skip


def _swapped(place: str) -> str:
    return _SWAPPED[place]


def _next(place: str) -> str:
    return str(int(place) + 1)


def _denied(place: str) -> str:
    return f"not ({place})"


def _dropped(_place: str) -> str:
    return ""


def _nil(_place: str) -> str:
    return "return nil"


class Change(NamedTuple):
    """
    A kind of change.

    Attributes:
        operator: Its name.
        place: Finds what is replaced in a line whose texts and comments are blank.
        text: Returns what stands there instead.
    """

    operator: str
    place: re.Pattern[str]
    text: Callable[[str], str]


_LUA: Final = (
    Change("comparison", re.compile(r"==|~=|[<>]=?"), _swapped),
    Change("boolean", re.compile(r" (?:and|or) |\bnot (?!\()|\b(?:true|false)\b"), _swapped),
    Change("arithmetic", re.compile(r"(?<=[\w)]) [+-] (?=\w)"), _swapped),
    Change("constant", re.compile(r"(?<![\w.])\d+\b"), _next),
    Change("negated condition", re.compile(r"(?<=\bif )(?!not )[^=~<>]+(?= then$)"), _denied),
    Change("removed call", re.compile(r"^\s*redis\.call\(.*\)$"), _dropped),
    Change("removed statement", re.compile(r"^\s*[\w\[\]]+ = [^{]+$"), _dropped),
    Change("return", re.compile(r"^\s*return (?!nil).+[^{(]$"), _nil),
)
#: Within the braces of a template, and outside of them.
_ACTION: Final = (
    # The denial of the others is the mutant of their own operator.
    Change(
        "negated condition",
        re.compile(
            r"(?:(?<=\{\{ if )|(?<=\{\{- if )|(?<=\belse if ))(?!(?:eq|ne|not) ).+?(?= -?\}\})"
        ),
        _denied,
    ),
    Change(
        "boolean", re.compile(r"(?<=[ (])(?:and|or|not|eq|ne|gt|lt|ge|le) (?=.*\}\})"), _swapped
    ),
)
_YAML: Final = (
    Change("constant", re.compile(r"(?<=: )(?:true|false)$"), _swapped),
    Change("constant", re.compile(r"(?<=: )(?!0\d)\d+$"), _next),
    Change(
        "removed line",
        re.compile(r"^\s+(?:[\w./-]+: |- (?![\w./-]+: ))(?!\{\{- ).*[^|>:-]$"),
        _dropped,
    ),
)
_BLANKED: Final = {
    ".lua": re.compile(r"'[^']*'|--.*"),
    ".yaml": re.compile(r'"[^"]*"|\{\{-? ?/\*.*|^\s*#.*'),
}


def mutants(path: str, source: str) -> list[Mutant]:
    """Return every mutant of a script or template, in the order of the text."""
    kind = PurePath(path).suffix
    changes = _LUA if kind == ".lua" else _ACTION if kind in {".tpl", ".txt"} else _ACTION + _YAML
    blank = _BLANKED.get(kind, _BLANKED[".yaml"])
    return sorted(_found(path, source, changes, blank), key=lambda m: (m.start, m.end, m.operator))


def _found(
    path: str, source: str, changes: tuple[Change, ...], blank: re.Pattern[str]
) -> Iterator[Mutant]:
    offset = 0
    for number, line in enumerate(source.splitlines(keepends=True), 1):
        bare = blank.sub(lambda text: "." * len(text[0]), line.rstrip("\n"))
        for change in changes:
            for found in change.place.finditer(bare):
                start, end = found.span()
                text = change.text(line[start:end])
                now = line[:start] + text + line[end:]
                yield Mutant(
                    path=path, scope="", line=number, operator=change.operator,
                    start=offset + start, end=offset + end, text=text,
                    was=line.strip(), now=now.strip(), first=number, last=number,
                )  # fmt: skip
        offset += len(line)
