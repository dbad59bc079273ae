"""
Runs a sample of mutants against the tests that may notice them, and tables what survives.

    scripts/mutate --sample 400 --per-package 150 --seed 1

The sample is drawn alike from all Python of the product, its Lua scripts and the templates of its chart;
then each package of the record's path is drawn from until it has enough. The share that is killed, of what
is drawn and no equivalent, is judged by the lower bound of its 95 % interval.

The tree is copied, and all tests are collected once, in a process that forks for each mutant
(``server.py``). First every test runs once, traced line by line (``tracing.py``), which also shows that it
passes without a mutant; a trace is kept until the file of tests, a helper of tests, or a module that its
tests run changes. Then each mutant meets the tests that run its line until the first fails: those without
servers (files that import the module first, then the others, least work first), those on real servers, and
worlds of the simulation (``worlds.py``), each up to its budget. What runs at
import meets the tests that run a line which names what is bound, then the module's other tests, in a
process that imports the mutant. A Lua script meets the tests that run a line which names it, and those of
files that import scripts. A template meets the chart's tests in a copy of the tree. With ``--e2e``, whole
processes there judge what is left.

A test that fails or outlasts its time limit is believed if it passes without the mutant. What no test is
left to judge has survived.

What survives is either a hole in the tests or a change that changes nothing. The latter belongs into
``equivalent.toml``, with the proof.
"""

from __future__ import annotations

import argparse
import ast
import collections
import concurrent.futures
import contextlib
import difflib
import hashlib
import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.mutation import patch, sources
from tests.mutation.operators import Mutant
from tests.mutation.server import COLD, WARM
from tests.mutation.sources import GOAL, GOALS, StaleError, mutants, package_of
from tests.mutation.tracing import PACKAGES, PROFILE

ROOT: Final = Path(__file__).resolve().parents[2]
EQUIVALENT: Final = "tests/mutation/equivalent.toml"
#: The sampler's own tests, which take long and run no line of the product.
_SELF: Final = "tests/unit/test_mutation.py"
#: Compares pages with what is made of settings: of the groups whose class is this.
_PAGES: Final = "tests/docs/test_pages.py"
_GROUP: Final = "syncer.configfile.Group"
#: Names the Lua scripts.
_LUA: Final = "syncer/ledger/lua.py"
#: Compares pages with the bounds that they name.
_NUMBERS: Final = "tests/docs/test_numbers.py"
_WORLDS: Final = "tests/mutation/worlds.py"
#: Tests on real servers, and worlds, judge what the others leave.
_STAGES: Final = ("", "tests/integration/", _WORLDS)
_ROOTS: Final = (
    "tests/unit", "tests/properties", "tests/channels", _PAGES, _NUMBERS, "tests/integration", _WORLDS,
)  # fmt: skip
_CHART: Final = tuple(
    f"tests/chart/test_{name}.py"
    for name in ("render", "parts", "refusals", "gateway", "values", "rights", "admission")
)
_E2E: Final = tuple(
    f"tests/e2e/test_{name}.py"
    for name in ("crash", "shards", "outages", "journal", "gateway", "deletion", "chaos_quick")
)
#: The limit of these, which run as a whole.
_WHOLE_S: Final = 900.0

