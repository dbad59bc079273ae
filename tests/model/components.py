"""
States as numbers, and each step worked out once for all states that differ only in what it does not read.

A state of a model is a NamedTuple. Here it is split into *components* (its fields, and the fields of the
processes and other records in it), equal values of a component are kept once, and a state is one integer
that holds their numbers. That makes states cheap to keep, to hash and to compare. The options of a run are
components too, which no step changes, so what one run has worked out serves all others.

The steps of a model come in *parts*: functions of a state and the options. Most of them read little of
either, so what a part yields is remembered under the components that it has read, as labels, broken
properties and differences of the integers. Which components those are is not declared: a part is first
given a state that shows none of them. Reading one, by whatever means, ends the part, which is then begun
anew with that one shown as well. So nothing that a part has not read can have decided what it did. What it
writes without reading counts as read, since the difference depends on it. To begin less often, what was
needed once is shown at once; what then turns out not to have been read is covered again. An option is
always shown, and noted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import IntEnum
from operator import itemgetter
from typing import Any, Final, Generic, NamedTuple, NoReturn, TypeVar, cast, get_type_hints

from tests.model.rules import Rules

T = TypeVar("T", bound=tuple[Any, ...])

#: A function of a state and of options that yields transitions.
Part = Callable[[T, Any], Iterable[tuple[str, T, tuple[str, ...]]]]
#: A transition between numbered states.
Move = tuple[str, int, tuple[str, ...]]

#: Bits for the number of a component's value.
_BITS: Final = 20
_ONES: Final = (1 << _BITS) - 1
#: Of small integers a component takes few values.
_BITS_OF_INT: Final = 8


def steps(model: Any, state: Any, options: Any) -> list[tuple[str, Any, tuple[str, ...]]]:
    """Return the transitions of a state as the parts of its model yield them, by no numbers."""
    return [step for part in model.parts(options) for step in part(state, options)]


class _HiddenError(Exception):
    """Components that are not shown were read."""

    def __init__(self, components: Collection[int]) -> None:
        self.components = components


class _Cover:
    """Stands in the place of a component that is not shown; whatever is asked of it, it refuses."""

    def __init__(self, component: int) -> None:
        self._component = component

    def refuse(self, *_: object) -> NoReturn:
        """End whoever reads."""
        raise _HiddenError((self._component,))

    __getattr__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = refuse
    __bool__ = __iter__ = __len__ = __getitem__ = __contains__ = __int__ = __index__ = refuse
    __add__ = __radd__ = __sub__ = __rsub__ = refuse


class _Component:
    """Values that one component has taken, and where their numbers stand in the number of a state."""

    __slots__ = ("cover", "numbers", "ones", "shift", "values")

    def __init__(self, place: int, shift: int, bits: int) -> None:
        self.shift = shift
        self.ones = (1 << bits) - 1
        self.cover = _Cover(place)
        self.numbers: dict[Any, int] = {}
        self.values: list[Any] = []

    def number(self, value: Any) -> int:
        """Return the number of a value."""
        number = self.numbers.get(value)
        if number is None:
            number = self.numbers[value] = len(self.values)
            self.values.append(value)
            if number > self.ones:
                raise OverflowError(f"too many values, {value!r} is one of them")
        return number


class _Record(NamedTuple):
    """A record that is split: its covered kind, its fields' components, and how it looks covered."""

    kind: type[Any]
    components: tuple[int, ...]
    blank: Any


#: Where components are shown: (place, component) for the fields of a record.
_Places = list[tuple[int, _Component]]


class _Plan(NamedTuple):
    """How a state is built that shows certain components."""

    plain: _Places
    records: list[tuple[int, _Record, _Places]]
    rows: list[tuple[int, list[tuple[int, _Record, _Places]]]]


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

    def __init__(self, work: Callable[[Any, Any], Any], shown: frozenset[int], mask: int) -> None:
        self.work = work
        self.shown = shown
        self.mask = mask
        self.found: dict[int, Any] = {}
        self.wider: dict[int, frozenset[int]] = {}


