"""
Expressions of templates: JMESPath, with functions of our own for what it lacks. No I/O, no clock.

Everything that can be wrong is found when the file is read: syntax, unknown functions and their number of
arguments, patterns that do not compile, and, where it is known what an expression sees, a first name that
is not there. JMESPath itself finds nothing under such a name, and reports an unknown function only when it
is reached, in the middle of the first page. What looks like another template language gets a hint.

Evaluation is linear in what is looked at, which is bounded; patterns are RE2. JMESPath can copy its input:
`a|[@,@]|[@,@]` holds it four times, and so on; functions can lengthen a text. So the product of the copies
along an expression is bounded when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

import jmespath
import orjson
import re2
from jmespath import exceptions, functions, visitor

#: Copies of its input that an expression may make.
_COPIES: Final = 64
#: Characters that `replace` may yield, and of what replaces.
_REPLACED: Final = 64 * 1024
_NEW: Final = 256
#: Characters of what stands between the items of a list.
_BETWEEN: Final = 100
#: What a function may make of a character: JSON in JSON escapes anew, as a URL in a URL does.
_GROWTH: Final = {"to_string": 2, "url": 3}
#: Nodes of which each child sees what the one before it finds, and those that look at each item.
_ONWARDS: Final = frozenset({"subexpression", "pipe", "index_expression"})
_EACH: Final = frozenset({"projection", "filter_projection", "value_projection"})
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20
_OURS: Final = (
    "templates look like {{ member }}, {{#each list}}…{{/each}} and {{#if member}}…{{/if}} here"
)
#: How the tags of Go's templates begin; some of them would be read as members that are not there.
_GO: Final = re.compile(r"(?:if|range|with|template|define|block|include|else)\s+[^\s(]|end$|[.$/]")

F = TypeVar("F", bound=Callable[..., Any])
#: What an expression finds in what it sees.
Find = Callable[[Any], Any]


class Unfit(Exception):
    """A template that does not fit what it meets; the text quotes nothing of that."""


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Have a ValueError begin with the place of what cannot be used; with none as it is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}" if place else str(error)) from None


def _takes(*types: dict[str, list[str]]) -> Callable[[F], F]:
    """Declare the types of a function's arguments; an empty list is any type."""
    return cast("Callable[[F], F]", functions.signature(*types))


