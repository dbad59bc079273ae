"""Regular expressions of the product that the oldest Python in use gets wrong."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: A possessive repetition of a group. With Python 3.11.2, which Debian 12 has, matching goes on where the
#: group has failed, not where the failed iteration began.
_POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+")


def possessive_groups(source: str) -> list[str]:
    """Return the string constants of a source that contain such a repetition."""
    texts = (n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant))
    return [text for text in texts if isinstance(text, str) and _POSSESSIVE_GROUP.search(text)]


@pytest.mark.parametrize("package", ["notifier", "syncer"])
def test_no_group_is_possessive(package: str) -> None:
    """No group is repeated possessively: an atomic group around it does the same on every Python."""
    found = {
        str(path.relative_to(ROOT)): texts
        for path in sorted((ROOT / package).rglob("*.py"))
        if (texts := possessive_groups(path.read_text()))
    }
    assert found == {}
