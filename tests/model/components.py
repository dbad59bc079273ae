"""
States as numbers, and each step worked out once for all states that differ only in what it does not read.

A state of a model is a NamedTuple. Here it is split into *components* (each process by itself, each other
field or group of fields), equal values of a component are kept once, and a state is one integer that holds
their numbers. That makes states cheap to keep, to hash and to compare.

The steps of a model come in *parts*: functions of a state. Most of them read little of it, so what a part
yields is remembered under the components that it has read, as labels, broken properties and
differences of the integers. Which components those are is not declared: a part is first given a state that
shows none of them. Reading one, by whatever means, ends the part, which is then begun anew with that one
shown as well. So nothing that a part has not read can have decided what it did. What it writes without
reading counts as read, since the difference depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

T = TypeVar("T", bound=tuple[Any, ...])

#: A function of a state that yields transitions.
Part = Callable[[T], Iterable[tuple[str, T, tuple[str, ...]]]]
#: A transition between numbered states.
Move = tuple[str, int, tuple[str, ...]]

#: Bits for the number of a component's value.
_BITS: Final = 20
_ONES: Final = (1 << _BITS) - 1


class _HiddenError(Exception):
    """A component that is not shown was read."""

    def __init__(self, component: int) -> None:
        self.component = component


class _Cover:
    """Stands in the place of a component that is not shown; whatever is asked of it, it refuses."""

    def __init__(self, component: int) -> None:
        self._component = component

    def refuse(self, *_: object) -> NoReturn:
        """End whoever reads."""
        raise _HiddenError(self._component)

    __getattr__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = refuse
    __bool__ = __iter__ = __len__ = __getitem__ = __contains__ = __int__ = __index__ = refuse
    __add__ = __radd__ = __sub__ = __rsub__ = refuse


class _Node:
    """
    What was worked out of one function while certain components were shown.

    Attributes:
        work: The function.
        shown: Which components were shown.
        mask: The bits of these components.
        found: By these bits: what was found, or the node to ask next, which shows more.
        wider: By the component that was missed first: what was shown in the end.
    """

    __slots__ = ("found", "mask", "shown", "wider", "work")

    def __init__(self, work: Callable[[Any], Any], shown: frozenset[int]) -> None:
        self.work = work
        self.shown = shown
        self.mask = sum(_ONES << (_BITS * n) for n in shown)
        self.found: dict[int, Any] = {}
        self.wider: dict[int, frozenset[int]] = {}


#: Parts that read the same component first: its bits, what was worked out under it, and, by these bits,
#: what has steps or has to be asked further.
_Bundle = tuple[int, list[_Node], dict[int, list[Any]]]


class Components(Generic[T]):
    """
    The numbers of a model's states.

    Numbers are given as values turn up, so they mean something to this object alone.
    """

    def __init__(self, start: T, apart: str, together: Iterable[Sequence[str]] = ()) -> None:
        """
        Split a kind of state.

        Args:
            start: One of its states.
            apart: The field whose items are components of their own; there are always as many.
            together: Groups of fields that are one component each; any other field is one by itself.
        """
        fields: tuple[str, ...] = cast("Any", start)._fields
        self._apart = fields.index(apart)
        groups = [tuple(fields.index(name) for name in group) for group in together]
        grouped = {self._apart, *(place for group in groups for place in group)}
        groups += [(place,) for place in range(len(fields)) if place not in grouped]
        self._groups = groups
        self._group_of = {place: n for n, group in enumerate(groups) for place in group}
        count = len(groups) + len(start[self._apart])
        self._kind = type(start)
        self._covered = _covered(self._kind)
        covers = [_Cover(n) for n in range(count)]
        self._blank = [covers[self._group_of.get(place, 0)] for place in range(len(fields))]
        self._blank_apart = covers[len(groups) :]
        self._numbers: list[dict[Any, int]] = [{} for _ in covers]
        self._values: list[list[Any]] = [[] for _ in covers]
        self._nodes: dict[tuple[int, frozenset[int]], _Node] = {}

    def number(self, state: T) -> int:
        """Return the integer that stands for a state."""
        values = [*(_of_group(state, group) for group in self._groups), *state[self._apart]]
        return sum(self._number(n, value) << (_BITS * n) for n, value in enumerate(values))

    def state(self, number: int) -> T:
        """Return the state that an integer stands for."""
        return tuple.__new__(self._kind, self._state(number, range(len(self._values))))

    def moves(self, parts: Sequence[Part[T]]) -> Callable[[int], list[Move]]:
        """Return the function that gives the transitions of a numbered state, in the order of the parts."""
        roots = [self._node(part, frozenset()) for part in parts]
        work_out, differences = self._work_out, self._differences
        bundles: list[_Bundle] = []

        def moves(number: int) -> list[Move]:
            if not bundles:
                bundles.extend(self._bundles(roots, number))
            out: list[Move] = []
            for mask, nodes, known in bundles:
                bits = number & mask
                rest = known.get(bits)
                if rest is None:
                    for node in nodes:
                        if bits not in node.found:
                            work_out(node, number, differences)
                    first = [node.found[bits] for node in nodes]
                    rest = known[bits] = [then for then in first if then != []]
                for node in rest:
                    then: Any = node
                    while type(then) is _Node:
                        found = then.found.get(number & then.mask)
                        then = work_out(then, number, differences) if found is None else found
                    for label, difference, broken in then:
                        out.append((label, number + difference, broken))
            return out

        return moves

    def lift(self, function: Callable[[T], Any]) -> Callable[[int], Any]:
        """Return a function of states as one of their numbers."""
        root = self._node(function, frozenset())
        work_out = self._work_out

        def lifted(number: int) -> Any:
            node: Any = root
            while type(node) is _Node:
                found = node.found.get(number & node.mask)
                node = work_out(node, number, _as_it_is) if found is None else found
            return node

        return lifted

    # -- numbers --------------------------------------------------------------------------------

    def _number(self, component: int, value: Any) -> int:
        numbers = self._numbers[component]
        number = numbers.get(value)
        if number is None:
            number = numbers[value] = len(numbers)
            self._values[component].append(value)
            if number > _ONES:
                raise OverflowError(f"component {component} has too many values")
        return number

    def _state(self, number: int, shown: Iterable[int]) -> T:
        """Return a state that shows some components and refuses the others."""
        fields: list[Any] = list(self._blank)
        apart: list[Any] = list(self._blank_apart)
        first = len(self._groups)
        for n in shown:
            value = self._values[n][number >> (_BITS * n) & _ONES]
            if n >= first:
                apart[n - first] = value
                continue
            group = self._groups[n]
            if len(group) == 1:
                fields[group[0]] = value
            else:
                for place, item in zip(group, value, strict=True):
                    fields[place] = item
        fields[self._apart] = tuple(apart)
        return tuple.__new__(self._covered, fields)

    # -- what was worked out --------------------------------------------------------------------

    def _node(self, work: Callable[[T], Any], shown: frozenset[int]) -> _Node:
        key = (id(work), shown)
        if key not in self._nodes:
            self._nodes[key] = _Node(work, shown)
        return self._nodes[key]

    def _bundles(self, roots: Sequence[_Node], number: int) -> list[_Bundle]:
        """Join neighbours that read the same component first; a state is needed to find that out."""
        firsts = []
        for root in roots:
            if not root.found:
                self._work_out(root, number, self._differences)
            first = root.found[0]
            firsts.append(first if type(first) is _Node else root)
        return [
            (mask, list(nodes), {}) for mask, nodes in groupby(firsts, lambda first: first.mask)
        ]

    def _work_out(self, node: _Node, number: int, result: Callable[..., Any]) -> Any:
        """Work a function out for a state of a node, and remember it there or in one that shows more."""
        shown, first = node.shown, -1
        while True:
            state = self._state(number, shown)
            try:
                found = result(node.work(state), number, state, shown)
            except _HiddenError as hidden:
                if not node.shown:
                    # What is read first says most of what else will be.
                    shown = frozenset((hidden.component,))
                    node.found[0] = node = self._node(node.work, shown)
                elif first < 0:
                    first = hidden.component
                    shown = node.wider.get(first) or shown | {first}
                else:
                    shown |= {hidden.component}
                continue
            if shown != node.shown:
                node.wider.setdefault(first, shown)
                then = self._node(node.work, shown)
                node.found[number & node.mask] = then
                node = then
            node.found[number & node.mask] = found
            return found

    def _differences(
        self,
        steps: Iterable[tuple[str, T, tuple[str, ...]]],
        number: int,
        state: T,
        shown: frozenset[int],
    ) -> list[Move]:
        before = list(state)
        first = len(self._groups)
        out = []
        for label, following, broken in steps:
            changed: dict[int, Any] = {}
            for place, value in enumerate(following):
                if value is before[place]:
                    continue
                if place != self._apart:
                    n = self._group_of[place]
                    changed[n] = _of_group(following, self._groups[n])
                else:
                    items = enumerate(zip(before[place], value, strict=True), first)
                    changed |= {n: new for n, (old, new) in items if new is not old}
            difference = 0
            for n, value in changed.items():
                if n not in shown:
                    raise _HiddenError(n)
                was = number >> (_BITS * n) & _ONES
                difference += (self._number(n, value) - was) << (_BITS * n)
            out.append((label, difference, broken))
        return out


def _as_it_is(result: object, *_: object) -> object:
    return result


def _of_group(fields: Sequence[Any], group: tuple[int, ...]) -> Any:
    """Return the value of a group of fields; `fields` may be covered, so they are not asked by name."""
    if len(group) == 1:
        return fields[group[0]]
    return tuple([fields[place] for place in group])


def _covered(kind: type[T]) -> type[T]:
    """Return the kind of a state whose fields refuse to be read where they are covered."""

    def field(place: int) -> property:
        def read(state: T) -> Any:
            value = state[place]
            if type(value) is _Cover:
                value.refuse()
            return value

        return property(read)

    fields = {name: field(n) for n, name in enumerate(cast("Any", kind)._fields)}
    return cast("type[T]", type(f"Covered{kind.__name__}", (kind,), {"__slots__": (), **fields}))
