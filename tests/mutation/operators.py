"""
Mutants of a Python source: each changes one place, and the file keeps its lines.

A mutant replaces a piece of the text, never the whole file by an unparsed tree: comments, line numbers
and tracebacks stay, and its difference is the line that a person would have changed by hand. A piece
that covers several lines is replaced by one with as many.

What is not mutated, because no test is meant to notice: annotations (they are never evaluated),
decorators, docstrings and other strings, calls of a logger, and blocks for the type checker. Attributes
that a constructor sets, by itself or its base, are not taken away either: every test misses them, which
would flatter the rate, and an exception has its arguments anyhow.

A number that is compared, added or an index marks a border, and becomes its neighbour. Any other one is
a size, a time or a factor, and is doubled: that a bound is one more nobody notices or needs to, that it is
twice what it was a test should say. A product of numbers alone is one number.
"""

from __future__ import annotations

import ast
import bisect
import io
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

#: What an operator becomes: the neighbour that a slip of the hand would give.
_COMPARISONS: Final = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "is": "is not", "is not": "is", "in": "not in", "not in": "in",
}  # fmt: skip
_ARITHMETIC: Final = {
    "+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*", "**": "*",
    "<<": ">>", ">>": "<<", "|": "&", "&": "|", "^": "&",
}  # fmt: skip
#: Conditions whose negation is the mutant of their own operator.
_NEGATABLE: Final = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
_LEVELS: Final = {"debug", "info", "warning", "error", "exception", "critical"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Mutant:
    """
    One change of one file.

    Attributes:
        path: The file, relative to the root of the repository.
        scope: Qualified name of the innermost function, "" outside of all functions.
        line: Number of the line where the change begins.
        operator: What kind of change it is.
        start: Offset of the replaced text in characters.
        end: Offset of its end.
        text: What stands there instead, with as many line breaks.
        was: The first changed line, without the blanks around it.
        now: The same line of the mutant.
        first: Number of the first line of the statement that is changed, without its blocks; of the whole
            function, if the change is of a default.
        last: Number of the last of these lines.
        names: What the statement binds, if it stands outside of functions.
    """

    path: str
    scope: str
    line: int
    operator: str
    start: int
    end: int
    text: str
    was: str
    now: str
    first: int = 0
    last: int = 0
    names: tuple[str, ...] = ()

    def apply(self, source: str) -> str:
        """Return the mutated source."""
        return source[: self.start] + self.text + source[self.end :]


def mutants(path: str, source: str) -> list[Mutant]:
    """
    Return every mutant of a source, in the order of the text.

    Args:
        path: The file that the source is from, relative to the root of the repository.
        source: The text of a module.

    Raises:
        SyntaxError: The source is no Python.
    """
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda m: (m.start, m.end, m.operator))


