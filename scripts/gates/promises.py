"""
Checks the proofs on the pages of faults and of promises: each row has one, and each one exists.

Pages like these fall behind unless something checks them. What a named test proves cannot be checked here;
that it exists, and that no row lacks both a proof and a reason, can. `scripts/check` runs this, too.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

from tests.chaos.broken import BREAKS
from tests.model import runs
from tests.simulation.killers import KILLERS

ROOT: Final = Path(__file__).resolve().parents[2]
GUARANTEES: Final = ROOT / "docs" / "guarantees.md"
PAGE: Final = ROOT / "docs" / "faults.md"
ROWS: Final = 98
_ROW: Final = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_PROOF: Final = re.compile(r"^\| (G\d+) \| (.+? \| .+? \| .+? \| .+?) \|$", re.MULTILINE)
#: Beginnings of rows that have no test.
_REASONS: Final = ("not built: ", "not covered: ")


def rows(page: str) -> dict[int, str]:
    """Return the cell with the tests of each row, by number."""
    return {int(number): cell for number, _, cell in _ROW.findall(page)}


def wrong(page: str) -> list[str]:
    """Return what is wrong with a page of faults, a sentence for each mistake."""
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


def unproven(page: str) -> list[str]:
    """Return promises without a proof, and proofs that do not exist, a sentence each."""
    promise = page[page.index("## The promise") : page.index("### While Redis is away")]
    bullets = re.findall(r"^- (?:\*\*(G\d+)\.)?", promise, re.MULTILINE)
    found = ["a promise has no number"] if "" in bullets else []
    proofs = {number: cells.split(" | ") for number, cells in _PROOF.findall(page)}
    if [b for b in bullets if b] != list(proofs):
        found.append("promises and rows are not the same, in the same order")
    mutants = (m for kind in vars(runs).values() if isinstance(kind, tuple) for m in kind)
    broken = {m.killed_by for m in mutants if isinstance(m, runs.Mutant)}
    ruled = {rule for rules, _, _ in KILLERS.values() for rule in rules}
    for number, (model, rules, tests, chaos) in proofs.items():
        for what, cell, known in (
            ("property", model, broken), ("rule", rules, ruled), ("protection", chaos, set(BREAKS)),
        ):  # fmt: skip
            named = [] if cell.startswith("none: ") else cell.replace("`", "").split(", ")
            found += [f"{number}: no mutant breaks the {what} {n}" for n in named if n not in known]
        named_tests = _TEST.findall(tests)
        found += [
            f"{number} names {file}::{name}, which does not exist"
            for file, name in named_tests
            if name not in _tests_of(file)
        ]
        if not named_tests:
            found.append(f"{number} has no test")
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
    """Every test that a page names exists."""
    gone = [
        f"{page.relative_to(ROOT)} names {file}::{name}"
        for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
        for file, name in _TEST.findall(page.read_text())
        if name not in _tests_of(file)
    ]
    assert gone == []


def test_a_page_that_fell_behind_is_noticed() -> None:
    """A missing row, a row that names a missing test, and a row without test or reason are reported."""
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


def test_every_promise_has_its_proof() -> None:
    """Each promise has a row; a mutant breaks each property that it names, and its tests exist."""
    assert unproven(GUARANTEES.read_text()) == []


def test_a_promise_without_a_proof_is_noticed() -> None:
    """A promise without a number or a row is reported, and so is a row whose proof does not exist."""
    page = GUARANTEES.read_text()
    row = next(line for line in page.splitlines() if line.startswith("| G12 |"))
    apart = "promises and rows are not the same, in the same order"
    assert unproven(page.replace(row + "\n", "")) == [apart]
    assert unproven(page.replace("- **G12. ", "- **")) == ["a promise has no number", apart]
    assert unproven(page.replace(row, "| G12 | ZZ | L9 | some day | `no-one` |")) == [
        "G12: no mutant breaks the property ZZ",
        "G12: no mutant breaks the rule L9",
        "G12: no mutant breaks the protection no-one",
        "G12 has no test",
    ]
