"""The mutation sampler: which changes it makes, what it calls killed, and its list of equivalents."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.mutation import patch, run, sources
from tests.mutation.operators import Mutant, mutants
from tests.mutation.tracing import PACKAGES, Lines

ROOT: Final = Path(__file__).resolve().parents[2]

CHANGES: Final[dict[str, tuple[str, set[str]]]] = {
    "a comparison": ("x = a < b", {"x = a <= b"}),
    "a comparison of two words": ("x = a is not b", {"x = a is b"}),
    "operands in brackets": ("x = (a) == (b)", {"x = (a) != (b)"}),
    "a chain of comparisons": ("x = a < b in c", {"x = a <= b in c", "x = a < b not in c"}),
    "a chain of ands": ("x = a and b and c", {"x = a or b and c", "x = a and b or c"}),
    "arithmetic": ("x = a % b", {"x = a * b"}),
    "text beyond ASCII before it": ("x = 'ü€' + b", {"x = 'ü€' - b"}),
    "a number": ("x = 0xFF", {"x = 510"}),
    "nought": ("x = 0", {"x = 1"}),
    "a fraction": ("x = 0.0", {"x = 1.0"}),
    "a number that is compared": ("x = a < 10", {"x = a <= 10", "x = a < 11"}),
    "a number that is added": ("x = a + 10", {"x = a - 10", "x = a + 11"}),
    "a number that is an index": ("x = a[:10]", {"x = a[:11]"}),
    "a factor": ("x = a * 10", {"x = a / 10", "x = a * 20"}),
    "a product of numbers": ("x = f(64 * 1024, 1 << 2)", {
        "x = f(2 * (64 * 1024), 1 << 2)", "x = f(64 * 1024, 2 * (1 << 2))",
    }),
    "a truth value": ("x = True", {"x = False"}),
    "a sign": ("x = -a", {"x = a"}),
    "a not": ("x = not a", {"x = a"}),
    "a not before parentheses": ("x = not (a or b)", {"x = (a or b)", "x = not (a and b)"}),
    "a call": ("f(a)", {"pass"}),
    "a change of an object": ("a.b = c", {"pass"}),
    "a change in place": ("a += b", {"pass", "a -= b"}),
    "a condition": ("if a:\n    b = c", {"if not (a):"}),
    "a condition that is one comparison": ("if a == b:\n    c = d", {"if a != b:"}),
    "a condition in a comprehension": ("x = [a for a in b if a]", {"x = [a for a in b if not (a)]"}),
    "the end of a loop": ("for a in b:\n    break", {"pass"}),
    "the next turn of a loop": ("for a in b:\n    continue", {"break"}),
    "a return": ("def f():\n    return a", {"return None"}),
    "a return of nothing": (
        "def f():\n    if a == b:\n        return ''\n    return (), []", {"if a != b:", "return None"}
    ),
    "an error": ("raise E(1)", {"pass"}),
    "a default": ("def f(a: int = 3): ...", {"def f(a: int = 6): ..."}),
    "a union of types": ("X = int | None", set()),
    "an annotation": ("x: Literal[1] | None = a", set()),
    "a decorator": ("@d(frozen=True)\nclass C: ...", set()),
    "a text": ("x = 'a'", set()),
    "a docstring": ("def f():\n    '''Text 1.'''", set()),
    "a log line": ("self._log.warning('a', n=1 + 2)", set()),
    "what a constructor sets": ("def __init__(self, a):\n    self.a = a", set()),
    "what its base sets": ("def __init__(self, a):\n    super().__init__(a)", set()),
    "a field that nobody passes": (
        "a: int = field(default=1, init=False)", {"a: int = field(default=2, init=False)"}
    ),
    "two sequences of one length": ("x = zip(a, b, strict=True)", set()),
    "what the type checker alone sees": ("if TYPE_CHECKING:\n    a = 1", set()),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_the_changes(case: str) -> None:
    """A piece of code becomes what a slip of the hand would have made of it."""
    source, wanted = CHANGES[case]
    assert {mutant.now for mutant in mutants("m.py", source + "\n")} == wanted


def test_a_mutant_keeps_the_lines_of_its_file() -> None:
    """Whatever is changed, every other line stays where it is, and the result is Python."""
    path = "syncer/rules/merge.py"
    source = (ROOT / path).read_text()
    found = mutants(path, source)
    assert len(found) > 100
    for mutant in found:
        changed = mutant.apply(source)
        compile(changed, path, "exec", dont_inherit=True)
        pairs = list(zip(source.split("\n"), changed.split("\n"), strict=True))
        differing = [number for number, (was, now) in enumerate(pairs, 1) if was != now]
        assert differing, mutant
        assert differing[0] == mutant.line
        assert differing[-1] - differing[0] <= source[mutant.start : mutant.end].count("\n")


def test_the_scope_is_the_function() -> None:
    """A mutant is known by the innermost function, named as the interpreter names it."""
    source = "class C:\n    def f(self):\n        def g(): return a\n        return g\nx = 1\n"
    assert {m.scope for m in mutants("m.py", source)} == {"C.f.<locals>.g", "C.f", ""}


TINY: Final = '''\
"""Prices."""

MANY = 10
FACTOR = 2


def price(count: int) -> int:
    """Return the price."""
    if count > MANY:
        return count * FACTOR
    return count


def unused(count: int) -> int:
    """No test calls it."""
    return count
'''

TESTS: Final = """\
from syncer.calc import price

