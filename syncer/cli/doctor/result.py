"""The result of a check, its lines, and the comparison of two clocks."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from syncer.rules.text import plain

#: Milliseconds by which a clock is odd, and by which it breaks something.
_ODD: Final = 2_000
_BAD: Final = 60_000


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


def passes(
    name: str, good: object, text: str, problem: str, fix: str, *, bad: Grade = Grade.FAIL
) -> Result:
    """
    Return the result of a check that either passes or finds one problem.

    Args:
        name: Of the check.
        good: Whether it passes.
        text: What is said if it does.
        problem: What is said if it does not.
        fix: What to do then.
        bad: What it then comes to.
    """
    return Result(name, Grade.OK, text) if good else Result(name, bad, problem, fix)


def clock(name: str, offset: int, whose: str) -> Result:
    """
    Check a clock against ours.

    Args:
        name: Of the check.
        offset: That clock minus ours in milliseconds.
        whose: Whose clock it is, for the text.
    """
    text = f"{whose} is {abs(offset) / 1000:.1f} s {'ahead' if offset > 0 else 'behind'}"
    fix = f"run NTP on both machines (here and on that of {whose})"
    bad = Grade.FAIL if abs(offset) >= _BAD else Grade.WARN
    return passes(name, abs(offset) < _ODD, text, text, fix, bad=bad)


def lines_of(result: Result) -> list[str]:
    """Return a result as lines."""
    name, grade, text, fix = result
    fixes = [f"{'':28}fix: {fix}"] if fix else []
    return [f"{grade.value:<8}{name:<20}{plain(text)}", *fixes]