class _Finder(ast.NodeVisitor):
    """Collect the mutants of one source."""

    def __init__(self, path: str, source: str) -> None:
        """Read the lines and tokens of the source."""
        self.found: list[Mutant] = []
        self._path = path
        self._source = source
        self._lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))
        self._tokens = [
            (self._starts[token.start[0] - 1] + token.start[1], token)
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type in {tokenize.OP, tokenize.NAME}
        ]
        self._names: list[str] = []
        self._scope = ""
        self._statement: ast.stmt | None = None
        #: Where numbers stand that mark a border.
        self._borders: set[tuple[int, int]] = set()

    def visit(self, node: ast.AST) -> None:
        """Remember which statement the visit is in."""
        outer = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node
        super().visit(node)
        self._statement = outer

    # Positions and changes.

    def _offset(self, line: int, column: int) -> int:
        """Turn a position of the tree, whose columns count UTF-8 bytes, into an offset."""
        encoded = self._lines[line - 1].encode()[:column]
        return self._starts[line - 1] + len(encoded.decode())

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._offset(node.lineno, node.col_offset),
            self._offset(node.end_lineno, node.end_col_offset),
        )

    def _add(self, operator: str, start: int, end: int, text: str) -> None:
        old = self._source[start:end]
        text += "\n" * (old.count("\n") - text.count("\n"))
        number = bisect.bisect_right(self._starts, start) - 1
        last = bisect.bisect_right(self._starts, end) - 1
        rest = self._source[end : self._starts[last] + len(self._lines[last])]
        now = self._source[self._starts[number] : start] + text + rest
        self.found.append(
            Mutant(
                path=self._path,
                scope=self._scope,
                line=number + 1,
                operator=operator,
                start=start,
                end=end,
                text=text,
                was=self._lines[number].strip(),
                now=now.partition("\n")[0].strip(),
                **_extent(self._statement, bound=not self._scope),
            )
        )

    def _replace(self, operator: str, node: ast.expr | ast.stmt, text: str) -> None:
        self._add(operator, *self._span(node), text)

    def _between(self, left: ast.expr, right: ast.expr) -> tuple[int, int, str]:
        """Find the operator between two operands, past their brackets."""
        start, end = self._span(left)[1], self._span(right)[0]
        words = [
            (at, token.string)
            for at, token in self._tokens
            if start <= at < end and token.string not in {"(", ")"}
        ]
        first, (last, word) = words[0][0], words[-1]
        return first, last + len(word), " ".join(string for _, string in words)

    # Where we are.

    def _visit_function(self, node: _Function) -> None:
        """Visit defaults and body, not the annotations."""
        outer_names, outer_scope = self._names, self._scope
        self._names = [*outer_names, node.name]
        self._scope = ".".join(self._names)
        self._names = [*self._names, "<locals>"]
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self._visit_body(node.body)
        self._names, self._scope = outer_names, outer_scope

    visit_FunctionDef = visit_AsyncFunctionDef = _visit_function  # noqa: N815 - ast calls them so

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Visit the body, not bases and decorators."""
        outer = self._names
        self._names = [*outer, node.name]
        self._visit_body(node.body)
        self._names = outer

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Visit what is assigned, not the annotation."""
        if node.value is not None:
            self._removed(node, node.target)
            self.visit(node.value)

    def _visit_body(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    # Statements.

    def visit_Expr(self, node: ast.Expr) -> None:
        """Drop a call; leave texts and calls of a logger alone."""
        if isinstance(node.value, ast.Constant) or _is_logging(node.value):
            return
        built = self._scope.endswith("__init__") and ast.unparse(node).startswith(
            "super().__init__("
        )
        if isinstance(node.value, ast.Call | ast.Await) and not built:
            self._replace("removed call", node, "pass")
        self.generic_visit(node)

    def _removed(self, node: ast.stmt, *targets: ast.expr) -> None:
        if self._scope.endswith("__init__"):  # its absence would end the first test that looks
            return
        if any(isinstance(target, ast.Attribute | ast.Subscript) for target in targets):
            self._replace("removed statement", node, "pass")

    def visit_Assign(self, node: ast.Assign) -> None:
        """Drop a change of something that lives on."""
        if not (self._scope == "" and _is_alias(node.value)):
            self._removed(node, *node.targets)
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Drop it, and turn its operator."""
        self._replace("removed statement", node, "pass")
        first, end, word = self._between(node.target, node.value)
        if turned := _ARITHMETIC.get(word.removesuffix("=")):
            self._add("arithmetic", first, end, f"{turned}=")
        self.visit(node.value)

    def _drop(self, node: ast.stmt) -> None:
        """Drop it; the text of an error is for people."""
        self._replace("removed statement", node, "pass")

    visit_Delete = visit_Raise = visit_Break = _drop  # noqa: N815 - ast calls them so

    def visit_Continue(self, node: ast.Continue) -> None:
        """End the loop instead."""
        self._replace("removed statement", node, "break")

    def visit_Return(self, node: ast.Return) -> None:
        """Return nothing instead, where that is not only another type."""
        if node.value is None:
            return
        if not _is_empty(node.value):
            self._replace("return", node, "return None")
        self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        """Turn the condition; skip what only the type checker sees."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.generic_visit(node)

    def _visit_condition(self, node: ast.While | ast.IfExp) -> None:
        """Turn the condition."""
        self._negate(node.test)
        self.generic_visit(node)

    visit_While = visit_IfExp = _visit_condition  # noqa: N815 - ast calls them so

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave it alone: it tells the type checker what holds."""

    # Expressions.

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """Turn the conditions."""
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if isinstance(test, ast.Constant) or (
            isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        ):
            return
        if (
            isinstance(test, ast.Compare)
            and len(test.ops) == 1
            and isinstance(test.ops[0], _NEGATABLE)
        ):
            return
        start, end = self._span(test)
        self._add("negated condition", start, end, f"not ({self._source[start:end]})")

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Drop a `not` or a sign."""
        if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            start, end = self._span(node)[0], self._span(node.operand)[0]
            # The operand of `not (a or b)` begins behind the parenthesis, which stays.
            dropped = self._source[start:end].partition("(")[0]
            self._add("boolean" if isinstance(node.op, ast.Not) else "arithmetic",
                      start, start + len(dropped), "")  # fmt: skip
        self.generic_visit(node)

    def _border(self, *nodes: ast.expr | None) -> None:
        self._borders |= {(n.lineno, n.col_offset) for n in nodes if isinstance(n, ast.Constant)}

    def visit_Compare(self, node: ast.Compare) -> None:
        """Turn each operator."""
        self._border(node.left, *node.comparators)
        for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
            first, end, word = self._between(left, right)
            self._add("comparison", first, end, _COMPARISONS[word])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Turn each `and` and `or`."""
        for left, right in zip(node.values, node.values[1:], strict=False):
            first, end, word = self._between(left, right)
            self._add("boolean", first, end, "or" if word == "and" else "and")
        self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        """Visit what it goes from and to."""
        self._border(node.lower, node.upper)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Turn the operator; double a number that is written as a product."""
        if _is_number(node):
            start, end = self._span(node)
            self._add("constant", start, end, f"2 * ({self._source[start:end]})")
            return
        if isinstance(node.op, ast.Add | ast.Sub):
            self._border(node.left, node.right)
        first, end, word = self._between(node.left, node.right)
        if word in _ARITHMETIC and not _is_alias(node):
            self._add("arithmetic", first, end, _ARITHMETIC[word])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Turn a truth value, move a number that marks a border, double another one."""
        border = (node.lineno, node.col_offset) in self._borders
        if isinstance(node.value, bool):
            self._replace("constant", node, str(not node.value))
        elif isinstance(node.value, int):
            moved = node.value + 1 if border else node.value * 2 or 1
            self._replace("constant", node, str(moved))
        elif isinstance(node.value, float):
            self._replace("constant", node, str(node.value * 2 or 1.0))

    def visit_Call(self, node: ast.Call) -> None:
        """Visit the arguments, unless they are for a log, or say nothing of what is done."""
        if not _is_logging(node):
            for part in (node.func, *node.args):
                self.visit(part)
            for keyword in node.keywords:
                # `strict` of `zip` is an assertion; a field with `init=False` is one nobody passes.
                if keyword.arg not in {"strict", "init"}:
                    self.visit(keyword)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave texts alone; before Python 3.12 the tree does not know where their parts stand."""

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Visit it as a whole, unless it stands for a type."""
        if not (isinstance(node.value, ast.Name) and node.value.id in {"Literal", "Annotated"}):
            self.generic_visit(node)


def _is_number(node: ast.expr) -> bool:
    """Whether this is a number, or a product or shift of numbers alone."""
    if isinstance(node, ast.BinOp):
        products = ast.Mult | ast.LShift
        return isinstance(node.op, products) and _is_number(node.left) and _is_number(node.right)
    return isinstance(node, ast.Constant) and type(node.value) in {int, float}


class _Extent(TypedDict):
    first: int
    last: int
    names: tuple[str, ...]


def _extent(node: ast.stmt | None, *, bound: bool) -> _Extent:
    """Return the lines of a statement without its blocks, and, where asked for, what it binds."""
    assert node is not None
    last = node.end_lineno or node.lineno
    if isinstance(node, ast.If | ast.While):
        last = node.test.end_lineno or last
    elif isinstance(node, ast.For | ast.AsyncFor):
        last = node.iter.end_lineno or last
    elif isinstance(node, ast.With | ast.AsyncWith):
        last = node.items[-1].context_expr.end_lineno or last
    targets: list[ast.expr] = []
    if bound and isinstance(node, ast.Assign):
        targets = node.targets
    elif bound and isinstance(node, ast.AnnAssign):
        targets = [node.target]
    names = {
        part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
    }
    return _Extent(first=node.lineno, last=last, names=tuple(sorted(names)))


def _is_empty(node: ast.expr) -> bool:
    """Whether this is a truth value, or as little as None."""
    match node:
        case ast.Constant(value=value):
            return value in {None, True, False, "", b""}
        case ast.Tuple(elts=[]) | ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
        case _:
            return False


def _is_logging(node: ast.expr) -> bool:
    """Whether this is a call such as ``self._log.info(...)``."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    owner = node.func.value
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return node.func.attr in _LEVELS and name.lower().lstrip("_") in {"log", "logger"}


def _is_alias(node: ast.expr) -> bool:
    """Whether this is a union of types, such as ``int | None``."""
    return any(
        isinstance(part, ast.BinOp)
        and isinstance(part.op, ast.BitOr)
        and any(_is_type(side) for side in (part.left, part.right))
        for part in ast.walk(node)
    )


def _is_type(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Subscript):
        return _is_type(node.value)
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in {"int", "str", "bytes", "float", "bool", "dict", "list", "tuple"} or (
        name[:1].isupper() and not name.isupper()
    )
