#!/usr/bin/env python3
"""
Checks that a notification changes by its transitions alone.

No module but its own two assigns a member of a `Notification`, or of a value object in it, by the
member's name. `scripts/check` runs it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
STATES: Final = ROOT / "syncer/sync/notification.py"
#: Where members may be assigned.
OWN: Final = {STATES, ROOT / "syncer/sync/cache.py"}
#: Where notifications are known.
PLACES: Final = (
    "syncer/sync", "notifier", "tests/unit/syncer/sync", "tests/unit/notifier", "tests/integration",
    "tests/simulation",
)  # fmt: skip
#: What has members of the same name, and is no notification: the last word of an expression.
OTHERS: Final = frozenset(
    [
        "self",
        "claimer",
        "client",
        "kept",
        "known",
        "life",
        "log",
        "notes",
        "objects",
        "outcomes",
        "sink",
        "subject",
    ]
)


def members() -> set[str]:
    """Names of the members of each class of the module that has the states."""
    return {
        line.target.id
        for made in ast.parse(STATES.read_text()).body
        if isinstance(made, ast.ClassDef)
        for line in made.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }


def assigned(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Attributes that are assigned or deleted, as a whole or a part of them."""
    for node in ast.walk(tree):
        if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
            found = node
            while isinstance(found, ast.Subscript):
                found = found.value
            if isinstance(found, ast.Attribute):
                yield found


def main() -> int:
    """Name each assignment; 1 if there is one."""
    names, found = members(), []
    files = {p for place in PLACES for p in (ROOT / place).rglob("*.py")} - OWN
    for path in sorted(files):
        for node in assigned(ast.parse(path.read_text())):
            of = ast.unparse(node.value).rpartition(".")[2]
            if node.attr in names and of not in OTHERS:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    for line in found:
        print(f"{line} is assigned outside its transitions ({STATES.relative_to(ROOT)})")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