def test_many(): assert price(30) == 60

def test_few(): assert price(1) == 1

def test_wrong(): assert price(1) == 2
"""

EQUIVALENT: Final = """
[[mutant]]
module = "syncer/calc.py"
scope = "price"
was = "if count > MANY:"
now = "if count >= MANY:"
why = "made up"
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return a repository with one module, its tests and this sampler."""
    root = tmp_path / "tiny"
    for package in ("notifier", "syncer", "tests/unit"):
        (root / package).mkdir(parents=True)
    for package in ("notifier", "syncer", "tests"):
        (root / package / "__init__.py").touch()
    shutil.copy(ROOT / "tests" / "scheduling.py", root / "tests")
    shutil.copytree(ROOT / "tests" / "mutation", root / "tests" / "mutation")
    (root / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    (root / "syncer" / "calc.py").write_text(TINY)
    (root / "tests" / "unit" / "test_calc.py").write_text(TESTS)
    (root / run.EQUIVALENT).write_text(EQUIVALENT)
    (root / ".gitignore").write_text(".mutation/\n__pycache__/\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True, timeout=30)
    return root


def _run(root: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    report = root.parent / "report.json"
    options = ["--tests", "tests/unit", "--jobs", "1", "--json", str(report), *arguments]
    code = run.run(root, run.parser().parse_args(options))
    return code, json.loads(report.read_text())


@pytest.mark.slow("runs of the sampler, each with a server of tests")
@pytest.mark.timeout(400)
def test_survivors_and_kills(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a test notices is killed, the rest survives and is shown; the tree stays as it was."""
    code, report = _run(tiny, "--module", "syncer/calc.py")
    was: dict[str, set[tuple[str, ...]]] = {"killed": set(), "survived": set()}
    for row in report["results"]:
        was["killed" if row["killed"] else "survived"].add(tuple(row["mutant"][1:]))
    assert was == {
        "killed": {
            ("", "FACTOR = 2", "FACTOR = 4"),
            ("price", "if count > MANY:", "if not (count > MANY):"),
            ("price", "return count * FACTOR", "return None"),
            ("price", "return count * FACTOR", "return count / FACTOR"),
            ("price", "return count", "return None"),
        },
        "survived": {("", "MANY = 10", "MANY = 20"), ("unused", "return count", "return None")},
    }
    assert code == 1
    assert report["rate"] == 5 / 7
    # A test that fails without a mutant judges none.
    assert not any(row["by"].endswith("test_wrong") for row in report["results"])
    printed = capsys.readouterr()
    assert "-MANY = 10\n+MANY = 20" in printed.out
    assert "test_wrong" in printed.err
    assert "7 of 7, 71.4% killed, " in printed.err
    row = next(line for line in printed.out.splitlines() if line.startswith("syncer/calc.py"))
    assert row.split() == ["syncer/calc.py", "8", "5", "1", "1", "1", "71.4%"]
    assert (tiny / "syncer" / "calc.py").read_text() == TINY

    (tiny / "tests" / "unit" / "test_border.py").write_text(
        "from syncer.calc import price\ndef test_border(): assert price(11) == 22\n"
    )
    (tiny.parent / "survivors.json").write_text(json.dumps(report))
    code, report = _run(tiny, "--again", str(tiny.parent / "survivors.json"), "--goal", "50")
    assert code == 0
    assert [row["mutant"][3] for row in report["results"] if row["killed"]] == ["MANY = 20"]


