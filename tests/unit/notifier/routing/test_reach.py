"""Which routes never match: what is said is certain, and what is certain is said where it can be seen."""

from __future__ import annotations

from typing import Final

import pytest

from notifier.routing.parse import parse
from notifier.routing.reach import unreachable


def never(routes: str) -> list[tuple[str, str]]:
    """Paths below the root of routes that never match, and what they are said for."""
    config = parse(f"route: {{routes: [{routes}]}}\nreceivers: [{{name: x, logConfigs: [{{}}]}}]")
    return [
        (each.route.path.removeprefix("route."), each.key) for each in unreachable(config.route)
    ]


#: Routes, and which of them never match.
CASES: Final[dict[str, tuple[str, list[tuple[str, str]]]]] = {
    "behind one that takes all": (
        "{receiver: x}, {match: {a: b}}, {}", [("routes[1]", ""), ("routes[2]", "")],
    ),
    "behind one that continues": ("{receiver: x, continue: true}, {match: {a: b}}", []),
    "behind one with fewer conditions": (
        "{match: {a: b}}, {match: {a: b, c: d}}", [("routes[1]", "")],
    ),
    "behind one with other conditions": ("{match: {a: b}}, {match: {a: c}}, {match: {b: b}}", []),
    "behind one with more conditions": ("{match: {a: b, c: d}}, {match: {a: b}}", []),
    "behind a pattern that its value has": (
        "{matchRe: {a: ^b}}, {match: {a: bc}}, {match: {a: cb}}", [("routes[1]", "")],
    ),
    "behind the same pattern": (
        "{matchRe: {a: ^b}}, {matchRe: {a: ^b, c: d}}, {matchRe: {a: ^bc}}", [("routes[1]", "")],
    ),
    "a pattern does not match what may be absent": ("{matchRe: {a: ''}}, {match: {a: ''}}", []),
    "behind one that wants the same absence": (
        "{match: {a: ''}}, {match: {a: '', b: c}}", [("routes[1]", "")],
    ),
    "below a route that has the condition": (
        "{match: {a: b}, routes: [{match: {c: d}}, {match: {a: b, c: d}}]}",
        [("routes[0].routes[1]", "")],
    ),
    "below a route that wants another value": (
        "{match: {a: b}, routes: [{match: {a: c}}]}", [("routes[0].routes[0]", "match.a")],
    ),
    "below a route whose pattern its value lacks": (
        "{matchRe: {a: ^b}, routes: [{match: {a: c}}, {match: {a: bc}}]}",
        [("routes[0].routes[0]", "")],
    ),
    "its own pattern that its value lacks": (
        "{match: {a: b}, matchRe: {a: ^c}}", [("routes[0]", "matchRe.a")],
    ),
    "a value that there is not": (
        "{match: {type: escalation}}, {match: {priority: ''}}, {match: {type: Simple}}",
        [("routes[0]", "match.type"), ("routes[1]", "match.priority")],
    ),
    "a pattern that no value has": (
        "{matchRe: {priority: ^crit}}, {matchRe: {priority: '(?i)^crit'}}",
        [("routes[0]", "matchRe.priority")],
    ),
    "what an extension may say": ("{match: {review-source: me}}", []),
    "what is below one that never matches": (
        "{match: {type: x}, routes: [{match: {type: y}}]}", [("routes[0]", "match.type")],
    ),
    "one that never matches takes nothing from others": (
        "{match: {a: b}, matchRe: {a: ^c}}, {match: {a: b}}", [("routes[0]", "matchRe.a")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_routes_that_never_match(case: str) -> None:
    """Each is named, with the condition that is at fault if one is."""
    routes, wanted = CASES[case]
    assert never(routes) == wanted


def test_the_work_is_bounded() -> None:
    """Thousands of neighbours are not all compared: what is the same far behind is not found."""
    routes = [f"{{match: {{a: v{n}}}}}" for n in range(1000)]
    assert never(", ".join([*routes[:50], routes[0]])) == [("routes[50]", "")]
    assert never(", ".join([*routes, routes[0]])) == []
