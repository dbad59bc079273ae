"""The mutation sampler: which changes it makes, what it calls killed, and its list of equivalents."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.mutation import run
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
