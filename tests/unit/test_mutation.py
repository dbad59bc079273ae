"""The mutation sampler: which changes it makes, what it calls killed, and its list of equivalents."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.mutation import run, sources
from tests.mutation.operators import mutants

ROOT: Final = Path(__file__).resolve().parents[2]

CHANGES: Final[dict[str, tuple[str, set[str]]]] = {
    "a comparison": ("x = a < b", {"x = a <= b"}),
    "a comparison of two words": ("x = a is not b", {"x = a is b"}),
    "operands in brackets": ("x = (a) == (b)", {"x = (a) != (b)"}),
    "a chain of comparisons": ("x = a < b in c", {"x = a <= b in c", "x = a < b not in c"}),
    "a chain of ands": ("x = a and b and c", {"x = a or b and c", "x = a and b or c"}),
    "arithmetic": ("x = a % b", {"x = a * b"}),
    "text beyond ASCII before it": ("x = 'ü€' + b", {"x = 'ü€' - b"}),
    "a number": ("x = 0xFF", {"x = 256"}),
    "a fraction": ("x = 0.0", {"x = 1.0"}),
    "a truth value": ("x = True", {"x = False"}),
    "a sign": ("x = -a", {"x = a"}),
    "a not": ("x = not a", {"x = a"}),
    "a call": ("f(a)", {"pass"}),
    "a change of an object": ("a.b = c", {"pass"}),
    "a change in place": ("a += b", {"pass", "a -= b"}),
    "a condition": ("if a:\n    b = c", {"if not (a):"}),
    "a condition that is one comparison": ("if a == b:\n    c = d", {"if a != b:"}),
    "a condition in a comprehension": ("x = [a for a in b if a]", {"x = [a for a in b if not (a)]"}),
    "the end of a loop": ("for a in b:\n    break", {"pass"}),
    "the next turn of a loop": ("for a in b:\n    continue", {"break"}),
    "a return": ("def f():\n    return a", {"return None"}),
    "an error": ("raise E(1)", {"pass"}),
    "a default": ("def f(a: int = 3): ...", {"def f(a: int = 4): ..."}),
    "a union of types": ("X = int | None", set()),
    "an annotation": ("x: Literal[1] | None = a", set()),
    "a decorator": ("@d(frozen=True)\nclass C: ...", set()),
    "a text": ("x = 'a'", set()),
    "a docstring": ("def f():\n    '''Text 1.'''", set()),
    "a log line": ("self._log.warning('a', n=1 + 2)", set()),
    "what a constructor sets": ("def __init__(self, a):\n    self.a = a", set()),
    "what the type checker alone sees": ("if TYPE_CHECKING:\n    a = 1", set()),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_the_changes(case: str) -> None:
    """A piece of code becomes what a slip of the hand would have made of it."""
    source, wanted = CHANGES[case]
    assert {mutant.now for mutant in mutants("m.py", source + "\n")} == wanted


def test_a_mutant_keeps_the_lines_of_its_file() -> None:
    """Whatever is changed, every other line stays where it is, and the result is Python."""
    path = "tests/mutation/run.py"
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


def price(count: int) -> int:
    """Return the price."""
    if count > 10:
        return count * 2
    return count


def unused(count: int) -> int:
    """No test calls it."""
    return count
'''

TESTS: Final = """\
from syncer.calc import price

def test_many(): assert price(20) == 40

def test_few(): assert price(1) == 1

def test_wrong(): assert price(1) == 2
"""

EQUIVALENT: Final = """
[[mutant]]
module = "syncer/calc.py"
scope = "price"
was = "if count > 10:"
now = "if count >= 10:"
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
    subprocess.run(["git", "init", "-q"], cwd=root, check=True, timeout=30)
    return root