@pytest.mark.slow("runs of the sampler, each with a server of tests")
def test_a_run_goes_on_where_it_was_broken_off(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was judged on the same tree is not judged again; on another tree it is."""
    judge, judged = run.Bench.judge, list[str]()

    def counted(self: run.Bench, mutant: Mutant) -> run.Result:
        if mutant.now == "return count / FACTOR" and not goes_on:
            raise KeyboardInterrupt
        judged.append(mutant.now)
        return judge(self, mutant)

    goes_on = False
    monkeypatch.setattr(run.Bench, "judge", counted)
    _run(tiny, "--module", "syncer/calc.py")
    assert "broken off after 4 of 7; the same command goes on" in capsys.readouterr().err
    goes_on = True
    judged.clear()
    _, report = _run(tiny, "--module", "syncer/calc.py")
    assert len(report["results"]) == 7
    assert len(judged) == 3
    (tiny / "tests" / "unit" / "test_calc.py").write_text(TESTS + "\n")
    _run(tiny, "--module", "syncer/calc.py")
    assert len(judged) == 3 + 7


HANGS: Final = """
import subprocess
from syncer.calc import drained

def test_drained(tmp_path):
    started = subprocess.Popen(["sleep", "600"])
    with open({pids!r}, "a") as file:
        print(started.pid, file=file)
    assert drained(2) == 0
"""


@pytest.mark.slow("runs of the sampler, each with a server of tests")
def test_what_is_listed_is_judged_as_well(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An entry whose mutant a test notices is wrong, however good its reason sounds."""
    code, report = _run(tiny, "--listed")
    assert (code, len(report["results"]), report["survivors"]) == (
        0, 1, [["syncer/calc.py", "price", "if count > MANY:", "if count >= MANY:"]],
    )  # fmt: skip
    (tiny / "tests" / "unit" / "test_calc.py").write_text(
        "from syncer.calc import price\ndef test_border(): assert price(10) == 10\n"
    )
    code, report = _run(tiny, "--listed")
    assert (code, report["survivors"]) == (1, [])
    assert (
        "no equivalent, tests/unit/test_calc.py::test_border notices it" in capsys.readouterr().err
    )


@pytest.mark.slow("runs of the sampler, each with a server of tests")
def test_what_hangs_is_killed(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that a mutant makes endless is ended, with what it started, and counts as failed."""
    monkeypatch.setattr(run, "_LEAST_S", 1.0)
    loop = "def drained(left):\n    while left:\n        left -= 1\n    return left\n"
    (tiny / "syncer" / "calc.py").write_text(loop)
    pids = tmp_path / "pids"
    (tiny / "tests" / "unit" / "test_calc.py").write_text(HANGS.format(pids=str(pids)))
    (tiny / run.EQUIVALENT).write_text("")
    _, report = _run(tiny, "--module", "syncer/calc.py", "--goal", "0")
    by = {row["mutant"][3]: row["by"] for row in report["results"]}
    assert by["pass"] == "tests/unit/test_calc.py::test_drained (time limit)"
    assert by["return None"] == "tests/unit/test_calc.py::test_drained"
    for pid in pids.read_text().split():
        status = Path("/proc", pid, "status")
        deadline = time.monotonic() + 30
        # A process that is killed is gone only when it is next scheduled.
        while status.exists() and "\nState:\tZ" not in status.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_what_a_test_imports_when_it_runs_is_the_mutant(tiny: Path) -> None:
    """A module that is not imported before is mutated all the same."""
    (tiny / "syncer" / "calc.py").write_text("def doubled(a):\n    return a + a\n")
    text = "def test_doubled():\n    from syncer.calc import doubled\n    assert doubled(2) == 4\n"
    (tiny / "tests" / "unit" / "test_calc.py").write_text(text)
    (tiny / run.EQUIVALENT).write_text("")
    code, report = _run(tiny, "--module", "syncer/calc.py")
    assert (code, report["survivors"], len(report["results"])) == (0, [], 2)


def test_what_the_collector_is_told_to_ignore_is_exchanged_as_well(tiny: Path) -> None:
    """Our own fixtures freeze what was collected; the functions of the product are among it."""
    (tiny / "tests" / "conftest.py").write_text(
        "import gc\ndef pytest_collection_finish(): gc.collect(); gc.freeze()\n"
    )
    _, report = _run(tiny, "--module", "syncer/calc.py", "--goal", "0")
    assert ["syncer/calc.py", "price", "return count", "return None"] not in report["survivors"]


def test_tests_that_cannot_be_collected_end_the_run(tiny: Path) -> None:
    """Without its tests nothing is judged: the run says why it cannot."""
    (tiny / "tests" / "unit" / "test_calc.py").write_text("import nowhere")
    with pytest.raises(RuntimeError, match="No module named 'nowhere'"):
        _run(tiny, "--module", "syncer/calc.py")


SOURCE: Final = """\
X = 1
class C:
    y = 2
    def f(self, a=3): return lambda: a + 4
def g(a):
    def h():
        return a
    return h
"""

EXCHANGED: Final[dict[str, tuple[str, str, patch.Change]]] = {
    "nothing but columns": ("return lambda", "return  lambda", patch.SAME),
    "a function in a function": (
        "a + 4", "a - 4",
        patch.Change(
            frozenset({patch.Place("C.f", 4), patch.Place("C.f.<locals>.<lambda>", 4)}),
            at_import=False,
        ),
    ),
    "a function": (
        "    return h", "    return None",
        patch.Change(frozenset({patch.Place("g", 5)}), at_import=False),
    ),
    "a constant": ("X = 1", "X = 2", patch.Change(frozenset(), at_import=True)),
    "a truth value in the place of a number": (
        "X = 1", "X = True", patch.Change(frozenset(), at_import=True),
    ),
    "the body of a class": ("y = 2", "y = 3", patch.Change(frozenset(), at_import=True)),
    "a default": ("a=3", "a=4", patch.Change(frozenset(), at_import=True)),
}  # fmt: skip


@pytest.mark.parametrize("case", EXCHANGED)
def test_what_a_change_needs(case: str) -> None:
    """A change inside of functions names them; one of what runs at import says so."""
    old, new, wanted = EXCHANGED[case]
    assert SOURCE.count(old) == 1
    before = patch.compiled(SOURCE, "m.py")
    assert patch.compare(before, patch.compiled(SOURCE.replace(old, new), "m.py")) == wanted


def test_functions_that_are_alive_get_the_code_of_the_mutant() -> None:
    """Whoever holds a function calls the mutant; one that closes over something else is left alone."""
    space: dict[str, Any] = {}
    exec(patch.compiled(SOURCE, "m.py"), space)  # noqa: S102 - the source stands above
    held, method, inner = space["g"], space["C"]().f, space["g"](7)
    functions = [held, method.__func__, inner]

    def exchange(old: str, new: str) -> bool:
        code = patch.compiled(SOURCE.replace(old, new), "m.py")
        change = patch.compare(patch.compiled(SOURCE, "m.py"), code)
        return patch.exchange(functions, code, change.functions)

    assert exchange("a + 4", "a - 4")
    assert method()() == -1
    assert not exchange("return a", "return 5")  # it no longer closes over `a`
    assert inner() == 7
    assert held(6)() == 6


def test_lines_of_the_product_are_traced(tmp_path: Path) -> None:
    """Each line of the product that runs is noted by its file, others are not."""
    (tmp_path / "syncer").mkdir()
    text = "def f(a):\n    for n in range(3):\n        if n == a:\n            return n\n    return a\n"
    product, other = tmp_path / "syncer" / "m.py", tmp_path / "m.py"
    spaces: list[dict[str, Any]] = [{}, {}]
    for file, space in zip((product, other), spaces, strict=True):
        exec(patch.compiled(text, str(file)), space)  # noqa: S102 - the source stands above
    before = sys.gettrace()
    lines = Lines(str(tmp_path))
    found = []
    for argument in (5, 1, 5):
        lines.begin()
        spaces[0]["f"](argument)
        spaces[1]["f"](argument)
        found.append(lines.end())
    sys.settrace(before)
    assert found == [
        {"syncer/m.py": [1, 2, 3, 5]}, {"syncer/m.py": [1, 2, 3, 4]}, {"syncer/m.py": [1, 2, 3, 5]},
    ]  # fmt: skip


def test_lines_behind_an_overflow_of_the_stack_are_traced(tmp_path: Path) -> None:
    """The tracer is lost there; what the functions would run afterwards counts as run."""
    text = "def f(n):\n    try:\n        return f(n + 1)\n    except RecursionError:\n        return n\n"
    space: dict[str, Any] = {}
    file = tmp_path / "syncer" / "m.py"
    exec(patch.compiled(text, str(file)), space)  # noqa: S102 - the source stands above
    before = sys.gettrace()
    lines = Lines(str(tmp_path))
    lines.begin()
    try:
        assert space["f"](0) > 0
    finally:
        found = lines.end()
        sys.settrace(before)
    assert found == {"syncer/m.py": [1, 2, 3, 4, 5]}


TEXTS: Final = {
    "syncer/t.py": "",
    "syncer/u.py": "from syncer.t import X\n\ndef h():\n    return X\n",
    "syncer/v.py": "def far(): return X\n",
    "tests/near.py": "from syncer import t\n",
    "tests/table.py": "from syncer import u\n",
    "tests/names.py": "from syncer import t\n\ndef test_x():\n    assert t.X\n",
}
TRACE: Final = run.Trace(
    outside={"syncer/t.py": {5}},
    tests={
        "tests/far.py::a": run.Traced(50.0, 1.0, {"syncer/t.py": {1, 2}}),
        "tests/slow.py::a": run.Traced(50.0, 9.0, {"syncer/t.py": {2}}),
        "tests/near.py::a": run.Traced(50.0, 5.0, {"syncer/t.py": {1}}),
        "tests/near.py::b": run.Traced(50.0, 5.0, {"syncer/t.py": {2}}),
        "tests/user.py::a": run.Traced(50.0, 1.0, {"syncer/u.py": {4}}),
        "tests/other.py::a": run.Traced(50.0, 1.0, {"syncer/v.py": {1}}),
        "tests/broken.py::a": run.Traced(50.0, 0.0, {"syncer/t.py": {2}}),
        "tests/text.py::a": run.Traced(50.0, 2.0, {}),
        "tests/table.py::a": run.Traced(50.0, 3.0, {}),
        "tests/names.py::test_x[1]": run.Traced(50.0, 0.5, {}),
    },
    failed={"tests/broken.py::a"},
)

CHOSEN: Final = {
    "a line of a function: the tests that run it, of files that import the module first": (
        "def f():\n    return a", ["tests/near.py::b", "tests/far.py::a", "tests/slow.py::a"], False,
    ),
    "a default: the tests that run a line of the function, then all of the module, its users and theirs": (
        "def f(a=1):\n    pass",
        [
            "tests/near.py::a", "tests/near.py::b", "tests/far.py::a", "tests/slow.py::a",
            "tests/names.py::test_x[1]", "tests/user.py::a", "tests/table.py::a",
        ], True,
    ),
    "a constant: the tests that name it, or run a line with it, then all of the module and its users": (
        "\n\n\n\nX = 1", [
            "tests/names.py::test_x[1]", "tests/user.py::a", "tests/near.py::a", "tests/near.py::b",
            "tests/far.py::a", "tests/table.py::a", "tests/slow.py::a", "tests/other.py::a",
        ], True,
    ),
    "a line that no test runs": ("\n\ndef f():\n    return a", [], False),
}  # fmt: skip


@pytest.mark.parametrize("case", CHOSEN)
def test_which_tests_judge(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant meets the tests that may notice it, the likeliest and shortest first."""
    monkeypatch.setattr(run, "_BUDGET_S", 100.0)
    source, wanted, at_import = CHOSEN[case]
    (mutant,) = mutants("syncer/t.py", source + "\n")
    tree = run.Tree(TEXTS, TRACE)
    assert (tree.cold if at_import else tree.warm)(mutant) == wanted
    assert tree.runs_at_import(mutant) == (mutant.names == ("X",))


def test_what_many_tests_run_meets_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of one mutant end where their time is used up; one at least is run."""
    (mutant,) = mutants("syncer/t.py", "def f():\n    return a\n")
    tree = run.Tree(TEXTS, TRACE)
    for budget, wanted in (
        (6.0, ["tests/near.py::b", "tests/far.py::a"]),
        (0.0, ["tests/near.py::b"]),
    ):
        monkeypatch.setattr(run, "_BUDGET_S", budget)
        assert tree.warm(mutant) == wanted


STALE: Final = {
    "a line that is no longer there": ("if count > MANY:", "if count > 9:", "no mutant fits"),
    "a change that is not made": ("if count >= MANY:", "if count == MANY:", "no mutant fits"),
    "a reason that says nothing": ("made up", " ", "no reason"),
}


@pytest.mark.parametrize("case", STALE)
def test_a_stale_entry_is_an_error(
    tiny: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An entry of the list that fits no mutant, or gives no reason, stops the run."""
    old, new, reason = STALE[case]
    (tiny / run.EQUIVALENT).write_text(EQUIVALENT.replace(old, new))
    arguments = run.parser().parse_args(["--module", "syncer/calc.py"])
    assert run.run(tiny, arguments) == 2
    assert reason in capsys.readouterr().err


def test_an_entry_outlives_a_moved_line() -> None:
    """Lines that are added before it leave an entry as valid as it was."""
    moved = "X = 1\n" + TINY.replace('    """Return', '\n\n    """Return')
    found = sources.equivalents(EQUIVALENT, {"syncer/calc.py": moved})
    assert list(found.values()) == ["made up"]


def test_the_list_is_up_to_date() -> None:
    """Every entry of the list fits a mutant of the product and gives its reason."""
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    texts = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    sources.equivalents((ROOT / run.EQUIVALENT).read_text(), texts)


def test_the_sample_is_drawn_by_rule(tiny: Path) -> None:
    """Pure modules are found by what they import, others by the name of their tests."""
    for path, text in {
        "syncer/store/rows.py": "from syncer.calc import price\n",
        "syncer/store/clock.py": "import time\n",
        "syncer/store/loop.py": "async def run(): ...\n",
        "syncer/store/__init__.py": "",
        "tests/unit/store/test_loop.py": "",
        "tests/unit/other/test_clock.py": "",
    }.items():
        (tiny / path).parent.mkdir(parents=True, exist_ok=True)
        (tiny / path).write_text(text)
    kinds = {m.path: m.kind for m in sources.modules(tiny, ["tests/unit"]).values()}
    assert kinds == {
        "syncer/calc.py": sources.PURE,
        "syncer/store/rows.py": sources.PURE,
        "syncer/store/loop.py": sources.OWN,
        "syncer/store/clock.py": sources.OTHER,
        "syncer/store/__init__.py": sources.OTHER,
        "syncer/__init__.py": sources.OTHER,
        "notifier/__init__.py": sources.OTHER,
    }
