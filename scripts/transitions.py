#!/usr/bin/env python3
"""
Checks that a notification changes only by its transitions, and that a page names them all.

Only two modules assign members of a `Notification`, or of a value object in it, by the member's name.
docs/architecture.md has a table of the transitions, which `--write` makes from their docstrings and
assertions, and a diagram, whose arrows are transitions. `scripts/check` runs this.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
STATES: Final = ROOT / "syncer/sync/notification.py"
PAGE: Final = ROOT / "docs/architecture.md"
ASKS: Final = {"__post_init__", "ends_at"}
BEGIN: Final = "<!-- transitions: scripts/transitions.py --write -->\n"
END: Final = "<!-- end of transitions -->\n"
#: Classes whose transitions are listed, each with its prefix as seen from a `Notification`.
WHERE: Final = {
    "Notification": "", "InFlight": "in_flight.", "Publication": "publication.", "Judged": "judged.",
}  # fmt: skip
#: Modules that may assign members.
OWN: Final = {STATES, ROOT / "syncer/sync/cache.py"}
#: Folders of code that works with notifications.
PLACES: Final = (
    "syncer/sync", "notifier", "tests/unit/syncer/sync", "tests/unit/notifier", "tests/integration",
    "tests/simulation",
)  # fmt: skip
#: Objects with members of the same name that are not notifications, by the last word of an expression.
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
    """Return the names of the members of all classes in the module of the states."""
    return {
        line.target.id
        for made in ast.parse(STATES.read_text()).body
        if isinstance(made, ast.ClassDef)
        for line in made.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }


def transitions() -> dict[str, tuple[str, str]]:
    """Return what happens at each transition, and what must hold before it."""
    found = {}
    classes = [c for c in ast.parse(STATES.read_text()).body if isinstance(c, ast.ClassDef)]
    for made in sorted(
        (c for c in classes if c.name in WHERE), key=lambda c: list(WHERE).index(c.name)
    ):
        for step in made.body:
            # Properties and the methods in `ASKS` are not transitions.
            if isinstance(step, ast.FunctionDef) and not (step.decorator_list or step.name in ASKS):
                said = (ast.get_docstring(step) or "").partition("\n")[0]
                holds = [
                    ast.literal_eval(n.msg)
                    for n in ast.walk(step)
                    if isinstance(n, ast.Assert) and n.msg
                ]
                found[WHERE[made.name] + step.name] = said, "; ".join(holds)
    return found


def page(names: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Return the page as it is, and with the current table."""
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    rows = "".join(f"| `{name}` | {said} | {holds} |\n" for name, (said, holds) in names.items())
    table = f"| transition | what happens | what must hold |\n|---|---|---|\n{rows}"
    return text, head + BEGIN + table + END + rest.partition(END)[2]


def assigned(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Yield the attributes that are assigned or deleted, as a whole or in part."""
    for node in ast.walk(tree):
        if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
            found = node
            while isinstance(found, ast.Subscript):
                found = found.value
            if isinstance(found, ast.Attribute):
                yield found


def main() -> int:
    """Print what is wrong; returns 1 if anything is."""
    names, found, steps = members(), [], transitions()
    files = {p for place in PLACES for p in (ROOT / place).rglob("*.py")} - OWN
    for path in sorted(files):
        for node in assigned(ast.parse(path.read_text())):
            of = ast.unparse(node.value).rpartition(".")[2]
            if node.attr in names and of not in OTHERS:
                where = f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
                found.append(f"{where} is assigned outside {STATES.relative_to(ROOT)}")
    text, wanted = page(steps)
    if "--write" in sys.argv:
        PAGE.write_text(wanted)
    elif text != wanted:
        found.append(f"{PAGE.relative_to(ROOT)} has another table: scripts/transitions.py --write")
    picture = text.partition("stateDiagram-v2\n")[2].partition("```")[0]
    arrows = [a for line in picture.splitlines() for a in line.partition(": ")[2].split(", ") if a]
    found += [
        f"{PAGE.relative_to(ROOT)} draws {a}, which is no transition"
        for a in arrows
        if a not in steps
    ]
    print("\n".join(found), end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
