"""The mutation sampler: which changes it makes, what it calls killed, and its list of equivalents."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.mutation import sources
from tests.mutation.run import EQUIVALENT, bound

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


TEXTS: Final[dict[str, tuple[str, str, set[str]]]] = {
    "a condition of a script": (
        "m.lua", "if #a < 2 then -- b == 3", {"if #a <= 2 then -- b == 3", "if #a < 3 then -- b == 3"},
    ),
    "a call of a script": ("m.lua", "redis.call('DEL', 'a == b')", {""}),
    "an answer of a script": ("m.lua", "return {'OK', a}", {"return nil"}),
    "a comparison of a template": ("m.yaml", "{{- if eq .a 1 }}", {"{{- if ne .a 1 }}"}),
    "a condition of a template": ("m.yaml", '{{- if has "a" .b }}', {'{{- if not (has "a" .b) }}'}),
    "a comment of a template": ("m.tpl", "{{/* what and when */}}", set()),
    "a switch of a manifest": ("m.yaml", "  a: true", {"a: false", ""}),
    "an item of a manifest": ("m.yaml", "  - a", {""}),
    "a mapping of a manifest": ("m.yaml", "  - a: b", set()),
}  # fmt: skip


@pytest.mark.parametrize("case", [*CHANGES, *TEXTS])
def test_the_changes(case: str) -> None:
    """A piece becomes what a slip of the hand would have made of it, outside of texts and comments."""
    path, source, wanted = TEXTS[case] if case in TEXTS else ("m.py", *CHANGES[case])
    assert {mutant.now for mutant in sources.mutants(path, source + "\n")} == wanted


def test_what_is_said_to_change_nothing_is_there() -> None:
    """Each entry of the list fits a mutant of the product as it is: else no sampling begins."""
    assert sources.equivalents((ROOT / EQUIVALENT).read_text(), sources.modules(ROOT))


def test_the_lower_bound_of_a_rate() -> None:
    """Few mutants prove little: the bound is far below the rate, and approaches it with their number."""
    bounds = [round(bound(killed, judged), 3) for killed, judged in ((0, 0), (30, 30), (950, 1000))]
    assert bounds == [0, 0.886, 0.935]
