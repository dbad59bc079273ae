"""
Templates of a mapping: text with holes, `${…}`, each with a JMESPath expression. No I/O, no clock.

A template that is one hole and nothing else yields the expression's value; any other yields text, in
which null is empty. `$${` is a literal `${`. Functions of our own fill what JMESPath lacks: `if`,
`default`, `lower`, `upper`, `replace`, `truncate`, `match` (RE2).

Everything that can be wrong is found when the file is read: syntax, unknown functions and their number of
arguments, patterns that do not compile. JMESPath itself would report an unknown function only when it is
reached, in the middle of the first page.

Evaluation is linear in the payload, which is bounded; patterns are RE2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import jmespath
import orjson
import re2
from jmespath import exceptions, functions

from notifier.gateway.draft import Refused

_SIZE: Final = 2000
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20


F = TypeVar("F", bound=Callable[..., Any])


def _takes(*types: dict[str, list[str]]) -> Callable[[F], F]:
    """Declare the types of a function's arguments; an empty list is any type."""
    return cast("Callable[[F], F]", functions.signature(*types))


class _Functions(functions.Functions):  # type: ignore[misc]  # the library has no types
    """JMESPath's functions and ours."""

    @_takes({"types": []}, {"types": []}, {"types": []})
    def _func_if(self, condition: Any, then: Any, otherwise: Any) -> Any:
        return then if _true(condition) else otherwise

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
        return text if text is None or not old else text.replace(old, new[:256])

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


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    return re2.compile(pattern, _OPTIONS)


def _true(value: Any) -> bool:
    # JMESPath's own notion: 0 is true, what is empty is not.
    return value is not None and value is not False and value not in ("", [], {})


_TABLE: Final = _Functions.FUNCTION_TABLE
_RUN: Final = jmespath.Options(custom_functions=_Functions())


class Template:
    """One template, compiled."""

    def __init__(self, text: str) -> None:
        """Compile a template; a ValueError says where and why it cannot be used."""
        if len(text) > _SIZE:
            raise ValueError(f"must be at most {_SIZE} characters")
        self.text = text
        self._parts: list[str | Any] = list(_parts(text))
        self.constant = all(isinstance(part, str) for part in self._parts)

    def value(self, view: object, path: str) -> Any:
        """
        Return the value of the template; null if it is one hole and the expression finds nothing.

        `view` is what the expressions see, `path` where the template stands in the gateway's file.

        Raises:
            Refused: an expression does not fit what it finds.
        """
        try:
            if len(self._parts) == 1 and not isinstance(self._parts[0], str):
                return self._parts[0].search(view, _RUN)
            return "".join(
                part if isinstance(part, str) else shown(part.search(view, _RUN))
                for part in self._parts
            )
        except (
            exceptions.JMESPathError, TypeError, ValueError, ArithmeticError, RecursionError,
        ) as error:  # fmt: skip
            raise Refused(
                f"the expression {self.text} does not fit the payload ({type(error).__name__})",
                path=path,
            ) from None


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


def _parts(text: str) -> Iterator[str | Any]:
    literal = ""
    place = 0
    while place < len(text):
        if text.startswith("$${", place):
            literal += "${"
            place += 3
        elif text.startswith("${", place):
            end = _end(text, place + 2)
            if literal:
                yield literal
            literal = ""
            yield _expression(text[place + 2 : end])
            place = end + 1
        else:
            literal += text[place]
            place += 1
    if literal or not text:
        yield literal


def _end(text: str, start: int) -> int:
    """Return where a hole's brace closes; braces within quotes and of a hash do not count."""
    depth, quote, place = 0, "", start
    while place < len(text):
        sign = text[place]
        if quote:
            if sign == "\\":
                place += 1
            elif sign == quote:
                quote = ""
        elif sign in "'\"`":
            quote = sign
        elif sign == "{":
            depth += 1
        elif sign == "}":
            if not depth:
                return place
            depth -= 1
        place += 1
    raise ValueError(f"the hole that begins at character {start - 1} has no closing brace")


def _expression(text: str) -> Any:
    try:
        compiled = jmespath.compile(text.strip())
    except exceptions.JMESPathError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"the expression {text.strip()!r} cannot be read: {reason}") from None
    except RecursionError:
        raise ValueError("the expression is nested too deeply") from None
    _check(compiled.parsed)
    return compiled


def _check(node: Any) -> None:
    if not isinstance(node, dict):
        return
    if node.get("type") == "function_expression":
        name, given = node["value"], len(node["children"])
        known = _TABLE.get(name)
        if known is None:
            raise ValueError(f"there is no function {name}()")
        takes = known["signature"]
        variadic = bool(takes and takes[-1].get("variadic"))
        if given < len(takes) or (given > len(takes) and not variadic):
            raise ValueError(f"{name}() takes {len(takes)} arguments, not {given}")
        if name == "match" and node["children"][1].get("type") == "literal":
            pattern = node["children"][1]["value"]
            try:
                _compiled(pattern)
            except (re2.error, TypeError):
                raise ValueError("the pattern of match() does not compile (RE2)") from None
    for child in node.get("children", ()):
        _check(child)
