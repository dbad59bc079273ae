"""
Runs a sample of mutants against the tests that run their lines, and tables what survives.

    scripts/mutate --sample 400 --seed 1

The tree is copied, and all tests are collected once, in a process that forks for each mutant
(``server.py``). First every test runs once, traced line by line (``tracing.py``), which also shows that it
passes without a mutant; a trace is kept until the file of tests, a helper of tests, or a module that its
tests run changes. Then each mutant meets the tests that run its line until the first fails: those of files
that import the module, then the others, least work first, up to `_BUDGET_S`. What runs at
import meets the tests that name what is bound or run a line which does, then the module's other tests, in a
process that imports the mutant.

A test that outlasts its time limit counts as failed if it keeps the limit without the mutant.

What survives is either a hole in the tests or a change that changes nothing. The latter belongs into
``equivalent.toml``, with the reason.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import contextlib
import difflib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.mutation import patch, sources
from tests.mutation.operators import Mutant, mutants
from tests.mutation.server import COLD, WARM
from tests.mutation.sources import OTHER, PURE, Module, StaleError
from tests.mutation.tracing import PACKAGES, PROFILE

ROOT: Final = Path(__file__).resolve().parents[2]
EQUIVALENT: Final = "tests/mutation/equivalent.toml"
#: The sampler's own tests, which take long and run no line of the product.
_SELF: Final = "tests/unit/test_mutation.py"
#: Compares pages with what is made of settings: of the groups whose class is this.
_PAGES: Final = "tests/docs/test_pages.py"
_GROUP: Final = "syncer.configfile.Group"
#: Compares pages with the bounds that they name.
_NUMBERS: Final = "tests/docs/test_numbers.py"
#: Tests of a module of the sample on a server of their own, which starts within a moment: Redis, or HTTP.
_ON_SERVERS: Final = ("tests/integration/test_audit_feed.py", "tests/integration/test_health.py")
ROOTS: Final = ("tests/unit", "tests/properties", "tests/channels", _PAGES, _NUMBERS, *_ON_SERVERS)

#: Seconds of a processor that the tests of one mutant may have, as they were traced.
_BUDGET_S: Final = 15.0
#: The time limit of a test on an idle machine: so long, and so many times what it took in the trace.
_LEAST_S: Final = 3.0
_FACTOR: Final = 5.0
#: The limit of what is not a test: the collection of all tests, and the import in a cold process.
_START_S: Final = 300.0
_IMPORT_S: Final = 60.0
#: How many tests a cold process runs at first: most fail early, and each file of tests costs an import.
_FEW: Final = 25

#: The share that must be killed.
_GOAL: Final = 0.95
_LINE_OF_PROGRESS_S: Final = 15.0

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


class Traced(NamedTuple):
    """
    What a test takes.

    Attributes:
        seconds: From its begin to its end.
        work: Seconds of a processor, which a busy machine does not lengthen.
        lines: The lines of the product that it runs, by path.
    """

    seconds: float
    work: float
    lines: dict[str, set[int]]


@dataclass(slots=True)
class Trace:
    """
    Which test runs what.

    Attributes:
        outside: Lines by path that run while the tests are imported.
        tests: By the test's id what it takes, in the order of the run.
        failed: Tests that fail without a mutant; they judge none.
    """

    outside: dict[str, set[int]] = field(default_factory=dict)
    tests: dict[str, Traced] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Result:
    """
    What became of a mutant.

    Attributes:
        mutant: The mutant.
        killed: Whether a test noticed it.
        by: The test, or what else ended it.
        tests: How many tests it was given.
        seconds: How long it took.
    """

    mutant: Mutant
    killed: bool
    by: str
    tests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a server said of a request.

    Attributes:
        kind: "passed", "failed", "late", "cold" (the code cannot be exchanged) or "traced".
        by: The test that failed or was late.
        found: The whole last line.
    """

    kind: str
    by: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)


