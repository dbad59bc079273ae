"""
What mutants are made of: all Python of the product, the Lua scripts, and the templates of the chart.

Nothing is left out, and a file that moves or is added needs no entry anywhere. Files are counted by
package; `GOALS` names those of the record's path.

``equivalent.toml`` beside this file lists mutants that no test can kill, each with its proof. An entry
is keyed by module, function and both texts of the line, so a line may move; an entry that fits no mutant
any more is an error. What is only tolerable, such as a wait that is twice as long, is no equivalent.
"""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Final, NamedTuple

from tests.mutation import operators, texts
from tests.mutation.operators import Mutant
from tests.mutation.tracing import PACKAGES

_LIST: Final = "equivalent.toml"
CHART: Final = "charts/notification-ledger/templates"
_AUTHORISATION: Final = "notifier/gateway: authorisation"
_AUTHORISES: Final = {
    f"notifier/gateway/{name}.py" for name in ("access", "auth", "proofs", "reviews")
}
#: What must be killed of everything: the lower bound of the interval in which the rate lies.
GOAL: Final = 0.87
#: The same of each package of the record's path; None where it counts in the whole alone.
GOALS: Final[dict[str, float | None]] = {
    "syncer/rules": 0.90,
    "syncer/ledger": 0.90,
    "syncer/sync": 0.90,
    "syncer/sharding": 0.90,
    _AUTHORISATION: 0.90,
    "notifier/dispatch": None,
    "notifier/reconciler": None,
    "notifier/process": None,
}


def package_of(path: str) -> str:
    """Return the package that a file is counted in; the scripts are the ledger's."""
    if path in _AUTHORISES:
        return _AUTHORISATION
    return "/".join(PurePath(path).parent.parts[:2])


def mutants(path: str, source: str) -> list[Mutant]:
    """Return every mutant of a file of the product, in the order of the text."""
    if path.endswith(".py"):
        return operators.mutants(path, source)
    return texts.mutants(path, source)


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


def modules(root: Path) -> dict[str, str]:
    """Return the text of each file that mutants are made of, by path."""
    found = [name for name in files(root, *PACKAGES) if name.endswith((".py", ".lua"))]
    return {path: (root / path).read_text() for path in [*found, *files(root, CHART)]}


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
        modules: The text of each file of the product, by path.

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