class Components(Generic[T]):
    """
    The numbers of a model's states.

    Numbers are given as values turn up, so they mean something to this object alone.
    """

    def __init__(self, start: T, options: Rules, split: Iterable[str] = ()) -> None:
        """
        Split a kind of state.

        Args:
            start: One of its states.
            options: Those of a run.
            split: Fields that are records, or tuples of always as many records, whose fields are
                components of their own; any other field is one by itself.
        """
        self._kind = type(start)
        self._all: list[_Component] = []
        #: Components that are known to have been read.
        self._noted: set[int] = set()
        self._bits = 0
        hints = get_type_hints(self._kind)
        #: Of each field: its component, its record or its records.
        self._layout: list[int | _Record | tuple[_Record, ...]] = []
        for name, value in zip(cast("Any", start)._fields, start, strict=True):
            if name not in split:
                self._layout.append(self._component(hints[name]))
            elif hasattr(value, "_fields"):
                self._layout.append(self._record(value))
            else:
                self._layout.append(tuple(map(self._record, value)))
        places = [layout if type(layout) is int else -1 for layout in self._layout]
        self._covered = _covered(self._kind, places, self._noted)
        self._blank = [self._covered_field(layout) for layout in self._layout]
        self._plans: dict[frozenset[int], _Plan] = {}
        self._nodes: dict[tuple[Callable[..., Any], frozenset[int]], _Node] = {}
        #: Where the options begin, and what they are, by their bits.
        self._options_at = self._bits
        self._options: dict[int, Any] = {}
        self._option_names = _names_of(options)
        self._first_option = len(self._all)
        hints = get_type_hints(type(options))
        for name in self._option_names:
            self._component(hints.get(name, bool))

    def number(self, state: T, options: Rules) -> int:
        """Return the integer that stands for a state under options."""
        values: list[Any] = []
        for layout, value in zip(self._layout, state, strict=True):
            if type(layout) is int:
                values.append(value)
            elif type(layout) is _Record:
                values += value
            else:
                for record in value:
                    values += record
        values += [getattr(options, name) for name in self._option_names]
        number = sum(
            component.number(value) << component.shift
            for component, value in zip(self._all, values, strict=True)
        )
        bits = number >> self._options_at
        if bits not in self._options:
            self._options[bits] = _noting(options, self._first_option, self._noted)
        return number

    def state(self, number: int) -> T:
        """Return the state that an integer stands for."""
        shown = frozenset(range(self._first_option))
        plain: list[Any] = []
        for value, kept in zip(self._state(number, shown), self._layout, strict=True):
            if type(kept) is int:
                plain.append(value)
            elif type(kept) is _Record:
                plain.append(_uncovered(value))
            else:
                plain.append(tuple(map(_uncovered, value)))
        return tuple.__new__(self._kind, plain)

    def moves(self, parts: Sequence[Part[T]]) -> Callable[[int], list[Move]]:
        """Return the function that gives the transitions of a numbered state, in the order of the parts."""
        work_out, differences = self._work_out, self._differences
        firsts: list[_Node] = []
        # What the parts read first and takes few values. By it, what has steps or has to be asked further.
        mask = 0
        known: dict[int, list[Any]] = {}

        def moves(number: int) -> list[Move]:
            nonlocal mask
            if not firsts:
                firsts.extend(self._first(part, number) for part in parts)
                read = {n for node in firsts for n in node.shown}
                mask = self._mask(n for n in read if self._all[n].ones < _ONES)
            rest = known.get(number & mask)
            if rest is None:
                rest = known[number & mask] = self._rest(firsts, number, mask)
            out: list[Move] = []
            for node in rest:
                then: Any = node
                while type(then) is _Node:
                    found = then.found.get(number & then.mask)
                    then = work_out(then, number, differences) if found is None else found
                for label, difference, broken in then:
                    out.append((label, number + difference, broken))
            return out

        return moves

    def lift(self, function: Callable[[T, Any], Any]) -> Callable[[int], Any]:
        """Return a function of states and options as one of their numbers."""
        root = self._node(function, frozenset())
        work_out = self._work_out

        def lifted(number: int) -> Any:
            node: Any = root
            while type(node) is _Node:
                found = node.found.get(number & node.mask)
                node = work_out(node, number, _as_it_is) if found is None else found
            return node

        return lifted

    # -- components ------------------------------------------------------------------------------

    def _component(self, hint: Any) -> int:
        place, bits = len(self._all), _bits_of(hint)
        self._all.append(_Component(place, self._bits, bits))
        self._bits += bits
        return place

    def _record(self, record: Any) -> _Record:
        hints = get_type_hints(type(record))
        components = tuple(self._component(hints[name]) for name in record._fields)
        kind = _covered(type(record), components, self._noted)
        blank = tuple.__new__(kind, [self._all[n].cover for n in components])
        return _Record(kind, components, blank)

    def _covered_field(self, layout: int | _Record | tuple[_Record, ...]) -> Any:
        if type(layout) is int:
            return self._all[layout].cover
        if type(layout) is _Record:
            return layout.blank
        return tuple([record.blank for record in cast("tuple[_Record, ...]", layout)])

    def _plan(self, shown: frozenset[int]) -> _Plan:
        """Return how to build a state that shows some components and refuses the others."""
        if shown not in self._plans:
            plan = self._plans[shown] = _Plan([], [], [])
            for place, layout in enumerate(self._layout):
                if type(layout) is int:
                    if layout in shown:
                        plan.plain.append((place, self._all[layout]))
                elif type(layout) is _Record:
                    if places := self._places(layout, shown):
                        plan.records.append((place, layout, places))
                else:
                    records = enumerate(cast("tuple[_Record, ...]", layout))
                    row = [(n, record, self._places(record, shown)) for n, record in records]
                    if row := [item for item in row if item[2]]:
                        plan.rows.append((place, row))
        return self._plans[shown]

    def _places(self, record: _Record, shown: frozenset[int]) -> _Places:
        places = enumerate(record.components)
        return [(place, self._all[n]) for place, n in places if n in shown]

    def _state(self, number: int, shown: frozenset[int]) -> T:
        plan = self._plan(shown)
        state: list[Any] = list(self._blank)
        for place, c in plan.plain:
            state[place] = c.values[number >> c.shift & c.ones]
        for place, record, places in plan.records:
            state[place] = _shown(record, places, number)
        for place, row in plan.rows:
            records = list(state[place])
            for n, record, places in row:
                records[n] = _shown(record, places, number)
            state[place] = tuple(records)
        return cast("T", tuple.__new__(self._covered, state))

    def _mask(self, components: Iterable[int]) -> int:
        return sum(self._all[n].ones << self._all[n].shift for n in components)

    # -- what was worked out --------------------------------------------------------------------

    def _node(self, work: Callable[[T, Any], Any], shown: frozenset[int]) -> _Node:
        key = (work, shown)
        if key not in self._nodes:
            self._nodes[key] = _Node(work, shown, self._mask(shown))
        return self._nodes[key]

    def _first(self, part: Part[T], number: int) -> _Node:
        """Return what was worked out of a part by what it reads first; a state is needed to find out."""
        root = self._node(part, frozenset())
        if not root.found:
            self._work_out(root, number, self._differences)
        first = root.found[0]
        return first if type(first) is _Node else root

    def _rest(self, firsts: Sequence[_Node], number: int, mask: int) -> list[Any]:
        """Return what is left of the parts once the components in a mask are known: no empty list."""
        rest = []
        for node in firsts:
            then: Any = node
            if not node.mask & ~mask:
                if number & mask & node.mask not in node.found:
                    self._work_out(node, number, self._differences)
                then = node.found[number & mask & node.mask]
            if then != []:
                rest.append(then)
        return rest

    def _work_out(self, node: _Node, number: int, result: Callable[..., Any]) -> Any:
        """Work a function out for a state of a node, and remember it there or in one that shows more."""
        options, noted = self._options[number >> self._options_at], self._noted
        shown, first, tried = node.shown, -1, False
        while True:
            state = self._state(number, shown)
            noted.clear()
            try:
                found = result(node.work(state, options), number, state, shown)
            except _HiddenError as hidden:
                if not node.shown:
                    # What is read first says most of what else will be.
                    shown = frozenset(hidden.components)
                    node.found[0] = node = self._node(node.work, shown)
                elif first < 0:
                    first = min(hidden.components)
                    shown = node.wider.get(first) or shown.union(hidden.components)
                else:
                    shown = shown.union(hidden.components)
                continue
            if first >= 0:
                node.wider.setdefault(first, shown)
                read = node.shown | noted
                if not tried and not read.issuperset(shown):
                    tried, shown = True, read & shown
                    continue
            shown |= noted
            if shown != node.shown:
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
        return [
            (label, self._difference(number, state, following, shown), broken)
            for label, following, broken in steps
        ]

    def _difference(self, number: int, state: T, following: T, shown: frozenset[int]) -> int:
        changed: dict[int, Any] = {}
        for layout, was, now in zip(self._layout, state, following, strict=True):
            if now is was:
                continue
            if type(layout) is int:
                changed[layout] = now
            elif type(layout) is _Record:
                _compare(layout, was, now, changed)
            else:
                for record, old, new in zip(
                    cast("tuple[_Record, ...]", layout), was, now, strict=True
                ):
                    if new is not old:
                        _compare(record, old, new, changed)
        if not shown.issuperset(changed):
            raise _HiddenError(changed.keys() - shown)
        self._noted.update(changed)
        difference = 0
        for n, value in changed.items():
            c = self._all[n]
            difference += (c.number(value) - (number >> c.shift & c.ones)) << c.shift
        return difference