class Servers:
    """A copy of the tree and the processes in which tests run (``server.py``)."""

    def __init__(self, root: Path, folder: Path, roots: Sequence[str]) -> None:
        """Copy what git knows or would add, and start; ``folder`` is empty."""
        self.folder = folder
        self._copy = folder / "tree"
        for name in sources.files(root):
            (self._copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, self._copy / name, follow_symlinks=False)
        # Tests of the repository itself ask git.
        link = root / ".git"
        text = link.read_text() if link.is_file() else f"gitdir: {link}\n"
        (self._copy / ".git").write_text(text)
        self._numbers = itertools.count()
        self._asked: set[socket.socket] = set()
        environment = os.environ | {
            "HYPOTHESIS_PROFILE": PROFILE,
            "PYTHONPATH": str(self._copy),
            "PYTHONHASHSEED": "0",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.server", str(folder), *_libraries(root), "--", *roots],
            cwd=self._copy, env=environment, stdin=subprocess.DEVNULL,
            stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def started(self) -> dict[str, Any]:
        """Wait for the collection of the tests; return them and what ran meanwhile."""
        deadline = time.monotonic() + _START_S * _load()
        while not (self.folder / WARM).exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the tests could not be collected:\n{self._said()}")
            time.sleep(0.1)
        found: dict[str, Any] = json.loads((self.folder / "collected.json").read_text())
        if found["errors"]:
            raise RuntimeError("not all tests could be collected:\n" + "\n".join(found["errors"]))
        return found

    def _said(self) -> str:
        self._log.flush()
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """End the processes and what is under way."""
        for opened in tuple(self._asked):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def ask(
        self,
        server: str,
        request: Mapping[str, object],
        first: float,
        limit: Callable[[str], float],
    ) -> Answer:
        """
        Have a fork of a server answer; nothing of it is left afterwards.

        Args:
            server: WARM or COLD.
            request: What to send.
            first: Seconds until the first test begins.
            limit: Returns the seconds that a test may take.
        """
        folder = self.folder / f"run{next(self._numbers)}"
        group, test = 0, "the import"
        with socket.socket(socket.AF_UNIX) as opened:
            self._asked.add(opened)
            opened.settimeout(first)
            opened.connect(str(self.folder / server))
            opened.sendall(json.dumps({**request, "folder": str(folder)}).encode() + b"\n")
            try:
                for line in _lines(opened):
                    found = json.loads(line)
                    if "pid" in found:
                        group = found["pid"]
                    elif "begins" in found:
                        test = found["begins"]
                        opened.settimeout(limit(test))
                    elif "failed" in found:
                        return Answer("failed", found["failed"])
                    else:
                        return Answer(next(iter(found)), found=found)
            except TimeoutError:
                return Answer("late", test)
            finally:
                self._asked.discard(opened)
                with contextlib.suppress(ProcessLookupError):
                    if group:
                        os.killpg(group, signal.SIGKILL)
                shutil.rmtree(folder, ignore_errors=True)
        return Answer("failed", f"{test} ended the process")


def _lines(opened: socket.socket) -> Iterator[bytes]:
    """Yield whole lines; a file made of the socket could not be read on after a time-out."""
    rest = b""
    while block := opened.recv(1 << 20):
        *whole, rest = (rest + block).split(b"\n")
        yield from whole


def _load() -> float:
    """How many times longer than on an idle machine something may take now."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _libraries(root: Path) -> list[str]:
    """Return what the product and its tests import of others."""
    names = [name for name in sources.files(root) if name.endswith(".py")]
    found = {each for name in names for each in sources.imported((root / name).read_text())}
    own = {name.partition("/")[0] for name in names}
    return sorted(name for name in found if name.partition(".")[0] not in own)


def trace(
    root: Path, servers: Servers, collected: Mapping[str, Any], jobs: int, store: Path
) -> Trace:
    """
    Return which test runs what; run those whose trace is not known.

    Args:
        root: The root of the repository.
        servers: Where tests run.
        collected: What they collected.
        jobs: How many files of tests run at once.
        store: The folder where traces are kept.
    """
    wanted = list(dict.fromkeys(test.partition("::")[0] for test in collected["tests"]))
    wanted = [name for name in wanted if name != _SELF]
    helpers = Helpers(root)
    kept = {name: store / _digest(root, [name, *helpers.of(name)]) for name in wanted}
    missing = [name for name in wanted if not _holds(root, kept[name])]
    if missing:
        _say(f"tracing {len(missing)} files of tests, without a mutant")
        store.mkdir(parents=True, exist_ok=True)

        def one(name: str) -> None:
            answer = servers.ask(WARM, {"trace": name}, _IMPORT_S, lambda _: 900.0)
            if answer.kind != "tests":
                raise RuntimeError(f"{name} could not be traced: {answer.kind} {answer.by}")
            seen = answer.found["tests"]
            entered = sorted({path for *_, lines in seen.values() for path in lines})
            text = json.dumps(
                {
                    "of": _digest(root, entered), "entered": entered,
                    "tests": seen, "failed": answer.found["failing"],
                }
            )  # fmt: skip
            part = kept[name].with_suffix(".new")
            part.write_text(text)
            part.rename(kept[name])

        with _pool(jobs, servers) as pool:
            list(pool.map(one, missing))
    whole = Trace(outside={path: set(lines) for path, lines in collected["outside"].items()})
    for name in wanted:
        known = json.loads(kept[name].read_text())
        whole.failed |= set(known["failed"])
        for test, (took, work, lines) in known["tests"].items():
            whole.tests[test] = Traced(took, work, {path: set(n) for path, n in lines.items()})
        if known["failed"]:
            kept[name].unlink()  # perhaps the machine was too busy: looked at again next time
    return whole


class Helpers:
    """Which files of the tests a file of tests rests on."""

    def __init__(self, root: Path) -> None:
        """Take the root of the repository."""
        self._root = root
        self._files = {name for name in sources.files(root, "tests") if name.endswith(".py")}
        self._imports: dict[str, set[str]] = {}

    def of(self, name: str) -> list[str]:
        """Return what a file imports, directly or not, and the fixtures of its folders."""
        found: set[str] = set()
        left = {f"{folder}/conftest.py" for folder in Path(name).parents} & self._files | {name}
        while left:
            found |= left
            left = set().union(*map(self._imported, left)) - found
        return sorted(found - {name})

    def _imported(self, name: str) -> set[str]:
        if name not in self._imports:
            paths = {
                each.replace(".", "/") for each in sources.imported((self._root / name).read_text())
            }
            self._imports[name] = {f"{path}.py" for path in paths} & self._files
        return self._imports[name]


def _holds(root: Path, file: Path) -> bool:
    """Whether a kept trace is of the modules as they are."""
    if not file.is_file():
        return False
    known = json.loads(file.read_text())
    return bool(known["of"] == _digest(root, known["entered"]))


def _digest(root: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        text = (root / name).read_bytes() if (root / name).is_file() else b""
        digest.update(f"{name}\0".encode() + text + b"\0")
    return digest.hexdigest()[:32]


class Tree:
    """What the choice of tests knows of the product and of the files of tests."""

    def __init__(self, texts: Mapping[str, str], whole: Trace) -> None:
        """
        Read the sources.

        Args:
            texts: The text of each module of the product, and of each file of tests, by path.
            whole: Which test runs what.
        """
        self.whole = whole
        self._near: dict[str, set[str]] = {}
        self._uses: dict[str, list[tuple[str, int]]] = {}
        #: By a name the tests in whose text it stands, without their parameters.
        self._named: dict[str, set[str]] = {}
        #: Modules with groups of settings.
        self._settings: set[str] = set()
        for file, text in texts.items():
            imported = sources.imported(text)
            if _GROUP in imported:
                self._settings.add(file)
            for name in imported:
                self._near.setdefault(name.replace(".", "/") + ".py", set()).add(file)
            tree = ast.parse(text)
            if file.startswith(PACKAGES):
                for name, line in _names(tree):
                    self._uses.setdefault(name, []).append((file, line))
            for node in ast.walk(tree):
                if isinstance(node, _FUNCTIONS) and node.name.startswith("test_"):
                    for name, _ in _names(node):
                        self._named.setdefault(name, set()).add(f"{file}::{node.name}")
        self._by_line: dict[tuple[str, int], set[str]] = {}
        self._by_path: dict[str, set[str]] = {}
        for test, traced in whole.tests.items():
            for path, each in traced.lines.items():
                self._by_path.setdefault(path, set()).add(test)
                for line in each:
                    self._by_line.setdefault((path, line), set()).add(test)

    def runs_at_import(self, mutant: Mutant) -> bool:
        """Whether a line of the changed statement runs while tests are imported."""
        lines = range(mutant.first, mutant.last + 1)
        return not self.whole.outside.get(mutant.path, set()).isdisjoint(lines)

    def warm(self, mutant: Mutant) -> list[str]:
        """Return the tests that run the changed statement, the likeliest to notice first."""
        return self._within_budget(self._running(mutant))

    def _running(self, mutant: Mutant) -> dict[str, int]:
        """Return the tests that run the changed statement: 0 if their file imports the module, else 1."""
        near = self._near.get(mutant.path, set())
        return {
            test: int(test.partition("::")[0] not in near)
            for line in range(mutant.first, mutant.last + 1)
            for test in self._by_line.get((mutant.path, line), ())
        }

    def cold(self, mutant: Mutant) -> list[str]:
        """Return the tests that may notice a change of what runs at import, the likeliest first."""
        ranks = self._running(mutant)
        if mutant.path in self._settings:
            # The pages of settings show defaults and bounds, whoever imports the module.
            ranks |= {t: 0 for t in self.whole.tests if t.partition("::")[0] == _PAGES}
        near = self._near.get(mutant.path, set())
        for name in mutant.names:
            for use in self._uses.get(name, ()):
                for test in self._by_line.get(use, ()):
                    in_sight = use[0] == mutant.path or use[0] in near
                    rank = (0 if test.partition("::")[0] in near else 1) if in_sight else 4
                    ranks[test] = min(rank, ranks.get(test, rank))
        for test in self.whole.tests:
            if test.partition("::")[0] in near:
                named = any(
                    test.partition("[")[0] in self._named.get(name, ()) for name in mutant.names
                )
                ranks[test] = min(0 if named else 2, ranks.get(test, 2))
        for path in {mutant.path, *near}:
            for test in self._by_path.get(path, ()):
                ranks.setdefault(test, 3)
        # What a table of the modules holds is read without running a line of them.
        tables = set().union(*(self._near.get(path, ()) for path in near))
        for test in self.whole.tests:
            if test.partition("::")[0] in tables:
                ranks.setdefault(test, 3)
        return self._within_budget(ranks)

    def _within_budget(self, ranks: Mapping[str, int]) -> list[str]:
        """Return the tests by rank, then by time, up to the budget; one at least."""
        tests = self.whole.tests
        order = sorted(
            (test for test in ranks if test not in self.whole.failed),
            key=lambda test: (ranks[test], tests[test].work, test),
        )
        spent = list(itertools.accumulate(tests[test].work for test in order))
        return [t for n, t in enumerate(order) if not n or spent[n] <= _BUDGET_S]


def _names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the names that are read, of attributes too, and their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr, node.lineno


class Bench:
    """Has mutants judged."""

    def __init__(self, servers: Servers, tree: Tree, modules: Mapping[str, Module]) -> None:
        """Take where tests run, how they are chosen, and the product."""
        self.servers = servers
        self._tree = tree
        self._modules = modules

    def judge(self, mutant: Mutant) -> Result:
        """Run the tests for a mutant until one notices it."""
        began = time.monotonic()
        source = self._modules[mutant.path].source
        text = mutant.apply(source)
        change = patch.compare(
            patch.compiled(source, mutant.path), patch.compiled(text, mutant.path)
        )
        request: dict[str, object] = {
            "path": mutant.path, "source": text, "places": sorted(change.functions)
        }  # fmt: skip
        cold = change.at_import or self._tree.runs_at_import(mutant)
        count, by = 0, ""
        if not change.at_import:
            tests = self._tree.warm(mutant)
            count = len(tests)
            if tests:
                by = self._killer(WARM, request, tests)
                if by == COLD:
                    cold, by = True, ""
        if cold and not by:
            tests = self._tree.cold(mutant)
            count = max(count, len(tests))
            for some in (tests[:_FEW], tests[_FEW:]):
                by = by or (self._killer(COLD, request, some) if some else "")
        return Result(mutant, bool(by), by, count, time.monotonic() - began)

    def _killer(self, server: str, request: Mapping[str, object], tests: Sequence[str]) -> str:
        """Return which test fails, COLD if only another process can say it, or "" if none does."""
        patience = 1.0
        while True:
            factor = patience * _load()

            def limit(test: str, factor: float = factor) -> float:
                known = self._tree.whole.tests.get(test)
                return factor * (_LEAST_S + _FACTOR * (known.seconds if known else 0.0))

            first = factor * (_IMPORT_S if server == COLD else _LEAST_S * 4)
            wanted = {**request, "tests": tests}
            answer = self.servers.ask(server, wanted, first, limit)
            if answer.kind == "late":
                if answer.by not in tests:
                    return f"time limit of {answer.by}"
                # Only who keeps the limit without the mutant is a judge.
                control = self.servers.ask(WARM, {"tests": [answer.by]}, first, limit)
                if control.kind == "passed":
                    return f"{answer.by} (time limit)"
                patience *= 3
                if patience > 30:
                    raise RuntimeError(f"{answer.by} does not pass without a mutant: {control}")
                continue
            if answer.kind == "failed":
                return answer.by
            return COLD if answer.kind == COLD else ""


def difference(mutant: Mutant, source: str) -> str:
    """Return the change of a mutant as a unified diff."""
    lines = difflib.unified_diff(
        source.splitlines(), mutant.apply(source).splitlines(),
        mutant.path, f"{mutant.path} ({mutant.scope or 'module'}, {mutant.operator})", lineterm="", n=1,
    )  # fmt: skip
    return "\n".join(lines)


def table(results: Sequence[Result], same: Mapping[sources.Key, str]) -> list[str]:
    """Return the kill rate of each module, worst first, and of all, as lines of text."""
    paths = {result.mutant.path for result in results}
    rows = [(path, [r for r in results if r.mutant.path == path]) for path in paths]
    rows.sort(key=lambda row: (rate(row[1], same), row[0]))
    lines = [
        f"{'module':<44}{'mutants':>8}{'killed':>8}{'survived':>9}{'untested':>9}{'equal':>7}{'rate':>8}"
    ]
    for name, each in [*rows, ("all", list(results))]:
        equal = sum(sources.key_of(r.mutant) in same for r in each)
        killed = sum(r.killed for r in each)
        untested = sum(not r.tests for r in each)
        left = len(each) - equal - killed - untested
        lines.append(
            f"{name:<44}{len(each):>8}{killed:>8}{left:>9}{untested:>9}{equal:>7}{rate(each, same):>7.1%}"
        )
    return lines


def rate(results: Sequence[Result], same: Mapping[sources.Key, str]) -> float:
    """Return the share of the mutants that change something that was killed, 1.0 if there are none."""
    judged = [r for r in results if sources.key_of(r.mutant) not in same]
    return sum(r.killed for r in judged) / len(judged) if judged else 1.0


def draw(
    found: Mapping[str, Sequence[Mutant]], modules: Mapping[str, Module], sample: int, seed: int
) -> list[Mutant]:
    """
    Draw a sample of mutants that can be compiled, to other code; those of pure modules come first.

    Args:
        found: The mutants to draw from, by module.
        modules: The modules, by path.
        sample: How many; 0 means all.
        seed: The same seed draws the same from the same sources.
    """
    population = [mutant for path in sorted(found) for mutant in found[path]]
    if sample:
        order = random.Random(seed).sample(population, len(population))  # noqa: S311 - no secret
    else:
        order = population
    codes = {path: patch.compiled(modules[path].source, path) for path in found}
    drawn: list[Mutant] = []
    for mutant in order:
        if sample and len(drawn) == sample:
            break
        with contextlib.suppress(SyntaxError):
            path = mutant.path
            code = patch.compiled(mutant.apply(modules[path].source), path)
            if patch.compare(codes[path], code) != patch.SAME:
                drawn.append(mutant)
    # Stable: within a kind they stay as they were drawn, so a run that is broken off is a sample as well.
    drawn.sort(key=lambda m: modules[m.path].kind != PURE)
    return drawn


def wanted(
    arguments: argparse.Namespace, modules: Mapping[str, Module], same: Mapping[sources.Key, str]
) -> list[Mutant]:
    """
    Return the mutants that the command line asks for, in the order in which they are tried.

    Args:
        arguments: The command line.
        modules: The product, by path.
        same: The mutants that are listed as equivalent.

    Raises:
        LookupError: no module is, or lies in, a path that was named.
    """
    if arguments.again or arguments.listed:
        left = set(same)
        if arguments.again:
            report = json.loads(Path(arguments.again).read_text())
            left = {sources.Key(*key) for key in report["survivors"]}
        named = {key.module for key in left} & modules.keys()
        drawn = [m for path in sorted(named) for m in mutants(path, modules[path].source)]
        drawn = [mutant for mutant in drawn if sources.key_of(mutant) in left]
    else:
        chosen = {path for path, module in modules.items() if module.kind != OTHER}
        if arguments.module:
            places = [place.rstrip("/") for place in arguments.module]
            chosen = {p for p in modules if any(p == at or p.startswith(f"{at}/") for at in places)}
        if not chosen:
            raise LookupError(f"no module is or lies in {', '.join(arguments.module)}")
        found = {path: mutants(path, modules[path].source) for path in chosen}
        drawn = draw(found, modules, arguments.sample, arguments.seed)
    return drawn


def run(root: Path, arguments: argparse.Namespace) -> int:
    """Run what the command line asks for and print the report; return the exit code."""
    modules = sources.modules(root, ROOTS)
    try:
        listed = (root / EQUIVALENT).read_text()
        same = sources.equivalents(listed, {path: m.source for path, m in modules.items()})
        drawn = wanted(arguments, modules, same)
    except (StaleError, LookupError) as error:
        _say(str(error))
        return 2
    if arguments.listed:
        same = {}
    results = [
        Result(m, killed=False, by="", tests=1, seconds=0.0)
        for m in drawn
        if sources.key_of(m) in same
    ]
    drawn = [mutant for mutant in drawn if sources.key_of(mutant) not in same]
    store = root / ".mutation"
    with (
        tempfile.TemporaryDirectory(prefix="mutate-") as folder,
        contextlib.closing(Servers(root, Path(folder), ROOTS)) as servers,
    ):
        collected = servers.started()
        whole = trace(root, servers, collected, arguments.jobs, store / "traces")
        if whole.failed:
            _say("left out, for they fail without a mutant: " + ", ".join(sorted(whole.failed)))
        texts = {path: module.source for path, module in modules.items()}
        texts |= {
            t: (root / t).read_text() for t in {test.partition("::")[0] for test in whole.tests}
        }
        bench = Bench(servers, Tree(texts, whole), modules)
        judged = _judged(bench, drawn, arguments.jobs, modules)
    if len(judged) < len(drawn):
        _say(f"broken off after {len(judged)} of {len(drawn)}")
    results += judged
    print("\n".join(table(results, same)))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(_report(results, same), indent=1) + "\n")
    if arguments.listed:
        noticed = [result for result in judged if result.killed]
        for result in noticed:
            _say(f"no equivalent, {result.by} notices it: {sources.key_of(result.mutant)}")
        return 1 if noticed else 0
    return 0 if rate(results, same) >= _GOAL else 1


def _judged(
    bench: Bench,
    drawn: Sequence[Mutant],
    jobs: int,
    modules: Mapping[str, Module],
) -> list[Result]:
    """Judge mutants, as many at once as there are jobs; show survivors and how far it is."""
    judged: list[Result] = []
    began = shown = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt), _pool(jobs, bench.servers) as pool:
        for result in pool.map(bench.judge, drawn):
            judged.append(result)
            if not result.killed:
                _say(f"{len(judged)} of {len(drawn)}: survived {result.tests} tests")
                print(difference(result.mutant, modules[result.mutant.path].source), flush=True)
            now = time.monotonic()
            if now - shown > _LINE_OF_PROGRESS_S or len(judged) == len(drawn):
                shown = now
                each = (now - began) / len(judged)
                killed = sum(r.killed for r in judged) / len(judged)
                _say(
                    f"{len(judged)} of {len(drawn)}, {killed:.1%} killed, {each:.2f} s each, "
                    f"{each * (len(drawn) - len(judged)) / 60:.0f} min left"
                )
    return judged


@contextlib.contextmanager
def _pool(jobs: int, servers: Servers) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Offer threads; when the run is broken off, what runs is ended, and nothing more begins."""
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        servers.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _report(results: Sequence[Result], same: Mapping[sources.Key, str]) -> dict[str, Any]:
    judged = [r for r in results if sources.key_of(r.mutant) not in same]
    return {
        "rate": rate(results, same),
        "survivors": [sources.key_of(r.mutant) for r in judged if not r.killed],
        "results": [
            {
                "mutant": sources.key_of(r.mutant), "line": r.mutant.line, "operator": r.mutant.operator,
                "killed": r.killed, "by": r.by, "tests": r.tests, "seconds": round(r.seconds, 2),
            }
            for r in judged
        ],
    }  # fmt: skip


def _say(text: str) -> None:
    print(f"mutate: {text}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(
        prog="scripts/mutate",
        description="Run a sample of mutants; exit code 1 if too many survive.",
    )
    made.add_argument(
        "--sample", type=int, default=0, metavar="N", help="how many; default: all there are"
    )
    made.add_argument(
        "--seed", type=int, default=1, metavar="S", help="draws the sample; default: 1"
    )
    made.add_argument(
        "--module", action="append", metavar="PATH", help="a module or package; may be repeated"
    )
    made.add_argument("--again", metavar="FILE", help="the survivors of a report that --json wrote")
    made.add_argument("--json", metavar="FILE", help="write the report there, too")
    made.add_argument(
        "--listed", action="store_true", help=f"those of {EQUIVALENT}: none may be killed"
    )
    made.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="default: the cores"
    )
    return made


if __name__ == "__main__":
    # So that what runs is ended, and copies are removed, as after an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(ROOT, parser().parse_args()))
