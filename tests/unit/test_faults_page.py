"""
The page of faults against the tests that exist: it must name all rows, and nothing that is not there.

A page like this one falls behind unless something holds it. What a named test proves cannot be
checked here; that it exists, and that no row is without either a test or a reason, can.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "faults.md"
ROWS: Final = 98
_ROW: Final = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
#: How a row begins that has no test.
_REASONS: Final = ("not built: ", "not covered: ")


def rows(page: str) -> dict[int, str]:
    """What each row says of its tests, by number."""
    return {int(number): cell for number, _, cell in _ROW.findall(page)}


def wrong(page: str) -> list[str]:
    """What a page says that is not so, a sentence each."""
    found = []
    numbers = [int(number) for number, _, _ in _ROW.findall(page)]
    if numbers != list(range(1, ROWS + 1)):
        found.append("the rows are not 1 to 98, each once and in order")
    for number, cell in rows(page).items():
        tests = _TEST.findall(cell)
        if not tests and not cell.startswith(_REASONS):
            found.append(f"row {number} has neither a test nor a reason")
        found += [
            f"row {number} names {file}::{name}, which does not exist"
            for file, name in tests
            if name not in _tests_of(file)
        ]
    return found


@cache
def _tests_of(file: str) -> set[str]:
    path = ROOT / file
    if not path.is_file():
        return set()
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_every_row_has_tests_that_exist_or_a_reason() -> None:
    """All 98 rows are there, each with existing tests or the reason for having none."""
    assert wrong(PAGE.read_text()) == []


def test_other_pages_name_tests_that_exist() -> None:
    """Whatever a page says is shown by a test, that test is there."""
    gone = [
        f"{page.relative_to(ROOT)} names {file}::{name}"
        for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
        for file, name in _TEST.findall(page.read_text())
        if name not in _tests_of(file)
    ]
    assert gone == []


def test_a_page_that_fell_behind_is_noticed() -> None:
    """A row that is missing, that names a test which is gone, or that says nothing is told."""
    page = PAGE.read_text()
    first = next(line for line in page.splitlines() if line.startswith("| 1 |"))
    assert wrong(page.replace(first + "\n", "")) == [
        "the rows are not 1 to 98, each once and in order"
    ]
    assert wrong(page.replace(first, "| 1 | a fault | some day |")) == [
        "row 1 has neither a test nor a reason"
    ]
    gone = "tests/e2e/test_crash.py::test_gone"
    assert wrong(page.replace(first, f"| 1 | a fault | `{gone}` |")) == [
        f"row 1 names {gone}, which does not exist"
    ]
