"""Checks that the statements of the security pages are tested: their rows name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import DOCS, ROOT

#: A test as a page names it; without a file it is in the file of the test before it, or in any file.
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py)?(?:::)?(test_\w+)`")
PAGES: Final = ("security.md", "acts.md")


def named(text: str) -> list[tuple[str, str]]:
    """Return the tests that a text names, each with its file, empty if the text names none."""
    found, file = [], ""
    for match in _TEST.finditer(text):
        file = match[1] or (file if match[0].startswith("`::") else "")
        found.append((file, match[2]))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_each_named_test_exists(page: str) -> None:
    """A page does not rely on a test that was renamed or removed."""
    every = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    tests = named((DOCS / page).read_text())
    assert tests
    missing = [
        f"{file}::{test}"
        for file, test in tests
        if f"def {test}(" not in ((ROOT / file).read_text() if Path(file).name else every)
    ]
    assert missing == []


@pytest.mark.parametrize("section", ["Role by role", "Side doors"])
def test_each_row_names_its_test(section: str) -> None:
    """Each statement on who can do what, or on what closes a side door, names a test that shows it."""
    text = (DOCS / "security.md").read_text()
    part = re.split(rf"^## {section}$", text, flags=re.MULTILINE)[1]
    rows = re.findall(r"^\| .*\|$", part.partition("\n## ")[0].partition("\n### ")[0], re.MULTILINE)
    assert len(rows) > 15
    assert [row for row in rows[1:] if not named(row.rstrip("| ").rpartition(" | ")[2])] == []
