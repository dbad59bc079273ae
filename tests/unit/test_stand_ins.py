"""
Stand-ins for the client of objects take what that takes.

Most have one of its methods, and reach their callers by a cast, behind which the type checker sees nothing.
So an argument more would be noticed only by those tests that happen to pass it.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PORTS: Final = ROOT / "syncer" / "model" / "ports.py"

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Shape(NamedTuple):
    """Tells a method from those of other clients, whose `get` returns something else."""

    name: str
    returns: str


def methods(source: str, of: str = "") -> Iterator[tuple[Shape, ast.arguments]]:
    """The methods of one class of a module, or of all."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or of not in {"", node.name}:
            continue
        for method in node.body:
            if isinstance(method, Function) and method.returns:
                yield Shape(method.name, ast.unparse(method.returns)), method.args


def port() -> dict[Shape, ast.arguments]:
    """The methods that stand-ins have."""
    return dict(methods(PORTS.read_text(), "ObjectClient"))


def lacks(stand_in: ast.arguments, original: ast.arguments) -> str:
    """What a stand-in does not take, empty if it takes all."""
    wanted = [a.arg for a in (*original.posonlyargs, *original.args)]
    taken = len(stand_in.posonlyargs) + len(stand_in.args)
    missing = wanted[taken:] if stand_in.vararg is None else []
    if stand_in.kwarg is None:
        named = {a.arg for a in (*stand_in.args, *stand_in.kwonlyargs)}
        missing += [a.arg for a in original.kwonlyargs if a.arg not in named]
    return ", ".join(missing)


def faults(source: str) -> list[str]:
    """Methods of a module that take less than those of the port."""
    ports = port()
    return [
        f"{shape.name}: {missing}"
        for shape, taken in methods(source)
        if shape in ports and (missing := lacks(taken, ports[shape]))
    ]


def test_stand_ins_take_what_the_port_takes() -> None:
    """Each class of the tests that has a method of it, by name and by what it returns."""
    names = {shape.name for shape in port()}
    assert names == {"get", "patch"}
    files = subprocess.run(
        ["git", "ls-files", "-z", "--", "tests/**/*.py"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    found = {}
    for file in filter(None, files):
        text = (ROOT / file).read_text()
        if any(f"def {name}(" in text for name in names) and (wrong := faults(text)):
            found[file] = wrong
    assert found == {}


@pytest.mark.parametrize(
    ("taken", "missing"),
    [
        ("self, namespace, name", "get: known"),
        ("self, namespace, name, _known=None, /", ""),
        ("self, *_", ""),
    ],
)
def test_what_is_missing_is_named(taken: str, missing: str) -> None:
    """As after an argument more: positional ones count, others go by name."""
    source = f"class Objects:\n    async def get({taken}) -> NotificationRequest: ..."
    assert faults(source) == ([missing] if missing else [])
    patch = "self, namespace, name, status"
    source = f"class Objects:\n    async def patch({patch}) -> NotificationRequest: ..."
    assert faults(source) == ["patch: resource_version"]
