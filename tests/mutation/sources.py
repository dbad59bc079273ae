"""
Which modules a sample is drawn from, and which known mutants change nothing.

Modules are found by rule, so that one that moves or is added needs no entry anywhere:

- *pure*: the module has no coroutine and imports nothing that does I/O, tells the time or draws at
  random;
- *own*: a file of tests has its name, in a folder of the same name (``dispatch/test_workqueue.py``);
- *other*: the rest, which is tested on real servers; mutated only when asked for by name.

``equivalent.toml`` beside this file lists mutants that no test can kill, each with its reason. An entry
is keyed by module, function and both texts of the line, so a line may move; an entry that fits no mutant
any more is an error.
"""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutation.operators import Mutant, mutants
from tests.mutation.tracing import PACKAGES

#: Modules of the standard library and of vendors that reach out of the process.
_IMPURE: Final = {
    "aiohttp", "aiosmtplib", "asyncio", "kubernetes_asyncio", "logging", "os", "prometheus_client",
    "random", "redis", "secrets", "signal", "smtplib", "socket", "ssl", "structlog", "subprocess",
    "threading", "time",
}  # fmt: skip

_LIST: Final = "equivalent.toml"

PURE, OWN, OTHER = "pure", "own", "other"


class Key(NamedTuple):
    """
    What stays the same of a mutant while lines around it change.

    Attributes:
        module: The file, relative to the root.
        scope: Qualified name of the innermost function, "" outside of all.
        was: The line before the change, without the blanks around it.
        now: The line after it.
    """

    module: str
    scope: str
    was: str
    now: str


def key_of(mutant: Mutant) -> Key:
    """Return the key by which the list of equivalent mutants knows a mutant."""
    return Key(mutant.path, mutant.scope, mutant.was, mutant.now)


@dataclass(frozen=True, slots=True)
class Module:
    """
    A file of the product.

    Attributes:
        path: Relative to the root.
        source: Its text.
        kind: PURE, OWN or OTHER.
    """

    path: str
    source: str
    kind: str


class StaleError(Exception):
    """The list of equivalent mutants names one that is not there."""


def files(root: Path, *under: str) -> list[str]:
    """
    Return the files of a repository that git knows or would add, relative to the root, sorted.

    Args:
        root: The root of the repository.
        under: Folders or files; none means all.
    """
    answer = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *under],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    names = {name for name in answer.stdout.split("\0") if name and (root / name).is_file()}
    return sorted(names)


def modules(root: Path, roots: Iterable[str]) -> dict[str, Module]:
    """
    Return the modules of the product by path.

    Args:
        root: The root of the repository.
        roots: Folders or files with the tests that mutants are run against.
    """
    tests = {Path(name).parts[-2:] for name in files(root, *roots)}
    found = {}
    for path in files(root, *PACKAGES):
        if not path.endswith(".py"):
            continue
        source = (root / path).read_text()
        file = Path(path)
        if file.stem.startswith("__"):
            kind = OTHER
        elif not imported(source) & _IMPURE and "async def" not in source:
            kind = PURE
        else:
            kind = OWN if (file.parent.name, f"test_{file.name}") in tests else OTHER
        found[path] = Module(path, source, kind)
    return found


def imported(source: str) -> set[str]:
    """Return what a module imports: each dotted name, and the first part of each."""
    names = set(_imports(ast.parse(source)))
    return names | {name.partition(".")[0] for name in names}


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def equivalents(text: str, modules: Mapping[str, str]) -> dict[Key, str]:
    """
    Return the reasons of the mutants that change nothing, by key.

    Args:
        text: The list, as TOML.
        modules: The source of each module of the product, by path.

    Raises:
        StaleError: An entry has no reason, or fits no mutant.
    """
    keys: dict[str, set[Key]] = {}
    found: dict[Key, str] = {}
    for entry in tomllib.loads(text).get("mutant", []):
        key = Key(entry["module"], entry.get("scope", ""), entry["was"], entry["now"])
        if not entry.get("why", "").strip():
            raise StaleError(f"{_LIST}: {key} has no reason (why)")
        path = key.module
        if path not in keys:
            keys[path] = {key_of(m) for m in mutants(path, modules.get(path, ""))}
        if key not in keys[path]:
            raise StaleError(
                f"{_LIST}: no mutant fits {key}; take the entry away, or bring it up to date"
            )
        found[key] = entry["why"]
    return found
