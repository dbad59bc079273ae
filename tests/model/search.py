"""
Breadth-first search over the states of a model, with shortest counterexamples.

A model is a start state and a function from a state to its transitions, each a triple: what
happened, the next state, the names of the properties that it broke. States are hashable values;
the search keeps each once, with the state it was first reached from, so the first violation
found has a shortest trace.

A run that visits everything is *complete* and may ask for liveness too: from how many states no
goal can be reached any more (backward search from the goals over the recorded transitions), and
which promises a fair behaviour breaks (`fairness.py`), a stronger question. A run that ends at a
bound proves nothing beyond it and says so.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from tests.model.fairness import Graph, Promise, Unkept

T = TypeVar("T")
N = TypeVar("N", bound=type[Any])

#: What happened, the next state, the properties that this broke.
Transition = tuple[str, T, tuple[str, ...]]

_REPORT_EVERY = 500_000


@contextmanager
def _no_collector() -> Iterator[None]:
    """States hold no cycles, and looking for some among millions takes longer than the search."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def replaced(cls: N) -> N:
    """Give a NamedTuple a quicker `_replace`: with its own a search spends a quarter of its time there."""
    named = cast("Any", cls)
    places = {name: place for place, name in enumerate(named._fields)}
    make = tuple.__new__

    def _replace(self: Any, **changes: Any) -> Any:
        values = list(self)
        for name, value in changes.items():
            values[places[name]] = value
        return make(type(self), values)

    named._replace = _replace
    return cls


def with_replica(s: T, i: int, **changes: Any) -> T:
    """Return a state in which one of its `replicas` is changed."""
    state = cast("Any", s)
    replica = state.replicas[i]._replace(**changes)
    replicas = (*state.replicas[:i], replica, *state.replicas[i + 1 :])
    return cast("T", state._replace(replicas=replicas))


def spend(s: T, fault: str) -> T:
    """Return a state that has one such fault fewer in its `budget`."""
    state = cast("Any", s)
    budget = state.budget._replace(**{fault: getattr(state.budget, fault) - 1})
    return cast("T", state._replace(budget=budget))


@dataclass(frozen=True, slots=True)
class Violation(Generic[T]):
    """A broken property with a shortest way to it; `trace` is what happened, `states` is where."""

    properties: tuple[str, ...]
    trace: tuple[str, ...]
    states: tuple[T, ...]

    def __str__(self) -> str:
        """Readable, a line per step."""
        lines = [f"{n:3}  {label}" for n, label in enumerate(self.trace, 1)]
        return "\n".join([f"broken: {', '.join(self.properties)}", *lines])


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """
    What a search came to.

    Attributes:
        states: Different states reached.
        transitions: Transitions taken from states that were expanded.
        seconds: Wall time of the search.
        depth: Steps to the deepest state.
        complete: Every reachable state was expanded.
        violation: The first property broken, None if none was.
        stuck: States that can reach no goal; None if that was not asked or is not known.
        stuck_trace: A shortest way to one of them.
        unkept: Promises that a fair behaviour breaks; None if that was not asked or is not known.
        largest: The largest value of each measure.
    """

    states: int
    transitions: int
    seconds: float
    depth: int
    complete: bool
    violation: Violation[T] | None = None
    stuck: int | None = None
    stuck_trace: tuple[str, ...] = ()
    largest: dict[str, int] = field(default_factory=dict)
    unkept: tuple[Unkept, ...] | None = None

    @property
    def safe(self) -> bool:
        """Whether no property broke in what was visited."""
        return self.violation is None

    @property
    def verdict(self) -> str:
        """One line for a table."""
        if self.violation is not None:
            names = ", ".join(self.violation.properties)
            return f"BROKEN in {len(self.violation.trace)} steps: {names}"
        if not self.complete:
            return f"no violation, not complete (depth {self.depth})"
        if self.stuck:
            return f"STUCK: {self.stuck} states without a way to the goal"
        if self.unkept:
            names = ", ".join(u.name for u in self.unkept)
            return f"NOT KEPT after {len(self.unkept[0].trace)} steps: {names}"
        if self.unkept is not None:
            return "safe, and live if fair"
        return "safe" if self.stuck is None else "safe and live"


