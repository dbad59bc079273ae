"""
Payloads: a tree of JSON whose texts are templates, so that whatever a value holds, the result is JSON.

A text that is one hole and nothing else yields the expression's value with its type; of what is nested, its
JSON. What finds nothing is
left out of its mapping or list. `{$each: EXPR, $do: TREE}` is a list, one item for each, or stands for
several items of the list that it is in; `{$if: EXPR, $then: TREE, $else: TREE}` is one of two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from notifier.templates.expressions import Find, Unfit, compiled, is_true, placed
from notifier.templates.text import Limit, Template, scopes, seen_in

#: Values of a tree, as it is written and as it is rendered.
VALUES: Final = 2000
_DEPTH: Final = 20
_ABSENT: Final = object()
_BLOCKS: Final = {"$each": ("$do",), "$if": ("$then", "$else")}

#: The mappings in which a text stands, from the outermost to its own.
Around = tuple[Mapping[str, Any], ...]
#: Renders a part for what is seen; of how many values may still be rendered, it takes its own.
_Node = Callable[[Any, list[int]], Any]


class Tree:
    """
    One payload, compiled.

    Attributes:
        texts: The paths of its texts.
    """

    def __init__(
        self,
        source: Any,
        *,
        names: frozenset[str],
        item: frozenset[str] = frozenset(),
        language: Callable[[str, Around], str] = lambda _, __: "text",
        limit: Callable[[str, Around], Limit | None] = lambda _, __: None,
        scalars: bool = False,
    ) -> None:
        """
        Compile a payload of JSON's types.

        Args:
            source: The payload.
            names: What expressions see.
            item: What the items of lists have beside that.
            language: Of each text, by its path without places in lists, and by what it stands in.
            limit: How long each text may be, by the same.
            scalars: A hole yields no mapping and no list, which might be read as markup.

        Raises:
            ValueError: it cannot be used; the text says where and why.
        """
        self._item = item
        self._language = language
        self._limit = limit
        self._scalars = scalars
        self.texts: set[str] = set()
        self._left = VALUES
        self._root = self._node(source, "", (), names, 0)

    def render(self, view: Any) -> Any:
        """Return the payload; Unfit if an expression does not fit what it meets, or it gets too large."""
        found = self._root(view, [VALUES])
        return None if found is _ABSENT else found

    def _node(
        self, source: Any, path: str, around: Around, names: frozenset[str], depth: int
    ) -> _Node:
        self._left -= 1
        if depth > _DEPTH or self._left < 0:
            raise ValueError(f"{path}: the payload is too large, or nested too deeply")
        if isinstance(source, str):
            return self._text(source, path, around, names)
        if isinstance(source, Mapping):
            if any(key.startswith("$") for key in source):
                return self._block(source, path, around, names, depth)
            members = {
                key: self._node(
                    inner, f"{path}.{key}".lstrip("."), (*around, source), names, depth + 1
                )
                for key, inner in source.items()
            }
            return lambda view, left: _mapping(members, view, left)
        if isinstance(source, list):
            items = [
                (
                    self._node(inner, path, around, names, depth + 1),
                    isinstance(inner, Mapping) and "$each" in inner,
                )
                for inner in source
            ]
            return lambda view, left: _list(items, view, left)
        return lambda *_: source

    def _text(self, source: str, path: str, around: Around, names: frozenset[str]) -> _Node:
        self.texts.add(path)
        language = self._language(path, around)
        with placed(path):
            template = Template(
                source,
                names=names,
                item=self._item,
                language=language,
                limit=self._limit(path, around),
            )
        plain, scalars = language == "text", self._scalars

        def node(view: Any, _: list[int]) -> Any:
            try:
                value = template.value(view)
            except Unfit as unfit:
                raise Unfit(f"{path}: {unfit}" if path else str(unfit)) from None
            if value is None:
                return _ABSENT
            if isinstance(value, (str, bool, int, float)) or (
                plain and not scalars and _flat(value)
            ):
                return value
            # What is deeper might be what the template's author does not mean; it is shown as JSON.
            return template.render(view)

        return node

    def _block(
        self,
        source: Mapping[str, Any],
        path: str,
        around: Around,
        names: frozenset[str],
        depth: int,
    ) -> _Node:
        head = next((key for key in _BLOCKS if key in source), "")
        allowed = {head, *_BLOCKS.get(head, ())}
        expression = source.get(head)
        whole = head and not set(source) - allowed and _BLOCKS[head][0] in source
        if not whole or not isinstance(expression, str):
            raise ValueError(
                f"{path}: a mapping with a $ is {{$each, $do}} or {{$if, $then, $else}} and no more,"
                " and $each and $if are expressions, as texts"
            )
        with placed(f"{path}.{head}".lstrip(".")):
            find = compiled(expression.strip().removeprefix("{{").removesuffix("}}"), names)
        if head == "$if":
            then = self._node(source["$then"], path, around, names, depth + 1)
            other: _Node = lambda *_: _ABSENT  # noqa: E731 - one of two
            if "$else" in source:
                other = self._node(source["$else"], path, around, names, depth + 1)
            return lambda view, left: (then if is_true(find(view)) else other)(view, left)
        inner = seen_in(names, self._item) or frozenset()
        return _each(find, self._node(source["$do"], path, around, inner, depth + 1), path)


def _flat(value: Any) -> bool:
    """Whether a value is a list or mapping of plain values."""
    inner = value.values() if isinstance(value, dict) else value
    return not any(isinstance(item, (dict, list)) for item in inner)


def _each(find: Find, inner: _Node, path: str) -> _Node:
    def node(view: Any, left: list[int]) -> Any:
        items = find(view)
        if items is None:
            return []
        if not isinstance(items, list):
            raise Unfit(f"{path}: $each meets what is no list")
        seen = scopes(view, items)
        _take(left, len(seen))
        found = [inner(scope, left) for scope in seen]
        return [value for value in found if value is not _ABSENT]

    return node


def _mapping(members: Mapping[str, _Node], view: Any, left: list[int]) -> Any:
    _take(left, len(members))
    found = {key: node(view, left) for key, node in members.items()}
    return {key: value for key, value in found.items() if value is not _ABSENT}


def _list(items: list[tuple[_Node, bool]], view: Any, left: list[int]) -> Any:
    _take(left, len(items))
    found: list[Any] = []
    for node, several in items:
        value = node(view, left)
        if several:
            found += value
        elif value is not _ABSENT:
            found.append(value)
    return found


def _take(left: list[int], values: int) -> None:
    left[0] -= values
    if left[0] < 0:
        raise Unfit(f"the payload holds more than {VALUES} values")
