"""The result of a check."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    #: It could not be made.
    UNKNOWN = "unknown"


class Result(NamedTuple):
    """
    The result of one check.

    Attributes:
        name: Of the check; an interface.
        grade: How it ended.
        text: What was found.
        fix: What to do about it, empty where nothing is to be done.
    """

    name: str
    grade: Grade
    text: str
    fix: str = ""


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