#: Seconds of a processor that the tests of one mutant may have in each stage, as they were traced.
_BUDGETS_S: Final = (15.0, 30.0, 120.0)
#: The time limit of a test on an idle machine: so long, by its stage, for it may wait for servers to start,
#: and so many times what it took in the trace.
_LEAST_S: Final = (3.0, 40.0, 3.0)
_FACTOR: Final = 5.0
#: By how much limits may grow on a busy machine before a test is no judge.
_PATIENCE: Final = 30.0
#: The limit of what is not a test: the collection of all tests, and the import in a process.
_START_S: Final = 300.0
_IMPORT_S: Final = 60.0
#: How many tests a cold process runs at first: most fail early, and each file of tests costs an import.
_FEW: Final = 25


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
        by: The test that noticed it, or what else ended it; "" if it survived.
        tests: How many tests it was given.
    """

    mutant: Mutant
    by: str
    tests: int


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


def copied(root: Path, folder: Path) -> Path:
    """Copy what git knows or would add; return where it is."""
    for name in sources.files(root):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, folder / name, follow_symlinks=False)
    # Tests of the repository itself ask git.
    link = root / ".git"
    text = link.read_text() if link.is_file() else f"gitdir: {link}\n"
    (folder / ".git").write_text(text)
    return folder


class Copy:
    """Another copy of the tree, for tests that read or run a mutant's file; one mutant at a time."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Copy the tree."""
        self._tree = copied(root, folder)
        self._turn = threading.Lock()

    def killer(self, path: str, text: str, tests: Sequence[str]) -> str:
        """Return which test fails with a mutant and passes without, or ""."""
        with self._turn:
            file = self._tree / path
            was = file.read_text()
            file.write_text(text)
            try:
                found = self._failure(tests)
            finally:
                file.write_text(was)
            return found if found and not self._failure([found]) else ""

    def _failure(self, tests: Sequence[str]) -> str:
        try:
            answer = subprocess.run(
                [sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider", "-rfE", *tests],
                cwd=self._tree, env=os.environ | {"PYTHONPATH": str(self._tree)}, timeout=_WHOLE_S,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ""
        found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", answer.stdout, re.MULTILINE)
        return found[1] if found else ""


class Servers:
    """A copy of the tree and the processes in which tests run (``server.py``)."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Copy the tree, and start; ``folder`` is empty."""
        self.folder = folder
        self._copy = copied(root, folder / "tree")
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
            [sys.executable, "-m", "tests.mutation.server", str(folder), *_libraries(root), "--", *_ROOTS],
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
        self._scripts = re.findall(r"^(\w+): Final = Script", texts[_LUA], re.MULTILINE)
        for file, text in texts.items():
            imported = sources.imported(text)
            if _GROUP in imported:
                # The pages of settings show defaults and bounds, whoever imports the module.
                self._near.setdefault(file, set()).add(_PAGES)
            for name in imported:
                self._near.setdefault(name.replace(".", "/") + ".py", set()).add(file)
            if file.startswith(PACKAGES):
                for name, line in _names(ast.parse(text)):
                    self._uses.setdefault(name, []).append((file, line))
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

    def _naming(self, names: Iterable[str], files: set[str]) -> set[str]:
        """Return the tests that run a line of these files which reads one of the names."""
        uses = {use for name in names for use in self._uses.get(name, ()) if use[0] in files}
        return {test for use in uses for test in self._by_line.get(use, ())}

    def script(self, mutant: Mutant) -> list[str]:
        """Return the tests that name a script or run a line that does; any script, if all share it."""
        name = Path(mutant.path).stem.upper()
        names = [name] if name in self._scripts else self._scripts
        near = self._near[_LUA]
        tests = {test for test in self.whole.tests if test.partition("::")[0] in near}
        return self._within_budget(dict.fromkeys(tests | self._naming(names, near), 0))

    def cold(self, mutant: Mutant) -> list[str]:
        """Return the tests that may notice a change of what runs at import, the likeliest first."""
        ranks = self._running(mutant)
        near = self._near.get(mutant.path, set())
        sight = {mutant.path, *near}
        for rank, tests in enumerate(
            (
                self._naming(mutant.names, sight),
                (test for test in self.whole.tests if test.partition("::")[0] in near),
                (test for path in sight for test in self._by_path.get(path, ())),
            ),
            2,
        ):
            for test in tests:
                ranks.setdefault(test, rank)
        return self._within_budget(ranks)

    def _within_budget(self, ranks: Mapping[str, int]) -> list[str]:
        """Return the tests by stage, rank and time, up to the budget of each stage; one at least."""
        tests = self.whole.tests
        order = sorted(
            (test for test in ranks if test not in self.whole.failed),
            key=lambda test: (_stage(test), ranks[test], tests[test].work, test),
        )
        spent = [0.0] * len(_STAGES)
        chosen: list[str] = []
        for test in order:
            stage = _stage(test)
            spent[stage] += tests[test].work
            if spent[stage] <= _BUDGETS_S[stage] or not chosen:
                chosen.append(test)
        return chosen


def _stage(test: str) -> int:
    """Return which stage a test is of."""
    return max(n for n, place in enumerate(_STAGES) if test.startswith(place))


def _names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the names that are read, of attributes too, and their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr, node.lineno


class Bench:
    """Has mutants judged."""

    def __init__(
        self, servers: Servers, tree: Tree, modules: Mapping[str, str], copy: Copy, *, e2e: bool
    ) -> None:
        """Take where tests run, how they are chosen, the product, and whether whole processes judge."""
        self.servers = servers
        self._tree = tree
        self._modules = modules
        self._copy = copy
        self._e2e = e2e

    def judge(self, mutant: Mutant) -> Result:
        """Run the tests for a mutant until one notices it."""
        source = self._modules[mutant.path]
        text = mutant.apply(source)
        request: dict[str, object] = {
            "path": mutant.path,
            "source": text,
            "was": source,
            "places": [],
        }
        if mutant.path.endswith(".py"):
            count, by = self._python(mutant, request)
        elif mutant.path.endswith(".lua"):
            tests = self._tree.script(mutant)
            count, by = len(tests), self._killer(WARM, request, tests)
        else:
            count, by = len(_CHART), self._copy.killer(mutant.path, text, _CHART)
        if self._e2e and not by and not mutant.path.startswith(sources.CHART):
            by = self._copy.killer(mutant.path, text, _E2E)
        return Result(mutant, by, count)

    def difference(self, mutant: Mutant) -> str:
        """Return the change of a mutant as a unified diff."""
        source = self._modules[mutant.path]
        lines = difflib.unified_diff(
            source.splitlines(), mutant.apply(source).splitlines(),
            mutant.path, f"{mutant.path} ({mutant.scope or 'module'}, {mutant.operator})", lineterm="", n=1,
        )  # fmt: skip
        return "\n".join(lines)

    def _python(self, mutant: Mutant, request: dict[str, object]) -> tuple[int, str]:
        """Return how many tests a mutant met, and which one failed, if any."""
        path = mutant.path
        change = patch.compare(
            patch.compiled(self._modules[path], path),
            patch.compiled(mutant.apply(self._modules[path]), path),
        )
        request["places"] = sorted(change.functions)
        cold = change.at_import or self._tree.runs_at_import(mutant)
        count, by = 0, ""
        if not change.at_import:
            tests = self._tree.warm(mutant)
            count, by = len(tests), self._killer(WARM, request, tests)
            if by == COLD:
                cold, by = True, ""
        if cold and not by:
            tests = self._tree.cold(mutant)
            count = max(count, len(tests))
            by = self._killer(COLD, request, tests[:_FEW])
            for _, stage in itertools.groupby(tests[_FEW:], _stage):
                by = by or self._killer(COLD, request, list(stage))
        return count, by

    def _killer(self, server: str, request: Mapping[str, object], tests: Sequence[str]) -> str:
        """Return which test fails, COLD if only another process can say it, or "" if none does."""
        patience = 1.0
        while tests and patience <= _PATIENCE:
            factor = patience * _load()

            def limit(test: str, factor: float = factor) -> float:
                known = self._tree.whole.tests.get(test)
                taken = known.seconds if known else 0.0
                return factor * (_LEAST_S[_stage(test)] + _FACTOR * taken)

            first = factor * _IMPORT_S
            answer = self.servers.ask(server, {**request, "tests": tests}, first, limit)
            if answer.kind not in {"failed", "late"}:
                return COLD if answer.kind == COLD else ""
            # Only who passes without the mutant, and within the limit, is a judge.
            one = [answer.by] if answer.by in tests else tests[:1]
            without = {**request, "source": request["was"], "places": [], "tests": one}
            if self.servers.ask(server, without, first, limit).kind == "passed":
                return f"{answer.by} ({answer.kind})"
            if answer.kind == "failed":
                tests = [test for test in tests if test != one[0]]
            else:
                patience *= 3
        return ""


def bound(killed: int, judged: int) -> float:
    """Return the lower end of Wilson's 95 % interval of a rate."""
    if not judged:
        return 0.0
    share, z = killed / judged, 1.96
    middle = share + z * z / (2 * judged)
    width = z * math.sqrt(share * (1 - share) / judged + (z / (2 * judged)) ** 2)
    return (middle - width) / (1 + z * z / judged)


class Row(NamedTuple):
    """
    What became of the mutants of a package, or of the whole sample.

    Attributes:
        name: The package.
        drawn: How many were drawn.
        equal: How many of them are equivalents.
        killed: How many were noticed.
        goal: What the lower bound of the rate must reach, if anything.
    """

    name: str
    drawn: int
    equal: int
    killed: int
    goal: float | None

    @property
    def judged(self) -> int:
        """How many are no equivalents."""
        return self.drawn - self.equal

    @property
    def reached(self) -> bool:
        """Whether the lower bound is as high as it must be."""
        return self.goal is None or bound(self.killed, self.judged) >= self.goal

    def __str__(self) -> str:
        """Return the line of the table."""
        goal = "" if self.goal is None else f"{self.goal:.0%}{'' if self.reached else ' missed'}"
        rate = self.killed / self.judged if self.judged else 0.0
        return (
            f"{self.name:<34}{self.drawn:>6}{self.equal:>6}{self.killed:>7}{self.judged - self.killed:>9}"
            f"{rate:>8.1%}{bound(self.killed, self.judged):>8.1%}  {goal}"
        )


HEAD: Final = (
    f"{'package':<34}{'drawn':>6}{'equal':>6}{'killed':>7}{'survived':>9}"
    f"{'rate':>8}{'bound':>8}  goal"
)


def table(
    fates: Mapping[Mutant, str], same: Collection[sources.Key], whole: Collection[Mutant]
) -> list[Row]:
    """
    Return the rows of each package, and of what was drawn from everything, if anything was.

    Args:
        fates: What noticed each mutant, "" if nothing did.
        same: The equivalents.
        whole: What was drawn from everything.
    """
    parts: dict[str, list[Mutant]] = {}
    for mutant in fates:
        parts.setdefault(package_of(mutant.path), []).append(mutant)
    rows = [(name, each, GOALS.get(name)) for name, each in sorted(parts.items())]
    if whole:
        rows.append(("drawn from the whole", [m for m in whole if m in fates], GOAL))
    return [
        Row(
            name, len(each), sum(sources.key_of(m) in same for m in each),
            sum(bool(fates[m]) for m in each), goal,
        )
        for name, each, goal in rows
    ]  # fmt: skip


def draw(modules: Mapping[str, str], sample: int, per_package: int, seed: int) -> Iterator[Mutant]:
    """
    Yield a sample of mutants that can be compiled, to other code: first those from everything.

    Args:
        modules: The files to draw from, by path.
        sample: How many of everything.
        per_package: How many at least of each package of the record's path.
        seed: The same seed draws the same from the same sources.
    """
    population = [mutant for path in sorted(modules) for mutant in mutants(path, modules[path])]
    random.Random(seed).shuffle(population)  # noqa: S311 - no secret
    drawn: collections.Counter[str] = collections.Counter()
    for mutant in population:
        package = package_of(mutant.path)
        lacking = package in GOALS and drawn[package] < per_package
        if (lacking or drawn.total() < sample) and _differs(mutant, modules[mutant.path]):
            drawn[package] += 1
            yield mutant


def _differs(mutant: Mutant, source: str) -> bool:
    """Whether a mutant can be compiled, to other code; of what is no Python nobody knows."""
    if not mutant.path.endswith(".py"):
        return True
    with contextlib.suppress(SyntaxError):
        code = patch.compiled(mutant.apply(source), mutant.path)
        return patch.compare(patch.compiled(source, mutant.path), code) != patch.SAME
    return False


def wanted(
    arguments: argparse.Namespace, modules: Mapping[str, str], same: Mapping[sources.Key, str]
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
    if arguments.listed:
        named = {key.module for key in same}
        drawn = [m for path in sorted(named) for m in mutants(path, modules[path])]
        return [mutant for mutant in drawn if sources.key_of(mutant) in same]
    places = [place.rstrip("/") for place in arguments.module or ()]
    chosen = {
        path: text for path, text in modules.items()
        if not places or any(path == at or path.startswith(f"{at}/") for at in places)
    }  # fmt: skip
    if not chosen:
        raise LookupError(f"no module is or lies in {', '.join(arguments.module)}")
    return list(draw(chosen, arguments.sample, arguments.per_package, arguments.seed))


def run(root: Path, arguments: argparse.Namespace) -> int:
    """Run what the command line asks for and print the report; return the exit code."""
    modules = sources.modules(root)
    try:
        same = sources.equivalents((root / EQUIVALENT).read_text(), modules)
        drawn = wanted(arguments, modules, same)
    except (StaleError, LookupError) as error:
        _say(str(error))
        return 2
    if arguments.listed:
        same = {}
    report = Report(arguments, drawn)
    left = [m for m in drawn if m not in report.results and sources.key_of(m) not in same]
    store = root / ".mutation"
    with (
        tempfile.TemporaryDirectory(prefix="mutate-") as folder,
        contextlib.closing(Servers(root, Path(folder))) as servers,
    ):
        collected = servers.started()
        whole = trace(root, servers, collected, arguments.jobs, store / "traces")
        if whole.failed:
            _say("left out, for they fail without a mutant: " + ", ".join(sorted(whole.failed)))
        names = {test.partition("::")[0] for test in whole.tests}
        texts = {path: text for path, text in modules.items() if path.endswith(".py")}
        texts |= {name: (root / name).read_text() for name in names}
        copy = Copy(root, Path(folder) / "copy")
        bench = Bench(servers, Tree(texts, whole), modules, copy, e2e=arguments.e2e)
        _judge(bench, left, report, arguments.jobs)
    fates = {mutant: result.by for mutant, result in report.results.items()}
    fates |= {mutant: "" for mutant in drawn if sources.key_of(mutant) in same}
    rows = table(fates, same, drawn[: arguments.sample])
    print("\n".join([f"seed {arguments.seed}", HEAD, *map(str, rows)]))
    if len(fates) < len(drawn):
        _say(f"broken off after {len(fates)} of {len(drawn)}")
        return 1
    if arguments.listed:
        for mutant in filter(fates.get, fates):
            _say(f"no equivalent, {fates[mutant]} notices it: {sources.key_of(mutant)}")
        return 1 if any(fates.values()) else 0
    if arguments.module:
        return 1 if any(row.killed < row.judged for row in rows) else 0
    return 0 if all(row.reached for row in rows) else 1


class Report:
    """What became of mutants, written down after each: a run that was broken off goes on there."""

    def __init__(self, arguments: argparse.Namespace, drawn: Iterable[Mutant]) -> None:
        """Take over what is known of what is drawn; of survivors, unless they are judged again."""
        self.results: dict[Mutant, Result] = {}
        self._arguments = arguments
        self._file = Path(arguments.json or os.devnull)
        earlier = json.loads(self._file.read_text())["results"] if self._file.is_file() else []
        known = {tuple(found["at"]): found for found in earlier}
        for mutant in drawn:
            found = known.get(_at(mutant))
            if found and (found["by"] or not arguments.again):
                self.results[mutant] = Result(mutant, found["by"], found["tests"])

    def add(self, result: Result) -> None:
        """Write it down."""
        self.results[result.mutant] = result
        found = [
            {"at": _at(m), "line": m.line, "operator": m.operator, "by": r.by, "tests": r.tests}
            for m, r in self.results.items()
        ]
        report = {"asked": vars(self._arguments), "results": found}
        self._file.write_text(json.dumps(report, indent=1) + "\n")


def _at(mutant: Mutant) -> tuple[object, ...]:
    """Return what tells a mutant from all others."""
    return *sources.key_of(mutant), mutant.start


def _judge(bench: Bench, left: Sequence[Mutant], report: Report, jobs: int) -> None:
    """Judge mutants, as many at once as there are jobs; show what became of each."""
    with contextlib.suppress(KeyboardInterrupt), _pool(jobs, bench.servers) as pool:
        for number, result in enumerate(pool.map(bench.judge, left), 1):
            report.add(result)
            fate = f"killed by {result.by}" if result.by else f"survived {result.tests} tests"
            _say(f"{number} of {len(left)}: {fate}")
            if not result.by:
                print(bench.difference(result.mutant), flush=True)


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


def _say(text: str) -> None:
    print(f"mutate: {text}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(
        prog="scripts/mutate",
        description="Run a sample of mutants; exit code 1 if the lower bound of a rate misses its goal.",
    )
    made.add_argument(
        "--sample", type=int, default=sys.maxsize, metavar="N",
        help="how many from everything; default: all there are",
    )  # fmt: skip
    made.add_argument(
        "--per-package", type=int, default=0, metavar="N",
        help="how many at least of each package of the record's path",
    )  # fmt: skip
    made.add_argument(
        "--seed", type=int, default=1, metavar="S", help="draws the sample; default: 1"
    )
    made.add_argument(
        "--module", action="append", metavar="PATH", help="a module or package; may be repeated"
    )
    made.add_argument(
        "--json",
        metavar="FILE",
        help="the report, written after each mutant; what it holds is not judged again",
    )
    made.add_argument(
        "--again", action="store_true", help="but its survivors are judged again, after mending"
    )
    made.add_argument(
        "--e2e",
        action="store_true",
        help="have tests on whole processes judge what survives the others",
    )
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