def _shown(record: _Record, places: _Places, number: int) -> Any:
    values = list(record.blank)
    for place, c in places:
        values[place] = c.values[number >> c.shift & c.ones]
    return tuple.__new__(record.kind, values)


def _compare(record: _Record, was: Any, now: Any, changed: dict[int, Any]) -> None:
    fields = zip(record.components, was, now, strict=True)
    changed |= {n: new for n, old, new in fields if new is not old}


def _as_it_is(result: object, *_: object) -> object:
    return result


def _bits_of(hint: Any) -> int:
    if hint is bool:
        return 1
    if hint is int:
        return _BITS_OF_INT
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return (len(hint) - 1).bit_length()
    return _BITS


def _uncovered(record: Any) -> Any:
    return tuple.__new__(cast("Any", type(record)).__base__, record)


def _covered(kind: type[Any], components: Sequence[int], noted: set[int]) -> type[Any]:
    """
    Return the kind of a record whose fields refuse to be read where they are covered.

    Args:
        kind: Of the record.
        components: Those of its fields, -1 for none.
        noted: Takes the components that are read by the names of their fields.
    """

    def field(place: int, component: int) -> property:
        def read(record: Any) -> Any:
            value = record[place]
            if type(value) is _Cover:
                value.refuse()
            noted.add(component)
            return value

        return property(read if component >= 0 else itemgetter(place))

    places = enumerate(zip(kind._fields, components, strict=True))
    read = {name: field(place, component) for place, (name, component) in places}
    return type(f"Covered{kind.__name__}", (kind,), {"__slots__": (), **read})


def _names_of(options: Rules) -> list[str]:
    """Return the names of options and rules, of which `off` is another form."""
    names = (f.name for f in dataclasses.fields(options))
    return [*(name for name in names if name != "off"), *options.RULES]


def _noting(options: Rules, first: int, noted: set[int]) -> Any:
    """Return options that note which of them were read, each by `first` and its place."""
    kind = type(options)

    def field(n: int, value: Any) -> property:
        def read(_: Any) -> Any:
            noted.add(n)
            return value

        return property(read)

    def hashed(asked: Any) -> int:
        # Whoever keeps a result under the options does not read them again.
        noted.update(range(first, first + len(read)))
        return id(asked)

    names = enumerate(_names_of(options), first)
    read = {name: field(n, getattr(options, name)) for n, name in names}
    members = {"__slots__": (), "__hash__": hashed, **read}
    return object.__new__(type(f"Noting{kind.__name__}", (kind,), members))
