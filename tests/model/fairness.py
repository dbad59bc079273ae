"""
Which promises the endless behaviours of a model keep, if what stays possible happens in the end.

A *promise* says that whatever is pending ends: in every fair behaviour, each state in which it is pending
is followed by a step that keeps it or by a state in which it is not pending any more. *Fair* means weakly
fair: no action is possible from some moment on and never taken. So a promise is broken exactly where the
states in which it is pending, joined by the steps that do not keep it, hold a strongly connected
part in which each action is at some state not possible, or taken by some step inside: a behaviour may go
around there for ever, and no action can complain. A state without a step is such a part, too: a
behaviour may stop there.

That all of a part is looked at is enough: if an action stays possible in all of it and is never taken,
that holds for each smaller part as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
O = TypeVar("O")  # noqa: E741 - a model's options

#: What a model promises, by name: what is pending in a state, and which steps end it.
Promises = dict[str, tuple[Callable[[T, O], bool], Callable[[str], bool]]]


@dataclass(frozen=True, slots=True)
class Promise(Generic[T]):
    """
    What must not be pending for ever.

    Attributes:
        name: As results print it.
        pending: Whether it is pending in a state.
        kept_by: Whether a step, by its label, keeps it, wherever that leads.
    """

    name: str
    pending: Callable[[T], bool]
    kept_by: Callable[[str], bool] = lambda _: False


def action(label: str) -> str | None:
    """The action that a label is one way of, None for what need never happen."""
    name = label.partition(":")[0]
    return None if name in ("fault", "end of fault", "late", "finalizer") else name


@dataclass(frozen=True, slots=True)
class Unkept:
    """
    A promise that a fair behaviour breaks.

    Attributes:
        name: Of the promise.
        trace: A shortest way to where it may stay pending.
        for_ever: What goes on there for ever; nothing where the behaviour has stopped.
        states: In how many states it may stay pending.
    """

    name: str
    trace: tuple[str, ...]
    for_ever: tuple[str, ...]
    states: int

    def __str__(self) -> str:
        """Readable, a line per step."""
        lines = [f"{n:3}  {label}" for n, label in enumerate(self.trace, 1)]
        rest = [f"  *  {label}" for label in self.for_ever] or ["  *  nothing more"]
        return "\n".join([f"not kept: {self.name}", *lines, *rest])


class Graph(Generic[T]):
    """The steps between the states of a search, kept by number."""

    def __init__(self, promises: Sequence[Promise[T]]) -> None:
        """Empty; states are numbered by the search."""
        self._promises = promises
        self._labels: dict[str, int] = {}
        self._actions: dict[str, int] = {}
        #: Bit of the action of a label, 0 for none.
        self._bits: list[int] = []
        #: Per state, (label, target) of each step out of it.
        self.edges: list[list[tuple[int, int]]] = []

    def add(self, steps: Sequence[tuple[str, int]]) -> None:
        """Keep the steps out of the next state."""
        known = self._labels
        self.edges.append(
            [
                (known[label] if label in known else self._number(label), target)
                for label, target in steps
            ]
        )

    def _number(self, label: str) -> int:
        """Give a new label its number."""
        number = self._labels[label] = len(self._labels)
        name = action(label)
        bit = 0 if name is None else 1 << self._actions.setdefault(name, len(self._actions))
        self._bits.append(bit)
        return number

    def unkept(
        self, order: Sequence[T], path: Callable[[int], tuple[str, ...]]
    ) -> tuple[Unkept, ...]:
        """
        The promises that a fair behaviour breaks.

        Args:
            order: The states by number, nearest first.
            path: A shortest way to a state.
        """
        possible = [self._all(edges) for edges in self.edges]
        names = list(self._labels)
        found = []
        for promise in self._promises:
            pending = bytearray(promise.pending(state) for state in order)
            keeps = [promise.kept_by(name) for name in names]
            inside = [
                [(n, to) for n, to in edges if pending[to] and not keeps[n]] if pending[at] else []
                for at, edges in enumerate(self.edges)
            ]
            parts = [
                part for part in _parts(inside, pending) if self._is_fair(part, inside, possible)
            ]
            if parts:
                # Nearest first; where that leaves a choice, where least goes on.
                part = min(parts, key=lambda p: (min(p), len(p)))
                members = set(part)
                going = {names[n] for at in part for n, to in inside[at] if to in members}
                found.append(
                    Unkept(
                        promise.name, path(min(part)), tuple(sorted(going)), sum(map(len, parts))
                    )
                )
        return tuple(found)

    def _all(self, edges: Sequence[tuple[int, int]]) -> int:
        bits = 0
        for n, _ in edges:
            bits |= self._bits[n]
        return bits

    def _is_fair(
        self, part: Sequence[int], inside: list[list[tuple[int, int]]], possible: Sequence[int]
    ) -> bool:
        members = set(part)
        always, taken = -1, 0
        for at in part:
            always &= possible[at]
            for n, to in inside[at]:
                if to in members:
                    taken |= self._bits[n]
        return not always & ~taken


def _parts(inside: list[list[tuple[int, int]]], pending: bytearray) -> Iterator[list[int]]:
    """The strongly connected parts of the pending states (Tarjan, without recursion)."""
    number = [0] * len(inside)
    low = [0] * len(inside)
    on_stack = bytearray(len(inside))
    stack: list[int] = []
    count = 0
    for root in range(len(inside)):
        if not pending[root] or number[root]:
            continue
        count += 1
        number[root] = low[root] = count
        stack.append(root)
        on_stack[root] = 1
        work = [(root, iter(inside[root]))]
        while work:
            at, rest = work[-1]
            for _, to in rest:
                if not number[to]:
                    count += 1
                    number[to] = low[to] = count
                    stack.append(to)
                    on_stack[to] = 1
                    work.append((to, iter(inside[to])))
                    break
                if on_stack[to]:
                    low[at] = min(low[at], number[to])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[at])
                if low[at] == number[at]:
                    part = []
                    while True:
                        member = stack.pop()
                        on_stack[member] = 0
                        part.append(member)
                        if member == at:
                            break
                    yield part
