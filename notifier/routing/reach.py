"""
Which routes can never match, whatever the notification, and why.

A route matches only if every route above it matches, so all conditions on the way to it are examined.
They may contradict each other or the possible values of attributes, or an earlier route that does not
continue may take everything that they match. Only certainties are reported: a pattern is compared with
another pattern by its text, and with a value by searching it. Routes below one that never matches are
not examined.

Every pair of siblings may have to be compared, so the number of comparisons is bounded; routes beyond the
bound are assumed to be reachable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from notifier.routing.attributes import ALWAYS, odd_value
from notifier.routing.config import Pattern, Route, found, quoted

#: Most comparisons of all routes with their siblings, and with the patterns above them.
_COMPARED: Final = 200_000


class Unreachable(NamedTuple):
    """A route that never matches; `key` is the condition at fault, empty if it is the whole route."""

    route: Route
    key: str
    why: str
    fix: str


class _Path(NamedTuple):
    """All conditions on the way to a route: exact values, and patterns that must be found."""

    exact: Mapping[str, str]
    patterns: tuple[Pattern, ...] = ()

    def implies(self, route: Route) -> bool:
        """Whether a route matches every notification that meets these conditions."""
        if any(self.exact.get(key) != value for key, value in route.match):
            return False
        return all(self._implies(pattern) for pattern in route.match_re)

    def _implies(self, wanted: Pattern) -> bool:
        # An empty value may mean that the attribute is absent, which no pattern matches.
        value = self.exact.get(wanted.key)
        if wanted.regex is None:
            return False
        if value:
            return found(wanted, value)
        return any((p.key, p.text) == (wanted.key, wanted.text) for p in self.patterns)


def unreachable(root: Route) -> Iterator[Unreachable]:
    """Find the routes of a tree that never match, in the order of the file."""
    yield from _below(root, _Path({}), [_COMPARED])


def _below(parent: Route, way: _Path, left: list[int]) -> Iterator[Unreachable]:
    before: list[tuple[int, Route]] = []
    for n, route in enumerate(parent.routes):
        exact = {**way.exact, **dict(route.match)}
        inner = _Path(exact, (*way.patterns, *route.match_re))
        left[0] -= len(before) + len(inner.patterns)
        if left[0] <= 0:
            return
        found_out = _contradiction(route, way, inner)
        if found_out is None:
            first = next((e for e in before if inner.implies(e[1])), None)
            found_out = None if first is None else _taken(*first)
        if found_out is not None:
            yield Unreachable(route, *found_out)
            continue
        yield from _below(route, inner, left)
        if not route.goes_on:
            before.append((n, route))


def _taken(number: int, route: Route) -> tuple[str, str, str]:
    everything = (
        "everything" if not (route.match or route.match_re) else "all that this one matches"
    )
    return (
        "",
        f"is never reached: routes[{number}] matches {everything} and does not continue",
        f"put it before routes[{number}], or set continue: true there",
    )


def _contradiction(route: Route, above: _Path, way: _Path) -> tuple[str, str, str] | None:
    """Return a condition of a route that can never be met together with the others, why, and the fix."""
    for key, value in route.match:
        outer = above.exact.get(key, value)
        if outer != value:
            return (
                f"match.{key}",
                f"makes the route match nothing: a route above wants {key} to be {quoted(outer)}",
                "put it beside the route above, or give both the same value",
            )
        if key in ALWAYS and (odd := odd_value(key, value)):
            return f"match.{key}", *odd
    for pattern in way.patterns:
        if pattern.regex is None:
            continue
        exact = way.exact.get(pattern.key)
        values = ALWAYS.get(pattern.key, ()) if exact is None else (exact,)
        if values and not any(found(pattern, value) for value in values):
            names = " or ".join(quoted(value) for value in values)
            text = quoted(pattern.text[:64])
            own = pattern in route.match_re
            return (
                f"matchRe.{pattern.key}" if own else "",
                f"makes the route match nothing: {text} is not found in {names}",
                f"change the pattern, or what {pattern.key} is to be",
            )
    return None