@_no_collector()
def search(  # noqa: C901, PLR0912, PLR0915 - one loop, and each branch costs a call per transition
    start: T,
    steps: Callable[[T], Iterable[Transition[T]]],
    *,
    goal: Callable[[T], bool] | None = None,
    promises: Sequence[Promise[T]] = (),
    watch: Container[str] | None = None,
    measures: Callable[[T], dict[str, int]] | None = None,
    max_states: int = 20_000_000,
    name: str = "",
) -> Found[T]:
    """
    Visit every state that can be reached from `start`, nearest first.

    Args:
        start: Where to begin.
        steps: The transitions of a state.
        goal: If given, and the run completes, count the states that cannot reach a goal any more.
        promises: If given, and the run completes, ask which of them a fair behaviour breaks.
        watch: Names of the properties that stop the search; None for all.
        measures: Values of a state whose largest are reported.
        max_states: Bound on the states kept.
        name: If given, long runs report progress under it on standard error.
    """
    began = time.monotonic()
    index: dict[T, int] = {start: 0}
    order: list[T] = [start]
    parents: list[int] = [-1]
    labels: list[str] = [""]
    edges: list[list[int]] = []
    graph = Graph(promises) if promises else None
    # Few of them differ: the largest values are looked for at the end.
    measure: dict[str, int] = measures(start) if measures else {}
    measured = {tuple(measure.values())}
    transitions, at, level_end, depth = 0, 0, 1, 0
    violation: Violation[T] | None = None
    bounded = False
    while at < len(order) and violation is None and not bounded:
        if at == level_end:
            depth, level_end = depth + 1, len(order)
        state = order[at]
        targets: list[int] = []
        named: list[tuple[str, int]] = []
        for label, following, broken in steps(state):
            transitions += 1
            target = index.setdefault(following, len(order))
            if target == len(order):
                order.append(following)
                parents.append(at)
                labels.append(label)
                if measures:
                    measured.add(tuple(measures(following).values()))
            targets.append(target)
            if graph is not None:
                named.append((label, target))
            if broken:
                watched = tuple(p for p in broken if watch is None or p in watch)
                if watched:
                    trace, states = _path(order, parents, labels, at)
                    violation = Violation(watched, (*trace, label), (*states, following))
                    break
        if goal is not None:
            edges.append(targets)
        if graph is not None:
            graph.add(named)
        at += 1
        if at % 4096 == 0:
            bounded = len(order) > max_states
            if name and at % _REPORT_EVERY < 4096:
                _report(name, len(order), depth, time.monotonic() - began)
    complete = violation is None and not bounded
    lost = _without_way(order, edges, goal) if complete and goal is not None else None
    largest = dict(zip(measure, map(max, zip(*measured, strict=True)), strict=True))
    unkept = None
    if complete and graph is not None:
        unkept = graph.unkept(order, lambda n: _path(order, parents, labels, n)[0])
    return Found(
        len(order), transitions, time.monotonic() - began, depth, complete, violation,
        None if lost is None else len(lost),
        _path(order, parents, labels, lost[0])[0] if lost else (), largest, unkept,
    )  # fmt: skip


def replay(
    start: T, steps: Callable[[T], Iterable[Transition[T]]], trace: Iterable[str]
) -> tuple[T, tuple[str, ...]]:
    """
    Follow a trace, taking the first transition of each label.

    Returns:
        The last state, and the properties that the last step broke.

    Raises:
        LookupError: a step is not enabled; says which one and what is.
    """
    state, broken = start, tuple[str, ...]()
    for n, label in enumerate(trace, 1):
        for candidate, following, wrong in steps(state):
            if candidate == label:
                state, broken = following, wrong
                break
        else:
            enabled = ", ".join(s[0] for s in steps(state))
            raise LookupError(f"step {n}, {label!r}, is not enabled; enabled are: {enabled}")
    return state, broken


def _path(
    order: list[T], parents: list[int], labels: list[str], at: int
) -> tuple[tuple[str, ...], tuple[T, ...]]:
    trace: list[str] = []
    states: list[T] = []
    while at >= 0:
        states.append(order[at])
        if parents[at] >= 0:
            trace.append(labels[at])
        at = parents[at]
    return tuple(reversed(trace)), tuple(reversed(states))


def _without_way(order: list[T], edges: list[list[int]], goal: Callable[[T], bool]) -> list[int]:
    """Indexes, nearest first, of the states from which no goal can be reached."""
    reverse: list[list[int]] = [[] for _ in order]
    for source, targets in enumerate(edges):
        for target in targets:
            reverse[target].append(source)
    todo = [n for n, state in enumerate(order) if goal(state)]
    reached = bytearray(len(order))
    for n in todo:
        reached[n] = 1
    while todo:
        for source in reverse[todo.pop()]:
            if not reached[source]:
                reached[source] = 1
                todo.append(source)
    return [n for n, seen in enumerate(reached) if not seen]


def _report(name: str, states: int, depth: int, seconds: float) -> None:
    print(  # noqa: T201 - progress of a long run, for whoever watches it
        f"{name}: {states:,} states, depth {depth}, {seconds:.0f} s", file=sys.stderr, flush=True
    )