class _Functions(functions.Functions):  # type: ignore[misc]  # the library has no types
    """JMESPath's functions and ours."""

    @_takes({"types": []}, {"types": []}, {"types": []})
    def _func_if(self, condition: Any, then: Any, otherwise: Any) -> Any:
        return then if is_true(condition) else otherwise

    @_takes({"types": []}, {"types": []})
    def _func_default(self, value: Any, otherwise: Any) -> Any:
        return otherwise if value is None or value == "" else value

    @_takes({"types": ["string", "null"]})
    def _func_lower(self, text: str | None) -> str | None:
        return text if text is None else text.lower()

    @_takes({"types": ["string", "null"]})
    def _func_upper(self, text: str | None) -> str | None:
        return text if text is None else text.upper()

    @_takes({"types": ["string", "null"]}, {"types": ["string"]}, {"types": ["string"]})
    def _func_replace(self, text: str | None, old: str, new: str) -> str | None:
        if text is None or not old:
            return text
        new = new[:_NEW]
        if len(text) + text.count(old) * (len(new) - len(old)) > max(len(text), _REPLACED):
            raise exceptions.JMESPathError("a text that becomes too long")
        return text.replace(old, new)

    @_takes({"types": ["string", "null"]}, {"types": ["number"]})
    def _func_truncate(self, text: str | None, most: float) -> str | None:
        return text if text is None else text[: max(0, int(most))]

    @_takes({"types": ["string", "null"]}, {"types": ["string"]})
    def _func_match(self, text: str | None, pattern: str) -> bool:
        if text is None:
            return False
        try:
            return _compiled(pattern).search(text) is not None
        except re2.error:
            raise exceptions.JMESPathError("a pattern that does not compile") from None

    @_takes({"types": []})
    def _func_url(self, value: Any) -> str:
        return quote(shown(value).encode("utf-8", "replace"), safe="")

    @_takes({"types": ["array", "null"]}, {"types": ["string"]})
    def _func_list(self, items: list[Any] | None, between: str) -> str:
        return between[:_BETWEEN].join(shown(item) for item in items or () if item is not None)

    @_takes({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, between: str, items: list[str]) -> str:
        return between[:_BETWEEN].join(items)

    @_takes({"types": ["object", "null"]}, {"types": ["string"]})
    def _func_lines(self, members: dict[str, Any] | None, between: str) -> str:
        return between[:_BETWEEN].join(
            f"{k}={shown(v)}" for k, v in sorted((members or {}).items())
        )


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    return re2.compile(pattern, _OPTIONS)


_TABLE: Final = _Functions.FUNCTION_TABLE
_RUN: Final = visitor.TreeInterpreter(jmespath.Options(custom_functions=_Functions()))


def is_true(value: Any) -> bool:
    """JMESPath's own notion: 0 is true, what is empty is not."""
    return value is not None and value is not False and value not in ("", [], {})


def shown(value: Any) -> str:
    """Return a value as text: null is empty, what is not text is JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except (TypeError, orjson.JSONEncodeError):
        return ""


def compiled(text: str, names: frozenset[str] | None) -> Find:
    """
    Compile an expression; what is returned finds its value, or raises `Unfit`.

    Args:
        text: The expression.
        names: What it may begin with; None for anything.

    Raises:
        ValueError: it cannot be used; the text says why.
    """
    text = text.strip()
    if _GO.match(text):
        raise ValueError(f"the expression {text!r} cannot be read: {_OURS}")
    try:
        parsed = jmespath.compile(text).parsed
        copies = _copies(parsed)
    except exceptions.JMESPathError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"the expression {text!r} cannot be read: {reason}") from None
    except RecursionError:
        raise ValueError("the expression is nested too deeply") from None
    if copies > _COPIES:
        raise ValueError(
            f"the expression holds what it finds up to {copies} times; at most {_COPIES}"
        )
    first: set[str] = set()
    _first(parsed, first)
    for name in sorted(first - names) if names is not None else ():
        raise ValueError(f"{name}: there is no such member; {_OURS}")

    def find(value: Any) -> Any:
        try:
            return _RUN.visit(parsed, value)
        except (
            exceptions.JMESPathError, TypeError, ValueError, ArithmeticError, RecursionError,
        ) as error:  # fmt: skip
            raise Unfit(
                f"the expression {text} does not fit what it meets ({type(error).__name__})"
            ) from None

    return find


def _first(node: Any, found: set[str]) -> bool:
    """Collect the names that are looked up in what an expression sees; say whether it is that itself."""
    kind, children = node["type"], node.get("children", [])
    if kind == "field":
        found.add(node["value"])
    elif kind in _ONWARDS:
        # What stands further to the right sees what the left finds.
        return all(_first(child, found) for child in children)
    elif kind in _EACH:
        _first(children[0], found)
    elif kind not in {"expref", "slice"}:
        for child in children:
            _first(child, found)
    return kind in {"current", "identity"}


def _copies(node: Any) -> int:
    """Check the functions of an expression, and return how many times it can hold what it finds."""
    kind = node["type"]
    if kind == "slice":
        return 1
    children = node.get("children", [])
    counts = [_copies(child) for child in children]
    if kind == "function_expression":
        name = node["value"]
        _check_function(name, children)
        if name == "map":
            return counts[0] * counts[1]
        return _GROWTH.get(name, 1) * max(1, sum(counts))
    if kind == "pipe" and children[1]["type"] == "field" and children[1]["value"] in _TABLE:
        name = children[1]["value"]
        raise ValueError(f"{name} is a function: write {name}(…) around what it is for")
    if kind in _ONWARDS | _EACH:
        return prod(counts[:2] if kind == "filter_projection" else counts)
    return max(1, sum(counts))


def _check_function(name: str, children: list[Any]) -> None:
    known = _TABLE.get(name)
    if known is None:
        raise ValueError(f"there is no function {name}()")
    takes, given = known["signature"], len(children)
    variadic = bool(takes and takes[-1].get("variadic"))
    if given < len(takes) or (given > len(takes) and not variadic):
        raise ValueError(f"{name}() takes {len(takes)} arguments, not {given}")
    if name == "match" and children[1].get("type") == "literal":
        try:
            _compiled(children[1]["value"])
        except (re2.error, TypeError):
            raise ValueError("the pattern of match() does not compile (RE2)") from None
