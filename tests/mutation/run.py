"""
Runs a sample of mutants against the tests that enter their functions, and tables what survives.

    scripts/mutate --sample 400 --seed 1

First every test of the roots runs once, traced (``tracing.py``), which also shows that all pass without
a mutant; the trace of a test file is kept until the file or the product changes. Then each mutant is
written into a copy of the tree, one copy per job, and its tests run until the first failure: those
of files that import the module, then the others, shortest first, up to `_BUDGET_S` of traced time. A
mutant that outlasts its time limit is killed with everything it started and counts as killed; so does
one that makes the tests impossible to load.

What survives is either a hole in the tests or a change that changes nothing. The latter belongs into
``equivalent.toml``, with the reason.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import difflib
import hashlib
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.mutation import sources
from tests.mutation.operators import Mutant, mutants
from tests.mutation.sources import OTHER, OWN, PURE, Module, StaleError
from tests.mutation.tracing import PROFILE

ROOT: Final = Path(__file__).resolve().parents[2]
EQUIVALENT: Final = "tests/mutation/equivalent.toml"
ROOTS: Final = ("tests/unit", "tests/properties", "tests/channels")

#: Tests that compare the product's text, or what is made of it, with other files, which no trace shows;
#: each judges what runs at the import of modules that end like this.
READERS: Final = {"tests/unit/test_repository.py": "", "tests/docs/test_pages.py": "settings.py"}

#: Seconds of traced time that the tests of one mutant may have.
_BUDGET_S: Final = 30.0
#: Limits: the start of an interpreter, then a multiple of what the tests took in the trace.
_START_S: Final = 20.0
_FACTOR: Final = 6.0

#: Pytest's exit codes: failed tests, and tests that could not be loaded.
_KILLED: Final = {1, 2, 3, 4}
_NO_TESTS: Final = 5


@dataclass(slots=True)
class Trace:
    """
    Which test enters what.

    Attributes:
        outside: Functions that are entered while no test runs, as ``path::scope``.
        tests: Seconds and entered functions by the test's id, in the order of the run.
        failed: Tests that fail without a mutant; they judge none.
    """

    outside: set[str] = field(default_factory=set)
    tests: dict[str, tuple[float, set[str]]] = field(default_factory=dict)
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


class Workspace:
    """A copy of the tree, in which one mutant at a time is tried."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Copy what git knows or would add."""
        self.folder = folder
        for name in sources.files(root):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name, follow_symlinks=False)
        # Tests of the repository itself ask git.
        link = root / ".git"
        text = link.read_text() if link.is_file() else f"gitdir: {link}\n"
        (folder / ".git").write_text(text)
        # Byte code is told from older by its source's time, in seconds, and size.
        self._time = int(time.time())

    def write(self, path: str, source: str) -> None:
        """Write a module so that no byte code of another version passes for its own."""
        file = self.folder / path
        file.write_text(source)
        self._time += 2
        os.utime(file, (self._time, self._time))

    def pytest(self, arguments: Sequence[str], limit: float) -> tuple[int | None, str]:
        """
        Run pytest in the copy.

        Args:
            arguments: Its arguments.
            limit: Seconds after which it is killed, with everything that it started.

        Returns:
            The exit code, None if it was killed, and the output.
        """
        environment = os.environ | {
            "HYPOTHESIS_PROFILE": PROFILE,
            "PYTHONPATH": str(self.folder),
            "PYTHONPYCACHEPREFIX": f"{self.folder.parent}/bytecode",
            "PYTHONHASHSEED": "0",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [
            sys.executable, "-m", "pytest", "-p", "tests.mutation.tracing", "-p", "no:cacheprovider",
            "-q", "--no-header", *arguments,
        ]  # fmt: skip
        return contained(command, self.folder, environment, limit)


def contained(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float
) -> tuple[int | None, str]:
    """
    Run a program in a session of its own, of which nothing is left afterwards.

    Args:
        command: The program and its arguments.
        folder: Where it runs.
        environment: Its environment, as a whole.
        limit: Seconds after which it is killed, with everything that it started.

    Returns:
        The exit code, None if it was killed, and the output.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return code, output.read()


def trace(root: Path, roots: Sequence[str], workspace: Workspace, jobs: int, store: Path) -> Trace:
    """
    Return which test of the roots enters what; run those whose trace is not known.

    Args:
        root: The root of the repository.
        roots: Folders or files with tests.
        workspace: A copy of the tree without a mutant.
        jobs: In how many processes they run.
        store: The folder where traces are kept.
    """
    names = sources.files(root, "notifier", "syncer", "tests")
    tests = {n for n in names if Path(n).name.startswith("test_") and n.endswith(".py")}
    own = "tests/mutation/"
    product = _digest(root, (n for n in names if n not in tests and not n.startswith(own)))
    wanted = [name for name in sources.files(root, *roots, *READERS) if name in tests]
    kept = {name: store / _digest(root, [name], product) for name in wanted}
    if missing := [name for name in wanted if not kept[name].is_file()]:
        _say(f"tracing {len(missing)} files of tests, without a mutant")
        spread = ["-n", str(jobs), "--dist", "loadfile"] if jobs > 1 and len(missing) > 1 else []
        file = workspace.folder.parent / "trace"
        arguments = [f"--mutation-trace={file}", "-rfE", "--tb=line", *spread, *missing]
        code, output = workspace.pytest(arguments, limit=3600)
        if code not in {0, 1}:
            raise RuntimeError(f"the tests could not be traced:\n{output[-4000:]}")
        failed = {
            line.split(" ")[1] for line in output.splitlines() if line[:5] in {"FAILE", "ERROR"}
        }
        parts = [json.loads(part.read_text()) for part in file.parent.glob("trace.*")]
        store.mkdir(parents=True, exist_ok=True)
        outside = sorted({name for part in parts for name in part["outside"]})
        for name in missing:
            seen = {
                test: entered
                for part in parts
                for test, entered in part["tests"].items()
                if test.partition("::")[0] == name
            }
            bad = sorted(test for test in failed if test.partition("::")[0] == name)
            text = json.dumps({"outside": outside, "tests": seen, "failed": bad})
            if not bad:
                kept[name].write_text(text)
            else:
                kept[name] = file.parent / f"failed-{kept[name].name}"
                kept[name].write_text(text)
    whole = Trace()
    for name in wanted:
        known = json.loads(kept[name].read_text())
        whole.outside |= set(known["outside"])
        whole.failed |= set(known["failed"])
        whole.tests |= {test: (took, set(into)) for test, (took, into) in known["tests"].items()}
    return whole


def _digest(root: Path, names: Iterable[str], salt: str = "") -> str:
    digest = hashlib.sha256(salt.encode())
    for name in names:
        digest.update(f"{name}\0".encode() + (root / name).read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def select(mutant: Mutant, whole: Trace, imports: Mapping[str, set[str]]) -> list[list[str]]:
    """
    Return the tests for a mutant in two steps, what is near first; a step may be empty.

    Args:
        mutant: The mutant.
        whole: Which test enters what.
        imports: Files, of the product and of tests, that import a module by its name, by its path.
    """
    name = f"{mutant.path}::{mutant.scope}"
    near = imports.get(mutant.path, set())
    # What runs at import, or is remembered by a cache, any test of the module or of one that imports it
    # may notice.
    anywhere = not mutant.scope or name in whole.outside
    users = {mutant.path, *near}
    rows = []
    for test, (seconds, entered) in whole.tests.items():
        if test in whole.failed:
            continue
        file = test.partition("::")[0]
        if name in entered or (
            anywhere
            and (
                file in near
                or mutant.path.endswith(READERS.get(file, " "))
                or any(e.partition("::")[0] in users for e in entered - whole.outside)
            )
        ):
            rows.append((file not in near, file, seconds, test))
    took: dict[str, float] = {}
    for _, file, seconds, _ in rows:
        took[file] = took.get(file, 0.0) + seconds
    rows.sort(key=lambda row: (row[0], took[row[1]]))  # stable: tests of a file keep their order
    steps: tuple[list[str], list[str]] = ([], [])
    spent = 0.0
    for far, _, seconds, test in rows:
        spent += seconds
        if spent <= _BUDGET_S or not any(steps):
            steps[far].append(test)
    return list(steps)


def judge(
    mutant: Mutant, module: Module, steps: Sequence[Sequence[str]], whole: Trace, space: Workspace
) -> Result:
    """
    Run the tests for a mutant until one notices it.

    Args:
        mutant: The mutant.
        module: The module that it is of.
        steps: Ids of tests, run one step after the other.
        whole: How long they take.
        space: The copy to try it in.
    """
    began = time.monotonic()
    count = sum(len(step) for step in steps)

    def result(*, killed: bool, by: str) -> Result:
        return Result(mutant, killed, by, count, time.monotonic() - began)

    space.write(mutant.path, mutant.apply(module.source))
    try:
        for step in steps:
            if not step:
                continue
            chosen = space.folder.parent / f"{space.folder.name}.tests"
            chosen.write_text("\n".join(step))
            files = list(dict.fromkeys(test.partition("::")[0] for test in step))
            seconds = [whole.tests[test][0] for test in step]
            single = _START_S / 2 + _FACTOR * max(seconds)
            code, output = space.pytest(
                [
                    f"--mutation-select={chosen}",
                    "-x",
                    "-rfE",
                    "--tb=no",
                    f"--timeout={single:.0f}",
                    *files,
                ],
                limit=_START_S + single + _FACTOR * sum(seconds),
            )
            if code is None:
                return result(killed=True, by="time limit")
            if code in _KILLED or code < 0:
                rows = [r for r in output.splitlines() if r.startswith(("FAILED ", "ERROR "))]
                return result(
                    killed=True, by=rows[0].split(" ")[1] if rows else f"exit code {code}"
                )
            if code not in {0, _NO_TESTS}:
                raise RuntimeError(f"pytest ended with {code}:\n{output[-2000:]}")
    finally:
        space.write(mutant.path, module.source)
    return result(killed=False, by="")


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
    Draw a sample of mutants that can be compiled; those of pure modules come first.

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
    drawn: list[Mutant] = []
    for mutant in order:
        if sample and len(drawn) == sample:
            break
        with contextlib.suppress(SyntaxError):
            compile(
                mutant.apply(modules[mutant.path].source), mutant.path, "exec", dont_inherit=True
            )
            drawn.append(mutant)
    # Stable: within a kind they stay as they were drawn, so a run that is broken off is a sample as well.
    drawn.sort(key=lambda m: modules[m.path].kind != PURE)
    return drawn


def wanted(arguments: argparse.Namespace, modules: Mapping[str, Module]) -> list[Mutant]:
    """
    Return the mutants that the command line asks for, in the order in which they are tried.

    Raises:
        LookupError: no module is, or lies in, a path that was named.
    """
    if arguments.again:
        report = json.loads(Path(arguments.again).read_text())
        left = {sources.Key(*key) for key in report["survivors"]}
        named = {key.module for key in left} & modules.keys()
        drawn = [m for path in sorted(named) for m in mutants(path, modules[path].source)]
        drawn = [mutant for mutant in drawn if sources.key_of(mutant) in left]
    else:
        kinds = {PURE, OWN} | ({OTHER} if arguments.all else set())
        chosen = {path for path, module in modules.items() if module.kind in kinds}
        if arguments.module:
            places = [place.rstrip("/") for place in arguments.module]
            chosen = {p for p in modules if any(p == at or p.startswith(f"{at}/") for at in places)}
        if not chosen:
            raise LookupError(f"no module is or lies in {', '.join(arguments.module)}")
        found = {path: mutants(path, modules[path].source) for path in chosen}
        drawn = draw(found, modules, arguments.sample, arguments.seed)
    part, parts = (int(number) for number in arguments.part.split("/"))
    return drawn[part - 1 :: parts]


def run(root: Path, arguments: argparse.Namespace) -> int:
    """Run what the command line asks for and print the report; return the exit code."""
    roots = arguments.tests or list(ROOTS)
    modules = sources.modules(root, roots)
    try:
        listed = (root / EQUIVALENT).read_text()
        same = sources.equivalents(listed, {path: m.source for path, m in modules.items()})
        drawn = wanted(arguments, modules)
    except (StaleError, LookupError) as error:
        _say(str(error))
        return 2
    results = [
        Result(m, killed=False, by="", tests=1, seconds=0.0)
        for m in drawn
        if sources.key_of(m) in same
    ]
    drawn = [mutant for mutant in drawn if sources.key_of(mutant) not in same]
    judged: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        spaces: queue.SimpleQueue[Workspace] = queue.SimpleQueue()
        for job in range(arguments.jobs):
            spaces.put(Workspace(root, Path(folder) / f"copy{job}"))
        first = spaces.get()
        whole = trace(root, roots, first, arguments.jobs, root / ".mutation")
        spaces.put(first)
        imports = _imports(root, whole, modules)

        def one(mutant: Mutant) -> Result:
            space = spaces.get()
            try:
                steps = select(mutant, whole, imports)
                return judge(mutant, modules[mutant.path], steps, whole, space)
            finally:
                spaces.put(space)

        with _pool(arguments.jobs) as pool, contextlib.suppress(KeyboardInterrupt):
            for result in pool.map(one, drawn):
                judged.append(result)
                if not result.killed:
                    _say(f"{len(judged)} of {len(drawn)}: survived {result.tests} tests")
                    print(difference(result.mutant, modules[result.mutant.path].source), flush=True)
    if len(judged) < len(drawn):
        _say(f"broken off after {len(judged)} of {len(drawn)}")
    if whole.failed:
        _say("left out, for they fail without a mutant: " + ", ".join(sorted(whole.failed)))
    results += judged
    print("\n".join(table(results, same)))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(_report(results, same), indent=1) + "\n")
    return 0 if rate(results, same) * 100 >= arguments.goal else 1


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Offer threads; when the run is broken off, what has not begun does not begin."""
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _imports(root: Path, whole: Trace, modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Return the files that import a module by its name, by the module's path."""
    texts = {path: module.source for path, module in modules.items()}
    texts |= {
        file: (root / file).read_text()
        for file in {test.partition("::")[0] for test in whole.tests}
    }
    found: dict[str, set[str]] = {}
    for file, text in texts.items():
        for name in sources.imported(text):
            found.setdefault(name.replace(".", "/") + ".py", set()).add(file)
    return found


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
    made.add_argument("--all", action="store_true", help="draw from modules that need servers, too")
    made.add_argument("--tests", nargs="+", metavar="PATH", help=f"default: {' '.join(ROOTS)}")
    made.add_argument(
        "--part", default="1/1", metavar="I/N", help="every Nth mutant of the sample, from the Ith"
    )
    made.add_argument("--again", metavar="FILE", help="the survivors of a report that --json wrote")
    made.add_argument("--json", metavar="FILE", help="write the report there, too")
    made.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="default: the cores"
    )
    made.add_argument("--goal", type=float, default=95.0, metavar="PERCENT", help="default: 95")
    return made


if __name__ == "__main__":
    # So that what runs is ended, and copies are removed, as after an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(ROOT, parser().parse_args()))
