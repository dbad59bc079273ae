"""The result of a check."""

from __future__ import annotations

import textwrap
from enum import StrEnum
from typing import Final, NamedTuple

from syncer.cli.screen import Screen
from syncer.rules.text import plain

#: Where what was found stands in a line.
_TEXT: Final = 28


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    #: It could not be made.
    UNKNOWN = "unknown"


class Result(NamedTuple):
    """The result of a check: its name (an interface), how it ended, what was found, and what to do."""

    name: str
    grade: Grade
    text: str
    fix: str = ""


_COLOURS: Final = {
    Grade.OK: "green", Grade.WARN: "yellow", Grade.FAIL: "red", Grade.UNKNOWN: "yellow",
}  # fmt: skip


def lines_of(result: Result, screen: Screen) -> list[str]:
    """Return a result as lines, as wide as the screen at most."""
    name, grade, text, fix = result
    head = f"{screen.paint(f'{grade.value:<8}', _COLOURS[grade])}{name:<20}"
    lines = []
    for part in (plain(text), f"fix: {fix}" if fix else ""):
        if screen.width > 2 * _TEXT and part:
            lines += textwrap.wrap(part, screen.width - _TEXT)
        elif part:
            lines.append(part)
    first, *rest = lines or [""]
    return [f"{head}{first}".rstrip(), *(" " * _TEXT + line for line in rest)]


def ok(name: str, text: str) -> Result:
    """Return the result of a check that passed."""
    return Result(name, Grade.OK, text)


def warn(name: str, text: str, fix: str) -> Result:
    """
    Return the result of a check that found what may do harm.

    Args:
        name: Of the check.
        text: What was found.
        fix: What to do about it.
    """
    return Result(name, Grade.WARN, text, fix)


def fail(name: str, text: str, fix: str) -> Result:
    """
    Return the result of a check that found what does harm.

    Args:
        name: Of the check.
        text: What was found.
        fix: What to do about it.
    """
    return Result(name, Grade.FAIL, text, fix)


def unknown(name: str, text: str, fix: str = "") -> Result:
    """
    Return the result of a check that could not be made.

    Args:
        name: Of the check.
        text: Why it could not be made.
        fix: What to do about it, empty where nothing is to be done.
    """
    return Result(name, Grade.UNKNOWN, text, fix)