def _run(root: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    report = root.parent / "report.json"
    options = ["--tests", "tests/unit", "--jobs", "1", "--json", str(report), *arguments]
    code = run.run(root, run.parser().parse_args(options))
    return code, json.loads(report.read_text())


@pytest.mark.timeout(400)
def test_survivors_and_kills(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a test notices is killed, the rest survives and is shown; the tree stays as it was."""
    monkeypatch.setattr(run, "_START_S", 120.0)  # a busy machine kills no mutant here
    code, report = _run(tiny, "--module", "syncer/calc.py")
    was: dict[str, set[tuple[str, ...]]] = {"killed": set(), "survived": set()}
    for row in report["results"]:
        was["killed" if row["killed"] else "survived"].add(tuple(row["mutant"][1:]))
    assert was == {
        "killed": {
            ("price", "if count > 10:", "if not (count > 10):"),
            ("price", "return count * 2", "return None"),
            ("price", "return count * 2", "return count / 2"),
            ("price", "return count * 2", "return count * 3"),
            ("price", "return count", "return None"),
        },
        "survived": {
            ("price", "if count > 10:", "if count > 11:"),
            ("unused", "return count", "return None"),
        },
    }
    assert code == 1
    assert report["rate"] == 5 / 7
    # A test that fails without a mutant judges none.
    assert not any(row["by"].endswith("test_wrong") for row in report["results"])
    printed = capsys.readouterr()
    assert "-    if count > 10:\n+    if count > 11:" in printed.out
    assert "test_wrong" in printed.err
    row = next(line for line in printed.out.splitlines() if line.startswith("syncer/calc.py"))
    assert row.split() == ["syncer/calc.py", "8", "5", "1", "1", "1", "71.4%"]
    assert (tiny / "syncer" / "calc.py").read_text() == TINY

    (tiny / "tests" / "unit" / "test_border.py").write_text(
        "from syncer.calc import price\ndef test_border(): assert price(11) == 22\n"
    )
    (tiny.parent / "survivors.json").write_text(json.dumps(report))
    code, report = _run(tiny, "--again", str(tiny.parent / "survivors.json"), "--goal", "50")
    assert code == 0
    assert [row["mutant"][3] for row in report["results"] if row["killed"]] == ["if count > 11:"]


TRACE: Final = run.Trace(
    outside={"syncer/t.py::", "syncer/t.py::made", "syncer/u.py::made"},
    tests={
        "tests/far.py::a": (1.0, {"syncer/t.py::f", "syncer/u.py::made"}),
        "tests/slow.py::a": (9.0, {"syncer/t.py::f"}),
        "tests/near.py::a": (5.0, {"syncer/t.py::g"}),
        "tests/near.py::b": (5.0, {"syncer/t.py::f"}),
        "tests/user.py::a": (1.0, {"syncer/u.py::h"}),
        "tests/broken.py::a": (0.0, {"syncer/t.py::f"}),
        "tests/text.py::a": (2.0, set()),
        "tests/pages.py::a": (2.0, set()),
    },
    failed={"tests/broken.py::a"},
)
IMPORTS: Final = {"syncer/t.py": {"tests/near.py", "syncer/u.py"}}

CHOSEN: Final = {
    "a function: the tests that enter it, what imports the module first": (
        "def f(): return a", [["tests/near.py::b"], ["tests/far.py::a", "tests/slow.py::a"]],
    ),
    "what runs at import: any test of the module and of those that import it": (
        "X = 1", [
            ["tests/near.py::a", "tests/near.py::b"],
            ["tests/far.py::a", "tests/user.py::a", "tests/text.py::a", "tests/slow.py::a"],
        ],
    ),
    "a function that runs at import, too": (
        "def made(): return a", [
            ["tests/near.py::a", "tests/near.py::b"],
            ["tests/far.py::a", "tests/user.py::a", "tests/text.py::a", "tests/slow.py::a"],
        ],
    ),
    "a function that no test enters": ("def other(): return a", [[], []]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHOSEN)
def test_which_tests_judge(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant meets the tests that may notice it, the likeliest and shortest first."""
    monkeypatch.setattr(run, "READERS", {"tests/text.py": "", "tests/pages.py": "settings.py"})
    source, wanted = CHOSEN[case]
    (mutant,) = mutants("syncer/t.py", source + "\n")
    assert run.select(mutant, TRACE, IMPORTS) == wanted


def test_what_many_tests_enter_meets_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of one mutant end where their time is used up; one at least is run."""
    (mutant,) = mutants("syncer/t.py", "def f(): return a\n")
    for budget, wanted in (
        (6.0, [["tests/near.py::b"], ["tests/far.py::a"]]),
        (0.0, [["tests/near.py::b"], []]),
    ):
        monkeypatch.setattr(run, "_BUDGET_S", budget)
        assert run.select(mutant, TRACE, IMPORTS) == wanted


STALE: Final = {
    "a line that is no longer there": ("if count > 10:", "if count > 9:", "no mutant fits"),
    "a change that is not made": ("if count >= 10:", "if count == 10:", "no mutant fits"),
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
    modules = sources.modules(ROOT, run.ROOTS)
    texts = {path: module.source for path, module in modules.items()}
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


def test_nothing_is_left_of_what_hangs(tmp_path: Path) -> None:
    """A program that outlasts its limit is killed together with what it started."""
    command = ["sh", "-c", "sleep 600 & echo $!; wait"]
    code, output = run.contained(command, tmp_path, os.environ, limit=3)
    assert code is None
    status = Path("/proc", output.strip(), "status")
    deadline = time.monotonic() + 30
    # A process that is killed is gone only when it is next scheduled.
    while status.exists() and "\nState:\tZ" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
